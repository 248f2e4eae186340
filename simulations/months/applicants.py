"""Applicants that nobody is: latent traits, what each domain sees of them, and the true risk behind.

Five correlated traits drive everything: ability A, willingness W, stability S, debt pressure P, business strength B.
Each domain sees its own facet of willingness, which is what makes the domains complement each other, and a frailty that
nobody sees keeps any model from the truth. Coverage rises with A and S, so thin files are riskier than others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self, get_args

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
BASE_RATE = 0.045

_SHARES = (0.46, 0.20, 0.20, 0.08, 0.06)  # of the segments, in their order
_ABILITY = np.array([0.15, 0.10, -0.25, -0.7, -0.3])  # what a segment adds to A
_STABILITY = np.array([0.2, 0.05, -0.3, -0.4, -0.2])  # and to S
_TRAITS = np.linalg.cholesky(
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
_SELF_EMPLOYED, _GIG, _STUDENT, _OTHER = 1, 2, 3, 4


@dataclass(frozen=True)
class Applicants:
    """`n` applicants in columns; amounts in fen, a month.

    Attributes:
        logit_pd: true log-odds of default within 12 months.
        segment: place in `SEGMENTS`.
        age_years: whole years.
        income_fen: what they earn.
        declared_fen: what they say they earn.
        inflow_fen: what their payments show.
        debt_service_fen: instalments elsewhere.
        requested_fen: the limit they ask for.
        usage: log-odds of the share of a limit that they usually draw.
        covered: shape (n, 3), with which domains they have a relationship.
        tenure_months: shape (n, 3), how long; 0 where there is none.
        features: by block, shape (n, k): logs of money, log1p of counts, log-odds of ratios.
    """

    logit_pd: Floats
    segment: Ints
    age_years: Ints
    income_fen: Ints
    declared_fen: Ints
    inflow_fen: Ints
    debt_service_fen: Ints
    requested_fen: Ints
    usage: Floats
    covered: Bools
    tenure_months: Ints
    features: Mapping[str, Floats]

    def __len__(self) -> int:
        return len(self.logit_pd)

    def take(self, rows: Ints | slice) -> Self:
        """Some of them."""
        columns: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        blocks = {name: block[rows] for name, block in columns.pop("features").items()}
        return type(self)(**{name: column[rows] for name, column in columns.items()}, features=blocks)


@dataclass(frozen=True)
class _Latent:
    """Traits and what follows from them at once."""

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

    def normal(self, spread: float) -> Floats:
        """A feature's noise."""
        return self.noise.normal(0, spread * _NOISE, len(self.A))

    def count(self, log_mean: Floats) -> Floats:
        """log1p of a Poisson count."""
        return np.log1p(self.noise.poisson(np.exp(log_mean)))

    def happens(self, log_odds: Floats) -> Bools:
        """A yes or no."""
        return np.asarray(self.noise.random(len(self.A)) < sigmoid(log_odds))


def draw_applicants(rng: np.random.Generator, n: int, base_rate: float = BASE_RATE) -> Applicants:
    """Draws `n` applicants whose mean true PD is `base_rate`.

    >>> people = draw_applicants(np.random.default_rng(0), 1000)
    >>> people.covered.shape, round(float(sigmoid(people.logit_pd).mean()), 4)
    ((1000, 3), 0.045)
    """
    who = _latent(rng, n)
    risk = -(0.50 * who.A + 0.70 * who.W + 0.42 * who.S - 0.55 * who.P) - 0.25 * who.B * who.owner
    risk = risk + rng.normal(0, _FRAILTY, n)
    level = brentq(lambda c: float(sigmoid(c + risk).mean()) - base_rate, -15, 10)
    months = _tenures(who)
    features = {"ecommerce": _ecommerce(who, months[0]), "payments": _payments(who, months[1])}
    features |= {"tax_business": _tax_business(who, months[2]), OWN: _lender_kyc(who)}
    covered = _coverage(who)
    return Applicants(
        logit_pd=level + risk,
        segment=who.segment,
        age_years=np.floor(who.age).astype(np.int64),
        income_fen=_fen(who.income),
        declared_fen=_fen(np.exp(features[OWN][:, 1])),
        inflow_fen=_fen(np.exp(features["payments"][:, 1])),
        debt_service_fen=_fen(who.income * sigmoid(-2.6 + 0.60 * who.P + rng.normal(0, 0.6, n))),
        requested_fen=_fen(np.exp(features[OWN][:, -1])) // 10_000 * 10_000,
        usage=0.25 + 0.35 * who.P + rng.normal(0, 0.8, n),
        covered=covered,
        tenure_months=np.where(covered, np.stack(months, axis=1), 0).astype(np.int64),
        features=features,
    )


