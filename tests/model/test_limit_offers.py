"""Caps and offers against the policy's rules written in fractions, and the order of the kinds."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from fractions import Fraction
from math import floor

from hypothesis import given, settings
from hypothesis import strategies as st

from model.limits.offers import annuity_e6, best_offer
from model.limits.policy import load_policy
from model.limits.request import Applicant, DecisionRequest, StateSnapshot
from model.limits.states import Case
from model.limits.table import DecisionBundle, Entry, FusionTable

POLICY = load_policy()
NOW = datetime.fromisoformat("2026-11-23T10:00:00+08:00")
BUNDLE = DecisionBundle("b", "0" * 64, FusionTable((), None, {"|": Entry(0, {})}), "subscores", {})
HAIRCUT = {"verified": 0, "partner_estimated": 10, "declared": 20}


def case_of(income=800_000, source="verified", debt=0, credit=0, months=12, state=None) -> Case:
    kyc = Applicant(True, 30, "salaried", income, source, debt, credit)
    request = DecisionRequest("1", "a", "new", NOW, "consumer", None, months, kyc, {})
    return Case(request, POLICY, BUNDLE, state or StateSnapshot())


def largest(allowed) -> int:
    """The largest whole amount that is allowed, by doubling and halving; 0 where none is."""
    low, high = 0, 1
    while high < 10**14 and allowed(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if allowed(middle) else (low, middle)
    return low


@settings(derandomize=True, deadline=None, max_examples=200, database=None)
@given(
    st.integers(1, 13_000_000),
    st.integers(0, 3_000_000),
    st.sampled_from(sorted(HAIRCUT)),
    st.integers(0, 100_000),
    st.sampled_from([0, 19_930_000, 21_000_000]),
    st.sampled_from([1, 3, 12, 60]),
)
def test_every_cap_is_the_largest_amount_that_its_rule_in_fractions_allows(pd, income, source, debt, credit, months):
    got = best_offer(case_of(income, source, debt, credit, months), pd, True, 9000)
    loss = Fraction(pd, 10**8) * Fraction(85, 100) * Fraction(95, 100)
    rate = Fraction(next(tier.apr_bp for tier in POLICY.pricing if pd <= tier.pd_max_bp * 10_000), 120_000)
    worth = sum(1 / (1 + rate) ** month for month in range(1, min(months, 12) + 1))
    net = floor(income * Fraction(100 - HAIRCUT[source], 100))
    free = max(0, floor(net * Fraction(35, 100)) - debt)
    assert got.caps["EL_BUDGET"] == largest(lambda fen: fen * loss <= 60_000)
    assert 0 <= floor(free * worth) - got.caps["AFFORDABILITY"] <= 1 + free // 10**6
    assert got.caps["INCOME_MULTIPLE"] == 4 * net
    assert got.caps["LEGAL_CONSUMER"] == max(0, 20_000_000 - credit)
    best = min(got.caps.values()) // 10_000 * 10_000
    assert got.amount_fen == (best if best >= 50_000 else 0)


def test_the_annuity_is_the_sum_of_discounted_payments():
    for apr in (0, 1, 900, 1980, 10_000):
        worth = sum(1 / (1 + Fraction(apr, 120_000)) ** month for month in range(1, 25))
        assert annuity_e6(apr, 24) == floor(worth * 10**6)


def test_the_lines_of_the_classes_are_sharp():
    def kind(pd, thin, stage="none"):
        return best_offer(case_of(state=StateSnapshot(stage=stage)), pd, thin, 9000).kind

    assert [kind(pd, False) for pd in (8_180_000, 8_180_001)] == ["STANDARD", None]
    assert [kind(pd, True) for pd in (4_760_000, 4_760_001)] == ["SEASONING", "TRIAL"]
    assert [kind(pd, True) for pd in (13_000_000, 13_000_001)] == ["TRIAL", None]
    assert [kind(pd, True, "standard") for pd in (8_180_000, 8_180_001)] == ["STANDARD", "TRIAL"]


def test_a_share_too_small_for_a_standard_limit_leaves_the_rung_whatever_the_points():
    poor = case_of(income=13_500)
    assert best_offer(poor, 1_000_000, False, 9000).caps["INCOME_MULTIPLE"] == 54_000
    offers = [best_offer(poor, 1_000_000, False, share) for share in (9000, 10_000)]
    assert [(o.kind, o.amount_fen, o.binding_cap) for o in offers] == 2 * [("TRIAL", 50_000, "LADDER")]


def test_points_make_no_offer_where_there_is_none_without_them():
    for income in range(12_000, 16_000, 50):
        case = case_of(income=income, state=StateSnapshot(trials_stopped=True))
        plain, rich = (best_offer(case, 1_000_000, False, share) for share in (9000, 10_000))
        assert (plain.kind, plain.amount_fen > 0) == (rich.kind, rich.amount_fen > 0)
        assert plain.amount_fen <= rich.amount_fen <= min(rich.caps.values())
    stopped = best_offer(case_of(income=13_700, state=StateSnapshot(trials_stopped=True)), 1_000_000, False, 9000)
    assert (stopped.amount_fen, stopped.binding_cap) == (0, "PORTFOLIO")


def test_the_rung_and_the_velocity_hold_what_risk_would_allow():
    on_rung = [best_offer(case_of(state=StateSnapshot(rung=r)), 6_000_000, True, 9000).amount_fen for r in range(6)]
    assert on_rung == [50_000, 100_000, 200_000, 400_000, 400_000, 400_000]
    state = StateSnapshot(current_limit_fen=100_000, increases_365d=4)
    held = best_offer(case_of(state=state), 1_000_000, False, 9000)
    assert (held.amount_fen, held.binding_cap) == (100_000, "VELOCITY")
    free = best_offer(case_of(state=replace(state, increases_365d=3)), 1_000_000, False, 9000)
    assert free.amount_fen == 200_000
