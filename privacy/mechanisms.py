"""The one mechanism that releases persons' data: a bounded sum on an integer grid plus discrete Gaussian noise."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from privacy.noise import SAMPLER_ERROR, Csprng, coins, discrete_gaussian

GRID = 2**20
TAIL = 10.0

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class GaussianSum:
    """Releases a sum of one vector a person, each of L2 norm at most `bound`, with Gaussian noise.

    Promise: when one person's vector becomes zero, the value before noise moves by at most `sensitivity` in L2, the
    rounding of every coordinate to the grid of 1/`GRID` included; noise of standard deviation `noise_stddev` =
    `noise_multiplier` * `sensitivity` is added to each of the `size` coordinates. `noise_multiplier` 0 releases the
    sum itself and is for simulations without privacy only.
    """

    bound: float
    size: int
    noise_multiplier: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.bound) and self.bound > 0):
            raise ValueError(f"bound must be finite and > 0 (L2 norm of one person's vector), got {self.bound}")
        if self.size < 1:
            raise ValueError(f"size must be >= 1 (coordinates), got {self.size}")
        if not (math.isfinite(self.noise_multiplier) and self.noise_multiplier >= 0):
            raise ValueError(f"noise_multiplier must be finite and >= 0, got {self.noise_multiplier}")

    @property
    def sensitivity(self) -> float:
        """L2, in the units of the sum. Rounding moves each coordinate of either sum by at most half a grid step.

        >>> GaussianSum(bound=2.0, size=4, noise_multiplier=1.0).sensitivity == 2.0 + 2.0 / GRID
        True
        """
        return self.bound + math.sqrt(self.size) / GRID

    @property
    def noise_stddev(self) -> float:
        """Standard deviation of the noise on each coordinate, in the units of the sum."""
        return self.noise_multiplier * self.sensitivity

    @property
    def slack(self) -> tuple[float, float]:
        """How far one release is from the rounded continuous Gaussian that it is accounted as: (ratio, tail).

        Within `TAIL` standard deviations the logarithms of both probabilities differ by at most `ratio` in all: the
        sampler's error, and the density's curvature within a grid cell, |x^2/s^2 - 1| / (24 s^2) to first order at s
        grid steps, doubled for the rest. Beyond them lies at most the probability `tail`.
        """
        if self.noise_multiplier == 0:
            return 0.0, 0.0
        steps = self.noise_stddev * GRID
        ratio = self.size * (SAMPLER_ERROR + (TAIL**2 + 1.0) / (12.0 * steps * steps))
        return ratio, 2.0 * self.size * float(ndtr(-TAIL))

    def release(self, total: Floats, rng: Csprng) -> Floats:
        """The noisy sum; `total` has shape (size,). Raises `ValueError` on another shape only.

        A coordinate that is not finite counts as zero: a failure that depends on persons would be a release itself.
        """
        if total.shape != (self.size,):
            raise ValueError("the sum has the wrong shape: nothing is released")
        total = np.where(np.isfinite(total), total, 0.0)
        if self.noise_multiplier == 0:
            return total
        noise = discrete_gaussian(rng, self.noise_stddev * GRID, self.size)
        return (np.rint(total * GRID) + noise) / GRID


def noise_share(mechanism: GaussianSum, unit: int, shares: int, rng: Csprng) -> NDArray[np.int64]:
    """One of several parties' part of a mechanism's noise, in whole steps of 1/`unit`, shape (size,).

    Promise: any `shares` of the parts together are the mechanism's noise, `noise_stddev` on each coordinate: with one
    part more than that, the sum keeps it against each party, which knows its own part. The sum of discrete Gaussians
    is within a factor 1 + 10 (shares - 1) exp(-pi^2 s^2) of a discrete Gaussian, s each part's steps: nothing here, as
    s is never below a thousand.

    Args:
        shares: how many parts make the whole noise; one party alone draws with 1.

    Source: Kairouz, Liu & Steinke (2021), arXiv:2102.06387, Theorem 1.
    """
    if mechanism.noise_multiplier == 0:
        return np.zeros(mechanism.size, dtype=np.int64)
    stddev = mechanism.noise_stddev * unit / math.sqrt(shares)
    if stddev < 1000.0:
        raise ValueError("the noise is too small for the grid: its parts would not add up to a discrete Gaussian")
    return discrete_gaussian(rng, stddev, mechanism.size)


def respond(labels: NDArray[np.int8], flip: float, rng: Csprng) -> NDArray[np.int8]:
    """Randomised response: each label (0 or 1) flipped with probability `flip`; any other value becomes a fair coin.

    Promise: log((1 - flip) / flip) between a label and its opposite; a null row's label tells nothing.

    Source: Warner (1965), J. Am. Stat. Assoc. 60(309).
    """
    if not 0 < flip < 0.5:
        raise ValueError(f"flip must be in (0, 0.5), got {flip}")
    known = np.isin(labels, (0, 1))
    probability = np.where(known, np.where(labels == 1, 1.0 - flip, flip), 0.5)
    return coins(rng, probability).astype(np.int8)
