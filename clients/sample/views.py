"""What each data holder records of the sample's persons: one table per file, with the blemishes of real files.

A column is a mean, moved by hidden truths, with `_blur` around it: on a log scale for money and rates of events,
on a log-odds scale for shares. So no column tells a truth outright, and each domain tells another mixture.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

import numpy as np
import polars as pl
from numpy.typing import NDArray

from clients.sample.population import SEGMENTS, FloatArray, People, sigmoid

__all__ = ["ecommerce", "labels", "lender_kyc", "payments", "tax_business"]

Generator = np.random.Generator

_REGIONS = ("NE", "MW", "S", "W")
_REGION_SHARES = np.array([0.22, 0.24, 0.33, 0.21])
_REGION_ABILITY = np.array([0.25, -0.05, -0.20, 0.10])  # regions differ, as regions do
_FIRST_DAY, _FIRST_TEST_DAY, _DAYS = date(2023, 1, 1), date(2024, 5, 26), 731
_NOISE = 1.2  # spread of what a record says about the truth behind it
_GAP_RATE = 0.03
_ODD_RATE = 0.003


def labels(people: People, rng: Generator) -> pl.DataFrame:
    """The lender's outcomes: label, region, date of the loan, and the split by that date (about 70 : 30)."""
    size = len(people.age)
    pull = np.log(_REGION_SHARES) + people.ability[:, None] * _REGION_ABILITY
    region = np.argmax(pull + rng.gumbel(size=(size, len(_REGIONS))), axis=1)
    day = pl.lit(_FIRST_DAY) + pl.duration(days=pl.col("day"))
    frame = pl.DataFrame({"id": _ids(people), "label": people.defaulted.astype(np.int8)})
    frame = frame.with_columns(hkey=pl.Series(_REGIONS).gather(region), day=rng.integers(0, _DAYS, size))
    frame = frame.with_columns(date=day).drop("day")
    split = pl.when(pl.col("date") < _FIRST_TEST_DAY).then(pl.lit("train")).otherwise(pl.lit("test"))
    return frame.with_columns(split=split).select("id", "label", "hkey", "split", "date")


def lender_kyc(people: People, rng: Generator) -> pl.DataFrame:
    """What the lender knows from its own application form."""
    size = len(people.age)
    silent = rng.random(size) < 0.04 * np.exp(0.5 * people.pressure)
    jobless = people.are("student") & (rng.random(size) < 0.6)
    declared = people.income * np.exp(rng.normal(0.10, 0.60, size))
    employed = (rng.gamma(1.6, 24, size) * np.exp(0.35 * people.stability)).clip(0, 480)
    requested = np.exp(8.7 + 0.30 * people.ability + 0.25 * people.pressure + rng.normal(0, 0.6, size))
    frame = pl.DataFrame(
        {
            "age_years": np.floor(people.age).astype(np.int16),
            "segment": pl.Series(SEGMENTS).gather(people.segment),
            "declared_income_cny": np.where(silent, -1, np.round(declared, -1)),
            "employment_months": np.where(jobless, -1, np.floor(employed)).astype(np.int16),
            # A float, as tools write whole numbers with gaps: 2.0 has to be read as the code 2.
            "city_tier": np.round(2.8 - 0.35 * people.ability + rng.normal(0, 1, size)).clip(1, 5),
            "phone_tenure_months": np.floor((rng.gamma(2, 26, size) * np.exp(0.25 * people.stability)).clip(0, 300)),
            "requested_amount_cny": np.round(requested, -2),
        }
    )
    odd = {"age_years": 999, "declared_income_cny": 9_999_999.0, "city_tier": 9.0, "phone_tenure_months": -30.0}
    return _as_file(frame, people, rng, odd)


