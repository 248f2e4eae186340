"""Overrides and appeals over HTTP: never past law, means or gates; two persons for large sums; another judge."""

from __future__ import annotations

from typing import Any

import pytest

EVIDENCE = "e" * 64


def order(amount: int, **changes: Any) -> dict[str, Any]:
    return {
        "amount_fen": amount,
        "reason": "income_evidence",
        "note": "payslips seen",
        "evidence_sha256": EVIDENCE,
        **changes,
    }


def overriding(api: Any, got: dict[str, Any], amount: int, role: str = "reviewer", **changes: Any) -> Any:
    body = {"decision_id": got["decision_id"], "order": order(amount, **changes)}
    return api.call(role, "POST", "/v1/overrides", body)


def test_an_override_is_a_new_decision_linked_to_the_old_and_replays(api: Any, asked: Any) -> None:
    got = api.decided(asked(requested_fen=None))
    base = got["decision"]["amount_fen"]
    made = overriding(api, got, base + 150_000)
    assert made.status_code == 200, made.text
    new = made.json()
    assert (new["cause"], new["parent_id"], new["decision"]["amount_fen"]) == (
        "override",
        got["decision_id"],
        base + 150_000,
    )
    assert new["decision"]["binding_cap"] == "OVERRIDE"
    assert [r["code"] for r in new["decision"]["reasons"]] == ["H03"]
    assert api.call("auditor", "POST", f"/v1/decisions/{new['decision_id']}/replay").json()["identical"]
    assert overriding(api, got, base).json()["code"] == "superseded"


@pytest.mark.parametrize("kyc", [{"income_fen_month": 100_000}, {"other_consumer_credit_fen": 19_900_000}])
def test_no_override_passes_means_or_the_legal_ceiling(api: Any, asked: Any, kyc: Any) -> None:
    got = api.decided(asked(requested_fen=None, kyc=kyc))
    most = min(got["decision"]["caps"][name] for name in ("AFFORDABILITY", "LEGAL_CONSUMER", "INCOME_MULTIPLE"))
    refused = overriding(api, got, most // 10_000 * 10_000 + 10_000)
    assert (refused.status_code, refused.json()["field"]) == (422, "amount_fen")
    assert overriding(api, got, most // 10_000 * 10_000).status_code == 200


def test_no_override_passes_a_hard_gate(api: Any, asked: Any) -> None:
    for number, kyc in enumerate(({"passed": False}, {"fraud_flag": True}, {"age_years": 17}, {"segment": "student"})):
        got = api.decided(asked(number, kyc=kyc))
        assert got["decision"]["decision"] == "DECLINE"
        assert overriding(api, got, 50_000).json()["field"] == "amount_fen"


def test_a_large_sum_needs_a_second_person(api: Any, asked: Any) -> None:
    got = api.decided(asked(requested_fen=None, kyc={"income_fen_month": 3_000_000, "logit_e6": -1_500_000}))
    assert got["decision"]["amount_fen"] > 2_000_000
    count = api.records()
    pending = overriding(api, got, 2_100_000)
    assert (pending.status_code, pending.json()["state"]) == (202, "pending")
    path = f"/v1/overrides/{pending.json()['override_id']}/approve"
    assert api.call("reviewer", "POST", path).json()["code"] == "same_person"
    made = api.call("reviewer2", "POST", path)
    assert (made.status_code, made.json()["decision"]["amount_fen"]) == (200, 2_100_000)
    assert api.call("reviewer2", "POST", path).json()["code"] == "unknown_override"
    assert api.records() == count + 2


WRONG = [
    ({"amount_fen": 55_000}, "amount_fen"),
    ({"amount_fen": 10_000}, "amount_fen"),
    ({"amount_fen": -1}, "order.amount_fen"),
    ({"reason": "because"}, "order.reason"),
    ({"note": ""}, "order.note"),
    ({"evidence_sha256": "x"}, "order.evidence_sha256"),
    ({"expires_at": "2026-11-25T01:59:59Z"}, "expires_at"),
]


def test_a_wrong_order_names_its_field(api: Any, asked: Any) -> None:
    got = api.decided(asked())
    count = api.records()
    for changes, field in WRONG:
        body = {"decision_id": got["decision_id"], "order": order(60_000) | changes}
        answer = api.call("reviewer", "POST", "/v1/overrides", body)
        assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert api.records() == count


def test_an_appeal_is_taken_on_judged_and_closed_by_another_person(api: Any, asked: Any) -> None:
    got = api.decided(asked(requested_fen=None))
    made = overriding(api, got, 60_000).json()
    appeal = api.call("service", "POST", "/v1/appeals", {"decision_id": made["decision_id"], "grounds": "I earn more"})
    assert (appeal.status_code, appeal.json()["state"]) == (201, "open")
    assert appeal.json()["due_at"].startswith("2026-12-15")
    again = api.call("service", "POST", "/v1/appeals", {"decision_id": made["decision_id"], "grounds": "again"})
    assert again.json()["code"] == "appeal_open"
    path = f"/v1/appeals/{appeal.json()['appeal_id']}"
    assert api.call("reviewer", "PATCH", path, {"action": "assign", "note": "mine"}).json()["code"] == "same_person"
    assert api.call("reviewer2", "PATCH", path, {"action": "uphold", "note": "ok"}).json()["code"] == "not_assigned"
    assert api.call("reviewer2", "PATCH", path, {"action": "assign", "note": "mine"}).json()["state"] == "in_review"
    listed = api.call("officer", "GET", "/v1/appeals?state=in_review").json()["appeals"]
    assert [row["appeal_id"] for row in listed] == [appeal.json()["appeal_id"]]
    wrong = api.call("reviewer2", "PATCH", path, {"action": "change", "note": "payslips"})
    assert wrong.json()["field"] == "order"
    changed = api.call("reviewer2", "PATCH", path, {"action": "change", "note": "payslips", "order": order(200_000)})
    assert changed.json()["state"] == "changed"
    new = api.call("officer", "GET", f"/v1/decisions/{changed.json()['new_decision_id']}").json()
    assert (new["cause"], new["decision"]["amount_fen"], new["parent_id"]) == ("appeal", 200_000, made["decision_id"])
    assert api.call("reviewer2", "PATCH", path, {"action": "reject", "note": "no"}).status_code == 404
    assert api.call("officer", "GET", "/v1/appeals?state=lost").json()["field"] == "state"


def test_whoever_asks_for_a_person_gets_one(api: Any, asked: Any) -> None:
    body = asked(flags={"human_review_requested": True}, requested_fen=None)
    got = api.decided(body)
    assert (got["decision"]["decision"], [r["code"] for r in got["decision"]["reasons"]]) == ("REFER", ["H01"])
    made = overriding(api, got, 100_000).json()
    assert made["decision"]["amount_fen"] == 100_000
    assert api.call("auditor", "POST", f"/v1/decisions/{made['decision_id']}/replay").json()["identical"]
