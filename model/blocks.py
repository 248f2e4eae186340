"""Blocks: what an engine is, the shipped ones as far as public numbers tell them, and a trained block. No torch."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from model import scorecard
from model.descent import Schedule
from model.encoding import Codes, Encoding
from model.inputs import InputError

Floats = NDArray[np.float64]
Gradient = Callable[[Floats], Floats]

AUTO = "auto"  # the joint fit where trust and roles allow it, else scorecards
SUMS = ("off", "auto", "on")  # which domains' updates are only ever shown as a sum
TRUSTS = ("local", "secure", "curator")  # who may see what of the joint fit, docs/joint.md
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
        mechanism: name of the mechanism that adds the noise; empty for the shipped one.
    """

    size: int
    bound: float
    schedule: Schedule
    probability: float = 1.0
    mechanism: str = ""


@runtime_checkable
class Engine(Protocol):
    """How a block is trained and scored. A holder descends on noisy sums of `gradient_sum` and never shows another.

    Attributes:
        points: whether finished weights are the constant and the log-odds of every bin: then a block gives reasons.
        batches: whether it may train on Poisson batches; otherwise every step passes over everybody.
    """

    points: bool
    batches: bool

    def spec(self, encoding: Encoding, persons: int, mu: float, holders: int, stretch: float) -> Spec:
        """What the plan pays for, from public numbers alone; size and bound may not depend on `mu` or `holders`.

        Args:
            persons: of the training cohort.
            mu: about the block's sensitivity over noise at one holder, over all its steps; infinite without privacy.
            holders: partners that share the block.
            stretch: the largest size of a residual p - y: 1, or more where labels come by randomised response.
        """
        ...

    def start(self, encoding: Encoding, rng: np.random.Generator) -> Floats:
        """Parameters before training, shape (size,), from a generator that may be seeded."""
        ...

    def gradient_sum(self, encoding: Encoding, codes: Codes, labels: Floats) -> Gradient:
        """The exact gradient, summed over persons, as a function of the parameters.

        Promise: taking away one person moves it by at most `Spec.bound` in L2, whatever the parameters.

        Args:
            codes: bins of the present persons, shape (parts, n).
            labels: 1 where the person defaulted, shape (n,); beyond [0, 1] where they come by randomised response.
        """
        ...

    def finished(self, encoding: Encoding, weights: Floats) -> Floats:
        """The weights that are published, from the trained parameters after noise."""
        ...

    def subscores(self, encoding: Encoding, weights: Floats, codes: Codes) -> Floats:
        """Log-odds of default, shape (n,), by published weights, from bins of shape (parts, n)."""
        ...


class Scorecard:
    """One curve a feature over its bins (model/scorecard.py); a row is bounded by construction."""

    points, batches = True, False

    def spec(self, encoding: Encoding, persons: int, mu: float, holders: int, stretch: float) -> Spec:
        """The bound is that of an encoded row."""
        plan = scorecard.schedule(encoding.row_norm, persons, mu, holders, stretch)
        return Spec(encoding.columns, encoding.row_norm * stretch, plan)

    def start(self, encoding: Encoding, rng: np.random.Generator) -> Floats:  # noqa: ARG002
        """The prior rate's log-odds; nothing is drawn."""
        return scorecard.start(encoding)

    def gradient_sum(self, encoding: Encoding, codes: Codes, labels: Floats) -> Gradient:
        """Residual times encoded row, summed."""
        return scorecard.gradient_sum(encoding, codes, labels)

    def finished(self, encoding: Encoding, weights: Floats) -> Floats:
        """Curves, monotone where the contract asks for it."""
        constant, points = scorecard.curves(encoding, weights)
        return np.concatenate([[constant], points])

    def subscores(self, encoding: Encoding, weights: Floats, codes: Codes) -> Floats:
        """The constant and the points of a person's bins."""
        return encoding.gather(encoding.packed(codes), float(weights[0]), weights[1:])


class Joint(Scorecard):
    """A block that was fitted together with all others (model/joint.py): only scored here, with points as they are."""

    def finished(self, encoding: Encoding, weights: Floats) -> Floats:  # noqa: ARG002
        """The fit gave points already."""
        return weights


