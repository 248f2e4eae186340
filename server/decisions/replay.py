"""Making a past decision again from its record: it must come out the same, byte for byte."""

from __future__ import annotations

from datetime import datetime
from hashlib import sha256
from typing import Any

from model.limits.decision import Decision
from model.limits.fields import canonical, read
from model.limits.override import OverrideOrder, overridden
from server.decisions.deciding import Unit
from server.decisions.records import Record
from server.decisions.views import inputs_of


def replayed(unit: Unit, record: Record) -> dict[str, Any]:
    """Whether the decision of a record is made again identically, with which engine it was, and both hashes.

    Another engine may decide otherwise: then it is not identical, and the engine's version says why.
    """
    body = record.body
    stored = canonical(body["decision"])
    made = _again(unit, record, body).to_json()
    return {
        "identical": made == stored,
        "engine": body["decision"]["versions"]["engine"],
        "sha256": sha256(stored).hexdigest(),
        "replayed_sha256": sha256(made).hexdigest(),
    }


def _again(unit: Unit, record: Record, body: dict[str, Any]) -> Decision:
    given = inputs_of(unit, record)
    decision = given.decide()
    if "order" not in body:
        return decision
    order = read(OverrideOrder, body["order"], "stored override")
    return overridden(given.case(), decision, order, datetime.fromisoformat(body["overridden_at"]))