def payments(people: People, rng: Generator) -> pl.DataFrame:
    """What a bank or wallet knows from the flows through its accounts."""
    size = len(people.age)
    will, stable, able, pressed = people.will_pay, people.stability, people.ability, people.pressure
    gig = people.are("gig")
    irregular = 1.2 * gig + 1.6 * people.are("self_employed")
    working = sigmoid(0.8 + 0.7 * stable + 0.3 * able - irregular + _blur(rng, size, 0.9))
    short = sigmoid(-1.5 - 0.45 * able + 0.45 * pressed + _blur(rng, size, 0.85))
    savings = np.exp(7.2 + 0.9 * able + 0.2 * will - 0.25 * pressed + _blur(rng, size, 1.1))
    swing = np.exp(-1.1 - 0.30 * stable - 0.12 * able + 0.25 * gig + _blur(rng, size, 0.35))
    inflow = people.income * np.exp(_blur(rng, size, 0.35))
    spent = np.exp(-0.06 + 0.08 * pressed - 0.06 * able + _blur(rng, size, 0.14))
    on_time = _share(2.3 + 0.60 * will + 0.25 * stable + _blur(rng, size, 0.95))
    frame = pl.DataFrame(
        {
            "tenure_months": np.floor((rng.gamma(2.4, 20, size) * np.exp(0.2 * stable)).clip(0, 180)),
            "inflow_median_6m_cny": np.round(inflow, 2),
            "inflow_cv_6m": np.round(swing, 4),
            "salary_like_months_12m": np.round(12 * working).astype(np.int8),
            "net_flow_6m_cny": np.round(6 * inflow * (1 - spent), 2),
            "low_balance_days_90d": np.round(90 * short).astype(np.int16),
            "failed_debits_90d": _count(rng, -2.1 - 0.35 * will - 0.35 * able + 0.35 * pressed, 0.5),
            "utility_ontime_rate_12m": np.where(rng.random(size) < 0.15, -1, on_time),
            "distinct_lenders_90d": _count(rng, -1.0 - 0.10 * will + 0.45 * pressed, 0.4),
            "savings_balance_cny": np.round(savings, 2),
        }
    )
    odd = {"low_balance_days_90d": 900, "failed_debits_90d": 500, "savings_balance_cny": 99_999_999.0}
    return _as_file(frame, people, rng, odd)


def ecommerce(people: People, rng: Generator) -> pl.DataFrame:
    """What a shop knows from orders and deliveries; the two shops call it apart, so each sees its own part."""
    size = len(people.age)
    will, stable, able, pressed = people.will_shop, people.stability, people.ability, people.pressure
    tenure = (rng.gamma(2.0, 18, size) * np.exp(0.25 * stable)).clip(0, 180)
    busy = np.exp(2.9 + 0.35 * (0.35 * able + 0.25 * stable + _blur(rng, size, 0.9)))
    orders = rng.poisson(busy * np.minimum(1, tenure / 12 + 0.05))
    pays_later = rng.random(size) < sigmoid(-0.6 + 0.5 * pressed)
    on_time = _share(2.6 + 0.60 * will - 0.55 * pressed + _blur(rng, size, 1.0))
    active = (6 + 1.1 * stable + 0.9 * able + _blur(rng, size, 2.6)).clip(0, 12)
    night = _share(-1.8 - 0.30 * will + 0.20 * pressed - 0.015 * (people.age - 35) + _blur(rng, size, 0.8))
    favourite = np.array(["groceries", "clothing", "electronics", "games"])
    taste = np.stack([0.3 * stable, 0 * stable, 0.2 * able, -0.3 * will], axis=1)
    frame = pl.DataFrame(
        {
            "tenure_months": np.floor(tenure),
            "orders_12m": orders.astype(np.int32),
            "gmv_12m_cny": np.round(orders * np.exp(4.4 + 0.25 * able + _blur(rng, size, 0.45)), 2),
            "active_months_12m": np.round(active).astype(np.int8),
            "return_rate_12m": _share(-2.2 - 0.30 * will + 0.15 * pressed + _blur(rng, size, 0.8)),
            "delivery_refusal_rate_12m": _share(-4.2 - 0.50 * will + _blur(rng, size, 1.1)),
            "night_order_share": night,
            "address_changes_12m": _count(rng, -0.4 - 0.35 * stable, 0.5),
            "main_category": pl.Series(favourite).gather(np.argmax(taste + rng.gumbel(size=(size, 4)), axis=1)),
            "bnpl_used": pays_later,
            "bnpl_ontime_rate_12m": np.where(pays_later, on_time, -1),
        }
    )
    odd = {"orders_12m": 50_000, "return_rate_12m": 1.7, "main_category": "voucher"}
    return _as_file(frame, people, rng, odd)


