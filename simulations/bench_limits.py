"""How fast one core decides on limits: latency of `decide` and throughput from JSON to JSON, measured, never tested."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta
from random import Random
from typing import Any

from model.limits.decide import decide
from model.limits.fields import canonical
from model.limits.policy import load_policy
from model.limits.reasons import IMPROVEMENT_CODES
from model.limits.request import (
    Applicant,
    BlockEvidence,
    Contribution,
    DecisionRequest,
    Improvement,
    StateSnapshot,
    parse_request,
)
from model.limits.strict_json import loads
from model.limits.table import DecisionBundle, Default, FusionTable

_NOW = datetime.fromisoformat("2026-11-23T10:00:00+08:00")
_DOMAINS = ("ecommerce", "payments", "tax_business")
_WEIGHTS = {"ecommerce": 700_000, "payments": 900_000, "tax_business": 600_000, "lender_kyc": 1_000_000}
_RULE = Default(
    -3_000_000,
    _WEIGHTS,
    {"ecommerce": 150_000, "payments": 200_000, "tax_business": -50_000},
    {"ecommerce": 30_000, "payments": 60_000, "tax_business": 10_000},
)
_SEED = 20261123


def core_latency(count: int = 5000) -> dict[str, Any]:
    """Latency and throughput of the core over a mix of applicants and accounts, on one core of this machine.

    Of the persons some 25 % have no relationship with a domain, 10 % of the blocks are stale or late, a third declares
    an income that nobody verified, a third has an account; data holders name up to three improvements a block. With
    `explain` the search for next steps (income, improvements, the ladder) is in the time. Times are of this thread on
    its core, so that other work on the machine does not count.

    Args:
        count: how many different decisions, each timed once after a first pass over other ones.

    Returns:
        `plain` and `explained`: `p50`, `p99`, `max` in microseconds; `per_second`: request JSON read strictly, decided
        on without next steps, and written as canonical JSON; `outcomes`: how many of each.

    >>> sorted(core_latency(20))
    ['count', 'explained', 'outcomes', 'per_second', 'plain']
    """
    policy = load_policy()
    table = FusionTable(_DOMAINS, "lender_kyc", {}, _RULE)
    bundle = DecisionBundle("bench-1", "0" * 64, table, "subscores", dict.fromkeys(table.blocks, 0))
    random = Random(_SEED)
    asked = [(_request(random, at), _state(random)) for at in range(count + count // 5)]
    first, cases = asked[count:], asked[:count]
    for request, state in first:
        decide(request, policy, bundle, state, _NOW)
    times: dict[bool, list[int]] = {False: [], True: []}
    outcomes: Counter[str] = Counter()
    for explain, taken in times.items():
        for request, state in cases:
            begun = time.thread_time_ns()
            decision = decide(request, policy, bundle, state, _NOW, explain=explain)
            taken.append(time.thread_time_ns() - begun)
            outcomes[decision.decision] += explain
    texts = [(canonical(request), state) for request, state in cases]
    begun = time.thread_time_ns()
    for text, state in texts:
        request = parse_request(loads(text, "bench"), "bench")
        decide(request, policy, bundle, state, _NOW, explain=False).to_json()
    per_second = count * 10**9 // (time.thread_time_ns() - begun)
    told = {"plain": _quantiles(times[False]), "explained": _quantiles(times[True])}
    return {"count": count, **told, "per_second": per_second, "outcomes": dict(outcomes)}


def _quantiles(taken_ns: list[int]) -> dict[str, float]:
    """Median, 99th percentile and largest, in microseconds."""
    ordered = sorted(taken_ns)
    places = {"p50": len(ordered) // 2, "p99": len(ordered) * 99 // 100, "max": len(ordered) - 1}
    return {name: round(ordered[at] / 1000, 1) for name, at in places.items()}


def _request(random: Random, number: int) -> DecisionRequest:
    blocks = {domain: _block(random, domain) for domain in _DOMAINS if random.random() < 0.75}
    kyc = Applicant(
        passed=random.random() < 0.98,
        age_years=random.randint(18, 64),
        segment=random.choice(("salaried", "salaried", "self_employed", "gig", "other")),
        income_fen_month=random.choice((random.randint(100_000, 600_000), random.randint(400_000, 3_000_000))),
        income_source=random.choice(("verified", "partner_estimated", "declared")),
        existing_debt_service_fen_month=random.choice((0, 0, random.randint(0, 300_000))),
        other_consumer_credit_fen=random.choice((0, 0, 5_000_000)),
        logit_e6=int(random.gauss(-200_000, 700_000)),
        reasons=(Contribution("income", random.randint(-100_000, 200_000)),),
    )
    one = f"00000000-0000-4000-8000-{number:012x}"
    requested = random.choice((None, random.randint(5, 500) * 10_000))
    return DecisionRequest(one, f"{number:064x}", "new", _NOW, "consumer", requested, 12, kyc, blocks)


def _block(random: Random, domain: str) -> BlockEvidence:
    parts = (Contribution("repayment", random.randint(-200_000, 300_000)), Contribution("activity", 40_000))
    codes = random.sample(sorted(IMPROVEMENT_CODES), random.randint(0, 3))
    better = tuple(Improvement(code, -random.randint(20_000, 300_000), random.randint(10, 90)) for code in codes)
    evidence = BlockEvidence(
        covered=True,
        consent=random.random() < 0.95,
        logit_e6=int(random.gauss(0, 600_000)),
        as_of=_NOW - timedelta(hours=random.randint(1, 40)),
        tenure_months=random.randint(1, 60),
        reasons=parts,
        next_steps=better,
    )
    late = random.random()
    if late < 0.05:
        return replace(evidence, as_of=None, logit_e6=None)
    return replace(evidence, as_of=_NOW - timedelta(hours=150)) if late < 0.1 and domain != "tax_business" else evidence


def _state(random: Random) -> StateSnapshot:
    if random.random() < 0.67:
        return StateSnapshot()
    rung = random.randint(0, 3)
    return StateSnapshot(
        current_limit_fen=(50_000, 100_000, 200_000, 400_000)[rung],
        stage=random.choice(("trial", "trial", "standard")),
        rung=rung,
        days_since_increase=random.randint(10, 200),
        clean_cycles=random.randint(0, 2),
        clean_total=random.randint(0, 12),
        lates_12m=random.choice((0, 0, 0, 1)),
    )
