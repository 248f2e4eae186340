"""Routes of batches: upload JSON Lines, look how far it is, fetch the results."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from server.decisions import batch_runs
from server.decisions.api_keys import Role
from server.decisions.deciding import Unit
from server.decisions.http import answer, body_of, service_of, visitor, written
from server.decisions.problems import Refused
from server.decisions.service import Service
from server.decisions.views import envelope, record_of

router = APIRouter(prefix="/v1/batches", tags=["batches"])


@router.post("")
async def upload(request: Request) -> Response:
    """Take a batch: one request a line. 202; each row is answered as if it had come alone."""
    who, service = visitor(request, "service"), service_of(request)
    body = await body_of(request, batch_runs.MOST_BYTES)
    lines = await run_in_threadpool(batch_runs.split, body)
    if not 0 < len(lines) <= batch_runs.MOST_ROWS:
        raise Refused(422, "invalid", f"give 1 to {batch_runs.MOST_ROWS} lines, one request each.", "body")
    batch_id = await written(request, partial(batch_runs.accept, rows=len(lines), caller=who.name))
    for at in range(0, len(lines), batch_runs.CHUNK):  # between two of them others get their decisions
        part = lines[at : at + batch_runs.CHUNK]
        rows = await run_in_threadpool(batch_runs.checked, part, at + 1, who.name, service.clock())
        await written(request, partial(batch_runs.add, batch_id=batch_id, rows=rows))
    await written(request, partial(batch_runs.release, batch_id=batch_id))
    request.app.state.runner.wake()
    return answer({"batch_id": batch_id, "rows": len(lines)}, 202)


@router.get("/{batch_id}")
def progress(request: Request, batch_id: str) -> Response:
    """How far a batch is."""
    who = visitor(request, "service", "auditor")
    with service_of(request).read() as unit:
        return answer(batch_runs.progress(unit, batch_id, who.name if who.role == "service" else None))


@router.get("/{batch_id}/results")
def results(request: Request, batch_id: str) -> Response:
    """The rows' answers as JSON Lines: an envelope, or a problem; 409 while it is running."""
    who, service = visitor(request, "service", "auditor"), service_of(request)
    with service.read() as unit:
        found = batch_runs.progress(unit, batch_id, who.name if who.role == "service" else None)
    if found["state"] != "done":
        raise Refused(409, "running", f"{found['done']} of {found['rows']} rows are done; ask again.")

    return StreamingResponse(told(service, batch_id, who.role), media_type="application/x-ndjson")


def told(service: Service, batch_id: str, role: Role) -> Iterator[bytes]:
    """The lines of a batch's results; while one is sent nothing of the database is held, however slow the reader is."""
    last = 0
    while True:
        with service.read() as unit:
            rows = batch_runs.results(unit, batch_id, last)
            lines = [_line(unit, row, role) for row in rows]
        if not rows:
            return
        yield b"".join(lines)
        last = rows[-1].line


def _line(unit: Unit, row: Any, role: Role) -> bytes:
    """One row's answer, or its problem."""
    if row.decision_id is None:
        return json.dumps({"line": row.line, "error": json.loads(row.error)}).encode() + b"\n"
    try:
        return b'{"line":%d,"answer":%s}\n' % (row.line, envelope(record_of(unit, row.decision_id), role))
    except Refused as refused:
        return json.dumps({"line": row.line, "error": refused.document()}).encode() + b"\n"
