"""The fusion table: patterns, exactness, strictness."""

from __future__ import annotations

import json
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.inputs import InputError
from model.limits.table import DecisionBundle, Default, Entry, FusionTable

DOMAINS = ("ecommerce", "mobile_phone", "payments")
RULE = Default(
    -3_000_000,
    {"ecommerce": 700_000, "mobile_phone": 300_000, "payments": 900_000, "lender_kyc": 500_000},
    {"ecommerce": 100_000, "mobile_phone": -20_000, "payments": 250_000},
    {"ecommerce": 10_000, "mobile_phone": 0, "payments": 40_000},
)
TABLE = FusionTable(DOMAINS, "lender_kyc", {"payments|": Entry(-2_750_000, {"lender_kyc": 800_000})}, RULE)
PATTERNS = [pattern for size in range(4) for pattern in combinations(DOMAINS, size)]


@settings(derandomize=True, deadline=None, max_examples=150, database=None)
@given(st.sampled_from(PATTERNS), st.data())
def test_the_default_rule_adds_a_term_for_each_absent_and_each_late_domain(related, data):
    available = tuple(d for d in related if data.draw(st.booleans()))
    logits = {d: data.draw(st.integers(-5_000_000, 5_000_000)) for d in (*DOMAINS, "lender_kyc")}
    if (related, available) == (("payments",), ()):
        return
    expected = RULE.intercept_e6
    expected += sum(RULE.absent_e6[d] for d in set(DOMAINS) - set(related))
    expected += sum(RULE.late_e6[d] for d in set(related) - set(available))
    products = sum(RULE.weights_e6[d] * logits[d] for d in {*available, "lender_kyc"})
    assert TABLE.z_e6(related, available, logits) == expected + products // 10**6


def test_an_entry_wins_over_the_default_rule():
    assert TABLE.z_e6(("payments",), (), {"lender_kyc": 1_000_000}) == -1_950_000


def test_the_order_within_a_pattern_does_not_matter():
    assert TABLE.entry(["payments", "ecommerce"], {"payments"}) == TABLE.entry(("ecommerce", "payments"), ("payments",))


def test_products_are_floored_once():
    table = FusionTable(
        ("a", "b"), None, {}, Default(0, {"a": 500_000, "b": 500_000}, {"a": 0, "b": 0}, {"a": 0, "b": 0})
    )
    assert table.z_e6("ab", "ab", {"a": 1, "b": 1}) == 1
    assert table.z_e6("ab", "ab", {"a": -1, "b": 0}) == -1


def test_a_table_survives_json():
    again = FusionTable.from_dict(json.loads(json.dumps(TABLE.to_dict())))
    assert again == TABLE
    assert again.to_dict() == TABLE.to_dict()


def test_without_a_default_every_pair_needs_an_entry():
    entry = Entry(0, {})
    with pytest.raises(InputError, match=r"entries\.a\|a is missing, and there is no default"):
        FusionTable(("a",), None, {"|": entry, "a|": entry})
    FusionTable(("a",), None, {"|": entry, "a|": entry, "a|a": Entry(0, {"a": 1})})


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"optional": ["payments", "ecommerce", "mobile_phone"]}, "optional must be sorted"),
        ({"own": "payments"}, "own must not be one of optional"),
        ({"own": "Lender"}, "own must be a lower_snake_case name"),
        ({"more": 1}, "more is not a known key"),
        ({"entries": {"payments|ecommerce": {"intercept_e6": 0, "weights_e6": {}}}}, "is no pair of patterns"),
        ({"entries": {"payments+ecommerce|": {"intercept_e6": 0, "weights_e6": {}}}}, "is no pair of patterns"),
        ({"entries": {"|": {"intercept_e6": 0, "weights_e6": {}}}}, r"entries.\|.weights_e6 must name just lender_kyc"),
        (
            {"entries": {"|": {"intercept_e6": 0.5, "weights_e6": {}}}},
            r"entries.\|.intercept_e6 must be a whole number",
        ),
        (
            {"entries": {"|": {"intercept_e6": 0, "weights_e6": {"lender_kyc": -1}}}},
            r"weights_e6.lender_kyc must be from 0",
        ),
    ],
)
def test_a_wrong_table_is_refused_with_the_field_s_name(change, field):
    with pytest.raises(ValueError, match=field):
        FusionTable.from_dict(TABLE.to_dict() | change)


def test_a_weight_below_zero_or_no_int_is_refused_in_code_too():
    with pytest.raises(ValueError, match=r"entries\.\|\.weights_e6\.x must be >= 0"):
        FusionTable((), "x", {"|": Entry(0, {"x": -1})})
    with pytest.raises(ValueError, match=r"default\.absent_e6\.a must be an int"):
        FusionTable(("a",), None, {}, Default(0, {"a": 1}, {"a": True}, {"a": 0}))


def test_a_domain_that_is_unknown_or_not_related_is_refused():
    with pytest.raises(InputError, match="pattern must be within"):
        TABLE.entry(("payments",), ("ecommerce",))
    with pytest.raises(InputError, match="pattern must be within"):
        TABLE.entry(("post_office",), ())


def test_a_bundle_gives_a_reference_for_each_block():
    with pytest.raises(InputError, match="reference_e6 must name just"):
        DecisionBundle("b", "0" * 64, TABLE, "subscores", {"payments": 0})
    with pytest.raises(InputError, match="kind must be subscores"):
        DecisionBundle("b", "0" * 64, TABLE, "sum_only", dict.fromkeys(TABLE.blocks, 0))
