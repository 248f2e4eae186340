"""Whatever is sent: 4xx with the field named, never 5xx, and nothing stored."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

FRESH = {"covered": True, "consent": True, "logit_e6": 0, "as_of": "2026-11-25T01:00:00Z"}
WRONG = [
    ({"requested_fen": 100.0}, "requested_fen"),
    ({"requested_fen": -1}, "requested_fen"),
    ({"requested_fen": 10**15}, "requested_fen"),
    ({"requested_fen": "100"}, "requested_fen"),
    ({"requested_fen": True}, "requested_fen"),
    ({"kyc": {"income_fen_month": -5}}, "kyc.income_fen_month"),
    ({"kyc": {"income_fen_month": 1e5}}, "kyc.income_fen_month"),
    ({"kyc": {"name": "Li Wei"}}, "kyc.name"),
    ({"kyc": {"logit_e6": None}}, "kyc.logit_e6"),
    ({"as_of": "2026-11-25T02:00:00"}, "as_of"),
    ({"as_of": "2026-11-25T02:10:00Z"}, "as_of"),
    ({"as_of": "2026-11-23T02:00:00Z"}, "as_of"),
    ({"as_of": "2026-02-30T02:00:00Z"}, "as_of"),
    ({"as_of": 1764036000}, "as_of"),
    ({"subject_ref": "110101199003077578"}, "subject_ref"),
    ({"request_id": "4711"}, "request_id"),
    ({"product": "mortgage"}, "product"),
    ({"purpose": "gift"}, "purpose"),
    ({"term_months": 0}, "term_months"),
    ({"unknown": 1}, "unknown"),
    ({"schema": "limit-request/2"}, "schema"),
    ({"blocks": []}, "blocks"),
    ({"blocks": {"telecom": FRESH}}, "blocks.telecom"),
    ({"blocks": {"payments": FRESH | {"logit_e6": 0.5}}}, "blocks.payments.logit_e6"),
    ({"blocks": {"payments": FRESH | {"as_of": "2026-11-25"}}}, "blocks.payments.as_of"),
    ({"blocks": {"payments": FRESH | {"quality": "fine"}}}, "blocks.payments.quality"),
    ({"blocks": {"payments": FRESH | {"reasons": [{"code": "S01", "delta_e6": 1}]}}},
     "blocks.payments.reasons[0].code"),
    ({"blocks": {"payments": FRESH | {"next_steps": [{"code": "buy", "delta_e6": -1, "days": 3}]}}},
     "blocks.payments.next_steps[0].code"),
    ({"flags": {"decide_now": 1}}, "flags.decide_now"),
]  # fmt: skip


BODIES = [
    (b"", 422),
    (b"{", 422),
    (b"null", 422),
    (b"[]", 422),
    (b'"text"', 422),
    (b"\xff\xfe", 422),
    (b'{"a": NaN}', 422),
    (b'{"requested_fen": 1, "requested_fen": 2}', 422),
    (b"[" * 5000, 422),
    (b'{"requested_fen": ' + b"9" * 5000 + b"}", 422),
    (b'{"note": "' + b"x" * 70_000 + b'"}', 413),
]


def test_a_wrong_field_is_named_and_nothing_stored(api: Any, asked: Any) -> None:
    count = api.records()
    for changes, field in WRONG:
        answer = api.ask(asked(**changes))
        problem = answer.json()
        assert (answer.status_code, problem["field"], problem["status"]) == (422, field, 422), changes
        assert answer.headers["content-type"] == "application/problem+json"
        assert "110101199003077578" not in answer.text
        assert "Li Wei" not in answer.text
    assert api.records() == count


def test_what_is_no_request_is_refused(api: Any) -> None:
    count = api.records()
    key = {"Idempotency-Key": "0b9c4a52-6c1f-4f6e-9d3e-3a52b0a0c001"}
    for body, status in BODIES:
        answer = api.call("service", "POST", "/v1/decisions", body, **key)
        assert answer.status_code == status, body[:40]
    assert api.records() == count


def test_a_key_is_needed_and_must_be_the_request_s(api: Any, asked: Any) -> None:
    body = asked()
    missing = api.call("service", "POST", "/v1/decisions", body)
    assert (missing.status_code, missing.json()["field"]) == (400, "Idempotency-Key")
    other = api.call("service", "POST", "/v1/decisions", body, **{"Idempotency-Key": asked()["request_id"]})
    assert (other.status_code, other.json()["field"]) == (422, "Idempotency-Key")


def test_unknown_addresses_and_methods_are_problems_too(api: Any) -> None:
    for method, path, status in (
        ("GET", "/v1/nothing", 404),
        ("DELETE", "/v1/decisions", 405),
        ("GET", "/desk/none", 404),
    ):
        answer = api.call("service", method, path)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert api.call("officer", "GET", "/v1/decisions/none").json()["field"] == "decision_id"


JUNK: list[Any] = [
    None,
    True,
    -1,
    0,
    1,
    2**53,
    10**30,
    1.5,
    "",
    "x",
    "二",
    "\u0000",
    "2026-13-01T00:00:00Z",
    [],
    {},
    [1],
    {"a": 1},
]


def mutated(body: Any, chance: random.Random) -> Any:
    """The body with one place changed: another value, a key dropped or renamed, or bytes of its text."""
    text = json.dumps(body)
    if chance.random() < 0.25:
        raw = bytearray(text.encode())
        for _ in range(chance.randint(1, 4)):
            raw[chance.randrange(len(raw))] = chance.randrange(256)
        return bytes(raw)
    copy = json.loads(text)
    places = list(_places(copy))
    table, key = chance.choice(places)
    act = chance.randrange(4)
    if act == 0:
        del table[key]
    elif act == 1 and isinstance(table, dict):
        table[chance.choice(["x", "pd", "KYC", key + "_"])] = table.pop(key)
    else:
        table[key] = chance.choice(JUNK)
    return copy


def _places(value: Any) -> Any:
    """Every (container, key) inside a value."""
    keys = value.keys() if isinstance(value, dict) else range(len(value))
    for key in list(keys):
        yield value, key
        if isinstance(value[key], (dict, list)):
            yield from _places(value[key])


def shaken(api: Any, asked: Any, times: int) -> None:
    """Sends mutants of valid requests; each is answered in the 2xx or 4xx, and only the former leave a record."""
    chance = random.Random(20261125)
    rich = {
        "reasons": [{"code": "Y01", "delta_e6": 50_000}],
        "next_steps": [{"code": "debits_covered", "delta_e6": -1, "days": 9}],
    }
    good, before, decided = 0, api.records(), set()
    for number in range(times):
        body = asked(number % 50, blocks={"payments": FRESH | rich, "ecommerce": {"covered": True, "consent": False}})
        mutant = mutated(body, chance)
        key = mutant.get("request_id") if isinstance(mutant, dict) else body["request_id"]
        head = {
            "Idempotency-Key": key
            if isinstance(key, str) and key.isascii() and key.isprintable()
            else body["request_id"]
        }
        answer = api.call("service", "POST", "/v1/decisions", mutant, **head)
        assert answer.status_code == 200 or 400 <= answer.status_code < 500, (number, answer.text)
        if answer.status_code == 200:
            good += 1
            decided.add(answer.json()["decision_id"])
    assert api.records() == before + good == before + len(decided)
    assert 0.05 * times < good < 0.6 * times


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_a_thousand_mutants_are_refused_or_valid(api: Any, asked: Any) -> None:
    shaken(api, asked, 1_000)


@pytest.mark.slow
@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_a_hundred_thousand_mutants_are_refused_or_valid(api: Any, asked: Any) -> None:
    shaken(api, asked, 100_000)
