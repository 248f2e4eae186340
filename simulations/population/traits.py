"""What is true of invented persons and no file says: five traits, whom each domain knows, and the risk behind.

Ability A, willingness W, stability S, debt pressure P and business strength B are correlated and drive everything. Each
domain sees its own facet of willingness, which is what makes the domains complement each other, and a frailty that
nobody sees keeps any model from the truth. Coverage rises with A and S, so thin files are riskier than others.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from model.descent import sigmoid
from model.limits.schema import Segment

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

DOMAINS = ("ecommerce", "payments", "tax_business")
OWN = "lender_kyc"
SEGMENTS: tuple[str, ...] = get_args(Segment)
SALARIED, SELF_EMPLOYED, GIG, STUDENT, OTHER = range(5)
BASE_RATE = 0.045

_SHARES = (0.46, 0.20, 0.20, 0.08, 0.06)  # of the segments, in their order
_ABILITY = np.array([0.15, 0.10, -0.25, -0.7, -0.3])  # what a segment adds to A
_STABILITY = np.array([0.2, 0.05, -0.3, -0.4, -0.2])  # and to S
_CORRELATED = np.linalg.cholesky(
    [
        [1, 0.25, 0.35, -0.30, 0.45],
        [0.25, 1, 0.30, -0.25, 0.15],
        [0.35, 0.30, 1, -0.25, 0.30],
        [-0.30, -0.25, -0.25, 1, -0.25],
        [0.45, 0.15, 0.30, -0.25, 1],
    ]
)
_NOISE = 1.5  # multiplies every feature's noise: what brings the AUCs to those of real domains
_FRAILTY = 0.5
_FACETS = float(np.sqrt(9 * 0.6**2 + 3 * 0.8**2))  # the standard deviation of the sum of three facets


@dataclass(frozen=True)
class Traits:
    """Persons in columns of shape (n,), and the generator that their features are drawn from.

    `faded`, from 0 to 1 a person, is how far the meaning of single features has drifted away.
    """

    A: Floats
    W: Floats
    S: Floats
    P: Floats
    B: Floats
    facets: tuple[Floats, ...]  # of willingness, one a domain
    segment: Ints
    age: Floats
    owner: Bools
    income: Floats  # CNY a month
    noise: np.random.Generator
    faded: Floats | float = 0.0
    blur: float = _NOISE

    def __len__(self) -> int:
        return len(self.A)

    def normal(self, spread: float) -> Floats:
        """A feature's noise."""
        return self.noise.normal(0, spread * self.blur, len(self))

    def count(self, log_mean: Floats) -> Floats:
        """log1p of a Poisson count."""
        return np.log1p(self.noise.poisson(np.exp(log_mean)))

    def happens(self, log_odds: Floats) -> Bools:
        """A yes or no."""
        return np.asarray(self.noise.random(len(self)) < sigmoid(log_odds))

    def take(self, rows: Ints, noise: np.random.Generator, blur: float = 1.0) -> Self:
        """Some of them, for a record with noise of its own, `blur` times as wide."""
        return replace(
            self,
            A=self.A[rows],
            W=self.W[rows],
            S=self.S[rows],
            P=self.P[rows],
            B=self.B[rows],
            facets=tuple(facet[rows] for facet in self.facets),
            segment=self.segment[rows],
            age=self.age[rows],
            owner=self.owner[rows],
            income=self.income[rows],
            noise=noise,
            faded=np.broadcast_to(self.faded, len(self))[rows],
            blur=self.blur * blur,
        )


def draw_traits(rng: np.random.Generator, n: int) -> Traits:
    """Draws `n` persons.

    >>> len(draw_traits(np.random.default_rng(0), 10))
    10
    """
    segment = rng.choice(len(SEGMENTS), size=n, p=_SHARES)
    grown = rng.gamma(7, 4.4, n) + 14
    age = np.clip(np.where(segment == STUDENT, rng.normal(21, 1.5, n), grown), 18, 70)
    A, W, S, P, B = _CORRELATED @ rng.normal(size=(5, n))
    A, S = A + _ABILITY[segment], S + _STABILITY[segment] + 0.008 * (age - 35)
    facets = tuple(0.6 * W + 0.8 * rng.normal(size=n) for _ in DOMAINS)
    W = np.sum(facets, axis=0) / _FACETS
    owner = (segment == SELF_EMPLOYED) | (rng.random(n) < 0.05)
    income = np.exp(8.55 + 0.42 * A + 0.10 * S + rng.normal(0, 0.25, n))
    return Traits(A, W, S, P, B, facets, segment, age, owner, income, rng)


def draw_risk(who: Traits, rng: np.random.Generator) -> Floats:
    """Log-odds of default up to a constant, the frailty that nobody sees among them."""
    risk = -(0.50 * who.A + 0.70 * who.W + 0.42 * who.S - 0.55 * who.P) - 0.25 * who.B * who.owner
    return risk + rng.normal(0, _FRAILTY, len(who))


def level_of(risk: Floats, base_rate: float) -> float:
    """The constant by which the mean probability is the base rate.

    >>> round(level_of(np.zeros(3), 0.5), 6)
    0.0
    """
    return float(brentq(lambda c: float(sigmoid(c + risk).mean()) - base_rate, -15, 10))


def draw_tenures(who: Traits) -> list[Floats]:
    """Months with each domain, were there a relationship."""
    n, rng = len(who), who.noise
    business = np.clip(rng.gamma(1.8, 26, n) * np.exp(0.35 * who.S), 0, 360)
    away = -1.1 * (who.segment == GIG) - 2 * (who.segment == STUDENT)
    insured = np.round(24 * sigmoid(0.9 + 0.6 * who.S + 0.25 * who.A + away + who.normal(0.8)))
    return [
        np.clip(rng.gamma(2.0, 18, n) * np.exp(0.25 * who.S), 0, 180),
        np.clip(rng.gamma(2.4, 20, n) * np.exp(0.20 * who.S), 0, 180),
        np.where(who.owner, business, insured),
    ]


def draw_coverage(who: Traits, thinner: Floats | float = 0.0) -> Bools:
    """Which relationships the platform knows of, shape (n, 3): none of it at random. `thinner` is in log-odds."""
    A, S, segment = who.A, who.S, who.segment
    wage_earner = -1.15 + 0.45 * S + 0.30 * A - 0.8 * (segment == GIG) - 1.5 * (segment == STUDENT)
    return np.stack(
        [
            who.happens(1.35 + 0.35 * A + 0.25 * S - 0.02 * (who.age - 35) - 0.4 * (segment == OTHER) - thinner),
            who.happens(1.95 + 0.30 * A + 0.35 * S - thinner),
            who.happens(np.where(who.owner, 0.9 + 0.35 * who.B + 0.3 * who.W, wage_earner) - thinner),
        ],
        axis=1,
    )
