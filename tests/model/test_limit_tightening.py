"""M5, licences and fees: a tighter rule in the policy never gives more, and no price with its fees passes the law."""

from __future__ import annotations

import tomllib
from copy import deepcopy
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from model.inputs import InputError
from model.limits import policy as module
from model.limits.costs import cost_table, schedule
from model.limits.policy import load_policy, parse_policy

SHIPPED = tomllib.loads(Path(module.__file__).with_name("policy.toml").read_text(encoding="utf-8"))
LOWER = {"salaried": 80_000, "gig": 60_000, "other": 55_000, "self_employed": 1, "student": 0}
TIGHTER = {
    "limit.el_budget_fen": (30_000, 59_999),
    "limit.dsti_bp": (1000, 3499),
    "limit.income_multiple_bp": (10_000, 39_999),
    "limit.term_months": (3, 11),
    "limit.min_fen": (60_000, 100_000),
    "limit.segment_cap_fen": (LOWER,),
    "limit.income_haircut_bp": ({"verified": 500, "partner_estimated": 3000, "declared": 2001},),
    "legal.consumer_cap_fen": (20_000_000 - 1, 19_000_000),
    "economics.lgd_bp": (8600, 10_000),
    "economics.ccf_bp": (9600, 10_000),
    "classes.standard_pd_max_bp": (700, 476),
    "classes.trial_pd_max_bp": (1000, 818),
    "classes.strong_thin_pd_max_bp": (400, 100),
    "classes.thin_seasoning_bp": (1000, 4999),
    "confidence.margin_e6": ((300_000, 200_000, 100_000, 50_000), (250_001, 150_001, 50_001, 1)),
    "confidence.se_mult_bp": (13_000, 30_000),
    "behaviour.late_e6": ((0, 800_000, 2_000_000),),
    "behaviour.clean_e6": (-10_000, 0),
    "trial.rungs_fen": ((50_000, 90_000, 100_000, 390_000), (50_000, 60_000, 70_000, 80_000)),
    "velocity.max_step_bp": (10_000, 15_000),
    "velocity.min_days_between_increases": (56, 100),
    "velocity.max_increases_365d": (3, 0),
    "legal.ineligible_segments": (("student", "gig"),),
    "legal.max_age": (30, 29),
    "points": (0,),
}


