"""A figure that was reached with several seeds: its mean, and the interval that they leave it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm
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

    @property
    def sure(self) -> bool:
        """Whether the interval leaves out zero; without one, nothing is sure."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)

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
    def of_cells(
        cls, values: Floats, least: float = -math.inf, most: float = math.inf, shared: float | None = None
    ) -> Estimate:
        """As `of`, with no interval over copies of one training, and none beyond what the figure can be.

        Without noise and on one split every seed trains the same model: that they agree says nothing.

        With `shared`, the interval holds two chances, of training and of the sample of persons. With S values of
        variance s2, and t of Student with S - 1 degrees of freedom, it is

            mean -+ sqrt(t^2 s2 / S + 1.96^2 shared)

        s2 holds what each training owes to chance, and how persons fall out for it in particular. Where all are tested
        on the same persons it lacks what these give to every one alike, which does not shrink with S: that is `shared`,
        the covariance of two seeds' values over samples of persons. The variance of their mean over samples would
        count what is particular to a training twice.

        Args:
            values: one value a seed, shape (seeds,).
            least: the figure is nowhere below.
            most: nor above.
            shared: None where it is not known.

        >>> Estimate.of_cells(np.array([0.7, 0.7])).low is None, Estimate.of_cells(np.array([0.5, 0.9]), 0, 1).high
        (True, 1.0)
        """
        found = cls.of(values)
        if found.se is None or found.high is None or (shared is None and float(np.ptp(values)) <= _COPIES):
            return cls(found.mean)
        persons = math.sqrt(max(shared or 0.0, 0.0))
        mean, se = found.mean, math.hypot(found.se, persons)
        half = math.hypot(found.high - mean, float(norm.ppf((1 + CONFIDENCE) / 2)) * persons)
        return cls(
            mean, se, max(mean - half, float(least)), min(mean + half, float(most)), mean / se if se > 0 else None
        )


def shared_variance(resampled: Floats, common: float) -> float:
    """What the persons give to the values of all seeds alike, as `Estimate.of_cells` takes it.

    Args:
        resampled: each seed's value on each resample of the persons that it was tested on, shape (seeds, resamples);
            two seeds or more.
        common: 1 where these are the same persons. Where each seed drew its own from the same N, the share of N that
            it drew: what two draws owe to the persons has this correlation, as much as they overlap.

    >>> shared_variance(np.array([[0.0, 2.0], [1.0, 3.0]]), 1.0), shared_variance(np.array([[0.0, 2.0]] * 2), 0.5)
    (2.0, 1.0)
    """
    covariance, seeds = np.cov(resampled), len(resampled)
    own = float(np.trace(covariance))
    return common * own / seeds if common < 1 else (float(covariance.sum()) - own) / (seeds * (seeds - 1))
