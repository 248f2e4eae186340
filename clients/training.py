"""Training a block at one holder: what the plan pays for is charged, then descended on noisy sums, then released."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clients.cohort import Aligned, aligned, table_of
from clients.config import Node
from clients.orders import Agreement, once
from clients.scored import expect
from model import blocks, quantiles
from model.blocks import Gradient
from model.descent import MAX_WEIGHT, Schedule, descend
from model.descent import Release as Releasing
from model.encoding import Codes, Encoding
from model.federation import LENDER
from model.inputs import InputError, whole
from model.wire import LAST, MEAN, pack, unpack
from privacy.mechanisms import GAUSSIAN_SUM
from privacy.noise import Csprng, poisson_batch
from privacy.plan import Release

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Order:
    """Which round of its block a holder is asked for: `round` counts from 1, the steps are divided among rounds."""

    agreement: Agreement
    block: str
    round: int

    def steps(self, count: int) -> int:
        """Steps of this round; over all rounds they sum to `count`."""
        rounds = self.agreement.rounds
        return count * self.round // rounds - count * (self.round - 1) // rounds


def train(node: Node, name: str, order: Order, weights: Floats) -> dict[str, Floats]:
    """One round at one holder: the block's last iterate and its average, both after noise only.

    A retry of a round gets the stored bytes of the first answer: noise is never drawn twice for one charge.
    """
    agreement = order.agreement
    if order.block != node.federation.holder(name).domain:
        raise InputError("order", "block", "is not this holder's", name)
    line = agreement.line(f"{order.block}/{name}", name)
    schedule = agreement.schedules[line.name]
    if not 1 <= order.round <= agreement.rounds <= line.count or schedule.steps != line.count:
        raise InputError("order", "steps", "do not fit the plan", [order.round, agreement.rounds])
    if node.limits.summed_only and order.block not in agreement.summed:
        raise InputError("order", "plan", "shows this holder's updates by themselves: limits.summed-only refuses it")
    whole("order", "count", line.count)
    if not (np.abs(weights) <= MAX_WEIGHT).all():
        raise InputError("order", "weights", "are out of range")
    expect(node, name, agreement)
    gradient = _gradient(node, name, agreement, line, weights)  # checks the order before it is paid for

    def draw(release: Releasing) -> bytes:
        burn_in = schedule.burn_in if agreement.rounds == 1 else 0.0
        expected = agreement.sizes["train"] / agreement.holders(order.block) * line.probability
        part = Schedule(order.steps(line.count), schedule.rate, burn_in)
        last, mean = descend(weights, gradient, release, expected, part)
        return pack(**{LAST: last, MEAN: mean})

    reply = once(node, agreement, line, str(order.round), draw)
    return {k: v.astype(np.float64) for k, v in unpack(reply).items()}


def bins(node: Node, name: str, agreement: Agreement) -> Floats:
    """The noisy counts from which the edges of this holder's private features are chosen, shape (FINE * features,)."""
    line = agreement.line(f"bins/{name}", name)
    table, cohort = table_of(node, name), aligned(node, name, agreement.id)
    features = [p.feature for p in table.encoding.parts if p.feature.private] if table.encoding else []
    if line.count != 1 or line.size != quantiles.FINE * len(features) or line.bound < quantiles.bound(len(features)):
        raise InputError("order", line.name, "does not pay for this release", line.to_dict())
    rows = places(cohort, line)
    counts = quantiles.counts(features, [table.raw[f.name][cohort.rows[rows]] for f in features])
    reply = once(node, agreement, line, "", lambda release: pack(counts=release(counts)))
    return unpack(reply)["counts"].astype(np.float64)


def places(cohort: Aligned, line: Release) -> NDArray[np.int64]:
    """Places in the cohort of the training persons that a line touches.

    Where the line is charged to one home partner a person, only those whose home this holder is.
    """
    if not line.home:
        return cohort.trainable
    if cohort.home is None:
        raise InputError("order", "home", "was never told to this holder")
    return cohort.trainable[cohort.home[cohort.trainable]]


def _gradient(node: Node, name: str, agreement: Agreement, line: Release, weights: Floats) -> Gradient:
    """The block's exact gradient sum; raises `InputError` where the line does not bound or fit it."""
    table, cohort = table_of(node, name), aligned(node, name, agreement.id)
    encoding = table.encoding
    if encoding is None:
        raise InputError("order", "block", "is not this holder's", name)
    here = places(cohort, line)
    if table.labels is None:  # any other label would stretch the residual, and with it the sensitivity
        here = here[np.isin(cohort.labels[here], (0, 1))]
    rows = cohort.rows[here]
    labels = (cohort.labels[here] if table.labels is None else table.labels[rows]).astype(np.float64)
    stretch = 1.0
    response = agreement.response
    if response is not None and table.labels is None and name != LENDER:
        labels, stretch = response.unbiased(labels), response.stretch
    if line.probability != 1.0 and not blocks.engine(agreement.engine).batches:
        raise InputError("order", "probability", "must be 1: this block passes over everybody")
    spec = blocks.spec(agreement.engine, encoding, agreement.sizes["train"], math.inf, stretch=stretch)
    fits = line.bound >= spec.bound and (line.size, line.kind) == (spec.size, spec.mechanism or GAUSSIAN_SUM)
    if not fits or weights.shape != (spec.size,):
        raise InputError("order", "line", "does not bound this block", [line.bound, line.size])
    return gradient_of(agreement.engine, encoding, table.codes[:, rows], labels, line.probability)


def gradient_of(engine: str, encoding: Encoding, codes: Codes, labels: Floats, probability: float = 1.0) -> Gradient:
    """The gradient sum of a block over these persons, or over a fresh Poisson batch of them at every call."""
    gradient_sum = blocks.engine(engine).gradient_sum
    if probability == 1.0:
        return gradient_sum(encoding, codes, labels)
    rng = Csprng()

    def sampled(weights: Floats) -> Floats:
        batch = poisson_batch(rng, len(labels), probability)
        return gradient_sum(encoding, codes[:, batch], labels[batch])(weights)

    return sampled
