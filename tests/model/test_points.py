"""The exact scale of the score: closed forms, an oracle in fractions, and agreement with numpy."""

from __future__ import annotations

import math
from decimal import ROUND_UP, localcontext
from fractions import Fraction
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.points import BANDS, MAX_SCORE, MIN_SCORE, band_of, pd_e8, score_of, score_thresholds

ONE = 10**40
DERANDOMIZED = settings(derandomize=True, deadline=None, max_examples=200, database=None)
# the table of the specification: score and PD in percent
TABLE = [
    (350, "47.3"),
    (450, "22.0"),
    (500, "13.7"),
    (550, "8.18"),
    (600, "4.76"),
    (650, "2.73"),
    (700, "1.55"),
    (750, "0.88"),
    (800, "0.49"),
    (850, "0.28"),
    (900, "0.16"),
    (950, "0.088"),
]


def log_odds_e6(score: int) -> int:
    """The largest micro-logit at which the formula, not clamped, still gives `score`."""
    return math.floor(1e6 * (-math.log(20) + (600 - score) * math.log(2) / 60))


@cache
def ln(value: int) -> Fraction:
    """ln by its series 2 artanh((v - 1) / (v + 1)), in fixed point of 40 digits."""
    term = ONE * (value - 1) // (value + 1)
    square, total = term * term // ONE, 0
    for n in range(1, 2000, 2):
        total += term // n
        term = term * square // ONE
    return Fraction(2 * total, ONE)


def exp(value: Fraction) -> Fraction:
    """exp by its series on a halved argument, in fixed point of 40 digits."""
    small = math.floor(abs(value) * ONE) >> 10
    term = total = ONE
    for n in range(1, 40):
        term = term * small // (ONE * n)
        total += term
    for _ in range(10):
        total = total * total // ONE
    return Fraction(total, ONE) if value > 0 else Fraction(ONE, total)


@pytest.mark.parametrize(("score", "percent"), TABLE)
def test_the_scale_is_the_table_of_the_specification(score, percent):
    z_e6 = log_odds_e6(score)
    digits = len(percent.partition(".")[2])
    assert f"{pd_e8(z_e6) / 1e6:.{digits}f}" == percent
    assert score_of(z_e6) == score


def test_sixty_points_double_the_odds_and_600_is_twenty_to_one():
    assert [score_of(log_odds_e6(600) - round(k * 1e6 * math.log(2)) - 1) for k in (-2, -1, 0, 1, 2)] == [
        480,
        540,
        600,
        660,
        720,
    ]


def test_the_score_is_clamped_at_both_ends():
    assert [score_of(z) for z in (-(10**12), -40_000_000, 40_000_000, 10**12)] == [950, 950, 350, 350]


@pytest.mark.parametrize("score", range(MIN_SCORE, MAX_SCORE, 7))
def test_each_score_begins_where_the_series_says(score):
    edge = 1_000_000 * (-ln(20) + (600 - (score + 1)) * ln(2) / 60)
    begins = math.floor(edge) + 1
    assert score_thresholds()[MAX_SCORE - 1 - score] == begins
    assert (score_of(begins - 1), score_of(begins)) == (score + 1, score)


@DERANDOMIZED
@given(st.integers(-14_000_000, 14_000_000))
def test_the_pd_is_the_nearest_hundred_millionth(z_e6):
    exact = 10**8 / (1 + exp(Fraction(-z_e6, 10**6)))
    assert abs(pd_e8(z_e6) - exact) <= Fraction(1, 2)


@DERANDOMIZED
@given(st.integers(-9_000_000, 2_000_000), st.integers(0, 20_000))
def test_riskier_never_scores_more_nor_has_a_lower_pd(z_e6, more):
    assert score_of(z_e6 + more) <= score_of(z_e6)
    assert pd_e8(z_e6 + more) >= pd_e8(z_e6)


def test_good_and_bad_odds_mirror_each_other():
    assert all(pd_e8(z) + pd_e8(-z) == 10**8 for z in range(0, 30_000_000, 1_234_567))


def test_numpy_scores_millions_exactly_alike():
    edges = np.array(score_thresholds())
    z_e6 = np.concatenate([edges - 1, edges, edges + 1, np.arange(-8_000_000, 1_000_000, 997)])
    vectorised = MAX_SCORE - np.searchsorted(edges, z_e6, side="right")
    assert vectorised.tolist() == [score_of(int(z)) for z in z_e6]


def test_a_foreign_decimal_context_changes_nothing():
    expected = pd_e8(-2_345_678)
    with localcontext() as context:
        context.prec, context.rounding = 3, ROUND_UP
        score_thresholds.cache_clear()
        assert pd_e8.__wrapped__(-2_345_678) == expected
        assert score_of(log_odds_e6(600)) == 600


def test_bands_cover_every_score_once_and_have_both_names():
    lows = [band.lowest for band in BANDS]
    assert lows == sorted(lows, reverse=True)
    assert lows[-1] == MIN_SCORE
    assert [band_of(score).code for score in (350, 549, 550, 600, 650, 700, 950)] == [
        "poor",
        "poor",
        "fair",
        "good",
        "very_good",
        "excellent",
        "excellent",
    ]
    assert all(band.zh and band.en for band in BANDS)
