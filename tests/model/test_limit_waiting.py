"""Late data from beginning to end, consent that ends, new small limits that are stopped, accounts on hold."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from model.limits.offers import best_offer
from model.limits.request import Flags, StateSnapshot
from model.limits.states import standing_of

HOUR = timedelta(hours=1)


def late_tax(near, seed=70):
    """A thick file that would be approved, whose tax data is late and could change that."""
    draw = near(seed)
    while True:
        case = draw.case()
        for domain in ("ecommerce", "payments", "tax_business"):
            known = near.asked(case, blocks={domain: None, **case.request.blocks})
            here = {"consent_until": None, "quality": "ok", "logit_e6": 0, "tenure_months": 30}
            case = near.block(known, domain, covered=True, consent=True, as_of=case.request.as_of - HOUR, **here)
        case = replace(near.asked(case, flags=Flags(), requested_fen=2_000_000), state=StateSnapshot())
        case = near.kyc(
            case, income_fen_month=900_000, segment="salaried", other_consumer_credit_fen=0, logit_e6=300_000
        )
        return near.block(case, "tax_business", as_of=None, logit_e6=None)


def at(near, case, hours, **state):
    """The case asked again some hours later, its other data as fresh as then."""
    now = case.request.as_of + hours * HOUR
    blocks = {d: replace(b, as_of=now - HOUR if b.as_of else None) for d, b in case.request.blocks.items()}
    return near.state(near.asked(case, as_of=now, blocks=blocks), **state)


def test_late_tax_data_is_waited_for_until_it_arrives(near):
    case = late_tax(near)
    first, begun = near.answer(case, explain=True), case.request.as_of
    assert (first.decision, first.amount_fen, first.defer_deadline) == ("DEFER", 0, begun + 72 * HOUR)
    (reason,) = first.reasons
    assert reason.zh == "税务与经营数据延迟，最迟2026-11-26 10:00+08:00给出结果"
    assert reason.en == "Data from tax and business is delayed; you will have an answer by 2026-11-26 10:00+08:00"
    assert [step.code for step in first.next_steps] == ["WAIT", "DECIDE_NOW"]
    waiting = at(near, case, 20, deferrals=1, first_deferred_at=begun)
    assert near.answer(waiting).defer_deadline == begun + 72 * HOUR
    arrived = near.block(waiting, "tax_business", as_of=waiting.request.as_of - HOUR, logit_e6=-300_000)
    got = near.answer(arrived)
    assert got.decision == "APPROVE"
    assert got.blocks["tax_business"] == "fresh"
    bad = near.block(waiting, "tax_business", as_of=waiting.request.as_of - HOUR, logit_e6=2_500_000)
    refused = near.answer(bad)
    assert (refused.decision, refused.reasons[0].code) == ("DECLINE", "S01")
    assert ("S02", "tax_business") in {(r.code, r.source) for r in refused.reasons}


@pytest.mark.parametrize(("hours", "times"), [(72, 1), (100, 1), (5, 2), (71, 3)])
def test_and_then_it_is_decided_without_it(near, hours, times):
    case = late_tax(near)
    late = at(near, case, hours, deferrals=times, first_deferred_at=case.request.as_of)
    got = near.answer(late, explain=True)
    assert got.decision in ("APPROVE", "TRIAL", "DECLINE")
    assert not {reason.code for reason in got.reasons} & {"D01", "D02", "D03"}
    assert (got.defer_deadline, got.retry_after) == (None, None)
    assert [(r.code, r.source) for r in got.reasons if r.code == "D04"] == [("D04", "tax_business")]
    early = at(near, case, 71, deferrals=1, first_deferred_at=case.request.as_of)
    assert near.answer(early).decision == "DEFER"


def test_f2_after_the_deadline_or_two_waits_nothing_waits_again(near):
    draw, waited = near(71), 0
    for _ in range(1500):
        case = near.asked(draw.case(), flags=Flags())
        first = near.answer(near.state(case, deferrals=0, first_deferred_at=None))
        waited += first.decision == "DEFER"
        for state in (
            {"deferrals": 1, "first_deferred_at": case.request.as_of - 72 * HOUR},
            {"deferrals": 2, "first_deferred_at": case.request.as_of},
        ):
            got = near.answer(near.state(case, **state))
            assert got.decision != "DEFER"
            assert not {reason.code for reason in got.reasons} & {"D01", "D02", "D03"}
            now = near.answer(near.asked(near.state(case, **state), flags=Flags(decide_now=True)))
            assert now.to_json() == got.to_json()
    assert waited > 100


def test_consent_that_has_ended_is_never_used_and_no_answer_outlives_it(near):
    draw, ended, bound = near(72), 0, 0
    for _ in range(1500):
        case = draw.case(now_only=False)
        now, got = case.request.as_of, near.answer(case)
        for domain, block in case.request.blocks.items():
            until = block.consent_until
            if until is None or not (block.covered and block.consent):
                continue
            if until <= now:
                ended += 1
                assert got.blocks[domain] == "no_consent"
                other = near.block(case, domain, logit_e6=-3_000_000, quality="ok", as_of=now, tenure_months=99)
                assert near.answer(other).to_json() == got.to_json()
            elif got.blocks[domain] in ("fresh", "stale"):
                bound += until < now + HOUR
                assert got.valid_until <= until
        assert now <= got.valid_until <= min(now + timedelta(days=30), case.policy.expires_at)
    assert min(ended, bound) > 30


def test_where_new_small_limits_are_stopped_nobody_new_gets_one_and_others_keep_theirs(near):
    draw, stopped, kept = near(73), 0, 0
    for _ in range(2500):
        case = near.state(draw.case(), trials_stopped=True)
        got, open_to = near.answer(case), near.answer(near.state(case, trials_stopped=False))
        if case.state.stage != "none":
            kept += open_to.kind in ("TRIAL", "SEASONING")
            assert got == open_to
        elif open_to.kind in ("TRIAL", "SEASONING"):
            stopped += 1
            assert (got.decision, got.amount_fen, [r.code for r in got.reasons][:1]) == ("DECLINE", 0, ["P01"])
            assert got.reasons[0].source == "system"
            assert (got.caps["PORTFOLIO"], got.binding_cap, got.score) == (0, "PORTFOLIO", open_to.score)
        else:
            assert got.amount_fen <= open_to.amount_fen
            assert got.kind in ("STANDARD", None)
    assert min(stopped, kept) > 100


def test_s7_an_account_on_hold_or_blocked_never_grows_and_another_at_most_doubles(near):
    draw, held = near(74), 0
    for _ in range(3000):
        case = draw.case()
        limit, state = case.state.current_limit_fen, case.state
        if not limit:
            continue
        got = near.answer(case)
        blocked = state.status == "hold" or state.days_since_increase < 55 or state.increases_365d >= 4
        assert got.amount_fen <= limit * (1 if blocked else 2)
        if blocked and near.answer(near.state(case, status="open", days_since_increase=55, increases_365d=0)) != got:
            held += 1
        if got.binding_cap == "VELOCITY" and got.reasons:
            code = "B01" if state.status == "hold" else "V02" if blocked else "V03"
            assert got.reasons[0].code == code
    assert held > 30


def test_disputed_data_moves_no_decision_in_either_direction(near):
    draw, seen = near(75), 0
    for _ in range(800):
        case = draw.case()
        for domain, block in case.request.blocks.items():
            if block.quality in ("dispute_open", "negative_pending") and block.covered:
                seen += 1
                other = near.block(case, domain, logit_e6=-2_000_000, reasons=(), tenure_months=99, model_se_e6=0)
                assert near.answer(other).to_json() == near.answer(case).to_json()
                patient = near.state(near.asked(case, flags=Flags()), deferrals=0, first_deferred_at=None)
                if near.answer(case).blocks[domain] == "abnormal" and near.answer(patient).decision != "REFER":
                    assert near.answer(patient).decision == "DEFER"
    assert seen > 60


def test_what_points_would_add_does_not_decide_what_is_waited_for(near):
    draw = near(76)
    for _ in range(600):
        case = near.asked(draw.case(), flags=Flags())
        verdicts = {near.answer(near.asked(case, points=points)).decision for points in (0, 600, 1500)}
        assert len(verdicts) == 1
        standing = standing_of(case)
        kinds = {best_offer(case, standing.pd_upper_e8, standing.thin, share).kind for share in (9000, 9500, 10_000)}
        assert len(kinds) == 1


def test_a_moment_is_told_in_the_zone_of_the_question(near):
    case = late_tax(near)
    utc = datetime.fromisoformat("2026-11-23T02:00:00+00:00")
    assert utc == case.request.as_of
    there, here = near.answer(near.asked(case, as_of=utc)), near.answer(case)
    assert there.defer_deadline == here.defer_deadline
    assert "2026-11-26 02:00+00:00" in there.reasons[0].en
    assert there.defer_deadline.utcoffset() == timedelta(0)
