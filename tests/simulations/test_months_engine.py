"""The vectorised engine against the scalar decision, case by case, at random and near every threshold."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from model.limits.decide import decide
from model.limits.policy import load_policy
from model.limits.request import Applicant, BlockEvidence, DecisionRequest, Flags, StateSnapshot
from model.limits.schema import Policy
from model.points import pd_e8 as scalar_pd_e8
from model.points import score_of
from simulations.months.applicants import DOMAINS, SEGMENTS, draw_applicants
from simulations.months.arrivals import cases_of
from simulations.months.engine import (
    NEVER,
    SOURCES,
    STAGES,
    STATUSES,
    VERDICTS,
    Accounts,
    Cases,
    Engine,
    nobody,
    pd_e8,
)
from simulations.months.evidence import Model, fit_model
from simulations.months.policies import capped, variants

SHIPPED = load_policy()
POLICIES: dict[str, Policy] = {variant.code: variant.policy for variant in variants(SHIPPED)} | {
    "thick": replace(SHIPPED, classes=replace(SHIPPED.classes, thick_trial=True)),
    "capped": capped(SHIPPED, 1200),
}


@pytest.fixture(scope="module")
def model() -> Model:
    return fit_model(persons=6000)


def _cases(model: Model, n: int, seed: int) -> Cases:
    """Applicants, some with late blocks; for half the lender's own sub-score puts the upper PD near a threshold."""
    rng = np.random.default_rng(seed)
    people = draw_applicants(rng, n)
    cases = cases_of(people, model.logits_e6(people))
    late = rng.random(cases.covered.shape) < 0.1
    cases = replace(cases, available=cases.covered & ~late, income_source=rng.integers(0, len(SOURCES), n))
    engine = Engine(SHIPPED, model.bundle)
    lines = [tier.pd_max_bp for tier in SHIPPED.pricing]
    target = np.log(1 / (1e4 / rng.choice(lines, n) - 1)) * 1e6
    margin = np.array(SHIPPED.confidence.margin_e6)[cases.available.sum(axis=1)]
    wanted = target - margin + rng.integers(-60_000, 60_001, n)
    _, weights = engine._table
    pair = (cases.covered @ [1, 2, 4]) * 8 + cases.available @ [1, 2, 4]
    own = weights[pair, -1]
    moved = cases.logits_e6[:, -1] + (wanted - engine.z_e6(cases)) * 1e6 / np.maximum(own, 50_000)
    near = rng.random(n) < 0.5
    cases.logits_e6[near, -1] = np.clip(moved, -2e7, 2e7).astype(np.int64)[near]
    return cases


def _accounts(n: int, seed: int) -> Accounts:
    """Half new, half anything that an account can be."""
    rng = np.random.default_rng(seed)
    old = rng.random(n) < 0.5
    columns: dict[str, Any] = {
        "stage": rng.integers(0, len(STAGES), n),
        "status": rng.choice([STATUSES.index(s) for s in ("open", "open", "open", "hold", "frozen", "closed")], n),
        "rung": rng.integers(0, 6, n),
        "limit_fen": rng.integers(0, 60, n) * 10_000,
        "dpd_now": rng.choice([0, 0, 0, 0, 3, 29, 30, 45], n),
        "days_since_increase": rng.choice([NEVER, 0, 54, 55, 90], n),
        "increases_365d": rng.integers(0, 6, n),
        "clean_total": rng.integers(0, 15, n),
        "lates_12m": rng.choice([0, 0, 0, 1, 2, 3], n),
        "points": rng.choice([0, 599, 600, 1499, 1500, 5000], n),
    }
    blank = nobody(n)
    return Accounts(**{name: np.where(old, value, getattr(blank, name)) for name, value in columns.items()})


