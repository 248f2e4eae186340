"""Batches over HTTP: every row as if it had come alone, good ones decided, bad ones told, resumed after a stop."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest
from sqlalchemy import event, func, select, text, update

from server.decisions import batch_runs, service
from server.decisions.database import begin
from server.decisions.problems import Refused
from server.decisions.routes_batches import told
from server.decisions.tables import batch_row, decision


@pytest.fixture
def short_sweeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sweeps come quickly; asked for before the service is made."""
    monkeypatch.setattr(service, "SWEEP_S", 0.1)


def uploaded(api: Any, *rows: Any) -> str:
    lines = "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows)
    answer = api.call("service", "POST", "/v1/batches", lines)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["batch_id"])


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def finished(api: Any, batch_id: str) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def done() -> bool:
        found.update(api.call("service", "GET", f"/v1/batches/{batch_id}").json())
        return bool(found["state"] == "done")

    until(done)
    return found


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


def loading(api: Any, *bodies: Any) -> str:
    """A batch whose lines are kept but which is not released."""
    lines = [json.dumps(body).encode() for body in bodies]
    rows = batch_runs.checked(lines, 1, "service", api.clock[0])
    batch_id = str(api.service.write(lambda unit: batch_runs.accept(unit, len(rows), "service")).result())
    api.service.write(lambda unit: batch_runs.add(unit, batch_id, rows)).result()
    return batch_id


def release(api: Any, batch_id: str) -> None:
    api.service.write(lambda unit: batch_runs.release(unit, batch_id)).result()


def lines_of(api: Any, batch_id: str) -> list[dict[str, Any]]:
    text = api.call("service", "GET", f"/v1/batches/{batch_id}/results").text
    return [json.loads(line) for line in text.splitlines()]


def run_sql(api: Any, statement: str) -> None:
    with begin(api.service.store.engine) as connection:
        connection.execute(text(statement))


def test_a_batch_goes_on_after_a_stop(api: Any, asked: Any) -> None:
    batch_id = loading(api, *(asked(number) for number in range(5)))
    release(api, batch_id)
    with api.service.read() as unit:
        assert batch_runs.progress(unit, batch_id, "service")["done"] == 0
    runner = batch_runs.Runner(api.service)
    assert finished(api, batch_id)["failed"] == 0
    runner.close()


def test_a_batch_whose_upload_was_cut_off_is_not_run(api: Any, asked: Any) -> None:
    cut_off, whole = loading(api, asked(1), asked(2, points=3)), loading(api, asked(3))
    release(api, whole)
    uploaded(api, "{")  # wakes the runner
    finished(api, whole)
    told = api.call("service", "GET", f"/v1/batches/{cut_off}").json()
    assert (told["state"], told["rows"], told["done"], told["failed"]) == ("loading", 2, 0, 0)
    assert api.call("service", "GET", f"/v1/batches/{cut_off}/results").status_code == 409
    with api.service.read() as unit:
        assert unit.connection.execute(select(func.count()).select_from(decision)).scalar_one() == 1
    release(api, cut_off)
    uploaded(api, "{")  # wakes the runner
    assert finished(api, cut_off)["failed"] == 1


def test_a_large_upload_comes_to_the_writer_in_pieces(api: Any, asked: Any) -> None:
    commits: list[int] = [0]

    def inserted(*told: Any) -> None:
        statement, rows = told[2], told[3]
        if statement.startswith("INSERT INTO batch_row"):
            commits[-1] += len(rows)

    engine = api.service.store.engine
    event.listen(engine, "before_cursor_execute", inserted)
    event.listen(engine, "commit", lambda connection: commits.append(0))
    batch_id = uploaded(api, asked(1), *["{"] * 2 * batch_runs.CHUNK, asked(2))
    assert sum(commits) == 2 * batch_runs.CHUNK + 2
    assert max(commits) <= batch_runs.CHUNK
    assert finished(api, batch_id)["failed"] == 2 * batch_runs.CHUNK
    rows = lines_of(api, batch_id)
    assert [row["line"] for row in rows] == list(range(1, len(rows) + 1))
    assert all("answer" in rows[at] for at in (0, -1))


def test_a_line_that_is_no_text_fails_alone(api: Any, asked: Any) -> None:
    named_twice = '{"\\ud800": 1, "\\ud800": 2}'
    batch_id = uploaded(api, asked(1), asked(2, request_id="\ud800"), named_twice, asked(3))
    assert finished(api, batch_id)["failed"] == 2
    rows = lines_of(api, batch_id)
    assert [row["error"]["status"] for row in rows[1:3]] == [422, 422]
    assert all("answer" in rows[at] for at in (0, 3))


