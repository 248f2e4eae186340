"""Training a block at one holder: charge the ledger, then descend on noisy sums, then release."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clients.cohort import Aligned, aligned, table_of
from clients.config import Node
from clients.tables import Table
from model import scorecard
from model.blocks import CLIP_NORM, HIDDEN, network_size
from model.descent import MAX_WEIGHT, Schedule, descend
from model.descent import Release as Releasing
from model.encoding import Codes, Encoding
from model.inputs import InputError, whole
from model.wire import LAST, MEAN, pack, unpack
from privacy.ledger import Ledger
from privacy.noise import Csprng, poisson_batch
from privacy.plan import Release

Floats = NDArray[np.float64]

MAX_RATE = 1e3


@dataclass(frozen=True)
class Order:
    """What the coordinator asks of a holder for its block, all of it public.

    Attributes:
        release: the line of the plan: how many noisy sums, of which bound, with how much noise.
        schedule: steps and rate of the whole training.
        engine: scorecard, network or opacus.
        round: which of `rounds` this is, from 1; the steps are divided among them.
        persons: size of the training cohort.
        holders: partners of the domain, who share its persons.
    """

    release: Release
    schedule: Schedule
    engine: str
    round: int
    rounds: int
    persons: int
    holders: int

    @property
    def steps(self) -> int:
        """Steps of this round; over all rounds they sum to the schedule's."""
        whole = self.schedule.steps
        return whole * self.round // self.rounds - whole * (self.round - 1) // self.rounds


def train(node: Node, name: str, order: Order, weights: Floats) -> dict[str, Floats]:
    """One round at one holder: the block's last iterate and its average, both after noise only.

    A retry of a round gets the stored bytes of the first answer: noise is never drawn twice for one charge.
    """
    table = table_of(node, name)
    if table.encoding is None:
        raise InputError("order", "block", "is not this holder's", name)
    if not 1 <= order.round <= order.rounds <= order.release.count or order.schedule.steps != order.release.count:
        raise InputError("order", "steps", "do not fit the plan", [order.round, order.rounds])
    whole("order", "count", order.release.count)
    if not (np.abs(weights) <= MAX_WEIGHT).all() or not 0 < order.schedule.rate <= MAX_RATE:
        raise InputError("order", "weights", "or its rate are out of range")
    cohort = aligned(node, name)
    gradient = _gradient(table, table.encoding, cohort, order, weights)  # checks the order before it is paid for
    release = releasing(order.release, noiseless(node))
    with ledger(node, name) as book:
        key = f"{node.programme}|block"  # one a programme: other terms are another programme
        if book:
            book.charge(key, order.release, f"{order.engine}, {order.rounds} rounds")
        reply = book.stored(f"{key}|{order.round}") if book else None
        if reply is None:
            if book:
                book.claim(f"{key}|{order.round}")
            burn_in = order.schedule.burn_in if order.rounds == 1 else 0.0
            expected = order.persons / order.holders * order.release.probability
            part = Schedule(order.steps, order.schedule.rate, burn_in)
            last, mean = descend(weights, gradient, release, expected, part)
            reply = pack(**{LAST: last, MEAN: mean})
            if book:
                book.store(f"{key}|{order.round}", reply)
    return {k: v.astype(np.float64) for k, v in unpack(reply).items()}


@contextmanager
def ledger(node: Node, name: str) -> Iterator[Ledger | None]:
    """The holder's ledger; None in a simulation without privacy, which must never touch a durable one."""
    if noiseless(node):
        yield None
        return
    book = Ledger(node.folder(name) / "ledger.db", node.epsilon, node.delta)
    try:
        yield book
    finally:
        book.close()


def noiseless(node: Node) -> bool:
    """Whether this is a simulation without privacy."""
    return node.simulated and math.isinf(node.epsilon)


def releasing(release: Release, exact: bool) -> Releasing:
    """The function that adds the release's noise; without noise only in a simulation without privacy."""
    if release.noise_multiplier == 0 and not exact:
        raise InputError("order", "noise_multiplier", "must be > 0", 0)
    mechanism, rng = release.mechanism, Csprng()
    return lambda total: mechanism.release(total, rng)


def _gradient(
    table: Table, encoding: Encoding, cohort: Aligned, order: Order, weights: Floats
) -> Callable[[Floats], Floats]:
    """The block's exact gradient sum; raises `InputError` where the order does not bound or fit it."""
    places = cohort.trainable
    if table.labels is None:  # any other label would stretch the residual, and with it the sensitivity
        places = places[np.isin(cohort.labels[places], (0, 1))]
    rows = cohort.rows[places]
    labels = (cohort.labels[places] if table.labels is None else table.labels[rows]).astype(np.float64)
    if order.engine == "scorecard":
        if order.release.probability != 1.0:
            raise InputError("order", "probability", "must be 1: this block passes over everybody")
        gradient = scorecard.gradient_sum(encoding, table.codes[:, rows], labels)
        bound, size = encoding.row_norm, encoding.columns
    else:
        gradient = _network_gradient(encoding, table.codes[:, rows], labels, order)
        bound, size = CLIP_NORM * (1 + 1e-9), network_size(encoding)
    if order.release.bound < bound or order.release.size != size or weights.shape != (size,):
        raise InputError("order", "release", "does not bound this block", [order.release.bound, order.release.size])
    return gradient


def _network_gradient(encoding: Encoding, codes: Codes, labels: Floats, order: Order) -> Callable[[Floats], Floats]:
    """The clipped gradient sum of the network block over a fresh Poisson batch at every call."""
    from model import network

    shape = network.Shape(encoding.columns - 1, HIDDEN)
    clipped_sum = network.clipped_sum if order.engine == "network" else network.clipped_sum_opacus
    rng = Csprng()

    def gradient(theta: Floats) -> Floats:
        batch = poisson_batch(rng, len(labels), order.release.probability)
        rows = encoding.matrix(codes[:, batch])[:, 1:]
        return clipped_sum(theta, rows, labels[batch], shape, CLIP_NORM)

    return gradient
