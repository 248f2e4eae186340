"""Batches: many requests in one upload, decided one after the other, each as if it had come alone.

Rows are kept, sealed, before the upload is answered; a batch that a restart interrupted goes on where it stopped.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from typing import Any
from uuid import uuid4

from sqlalchemy import case, func, select, update

from model.inputs import InputError
from model.limits.fields import canonical
from model.limits.strict_json import loads
from server.decisions import chain
from server.decisions.asking import Ask, ask_of
from server.decisions.deciding import Unit, answer
from server.decisions.problems import Refused, refusal
from server.decisions.service import Service
from server.decisions.tables import batch, batch_row, stamp
from server.decisions.vault import Forgotten, seal, unseal
from server.decisions.writer import StoreUnavailable

MOST_ROWS = 100_000
MOST_BYTES = 64 * 1024 * 1024
_AT_ONCE = 128
_CONTEXT = b"batch row"


def accept(unit: Unit, lines: list[bytes], caller: str) -> str:
    """Keeps the rows of a batch; those that are no requests are answered with their error at once.

    Returns:
        The batch's id.
    """
    batch_id = str(uuid4())
    record = chain.append(
        unit.connection, unit.vault, "batch", None, {"batch_id": batch_id, "by": caller, "rows": len(lines)}
    )
    head = {"batch_id": batch_id, "caller": caller, "state": "running", "rows": len(lines), "done": 0}
    unit.connection.execute(batch.insert(), {**head, "at": stamp(unit.now), "seq": record.seq})
    rows = [_row(unit, batch_id, number, text, caller) for number, text in enumerate(lines, 1)]
    unit.connection.execute(batch_row.insert(), rows)
    return batch_id


def _row(unit: Unit, batch_id: str, line: int, text: bytes, caller: str) -> dict[str, Any]:
    row: dict[str, Any] = {"batch_id": batch_id, "line": line, "subject_ref": None, "body": None, "error": None}
    try:
        ask = _ask(loads(text, "request"), caller, unit.now)
    except (InputError, Refused) as error:
        return row | {"error": _told(error)}
    subject = ask.request.subject_ref
    sealed = seal(unit.vault.key_of(unit.connection, subject, create=True), text, _CONTEXT)
    return row | {"subject_ref": subject, "body": sealed}


def _ask(data: Any, caller: str, now: datetime) -> Ask:
    key = data.get("request_id", "") if isinstance(data, dict) else ""
    return ask_of(data, str(key), caller, now)


def _told(error: InputError | Refused) -> str:
    refused = error if isinstance(error, Refused) else refusal(error)
    return canonical(refused.document()).decode()


def run_row(unit: Unit, batch_id: str, line: int) -> None:
    """Decides one row and notes the decision, or why there is none."""
    here = (batch_row.c.batch_id == batch_id) & (batch_row.c.line == line)
    row = unit.connection.execute(select(batch_row).where(here)).mappings().one()
    caller = unit.connection.execute(select(batch.c.caller).where(batch.c.batch_id == batch_id)).scalar_one()
    values: dict[str, Any] = {"body": None}
    try:
        key = unit.vault.key_of(unit.connection, row["subject_ref"] or "")
        ask = _ask(loads(unseal(key, row["body"], _CONTEXT), "request"), caller, unit.now)
        record, _ = answer(unit, ask)
        values["decision_id"] = record.index["decision_id"]
    except Forgotten:
        values["error"] = _told(Refused(404, "erased", "The person was erased."))
    except (InputError, Refused) as error:
        values["error"] = _told(error)
    unit.connection.execute(update(batch_row).where(here).values(values))


def progress(unit: Unit, batch_id: str, caller: str | None) -> dict[str, Any]:
    """How far a batch is; raises `Refused` (404) where the caller has none of that id."""
    row = unit.connection.execute(select(batch).where(batch.c.batch_id == batch_id)).mappings().one_or_none()
    if row is None or caller not in (None, row["caller"]):
        raise Refused(404, "unknown_batch", "No batch of that id is known.", "batch_id")
    open_rows = func.sum(case((batch_row.c.body.is_not(None), 1), else_=0))
    failed = func.sum(case((batch_row.c.error.is_not(None), 1), else_=0))
    left, wrong = unit.connection.execute(select(open_rows, failed).where(batch_row.c.batch_id == batch_id)).one()
    done = row["rows"] - (left or 0)
    state = "done" if done == row["rows"] else "running"
    return {"batch_id": batch_id, "state": state, "rows": row["rows"], "done": done, "failed": wrong or 0}


def results(unit: Unit, batch_id: str) -> Iterator[tuple[int, str | None, str | None]]:
    """(line, decision id, error) of every row, in order."""
    query = select(batch_row.c.line, batch_row.c.decision_id, batch_row.c.error)
    ordered = query.where(batch_row.c.batch_id == batch_id).order_by(batch_row.c.line)
    for row in unit.connection.execute(ordered, execution_options={"yield_per": 1000}):
        yield row.line, row.decision_id, row.error


class Runner:
    """Works through open batches in a thread of its own."""

    def __init__(self, service: Service) -> None:
        self._service, self._wake, self._stop = service, threading.Event(), False
        self._thread = threading.Thread(target=self._run, name="batches", daemon=True)
        self._wake.set()  # what a restart interrupted goes on at once
        self._thread.start()

    def wake(self) -> None:
        """There is a new batch."""
        self._wake.set()

    def close(self) -> None:
        """Stops after the rows in hand; the rest waits for the next start."""
        self._stop = True
        self._wake.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop:
            self._wake.wait()
            self._wake.clear()
            try:
                while not self._stop and self._some():
                    pass
            except StoreUnavailable:  # the rows stay; a moment later it may be there again
                if not self._stop:
                    time.sleep(1.0)
                    self._wake.set()

    def _some(self) -> bool:
        """Decides the next rows of any batch; False where none is open."""
        query = select(batch_row.c.batch_id, batch_row.c.line).where(batch_row.c.body.is_not(None))
        with self._service.read() as unit:
            todo = unit.connection.execute(query.order_by(batch_row.c.batch_id, batch_row.c.line).limit(_AT_ONCE)).all()
        jobs = [self._service.write(partial(run_row, batch_id=batch_id, line=line)) for batch_id, line in todo]
        for job in jobs:
            job.result()
        return bool(jobs)
