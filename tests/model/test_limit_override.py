"""A person's override within its bounds, and the arms of an experiment."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from random import Random

import pytest
from scipy import stats

from model.inputs import InputError
from model.limits.experiment import arm_bp
from model.limits.override import OverrideOrder, ceiling, overridden
from model.limits.policy import load_policy
from model.limits.request import Flags
from model.limits.states import standing_of

POLICY = load_policy()
HARD = ("AFFORDABILITY", "INCOME_MULTIPLE", "LEGAL_CONSUMER", "VELOCITY", "PORTFOLIO", "REQUESTED")


def order(amount, expires_at=None):
    return OverrideOrder(amount, "income_evidence", "payslips seen", "0" * 64, expires_at)


def test_a_person_may_go_past_soft_caps_and_never_past_law_means_or_a_gate(near):
    draw, further, soft = near(60), 0, set()
    for _ in range(3000):
        case = draw.case()
        if draw.random.random() < 0.3:
            case = near.kyc(
                case, segment="other", income_fen_month=2_000_000, logit_e6=case.request.kyc.logit_e6 - 10**6
            )
            case = near.asked(case, requested_fen=None)
        got, (most, offer) = near.answer(case), ceiling(case)
        stopped = case.state.trials_stopped and offer.kind == "STANDARD"  # stopped are small limits only
        hard = [got.caps[name] for name in HARD if name in got.caps and not (stopped and name == "PORTFOLIO")]
        assert most <= min(hard, default=0)
        assert most <= got.caps.get("EL_BUDGET", 0) * 3 // 2
        assert most >= got.amount_fen
        assert most % 10_000 == 0
        if offer.kind == "TRIAL":
            assert most <= POLICY.trial.rungs_fen[min(case.state.rung + 1, 3)]
        assert (offer.tier, offer.apr_bp) == (0, 0) if not got.caps else offer.tier
        if most > got.amount_fen:
            further += 1
            soft.add(got.binding_cap)
            made = overridden(case, got, order(most), case.request.as_of)
            assert (made.amount_fen, made.reasons[0].code, made.score) == (most, "H03", got.score)
            assert 0 <= made.apr_bp <= 2000
            assert made.available_fen == max(0, most - case.state.outstanding_fen)
            assert made.costs[0].annual_bp == made.apr_bp
        if most:
            with pytest.raises(InputError, match="override: amount_fen must be at most"):
                overridden(case, got, order(most + 10_000), case.request.as_of)
    assert further > 300
    assert {"LADDER", "SEASONING", "SEGMENT", "EL_BUDGET"} <= soft


@pytest.mark.parametrize(
    "gate",
    [
        {"passed": False},
        {"matched": False},
        {"age_years": 17},
        {"segment": "student"},
        {"fraud_flag": True},
        {"dpd_now": 30},
        {"status": "frozen"},
        {"status": "closed"},
        {"status": "referred"},
        {"income_fen_month": 0},
        {"other_consumer_credit_fen": 20_000_000},
        {"logit_e6": 5_000_000},
    ],
)
def test_no_person_can_lend_past_a_gate_or_below_every_line(near, gate):
    draw = near(61)
    for _ in range(40):
        case = draw.case()
        known = {name: value for name, value in gate.items() if hasattr(case.request.kyc, name)}
        case = near.kyc(case, **known) if known else near.state(case, **gate)
        case = near.asked(case, purpose="review")
        assert ceiling(case)[0] == 0
        with pytest.raises(InputError, match="must be at most 0: law, means or a gate allow no more"):
            overridden(case, near.answer(case), order(50_000), case.request.as_of)
        assert overridden(case, near.answer(case), order(0), case.request.as_of).decision == "DECLINE"


def test_the_amount_is_whole_and_the_order_has_not_expired(near):
    case = near(62).case()
    got, now = near.answer(case), case.request.as_of
    for amount in (10_000, 40_000, 50_001, 55_000):
        with pytest.raises(InputError, match="must be 0, or at least 50000 and a multiple of 10000"):
            overridden(case, got, order(amount), now)
    with pytest.raises(InputError, match="override: expires_at must lie after now"):
        overridden(case, got, order(0, now), now)
    assert overridden(case, got, order(0, now + timedelta(days=1)), now).valid_until == now + timedelta(days=1)
    assert overridden(case, got, order(0), now).valid_until == now + timedelta(days=30)


def test_a_refusal_by_a_person_gives_the_rules_reasons_and_never_says_that_it_still_waits(near):
    draw, waited, told = near(63), 0, set()
    for _ in range(1500):
        case = draw.case(now_only=False)
        if draw.random.random() < 0.2:
            case = near.asked(case, flags=Flags(human_review_requested=True))
        got = near.answer(case)
        made = overridden(case, got, order(0), case.request.as_of)
        codes = [reason.code for reason in made.reasons]
        assert (made.decision, made.defer_deadline, made.retry_after, made.next_steps) == ("DECLINE", None, None, ())
        assert codes[0] == "H03"
        assert not set(codes) & {"D01", "D02", "D03", "H01", "H02"}
        if got.decision in ("DEFER", "REFER"):
            waited += 1
            now = near.answer(near.asked(case, flags=Flags(decide_now=True)))
            expected = ["A01"] if now.amount_fen else [reason.code for reason in now.reasons][:1]
            assert codes[1:2] == expected
        told |= set(codes)
    assert waited > 100
    assert {"S01", "T01", "C01"} & told


def test_a_person_who_gives_less_than_the_rules_says_why_in_words_that_can_be_told(near):
    draw, less = near(65), 0
    for _ in range(400):
        case = draw.case()
        got = near.answer(case)
        if got.amount_fen < 60_000:
            continue
        less += 1
        for why, code in (("hardship", "A02"), ("data_error", "K02"), ("fraud_concern", "F01")):
            made = overridden(case, got, replace(order(50_000), reason=why), case.request.as_of)
            assert [r.code for r in made.reasons][:2] == ["H03", code]
        for why in ("other", "relationship"):
            with pytest.raises(InputError, match="reason must be one that the applicant can be told"):
                overridden(case, got, replace(order(0), reason=why), case.request.as_of)
    assert less > 50


def test_arms_are_uniform_and_independent_of_each_other():
    random = Random(20261123)
    subjects = [f"{random.getrandbits(256):064x}" for _ in range(20_000)]
    for name in ("2026-q4", "points-holdout"):
        arms = [arm_bp(name, subject) for subject in subjects]
        assert set(map(type, arms)) == {int}
        assert min(arms) >= 0
        assert max(arms) <= 9999
        assert stats.kstest([arm / 10_000 for arm in arms], "uniform").pvalue > 0.01
        assert 900 < sum(arm < 500 for arm in arms) < 1100
    first, second = ([arm_bp(name, s) for s in subjects] for name in ("a", "b"))
    assert abs(stats.spearmanr(first, second).statistic) < 0.03
    assert arm_bp("a", "x" * 64) == arm_bp("a", "x" * 64)


def test_a_policy_s_own_soft_caps_are_left_as_they_are(near):
    case = near(64).case()
    before = case.policy.sha256
    ceiling(case)
    assert replace(case).policy.sha256 == before


def test_an_account_whose_risk_rose_far_above_the_line_goes_to_a_person_at_its_review(near):
    draw, referred = near(66), 0
    for _ in range(1500):
        case = near.asked(draw.case(), purpose="review")
        case = near.state(case, stage="trial", status="open", dpd_now=0, applications_30d=0)
        case = near.kyc(case, logit_e6=case.request.kyc.logit_e6 + draw.random.choice([0, 200_000, 600_000]))
        got, new = near.answer(case), near.answer(near.asked(case, purpose="new"))
        rose = standing_of(case).pd_upper_e8 > 19_500_000
        assert (got.decision == "REFER") == rose or got.decision == "DEFER"
        assert (got.decision, got.amount_fen) == (new.decision, new.amount_fen) or rose
        if got.decision == "REFER":
            referred += 1
            assert (got.amount_fen, got.reasons[0].code, got.next_steps) == (0, "H02", ())
            assert {r.code for r in got.reasons[1:]} & {"S01", "T01", "T02"}
    assert referred > 50
