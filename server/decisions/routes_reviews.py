"""Routes of persons who decide: overrides and appeals."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import APIRouter, Request, Response
from sqlalchemy import select

from model.limits.override import OverrideOrder
from model.limits.request import Uuid
from server.decisions import reviewing
from server.decisions.deciding import Unit
from server.decisions.http import answer, decision_answer, own, read_of, service_of, takes, told, visitor, written
from server.decisions.problems import Refused
from server.decisions.reviewing import Objection, Ruling
from server.decisions.subjects import shown_appeal
from server.decisions.tables import appeal as appeals
from server.decisions.views import record_of

router = APIRouter(prefix="/v1", tags=["reviews"])


@dataclass(frozen=True, slots=True)
class Overriding:
    """Which decision, and what instead."""

    decision_id: Uuid
    order: OverrideOrder


@router.post("/overrides", openapi_extra=takes(Overriding))
async def override(request: Request) -> Response:
    """Decide instead, within soft caps; 202 where a second person must approve."""
    who = visitor(request, "reviewer")
    given = await read_of(request, Overriding)
    made = await written(request, lambda unit: reviewing.override(unit, given.decision_id, given.order, who.name))
    if isinstance(made, str):
        return answer({"override_id": made, "state": "pending"}, 202)
    told(request, made)
    return decision_answer(made, who)


@router.post("/overrides/{override_id}/approve")
async def approve(request: Request, override_id: str) -> Response:
    """The second person's approval."""
    who = visitor(request, "reviewer")
    record = await written(request, lambda unit: reviewing.second(unit, override_id, who.name))
    told(request, record)
    return decision_answer(record, who)


@router.post("/appeals", openapi_extra=takes(Objection))
async def appeal(request: Request) -> Response:
    """Object to a decision: a person looks at it within the policy's days."""
    who = visitor(request, "applicant", "service", "officer")
    objection = await read_of(request, Objection)

    def job(unit: Unit) -> object:
        own(who, record_of(unit, objection.decision_id))
        return reviewing.object_to(unit, objection, who.name)

    row = await written(request, job)
    return answer(shown_appeal(row), 201)


@router.get("/appeals")
def listed(request: Request, state: str = "open") -> Response:
    """Appeals in a state, the most urgent first."""
    visitor(request, "officer", "reviewer")
    states = (reviewing.OPEN, reviewing.IN_REVIEW, *reviewing.CLOSED.values())
    if state not in states:
        raise Refused(422, "invalid", "state must be one of " + ", ".join(states) + ".", "state")
    with service_of(request).read() as unit:
        query = select(appeals).where(appeals.c.state == state).order_by(appeals.c.due_at).limit(500)
        return answer({"appeals": [shown_appeal(row) for row in unit.connection.execute(query).mappings()]})


@router.patch("/appeals/{appeal_id}", openapi_extra=takes(Ruling))
async def rule(request: Request, appeal_id: str) -> Response:
    """Take an appeal on, uphold the decision, reject the appeal, or decide anew."""
    who = visitor(request, "reviewer")
    ruling = await read_of(request, Ruling)
    row, record = await written(request, lambda unit: reviewing.rule(unit, appeal_id, ruling, who.name))
    if record is not None:
        told(request, record)
    made = record.index["decision_id"] if record is not None else None
    return answer({**shown_appeal(row), "new_decision_id": made})