class Network:
    """A small network over the encoded columns (model/network.py), its gradients clipped by the function `clipped`."""

    points, batches = False, True

    def __init__(self, clipped: str) -> None:
        self._clipped = clipped

    def spec(self, encoding: Encoding, persons: int, mu: float, holders: int, stretch: float) -> Spec:  # noqa: ARG002
        """Clipping bounds a person, however long the residual."""
        batch = min(1.0, NETWORK_BATCH / persons)
        rate = 1.33 if math.isinf(mu) else float(np.clip(0.33 * (mu * persons / 5400) ** 0.75, 0.05, 1.33))
        return Spec(network_size(encoding), CLIP_NORM * (1 + 1e-9), Schedule(NETWORK_STEPS, rate / holders, 0.8), batch)

    def start(self, encoding: Encoding, rng: np.random.Generator) -> Floats:
        """The only start that is drawn."""
        from model import network

        return network.init(network.Shape(encoding.columns - 1, HIDDEN), rng)

    def gradient_sum(self, encoding: Encoding, codes: Codes, labels: Floats) -> Gradient:
        """The clipped sum; rows are built at each call, since a batch is called once."""
        from model import network

        shape, clipped_sum = network.Shape(encoding.columns - 1, HIDDEN), getattr(network, self._clipped)
        return lambda theta: clipped_sum(theta, encoding.matrix(codes)[:, 1:], labels, shape, CLIP_NORM)

    def finished(self, encoding: Encoding, weights: Floats) -> Floats:  # noqa: ARG002
        """The parameters themselves."""
        return weights

    def subscores(self, encoding: Encoding, weights: Floats, codes: Codes) -> Floats:
        """The logits, some persons at a time."""
        from model import network

        shape = network.Shape(encoding.columns - 1, HIDDEN)
        chunks = [codes[:, at : at + _CHUNK] for at in range(0, codes.shape[1], _CHUNK)]
        scored = [network.predict(weights, encoding.matrix(chunk)[:, 1:], shape) for chunk in chunks]
        return np.concatenate(scored) if scored else np.zeros(0)


_ENGINES: dict[str, Engine] = {
    "scorecard": Scorecard(),
    "moments": Joint(),
    "network": Network("clipped_sum"),
    "opacus": Network("clipped_sum_opacus"),
}
ENGINES = tuple(_ENGINES)  # the shipped ones: those that a real node obeys
POINTS = tuple(name for name, kind in _ENGINES.items() if kind.points)


def engine(name: str) -> Engine:
    """The engine of that name; raises `InputError` where this process knows none."""
    if name not in _ENGINES:
        rule, remedy = "is not known here", "give its file with the very text, --engine FILE.py:NAME"
        raise InputError("model", "engine", rule, name, remedy)
    return _ENGINES[name]


def known() -> tuple[str, ...]:
    """The names of all engines of this process: the shipped ones, and in a simulation those that were added."""
    return tuple(_ENGINES)


def add_engine(name: str, added: Engine) -> None:
    """Makes an engine known to this process, for simulations; the shipped ones stay as they are."""
    if name in ENGINES:
        raise ValueError(f"{name} is shipped and cannot be replaced")
    _ENGINES[name] = added


def spec(name: str, encoding: Encoding, persons: int, mu: float, holders: int = 1, stretch: float = 1.0) -> Spec:
    """The spec of an engine's block from its public encoding, the cohort's size and its budget `mu`.

    >>> from model.contract import Contract, Feature
    >>> encoding = Encoding.of(Contract("payments", 1, (Feature("late", "flag"),)))
    >>> spec("scorecard", encoding, 1000, 0.2).bound == 2**0.5
    True
    """
    told = engine(name).spec(encoding, persons, mu, holders, stretch)
    text = name.partition("@")[2]  # of the file that it was loaded from: a mechanism of that file ends alike
    return replace(told, mechanism=f"{told.mechanism}@{text}") if told.mechanism and text else told


def start(name: str, encoding: Encoding, rng: np.random.Generator) -> Floats:
    """An engine's parameters before training; only a network draws them, from a generator that may be seeded."""
    return engine(name).start(encoding, rng)


def network_size(encoding: Encoding) -> int:
    """Parameters of the network over the encoded columns without the constant."""
    widths = (encoding.columns - 1, *HIDDEN, 1)
    return sum(out * (into + 1) for into, out in itertools.pairwise(widths))


@dataclass(frozen=True)
class Block:
    """A trained block: bins and weights, ready to score.

    A scorecard's `weights` are its constant and the log-odds of every bin; a network's are its parameters.
    """

    engine: str
    encoding: Encoding
    weights: Floats

    @classmethod
    def finished(cls, name: str, encoding: Encoding, weights: Floats) -> Block:
        """The block of trained parameters; a scorecard's curves are monotone where the contract asks for it."""
        return cls(name, encoding, engine(name).finished(encoding, weights))

    def subscores(self, codes: Codes) -> Floats:
        """Log-odds of default, shape (n,), from bins of shape (parts, n)."""
        return engine(self.engine).subscores(self.encoding, self.weights, codes)

    def by_group(self, codes: Codes) -> dict[str, Floats]:
        """Each reason family's part of the sub-score, shape (n,) each; a network has no such parts."""
        groups: dict[str, Floats] = {}
        if not engine(self.engine).points:
            return groups
        points, offsets = self.weights[1:], self.encoding.offsets
        for part, row, first in zip(self.encoding.parts, codes, offsets, strict=False):
            values = points[first : first + len(part.labels)][row]
            name = part.feature.group
            groups[name] = groups[name] + values if name in groups else values
        return groups
