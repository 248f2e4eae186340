"""R1 and its kin: a reason is true, complete where the law asks for it, and never about somebody else's delay."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from model.limits.causes import line_bp
from model.limits.policy import load_policy
from model.limits.reasons import PARTNER_CODES
from model.limits.request import Contribution
from model.limits.states import standing_of
from model.points import pd_e8

POLICY = load_policy()
SURE = replace(POLICY, confidence=replace(POLICY.confidence, margin_e6=(0,), se_mult_bp=0))


def lowered(near, draw):
    """A case near or above a line, asking for much, whose late data weighs."""
    case = draw.case()
    rule = replace(
        case.bundle.table.default, late_e6=draw.random.choice([RULE_LATE, case.bundle.table.default.late_e6])
    )
    bundle = replace(case.bundle, table=replace(case.bundle.table, default=rule))
    case = near.asked(replace(case, bundle=bundle), requested_fen=draw.random.choice((None, 3_000_000, 20_000_000)))
    if draw.random.random() < 0.1:  # nothing is worse than the reference
        for domain, at in case.bundle.reference_e6.items():
            safe = {"logit_e6": at - draw.random.randint(0, 200_000), "reasons": ()}
            now = {
                "covered": True,
                "consent": True,
                "consent_until": None,
                "quality": "ok",
                "as_of": case.request.as_of,
            }
            known = near.asked(case, blocks={domain: None, **case.request.blocks})
            case = near.kyc(case, **safe) if domain == "lender_kyc" else near.block(known, domain, **safe, **now)
        return near.state(case, lates_12m=0)
    up = draw.random.choice((-1_500_000, 0, 30_000, 300_000, 900_000))
    return near.kyc(case, logit_e6=case.request.kyc.logit_e6 + up)


RULE_LATE = {"ecommerce": 600_000, "payments": 700_000, "tax_business": 300_000}


def parts_of(case, standing):
    """How much each thing raises z against the reference: blocks, record, absence, lateness."""
    table, reference = case.bundle.table, case.bundle.reference_e6
    weights = table.entry(standing.related, standing.used).weights_e6
    blocks = {name: w * (standing.logits_e6[name] - reference[name]) // 10**6 for name, w in weights.items()}
    here = table.z_e6(standing.related, standing.related, reference)
    return blocks, {
        "record": standing.behaviour_e6,
        "absence": here - table.z_e6(table.optional, table.optional, reference),
        "lateness": table.z_e6(standing.related, standing.used, reference) - here,
    }


def neutral(near, case, reason, standing):
    """The case with what the reason names at its reference."""
    reference, request, block = case.bundle.reference_e6, case.request, reason.source
    own = block == case.bundle.table.own
    if reason.code == "S02":
        return near.kyc(case, logit_e6=reference[block]) if own else near.block(case, block, logit_e6=reference[block])
    if reason.code in PARTNER_CODES or reason.code == "S03":
        told = request.kyc if own else request.blocks[block]
        hurts = [p.delta_e6 for p in told.reasons if p.delta_e6 > 0 and (p.code == reason.code or p.code[0].islower())]
        changed = told.logit_e6 - max(hurts)
        return near.kyc(case, logit_e6=changed) if own else near.block(case, block, logit_e6=changed)
    if reason.code in ("B01", "B02"):
        return near.state(case, lates_12m=0, status="open")
    if reason.code in ("T01", "D04"):
        wanted = standing.related if reason.code == "D04" else case.bundle.table.optional
        for domain in set(wanted) - set(standing.related if reason.code == "T01" else standing.used):
            case = near.asked(case, blocks={**case.request.blocks, domain: None})
            change = {"logit_e6": reference[domain], "as_of": request.as_of, "tenure_months": 40}
            case = near.block(case, domain, **change)
        return case
    return None


def test_r1_what_a_reason_names_brought_to_its_reference_never_lowers_the_score(near):
    draw, told = near(41), Counter()
    for _ in range(5000):
        case = lowered(near, draw)
        got, standing = near.answer(case), standing_of(case)
        codes = [reason.code for reason in got.reasons]
        if not {"S01", "C01"} & set(codes):
            assert "S02" not in codes
            assert "S03" not in codes
            if set(codes) & {"T01", "T02", "T03"}:  # too little is known: the score does not move, the limit may
                sure = near.answer(replace(case, policy=SURE))
                assert (sure.score, sure.amount_fen >= got.amount_fen) == (got.score, True)
            continue
        blocks, others = parts_of(case, standing)
        for reason in got.reasons:
            then = neutral(near, case, reason, standing)
            if then is None:
                continue
            after = near.answer(then)
            told[reason.code] += 1
            if reason.code == "S02" and blocks[reason.source] <= 0:  # nothing is worse than the reference, nearest it
                assert max(blocks.values()) == blocks[reason.source]
                assert max(others.values()) <= 0
                told["nearest"] += 1
            elif reason.code != "D04" or others["lateness"] > 0:
                assert after.z_e6 <= got.z_e6, (reason, case)
                assert after.score >= got.score
    assert min(told[code] for code in ("S02", "S03", "Y01", "E02", "T01", "B02", "D04", "nearest")) > 7, told


def test_a_block_without_weight_is_never_a_reason(near):
    draw, seen = near(42), 0
    for _ in range(1500):
        case = lowered(near, draw)
        rule = case.bundle.table.default
        rule = replace(rule, weights_e6={**rule.weights_e6, "ecommerce": 0})
        case = replace(case, bundle=replace(case.bundle, table=replace(case.bundle.table, default=rule)))
        case = near.kyc(case, logit_e6=case.request.kyc.logit_e6 + 300_000)
        got = near.answer(case)
        assert "ecommerce" not in {r.source for r in got.reasons if r.code[0] in "SEY"}
        seen += any(r.code == "S02" for r in got.reasons)
    assert seen > 100


def test_the_score_is_blamed_only_where_it_is_below_the_line_and_never_alone(near):
    draw = near(43)
    for _ in range(3000):
        case = lowered(near, draw)
        got, standing = near.answer(case), standing_of(case)
        codes = [reason.code for reason in got.reasons]
        below = pd_e8(standing.z_e6) > line_bp(case.policy, standing.thin) * 10_000
        gated = got.decision == "DECLINE" and not got.caps and codes[0][0] not in "ST"
        assert ("S01" in codes) == (below and not gated)
        assert codes != ["S01"]
        assert codes.count("S01") <= 1


@pytest.mark.parametrize(
    ("purpose", "limit", "days", "requested", "codes"),
    [
        ("review", 9_000_000, 90, None, ["C01", "Y01"]),
        ("review", 1_000_000, 90, None, []),
        ("increase", 1_000_000, 54, None, ["V02"]),
        ("review", 1_000_000, 54, None, []),
        ("increase", 1_000_000, 90, None, []),
        ("review", 9_000_000, 90, 1_000_000, []),
    ],
)
def test_a_decrease_and_a_refused_increase_carry_reasons_though_no_amount_was_named(
    near, purpose, limit, days, requested, codes
):
    draw = near(44)
    case = draw.case()
    while draw.answer(case).thin or case.request.kyc.income_fen_month < 2_000_000:
        case = draw.case()
    case = near.asked(case, purpose=purpose, requested_fen=requested)
    case = near.kyc(case, reasons=(Contribution("Y01", 90_000),), segment="salaried", other_consumer_credit_fen=0)
    changes = {"stage": "standard", "status": "open", "increases_365d": 0, "lates_12m": 0, "clean_total": 0}
    changes |= {"current_limit_fen": limit, "days_since_increase": days, "portfolio_headroom_fen": None}
    case = near.state(case, **changes)
    case = near.kyc(case, logit_e6=case.request.kyc.logit_e6 - standing_of(case).z_e6 - 3_900_000)
    got = near.answer(case)
    assert got.kind == "STANDARD"
    assert [reason.code for reason in got.reasons][:2] == codes
    assert (got.amount_fen < limit) == (limit == 9_000_000)
