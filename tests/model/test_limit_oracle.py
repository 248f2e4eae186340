"""An independent oracle: kind, amount and price by trying every whole amount against the rules, written from the text.

It knows the policy file and the request, in fractions and mpmath; nothing of `model.limits` but the data classes.
"""

from __future__ import annotations

import tomllib
from collections import Counter
from datetime import timedelta
from fractions import Fraction
from functools import cache
from pathlib import Path

import mpmath

from model.limits import policy as module

P = tomllib.loads(Path(module.__file__).with_name("policy.toml").read_text(encoding="utf-8"))
BP = Fraction(1, 10_000)
GATED = ("frozen", "closed")


def usable(block, domain, now):
    """What a domain's data is worth now: `none`, `late`, `stale` or `fresh`."""
    rule = P["freshness"][domain]
    if block is None or not block.covered or not block.consent:
        return "none"
    if block.consent_until is not None and block.consent_until <= now:
        return "none"
    if block.quality != "ok" or block.as_of is None or block.logit_e6 is None or block.as_of > now:
        return "late"
    age = (now - block.as_of) / timedelta(hours=1)
    return "fresh" if age <= rule["fresh_hours"] else "stale" if age <= rule["stale_hours"] else "late"


def risk(case):
    """z, margin and thinness, from the bundle's default rule."""
    request, rule, conf = case.request, case.bundle.table.default, P["confidence"]
    worth = {d: usable(request.blocks.get(d), d, request.as_of) for d in case.bundle.table.optional}
    used = [d for d, how in worth.items() if how in ("fresh", "stale")]
    told = rule.weights_e6["lender_kyc"] * request.kyc.logit_e6
    told += sum(rule.weights_e6[d] * request.blocks[d].logit_e6 for d in used)
    z = rule.intercept_e6 + told // 10**6
    z += sum({"none": rule.absent_e6[d], "late": rule.late_e6[d]}.get(how, 0) for d, how in worth.items())
    z += -30_000 * min(case.state.clean_total, 12) + [0, 700_000, 1_600_000][min(case.state.lates_12m, 2)]
    error = max([request.kyc.model_se_e6] + [request.blocks[d].model_se_e6 for d in used])
    margin = conf["margin_e6"][len(used)] + conf["se_mult_bp"] * error // 10_000
    margin += sum(P["freshness"][d]["stale_margin_e6"] for d in used if worth[d] == "stale")
    thin = len(used) < 2 or sum(request.blocks[d].tenure_months for d in used) < 12
    return z, z + margin, thin


def pd_of(z):
    """In 1e-8, to the nearest even."""
    with mpmath.workdps(40):
        return int(mpmath.nint(10**8 / (1 + mpmath.exp(-mpmath.mpf(z) / 10**6))))


@cache
def annuity(apr, months):
    """What 1 a month is worth now, to the sixth place below."""
    rate = Fraction(apr, 120_000)
    return Fraction(int(sum(1 / (1 + rate) ** month for month in range(1, months + 1)) * 10**6), 10**6)


