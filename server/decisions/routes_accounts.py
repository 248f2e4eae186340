"""Routes of persons: events, reviews, sub-scores, consents, erasure, and the officer's search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request, Response

from model.limits.fields import plain, read
from model.limits.receipt import Receipt
from model.limits.request import Pseudonym
from server.decisions import accounts
from server.decisions.accounts import EventReport
from server.decisions.database import scrub
from server.decisions.deciding import Cause, Unit
from server.decisions.http import answer, decision_answer, json_of, read_of, service_of, takes, told, visitor, written
from server.decisions.persons import Consent
from server.decisions.problems import Refused
from server.decisions.receipts import check_receipt
from server.decisions.refreshing import refresh
from server.decisions.subjects import find, overview

router = APIRouter(prefix="/v1", tags=["persons"])
MOST_RECEIPTS = 100


@dataclass(frozen=True)
class _Reference:
    subject_ref: Pseudonym


def _subject(reference: str) -> str:
    """A reference from a path, if it is well formed."""
    return read(_Reference, {"subject_ref": reference}, "request").subject_ref


@router.get("/search")
def search(request: Request, q: str = "") -> Response:
    """The person of a subject reference, a decision id or a request id."""
    visitor(request, "officer", "reviewer", "auditor")
    with service_of(request).read() as unit:
        found, decision_id = find(unit, q)
    return answer({"subject_ref": found, "decision_id": decision_id})


@router.get("/subjects/{subject_ref}")
def subject(request: Request, subject_ref: str) -> Response:
    """All that is known of a person."""
    visitor(request, "officer", "reviewer", "auditor")
    with service_of(request).read() as unit:
        return answer(overview(unit, _subject(subject_ref)))


@router.get("/accounts/{subject_ref}")
def account(request: Request, subject_ref: str) -> Response:
    """Where a person's account stands."""
    visitor(request, "service", "officer", "reviewer", "auditor")
    with service_of(request).read() as unit:
        person = accounts.known(unit, _subject(subject_ref))
        found = person.account(unit.registry.active(unit.connection).policy)
    return answer({**plain(found), "status": found.status, "current": person.current})


@router.post("/accounts/{subject_ref}/events", openapi_extra=takes(EventReport))
async def event(request: Request, subject_ref: str) -> Response:
    """Tell an event of an account, once: told again, it changes nothing."""
    who, reference = visitor(request, "service"), _subject(subject_ref)
    report = await read_of(request, EventReport)
    new = await written(request, lambda unit: accounts.happened(unit, reference, report, who.name))
    return answer({"event_id": report.event_id, "duplicate": not new}, 201 if new else 200)


@router.post("/accounts/{subject_ref}/review")
async def review(request: Request, subject_ref: str) -> Response:
    """Decide again on what was last asked, with what is known now: promotions and refreshed limits."""
    who, reference = visitor(request, "service", "officer"), _subject(subject_ref)
    record = await written(request, lambda unit: refresh(unit, reference, Cause("review", who.name)))
    if record is None:
        raise Refused(404, "unknown_subject", "Nobody of that reference has asked for a limit.", "subject_ref")
    told(request, record)
    return decision_answer(record, who)


@router.post("/subscores", openapi_extra=takes(Receipt))
async def subscores(request: Request) -> Response:
    """Take signed sub-scores (one receipt, or a list); limits that they touch are decided on again."""
    who = visitor(request, "partner")
    data = await json_of(request)
    many = data if isinstance(data, list) else [data]
    if not 0 < len(many) <= MOST_RECEIPTS:
        raise Refused(422, "invalid", f"give 1 to {MOST_RECEIPTS} receipts.", "receipts")
    made = await written(request, lambda unit: _received(unit, many, who.partner))
    for record in made:
        told(request, record)
    return answer({"received": len(many)}, 202)  # whether a person has applied is not a partner's to know


def _received(unit: Unit, many: list[Any], partner: str | None) -> list[Any]:
    """All receipts of one message, or none: each is checked before the first is stored."""
    active = unit.registry.active(unit.connection)
    receipts = []
    for data in many:
        named = (str(data.get("domain")), str(data.get("partner"))) if isinstance(data, dict) else ("", "")
        key = active.partners.get(named)
        if key is None or named[1] != partner:
            raise Refused(403, "foreign_receipt", "The receipt is not of this partner and its domain.", "partner")
        receipts.append(check_receipt(data, key, unit.now))
    accounts.check_newer(unit, receipts)
    return [record for receipt in receipts if (record := accounts.received(unit, receipt)) is not None]


@router.put("/subjects/{subject_ref}/consents/{domain}", openapi_extra=takes(Consent))
async def consent(request: Request, subject_ref: str, domain: str) -> Response:
    """Record that a person agrees to the use of a domain's sub-score."""
    who, reference = visitor(request, "service", "officer"), _subject(subject_ref)
    given = await read_of(request, Consent)
    await written(request, lambda unit: accounts.consented(unit, reference, domain, given, who.name))
    return answer({"subject_ref": reference, "domain": domain})


@router.delete("/subjects/{subject_ref}/consents/{domain}")
async def withdraw(request: Request, subject_ref: str, domain: str) -> Response:
    """Withdraw a consent: the domain's sub-scores are deleted and the limit is decided on again without them."""
    who, reference = visitor(request, "service", "officer"), _subject(subject_ref)
    record = await written(request, lambda unit: accounts.withdrawn(unit, reference, domain, who.name))
    if record is None:
        return answer({"subject_ref": reference, "domain": domain})
    told(request, record)
    return decision_answer(record, who)


@router.delete("/subjects/{subject_ref}")
async def erase(request: Request, subject_ref: str) -> Response:
    """Forget a person: what is kept cannot be read any more, and the audit chain still holds."""
    who, reference = visitor(request, "admin"), _subject(subject_ref)
    count = await written(request, lambda unit: accounts.forgotten(unit, reference, who.name))
    return answer({"records": count, "scrubbed": scrub(service_of(request).store.engine)})
