"""Batches: many requests in one upload, decided one after the other, each as if it had come alone.

Rows are kept, sealed, before the upload is answered; a batch that a restart interrupted goes on where it stopped, and
one whose upload was cut off stays `loading`: nothing of it is decided.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any
from uuid import uuid4

from sqlalchemy import case, func, select, tuple_, update

from model.inputs import InputError
from model.limits.fields import canonical
from model.limits.policy import NotInForce
from model.limits.strict_json import loads
from server.decisions import chain
from server.decisions.asking import Ask, ask_of
from server.decisions.deciding import Unit, answer
from server.decisions.problems import Refused, refusal
from server.decisions.service import Service, failed
from server.decisions.tables import batch, batch_row, stamp
from server.decisions.vault import Forgotten, seal, unseal
from server.decisions.writer import StoreUnavailable

MOST_ROWS = 100_000
MOST_BYTES = 64 * 1024 * 1024
CHUNK = 200  # lines that are kept, or sent, at once
RETRY_S = 1.0
LOADING, RUNNING = "loading", "running"
_AT_ONCE = 128
_CONTEXT = b"batch row"
_UNREADABLE = Refused(422, "invalid", "This line holds what is no text; write it as UTF-8.")


@dataclass(frozen=True, slots=True)
class Row:
    """A line of an upload once it is checked: whom it is about, or the `error` that answers it."""

    line: int
    text: bytes
    subject_ref: str | None = None
    error: str | None = None


def split(body: bytes) -> list[bytes]:
    """The lines of an upload that are not blank."""
    return [line for line in body.split(b"\n") if line.strip()]


def checked(lines: Sequence[bytes], first: int, caller: str, now: datetime) -> list[Row]:
    """Reads some lines, the first of which has that number. Long work, and it needs no database: not for the writer."""
    return [_checked(number, text, caller, now) for number, text in enumerate(lines, first)]


def _checked(number: int, text: bytes, caller: str, now: datetime) -> Row:
    try:
        return Row(number, text, subject_ref=_ask(loads(text, "request"), caller, now).request.subject_ref)
    except (ValueError, Refused) as error:  # ValueError: InputError, or whatever else a text can break
        return Row(number, text, error=_told(error))


def accept(unit: Unit, rows: int, caller: str) -> str:
    """Begins a batch of so many lines. It is `loading`, and nothing of it is decided, until `release`.

    Returns:
        The batch's id.
    """
    batch_id = str(uuid4())
    record = chain.append(
        unit.connection, unit.vault, "batch", None, {"batch_id": batch_id, "by": caller, "rows": rows}
    )
    head = {"batch_id": batch_id, "caller": caller, "state": LOADING, "rows": rows}
    unit.connection.execute(batch.insert(), {**head, "at": stamp(unit.now), "seq": record.seq})
    return batch_id


def add(unit: Unit, batch_id: str, rows: Sequence[Row]) -> None:
    """Keeps at most `CHUNK` lines of a batch that is loading: whoever else writes waits meanwhile."""
    kept = [{"batch_id": batch_id, "line": r.line, "subject_ref": r.subject_ref, "error": r.error} for r in rows]
    sealed = [_sealed(unit, row) for row in rows]
    unit.connection.execute(batch_row.insert(), [row | {"body": body} for row, body in zip(kept, sealed, strict=True)])


def _sealed(unit: Unit, row: Row) -> bytes | None:
    if row.subject_ref is None:
        return None
    return seal(unit.vault.key_of(unit.connection, row.subject_ref, create=True), row.text, _CONTEXT)


def release(unit: Unit, batch_id: str) -> None:
    """All lines are kept: they may be decided."""
    unit.connection.execute(update(batch).where(batch.c.batch_id == batch_id).values(state=RUNNING))


def _ask(data: Any, caller: str, now: datetime) -> Ask:
    key = data.get("request_id", "") if isinstance(data, dict) else ""
    return ask_of(data, str(key), caller, now)


def _told(error: Exception) -> str:
    refused = error if isinstance(error, Refused) else refusal(error) if isinstance(error, InputError) else _UNREADABLE
    return canonical(refused.document()).decode()


def _temporary(error: BaseException) -> bool:
    """Whether the same row may be decided later: what is missing is the store, a policy or a model."""
    return isinstance(error, (StoreUnavailable, NotInForce)) or (isinstance(error, Refused) and error.status >= 500)


def run_row(unit: Unit, batch_id: str, line: int) -> None:
    """Decides one row and notes the decision, or why there is none; does nothing where another process did.

    Raises:
        Refused: 5xx where it cannot be decided now; the row stays.
    """
    here = (batch_row.c.batch_id == batch_id) & (batch_row.c.line == line)
    row = unit.connection.execute(select(batch_row).where(here)).mappings().one()
    if row["body"] is None:
        return
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
        if _temporary(error):
            raise
        values["error"] = _told(error)
    unit.connection.execute(update(batch_row).where(here).values(values))


def fail_row(unit: Unit, batch_id: str, line: int) -> None:
    """Answers a row that made the service fail, so that it is not tried for ever."""
    here = (batch_row.c.batch_id == batch_id) & (batch_row.c.line == line) & batch_row.c.body.is_not(None)
    told = _told(Refused(500, "internal", "The service failed on this row; nothing was carried out."))
    unit.connection.execute(update(batch_row).where(here).values(body=None, error=told))


def progress(unit: Unit, batch_id: str, caller: str | None) -> dict[str, Any]:
    """How far a batch is; raises `Refused` (404) where the caller has none of that id."""
    row = unit.connection.execute(select(batch).where(batch.c.batch_id == batch_id)).mappings().one_or_none()
    if row is None or caller not in (None, row["caller"]):
        raise Refused(404, "unknown_batch", "No batch of that id is known.", "batch_id")
    told = {"batch_id": batch_id, "state": LOADING, "rows": row["rows"], "done": 0, "failed": 0}
    if row["state"] == LOADING:  # the upload goes on, or was cut off
        return told
    open_rows = func.sum(case((batch_row.c.body.is_not(None), 1), else_=0))
    failed = func.sum(case((batch_row.c.error.is_not(None), 1), else_=0))
    left, wrong = unit.connection.execute(select(open_rows, failed).where(batch_row.c.batch_id == batch_id)).one()
    return told | {"state": RUNNING if left else "done", "done": row["rows"] - left, "failed": wrong}


def results(unit: Unit, batch_id: str, after: int) -> Sequence[Any]:
    """(line, decision_id, error) of the next `CHUNK` rows after a line, in order."""
    query = select(batch_row.c.line, batch_row.c.decision_id, batch_row.c.error)
    ordered = query.where((batch_row.c.batch_id == batch_id) & (batch_row.c.line > after)).order_by(batch_row.c.line)
    return unit.connection.execute(ordered.limit(CHUNK)).all()


def _open_rows(unit: Unit, after: tuple[str, int]) -> list[tuple[str, int]]:
    """(batch id, line) of the next rows to decide, in that order."""
    place = tuple_(batch_row.c.batch_id, batch_row.c.line)
    query = select(batch_row.c.batch_id, batch_row.c.line).join(batch)
    query = query.where((batch.c.state == RUNNING) & batch_row.c.body.is_not(None) & (place > after))
    found = unit.connection.execute(query.order_by(batch_row.c.batch_id, batch_row.c.line).limit(_AT_ONCE))
    return [(batch_id, line) for batch_id, line in found]


class Runner:
    """Works through open batches in a thread of its own, which the service watches."""

    def __init__(self, service: Service) -> None:
        self._service, self._wake, self._stop = service, threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="batches", daemon=True)
        self._wake.set()  # what a restart interrupted goes on at once
        self._thread.start()
        service.threads.append(self._thread)

    def wake(self) -> None:
        """There is a new batch."""
        self._wake.set()

    def close(self) -> None:
        """Stops after the rows in hand; the rest waits for the next start."""
        self._service.threads.remove(self._thread)
        self._stop.set()
        self._wake.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.wait()
            self._wake.clear()
            try:
                left = self._round()
            except Exception as error:  # whatever it is, the rows are there still and others may come
                failed(error, "batches")
                left = True
            if left:
                self._stop.wait(RETRY_S)
                self._wake.set()

    def _round(self) -> bool:
        """Goes once through all open rows; returns whether some could not be decided now."""
        after, left = ("", 0), False
        while not self._stop.is_set():
            with self._service.read() as unit:
                todo = _open_rows(unit, after)
            if not todo:
                break
            jobs = [self._service.write(partial(run_row, batch_id=batch_id, line=line)) for batch_id, line in todo]
            settled = [self._settled(job, *row) for job, row in zip(jobs, todo, strict=True)]
            left = left or not all(settled)
            if not any(settled):  # it may well be the same for all others
                self._stop.wait(RETRY_S)
            after = todo[-1]
        return left

    def _settled(self, job: Future[None], batch_id: str, line: int) -> bool:
        """Whether a row has its answer; one that fails has that for an answer, and does not stop the others."""
        error = job.exception()
        if error is None:
            return True
        if _temporary(error):
            return False
        failed(error, "batch row")
        self._service.write(partial(fail_row, batch_id=batch_id, line=line)).result()
        return True