def _fen(yuan: Floats) -> Ints:
    return np.round(yuan * 100).astype(np.int64)


def _latent(rng: np.random.Generator, n: int) -> _Latent:
    segment = rng.choice(len(SEGMENTS), size=n, p=_SHARES)
    grown = rng.gamma(7, 4.4, n) + 14
    age = np.clip(np.where(segment == _STUDENT, rng.normal(21, 1.5, n), grown), 18, 70)
    A, W, S, P, B = _TRAITS @ rng.normal(size=(5, n))
    A, S = A + _ABILITY[segment], S + _STABILITY[segment] + 0.008 * (age - 35)
    facets = tuple(0.6 * W + 0.8 * rng.normal(size=n) for _ in DOMAINS)
    W = np.sum(facets, axis=0) / _FACETS
    owner = (segment == _SELF_EMPLOYED) | (rng.random(n) < 0.05)
    income = np.exp(8.55 + 0.42 * A + 0.10 * S + rng.normal(0, 0.25, n))
    return _Latent(A, W, S, P, B, facets, segment, age, owner, income, rng)


_FACETS = float(np.sqrt(9 * 0.6**2 + 3 * 0.8**2))  # the standard deviation of the sum of three facets


def _tenures(who: _Latent) -> list[Floats]:
    """Months with each domain."""
    n, rng = len(who.A), who.noise
    business = np.clip(rng.gamma(1.8, 26, n) * np.exp(0.35 * who.S), 0, 360)
    away = -1.1 * (who.segment == _GIG) - 2 * (who.segment == _STUDENT)
    insured = np.round(24 * sigmoid(0.9 + 0.6 * who.S + 0.25 * who.A + away + who.normal(0.8)))
    return [
        np.clip(rng.gamma(2.0, 18, n) * np.exp(0.25 * who.S), 0, 180),
        np.clip(rng.gamma(2.4, 20, n) * np.exp(0.20 * who.S), 0, 180),
        np.where(who.owner, business, insured),
    ]


def _coverage(who: _Latent) -> Bools:
    """Which relationships the platform knows of: none of it at random."""
    A, S, segment = who.A, who.S, who.segment
    wage_earner = -1.15 + 0.45 * S + 0.30 * A - 0.8 * (segment == _GIG) - 1.5 * (segment == _STUDENT)
    return np.stack(
        [
            who.happens(1.35 + 0.35 * A + 0.25 * S - 0.02 * (who.age - 35) - 0.4 * (segment == _OTHER)),
            who.happens(1.95 + 0.30 * A + 0.35 * S),
            who.happens(np.where(who.owner, 0.9 + 0.35 * who.B + 0.3 * who.W, wage_earner)),
        ],
        axis=1,
    )


def _ecommerce(who: _Latent, tenure: Floats) -> Floats:
    A, S, P, normal = who.A, who.S, who.P, who.normal
    W = who.facets[0]
    active = 0.35 * A + 0.25 * S + normal(0.9)
    orders = who.count(2.9 + 0.35 * active + np.log(np.minimum(1, tenure / 12 + 0.05)))
    later = who.happens(-0.6 + 0.5 * P)  # uses buy now, pay later: only then it has a record
    columns = [
        np.log1p(tenure),
        orders,
        orders + 4.4 + 0.25 * A + normal(0.45),  # what was spent
        np.clip(np.round(6 + 2.2 * (0.5 * S + 0.4 * A) + normal(2.6)), 0, 12),  # active months
        -2.2 - 0.35 * W + 0.15 * P + normal(0.8),  # returned
        -4.2 - 0.75 * W + normal(1.1),  # delivery refused
        -1.8 - 0.30 * W + 0.20 * P - 0.015 * (who.age - 35) + normal(0.8),  # ordered at night
        -0.4 + 0.25 * S - 0.25 * P + normal(0.8),  # essentials
        who.count(-0.4 - 0.45 * S + normal(0.5)),  # address changes
        who.count(-1.1 - 0.25 * S - 0.15 * W + normal(0.4)),  # device changes
        later,
        later * (0.85 * W - 0.55 * P + normal(1.0)),  # paid later on time
        -2.4 + 0.30 * P - 0.25 * W + normal(0.9),  # virtual goods
    ]
    return np.stack(columns, axis=1).astype(np.float64)


