"""Accounts over HTTP: events once each, the ladder climbed and fallen, erasure that keeps the chain."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from server.decisions import chain
from server.decisions.database import snapshot


def told(api: Any, subject: str, kind: str, **fields: Any) -> Any:
    event = {"event_id": f"e-{uuid4()}", "kind": kind, "at": api.clock[0].isoformat()} | fields
    return api.call("service", "POST", f"/v1/accounts/{subject}/events", event)


def reviewed(api: Any, subject: str) -> dict[str, Any]:
    found: dict[str, Any] = api.call("service", "POST", f"/v1/accounts/{subject}/review").json()
    return found


def accepted(api: Any, got: dict[str, Any], subject: str) -> None:
    assert told(api, subject, "accepted", decision_id=got["decision_id"]).status_code == 201


def cycle(api: Any, subject: str, number: int, **fields: Any) -> None:
    api.later(days=30)
    assert told(api, subject, "paid", cycle=number, used_bp=5000, outstanding_days=20, **fields).status_code == 201


def test_a_small_limit_grows_with_payments_up_to_the_standard_one(api: Any, asked: Any) -> None:
    body = asked(blocks={}, requested_fen=None)
    got, subject = api.decided(body), body["subject_ref"]
    assert (got["decision"]["decision"], got["decision"]["amount_fen"]) == ("TRIAL", 50_000)
    accepted(api, got, subject)
    amounts, number = [], 0
    for _ in range(4):
        for _ in range(2):
            number += 1
            cycle(api, subject, number)
        got = reviewed(api, subject)
        amounts.append((got["decision"]["decision"], got["decision"]["amount_fen"]))
        accepted(api, got, subject)
    assert amounts == [("TRIAL", 100_000), ("TRIAL", 200_000), ("TRIAL", 400_000), ("APPROVE", 800_000)]
    account = api.call("officer", "GET", f"/v1/accounts/{subject}").json()
    assert (account["stage"], account["limit_fen"], account["clean_total"]) == ("standard", 800_000, 8)


def test_a_late_payment_holds_and_a_later_one_demotes(api: Any, asked: Any) -> None:
    body = asked(blocks={}, requested_fen=None)
    subject = body["subject_ref"]
    accepted(api, api.decided(body), subject)
    cycle(api, subject, 1)
    cycle(api, subject, 2)
    accepted(api, reviewed(api, subject), subject)
    promoted = reviewed(api, subject)
    api.later(days=30)
    told(api, subject, "late", cycle=3, dpd=3)
    assert told(api, subject, "accepted", decision_id=promoted["decision_id"]).json()["code"] == "superseded"
    held = reviewed(api, subject)["decision"]
    assert (held["amount_fen"], [r["code"] for r in held["reasons"]]) == (100_000, ["B01"])
    account = api.call("officer", "GET", f"/v1/accounts/{subject}").json()
    assert (account["status"], account["dpd_now"]) == ("hold", 3)
    told(api, subject, "late", cycle=3, dpd=35)
    frozen = reviewed(api, subject)["decision"]
    assert [r["code"] for r in frozen["reasons"]] == ["B03", "B04"]


def test_an_event_told_twice_counts_once_and_another_under_its_id_is_refused(api: Any, asked: Any) -> None:
    body = asked()
    subject = body["subject_ref"]
    accepted(api, api.decided(body), subject)
    event = {"event_id": "e-1", "kind": "balance", "at": "2026-11-25T02:00:00Z", "outstanding_fen": 70_000}
    path = f"/v1/accounts/{subject}/events"
    first = api.call("service", "POST", path, event)
    count = api.records()
    again = api.call("service", "POST", path, event)
    other = api.call("service", "POST", path, event | {"outstanding_fen": 1})
    assert [first.status_code, again.status_code, other.status_code] == [201, 200, 409]
    assert again.json()["duplicate"] is True
    assert api.records() == count
    assert reviewed(api, subject)["decision"]["available_fen"] == 1_000_000 - 70_000


def test_only_the_offer_that_stands_can_be_accepted(api: Any, asked: Any) -> None:
    first, second = api.decided(asked(1)), api.decided(asked(1))
    subject = asked(1)["subject_ref"]
    assert told(api, subject, "accepted", decision_id=first["decision_id"]).json()["code"] == "superseded"
    early = {"at": "2026-11-24T02:00:00Z", "decision_id": second["decision_id"]}
    assert told(api, subject, "accepted", **early).json()["field"] == "at"
    api.later(days=31)
    back = {"at": "2026-11-25T03:00:00Z", "decision_id": second["decision_id"]}
    assert told(api, subject, "accepted", **back).json()["code"] == "no_offer"
    assert told(api, subject, "accepted", decision_id=second["decision_id"]).json()["code"] == "no_offer"
    other = api.decided({k: v for k, v in asked(2).items() if k != "as_of"})
    assert told(api, subject, "accepted", decision_id=other["decision_id"]).status_code == 404
    declined = api.decided({k: v for k, v in asked(3, kyc={"passed": False}).items() if k != "as_of"})
    assert told(api, asked(3)["subject_ref"], "accepted", decision_id=declined["decision_id"]).status_code == 409


def test_wrong_events_name_the_field_and_store_nothing(api: Any, asked: Any) -> None:
    body = asked()
    api.decided(body)
    count, subject = api.records(), body["subject_ref"]
    wrong = {
        "cycle": [{"kind": "paid"}, {"kind": "balance", "cycle": 1}],
        "dpd": [{"kind": "late", "cycle": 1}, {"kind": "late", "cycle": 1, "dpd": -1}],
        "source": [{"kind": "points", "source": "referral"}, {"kind": "points", "source": "on_time_payment"}],
        "decision_id": [{"kind": "accepted"}, {"kind": "closed", "decision_id": str(uuid4())}],
        "kind": [{"kind": "gift"}],
        "at": [{"kind": "closed", "at": "2026-11-26T00:00:00Z"}, {"kind": "closed", "at": "2026-11-25T00:00:00"}],
        "amount_fen": [{"kind": "closed", "amount_fen": 1}],
        "outstanding_fen": [{"kind": "balance", "outstanding_fen": 1.5}],
    }
    for field, bodies in wrong.items():
        for fields in bodies:
            answer = told(api, subject, **fields)
            assert (answer.status_code, answer.json().get("field")) == (422, field), fields
    assert told(api, "b" * 64, "closed").status_code == 404
    assert told(api, "nobody", "closed").json()["field"] == "subject_ref"
    assert api.records() == count


def test_points_come_from_listed_sources_and_pass_no_cap(api: Any, asked: Any) -> None:
    given = api.ask(asked(points=5))
    assert (given.status_code, given.json()["field"]) == (422, "points")
    for number in range(1, 30):
        body = asked(number, requested_fen=None)
        got = api.decided(body)
        for source in (
            "identity_verified",
            "literacy_module",
            "consent_renewed",
            "identity_verified",
            "literacy_module",
        ):
            told(api, body["subject_ref"], "points", source=source)
        after = reviewed(api, body["subject_ref"])["decision"]
        if after["apr_bp"] < got["decision"]["apr_bp"]:  # one in ten is held out, by hash
            assert after["amount_fen"] > got["decision"]["amount_fen"]
            assert after["amount_fen"] <= min(after["caps"].values())
            assert after["score"] == got["decision"]["score"]
            return
    raise AssertionError("points had no effect on anybody")


def test_erasure_keeps_the_chain_and_leaves_nothing_to_read(api: Any, asked: Any) -> None:
    body = asked(1)
    got, subject = api.decided(body), body["subject_ref"]
    other = api.decided(asked(2))
    accepted(api, got, subject)
    refused = api.call("admin", "DELETE", f"/v1/subjects/{subject}")
    assert (refused.status_code, refused.json()["code"]) == (409, "account_open")
    told(api, subject, "closed")
    erased = api.call("admin", "DELETE", f"/v1/subjects/{subject}")
    assert (erased.status_code, erased.json()["records"]) == (200, 4)
    for path in (f"/v1/decisions/{got['decision_id']}", f"/v1/decisions/{got['decision_id']}/explanation"):
        assert api.call("officer", "GET", path).json()["code"] == "erased"
    assert api.call("officer", "GET", f"/v1/subjects/{subject}").status_code == 404
    assert api.call("officer", "GET", f"/v1/search?q={body['request_id']}").status_code == 404
    assert api.ask(body).json()["code"] == "erased"
    assert api.call("auditor", "POST", f"/v1/decisions/{other['decision_id']}/replay").json()["identical"]
    with snapshot(api.service.store.engine) as connection:
        verified = chain.verify(connection, api.service.store.vault)
    assert (verified.erased, verified.count) == (4, api.records())
