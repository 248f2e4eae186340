"""Batches over HTTP: every row as if it had come alone, good ones decided, bad ones told, resumed after a stop."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from server.decisions import batch_runs


def uploaded(api: Any, *rows: Any) -> str:
    lines = "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows)
    answer = api.call("service", "POST", "/v1/batches", lines)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["batch_id"])


def finished(api: Any, batch_id: str) -> dict[str, Any]:
    for _ in range(200):
        found: dict[str, Any] = api.call("service", "GET", f"/v1/batches/{batch_id}").json()
        if found["state"] == "done":
            return found
        time.sleep(0.05)
    raise AssertionError(f"not done: {found}")


def test_each_row_is_answered_as_if_it_had_come_alone(api: Any, asked: Any) -> None:
    good, alone = asked(1), asked(2)
    before = api.ask(alone).json()
    bad = [
        asked(3, requested_fen=1.5),
        asked(4, subject_ref="me"),
        "{",
        asked(5, points=3),
        asked(6, blocks={"x": None}),
    ]
    batch_id = uploaded(api, good, alone, *bad)
    done = finished(api, batch_id)
    assert (done["rows"], done["done"], done["failed"]) == (7, 7, 5)
    answer = api.call("service", "GET", f"/v1/batches/{batch_id}/results")
    rows = [json.loads(line) for line in answer.text.splitlines()]
    assert [row["line"] for row in rows] == list(range(1, 8))
    assert rows[0]["answer"]["decision"]["decision"] == "APPROVE"
    assert rows[1]["answer"] == before
    fields = [row["error"].get("field") for row in rows[2:6]]
    assert fields == ["requested_fen", "subject_ref", None, "points"]
    assert api.ask(good).json() == rows[0]["answer"]


def test_a_batch_goes_on_after_a_stop(api: Any, asked: Any) -> None:
    rows = [json.dumps(asked(number)).encode() for number in range(5)]
    batch_id = api.service.write(lambda unit: batch_runs.accept(unit, rows, "service")).result()
    with api.service.read() as unit:
        assert batch_runs.progress(unit, batch_id, "service")["done"] == 0
    runner = batch_runs.Runner(api.service)
    assert finished(api, batch_id)["failed"] == 0
    runner.close()


def test_nobody_else_sees_a_batch_and_nonsense_is_refused(api: Any, asked: Any) -> None:
    batch_id = uploaded(api, asked(1))
    finished(api, batch_id)
    assert api.call("auditor", "GET", f"/v1/batches/{batch_id}").status_code == 200
    assert api.call("officer", "GET", f"/v1/batches/{batch_id}").status_code == 403
    assert api.call("service", "GET", "/v1/batches/none").status_code == 404
    for body in ("", "\n\n"):
        assert api.call("service", "POST", "/v1/batches", body).json()["field"] == "body"


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_an_erased_person_s_row_says_so(api: Any, asked: Any) -> None:
    body = asked(1)
    batch_id = uploaded(api, body)
    finished(api, batch_id)
    assert api.call("admin", "DELETE", f"/v1/subjects/{body['subject_ref']}").status_code == 200
    row = json.loads(api.call("service", "GET", f"/v1/batches/{batch_id}/results").text)
    assert row["error"]["code"] == "erased"