def _payments(who: _Latent, tenure: Floats) -> Floats:
    A, S, P, normal = who.A, who.S, who.P, who.normal
    W, gig, own_boss = who.facets[1], who.segment == _GIG, who.segment == _SELF_EMPLOYED
    columns = [
        np.log1p(tenure),
        np.log(who.income) + normal(0.35),  # median inflow
        -1.1 - 0.30 * S - 0.12 * A + 0.25 * gig + normal(0.35),  # its variation
        np.round(12 * sigmoid(0.8 + 0.7 * S + 0.3 * A - 1.6 * own_boss - 1.2 * gig + normal(0.9))),  # salaries
        -0.06 + 0.08 * P - 0.06 * A + normal(0.14),  # outflow to inflow
        np.round(90 * sigmoid(-1.5 - 0.45 * A + 0.45 * P + normal(0.85))),  # days with a low balance
        who.count(-2.1 - 0.25 * W - 0.35 * A + 0.35 * P + normal(0.5)),  # failed debits
        2.3 + 0.45 * W + 0.25 * S + normal(0.95),  # utilities on time
        -2.2 + 0.60 * P + normal(0.75),  # share of loan repayments
        who.count(-1.0 + 0.45 * P - 0.1 * W + normal(0.4)),  # lenders
        7.2 + 0.9 * A + 0.2 * W - 0.25 * P + normal(1.1),  # savings
        -4.4 + 0.40 * P - 0.25 * W + normal(0.9),  # risky merchants
        who.count(2.6 + 0.15 * A + 0.15 * S + normal(0.4)),  # counterparties
    ]
    return np.stack(columns, axis=1)


def _tax_business(who: _Latent, tenure: Floats) -> Floats:
    """Owners and others have different records; each is zero where it does not apply."""
    A, S, P, B, normal = who.A, who.S, who.P, who.B, who.normal
    W, owner, other = who.facets[2], who.owner, ~who.owner
    arrears = who.happens(-2.0 - 0.5 * W - 0.5 * B + 0.3 * P) * (6 + 0.6 * P - 0.6 * W - 0.4 * B + normal(1.2))
    columns = [
        owner,
        owner * np.log1p(tenure),  # age of the business
        owner * (0.75 * B + 0.25 * A + normal(0.7)),  # sales
        owner * (0.04 + 0.16 * B - 0.06 * P + normal(0.28)),  # their growth
        owner * (-1.0 - 0.25 * B - 0.2 * S + normal(0.35)),  # their variation
        owner * np.round(12 * sigmoid(-3.0 - 0.8 * B - 0.3 * S + normal(0.9))),  # months without sales
        owner * (2.4 + 0.55 * W + 0.35 * B + normal(0.8)),  # filed on time
        owner * np.digitize(0.50 * W + 0.45 * B + 0.2 * S + normal(0.7), [-1.6, -0.7, 0.3, 1.2]),  # credit grade
        owner * np.maximum(0, arrears),
        owner * who.count(-2.2 - 0.3 * B - 0.25 * W + 0.3 * P + normal(0.3)),  # litigation
        owner * (-0.3 * B + normal(0.9)),  # largest customers
        other * (np.log(who.income) - 8.55 + normal(0.25)),  # taxed income
        other * tenure,  # insured months
    ]
    return np.stack(columns, axis=1).astype(np.float64)


def _lender_kyc(who: _Latent) -> Floats:
    """What the lender asks itself; the request's size comes last."""
    n, rng = len(who.A), who.noise
    kinds = [who.segment == place for place in range(1, len(SEGMENTS))]
    columns = [
        np.floor(who.age),
        np.log(who.income) + 0.10 + rng.normal(0, 0.55 * _NOISE, n),  # declared income
        np.log1p(np.clip(rng.gamma(1.6, 24, n) * np.exp(0.30 * who.S), 0, 480)),  # months employed
        np.clip(np.round(2.8 - 0.25 * who.A + rng.normal(0, 1, n)), 1, 5),  # city tier
        np.log1p(np.clip(rng.gamma(2, 26, n) * np.exp(0.20 * who.S + 0.06 * who.W), 0, 300)),  # months with a number
        *kinds,
        8.7 + 0.30 * who.A + 0.18 * who.P + rng.normal(0, 0.7, n),
    ]
    return np.stack(columns, axis=1).astype(np.float64)
