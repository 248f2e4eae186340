"""T3 and T4 over many draws: the noise's exact distribution both ways, on every coordinate of every step, never twice.

Tests of the operating system's stream reject at five standard deviations (p < 1e-6), those of a known key at the
design's own criteria: the same draws are judged every time.
"""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray
from scipy import stats

from model import network, scorecard
from model.blocks import CLIP_NORM
from model.contract import Contract, Feature
from model.descent import Schedule, descend
from model.encoding import Encoding
from model.fusion import PARTS, Layout, Subscores, fit
from privacy.mechanisms import GRID, GaussianSum
from privacy.noise import Csprng, discrete_gaussian

RARE = 1e-6
ROOT = Path(__file__).parents[2]
MILLION = 1_000_000
Floats = NDArray[np.float64]


class Keyed(Csprng):
    """A stream of a known key, so that a test judges the same draws every time; nothing of ours can make one."""

    def __init__(self, key: int) -> None:
        super().__init__()
        self._stream = Cipher(algorithms.AES(key.to_bytes(32, "big")), modes.CTR(bytes(16))).encryptor()


def p_value(draws: NDArray[np.int64], stddev: float) -> float:
    """Chi-square of `draws` against the exact probabilities of a discrete Gaussian of `stddev`; tails joined."""
    reach = math.ceil(2.5 * stddev) + 1
    support = np.arange(-40 * reach, 40 * reach + 1)
    weight = np.exp(-(support**2) / (2 * stddev**2))
    cells = np.clip(support, -reach, reach) + reach
    expected = np.bincount(cells, weights=weight / weight.sum()) * len(draws)
    seen = np.bincount(np.clip(draws, -reach, reach) + reach, minlength=len(expected))
    keep = expected > 5
    return float(stats.chisquare(seen[keep], expected[keep] * seen[keep].sum() / expected[keep].sum()).pvalue)


@pytest.mark.parametrize("stddev", [0.4, 1.0, 1.5, 3.3, 12.0])
@pytest.mark.parametrize(("claimed", "accepted"), [(1.0, True), (0.9, False), (1.1, False)])
def test_draws_follow_the_exact_discrete_gaussian(stddev: float, claimed: float, accepted: bool) -> None:
    draws = discrete_gaussian(Csprng(), stddev, 200_000)
    assert (p_value(draws, claimed * stddev) > RARE) == accepted


@pytest.mark.parametrize("stddev", [50.0, 1e4, 1e8, 3.7e10])
def test_large_noise_has_the_variance_and_shape_of_a_gaussian(stddev: float) -> None:
    count = 400_000
    draws = discrete_gaussian(Csprng(), stddev, count) / stddev
    assert abs((draws**2).mean() - 1) < 5 * math.sqrt(2 / count)
    assert abs(draws.mean()) < 5 / math.sqrt(count)
    assert abs((draws**4).mean() - 3) < 5 * math.sqrt(96 / count)
    assert abs((draws[1:] * draws[:-1]).mean()) < 5 / math.sqrt(count)


def test_zero_is_not_counted_twice() -> None:
    """With +0 and -0 both kept, zero would come up with probability .88 instead of .79."""
    count = 100_000
    x = np.arange(-20, 21)
    exact = 1 / np.exp(-(x**2) / (2 * 0.5**2)).sum()
    zeros = int((discrete_gaussian(Csprng(), 0.5, count) == 0).sum())
    assert stats.binomtest(zeros, count, exact).pvalue > RARE
    assert stats.binomtest(zeros, count, 2 * exact / (1 + exact)).pvalue < RARE


# --- a million draws

SCALES = [3.3, 1234.5, 3.7e7]  # the last is a release's own: noise multiplier 10, bound 3.5, in steps of 1/GRID


@cache
def million(stddev: float) -> NDArray[np.int64]:
    return discrete_gaussian(Keyed(3), stddev, MILLION)


@pytest.mark.statistical
@pytest.mark.parametrize("stddev", SCALES)
@pytest.mark.parametrize(("claimed", "accepted"), [(1.0, True), (0.996, False), (1.004, False)])
def test_t3_the_variance_is_the_claimed_one(stddev: float, claimed: float, accepted: bool) -> None:
    ratio = (million(stddev).astype(np.float64) ** 2).mean() / (claimed * stddev) ** 2
    assert (abs(ratio - 1) < 0.005) == accepted


@pytest.mark.statistical
@pytest.mark.parametrize("stddev", SCALES)
@pytest.mark.parametrize(("claimed", "accepted"), [(1.0, True), (0.99, False), (1.01, False)])
def test_t3_the_draws_fill_two_hundred_cells_as_they_should(stddev: float, claimed: float, accepted: bool) -> None:
    """Cells of about equal probability; of a wide discrete Gaussian they are the rounded continuous one's."""
    if stddev < 10:
        assert (p_value(million(stddev), claimed * stddev) > 1e-4) == accepted
        return
    edges = np.floor(stats.norm.ppf(np.arange(1, 200) / 200) * claimed * stddev) + 0.5
    expected = np.diff(stats.norm.cdf(np.concatenate([[-np.inf], edges, [np.inf]]) / (claimed * stddev))) * MILLION
    seen = np.bincount(np.searchsorted(edges, million(stddev)), minlength=200)
    assert (stats.chisquare(seen, expected).pvalue > 1e-4) == accepted


