"""What of a decision each role sees, and the envelope it is sent in; the same record gives each role the same bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select

from model.limits.fields import canonical, joined, read
from model.limits.ladder import Account
from model.limits.request import DecisionRequest, StateSnapshot
from server.decisions import chain
from server.decisions.api_keys import Role
from server.decisions.deciding import Inputs, Unit
from server.decisions.portfolio import Portfolio
from server.decisions.problems import Refused
from server.decisions.records import Record
from server.decisions.tables import decision as decisions

TELLS_PD = ("pd_bp", "pd_upper_bp", "z_e6", "margin_e6", "caps")  # the expected-loss cap is the PD, turned round


def decision_view(decision: Mapping[str, Any], role: Role) -> dict[str, Any]:
    """The decision as a role may see it: an applicant never sees the PD, nor what it can be worked out from.

    >>> decision_view({"score": 600, "pd_bp": 476, "caps": {}}, "applicant")
    {'score': 600}
    """
    return {key: value for key, value in decision.items() if role != "applicant" or key not in TELLS_PD}


def inputs_view(record: Record, role: Role) -> dict[str, Any]:
    """What the decision was asked, for trying other values: an applicant sees what applicants state themselves."""
    request = record.body["request"]
    hidden = ("logit_e6", "quality") if role == "applicant" else ()
    kyc = ("segment", "income_fen_month", "income_source", "existing_debt_service_fen_month", "logit_e6")
    block = ("logit_e6", "as_of", "quality")
    return {
        **{name: request[name] for name in ("purpose", "requested_fen", "term_months", "points")},
        "flags": {"decide_now": request["flags"]["decide_now"]},
        "kyc": {name: request["kyc"][name] for name in kyc if name not in hidden},
        "blocks": {
            domain: {name: evidence[name] for name in block if name not in hidden}
            for domain, evidence in request["blocks"].items()
            if evidence is not None
        },
    }


def envelope(record: Record, role: Role, more: Mapping[str, Any] = {}) -> bytes:
    """A decision's record as it is sent, and `more` beside it: canonical JSON, integers only."""
    index, applicant = record.index, role == "applicant"
    said = {
        **more,
        "schema": "decision-envelope/1",
        "decision_id": index["decision_id"],
        "seq": record.seq,
        "record_sha256": record.record_sha256,
        "prev_sha256": record.prev_sha256,
        "decided_at": index["decided_at"],
        "cause": index["reason"],
        "parent_id": index["parent_id"],
    }
    parts = {name: canonical(value) for name, value in said.items()}
    parts["experiment"] = b"null" if applicant else record.part("experiment")
    seen = canonical(decision_view(record.body["decision"], role)) if applicant else record.part("decision")
    return joined(parts | {"decision": seen})


def record_of(unit: Unit, decision_id: str) -> Record:
    """The record of a decision; raises `Refused` (404) where there is none, or its person was erased."""
    found = select(decisions.c.seq).where(decisions.c.decision_id == decision_id)
    seq = unit.connection.execute(found).scalar_one_or_none()
    record = chain.read(unit.connection, unit.vault, seq) if seq is not None else None
    if record is None:
        raise Refused(404, "unknown_decision", "No decision of that id is known.", "decision_id")
    if record.text is None:
        raise Refused(404, "erased", "The person of this decision was erased.")
    return record


def inputs_of(unit: Unit, record: Record) -> Inputs:
    """The five inputs that a decision was made on, from its record."""
    body = record.body
    versions = body["decision"]["versions"]
    policy = unit.registry.policy(unit.connection, versions["policy_sha256"])
    bundle = unit.registry.bundle(unit.connection, versions["bundle_sha256"])
    request = read(DecisionRequest, body["request"], "stored request")
    state = read(StateSnapshot, body["state"], "stored state")
    return Inputs(request, policy, bundle, state, Account(), Portfolio())
