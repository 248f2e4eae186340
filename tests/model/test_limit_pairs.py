"""Thirty thousand pairs of neighbours near the policy's lines: a better case never gets a worse answer."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from model.limits.policy import load_policy

POLICY = load_policy()
THICK = replace(POLICY, classes=replace(POLICY.classes, thick_trial=True))
SAFER = (1, 1_000, 50_000, 200_000)


@pytest.mark.parametrize(("seed", "policy", "pairs"), [(20261123, POLICY, 24_000), (7, THICK, 6_000)])
def test_of_two_neighbours_the_better_one_never_gets_less(near, seed, policy, pairs):
    draw = near(seed, policy)
    pick, amounts, worse = draw.random.choice, 0, []

    def expect(name, holds, *cases):
        if not holds:
            worse.append((name, *cases))

    for count in range(pairs // 2):
        case = draw.case()
        base, safer = draw.answer(case), draw.kyc(case, logit_e6=case.request.kyc.logit_e6 - pick(SAFER))
        got = draw.answer(safer)
        amounts += base.amount_fen > 0
        expect("M1 score", got.score >= base.score, case, safer)
        expect("M1 amount", got.amount_fen >= base.amount_fen, case, safer)
        expect("M1 price", not base.amount_fen or got.apr_bp <= base.apr_bp, case, safer)
        expect("S1 caps", all(0 <= base.amount_fen <= fen for fen in base.caps.values()), case)
        expect("S2 increment", base.amount_fen % 10_000 == 0, case)
        other = count % 4
        if other == 0:
            none = draw.asked(case, points=0)
            plain = draw.answer(none)
            expect("P3 refusal", (plain.amount_fen == 0) == (base.amount_fen == 0), none, case)
            expect("P2 score", (plain.score, plain.pd_upper_bp) == (base.score, base.pd_upper_bp), none, case)
            expect("P kind", plain.kind == base.kind, none, case)
            expect("P amount", plain.amount_fen <= base.amount_fen, none, case)
            expect("P price", not plain.amount_fen or base.apr_bp <= plain.apr_bp, none, case)
        elif other == 1:
            richer = draw.kyc(case, income_fen_month=case.request.kyc.income_fen_month + pick((1, 10_000, 100_000)))
            expect("M2 income", draw.answer(richer).amount_fen >= base.amount_fen, case, richer)
        elif other == 2:
            debt = case.request.kyc.existing_debt_service_fen_month + pick((1, 3_000, 100_000))
            burdened = draw.kyc(case, existing_debt_service_fen_month=debt)
            expect("M2 debt", draw.answer(burdened).amount_fen <= base.amount_fen, case, burdened)
        else:
            requested = case.request.requested_fen
            more = draw.asked(case, requested_fen=None if requested is None else requested + pick((1, 10_000, 10**6)))
            expect("M4 requested", draw.answer(more).amount_fen >= base.amount_fen, case, more)
        if len(worse) > 20:
            break  # enough to see what is wrong
    assert not worse, (Counter(name for name, *_ in worse), worse[0])
    assert amounts > pairs // 8