@pytest.mark.statistical
@pytest.mark.parametrize("stddev", SCALES)
def test_t3_neighbouring_draws_are_uncorrelated(stddev: float) -> None:
    draws = million(stddev) / stddev
    assert max(abs(float((draws[lag:] * draws[:-lag]).mean())) for lag in (1, 2, 3)) < 0.004


@pytest.mark.statistical
def test_t3_the_noise_of_two_steps_and_of_two_partners_is_uncorrelated() -> None:
    """Real streams; of two million draws .004 is 5.7 standard deviations."""
    mechanism = GaussianSum(3.0, 2 * MILLION, 2.0)
    one, other = Csprng(), Csprng()
    exact = np.zeros(mechanism.size)
    noise = [mechanism.release(exact, rng) / mechanism.noise_stddev for rng in (one, one, other)]
    assert max(abs(float((noise[a] * noise[b]).mean())) for a, b in ((0, 1), (0, 2), (1, 2))) < 0.004
    assert min(float((a * a).mean()) for a in noise) > 0.99


# --- every coordinate of every step, also where nobody is there

ENCODING = Encoding.of(Contract("payments", 1, (Feature("late", "numeric", high=12.0), Feature("owner", "flag"))))
SHAPE = network.Shape(ENCODING.columns - 1, (4,))
STEPS = 60


class Recorder:
    """A release that keeps what noise its mechanism added; so loud that no draw comes twice but once in 1e6 runs."""

    def __init__(self, bound: float, size: int) -> None:
        self.mechanism, self.rng = GaussianSum(bound, size, 1e6), Csprng()
        self.steps: list[Floats] = []

    def __call__(self, total: Floats) -> Floats:
        out = self.mechanism.release(total, self.rng)
        self.steps.append(out * GRID - np.rint(total * GRID))
        return out

    def check(self, steps: int) -> None:
        """One draw for each step and coordinate, in whole grid steps, of the right variance, none of them twice."""
        noise = np.array(self.steps)
        assert noise.shape == (steps, self.mechanism.size)
        assert np.array_equal(noise, np.rint(noise))
        assert noise.all()
        assert len(np.unique(noise)) == noise.size
        squares = (noise / (self.mechanism.noise_stddev * GRID)) ** 2
        assert plausible(squares.sum(), noise.size)
        assert plausible(squares.sum(axis=1), self.mechanism.size)  # every single step
        assert plausible(squares.sum(axis=0), steps)  # and every coordinate


def plausible(sums: Floats, squares: int) -> bool:
    """Whether each is a sum of so many squared standard normals, neither too large nor too small."""
    law = stats.chi2(squares)
    return bool(np.minimum(law.sf(sums), law.cdf(sums)).min() > 1e-8)


def nobody(engine: str) -> tuple[Callable[[Floats], Floats], float, int]:
    """The gradient sum over an empty population, its bound and size."""
    if engine == "scorecard":
        gradient = scorecard.gradient_sum(ENCODING, np.zeros((2, 0), np.uint16), np.zeros(0))
        return gradient, ENCODING.row_norm, ENCODING.columns
    rows, targets = np.zeros((0, SHAPE.columns)), np.zeros(0)
    if engine == "absent":
        rows, targets = np.zeros((9, SHAPE.columns)), np.full(9, np.nan)
    clipped_sum = network.clipped_sum_opacus if engine == "opacus" else network.clipped_sum
    return lambda theta: clipped_sum(theta, rows, targets, SHAPE, CLIP_NORM), CLIP_NORM, SHAPE.size


@pytest.mark.parametrize("engine", ["scorecard", "network", "opacus", "absent"])
def test_t3_noise_is_drawn_for_every_parameter_and_step_of_a_training_on_nobody(engine: str) -> None:
    gradient, bound, size = nobody(engine)
    release = Recorder(bound, size)
    descend(np.zeros(size), gradient, release, 100.0, Schedule(STEPS, 1e-9))
    release.check(STEPS)


def test_t3_noise_is_drawn_for_every_parameter_and_step_of_a_fusion() -> None:
    """Of one person without any relationship: the least that a lender can have."""
    releases = {name: Recorder(*limits) for name, limits in Layout(2, 2).bounds().items()}
    schedules = dict.fromkeys(PARTS, Schedule(STEPS, 1e-9))
    fit(Subscores(("a", "b"), None, np.full((1, 2), np.nan)), np.zeros(1), dict(releases), schedules)
    for name, release in releases.items():
        release.check(1 if name == "centres" else STEPS)


# --- T4

SEEDED = """
import random, sys
import numpy as np
import torch
random.seed(7)
np.random.seed(7)
torch.manual_seed(7)
from privacy.noise import Csprng
for words in (1, 200_000 * 2 - 1):
    sys.stdout.buffer.write(Csprng().words(words).tobytes())
"""


@pytest.mark.statistical
def test_t4_no_block_of_a_million_repeats_over_restarts_processes_and_equal_seeds() -> None:
    """Three starts of one seeded program, and this process twice; the first half of a block is compared."""
    parts = [Csprng().words(400_000), Csprng().words(400_000)]
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", SEEDED], cwd=ROOT, env={"PYTHONHASHSEED": "0"}, capture_output=True, check=True
        )
        parts.append(np.frombuffer(done.stdout, dtype=np.uint64))
    halves = np.concatenate(parts)[::2]
    assert len(halves) == MILLION
    assert len(np.unique(halves)) == MILLION
