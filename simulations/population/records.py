"""What a holder's file says of its persons: signals in their units, with the gaps and oddities of a partner."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from model.descent import sigmoid
from simulations.population import signals
from simulations.population.drift import REDEFINED
from simulations.population.people import GAPS, PARTNERS, People
from simulations.population.signals import Signals
from simulations.population.traits import DOMAINS, OWN, SEGMENTS, Bools, Floats, Ints, Traits
from simulations.population.world import Chunk, Partner, World

_HERE = Path(__file__).parent
_GAPS = (0.02, 0.05)  # share of missing values, from a domain's first column to its last
_EVERYBODYS = {"tx_is_owner", "tx_iit_income_monthly_cny", "tx_social_ins_months_24m"}  # not of owners alone
_INDUSTRIES = ("A", "C", "E", "F", "G", "H", "I", "L", "O", "M")
_PROVINCES = (  # of the industries, by province of the tax partner
    (0.02, 0.18, 0.08, 0.34, 0.08, 0.12, 0.04, 0.06, 0.06, 0.02),
    (0.02, 0.38, 0.10, 0.22, 0.10, 0.07, 0.02, 0.04, 0.04, 0.01),
    (0.14, 0.10, 0.12, 0.28, 0.12, 0.12, 0.01, 0.04, 0.06, 0.01),
)


@cache
def columns() -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
    """By file, then by column: how it is written, its unit where no contract has it, its meaning in zh and en."""
    return tomllib.loads((_HERE / "columns.toml").read_text(encoding="utf-8"))


def lender_record(world: World, chunk: Chunk, people: People) -> pl.DataFrame:
    """The lender's application form, a row a person."""
    values = in_units(OWN, people.form, world.changes.prices(people.month))
    values["requested_amount_cny"] = np.round(values["requested_amount_cny"], -2)
    frame = _frame(OWN, values)
    segment = pl.Series("segment", np.array(SEGMENTS)[people.who.segment])
    return _with_gaps(frame.insert_column(1, segment), world.stream(chunk.place, GAPS))


def partner_record(world: World, chunk: Chunk, people: People, partner: Partner, rows: Ints) -> pl.DataFrame:
    """What a partner records of the persons at `rows`, a row a person; it may be asked of any."""
    rng = world.stream(chunk.place, PARTNERS + world.partners.index(partner))
    coarse = 1.2 if partner.name == "ec-2" and world.at(partner, "covariate", 1) else 1.0
    who = people.who.take(rows, rng, coarse)
    tenure = people.tenures[rows, DOMAINS.index(partner.domain)]
    month = people.month[rows]
    if partner.domain == "ecommerce":
        values = _ecommerce(world, partner, who, tenure, month)
    elif partner.domain == "payments":
        values = _payments(world, partner, who, tenure, month)
    else:
        values = _tax_business(world, partner, who, tenure, month)
    frame = _frame(partner.domain, values)
    if partner.domain == "tax_business":
        frame = frame.with_columns(_industry(world, partner, who))
    return _with_gaps(frame, rng)


def _ecommerce(world: World, partner: Partner, who: Traits, tenure: Floats, month: Ints) -> Signals:
    record = signals.ecommerce(who, tenure)
    record |= signals.further_ecommerce(who, record)
    drift = world.changes
    drift.game(record, month, who.noise)
    values = in_units("ecommerce", record, world.changes.prices(month))
    none = record["ec_orders_12m"] == 0
    values["ec_gmv_12m_cny"] = np.where(none, 0.0, values["ec_gmv_12m_cny"])
    returned = values["ec_return_rate_12m"]
    if world.at(partner, "definition", 1):  # only what was refunded counts as returned
        returned = 0.6 * returned
    if partner.rank == min(1, (world.split_partners or world.partners_a_domain) - 1):
        returned = np.where(drift.redefined(month), np.minimum(1.0, REDEFINED * returned), returned)
    values["ec_return_rate_12m"] = np.round(returned, 4)
    empty = {"ec_bnpl_ontime_rate_12m": record["ec_bnpl_used"] == 0}
    empty |= dict.fromkeys(("ec_aov_cny", "ec_days_since_last_order"), none)
    if world.at(partner, "features", 2):
        empty |= dict.fromkeys(("ec_bnpl_used", "ec_bnpl_ontime_rate_12m"), np.ones(len(who), dtype=bool))
    return _emptied(values, empty)


