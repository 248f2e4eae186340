"""Requests and states are read strictly; whatever does not fit is refused with its path."""

from __future__ import annotations

import json
from copy import deepcopy
from datetime import datetime

import pytest

from model.inputs import InputError
from model.limits.fields import canonical, plain
from model.limits.request import StateSnapshot, parse_request, parse_state

REQUEST = {
    "schema": "limit-request/1",
    "request_id": "0b9c4a52-6c1f-4f6e-9d3e-3a52b0a0c001",
    "subject_ref": "5e" * 32,
    "purpose": "new",
    "as_of": "2026-11-23T10:00:00+08:00",
    "product": "consumer",
    "requested_fen": 1_000_000,
    "term_months": 12,
    "kyc": {
        "passed": True,
        "age_years": 23,
        "segment": "salaried",
        "income_fen_month": 600_000,
        "income_source": "declared",
        "existing_debt_service_fen_month": 0,
        "other_consumer_credit_fen": 0,
        "logit_e6": -200_000,
    },
    "blocks": {
        "payments": {
            "covered": True,
            "consent": True,
            "logit_e6": -350_000,
            "as_of": "2026-11-23T02:00:00Z",
            "quality": "ok",
            "tenure_months": 30,
            "reasons": [{"code": "Y02", "delta_e6": 100_000}, {"code": "repayment", "delta_e6": -50_000}],
        },
        "tax_business": None,
    },
    "points": 0,
    "flags": {"decide_now": False, "human_review_requested": False},
}


def changed(path: str, value: object) -> dict:
    """The request with one field set, or deleted by `...`."""
    data = at = deepcopy(REQUEST)
    *way, last = [int(step) if step.isdigit() else step for step in path.split(".")]
    for step in way:
        at = at[step]
    if value is ...:
        del at[last]
    else:
        at[last] = value
    return data


def test_a_request_survives_json():
    request = parse_request(REQUEST)
    assert parse_request(json.loads(canonical(request))) == request
    assert request.blocks["payments"].as_of == datetime.fromisoformat("2026-11-23T10:00:00+08:00")
    assert request.blocks["tax_business"] is None


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("requested_fen", 10_000.0, "requested_fen must be a whole number"),
        ("requested_fen", "10000", "requested_fen must be a whole number"),
        ("requested_fen", -1, "requested_fen must be from 0"),
        ("requested_fen", ..., "requested_fen is missing"),
        ("kyc.income_fen_month", -1, "kyc.income_fen_month must be from 0"),
        ("kyc.income_fen_month", 1e6, "kyc.income_fen_month must be a whole number"),
        ("kyc.income_fen_month", None, "kyc.income_fen_month must be a whole number"),
        ("kyc.income_fen_month", True, "kyc.income_fen_month must be a whole number"),
        ("kyc.gender", "f", "kyc.gender is not a known key"),
        ("kyc.segment", "farmer", "kyc.segment must be one of salaried"),
        ("kyc.passed", 1, "kyc.passed must be true or false"),
        ("as_of", "2026-11-23T10:00:00", "as_of must be an instant with its offset"),
        ("as_of", "2026-11-23", "as_of must be an instant with its offset"),
        ("as_of", "2026-02-30T10:00:00Z", "as_of is no date and time of the calendar"),
        ("as_of", "0001-01-01T00:00:00+08:00", "as_of must lie in the years"),
        ("as_of", 1_795_000_000, "as_of must be an instant with its offset"),
        ("request_id", "4711", "request_id must be a lower-case UUID"),
        ("subject_ref", "440101199001011234", "subject_ref must be a keyed pseudonym"),
        ("purpose", "loan", "purpose must be one of new, increase, review, appeal"),
        ("points", -1, "points must be from 0"),
        ("blocks", [], "blocks must be a table"),
        ("blocks.Payments", None, "blocks.Payments must be a lower_snake_case name"),
        ("blocks.payments", "late", "blocks.payments must be a table"),
        ("blocks.payments.as_of", "yesterday", "blocks.payments.as_of must be an instant with its offset"),
        ("blocks.payments.quality", "fine", "blocks.payments.quality must be one of ok"),
        ("blocks.payments.logit_e6", 0.3, "blocks.payments.logit_e6 must be a whole number"),
        ("blocks.payments.logit_e6", 10**10, "blocks.payments.logit_e6 must be from -1000000000 to"),
        ("blocks.payments.reasons", {}, "blocks.payments.reasons must be a list"),
        ("blocks.payments.reasons.0.code", "F01", r"blocks.payments.reasons\[0\].code is no reason a data holder"),
        ("blocks.payments.reasons.0.code", "Z99", r"blocks.payments.reasons\[0\].code is no reason a data holder"),
        ("blocks.payments.reasons.1.code", "重复", r"blocks.payments.reasons\[1\].code must be a reason code or"),
        ("flags.now", True, "flags.now is not a known key"),
        ("limit_fen", 5, "limit_fen is not a known key"),
    ],
)
def test_a_bad_request_is_refused_with_the_field_s_path(path, value, message):
    with pytest.raises(InputError, match=rf"^desk: {message}"):
        parse_request(changed(path, value), "desk")


def test_null_and_absent_and_zero_are_three_things():
    assert parse_request(changed("requested_fen", None)).requested_fen is None
    assert parse_request(changed("requested_fen", 0)).requested_fen == 0
    with pytest.raises(InputError, match="requested_fen is missing"):
        parse_request(changed("requested_fen", ...))


def test_a_block_dated_in_the_future_is_read_since_its_state_will_say_so():
    assert parse_request(changed("blocks.payments.as_of", "2027-01-01T00:00:00Z")).blocks["payments"]


def test_something_else_than_an_object_is_refused():
    with pytest.raises(InputError, match="must be a table of named fields"):
        parse_request([REQUEST])


def test_a_state_is_read_strictly_and_is_a_new_customer_s_by_default():
    assert parse_state({}) == StateSnapshot()
    assert parse_state(plain(StateSnapshot(rung=2, stage="trial"))) == StateSnapshot(rung=2, stage="trial")
    for field, value in [("rung", -1), ("stage", "gold"), ("first_deferred_at", "2026-11-23"), ("limit", 1)]:
        with pytest.raises(InputError, match=f"state: {field}"):
            parse_state({field: value})


def test_a_float_never_reaches_canonical_bytes():
    with pytest.raises(TypeError, match="float has no canonical form"):
        canonical({"a": 0.5})
