"""Decisions on worked cases: the three complaints told apart, prices, waiting, next steps, refusals to decide."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from model.inputs import InputError
from model.limits.decide import decide
from model.limits.policy import NotInForce, load_policy
from model.limits.request import Applicant, BlockEvidence, Contribution, DecisionRequest, Flags, StateSnapshot
from model.limits.states import Case
from model.limits.steps import typical
from model.limits.table import DecisionBundle, Default, FusionTable

POLICY = load_policy()
NOW = datetime.fromisoformat("2026-11-23T10:00:00+08:00")
DEADLINE = NOW + timedelta(hours=72)
RULE = Default(
    -3_300_000,
    {"ecommerce": 700_000, "payments": 900_000, "tax_business": 600_000, "lender_kyc": 1_000_000},
    {"ecommerce": 150_000, "payments": 250_000, "tax_business": 50_000},
    {"ecommerce": 30_000, "payments": 60_000, "tax_business": 10_000},
)
TABLE = FusionTable(("ecommerce", "payments", "tax_business"), "lender_kyc", {}, RULE)
BUNDLE = DecisionBundle("demo-1", "0" * 64, TABLE, "subscores", dict.fromkeys(TABLE.blocks, 0))
NEW = StateSnapshot()
FRESH = BlockEvidence(True, True, 0, NOW - timedelta(hours=1), tenure_months=24)
ALL = {"ecommerce": FRESH, "payments": FRESH, "tax_business": FRESH}


def ask(blocks=None, requested=None, logit=0, flags=None, **kyc) -> DecisionRequest:
    person = {
        "passed": True,
        "age_years": 30,
        "segment": "salaried",
        "income_fen_month": 800_000,
        "income_source": "verified",
        "existing_debt_service_fen_month": 0,
        "other_consumer_credit_fen": 0,
    }
    applicant = Applicant(**(person | kyc), logit_e6=logit)
    one = "00000000-0000-4000-8000-000000000001"
    blocks = ALL if blocks is None else blocks
    return DecisionRequest(one, "a" * 64, "new", NOW, "consumer", requested, 12, applicant, blocks, 0, flags or Flags())


def answer(request, state=NEW, policy=POLICY, bundle=BUNDLE):
    return decide(request, policy, bundle, state, request.as_of)


def told(decision, language):
    return [getattr(reason, language) for reason in decision.reasons]


def test_complaint_one_too_little_record_starts_on_the_ladder_or_says_so():
    first = answer(ask(blocks={}, requested=1_000_000))
    assert (first.decision, first.amount_fen, first.confidence, first.thin) == ("TRIAL", 50_000, "C", True)
    assert told(first, "zh") == ["可用信用资料较少"]
    assert told(first, "en") == ["Limited information on which to assess you"]
    step = first.next_steps[0]
    assert (step.code, step.amount_fen, step.by) == ("LADDER", 100_000, NOW + timedelta(days=55))
    assert step.zh == "按时还清2期且每期使用至少30%，2027-01-17后额度可升至¥1,000"

    refused = answer(ask(blocks={}, logit=800_000))
    assert (refused.decision, [r.code for r in refused.reasons]) == ("DECLINE", ["T01"])
    assert refused.pd_bp <= 1300 < refused.pd_upper_bp


def test_complaint_two_a_score_below_the_line_names_what_pulled_it_down():
    told_by = (Contribution("Y01", 700_000), Contribution("repayment", 500_000), Contribution("balance", -100_000))
    weak = replace(FRESH, logit_e6=1_100_000, reasons=told_by)
    got = answer(ask(blocks=ALL | {"payments": weak, "ecommerce": replace(FRESH, logit_e6=400_000)}))
    assert (got.decision, got.caps, got.binding_cap) == ("DECLINE", {}, None)
    assert [(r.code, r.source) for r in got.reasons] == [
        ("S01", "rule"),
        ("Y01", "payments"),
        ("S03", "payments"),
        ("S02", "ecommerce"),
    ]
    assert told(got, "zh") == [
        "综合评分未达到本产品的最低要求",
        "扣款失败次数较多",
        "支付记录中“还款记录”拉低了评分",
        "电商记录整体拉低了评分",
    ]
    assert told(got, "en") == [
        "Your score is below the line for this product",
        "Failed debits",
        "Your payments records lowered the score: repayment history",
        "Your e-commerce records as a whole lowered the score",
    ]


@pytest.mark.parametrize(
    ("evidence", "code", "zh", "en"),
    [
        ({"as_of": None}, "D01", "支付数据延迟，最迟", "Data from payments is delayed; you will"),
        ({"logit_e6": None}, "D01", "支付数据延迟，最迟", "Data from payments is delayed; you will"),
        ({"as_of": NOW - timedelta(hours=169)}, "D01", "支付数据延迟，最迟", "Data from payments is delayed; you"),
        ({"quality": "drift"}, "D02", "支付数据异常，正在核查，最迟", "Data from payments looks abnormal"),
        ({"as_of": NOW + timedelta(hours=1)}, "D02", "支付数据异常，正在核查，最迟", "Data from payments looks"),
        ({"quality": "dispute_open"}, "D03", "支付存在未决异议数据，最迟", "Disputed data from payments is"),
    ],
)
def test_complaint_three_late_or_abnormal_data_waits_with_a_deadline(evidence, code, zh, en):
    request = ask(blocks=ALL | {"payments": replace(FRESH, **evidence)}, logit=300_000)
    got = answer(request)
    assert (got.decision, got.amount_fen, got.defer_deadline) == ("DEFER", 0, DEADLINE)
    assert got.retry_after == NOW + timedelta(hours=6)
    (reason,) = got.reasons
    assert (reason.code, reason.source) == (code, "payments")
    assert reason.zh.startswith(zh)
    assert reason.en.startswith(en)
    assert "2026-11-26 10:00+08:00" in reason.zh
    assert "2026-11-26 10:00+08:00" in reason.en
    assert [step.code for step in got.next_steps] == ["WAIT", "DECIDE_NOW"]
    assert got.next_steps[0].by == DEADLINE
    now = answer(replace(request, flags=Flags(decide_now=True)))
    assert (now.decision, now.amount_fen) == (got.next_steps[1].decision, got.next_steps[1].amount_fen)


def test_after_the_deadline_or_two_waits_the_decision_goes_without_the_late_block():
    request = ask(blocks=ALL | {"payments": replace(FRESH, as_of=None)}, logit=1_400_000)
    assert answer(request).decision == "DEFER"
    waited = StateSnapshot(deferrals=1, first_deferred_at=NOW - timedelta(hours=72))
    for state in (waited, StateSnapshot(deferrals=2)):
        got = answer(request, state)
        assert got.decision == "DECLINE"
        assert [(r.code, r.source) for r in got.reasons][-1] == ("D04", "payments")
    almost = replace(waited, first_deferred_at=NOW - timedelta(hours=71))
    assert answer(request, almost).defer_deadline == NOW + timedelta(hours=1)
    assert answer(request, almost).retry_after == NOW + timedelta(hours=1)


def test_late_data_that_could_not_change_the_answer_is_not_waited_for():
    late = replace(FRESH, as_of=None)
    assert answer(ask(blocks=ALL | {"tax_business": late}, requested=50_000, logit=-1_500_000)).decision == "APPROVE"
    assert answer(ask(blocks=ALL | {"tax_business": late}, logit=4_000_000)).decision == "DECLINE"


def test_disputed_data_waits_even_there_unless_the_policy_says_otherwise():
    disputed = ask(blocks=ALL | {"tax_business": replace(FRESH, quality="dispute_open")}, logit=4_000_000)
    assert answer(disputed).decision == "DEFER"
    lenient = replace(POLICY, defer=replace(POLICY.defer, disputed_always=False))
    assert answer(disputed, policy=lenient).decision == "DECLINE"


def test_points_never_end_a_wait():
    late = ALL | {"tax_business": replace(FRESH, as_of=None)}
    requests = [ask(blocks=late, logit=-800_000, income_fen_month=income) for income in range(13_000, 17_001, 100)]
    waiting = [request for request in requests if answer(request).decision == "DEFER"]
    assert waiting
    assert {answer(replace(request, points=1500)).decision for request in waiting} == {"DEFER"}


def test_a_domain_that_nobody_has_heard_of_is_served_like_the_others():
    names = {"mobile_phone": 800_000}
    table = FusionTable(
        ("mobile_phone",), None, {}, Default(-3_300_000, names, {"mobile_phone": 300_000}, {"mobile_phone": 0})
    )
    bundle = DecisionBundle("phone-1", "1" * 64, table, "subscores", {"mobile_phone": 0})
    weak = replace(FRESH, logit_e6=3_000_000, reasons=(Contribution("top_ups", 2_000_000),))
    got = answer(ask(blocks={"mobile_phone": weak}, logit=None), bundle=bundle)
    assert told(got, "zh")[1] == "mobile phone记录中“top ups”拉低了评分"
    late = answer(ask(blocks={"mobile_phone": replace(FRESH, as_of=None)}, logit=None), bundle=bundle)
    assert late.reasons[0].en.startswith("Data from mobile phone is delayed")
    assert not answer(ask(blocks={"mobile_phone": FRESH}, logit=None), bundle=bundle).thin


def test_a_person_looks_at_it_whenever_that_is_asked_even_past_a_gate():
    got = answer(ask(flags=Flags(human_review_requested=True), fraud_flag=True))
    assert (got.decision, [r.code for r in got.reasons], got.next_steps) == ("REFER", ["H01"], ())


def test_all_rules_that_stop_are_named_in_their_fixed_order():
    got = answer(ask(passed=False, age_years=17, fraud_flag=True), StateSnapshot(dpd_now=30, applications_30d=3))
    assert [r.code for r in got.reasons] == ["K01", "L01", "F01", "B03"]
    assert got.next_steps == ()
    monthly = replace(ask(), purpose="review")
    assert answer(monthly, StateSnapshot(applications_30d=3)).decision == "APPROVE"


def test_points_take_off_the_price_and_fill_the_cap_but_not_under_a_risk_hold():
    plain, rich = ask(), replace(ask(), points=1500)
    base, got = answer(plain), answer(rich)
    assert (base.amount_fen, got.amount_fen) == (base.caps["EL_BUDGET"] * 9 // 10 // 10_000 * 10_000, 2_080_000)
    assert got.amount_fen == got.caps["EL_BUDGET"] // 10_000 * 10_000
    assert base.apr_bp - got.apr_bp == 50
    assert answer(rich, StateSnapshot(risk_hold=True)) == answer(plain, StateSnapshot(risk_hold=True))


@pytest.mark.parametrize(
    ("changes", "state", "cap", "codes"),
    [
        ({"income_fen_month": 100_000}, {}, "AFFORDABILITY", ["A01"]),
        ({"income_fen_month": 100_000, "income_source": "declared"}, {}, "AFFORDABILITY", ["A01", "A03"]),
        ({"existing_debt_service_fen_month": 200_000}, {}, "AFFORDABILITY", ["A02"]),
        ({"other_consumer_credit_fen": 19_900_000}, {}, "LEGAL_CONSUMER", ["L03"]),
        ({"segment": "other", "logit": -3_000_000, "income_fen_month": 9_000_000}, {}, "SEGMENT", ["C02"]),
        ({}, {"portfolio_headroom_fen": 70_000}, "PORTFOLIO", ["P01"]),
        ({}, {"current_limit_fen": 100_000}, "VELOCITY", ["V03"]),
        ({}, {"current_limit_fen": 100_000, "days_since_increase": 54}, "VELOCITY", ["V02"]),
        ({}, {}, "EL_BUDGET", ["C01", "S02"]),
    ],
)
def test_the_cap_that_set_the_amount_gives_the_reason(changes, state, cap, codes):
    got = answer(ask(requested=9_000_000, **changes), StateSnapshot(**state))
    assert (got.decision, got.binding_cap, [r.code for r in got.reasons]) == ("APPROVE", cap, codes)


def test_asking_for_less_than_the_smallest_limit_is_answered_with_what_could_be_asked():
    got = answer(ask(requested=40_000))
    assert (got.decision, [r.code for r in got.reasons]) == ("DECLINE", ["Q01"])
    assert [(s.code, s.amount_fen) for s in got.next_steps] == [("ASK", 50_000)]


def test_next_steps_are_what_deciding_again_gives():
    declared = ask(requested=1_000_000, income_fen_month=250_000, income_source="declared")
    step = answer(declared).next_steps[0]
    verified = replace(declared, kyc=replace(declared.kyc, income_source="verified"))
    assert (step.code, step.amount_fen) == ("INCOME", answer(verified).amount_fen)

    poor = ask(requested=1_000_000, income_fen_month=200_000)
    step = answer(poor).next_steps[0]
    assert step.en == "If a monthly income of ¥2,900 is verified, you could get ¥10,000"
    richer = replace(poor, kyc=replace(poor.kyc, income_fen_month=290_000))
    poorer = replace(poor, kyc=replace(poor.kyc, income_fen_month=280_000))
    assert answer(poorer).amount_fen < step.amount_fen == answer(richer).amount_fen

    shy = ask(blocks={"ecommerce": FRESH, "payments": replace(FRESH, consent=False)}, requested=1_500_000)
    step = answer(shy).next_steps[0]
    assert (step.code, step.source) == ("AUTHORISE", "payments")
    open_case = typical(Case(shy, POLICY, BUNDLE, NEW), ["payments"])
    assert step.amount_fen == answer(open_case.request).amount_fen

    unknown = ask(passed=False, requested=500_000)
    assert [(s.code, s.amount_fen) for s in answer(unknown).next_steps] == [("IDENTITY", 500_000)]


def test_an_answer_holds_until_the_first_of_what_it_rests_on_ends():
    assert answer(ask()).valid_until == FRESH.as_of + timedelta(hours=168)
    assert answer(ask(blocks={})).valid_until == NOW + timedelta(days=30)
    short = replace(BUNDLE, valid_until=NOW + timedelta(days=1))
    assert answer(ask(), bundle=short).valid_until == NOW + timedelta(days=1)


def test_the_answer_s_bytes_are_canonical_and_name_what_it_was_made_by():
    got = answer(ask(requested=1_000_000))
    data = json.loads(got.to_json())
    assert got.to_json() == json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    assert data["schema"] == "limit-decision/1"
    assert data["versions"] == {
        "policy_id": "cn-consumer",
        "policy_version": "2026.11.0",
        "policy_sha256": POLICY.sha256,
        "bundle_id": "demo-1",
        "bundle_sha256": "0" * 64,
        "engine": "2.0.0",
    }
    assert decide(ask(), POLICY, BUNDLE, NEW, NOW, explain=False).next_steps == ()


def test_nothing_is_decided_on_what_does_not_fit():
    with pytest.raises(InputError, match="as_of must equal now"):
        decide(ask(), POLICY, BUNDLE, NEW, NOW + timedelta(seconds=1))
    with pytest.raises(InputError, match="product must be the policy's, consumer"):
        answer(replace(ask(), product="business"))
    with pytest.raises(InputError, match=r"blocks\.post is not a block of the bundle"):
        answer(ask(blocks={"post": FRESH}))
    with pytest.raises(InputError, match=r"kyc\.logit_e6 must be given: the bundle has a block lender_kyc"):
        answer(ask(logit=None))
    late = replace(ask(blocks={}), as_of=POLICY.expires_at)
    with pytest.raises(NotInForce, match="expired at"):
        answer(late)
    with pytest.raises(NotInForce, match="bundle demo-1 was valid until"):
        answer(ask(), bundle=replace(BUNDLE, valid_until=NOW))
