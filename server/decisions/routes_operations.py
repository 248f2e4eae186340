"""Routes of operation: policies, models, reasons, the chain's head, health, readiness, metrics."""

from __future__ import annotations

import json
import tomllib

from fastapi import APIRouter, Request, Response
from sqlalchemy import select
from starlette.concurrency import run_in_threadpool

from model.inputs import InputError
from model.limits.fields import plain
from model.limits.policy import parse_policy
from model.limits.reasons import CATALOGUE
from model.limits.schema import Policy
from model.limits.strict_json import loads
from server.decisions import chain, registry
from server.decisions.api_keys import Role
from server.decisions.deciding import Unit
from server.decisions.http import answer, body_of, service_of, visitor, written
from server.decisions.problems import Refused
from server.decisions.tables import bundle as bundles
from server.decisions.tables import policy as policies

router = APIRouter(tags=["operation"])
_READERS: tuple[Role, ...] = ("service", "officer", "reviewer", "auditor", "admin")
_MOST_DOTS = 100  # in a line: the time that tomllib takes for a dotted key grows with the square of its parts


async def _policy_of(request: Request) -> Policy:
    """A policy from the body: TOML as it is written, or JSON; others are answered while it is read."""
    as_json = request.headers.get("content-type", "").startswith("application/json")
    return await run_in_threadpool(_parsed, await body_of(request), as_json)


def _parsed(body: bytes, as_json: bool) -> Policy:
    if as_json:
        return parse_policy(loads(body, "policy"), "policy")
    try:
        text = body.decode()
        if any(line.count(".") > _MOST_DOTS for line in text.split("\n")):
            raise InputError("policy", "", f"must not have more than {_MOST_DOTS} dots in a line")
        return parse_policy(tomllib.loads(text), "policy")
    except InputError:
        raise
    except (ValueError, RecursionError) as error:  # not UTF-8, not TOML, thousands of digits, or nested too deeply
        what = " ".join(str(error).split())
        raise InputError("policy", "", f"is not valid TOML ({what})", remedy="mend that line") from None


@router.get("/v1/policies")
def listed(request: Request) -> Response:
    """All policies ever uploaded, the newest first."""
    visitor(request, *_READERS)
    with service_of(request).read() as unit:
        rows = unit.connection.execute(select(policies).order_by(policies.c.seq.desc())).mappings().all()
    return answer({"policies": [{**row, "approved_by": json.loads(row["approved_by"])} for row in rows]})


@router.get("/v1/policies/{sha256}")
def document(request: Request, sha256: str) -> Response:
    """One policy, whole, as it was kept: its hash is of this document."""
    visitor(request, *_READERS)
    with service_of(request).read() as unit:
        return answer(unit.registry.document(unit.connection, sha256))


@router.post("/v1/policies/validate")
async def validate(request: Request) -> Response:
    """Check a policy (TOML or JSON) without keeping it."""
    visitor(request, "admin", "officer", "reviewer")
    policy = await _policy_of(request)
    return answer({"valid": True, "id": policy.id, "version": policy.version, "sha256": policy.sha256})


@router.post("/v1/policies")
async def upload(request: Request) -> Response:
    """Keep a policy as a draft, to be approved by two persons and then activated."""
    who, policy = visitor(request, "admin"), await _policy_of(request)
    new = await written(request, lambda unit: registry.upload(unit.connection, unit.vault, policy, who.name))
    return answer({"sha256": policy.sha256, "new": new}, 201 if new else 200)


@router.post("/v1/policies/{sha256}/approve")
async def approve(request: Request, sha256: str) -> Response:
    """One person's approval."""
    who = visitor(request, "admin")
    names = await written(request, lambda unit: registry.approve(unit.connection, unit.vault, sha256, who.name))
    return answer({"sha256": sha256, "approved_by": names})


@router.post("/v1/policies/{sha256}/activate")
async def activate(request: Request, sha256: str) -> Response:
    """Make a policy that two persons approved the one that decides; an earlier one too, to go back."""
    who = visitor(request, "admin")

    def job(unit: Unit) -> None:
        registry.activate(unit.connection, unit.vault, sha256, who.name, unit.now)

    await written(request, job)
    service_of(request).registry.changed()
    return answer({"sha256": sha256, "state": registry.ACTIVE})


@router.get("/v1/models")
def models(request: Request) -> Response:
    """All models that ever decided, the present one first."""
    visitor(request, *_READERS)
    with service_of(request).read() as unit:
        rows = unit.connection.execute(select(bundles).order_by(bundles.c.seq.desc())).mappings().all()
        return answer({"models": [dict(row) for row in rows]})


@router.get("/v1/reasons")
def reasons(request: Request) -> Response:
    """The catalogue of reasons and steps in both languages."""
    visitor(request, "applicant", "partner", *_READERS)
    return answer({name: plain(getattr(CATALOGUE, name)) for name in ("reason", "step", "improve", "domain", "group")})


@router.get("/v1/audit/head")
def head(request: Request) -> Response:
    """The last record's number and hash; kept elsewhere, `fedscore audit-log verify --expect` proves that it stands."""
    visitor(request, "auditor", "admin", "officer")
    with service_of(request).read() as unit:
        found = chain.head(unit.connection)
    return answer({"seq": found.seq, "record_sha256": found.record_sha256})


@router.get("/healthz")
def alive() -> Response:
    """The process answers."""
    return answer({"status": "ok"})


@router.get("/readyz")
def ready(request: Request) -> Response:
    """Whether decisions can be made now: the database answers, and policy and model hold."""
    service = service_of(request)
    why = service.ready()
    service.metrics.ready.set(0 if why else 1)
    if why:
        raise Refused(503, "not_ready", why)
    return answer({"status": "ready"})


@router.get("/metrics")
def metrics(request: Request) -> Response:
    """Prometheus metrics; none is about a person."""
    return Response(service_of(request).metrics.text(), media_type="text/plain; version=0.0.4")
