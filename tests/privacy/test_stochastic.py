"""A tester that knows nothing of the mechanism: draws from released histograms of neighbours obey (epsilon, delta).

It is the check T19 of the design: 200 small datasets, 20,000 releases of each and of every neighbour, and every cell
of a histogram of the releases as well as every tail as an event. The mechanism with half its noise must be caught.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import log_ndtr, ndtr

from privacy.mechanisms import GaussianSum
from privacy.noise import Csprng

Floats = NDArray[np.float64]
CELLS, DATASETS, SAMPLES = 40, 200, 20_000
EPSILON, DELTA = 1.0, 1e-6
STANDARD_ERRORS = 4.0


def calibrated() -> float:
    """The noise multiplier of (`EPSILON`, `DELTA`). Source: Balle & Wang (2018), arXiv:1805.06530, Theorem 8."""

    def excess(s: float) -> float:
        return float(ndtr(0.5 / s - EPSILON * s) - math.exp(EPSILON + log_ndtr(-0.5 / s - EPSILON * s)) - DELTA)

    return float(brentq(excess, 0.1, 100.0, xtol=1e-9))


def releases(counts: Floats, share_of_noise: float) -> Floats:
    """`SAMPLES` releases of some cells of a 40-cell histogram, shape (SAMPLES, cells), in one call for speed.

    The wide mechanism's larger rounding term is taken out again, so that its noise is the 40-cell mechanism's.
    """
    wide = GaussianSum(1.0, SAMPLES * len(counts), 1.0)
    stddev = share_of_noise * GaussianSum(1.0, CELLS, calibrated()).noise_stddev
    mechanism = GaussianSum(1.0, wide.size, stddev / wide.sensitivity)
    return mechanism.release(np.tile(counts, SAMPLES), Csprng()).reshape(SAMPLES, len(counts))


def probabilities(values: Floats, edges: Floats) -> Floats:
    """Estimated probability of every interval between the edges and of every lower and upper tail."""
    cells = np.histogram(values, np.concatenate([[-np.inf], edges, [np.inf]]))[0]
    below = np.cumsum(cells)[:-1]
    return np.concatenate([cells, below, SAMPLES - below]) / SAMPLES


def surpluses(share_of_noise: float) -> Iterator[float]:
    """By how many standard errors P(event) exceeds e^epsilon P'(event) + delta; the worst event of each neighbour."""
    rng = np.random.default_rng(19)
    edges = np.arange(-2.0, 2.01, 0.25) * calibrated()  # rarer events have too few draws for a standard error
    factor = math.exp(EPSILON)
    for _ in range(DATASETS):
        full = np.bincount(rng.integers(0, CELLS, rng.integers(1, 5)), minlength=CELLS).astype(np.float64)
        occupied = full[full > 0]  # a neighbour differs in one of these cells, whoever of it leaves
        first, second = releases(occupied, share_of_noise), releases(occupied - 1.0, share_of_noise)
        for column, count in enumerate(occupied):
            p, q = (probabilities(drawn[:, column] - count, edges) for drawn in (first, second))
            for one, other in ((p, q), (q, p)):
                variance = one * (1 - one) + factor**2 * other * (1 - other) + 1 / SAMPLES
                yield float(((one - factor * other - DELTA) / np.sqrt(variance / SAMPLES)).max())


def test_the_noise_under_test_is_that_of_the_design() -> None:
    assert calibrated() == pytest.approx(4.22, abs=0.01)


@pytest.mark.statistical
@pytest.mark.parametrize(("share_of_noise", "accepted"), [(1.0, True), (0.5, False)])
def test_no_event_of_a_released_histogram_tells_neighbours_apart(share_of_noise: float, accepted: bool) -> None:
    assert (max(surpluses(share_of_noise)) <= STANDARD_ERRORS) == accepted
