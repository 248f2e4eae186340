"""Gradient descent on noisy sums: the one training loop of scorecard, network, fusion and calibration.

How far a fit may travel is fixed by public numbers alone. With gradient noise of variance v per coordinate, weights
that the noise dominates must stay near their start; the travelled `time` (steps x effective rate) plays the part of
1/ridge, and the best one was measured to go with 1/v over sets, sizes and budgets (docs/learner.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.inputs import InputError, whole

Floats = NDArray[np.float64]
Release = Callable[[Floats], Floats]

MOMENTUM = 0.9
MIN_STEPS, MAX_STEPS = 100, 500
MAX_WEIGHT = 1e6  # no iterate goes beyond: whatever is asked, exact sums stay finite
MAX_RATE = 1e3  # of a schedule that a holder follows
BURN_IN = 0.25  # of the rounds: their means are left out of the published weights
MAX_TIME = 6000.0  # beyond it nothing was gained on any set


@dataclass(frozen=True)
class Schedule:
    """How a fit moves: `steps` of momentum descent at `rate`; iterates after the share `burn_in` are averaged."""

    steps: int
    rate: float
    burn_in: float = 0.25

    @classmethod
    def of(cls, time: float, row_norm: float, holders: int = 1) -> Schedule:
        """Steps and rate that travel `time` and stay stable for any data.

        The log-loss of rows with norm at most `row_norm` has curvature at most row_norm^2 / 4, times `holders` where
        that many partners of one domain may hold the same person. Momentum descent is stable below
        2 (1 + momentum) / curvature on a quadratic; half of that was stable on every log-loss tried.
        """
        fastest = 0.5 * 2 * (1 + MOMENTUM) / (0.25 * row_norm**2 * holders)
        distance = min(time, MAX_TIME) * (1 - MOMENTUM)
        steps = max(MIN_STEPS, min(MAX_STEPS, math.ceil(distance / fastest)))
        return cls(steps, min(distance / steps, fastest))


def check_rounds(file: str, field: str, value: object) -> int:
    """A number of Flower rounds that every schedule can be divided into; 0 leaves the choice to the plan."""
    rounds = whole(file, field, value)
    if rounds > MIN_STEPS:
        raise InputError(file, field, f"must be at most {MIN_STEPS}, the steps of the shortest training", rounds)
    return rounds


def averaged(number: int, rounds: int) -> bool:
    """Whether the published weights of a block average the mean of this round, which counts from 1.

    >>> [r for r in range(1, 9) if averaged(r, 8)], averaged(1, 1)
    ([3, 4, 5, 6, 7, 8], True)
    """
    return number > BURN_IN * rounds or rounds == 1


def noise_variance(row_norm: float, persons: int, mu: float) -> float:
    """Variance of privacy noise on one coordinate of a mean gradient, whatever the number of steps."""
    return 0.0 if math.isinf(mu) else (row_norm / (mu * persons)) ** 2


def descend(
    start: Floats,
    gradient_sum: Callable[[Floats], Floats],
    release: Release,
    denominator: float,
    schedule: Schedule,
    limit: float = MAX_WEIGHT,
) -> tuple[Floats, Floats]:
    """Follows released gradient sums; returns the last iterate and the average after the burn-in.

    Everything that touches persons passes through `release`, exactly `schedule.steps` times; the rest is
    post-processing. `denominator` is a public number of persons, never a count of rows.

    Args:
        start: parameters, shape (d,).
        gradient_sum: the exact sum over persons at the given parameters, shape (d,).
        release: adds the noise (or nothing, in a simulation without privacy).
        limit: no parameter's size passes it, so that no sum can overflow and fail.

    Source: Polyak & Juditsky (1992) for the averaging.

    >>> last, mean = descend(np.zeros(1), lambda t: t - 1.0, lambda g: g, 1.0, Schedule(400, 0.1))
    >>> bool(abs(mean[0] - 1.0) < 1e-3)
    True
    """
    theta, velocity, total = np.clip(start, -limit, limit), np.zeros_like(start), np.zeros_like(start)
    kept = 0
    for step in range(schedule.steps):
        velocity = np.clip(
            MOMENTUM * velocity - schedule.rate * release(gradient_sum(theta)) / denominator, -limit, limit
        )
        theta = np.clip(theta + velocity, -limit, limit)
        if step >= schedule.burn_in * schedule.steps:
            total += theta
            kept += 1
    return theta, total / kept if kept else theta


def sigmoid(z: Floats) -> Floats:
    """1 / (1 + exp(-z)) without overflow."""
    return 0.5 * (1.0 + np.tanh(0.5 * z))