def test_a_row_that_another_process_decided_is_left_alone(api: Any, asked: Any) -> None:
    batch_id = loading(api, asked(1))
    row = partial(batch_runs.run_row, batch_id=batch_id, line=1)
    api.service.write(row).result()
    before = api.records()
    api.service.write(row).result()
    api.service.write(partial(batch_runs.fail_row, batch_id=batch_id, line=1)).result()
    release(api, batch_id)
    assert api.records() == before
    assert "answer" in lines_of(api, batch_id)[0]


def test_a_row_that_makes_the_service_fail_does_not_stop_the_others(api: Any, asked: Any) -> None:
    batch_id = loading(api, asked(1), asked(2), asked(3))
    theirs = (batch_row.c.batch_id == batch_id) & (batch_row.c.line == 2)
    with begin(api.service.store.engine) as connection:
        connection.execute(update(batch_row).where(theirs).values(body=b"\x01 not what was sealed, any more"))
    release(api, batch_id)
    uploaded(api, "{")  # wakes the runner
    assert finished(api, batch_id)["failed"] == 1
    rows = lines_of(api, batch_id)
    assert (rows[1]["error"]["status"], rows[1]["error"]["code"]) == (500, "internal")
    assert all("answer" in rows[at] for at in (0, 2))
    assert api.call("service", "GET", "/readyz").status_code == 200


def test_rows_wait_while_no_policy_is_in_force(api: Any, asked: Any) -> None:
    bodies = [asked(1), asked(2)]
    for body in bodies:
        body.pop("as_of")
    api.later(days=4000)
    batch_id = uploaded(api, *bodies)
    refused = api.service.write(partial(batch_runs.run_row, batch_id=batch_id, line=1)).exception()
    assert isinstance(refused, Refused)
    assert refused.status == 503
    time.sleep(0.3)  # the runner has met them too
    assert api.call("service", "GET", f"/v1/batches/{batch_id}").json()["done"] == 0
    api.later(days=-4000)
    assert finished(api, batch_id)["failed"] == 0


def test_runner_and_sweeper_outlive_a_database_that_fails(
    short_sweeps: None, api: Any, asked: Any, caplog: pytest.LogCaptureFixture
) -> None:
    fresh = {"covered": True, "consent": True, "logit_e6": 0, "as_of": "2026-11-25T01:00:00Z", "tenure_months": 24}
    waits = asked(1, blocks={"payments": {"covered": True, "consent": True}, "tax_business": fresh})
    assert api.decided(waits)["decision"]["decision"] == "DEFER"
    batch_id = loading(api, asked(2))
    release(api, batch_id)
    for table in ("waiting", "batch_row"):
        run_sql(api, f"ALTER TABLE {table} RENAME TO away_{table}")
    runner = batch_runs.Runner(api.service)
    until(lambda: {getattr(record, "fields", {}).get("where") for record in caplog.records} >= {"batches", "sweeper"})
    for table in ("waiting", "batch_row"):
        run_sql(api, f"ALTER TABLE away_{table} RENAME TO {table}")
    assert api.call("service", "GET", "/readyz").status_code == 200
    assert finished(api, batch_id)["failed"] == 0
    runner.close()
    before = api.records()
    api.later(days=30)
    until(lambda: api.records() > before)


def test_a_service_without_one_of_its_threads_is_not_ready(api: Any) -> None:
    assert api.call("service", "GET", "/readyz").status_code == 200
    api.service.writer.close()
    told = api.call("service", "GET", "/readyz")
    assert told.status_code == 503
    assert "writer" in told.text


def test_slow_readers_leave_the_database_to_others(api: Any, asked: Any) -> None:
    batch_id = uploaded(api, *["{"] * (batch_runs.CHUNK + 1))
    finished(api, batch_id)
    readers = [told(api.service, batch_id, "service") for _ in range(70)]
    assert all(next(reader).count(b"\n") == batch_runs.CHUNK for reader in readers)
    assert api.ask(asked(1)).status_code == 200
    assert next(readers[0]).count(b"\n") == 1


def test_all_threads_that_answer_may_read_at_once(api: Any, asked: Any) -> None:
    with ExitStack() as held:
        for _ in range(40):
            held.enter_context(api.service.read())
        assert api.ask(asked(1)).status_code == 200


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