def allowed(case, amount, pd, apr):
    """Whether every cap lets this amount through, but for those of the kind of offer."""
    request, state, limit, v = case.request, case.state, P["limit"], P["velocity"]
    kyc, months = request.kyc, min(request.term_months, limit["term_months"])
    net = kyc.income_fen_month * (10_000 - limit["income_haircut_bp"][kyc.income_source]) // 10_000
    free = max(0, net * limit["dsti_bp"] // 10_000 - kyc.existing_debt_service_fen_month)
    blocked = state.status == "hold" or state.increases_365d >= v["max_increases_365d"]
    early = state.days_since_increase is not None and state.days_since_increase < v["min_days_between_increases"]
    account = (
        not state.current_limit_fen or amount <= state.current_limit_fen * (1 if blocked or early else 2),
        state.portfolio_headroom_fen is None or amount <= state.portfolio_headroom_fen,
        request.requested_fen is None or amount <= request.requested_fen,
    )
    loss = Fraction(max(pd, 1), 10**8) * Fraction(85, 100) * Fraction(95, 100)
    means = (
        amount * loss <= limit["el_budget_fen"],
        amount <= free * annuity(apr, months),
        amount <= 4 * net,
        amount <= limit["segment_cap_fen"][kyc.segment],
        amount <= P["legal"]["consumer_cap_fen"] - kyc.other_consumer_credit_fen,
    )
    return all(account), all(means)


def ceiling(case, pd, apr):
    """The largest amount that risk and means allow, in fen: grown by whole increments, then by single fen."""
    low, step = 0, 10**9
    while step:
        if allowed(case, low + step, pd, apr)[1]:
            low += step
        else:
            step //= 10
    return low


def oracle(case):
    """(kind, amount, annual rate): the largest whole amount of any eligible kind, or Nones."""
    kyc, state, request = case.request.kyc, case.state, case.request
    gate = not kyc.passed or not 18 <= kyc.age_years <= 65 or kyc.segment == "student" or kyc.fraud_flag
    many = request.purpose in ("new", "increase") and state.applications_30d >= 3
    if gate or many or state.dpd_now >= 30 or state.status in GATED:
        return None, 0, None
    _, upper, thin = risk(case)
    pd = pd_of(upper)
    apr = next((tier["apr_bp"] for tier in P["pricing"] if pd <= tier["pd_max_bp"] * 10_000), None)
    if apr is None:
        return None, 0, None
    points = 0 if state.risk_hold else request.points
    tier = [tier for tier in P["points"] if tier["points"] <= points][-1]
    risky = ceiling(case, pd, apr)
    stopped = state.trials_stopped and state.stage == "none"
    standard = pd <= 8_180_000 and (not thin or state.stage == "standard")
    kinds = {}
    if standard:
        kinds["STANDARD"] = risky * tier["share_bp"] // 10_000, risky * 9000 // 10_000
    if thin and not standard and pd <= 4_760_000:
        standard = min(risky * 9000 // 10_000, 10**15 if request.requested_fen is None else request.requested_fen)
        kinds["SEASONING"] = 2 * (0 if stopped else standard // 2,)
    if standard or thin:
        rung = [50_000, 100_000, 200_000, 400_000][min(state.rung, 3)]
        kinds["TRIAL"] = 2 * (0 if stopped else min(rung, max(50_000, risky * 9000 // 10_000)),)
    best = (None, 0)
    for kind, caps in kinds.items():
        plain, granted = (largest(case, cap, risky, pd, apr) for cap in reversed(caps))
        if plain > best[1]:
            best = (kind, plain)
            amount = granted
    return (best[0], amount, apr - tier["apr_off_bp"]) if best[0] else (None, 0, None)


def largest(case, cap, risky, pd, apr):
    """The largest multiple of the increment from the smallest limit on that caps and account allow; 0 if none."""
    found = 0
    for amount in range(50_000, min(cap, risky) + 1, 10_000):
        if not allowed(case, amount, pd, apr)[0]:
            break
        found = amount
    return found


def test_the_oracle_gives_the_same_kind_amount_and_price(near):
    draw, seen = near(120), Counter()
    for _ in range(3000):
        case = draw.case()
        gated = draw.random.random() < 0.1
        if gated:
            case = draw.state(case, status=draw.random.choice(GATED), applications_30d=draw.random.randint(0, 4))
        got, (kind, amount, apr) = draw.answer(case), oracle(case)
        assert (got.kind, got.amount_fen, got.apr_bp) == (kind, amount, apr), case
        z, upper, thin = risk(case)
        assert (got.z_e6, got.margin_e6, got.thin) == (z, upper - z, thin)
        seen[kind] += 1
    assert min(seen[kind] for kind in ("STANDARD", "SEASONING", "TRIAL", None)) > 60