def tax_business(people: People, rng: Generator) -> pl.DataFrame:
    """What tax and business registers know: one half of the columns for owners, the other for employees."""
    size = len(people.age)
    will, strong, pressed, owner = people.will_tax, people.business, people.pressure, people.owner
    uninsured = 2.0 * people.are("student") + 1.1 * people.are("gig")
    owes = rng.random(size) < sigmoid(-2.0 - 0.5 * will - 0.5 * strong + 0.3 * pressed)
    arrears = np.exp(6 + 0.6 * pressed - 0.6 * will - 0.4 * strong + _blur(rng, size, 1.2))
    merit = 0.50 * will + 0.45 * strong + 0.2 * people.stability + _blur(rng, size, 0.7)
    grade = pl.Series(["D", "C", "M", "B", "A"]).gather(np.digitize(merit, [-1.6, -0.7, 0.3, 1.2]))
    insured = sigmoid(0.9 + 0.6 * people.stability + 0.25 * people.ability - uninsured + _blur(rng, size, 0.8))
    for_owners = {
        "business_age_months": np.floor((rng.gamma(1.8, 26, size) * np.exp(0.35 * people.stability)).clip(0, 360)),
        "sales_12m_cny": np.round(np.exp(12.6 + 0.75 * strong + 0.25 * people.ability + _blur(rng, size, 0.7))),
        "sales_growth_yoy": np.round((0.04 + 0.16 * strong - 0.06 * pressed + _blur(rng, size, 0.28)).clip(-1, 5), 4),
        "filing_ontime_rate_24m": _share(2.4 + 0.55 * will + 0.35 * strong + _blur(rng, size, 0.8)),
        "credit_grade": grade,
        "arrears_cny": np.round(arrears * owes),
    }
    for_employees = {
        "taxed_income_monthly_cny": np.round(people.income * np.exp(_blur(rng, size, 0.25)), 2),
        "social_insurance_months_24m": np.round(24 * insured),
    }
    only_owners, only_employees = pl.col("is_owner"), ~pl.col("is_owner")
    frame = pl.DataFrame({"is_owner": owner, **for_owners, **for_employees})
    frame = frame.with_columns(pl.when(only_owners).then(pl.col(name)).alias(name) for name in for_owners)
    frame = frame.with_columns(pl.when(only_employees).then(pl.col(name)).alias(name) for name in for_employees)
    return _as_file(frame, people, rng, {"credit_grade": "Z", "social_insurance_months_24m": 99.0})


def _ids(people: People) -> pl.Series:
    """Text ids such as P0000123: leading zeros are part of them."""
    return pl.Series("id", people.number).cast(pl.String).str.zfill(7).str.replace("^", "P")


def _blur(rng: Generator, size: int, spread: float) -> FloatArray:
    """Noise of a record around the truth."""
    return rng.normal(0, spread * _NOISE, size)


def _share(log_odds: FloatArray) -> FloatArray:
    """A share in [0, 1], to four places."""
    return np.round(sigmoid(log_odds), 4)


def _count(rng: Generator, log_mean: FloatArray, spread: float) -> NDArray[np.int16]:
    """A count of events whose rate scatters around exp(`log_mean`)."""
    rate = np.exp(log_mean + _blur(rng, len(log_mean), spread))
    return rng.poisson(np.minimum(rate, 1_000)).astype(np.int16)


def _as_file(frame: pl.DataFrame, people: People, rng: Generator, odd: Mapping[str, object]) -> pl.DataFrame:
    """The frame with ids in front, gaps in every column, and a few values outside the contract's range or list."""
    changed = []
    for name in frame.columns:
        luck = pl.lit(pl.Series(rng.random(frame.height)))
        value = pl.col(name)
        if name in odd:
            value = pl.when(luck > 1 - _ODD_RATE).then(pl.lit(odd[name])).otherwise(value)
        changed.append(pl.when(luck >= _GAP_RATE).then(value).cast(frame.schema[name]).alias(name))
    return frame.with_columns(changed).insert_column(0, _ids(people))
