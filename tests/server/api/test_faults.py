"""What goes wrong in the service or in what it is sent: always a problem document, and never 500 for bad input."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text, update

import model.limits.policy as shipped
from model.limits.fields import digest, plain
from model.limits.policy import load_policy
from server.decisions import chain, registry
from server.decisions.api_keys import FRESH
from server.decisions.database import begin
from server.decisions.problems import Refused
from server.decisions.tables import api_key
from server.decisions.tables import policy as policies
from server.decisions.what_if import A_MINUTE, MINUTE_S, Pace

TOML = Path(shipped.__file__).with_name("policy.toml").read_text(encoding="utf-8")
HALF = "\ud800"
KEPT_BEFORE = {name: value for name, value in plain(load_policy()).items() if name != "classes"} | {
    "version": "2025.1",
    "classes": {k: v for k, v in plain(load_policy().classes).items() if k != "review_refer_pd_bp"},
}


def problem(answer: Any, status: int, code: str, field: str | None = None) -> None:
    """The answer is this problem document."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    assert (answer.json()["code"], answer.json().get("field"), answer.json()["status"]) == (code, field, status)


def test_a_fault_is_a_problem_document_that_is_counted_and_logged_by_its_kind(api: Any, caplog: Any) -> None:
    with begin(api.service.store.engine) as connection:
        connection.execute(update(policies).values(approved_by="spoilt by somebody"))
    with caplog.at_level("INFO", "fedscore.decisions"):
        problem(api.call("admin", "GET", "/v1/policies"), 500, "internal")
    failed = [record for record in caplog.records if record.message == "failed"]
    assert [record.fields for record in failed] == [{"error": "JSONDecodeError"}]
    assert "spoilt" not in caplog.text
    counted = 'fedscore_request_seconds_count{method="GET",route="/v1/policies",status="500"} 1.0'
    assert counted in api.client.get("/metrics").text


def test_a_status_without_a_title_of_its_own_is_a_document_too() -> None:
    assert Refused(418, "http", "I am a teapot.").document()["title"] == "Error"


def test_half_of_a_surrogate_pair_is_refused_with_its_field(api: Any, asked: Any) -> None:
    problem(api.ask(asked(product=HALF)), 422, "invalid", "product")
    objection = {"decision_id": "0" * 36, "grounds": HALF}
    problem(api.call("officer", "POST", "/v1/appeals", objection), 422, "invalid", "grounds")
    head = {"Content-Type": "application/json"}
    rules = json.dumps(plain(load_policy()) | {"id": HALF})
    problem(api.call("admin", "POST", "/v1/policies", rules, **head), 422, "invalid", "id")
    twice = b'{"\\ud800": 1, "\\ud800": 2}'
    problem(api.call("officer", "POST", "/v1/appeals", twice), 422, "invalid")


def test_half_of_a_surrogate_pair_in_a_batch_is_its_row_s_error(api: Any, asked: Any) -> None:
    lines = "\n".join(json.dumps(asked(number, **wrong)) for number, wrong in ((1, {"product": HALF}), (2, {})))
    batch = api.call("service", "POST", "/v1/batches", lines).json()["batch_id"]
    ends = time.monotonic() + 60
    while api.call("service", "GET", f"/v1/batches/{batch}").json()["state"] != "done":
        assert time.monotonic() < ends
        time.sleep(0.02)
    rows = [json.loads(row) for row in api.call("service", "GET", f"/v1/batches/{batch}/results").text.splitlines()]
    assert rows[0]["error"]["field"] == "product"
    assert "answer" in rows[1]


HARD = {
    "digits": TOML.replace("min_age = 18", "min_age = " + "9" * 5000),
    "hexadecimal": TOML.replace("min_age = 18", "min_age = 0x" + "F" * 5000),
    "nesting": "a = " + "[" * 30_000,
    "no UTF-8": b"a = '\xff'",
    "dots": ".".join(["a"] * 30_000) + " = 1",
    "dots in a head": "[" + ".".join(["a"] * 30_000) + "]",
    "dots after a text": 'x = {b = """\n"x""", ' + ".".join(["a"] * 30_000) + " = 1}",
}


