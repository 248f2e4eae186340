"""Decisions over HTTP: once each, durable, replayable, seen by role; on SQLite and on PostgreSQL."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from server.decisions.views import TELLS_PD


def test_a_decision_is_answered_with_its_record(api: Any, asked: Any) -> None:
    got = api.decided(asked())
    assert (got["decision"]["decision"], got["decision"]["amount_fen"]) == ("APPROVE", 1_000_000)
    assert (got["cause"], got["parent_id"], got["seq"]) == ("request", None, api.records())
    with api.service.read() as unit:
        from server.decisions import chain

        record = chain.read(unit.connection, unit.vault, got["seq"])
    assert record.record_sha256 == got["record_sha256"]
    assert record.body["decision"] == got["decision"]


def test_the_same_request_gets_the_same_bytes_and_one_record(api: Any, asked: Any) -> None:
    body = asked()
    first = api.ask(body)
    count = api.records()
    shuffled = dict(reversed(body.items()))
    again = api.ask(shuffled)
    assert (again.status_code, again.content) == (200, first.content)
    assert again.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers
    assert api.records() == count


def test_a_repetition_without_as_of_is_still_the_same_request(api: Any, asked: Any) -> None:
    body = asked()
    del body["as_of"]
    first = api.ask(body)
    api.later(hours=3)
    assert api.ask(body).content == first.content


def test_a_key_with_another_body_is_refused(api: Any, asked: Any) -> None:
    body = asked()
    api.decided(body)
    count = api.records()
    other = api.ask(body | {"requested_fen": 999_000})
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")
    assert api.records() == count


def test_fifty_at_once_with_one_key_make_one_record(api: Any, asked: Any) -> None:
    body = asked()
    before = api.records()
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: api.ask(body), range(50)))
    bodies = {a.content for a in answers if a.status_code == 200}
    assert {a.status_code for a in answers} <= {200, 409}
    assert {a.json()["code"] for a in answers if a.status_code == 409} <= {"in_flight"}
    assert len(bodies) == 1
    assert api.records() == before + 1


def test_a_past_decision_is_replayed_byte_for_byte(api: Any, asked: Any) -> None:
    for body in (asked(1), asked(2, kyc={"logit_e6": 2_000_000}), asked(3, requested_fen=None, blocks={})):
        got = api.decided(body)
        found = api.call("auditor", "POST", f"/v1/decisions/{got['decision_id']}/replay").json()
        assert found["identical"] is True
        assert found["sha256"] == found["replayed_sha256"]


def test_an_applicant_never_sees_the_pd_nor_what_tells_it(api: Any, asked: Any) -> None:
    got = api.decided(asked())
    assert set(TELLS_PD) <= got["decision"].keys()
    token = api.call("officer", "POST", f"/v1/decisions/{got['decision_id']}/link").json()["token"]
    seen = api.call(token, "GET", f"/v1/decisions/{got['decision_id']}")
    tried = api.call(
        token, "POST", f"/v1/decisions/{got['decision_id']}/what-if", {"changes": {"requested_fen": 60_000}}
    )
    told = api.call(token, "GET", f"/v1/decisions/{got['decision_id']}/explanation?lang=en")
    assert [seen.status_code, tried.status_code, told.status_code] == [200, 200, 200]
    for answer in (seen, tried, told):
        for word in ("pd_", "z_e6", "margin", "caps", "logit", "EL_BUDGET"):
            assert word not in answer.text
    assert seen.json()["decision"]["score"] == got["decision"]["score"]


def test_an_applicant_s_link_shows_one_person_and_expires(api: Any, asked: Any) -> None:
    mine, other = api.decided(asked(1)), api.decided(asked(2))
    token = api.call("service", "POST", f"/v1/decisions/{mine['decision_id']}/link").json()["token"]
    assert api.call(token, "GET", f"/v1/decisions/{other['decision_id']}").status_code == 404
    objection = {"decision_id": other["decision_id"], "grounds": "not mine"}
    assert api.call(token, "POST", "/v1/appeals", objection).status_code == 404
    forged = token[:-2] + ("AA" if token[-2:] != "AA" else "BB")
    assert api.call(forged, "GET", "/v1/me").json()["code"] == "link_expired"
    assert api.call(token, "GET", "/v1/me").json()["role"] == "applicant"
    api.later(minutes=31)
    assert api.call(token, "GET", "/v1/me").status_code == 401


ROUTES = [
    ("applicant", "GET", "/v1/subjects/" + "a" * 64),
    ("service", "GET", "/v1/subjects/" + "a" * 64),
    ("officer", "POST", "/v1/overrides"),
    ("service", "POST", "/v1/policies"),
    ("officer", "DELETE", "/v1/subjects/" + "a" * 64),
    ("service", "POST", "/v1/subscores"),
    ("shop", "POST", "/v1/decisions"),
    ("auditor", "POST", "/v1/decisions"),
    ("reviewer", "POST", "/v1/batches"),
]


def test_a_role_may_only_what_is_its_own(api: Any, asked: Any) -> None:
    got = api.decided(asked())
    link = api.call("service", "POST", f"/v1/decisions/{got['decision_id']}/link").json()["token"]
    for role, method, path in ROUTES:
        answer = api.call(link if role == "applicant" else role, method, path, {})
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden"), (role, path)
        assert api.call("fs_nobody", method, path, {}).json()["code"] == "unauthenticated"


def test_what_if_leaves_nothing_but_a_note(api: Any, asked: Any) -> None:
    got = api.decided(asked(requested_fen=None, kyc={"income_fen_month": 100_000}))
    path = f"/v1/decisions/{got['decision_id']}"
    richer = api.call("officer", "POST", f"{path}/what-if", {"changes": {"kyc.income_fen_month": 200_000}}).json()
    assert richer["decision"]["amount_fen"] > got["decision"]["amount_fen"]
    safer = api.call("officer", "POST", f"{path}/what-if", {"changes": {"blocks.payments.logit_e6": -900_000}}).json()
    assert safer["decision"]["score"] > got["decision"]["score"]
    for changes in ({"kyc.passed": False}, {"subject_ref": "b" * 64}, {"kyc.income_fen_month": "1"}, {"kyc": {}}):
        refused = api.call("officer", "POST", f"{path}/what-if", {"changes": changes})
        assert (refused.status_code, refused.json()["field"]) == (422, next(iter(changes)))
    seen = api.call("officer", "GET", path)
    assert seen.json()["decision"] == got["decision"]
    assert "fedscore-superseded-by" not in seen.headers


def test_an_explanation_says_all_in_either_language(api: Any, asked: Any) -> None:
    got = api.decided(asked(requested_fen=None))
    zh, en = (
        api.call("officer", "GET", f"/v1/decisions/{got['decision_id']}/explanation?lang={x}").json()
        for x in ("zh", "en")
    )
    assert zh["headline"].startswith("您的额度为¥")
    assert en["headline"].startswith("Your limit is ¥")
    assert [r["code"] for r in zh["reasons"]] == [r["code"] for r in en["reasons"]]
    assert sum(month["principal_fen"] for month in en["schedule"]) == en["amount_fen"] == got["decision"]["amount_fen"]
    assert sum(month["interest_fen"] for month in en["schedule"]) == en["costs"][0]["total_fen"]
    assert len(zh["rights"]) == len(en["rights"]) == 3
    wrong = api.call("officer", "GET", f"/v1/decisions/{got['decision_id']}/explanation?lang=fr")
    assert (wrong.status_code, wrong.json()["field"]) == (422, "lang")


def test_a_decision_is_found_by_subject_request_and_decision(api: Any, asked: Any) -> None:
    body = asked()
    got = api.decided(body)
    for text in (body["subject_ref"], body["request_id"], got["decision_id"]):
        assert api.call("officer", "GET", f"/v1/search?q={text}").json()["subject_ref"] == body["subject_ref"]
    assert api.call("officer", "GET", "/v1/search?q=nobody").status_code == 404
    person = api.call("officer", "GET", f"/v1/subjects/{body['subject_ref']}").json()
    assert [d["decision_id"] for d in person["decisions"]] == [got["decision_id"]]


def test_the_fourth_application_in_a_month_is_refused_by_name(api: Any, asked: Any) -> None:
    outcomes = [api.decided(asked(7))["decision"] for _ in range(4)]
    assert [d["decision"] for d in outcomes] == ["APPROVE"] * 3 + ["DECLINE"]
    assert [r["code"] for r in outcomes[3]["reasons"]] == ["V01"]
    api.later(days=31)
    assert api.decided({k: v for k, v in asked(7).items() if k != "as_of"})["decision"]["decision"] != "DECLINE"


def test_operations_answer_and_metrics_name_no_person(api: Any, asked: Any) -> None:
    body = asked()
    got = api.decided(body)
    assert api.client.get("/healthz").json() == {"status": "ok"}
    assert api.client.get("/readyz").json() == {"status": "ready"}
    text = api.client.get("/metrics").text
    assert 'fedscore_decisions_total{cause="request",outcome="APPROVE"} 1.0' in text
    assert body["subject_ref"] not in text
    assert got["decision_id"] not in text
    head = api.call("auditor", "GET", "/v1/audit/head").json()
    assert head["seq"] == got["seq"]
    schema = api.client.get("/openapi.json").json()
    body_schema = schema["paths"]["/v1/decisions"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body_schema["additionalProperties"] is False
    assert json.dumps(schema)


def test_a_service_whose_policy_expires_is_not_ready_and_decides_nothing(api: Any, asked: Any) -> None:
    api.later(days=400)
    assert api.client.get("/readyz").status_code == 503
    count = api.records()
    body = {k: v for k, v in asked().items() if k != "as_of"}
    refused = api.ask(body)
    assert (refused.status_code, refused.json()["code"]) == (503, "not_in_force")
    assert api.records() == count
