"""Routes of decisions: ask, read, explain, replay, what-if, link."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from model.limits.fields import plain
from model.limits.request import DecisionRequest
from server.decisions import chain
from server.decisions.asking import ask_of
from server.decisions.deciding import Unit
from server.decisions.deciding import answer as decided
from server.decisions.explanation import explanation
from server.decisions.http import (
    JSON,
    answer,
    decision_answer,
    json_of,
    own,
    service_of,
    takes,
    told,
    visitor,
    written,
)
from server.decisions.links import issue
from server.decisions.problems import Refused
from server.decisions.records import Record
from server.decisions.replay import replayed
from server.decisions.subjects import changes, successor
from server.decisions.views import decision_view, envelope, inputs_of, inputs_view, record_of
from server.decisions.what_if import tried

router = APIRouter(prefix="/v1", tags=["decisions"])


@router.get("/me")
def me(request: Request) -> Response:
    """Who the key belongs to."""
    who = visitor(request, "applicant", "service", "officer", "reviewer", "auditor", "admin", "partner")
    link = who.link
    shown = {"subject_ref": link.subject_ref, "decision_id": link.decision_id} if link else {}
    return answer({"name": who.name, "role": who.role, "subject_ref": None, "decision_id": None} | shown)


@router.post("/decisions", openapi_extra=takes(DecisionRequest))
async def decide(request: Request) -> Response:
    """Decide on a limit. `Idempotency-Key` is the request_id; `as_of` may be left out. 200 for every outcome."""
    who = visitor(request, "service", "officer")
    service, key = service_of(request), request.headers.get("idempotency-key", "")
    if not key:
        raise Refused(400, "no_idempotency_key", "Send the request_id as Idempotency-Key.", "Idempotency-Key")
    ask = ask_of(await json_of(request), key, who.name, service.clock())
    mine = (ask.caller, ask.key)
    if mine in service.in_flight:
        raise Refused(409, "in_flight", "The same request is being answered; send it again in a moment.")
    service.in_flight.add(mine)
    try:
        record, again = await written(request, lambda unit: decided(unit, ask))
    finally:
        service.in_flight.discard(mine)
    if not again:
        told(request, record)
    return decision_answer(record, who, _headers(record, again))


def _headers(record: Record, again: bool) -> dict[str, str]:
    headers = {"Idempotent-Replayed": "true"} if again else {}
    if record.index["outcome"] == "DEFER":
        headers["Retry-After"] = str(6 * 3600)
    return headers


@router.get("/changes")
def since(request: Request, after: int = 0, limit: int = 100) -> Response:
    """Decisions after a record's number, oldest first: how a lender learns of those that it did not ask for."""
    visitor(request, "service", "auditor")
    with service_of(request).read() as unit:
        found = changes(unit, min(max(after, 0), 2**53), min(max(limit, 1), 1000))
    return answer({"decisions": found, "next": found[-1]["seq"] if found else after})


@router.get("/decisions/{decision_id}")
def get(request: Request, decision_id: str) -> Response:
    """One decision; `Fedscore-Superseded-By` names the person's newest one where that is another."""
    who = visitor(request, "applicant", "service", "officer", "reviewer", "auditor")
    with service_of(request).read() as unit:
        record = own(who, record_of(unit, decision_id))
        newest, rungs = successor(unit, record), inputs_of(unit, record).policy.trial.rungs_fen
    more = {"inputs": inputs_view(record, who.role), "rungs_fen": rungs}
    headers = {"Fedscore-Superseded-By": newest} if newest else {}
    return Response(envelope(record, who.role, more), 200, headers, JSON)


@router.get("/decisions/{decision_id}/explanation")
def explain(request: Request, decision_id: str, lang: str = "zh") -> Response:
    """The decision in words: why, what would change it, what it costs, one's rights."""
    who = visitor(request, "applicant", "service", "officer", "reviewer", "auditor")
    if lang not in ("zh", "en"):
        raise Refused(422, "invalid", "lang must be zh or en.", "lang")
    with service_of(request).read() as unit:
        record = own(who, record_of(unit, decision_id))
    return answer(explanation(decision_id, record.body["decision"], "zh" if lang == "zh" else "en"))


@router.post("/decisions/{decision_id}/replay")
def replay(request: Request, decision_id: str) -> Response:
    """Make the decision again from its record: it must come out the same, byte for byte."""
    visitor(request, "officer", "reviewer", "auditor")
    with service_of(request).read() as unit:
        return answer(replayed(unit, record_of(unit, decision_id)))


@router.get("/decisions/{decision_id}/record")
def whole_record(request: Request, decision_id: str) -> Response:
    """All that the decision was made on, as it is kept."""
    visitor(request, "reviewer", "auditor")
    with service_of(request).read() as unit:
        record = record_of(unit, decision_id)
    return answer({"seq": record.seq, "record_sha256": record.record_sha256, "body": record.body})


@router.post("/decisions/{decision_id}/what-if")
async def what_if(request: Request, decision_id: str) -> Response:
    """The decision on changed inputs. Nothing comes of it; which fields were tried is noted."""
    who = visitor(request, "applicant", "officer", "reviewer")
    data = await json_of(request)
    changes = data.get("changes") if isinstance(data, dict) else None
    if not isinstance(changes, dict) or data.keys() != {"changes"}:
        raise Refused(422, "invalid", "changes must be a table of new values by path.", "changes")
    request.app.state.pace.check(who.link.decision_id if who.link else who.name)

    def job(unit: Unit) -> Any:
        record = own(who, record_of(unit, decision_id))
        decision = plain(tried(inputs_of(unit, record), changes, who.role))
        note = {"by": who.name, "decision_id": decision_id, "fields": sorted(changes)}
        chain.append(unit.connection, unit.vault, "what_if", record.subject_ref, note)
        return decision

    return answer({"decision": decision_view(await written(request, job), who.role), "what_if": True})


@router.post("/decisions/{decision_id}/link")
async def link(request: Request, decision_id: str) -> Response:
    """A token with which the applicant sees this decision for half an hour: /desk/#t=TOKEN."""
    who, service = visitor(request, "service", "officer"), service_of(request)

    def job(unit: Unit) -> Record:
        record = record_of(unit, decision_id)
        note = {"by": who.name, "decision_id": decision_id}
        chain.append(unit.connection, unit.vault, "link", record.subject_ref, note)
        return record

    record = await written(request, job)
    token, issued = issue(service.store.vault, decision_id, str(record.subject_ref), service.clock())
    return answer({"token": token, "expires_at": issued.expires_at})
