"""The real-time loop: signed sub-scores arrive, late data is waited for, and a new sub-score refreshes the limit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from clients.receipts import signed
from model.limits.fields import plain, read
from model.limits.receipt import Receipt

LATE = {"covered": True, "consent": True}
FRESH = {"covered": True, "consent": True, "logit_e6": 0, "as_of": "2026-11-25T01:00:00Z", "tenure_months": 24}


@pytest.fixture
def receipt(shop_key: bytes) -> Callable[..., dict[str, Any]]:
    """A signed receipt of the shop; keyword arguments replace fields before it is signed."""

    def make(subject: str, **changes: Any) -> dict[str, Any]:
        at = datetime.fromisoformat("2026-11-25T01:00:00+00:00")
        plainly = Receipt("shop", "ecommerce", subject, 0, at, 24, "shop-model-1", "n-1", "0" * 128)
        return plain(signed(replace(plainly, **changes), shop_key))

    return make


def test_late_data_defers_with_a_deadline_and_is_decided_when_it_arrives(api: Any, asked: Any, receipt: Any) -> None:
    body = asked(1, kyc={"logit_e6": 700_000}, blocks={"payments": FRESH, "tax_business": FRESH, "ecommerce": LATE})
    first = api.ask(body)
    waits = first.json()["decision"]
    assert (waits["decision"], waits["defer_deadline"]) == ("DEFER", "2026-11-28T02:00:00+00:00")
    assert int(first.headers["retry-after"]) == 6 * 3600
    assert [(r["code"], r["source"]) for r in waits["reasons"]] == [("D01", "ecommerce")]
    api.later(hours=5)
    sent = api.call("shop", "POST", "/v1/subscores", receipt(body["subject_ref"], logit_e6=-600_000))
    assert (sent.status_code, sent.json()) == (202, {"received": 1})
    person = api.call("officer", "GET", f"/v1/subjects/{body['subject_ref']}").json()
    newest = person["decisions"][0]
    assert (newest["decision"], newest["cause"], newest["parent_id"]) == (
        "APPROVE",
        "refresh",
        first.json()["decision_id"],
    )
    assert person["waiting"] is None
    old = api.call("service", "GET", f"/v1/decisions/{first.json()['decision_id']}")
    assert old.headers["fedscore-superseded-by"] == newest["decision_id"]


def test_after_the_deadline_it_is_decided_without_the_late_data(api: Any, asked: Any) -> None:
    body = asked(1, kyc={"logit_e6": 700_000}, blocks={"payments": FRESH, "tax_business": FRESH, "ecommerce": LATE})
    assert api.decided(body)["decision"]["decision"] == "DEFER"
    api.later(hours=71)
    assert api.service.sweep() == 0
    api.later(hours=1, seconds=1)
    assert api.service.sweep() == 1
    newest = api.call("officer", "GET", f"/v1/subjects/{body['subject_ref']}").json()["decisions"][0]
    got = api.call("officer", "GET", f"/v1/decisions/{newest['decision_id']}").json()["decision"]
    assert got["decision"] != "DEFER"
    assert not {r["code"] for r in got["reasons"]} & {"D01", "D02", "D03"}
    assert api.service.sweep() == 0
    told = api.call("service", "GET", "/v1/changes").json()
    assert [row["cause"] for row in told["decisions"]] == ["request", "refresh"]
    assert api.call("service", "GET", f"/v1/changes?after={told['next']}").json()["decisions"] == []
    assert api.call("service", "GET", "/v1/changes?after=x").status_code == 422


def test_a_new_sub_score_refreshes_a_standing_limit(api: Any, asked: Any, receipt: Any) -> None:
    body = asked(requested_fen=None, blocks={"payments": FRESH, "tax_business": FRESH, "ecommerce": LATE})
    api.call("shop", "POST", "/v1/subscores", receipt(body["subject_ref"]))
    before = api.decided(body)["decision"]
    assert before["blocks"]["ecommerce"] == "fresh"
    worse = receipt(body["subject_ref"], logit_e6=900_000, as_of=datetime.fromisoformat("2026-11-25T01:30:00+00:00"))
    assert api.call("shop", "POST", "/v1/subscores", worse).status_code == 202
    newest = api.call("officer", "GET", f"/v1/subjects/{body['subject_ref']}").json()["decisions"][0]
    assert 0 < newest["amount_fen"] < before["amount_fen"]


def test_replayed_forged_and_foreign_receipts_are_refused_and_nothing_is_stored(
    api: Any, asked: Any, receipt: Any
) -> None:
    subject = asked()["subject_ref"]
    good = receipt(subject)
    assert api.call("shop", "POST", "/v1/subscores", good).status_code == 202
    count = api.records()
    future = datetime.fromisoformat("2026-11-25T02:03:00+00:00")
    past = datetime.fromisoformat("2026-11-25T00:59:00+00:00")
    bad = {
        "replayed": (good, 422, "as_of"),
        "older": (receipt(subject, as_of=past, nonce="n-2"), 422, "as_of"),
        "future": (receipt(subject, as_of=future), 422, "as_of"),
        "changed": ({**receipt(subject, as_of=past), "logit_e6": -1}, 422, "sig"),
        "other person": ({**good, "subject_ref": "b" * 64}, 422, "sig"),
        "other domain": ({**good, "domain": "payments"}, 403, "partner"),
        "other partner": ({**good, "partner": "pay"}, 403, "partner"),
        "consent over": (receipt(subject, consent_until=past), 422, "consent_until"),
        "unknown field": ({**good, "pd": 1}, 422, "pd"),
        "a fraction": ({**good, "logit_e6": 1.5}, 422, "logit_e6"),
        "no list": ([], 422, "receipts"),
    }
    for name, (body, status, field) in bad.items():
        answer = api.call("shop", "POST", "/v1/subscores", body)
        assert (answer.status_code, answer.json()["field"]) == (status, field), name
    mixed = [receipt("c" * 64), good]
    assert api.call("shop", "POST", "/v1/subscores", mixed).status_code == 422
    assert api.records() == count


def test_a_fed_domain_takes_no_inline_sub_score(api: Any, asked: Any) -> None:
    count = api.records()
    refused = api.ask(asked(blocks={"ecommerce": FRESH}))
    assert (refused.status_code, refused.json()["field"]) == (422, "blocks.ecommerce.logit_e6")
    assert api.records() == count


def test_of_two_partners_the_one_that_knows_the_person_longer_counts(api: Any, asked: Any, receipt: Any) -> None:
    from server.decisions.receipts import newest_of

    shop = read(Receipt, receipt("a" * 64), "test")
    other = replace(shop, partner="another", tenure_months=30, logit_e6=5)
    assert newest_of([shop, other]) is other
    assert newest_of([replace(other, tenure_months=24), shop]).partner == "another"
    assert newest_of([]) is None


def test_a_withdrawn_consent_deletes_the_sub_score_and_decides_without_it(api: Any, asked: Any, receipt: Any) -> None:
    body = asked(requested_fen=None, blocks={"payments": FRESH, "tax_business": FRESH, "ecommerce": LATE})
    subject = body["subject_ref"]
    path = f"/v1/subjects/{subject}/consents/ecommerce"
    agreed = {"granted_at": "2026-11-25T00:00:00Z", "expires_at": "2027-11-25T00:00:00Z", "doc_sha256": "e" * 64}
    assert api.call("service", "PUT", path, agreed).status_code == 200
    api.call("shop", "POST", "/v1/subscores", receipt(subject))
    assert api.decided(body)["decision"]["blocks"]["ecommerce"] == "fresh"
    after = api.call("service", "DELETE", path).json()
    assert after["decision"]["blocks"]["ecommerce"] == "no_consent"
    assert api.call("officer", "GET", f"/v1/subjects/{subject}").json()["blocks"]["ecommerce"]["partner"] is None
    newer = receipt(subject, as_of=datetime.fromisoformat("2026-11-25T01:45:00+00:00"))
    refused = api.call("shop", "POST", "/v1/subscores", newer)
    assert (refused.status_code, refused.json()["code"]) == (409, "consent_withdrawn")
    again = api.ask(asked(requested_fen=None, blocks={"ecommerce": LATE}))
    assert (again.status_code, again.json()["field"]) == (422, "blocks.ecommerce.consent")
    revived = api.call("service", "PUT", path, agreed)
    assert (revived.status_code, revived.json()["field"]) == (422, "granted_at")
    api.later(minutes=5)
    assert api.call("service", "PUT", path, agreed | {"granted_at": "2026-11-25T02:03:00Z"}).status_code == 200
    used = receipt(subject)
    assert api.call("shop", "POST", "/v1/subscores", used).json()["field"] == "as_of"
    assert api.call("shop", "POST", "/v1/subscores", newer).status_code == 202
    newest = api.call("officer", "GET", f"/v1/subjects/{subject}").json()["decisions"][0]
    got = api.call("officer", "GET", f"/v1/decisions/{newest['decision_id']}").json()["decision"]
    assert got["blocks"]["ecommerce"] == "fresh"


def test_an_expired_consent_is_refused_and_one_that_expires_ends_the_answer(api: Any, asked: Any) -> None:
    over = {**FRESH, "consent_until": "2026-11-25T02:00:00Z"}
    refused = api.ask(asked(blocks={"payments": over}))
    assert (refused.status_code, refused.json()["field"]) == (422, "blocks.payments.consent_until")
    soon = {**FRESH, "consent_until": "2026-11-26T02:00:00Z"}
    got = api.decided(asked(blocks={"payments": soon, "tax_business": FRESH}))
    assert got["decision"]["valid_until"] == "2026-11-26T02:00:00+00:00"


WRONG = [
    ({"granted_at": "2026-12-25T00:00:00Z"}, "granted_at"),
    ({"granted_at": "2026-11-25T00:00:00Z", "expires_at": "2026-11-25T01:00:00Z"}, "expires_at"),
    ({"granted_at": "2026-11-25"}, "granted_at"),
    ({"granted_at": "2026-11-25T00:00:00Z", "withdrawn_at": "2026-11-25T01:00:00Z"}, "withdrawn_at"),
    ({}, "granted_at"),
]


def test_a_wrong_consent_names_its_field(api: Any) -> None:
    count, path = api.records(), f"/v1/subjects/{'a' * 64}/consents"
    for body, field in WRONG:
        answer = api.call("service", "PUT", f"{path}/payments", body)
        assert (answer.status_code, answer.json()["field"]) == (422, field)
    unknown = api.call("service", "PUT", f"{path}/telecom", {"granted_at": "2026-11-25T00:00:00Z"})
    assert unknown.json()["field"] == "domain"
    assert api.records() == count


def test_a_receipt_of_tomorrow_s_clock_is_within_the_skew(api: Any, receipt: Any) -> None:
    soon = datetime.fromisoformat("2026-11-25T02:00:00+00:00") + timedelta(seconds=90)
    assert api.call("shop", "POST", "/v1/subscores", receipt("d" * 64, as_of=soon)).status_code == 202
