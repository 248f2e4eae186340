"""The noise: its exact distribution both ways, a stream that no seed reaches, and Poisson batches.

The stream cannot be seeded, so each acceptance threshold stands at five standard deviations or beyond (p < 1e-6).
"""

from __future__ import annotations

import bisect
import inspect
import itertools
import math
import os
import random
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from privacy import noise
from privacy.mechanisms import TAIL
from privacy.noise import SAMPLER_ERROR, Csprng, discrete_gaussian, poisson_batch

RARE = 1e-6
ROOT = Path(__file__).parents[2]


class Words(Csprng):
    """A stream of just these words, in order and again from the start."""

    def __init__(self, *words: int) -> None:
        super().__init__()
        self.coming, self.taken = itertools.cycle(words), 0

    def words(self, count: int) -> NDArray[np.uint64]:
        self.taken += count
        return np.array(list(itertools.islice(self.coming, count)), dtype=np.uint64)


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


@pytest.mark.parametrize("count", [1, 7, 1000])
def test_as_many_draws_come_as_were_asked_for(count: int) -> None:
    assert discrete_gaussian(Csprng(), 2.0, count).shape == (count,)


@pytest.mark.parametrize("stddev", [0.0, -1.0, math.nan, math.inf])
def test_noise_without_a_scale_is_refused(stddev: float) -> None:
    with pytest.raises(ValueError, match="stddev must be finite and > 0"):
        discrete_gaussian(Csprng(), stddev, 1)


def test_a_forked_child_is_refused_and_its_parent_goes_on() -> None:
    rng = Csprng()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            rng.words(1)
        except RuntimeError:
            code = 42
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42
    assert rng.words(1).shape == (1,)


def test_no_seed_reaches_the_noise() -> None:
    torch = pytest.importorskip("torch")
    runs = []
    for _ in range(2):
        random.seed(7)
        np.random.seed(7)
        torch.manual_seed(7)
        runs.append(discrete_gaussian(Csprng(), 1e6, 8).tolist())
    assert runs[0] != runs[1]


