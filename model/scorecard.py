"""The scorecard block: a domain's sub-score as a sum of smooth curves, one a feature, over public bins.

A person's log-loss gradient is (p - y) times its encoded row, hence of norm at most `Encoding.row_norm` by
construction: nothing is clipped, nothing is biased, and an absent person contributes exactly zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from model.descent import Schedule, noise_variance, sigmoid
from model.encoding import Codes, Encoding

Floats = NDArray[np.float64]

PRIOR_RATE = 0.15  # of default, before any data: only where the constant starts
REACH = 5.7e-4  # travelled time x gradient variance, and
SAMPLING = 0.01  # sampling variance of one person's gradient per coordinate: both measured, docs/learner.md


def start(encoding: Encoding) -> Floats:
    """The weights before training: no feature counts, the constant is the prior rate's log-odds."""
    weights = np.zeros(encoding.columns)
    weights[0] = math.log(PRIOR_RATE / (1 - PRIOR_RATE))
    return weights


def schedule(row_norm: float, persons: int, mu: float, holders: int = 1, stretch: float = 1.0) -> Schedule:
    """Steps and rate from public numbers alone.

    Args:
        row_norm: bound of a person's encoded row.
        persons: size of the training cohort, a public number.
        mu: sensitivity over noise of the whole block at one holder; infinite without privacy.
        holders: partners of this domain.
        stretch: the largest size of a residual, above 1 where labels come by randomised response: then noise is that
            much larger, and flipped labels add stretch (stretch - 1) to the variance of a residual.
    """
    flips = stretch * (stretch - 1) / (PRIOR_RATE * (1 - PRIOR_RATE))
    variance = noise_variance(row_norm * stretch, persons, mu) + SAMPLING * (1 + flips) / persons
    return Schedule.of(REACH / variance, row_norm, holders)


def gradient_sum(encoding: Encoding, codes: Codes, labels: Floats) -> Callable[[Floats], Floats]:
    """The exact log-loss gradient, summed over persons, as a function of the weights.

    Sensitivity: leaving out one person moves it by at most `encoding.row_norm` in L2.

    Args:
        codes: bins of the present persons, shape (parts, n).
        labels: 1 where the person defaulted, 0 where not, shape (n,).
    """
    packed = encoding.packed(codes)

    def gradient(weights: Floats) -> Floats:
        constant, points = encoding.points(weights)
        residuals = sigmoid(encoding.gather(packed, constant, points)) - labels
        return encoding.scatter(packed, residuals)

    return gradient


def curves(encoding: Encoding, weights: Floats) -> tuple[float, Floats]:
    """The finished block: its constant and the log-odds of every bin.

    Where the contract is `monotone`, a feature with a `direction` has its ordered bins replaced by the nearest
    monotone curve (least squares, bins weighted equally): post-processing, so it costs no budget.
    """
    constant, points = encoding.points(weights)
    return constant, risen(encoding, points)


def risen(encoding: Encoding, points: Floats) -> Floats:
    """The bins' points, monotone where the contract is: the nearest such curves for features with a `direction`."""
    if not encoding.contract.monotone:
        return points
    points = points.copy()
    for part, first in zip(encoding.parts, encoding.offsets, strict=False):
        if part.feature.direction and part.ordered > 1:
            sign = 1.0 if part.feature.direction == "riskier" else -1.0
            ordered = slice(int(first), int(first) + part.ordered)
            points[ordered] = sign * _rising(sign * points[ordered])
    return points


def _rising(values: Floats) -> Floats:
    """The least-squares non-decreasing fit, by pooling adjacent violators."""
    means: list[float] = []
    sizes: list[int] = []
    for value in values.tolist():
        mean, size = value, 1
        while means and means[-1] > mean:
            mean = (mean * size + means[-1] * sizes[-1]) / (size + sizes[-1])
            size += sizes.pop()
            means.pop()
        means.append(mean)
        sizes.append(size)
    return np.repeat(means, sizes)
