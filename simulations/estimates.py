"""A figure that was reached with several seeds: its mean, and the interval that they leave it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

Floats = NDArray[np.float64]

CONFIDENCE = 0.95
_COPIES = 1e-12  # values no farther apart are one training, told several times


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with its standard error, 95 % interval and t; None where a single seed tells nothing.

    >>> Estimate.of(np.array([1.0, 2.0, 3.0])).low
    -0.48413771...
    """

    mean: float
    se: float | None = None
    low: float | None = None
    high: float | None = None
    t: float | None = None

    @classmethod
    def of(cls, values: Floats) -> Estimate:
        """From one value a seed, shape (seeds,)."""
        mean, n = float(values.mean()), len(values)
        if n < 2:
            return cls(mean)
        se = float(values.std(ddof=1) / np.sqrt(n))
        half = float(student.ppf((1 + CONFIDENCE) / 2, n - 1)) * se
        return cls(mean, se, mean - half, mean + half, mean / se if se > 0 else None)

    @classmethod
    def of_cells(cls, values: Floats, least: float = -math.inf, most: float = math.inf) -> Estimate:
        """As `of`, with no interval over copies of one training, and none beyond what the figure can be.

        Without noise and on one split every seed trains the same model: that they agree says nothing.

        >>> Estimate.of_cells(np.array([0.7, 0.7])).low is None, Estimate.of_cells(np.array([0.5, 0.9]), 0, 1).high
        (True, 1.0)
        """
        found = cls.of(values)
        if found.low is None or found.high is None:
            return found
        if float(np.ptp(values)) <= _COPIES:
            return cls(found.mean)
        return replace(found, low=max(found.low, float(least)), high=min(found.high, float(most)))