def changed(policy, path, value):
    """The policy with one field set, whatever the lint would say."""
    if path == "points":  # the granted share of the risk cap, with and without points
        return replace(policy, points=tuple(replace(tier, share_bp=tier.share_bp * 8 // 9) for tier in policy.points))
    section, name = path.split(".")
    return replace(policy, **{section: replace(getattr(policy, section), **{name: value})})


def capped(policy):
    """The shipped policy with segment caps low enough to bind."""
    return replace(policy, limit=replace(policy.limit, segment_cap_fen={**LOWER, "salaried": 200_000, "gig": 90_000}))


@pytest.mark.parametrize("path", TIGHTER)
def test_m5_a_tighter_rule_never_gives_more(near, path):
    draw, lowered = near(500 + len(path)), 0
    for count in range(260):
        case = draw.case()
        if path == "limit.segment_cap_fen":
            case = replace(case, policy=capped(case.policy))
        if path == "legal.consumer_cap_fen":
            case = near.kyc(case, other_consumer_credit_fen=draw.random.choice((18_940_000, 19_940_000, 19_930_000)))
        values = TIGHTER[path]
        tight = replace(case, policy=changed(case.policy, path, values[count % len(values)]))
        before, after = near.answer(case).amount_fen, near.answer(tight).amount_fen
        assert after <= before, (values, case)
        lowered += after < before
    assert lowered


def shipped(**changes):
    data = deepcopy(SHIPPED)
    for path, value in changes.items():
        *way, last = path.split("__")
        at = data
        for name in way:
            at = at[name]
        at[last] = value
    return data


@pytest.mark.parametrize(
    ("lender", "until", "highest"),
    [
        ("consumer_finance", "2027-11-01", 2000),
        ("bank_coop", "2027-11-01", 2400),
        ("microloan", "2027-11-01", 2400),
        ("microloan", "2027-12-31", 2400),
        ("microloan", "2028-01-01", 1200),
    ],
)
def test_s3_the_price_may_reach_the_licence_s_own_cap_that_is_in_force_and_no_more(lender, until, highest):
    expires = datetime.fromisoformat(until + "T00:00:00+08:00")
    prices = [{**tier, "apr_bp": min(tier["apr_bp"], highest)} for tier in SHIPPED["pricing"]]
    common = {"legal__lender_type": lender, "expires_at": expires, "economics__lgd_bp": 1}
    top = [*prices[:-1], {**prices[-1], "apr_bp": highest}]
    assert parse_policy(shipped(**common, pricing=top), "p").pricing[-1].apr_bp == highest
    over = [*prices[:-1], {**prices[-1], "apr_bp": highest + 1}]
    with pytest.raises(InputError, match=rf"pricing\[4\]\.apr_bp must be <= {highest}"):
        parse_policy(shipped(**common, pricing=over), "p")


def true_rate_bp(amount, payments):
    """Twelve times the monthly rate at which the payments are worth the amount, in basis points, by halving."""
    low, high = 0.0, 2.0
    while high - low > 1e-9:
        middle = (low + high) / 2
        worth = sum(paid / (1 + middle / 12) ** month for month, paid in enumerate(payments, 1))
        low, high = (middle, high) if worth > amount else (low, middle)
    return high * 10_000


@pytest.mark.parametrize(("amount", "apr", "months"), [(50_000, 1980, 3), (1_000_000, 1500, 12), (19_990_000, 900, 60)])
def test_the_true_annual_rate_of_interest_and_fees_is_no_more_than_the_two_together(amount, apr, months):
    fee = {"code": "guarantee", "zh": "担保费", "en": "Guarantee fee", "payee": "guarantor", "annual_bp": 20}
    policy = parse_policy(shipped(fee=[*SHIPPED["fee"], fee]), "p")
    rows = {row.code: row for row in cost_table(policy, amount, apr, months)}
    plan = schedule(amount, apr, months)
    assert sum(part.principal_fen for part in plan) == amount
    assert all(part.principal_fen > 0 and part.interest_fen >= 0 for part in plan)
    assert rows["late"].total_fen is None
    paid = [part.principal_fen + part.interest_fen for part in plan]
    assert true_rate_bp(amount, paid) <= apr + 0.01
    owed = [sum(part.principal_fen for part in plan[at:]) for at in range(months)]
    fees = [fen * 20 / 120_000 for fen in owed]
    assert rows["guarantee"].total_fen == pytest.approx(sum(fees), abs=1)
    assert true_rate_bp(amount, [a + b for a, b in zip(paid, fees, strict=True)]) <= apr + 20 + 0.01


def test_fees_lower_what_the_price_may_be_and_a_contingent_one_does_not():
    fee = {"code": "guarantee", "zh": "担保费", "en": "Guarantee fee", "payee": "guarantor", "annual_bp": 20}
    assert parse_policy(shipped(fee=[fee]), "p")
    with pytest.raises(InputError, match=r"pricing\[4\]\.apr_bp must be <= 1979"):
        parse_policy(shipped(fee=[{**fee, "annual_bp": 21}]), "p")
    assert parse_policy(shipped(fee=[{**fee, "annual_bp": 9999, "contingent": True}]), "p")


def test_points_never_take_the_price_below_nothing(near):
    policy = load_policy()
    free = replace(policy, points=(*policy.points[:2], replace(policy.points[2], apr_off_bp=900)))
    draw, lowest = near(9, free), []
    for _ in range(600):
        got = draw.answer(draw.asked(draw.case(), points=1500))
        lowest += [got.apr_bp] if got.amount_fen else []
    assert min(lowest) >= 0
    points = [*SHIPPED["points"][:2], {"points": 1500, "share_bp": 10_000, "apr_off_bp": 901}]
    with pytest.raises(InputError, match=r"pricing\[0\]\.apr_bp must carry its worst PD"):
        parse_policy(shipped(points=points, economics__lgd_bp=1, economics__fund_cost_bp=0, economics__opex_bp=0), "p")
