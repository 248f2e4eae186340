"""Routes of batches: upload JSON Lines, look how far it is, fetch the results."""

from __future__ import annotations

import json
from collections.abc import Iterator

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from server.decisions import batch_runs
from server.decisions.http import answer, body_of, service_of, visitor, written
from server.decisions.problems import Refused
from server.decisions.views import envelope, record_of

router = APIRouter(prefix="/v1/batches", tags=["batches"])


@router.post("")
async def upload(request: Request) -> Response:
    """Take a batch: one request a line. 202; each row is answered as if it had come alone."""
    who = visitor(request, "service")
    body = await body_of(request, batch_runs.MOST_BYTES)
    lines = [line for line in body.split(b"\n") if line.strip()]
    if not 0 < len(lines) <= batch_runs.MOST_ROWS:
        raise Refused(422, "invalid", f"give 1 to {batch_runs.MOST_ROWS} lines, one request each.", "body")
    batch_id = await written(request, lambda unit: batch_runs.accept(unit, lines, who.name))
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

    def rows() -> Iterator[bytes]:
        with service.read() as unit:
            for line, decision_id, error in list(batch_runs.results(unit, batch_id)):
                if decision_id is None:
                    yield json.dumps({"line": line, "error": json.loads(error or "{}")}).encode() + b"\n"
                    continue
                try:
                    told = envelope(record_of(unit, decision_id), who.role)
                    yield b'{"line":%d,"answer":%s}\n' % (line, told)
                except Refused as refused:
                    yield json.dumps({"line": line, "error": refused.document()}).encode() + b"\n"

    return StreamingResponse(rows(), media_type="application/x-ndjson")