def test_two_processes_with_one_environment_draw_differently() -> None:
    script = "from privacy.noise import Csprng; print(Csprng().words(2).tolist())"
    command = [sys.executable, "-c", script]
    said = [
        subprocess.run(command, cwd=ROOT, env={"PYTHONHASHSEED": "0"}, capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    assert said[0].stdout.startswith("[")
    assert said[0].stdout != said[1].stdout


def test_no_sixteen_byte_block_repeats_within_or_between_streams() -> None:
    streams = [Csprng(), Csprng()]
    parts = [rng.words(2 * size) for size in (1, 3, 100_000, 150_000) for rng in streams]
    blocks = np.concatenate(parts).reshape(-1, 2)
    assert len(blocks) == 500_008
    assert len({bytes(b) for b in blocks}) == len(blocks)


def test_the_bits_of_the_stream_are_fair() -> None:
    words = Csprng().words(20_000)
    ones = [int((words >> np.uint64(bit) & np.uint64(1)).sum()) for bit in range(64)]
    assert float(np.abs(np.array(ones) - 10_000).max()) < 6.5 * math.sqrt(5_000)


@pytest.mark.parametrize("bound", [1, 3, 10, 3 * 2**61])
def test_whole_numbers_below_a_bound_are_unbiased(bound: int) -> None:
    """At 3 * 2^61 a remainder without rejection would give the last third two thirds of its share."""
    draws = Csprng().below(60_000, bound)
    assert draws.min() >= 0
    assert draws.max() < bound
    cells = min(bound, 3)
    seen = np.bincount(np.floor(draws / bound * cells).astype(int), minlength=cells)
    expected = np.diff([math.ceil(i * bound / cells) for i in range(cells + 1)]) / bound * 60_000
    assert stats.chisquare(seen, expected).pvalue > RARE or cells == 1


def test_whole_numbers_reject_the_words_above_the_last_multiple() -> None:
    rng = Words(2**64 - 1, 2**64 - 2, 5)  # 2^64 - 1 is a multiple of 3: as a word it would give 0 once too often
    assert rng.below(2, 3).tolist() == [5 % 3, 2]
    assert rng.taken == 3


def test_uniform_numbers_lie_above_zero_and_are_uniform() -> None:
    assert Words(0).uniform(1)[0] > 0.0
    assert Words(2**63).uniform(1)[0] == pytest.approx(0.5)
    assert stats.kstest(Csprng().uniform(50_000), "uniform").pvalue > RARE


def test_even_the_largest_word_gives_no_more_than_one() -> None:
    assert Words(2**64 - 1).uniform(1)[0] <= 1.0


def head_probability(probability: float) -> Fraction:
    """The exact chance of a coin's head, found by bisecting the two words that it may look at."""

    def first_tails(heads: Callable[[int], bool]) -> int:
        return bisect.bisect_left(range(2**53), True, key=lambda k: not heads(k))

    def falls(first: int, second: int) -> bool:
        return bool(noise._coins(Words(first << 11, second << 11), np.array([probability]))[0])

    whole = first_tails(lambda k: falls(k, 2**53 - 1))
    rest = first_tails(lambda k: falls(whole, k)) if whole < 2**53 else 0
    return (whole + Fraction(rest, 2**53)) / 2**53


@pytest.mark.parametrize(
    "probability",
    [
        *(1.0, 0.5, 0.3, math.exp(-1), 1e-5, 1e-12, 1e-18, 0.0),
        math.exp(-0.5 * (TAIL - 1) ** 2),  # of the candidate at TAIL stddev, when stddev is large
    ],
)
def test_a_coin_falls_with_its_probability_up_to_the_samplers_error(probability: float) -> None:
    assert abs(head_probability(probability) - Fraction(probability)) <= Fraction(SAMPLER_ERROR) * Fraction(probability)


def batches(persons: int, probability: float, count: int) -> NDArray[np.bool_]:
    rng = Csprng()
    inside = np.zeros((count, persons), dtype=bool)
    for row in inside:
        row[poisson_batch(rng, persons, probability)] = True
    return inside


@pytest.mark.parametrize(("claimed", "accepted"), [(0.1, True), (0.095, False), (0.105, False)])
def test_each_person_is_in_a_batch_with_the_probability(claimed: float, accepted: bool) -> None:
    inside = batches(500, 0.1, 2000)
    assert (stats.binomtest(int(inside.sum()), inside.size, claimed).pvalue > RARE) == accepted
    if accepted:
        each = ((inside.sum(axis=0) - 200) ** 2 / (2000 * 0.1 * 0.9)).sum()
        assert RARE < stats.chi2(500).sf(each) < 1 - RARE


def test_persons_are_drawn_independently_so_the_size_of_a_batch_varies() -> None:
    """A batch of fixed size (or a shuffle) would have variance 0."""
    inside = batches(500, 0.1, 4000)
    sizes = inside.sum(axis=1)
    assert abs(sizes.var() / (500 * 0.1 * 0.9) - 1) < 5 * math.sqrt(2 / 4000)
    together = int((inside[:, 1:] & inside[:, :-1]).sum())
    apart = int((inside[1:] & inside[:-1]).sum())
    assert stats.binomtest(together, inside[:, 1:].size, 0.01).pvalue > RARE
    assert stats.binomtest(apart, inside[1:].size, 0.01).pvalue > RARE


def test_probability_one_includes_everybody_and_a_tiny_one_nobody() -> None:
    assert poisson_batch(Csprng(), 1000, 1.0).tolist() == list(range(1000))
    assert poisson_batch(Words(2**64 - 1), 3, 1.0).tolist() == [0, 1, 2]
    assert poisson_batch(Csprng(), 1000, 1e-15).tolist() == []
    assert poisson_batch(Csprng(), 0, 0.5).tolist() == []


@pytest.mark.parametrize("probability", [0.0, -0.1, 1.1, math.nan])
def test_a_probability_outside_its_range_is_refused(probability: float) -> None:
    with pytest.raises(ValueError, match="probability must be in"):
        poisson_batch(Csprng(), 5, probability)


def test_every_random_number_comes_from_the_operating_system() -> None:
    """Neither numpy's nor the standard library's generator is in the file."""
    source = inspect.getsource(noise)
    assert "os.urandom(32)" in source
    assert not [word for word in ("np.random", "default_rng", "import random", "time.") if word in source]
