"""The random numbers behind the noise (T4) and the batches (T5): a stream that no seed reaches, and Poisson sampling.

Where the stream is the operating system's, a test that must pass rejects at five standard deviations (p < 1e-6). How
the noise is distributed is in test_noise_statistics.py.
"""

from __future__ import annotations

import bisect
import inspect
import itertools
import math
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray
from scipy import stats

from clients import training
from model import network
from model.contract import Contract, Feature
from model.encoding import Encoding
from privacy import noise
from privacy.mechanisms import TAIL
from privacy.noise import SAMPLER_ERROR, Csprng, discrete_gaussian, poisson_batch

RARE = 1e-6
ROOT = Path(__file__).parents[2]


class Keyed(Csprng):
    """A stream of a known key, so that a test judges the same draws every time; nothing of ours can make one."""

    def __init__(self, key: int) -> None:
        super().__init__()
        self._stream = Cipher(algorithms.AES(key.to_bytes(32, "big")), modes.CTR(bytes(16))).encryptor()


class Words(Csprng):
    """A stream of just these words, in order and again from the start."""

    def __init__(self, *words: int) -> None:
        super().__init__()
        self.coming, self.taken = itertools.cycle(words), 0

    def words(self, count: int) -> NDArray[np.uint64]:
        self.taken += count
        return np.array(list(itertools.islice(self.coming, count)), dtype=np.uint64)


@pytest.mark.parametrize("count", [1, 7, 1000])
def test_as_many_draws_come_as_were_asked_for(count: int) -> None:
    assert discrete_gaussian(Csprng(), 2.0, count).shape == (count,)


@pytest.mark.parametrize("stddev", [0.0, -1.0, math.nan, math.inf])
def test_noise_without_a_scale_is_refused(stddev: float) -> None:
    with pytest.raises(ValueError, match="stddev must be finite and > 0"):
        discrete_gaussian(Csprng(), stddev, 1)


FORK = """
import os
from privacy.noise import Csprng, discrete_gaussian, poisson_batch
rng = Csprng()
draws = [lambda: rng.words(1), lambda: rng.uniform(1), lambda: rng.below(1, 9),
         lambda: discrete_gaussian(rng, 5.0, 1), lambda: poisson_batch(rng, 9, 0.5)]
refused = 0
child = os.fork()
if child == 0:
    for draw in draws:
        try:
            draw()
        except RuntimeError:
            refused += 1
    Csprng().words(1)
    os._exit(refused)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == len(draws)
print([len(draw()) for draw in draws[:4]])
"""


