"""The lender alone: its own scorecard on its own rows, with the whole epsilon and nobody to share it with."""

from __future__ import annotations

import math

import numpy as np

from model import scorecard
from model.descent import Schedule, descend, sigmoid
from model.encoding import Encoding
from model.federation import LENDER
from model.inputs import InputError
from privacy.accounting import gaussian_mu
from privacy.noise import Csprng
from privacy.plan import Plan, Release, price
from simulations.baselines.rows import Fitted, Pooled


def planned(encoding: Encoding, persons: int, epsilon: float, delta: float) -> tuple[Plan, Schedule]:
    """One line, the gradients of the lender's scorecard, with all of (epsilon, delta); and how far they carry it.

    Raises:
        BudgetExceeded: where so little is left for the noise being discrete.
    """
    schedule = scorecard.schedule(encoding.row_norm, persons, gaussian_mu(epsilon, delta))
    line = Release("own-block", LENDER, encoding.row_norm, encoding.columns, schedule.steps, 1.0)
    return price([line], epsilon, delta), schedule


def own_block(rows: Pooled, epsilon: float, delta: float, seed: int) -> Fitted:  # noqa: ARG001
    """The lender's scorecard by itself, trained as in a federation: same rows, mechanism, noise and accountant.

    The log-loss makes its log-odds probabilities already, so no calibration is paid for.

    Raises:
        InputError: where the lender has no contract.
    """
    block = rows.own
    if block is None:
        file = rows.node.federation.path
        raise InputError(file, "lender.contract", "is missing: the lender alone has nothing to train on")
    persons = int(rows.train.sum())
    plan, schedule = planned(block.encoding, persons, epsilon, delta)
    mechanism, rng = plan.releases[0].mechanism, Csprng()
    known = rows.train & block.here
    gradient = scorecard.gradient_sum(block.encoding, block.codes[:, known], rows.labels[known])
    start = scorecard.start(block.encoding)
    _, weights = descend(start, gradient, lambda total: mechanism.release(total, rng), persons, schedule)
    constant, points = scorecard.curves(block.encoding, weights)
    odds = np.full(int(rows.held.sum()), constant)
    here = block.here[rows.held]
    packed = block.encoding.packed(block.codes[:, rows.held & block.here])
    odds[here] = block.encoding.gather(packed, constant, points)
    return Fitted(sigmoid(odds), math.inf if math.isinf(epsilon) else plan.spent(), "the person, zero-out")