def test_a_policy_that_is_hard_to_read_is_refused_at_once(api: Any) -> None:
    for name, body in HARD.items():
        for path in ("/v1/policies/validate", "/v1/policies"):
            began = time.process_time()
            field = "legal.min_age" if name == "hexadecimal" else None
            problem(api.call("admin", "POST", path, body), 422, "invalid", field)
            assert time.process_time() - began < 2  # of the service, which is a thread of this process


def lost(api: Any, table: str) -> None:
    """The database loses a table, so that what asks for it fails in the database."""
    with begin(api.service.store.engine) as connection:
        connection.execute(text(f"ALTER TABLE {table} RENAME TO lost"))


def test_reads_of_a_broken_database_are_503(api: Any, asked: Any) -> None:
    made = api.decided(asked())["decision_id"]
    lost(api, "decision")
    for path in (f"/v1/decisions/{made}", f"/v1/decisions/{made}/explanation", "/v1/changes"):
        problem(api.call("auditor", "GET", path), 503, "unavailable")


def test_who_asks_cannot_be_known_without_the_database(api: Any) -> None:
    lost(api, "api_key")
    time.sleep(FRESH + 0.1)
    problem(api.call("auditor", "GET", "/v1/policies"), 503, "unavailable")
    problem(api.call("service", "POST", "/v1/decisions", {}), 503, "unavailable")


def test_a_text_that_no_database_keeps_is_the_caller_s_fault(api: Any) -> None:
    answer, server = api.call("auditor", "GET", "/v1/decisions/a%00b"), api.service.store.engine.dialect.name
    problem(answer, *((422, "invalid") if server == "postgresql" else (404, "unknown_decision", "decision_id")))


def kept(api: Any, document: dict[str, Any]) -> str:
    """Stores a policy as an earlier version of fedscore did."""
    store, key = api.service.store, digest(document)
    with begin(store.engine) as connection:
        record = chain.append(connection, store.vault, "policy_uploaded", None, {"by": "x", "document": document})
        said = {name: document[name] for name in ("id", "version")} | {"uploaded_by": "x", "approved_by": "[]"}
        connection.execute(policies.insert(), {**said, "sha256": key, "state": "draft", "at": "", "seq": record.seq})
    return key


def test_a_policy_kept_before_a_field_was_decides_under_its_own_hash(api: Any, asked: Any) -> None:
    key = kept(api, KEPT_BEFORE)
    for name in ("admin", "admin2"):
        assert api.call(name, "POST", f"/v1/policies/{key}/approve").status_code == 200
    assert api.call("admin", "POST", f"/v1/policies/{key}/activate").status_code == 200
    made = api.decided(asked())
    assert made["decision"]["versions"]["policy_sha256"] == key
    assert api.call("auditor", "POST", f"/v1/decisions/{made['decision_id']}/replay").json()["identical"] is True
    shown = api.call("auditor", "GET", f"/v1/policies/{key}").json()
    assert (shown, digest(shown)) == (KEPT_BEFORE, key)


def test_a_kept_policy_that_lint_refuses_today_is_read_but_not_activated(api: Any) -> None:
    limit = KEPT_BEFORE["classes"] | {"review_refer_pd_bp": 1}
    key = kept(api, KEPT_BEFORE | {"classes": limit})
    with api.service.read() as unit:
        assert unit.registry.policy(unit.connection, key).classes.review_refer_pd_bp == 1
    for name in ("admin", "admin2"):
        api.call(name, "POST", f"/v1/policies/{key}/approve")
    answer = api.call("admin", "POST", f"/v1/policies/{key}/activate")
    problem(answer, 422, "invalid", "classes.review_refer_pd_bp")


