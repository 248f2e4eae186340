"""What every route shares: who calls, the body within its limit, JSON that is read strictly, and answers as bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi import Request, Response

from model.limits.fields import canonical, read
from model.limits.json_schema import schema_of
from model.limits.strict_json import loads
from server.decisions.api_keys import Role
from server.decisions.deciding import Unit
from server.decisions.links import PREFIX, Link, opened
from server.decisions.problems import Refused
from server.decisions.records import Record
from server.decisions.service import Service
from server.decisions.views import envelope

T = TypeVar("T")
MAX_BODY = 64 * 1024
JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who calls: a key's name and role; `link` for an applicant, `partner` for a partner."""

    name: str
    role: Role
    partner: str | None = None
    link: Link | None = None


def service_of(request: Request) -> Service:
    """The service behind the app."""
    service: Service = request.app.state.service
    return service


def visitor(request: Request, *roles: Role) -> Visitor:
    """Who calls, if in one of these roles.

    Raises:
        Refused: 401 for an unknown key or a link that expired, 403 for another role.
    """
    service = service_of(request)
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    found: Visitor | None = None
    if scheme.lower() == "bearer" and token.startswith(PREFIX):
        link = opened(service.store.vault, token, service.clock())
        if link is None:
            raise Refused(401, "link_expired", "This link has expired; ask the lender for a new one.")
        found = Visitor("applicant", "applicant", link=link)
    elif scheme.lower() == "bearer" and (caller := service.keys.authenticate(token)):
        found = Visitor(caller.name, caller.role, caller.partner)
    if found is None:
        raise Refused(401, "unauthenticated", "Send a valid key as `Authorization: Bearer …`.")
    if found.role not in roles:
        raise Refused(403, "forbidden", f"The role {found.role} may not do this.")
    request.state.caller = found.name
    return found


def own(who: Visitor, record: Record) -> Record:
    """The record, if it is the caller's to see: an applicant sees one person's only, and without a link nobody's."""
    seen = who.link.subject_ref if who.link is not None else None
    if who.role == "applicant" and (seen is None or record.subject_ref != seen):
        raise Refused(404, "unknown_decision", "No decision of that id is known.", "decision_id")
    return record


async def body_of(request: Request, limit: int = MAX_BODY) -> bytes:
    """The body; raises `Refused` (413) as soon as it is over the limit."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise Refused(413, "too_large", f"The body must be at most {limit} bytes.")
        parts.append(part)
    return b"".join(parts)


async def json_of(request: Request) -> Any:
    """The body as JSON, read strictly."""
    return loads(await body_of(request), "request")


async def read_of(request: Request, kind: type[T]) -> T:
    """The body as a dataclass; raises `InputError` with the field."""
    return read(kind, await json_of(request), "request")


async def written(request: Request, job: Callable[[Unit], T]) -> T:
    """What a job returns, once it is durable."""
    return await asyncio.wrap_future(service_of(request).write(job))


def answer(content: object, status: int = 200) -> Response:
    """Plain data as canonical JSON."""
    return Response(canonical(content), status, media_type=JSON)


def decision_answer(record: Record, who: Visitor, headers: dict[str, str] | None = None) -> Response:
    """A decision that was just made, as the caller's role sees it."""
    return Response(envelope(record, who.role), 200, headers, JSON)


def told(request: Request, record: Record) -> None:
    """Counts a decision that was just made."""
    service_of(request).metrics.decided(record.index["outcome"], record.index["reason"])


def takes(kind: Any) -> dict[str, Any]:
    """The OpenAPI part of a route whose body `kind` describes."""
    return {"requestBody": {"required": True, "content": {JSON: {"schema": schema_of(kind)}}}}
