"""What stands and what undoes it: facts are kept whatever can be decided, waits end once, people's decisions hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from clients.receipts import signed
from model.limits.fields import plain
from model.limits.receipt import Receipt
from server.decisions import partners
from server.decisions.database import begin

LATE = {"covered": True, "consent": True}
FRESH = {"covered": True, "consent": True, "logit_e6": 0, "as_of": "2026-11-25T01:00:00Z", "tenure_months": 24}
EVIDENCE = "e" * 64


@pytest.fixture
def receipt(api: Any, shop_key: bytes) -> Callable[..., dict[str, Any]]:
    """A signed receipt of the shop as of now, newer than the one before."""

    def make(subject: str, **changes: Any) -> dict[str, Any]:
        api.later(seconds=1)
        plainly = Receipt("shop", "ecommerce", subject, 0, api.clock[0], 24, "m-1", "n-1", "0" * 128)
        return plain(signed(replace(plainly, **changes), shop_key))

    return make


def undated(body: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in body.items() if key != "as_of"}


def told(api: Any, subject: str, kind: str, **fields: Any) -> Any:
    event = {"event_id": f"e-{uuid4()}", "kind": kind, "at": api.clock[0].isoformat()} | fields
    return api.call("service", "POST", f"/v1/accounts/{subject}/events", event)


def newest(api: Any, subject: str) -> dict[str, Any]:
    found = api.call("officer", "GET", f"/v1/subjects/{subject}").json()["decisions"][0]["decision_id"]
    got: dict[str, Any] = api.call("officer", "GET", f"/v1/decisions/{found}").json()
    return got


def waiting(asked: Any, number: int = 1, **block: Any) -> Any:
    blocks = {"payments": FRESH | block, "ecommerce": LATE, "tax_business": FRESH}
    return asked(number, kyc={"logit_e6": 700_000}, blocks=blocks)


def test_a_consent_that_ended_stops_no_sweep_no_event_and_no_withdrawal(api: Any, asked: Any, receipt: Any) -> None:
    body = waiting(asked, consent_until="2026-11-26T02:00:00Z")
    subject = body["subject_ref"]
    assert api.decided(body)["decision"]["decision"] == "DEFER"
    api.later(hours=80)
    assert api.service.sweep() == 1
    assert newest(api, subject)["decision"]["blocks"]["payments"] == "no_consent"
    assert api.call("shop", "POST", "/v1/subscores", receipt(subject)).status_code == 202
    assert told(api, subject, "fraud_suspected").status_code == 201
    assert newest(api, subject)["decision"]["decision"] == "REFER"
    assert api.call("service", "DELETE", f"/v1/subjects/{subject}/consents/payments").status_code == 200


def test_a_fact_is_kept_when_no_policy_holds_and_a_wait_is_tried_again_later(api: Any, asked: Any) -> None:
    body = waiting(asked)
    subject = body["subject_ref"]
    api.decided(body)
    api.later(days=400)
    withdrawn = api.call("service", "DELETE", f"/v1/subjects/{subject}/consents/payments")
    assert withdrawn.status_code == 200
    assert told(api, subject, "fraud_suspected").status_code == 201
    assert (api.service.sweep(), api.service.sweep()) == (0, 0)
    with api.service.read() as unit:
        from server.decisions.refreshing import overdue

        assert overdue(unit.connection, api.clock[0]) == []
        assert overdue(unit.connection, api.clock[0] + timedelta(minutes=16)) == [subject]


def test_one_application_waits_once(api: Any, asked: Any, receipt: Any) -> None:
    body = waiting(asked)
    subject = body["subject_ref"]
    api.decided(body)
    api.later(hours=73)
    api.service.sweep()
    assert newest(api, subject)["decision"]["decision"] != "DEFER"
    for _ in range(2):
        api.call("shop", "POST", "/v1/subscores", receipt(subject, quality="drift"))
        assert newest(api, subject)["decision"]["decision"] != "DEFER"
        review = api.call("service", "POST", f"/v1/accounts/{subject}/review").json()
        assert review["decision"]["decision"] != "DEFER"


def test_asking_again_while_one_waits_is_the_same_application(api: Any, asked: Any) -> None:
    outcomes = []
    for _ in range(4):
        got = api.decided(undated(waiting(asked)))["decision"]
        outcomes.append((got["decision"], {r["code"] for r in got["reasons"]} & {"V01"}))
        api.later(hours=6)
    assert [outcome for outcome, _ in outcomes[:2]] == ["DEFER", "DEFER"]
    assert all(not codes for _, codes in outcomes)


def test_one_application_too_many_leaves_the_earlier_answer_standing(api: Any, asked: Any) -> None:
    standing = [api.decided(asked(3)) for _ in range(3)][-1]
    refused = api.decided(asked(3))
    assert [r["code"] for r in refused["decision"]["reasons"]] == ["V01"]
    subject = asked(3)["subject_ref"]
    assert told(api, subject, "accepted", decision_id=standing["decision_id"]).status_code == 201


def test_one_person_fills_no_quota_of_small_limits(api: Any, asked: Any, receipt: Any) -> None:
    body = asked(1, blocks={"ecommerce": LATE}, requested_fen=None)
    api.call("shop", "POST", "/v1/subscores", receipt(body["subject_ref"]))
    assert api.decided(undated(body))["decision"]["kind"] in ("TRIAL", "SEASONING")
    for _ in range(3):
        api.call("shop", "POST", "/v1/subscores", receipt(body["subject_ref"]))
    from server.decisions import portfolio

    with api.service.read() as unit:
        assert portfolio.load(unit.connection).trials == 1


def test_a_revoked_partner_s_sub_score_decides_nothing_and_opens_nothing(api: Any, asked: Any, receipt: Any) -> None:
    body = asked(1, blocks={"payments": FRESH, "tax_business": FRESH, "ecommerce": LATE}, requested_fen=None)
    api.call("shop", "POST", "/v1/subscores", receipt(body["subject_ref"], logit_e6=-3_000_000))
    assert api.decided(undated(body))["decision"]["blocks"]["ecommerce"] == "fresh"
    with begin(api.service.store.engine) as connection:
        partners.revoke(connection, api.service.store.vault, "shop", "test")
    api.service.registry.changed()
    review = api.call("service", "POST", f"/v1/accounts/{body['subject_ref']}/review").json()
    assert review["decision"]["blocks"]["ecommerce"] in ("delayed", "stale")
    assert review["decision"]["blocks"]["ecommerce"] == "delayed"
    inline = api.ask(asked(2, as_of=api.clock[0].isoformat(), blocks={"ecommerce": FRESH}))
    assert inline.json()["field"] == "blocks.ecommerce.logit_e6"


def overriding(api: Any, got: dict[str, Any], amount: int, why: str) -> Any:
    order = {"amount_fen": amount, "reason": why, "note": "seen", "evidence_sha256": EVIDENCE}
    return api.call("reviewer", "POST", "/v1/overrides", {"decision_id": got["decision_id"], "order": order})


def test_new_data_undoes_no_person_s_decision(api: Any, asked: Any, receipt: Any) -> None:
    body = asked(1, blocks={"payments": FRESH, "tax_business": FRESH, "ecommerce": LATE})
    subject = body["subject_ref"]
    made = overriding(api, api.decided(body), 60_000, "hardship").json()
    api.call("shop", "POST", "/v1/subscores", receipt(subject))
    assert newest(api, subject)["decision_id"] == made["decision_id"]
    refused = overriding(api, made, 0, "fraud_concern")
    assert refused.status_code == 200, refused.text
    api.later(days=31)
    api.call("shop", "POST", "/v1/subscores", receipt(subject))
    again = api.decided(undated(asked(1, blocks={"payments": {**FRESH, "as_of": api.clock[0].isoformat()}})))
    assert again["decision"]["decision"] == "REFER"
    assert told(api, subject, "fraud_cleared").status_code == 201
    assert api.decided(undated(asked(1, blocks={})))["decision"]["decision"] != "REFER"


def test_without_a_consent_a_receipt_is_not_used(api: Any, asked: Any, receipt: Any) -> None:
    body = undated(asked(1, blocks={"payments": FRESH}))
    api.call("shop", "POST", "/v1/subscores", receipt(body["subject_ref"]))
    assert api.decided(body)["decision"]["blocks"]["ecommerce"] == "not_covered"


def test_nothing_is_accepted_on_a_closed_account_and_no_event_voids_itself(api: Any, asked: Any) -> None:
    body = asked(1)
    got, subject = api.decided(body), body["subject_ref"]
    assert told(api, subject, "late", cycle=1, dpd=9, upheld=True).json()["field"] == "upheld"
    assert told(api, subject, "dispute_opened", cycle=1, dpd=9).json()["field"] == "dpd"
    told(api, subject, "accepted", decision_id=got["decision_id"])
    told(api, subject, "closed")
    again = newest(api, subject)
    assert told(api, subject, "accepted", decision_id=again["decision_id"]).status_code == 409
    assert api.call("officer", "GET", f"/v1/accounts/{subject}").json()["limit_fen"] == 0


def test_a_request_is_one_whichever_key_sends_it(api: Any, asked: Any) -> None:
    body = asked(1)
    first = api.ask(body)
    other = api.ask(body, role="officer")
    assert (other.content, other.headers["idempotent-replayed"]) == (first.content, "true")


def test_a_small_limit_s_first_payment_is_counted_once_and_no_other_limit_s(api: Any, asked: Any) -> None:
    from server.decisions import portfolio

    for number, blocks in ((1, {}), (2, {"payments": FRESH, "tax_business": FRESH})):
        body = asked(number, blocks=blocks)
        got, subject = api.decided(body), body["subject_ref"]
        assert got["decision"]["kind"] == ("STANDARD" if blocks else "TRIAL")
        told(api, subject, "accepted", decision_id=got["decision_id"])
        for days in (30, 31):
            assert told(api, subject, "late", cycle=1, dpd=days).status_code == 201
        assert told(api, subject, "paid", cycle=1, dpd=40).status_code == 201
    with api.service.read() as unit:
        assert portfolio.load(unit.connection).first_payments == "1"