def test_a_start_takes_a_policy_of_the_same_content_for_the_active_one(api: Any) -> None:
    key, store = kept(api, KEPT_BEFORE), api.service.store
    with begin(store.engine) as connection:
        connection.execute(update(policies).values(state="retired"))
        connection.execute(update(policies).where(policies.c.sha256 == key).values(state="active"))
    with begin(store.engine) as connection:
        same = replace(load_policy(), version="2025.1")
        assert same.sha256 != key
        registry.begin_with(connection, store.vault, same, api.clock[0])
        assert registry.active_policy(connection) == key


def test_a_kept_policy_that_is_not_of_its_hash_is_refused(api: Any) -> None:
    key = kept(api, KEPT_BEFORE)
    with begin(api.service.store.engine) as connection:
        connection.execute(update(policies).where(policies.c.sha256 == key).values(sha256="0" * 64))
    problem(api.call("auditor", "GET", f"/v1/policies/{'0' * 64}"), 500, "internal")


def test_a_replay_tells_which_engine_decided(api: Any, asked: Any, monkeypatch: Any) -> None:
    from model.limits.decision import ENGINE_VERSION, Versions

    now = api.decided(asked(1))["decision_id"]
    with monkeypatch.context() as earlier:
        earlier.setattr(Versions.__init__, "__defaults__", ("1.0.0",))
        before = api.decided(asked(2))["decision_id"]
    said = {made: api.call("auditor", "POST", f"/v1/decisions/{made}/replay").json() for made in (now, before)}
    assert (said[now]["identical"], said[now]["engine"]) == (True, ENGINE_VERSION)
    assert (said[before]["identical"], said[before]["engine"]) == (False, "1.0.0")


def test_a_key_of_an_applicant_shows_nobody(api: Any, asked: Any) -> None:
    made, token = api.decided(asked())["decision_id"], "fs_old"
    row = {"name": "old", "role": "applicant", "partner": None, "revoked_at": None, "created_at": "", "seq": 1}
    with begin(api.service.store.engine) as connection:
        connection.execute(api_key.insert(), {**row, "token_sha256": sha256(token.encode()).hexdigest()})
    time.sleep(FRESH + 0.1)
    assert api.call(token, "GET", "/v1/me").json()["role"] == "applicant"
    problem(api.call(token, "GET", f"/v1/decisions/{made}"), 404, "unknown_decision", "decision_id")
    problem(api.call(token, "GET", f"/v1/decisions/{made}/explanation"), 404, "unknown_decision", "decision_id")
    changes = {"changes": {"term_months": 6}}
    answer = api.call(token, "POST", f"/v1/decisions/{made}/what-if", changes)
    problem(answer, 404, "unknown_decision", "decision_id")


def test_the_pace_of_what_if_forgets_who_is_idle(monkeypatch: Any) -> None:
    clock = [0.0]
    monkeypatch.setattr("server.decisions.what_if.monotonic", lambda: clock[0])
    pace = Pace()
    for number in range(10_000):
        pace.check(f"idle {number}")
    clock[0] = MINUTE_S
    for _ in range(A_MINUTE):
        pace.check("busy")
    assert set(pace._asked) == {"busy"}
    with pytest.raises(Refused) as refused:
        pace.check("busy")
    assert refused.value.status == 429


def test_each_app_has_a_pace_of_its_own(api: Any) -> None:
    from server.decisions.api import create_app

    first, second = create_app(api.service), create_app(api.service)
    with suppress(Refused):
        for _ in range(A_MINUTE + 1):
            first.state.pace.check("a")
    second.state.pace.check("a")
    with pytest.raises(Refused):
        first.state.pace.check("a")


def test_what_decides_must_hold(api: Any, bundle: Any) -> None:
    now = api.clock[0]
    with api.service.read() as unit:
        active = unit.registry.active(unit.connection)
    registry.holds(active, now)
    ended = replace(active, bundle=replace(bundle, valid_until=now))
    for wrong, at in ((ended, now), (active, now - timedelta(days=365)), (active, active.policy.expires_at)):
        with pytest.raises(Refused) as refused:
            registry.holds(wrong, at)
        assert (refused.value.status, refused.value.code) == (503, "not_in_force")
    registry.holds(ended, now - timedelta(seconds=1))
