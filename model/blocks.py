"""The engines of a block, as far as public numbers tell: size, bound, schedule, start and finished form. No torch."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model import scorecard
from model.descent import Schedule
from model.encoding import Codes, Encoding

Floats = NDArray[np.float64]

ENGINES = ("scorecard", "moments", "network", "opacus")
AUTO = "auto"  # the joint fit where trust and roles allow it, else scorecards
SUMS = ("off", "auto", "on")  # which domains' updates are only ever shown as a sum
TRUSTS = ("local", "secure", "curator")  # who may see what of the joint fit, docs/joint.md
POINTS = ("scorecard", "moments")  # engines whose block is a constant and the log-odds of every bin
CLIP_NORM = 3.0  # of a person's gradient in the network block
HIDDEN = (32,)
NETWORK_STEPS = 300
NETWORK_BATCH = 2048  # persons expected in a Poisson batch
_CHUNK = 8192


@dataclass(frozen=True)
class Spec:
    """What a plan must know of a block at one holder.

    Attributes:
        size: number of parameters.
        bound: L2 norm of one person's part of a gradient sum, by construction or by clipping.
        schedule: steps and rate.
        probability: with which a person is in a batch.
    """

    size: int
    bound: float
    schedule: Schedule
    probability: float = 1.0


def spec(engine: str, encoding: Encoding, persons: int, mu: float, holders: int = 1, stretch: float = 1.0) -> Spec:
    """The spec of a block from its public encoding, the cohort's size and its budget `mu`.

    `stretch` is the largest size of a residual p - y: 1, or more where labels come by randomised response.

    >>> from model.contract import Contract, Feature
    >>> encoding = Encoding.of(Contract("payments", 1, (Feature("late", "flag"),)))
    >>> spec("scorecard", encoding, 1000, 0.2).bound == 2**0.5
    True
    """
    if engine == "scorecard":
        plan = scorecard.schedule(encoding.row_norm, persons, mu, holders, stretch)
        return Spec(encoding.columns, encoding.row_norm * stretch, plan)
    batch = min(1.0, NETWORK_BATCH / persons)
    rate = 1.33 if math.isinf(mu) else float(np.clip(0.33 * (mu * persons / 5400) ** 0.75, 0.05, 1.33))
    return Spec(network_size(encoding), CLIP_NORM * (1 + 1e-9), Schedule(NETWORK_STEPS, rate / holders, 0.8), batch)


def network_size(encoding: Encoding) -> int:
    """Parameters of the network over the encoded columns without the constant."""
    widths = (encoding.columns - 1, *HIDDEN, 1)
    return sum(out * (into + 1) for into, out in itertools.pairwise(widths))


def start(engine: str, encoding: Encoding, rng: np.random.Generator) -> Floats:
    """Parameters before training; only the network draws them, from a generator that may be seeded."""
    if engine == "scorecard":
        return scorecard.start(encoding)
    from model import network

    return network.init(network.Shape(encoding.columns - 1, HIDDEN), rng)


@dataclass(frozen=True)
class Block:
    """A trained block: bins and weights, ready to score.

    A scorecard's `weights` are its constant and the log-odds of every bin; a network's are its parameters.
    """

    engine: str
    encoding: Encoding
    weights: Floats

    @classmethod
    def finished(cls, engine: str, encoding: Encoding, weights: Floats) -> Block:
        """The block of trained parameters; a scorecard's curves are monotone where the contract asks for it."""
        if engine == "scorecard":
            constant, points = scorecard.curves(encoding, weights)
            weights = np.concatenate([[constant], points])
        return cls(engine, encoding, weights)

    def subscores(self, codes: Codes) -> Floats:
        """Log-odds of default, shape (n,), from bins of shape (parts, n)."""
        if self.engine in POINTS:
            return self.encoding.gather(self.encoding.packed(codes), float(self.weights[0]), self.weights[1:])
        from model import network

        shape = network.Shape(self.encoding.columns - 1, HIDDEN)
        chunks = [codes[:, at : at + _CHUNK] for at in range(0, codes.shape[1], _CHUNK)]
        scored = [network.predict(self.weights, self.encoding.matrix(chunk)[:, 1:], shape) for chunk in chunks]
        return np.concatenate(scored) if scored else np.zeros(0)

    def by_group(self, codes: Codes) -> dict[str, Floats]:
        """Each reason family's part of the sub-score, shape (n,) each; a network has no such parts."""
        groups: dict[str, Floats] = {}
        if self.engine not in POINTS:
            return groups
        points, offsets = self.weights[1:], self.encoding.offsets
        for part, row, first in zip(self.encoding.parts, codes, offsets, strict=False):
            values = points[first : first + len(part.labels)][row]
            name = part.feature.group
            groups[name] = groups[name] + values if name in groups else values
        return groups