def test_t4_a_forked_child_is_refused_and_its_parent_goes_on() -> None:
    done = subprocess.run([sys.executable, "-c", FORK], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[1, 1, 1, 1]"


def test_t4_no_seed_reaches_the_noise() -> None:
    torch = pytest.importorskip("torch")
    runs = []
    for _ in range(2):
        random.seed(7)
        np.random.seed(7)
        torch.manual_seed(7)
        runs.append(discrete_gaussian(Csprng(), 1e6, 8).tolist())
    assert runs[0] != runs[1]


def test_t4_two_processes_with_one_environment_draw_differently() -> None:
    script = "from privacy.noise import Csprng; print(Csprng().words(2).tolist())"
    command = [sys.executable, "-c", script]
    said = [
        subprocess.run(command, cwd=ROOT, env={"PYTHONHASHSEED": "0"}, capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    assert said[0].stdout.startswith("[")
    assert said[0].stdout != said[1].stdout


def test_t4_no_sixteen_byte_block_repeats_within_or_between_streams() -> None:
    """Not even the first half of a block does: that is chance once in 4e8 runs. A million are in the other file."""
    streams = [Csprng(), Csprng()]
    parts = [rng.words(2 * size) for size in (1, 3, 50_000, 100_000) for rng in streams]
    halves = np.concatenate(parts)[::2]
    assert len(halves) == 300_008
    assert len(np.unique(halves)) == len(halves)


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
        return bool(noise.coins(Words(first << 11, second << 11), np.array([probability]))[0])

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


PERSONS, SHARE, STEPS = 1000, 0.25, 2000


def faults(sampler: Callable[[], NDArray[np.int64]]) -> set[str]:
    """T5: what tells a sampler's batches from independent coins of `SHARE`, one for each person and step."""
    inside = np.zeros((STEPS, PERSONS), dtype=bool)
    for row in inside:
        row[sampler()] = True
    sizes, each = inside.sum(axis=1), inside.sum(axis=0)
    together = (inside[:, 0::2] & inside[:, 1::2]).sum(axis=0)  # two persons, over all steps
    again = (inside[0::2] & inside[1::2]).sum(axis=0)  # one person in two neighbouring steps
    judged = {
        "mean": abs(sizes.mean() / (PERSONS * SHARE) - 1) < 0.01,
        "variance": 0.9 < sizes.var() / (PERSONS * SHARE * (1 - SHARE)) < 1.1,
        "persons": binomial(each, STEPS, SHARE),
        "pairs": binomial(together, STEPS, SHARE**2),
        "steps": binomial(again, STEPS // 2, SHARE**2),
    }
    return {name for name, good in judged.items() if not good}


def binomial(counts: NDArray[np.int64], trials: int, probability: float) -> bool:
    """Whether `counts` are spread like independent binomials, neither more nor less: chi-square, p > 1e-4."""
    spread = ((counts - trials * probability) ** 2 / (trials * probability * (1 - probability))).sum()
    return bool(1e-4 < stats.chi2(len(counts)).sf(spread) < 1 - 1e-4)


def test_t5_batches_are_independent_coins_for_every_person_and_step() -> None:
    rng = Keyed(5)
    assert faults(lambda: poisson_batch(rng, PERSONS, SHARE)) == set()


def shuffled() -> Iterator[NDArray[np.int64]]:
    """Fixed batches in which everybody comes once an epoch."""
    rng = np.random.default_rng(1)
    while True:
        yield from rng.permutation(PERSONS).reshape(4, -1)


def fixed_size() -> Iterator[NDArray[np.int64]]:
    rng = np.random.default_rng(2)
    while True:
        yield rng.permutation(PERSONS)[: PERSONS // 4]


def couples() -> Iterator[NDArray[np.int64]]:
    """Two neighbours share a coin."""
    rng = np.random.default_rng(3)
    while True:
        yield np.flatnonzero(np.repeat(rng.random(PERSONS // 2) < SHARE, 2))


def repeated() -> Iterator[NDArray[np.int64]]:
    """Every other batch is the one before again."""
    rng = np.random.default_rng(4)
    while True:
        yield from [np.flatnonzero(rng.random(PERSONS) < SHARE)] * 2


def more_likely() -> Iterator[NDArray[np.int64]]:
    rng = np.random.default_rng(6)
    while True:
        yield np.flatnonzero(rng.random(PERSONS) < SHARE * 1.02)


@pytest.mark.parametrize(
    ("batches", "found"),
    [
        (shuffled, {"variance", "persons", "steps"}),
        (fixed_size, {"variance"}),
        (couples, {"variance", "pairs"}),
        (repeated, {"persons", "steps"}),
        (more_likely, {"mean", "persons"}),
    ],
)
def test_t5_any_other_sampler_is_found_out(batches: Callable[[], Iterator[NDArray[np.int64]]], found: set[str]) -> None:
    coming = batches()
    assert found <= faults(lambda: next(coming))


def test_t5_the_networks_training_draws_a_fresh_batch_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Persons are told apart by their labels, which reach the clipped sum only."""
    encoding = Encoding.of(Contract("payments", 1, (Feature("owner", "flag"),)))
    reached: list[NDArray[np.float64]] = []
    monkeypatch.setattr(network, "clipped_sum", lambda theta, x, y, *_: reached.append(y))
    monkeypatch.setattr(training, "Csprng", lambda: Keyed(7))
    codes, labels = np.zeros((1, PERSONS), np.uint16), np.arange(PERSONS, dtype=np.float64)
    gradient = training.gradient_of("network", encoding, codes, labels, SHARE)
    assert faults(lambda: gradient(np.zeros(1)) or reached.pop().astype(np.int64)) == set()


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
