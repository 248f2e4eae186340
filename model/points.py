"""The score's exact scale: log-odds to probability of default, points and band, in integers on every platform.

600 points are good:bad odds of 20:1 and 60 points double the odds; log-odds are of default, so larger is riskier. The
scale is the same for every model and every policy: a score always means the same odds.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from decimal import ROUND_FLOOR, ROUND_HALF_EVEN, Context, Decimal, DivisionByZero, InvalidOperation, Overflow
from functools import lru_cache

MIN_SCORE = 350
MAX_SCORE = 950
BASE_SCORE = 600
BASE_ODDS = 20
PDO = 60

_CERTAIN_E6 = 40_000_000  # beyond 40 logits the PD is 0 or 1 to all eight decimals
_EXACT = Context(prec=34, rounding=ROUND_HALF_EVEN, traps=[InvalidOperation, DivisionByZero, Overflow])
_WIDE = Context(prec=60, rounding=ROUND_HALF_EVEN, traps=[InvalidOperation, DivisionByZero, Overflow])


@dataclass(frozen=True)
class Band:
    """A named range of scores, from `lowest` up to the next band.

    >>> Band("fair", 550, "中等", "fair").lowest
    550
    """

    code: str
    lowest: int
    zh: str
    en: str


BANDS = (
    Band("excellent", 700, "极好", "excellent"),
    Band("very_good", 650, "优秀", "very good"),
    Band("good", 600, "良好", "good"),
    Band("fair", 550, "中等", "fair"),
    Band("poor", MIN_SCORE, "较差", "poor"),
)


@lru_cache(maxsize=1 << 16)
def pd_e8(z_e6: int) -> int:
    """The probability of default 1 / (1 + exp(-z)) in units of 1e-8, rounded half to even.

    `Decimal.exp` is specified as correctly rounded, so the result does not depend on the machine.

    Args:
        z_e6: log-odds of default in micro-logit, any size.

    >>> pd_e8(0), pd_e8(-2_995_732)
    (50000000, 4761906)
    """
    if abs(z_e6) >= _CERTAIN_E6:
        return 10**8 if z_e6 > 0 else 0
    odds = _EXACT.exp(Decimal(-z_e6).scaleb(-6, _EXACT))
    return int(_EXACT.divide(Decimal(10**8), _EXACT.add(Decimal(1), odds)).to_integral_value(ROUND_HALF_EVEN))


@lru_cache(maxsize=1)
def score_thresholds() -> tuple[int, ...]:
    """The smallest `z_e6` of the scores 949, 948, … 350, in that order: 600 strictly rising integers.

    A score is 950 less the thresholds that `z_e6` has reached, so numpy scores millions exactly like `score_of`:
    `MAX_SCORE - np.searchsorted(score_thresholds(), z_e6, side="right")`.

    >>> score_thresholds()[0], score_thresholds()[-1]
    (-7039090, -119171)
    """
    anchor = _WIDE.minus(_WIDE.ln(Decimal(BASE_ODDS)))
    point = _WIDE.divide(_WIDE.ln(Decimal(2)), Decimal(PDO))
    lasts = (_WIDE.fma(Decimal(BASE_SCORE - score), point, anchor) for score in range(MAX_SCORE, MIN_SCORE, -1))
    # each `last` is irrational: its floor is the last integer with that score, and the next begins the lower one
    return tuple(int(last.scaleb(6, _WIDE).to_integral_value(ROUND_FLOOR)) + 1 for last in lasts)


def score_of(z_e6: int) -> int:
    """floor(clamp(600 - (60 / ln 2) (z - ln(1/20)), 350, 950)), exactly.

    >>> score_of(-2_995_733), score_of(-2_995_732), score_of(0)
    (600, 599, 350)
    """
    return MAX_SCORE - bisect_right(score_thresholds(), z_e6)


def band_of(score: int) -> Band:
    """The band of a score.

    >>> band_of(649).zh, band_of(650).en
    ('良好', 'very good')
    """
    return next(band for band in BANDS if score >= band.lowest)
