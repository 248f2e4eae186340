"""Applicants that nobody is, as the lending months see them: `simulations/population` in columns, amounts in fen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from model.descent import sigmoid
from simulations.population import signals
from simulations.population.traits import (
    BASE_RATE,
    DOMAINS,
    OWN,
    SEGMENTS,
    Bools,
    Floats,
    Ints,
    Traits,
    draw_coverage,
    draw_risk,
    draw_tenures,
    draw_traits,
    level_of,
)

__all__ = ["DOMAINS", "OWN", "SEGMENTS", "Applicants", "Bools", "Floats", "Ints", "draw_applicants"]


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


def draw_applicants(rng: np.random.Generator, n: int, base_rate: float = BASE_RATE) -> Applicants:
    """Draws `n` applicants whose mean true PD is `base_rate`.

    >>> people = draw_applicants(np.random.default_rng(0), 1000)
    >>> people.covered.shape, round(float(sigmoid(people.logit_pd).mean()), 4)
    ((1000, 3), 0.045)
    """
    who = draw_traits(rng, n)
    risk = draw_risk(who, rng)
    months = draw_tenures(who)
    features = {"ecommerce": _stacked(signals.ecommerce(who, months[0]))}
    features["payments"] = _stacked(signals.payments(who, months[1]))
    features["tax_business"] = _stacked(signals.tax_business(who, months[2]))
    features[OWN] = _lender_kyc(who)
    covered = draw_coverage(who)
    return Applicants(
        logit_pd=level_of(risk, base_rate) + risk,
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


def _stacked(columns: Mapping[str, NDArray[Any]]) -> Floats:
    return np.stack(list(columns.values()), axis=1).astype(np.float64)


def _lender_kyc(who: Traits) -> Floats:
    """What the lender asks itself, with a column for each segment but the first; the request's size comes last."""
    asked = signals.lender_kyc(who)
    requested = asked.pop("requested_amount_cny")
    kinds = {name: who.segment == place for place, name in enumerate(SEGMENTS) if place}
    return _stacked({**asked, **kinds, "requested": requested})