def _payments(world: World, partner: Partner, who: Traits, tenure: Floats, month: Ints) -> Signals:
    record = signals.payments(who, tenure)
    record |= signals.further_payments(who, record)
    if world.at(partner, "definition", 1):  # a wallet sees a part of the inflow, and it jumps more
        record["pay_inflow_median_6m_cny"] = record["pay_inflow_median_6m_cny"] + np.log(0.6)
        record["pay_inflow_cv_6m"] = record["pay_inflow_cv_6m"] + np.log(1.3)
    return in_units("payments", record, world.changes.prices(month))


def _tax_business(world: World, partner: Partner, who: Traits, tenure: Floats, month: Ints) -> Signals:
    merit = -0.4 if world.at(partner, "covariate", 1) else 0.0
    record = signals.tax_business(who, tenure, merit) | signals.further_tax_business(who)
    if world.at(partner, "definition", 2):  # files by the quarter: fewer, smoother returns
        record["tx_zero_filing_months_12m"] = 3 * np.round(record["tx_zero_filing_months_12m"] / 3)
        record["tx_sales_cv_12m"] = record["tx_sales_cv_12m"] + np.log(0.7)
    values = in_units("tax_business", record, world.changes.prices(month))
    values["tx_sales_growth_yoy"] = np.maximum(-1.0, values["tx_sales_growth_yoy"])
    others = {name: ~who.owner for name in values if name not in _EVERYBODYS}
    owners = {name: who.owner for name in values if name in _EVERYBODYS and name != "tx_is_owner"}
    return _emptied(values, others | owners)


def _industry(world: World, partner: Partner, who: Traits) -> pl.Series:
    """The industry of owners, by province."""
    shares = _PROVINCES[partner.rank if "covariate" in world.shifts else 0]
    drawn = pl.Series("tx_industry_gbt4754", who.noise.choice(_INDUSTRIES, len(who), p=shares))
    return drawn.set(pl.Series(~who.owner), None)


def in_units(domain: str, record: Signals, prices: Floats) -> Signals:
    """The values of a record's columns in their units; money at the prices of each person's month.

    >>> in_units("payments", {"pay_tenure_months": np.log1p([3.0])}, np.ones(1))
    {'pay_tenure_months': array([3.])}
    """
    values = {}
    for name, signal in record.items():
        how = columns()[domain][name]
        x = signal.astype(np.float64) + how.get("shift", 0.0)
        values[name] = _value(how["form"], x, prices)
    return values


def _value(form: str, x: Floats, prices: Floats) -> NDArray[Any]:
    """One column from the scale of `signals` to its unit."""
    if form == "count":
        return np.round(np.expm1(x))
    if form == "money":
        return np.round(np.exp(x) * prices, 2)
    if form == "owed":
        return np.round(np.expm1(x) * prices, 2)
    if form == "share":
        return np.round(sigmoid(x), 4)
    if form == "ratio":
        return np.round(np.exp(x), 4)
    return np.round(x, 4) if form == "number" else np.round(x)


def _emptied(values: Signals, empty: Mapping[str, Bools]) -> Signals:
    """The values without those that do not apply."""
    return values | {name: np.where(rows, np.nan, values[name]) for name, rows in empty.items()}


def _frame(domain: str, values: Mapping[str, NDArray[Any]]) -> pl.DataFrame:
    """Values as columns; counts and flags are whole numbers."""
    whole = {name for name, how in columns()[domain].items() if how.get("form") in ("count", "whole", "flag")}
    frame = pl.DataFrame(
        {name: np.asarray(value, dtype=np.float64) for name, value in values.items()}, nan_to_null=True
    )
    return frame.with_columns(pl.col(sorted(whole)).cast(pl.Int32))


def _with_gaps(frame: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    """The frame with a few values of each column missing at random."""
    shares = np.linspace(*_GAPS, frame.width)
    kept = [
        pl.when(pl.lit(pl.Series(rng.random(frame.height, dtype=np.float32) >= share))).then(pl.col(name)).alias(name)
        for name, share in zip(frame.columns, shares, strict=True)
    ]
    return frame.with_columns(kept)