def _request(cases: Cases, accounts: Accounts, at: int, policy: Policy) -> DecisionRequest:
    now = policy.effective_from
    kyc = Applicant(
        True, int(cases.age_years[at]), SEGMENTS[cases.segment[at]], int(cases.income_fen[at]),
        SOURCES[cases.income_source[at]], int(cases.debt_service_fen[at]), int(cases.other_credit_fen[at]),
        logit_e6=int(cases.logits_e6[at, -1]),
    )  # fmt: skip
    blocks = {}
    for place, domain in enumerate(DOMAINS):
        if cases.covered[at, place]:
            logit = int(cases.logits_e6[at, place]) if cases.available[at, place] else None
            tenure = int(cases.tenure_months[at, place])
            blocks[domain] = BlockEvidence(True, True, logit, now, tenure_months=tenure)
    return DecisionRequest(
        str(at), "", "new", now, policy.product, int(cases.requested_fen[at]), 12, kyc, blocks,
        int(accounts.points[at]), Flags(decide_now=True),
    )  # fmt: skip


def _state(accounts: Accounts, at: int, policy: Policy) -> StateSnapshot:
    days = int(accounts.days_since_increase[at])
    status, dpd = STATUSES[accounts.status[at]], int(accounts.dpd_now[at])
    return StateSnapshot(
        current_limit_fen=int(accounts.limit_fen[at]),
        dpd_now=dpd,
        stage=STAGES[accounts.stage[at]],
        rung=int(accounts.rung[at]),
        days_since_increase=None if days == NEVER else days,
        increases_365d=int(accounts.increases_365d[at]),
        status=status,
        risk_hold=status != "open" or dpd > 0,
        clean_total=int(accounts.clean_total[at]),
        lates_12m=int(accounts.lates_12m[at]),
        trials_stopped=policy.portfolio.trials_per_day == 0,
    )


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_the_engine_decides_as_the_scalar_function_does(model, name) -> None:
    """10,000 cases in all; verdict, amount, price, score and thinness to the last digit."""
    n = 10_000 // len(POLICIES) + 1
    policy, seed = POLICIES[name], sorted(POLICIES).index(name)
    cases, accounts = _cases(model, n, seed), _accounts(n, seed)
    offers = Engine(policy, model.bundle).decide(cases, accounts)
    score = offers.score
    for at in range(n):
        request = _request(cases, accounts, at, policy)
        want = decide(request, policy, model.bundle, _state(accounts, at, policy), request.as_of, explain=False)
        amount = int(offers.amount_fen[at])
        got = (
            VERDICTS[offers.verdict[at]],
            amount,
            int(offers.apr_bp[at]) if amount else None,
            score[at],
            offers.thin[at],
        )
        assert got == (want.decision, want.amount_fen, want.apr_bp, want.score, want.thin), at
        assert offers.z_e6[at] == want.z_e6
    assert set(offers.verdict) == {0, 1, 2} or name == "A"


def test_the_sample_reaches_every_kind_of_offer(model) -> None:
    offers = Engine(SHIPPED, model.bundle).decide(_cases(model, 4000, 9), _accounts(4000, 9))
    given = offers.kind[offers.amount_fen > 0]
    assert min(np.bincount(given, minlength=3)) > 50


def test_pd_is_exact_also_where_floating_point_cannot_say_how_to_round() -> None:
    rng = np.random.default_rng(0)
    # z at which 1e8 x PD is half a whole number, to the micro-logit, and its neighbours
    halves = rng.integers(1, 30_000_000, 3000) + 0.5
    near = np.round(np.log(halves / (1e8 - halves)) * 1e6).astype(np.int64)
    z = np.concatenate([near - 1, near, near + 1, rng.integers(-50_000_000, 50_000_000, 2000), [0, -(10**12), 10**12]])
    assert pd_e8(z).tolist() == [scalar_pd_e8(int(value)) for value in z]


def test_scores_are_those_of_the_scale(model) -> None:
    offers = Engine(SHIPPED, model.bundle).decide(_cases(model, 500, 3), nobody(500))
    assert offers.score.tolist() == [score_of(int(z)) for z in offers.z_e6]


def test_a_policy_without_trials_gives_none_to_new_thin_files(model) -> None:
    cases = _cases(model, 3000, 4)
    offers = Engine(POLICIES["A"], model.bundle).decide(cases, nobody(3000))
    assert offers.thin.any()
    assert not offers.amount_fen[offers.thin].any()
