"""Decisions by persons: overrides, and appeals with their states. Both end in a new decision linked to the old one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Literal
from uuid import uuid4

from sqlalchemy import select, update

from model.inputs import InputError
from model.limits.decision import Decision
from model.limits.fields import plain, read
from model.limits.ladder import Event
from model.limits.override import Note, OverrideOrder, overridden
from model.limits.request import DecisionRequest, Uuid
from server.decisions import chain, portfolio
from server.decisions.accounts import known
from server.decisions.deciding import Cause, Inputs, Made, Unit, store
from server.decisions.problems import Refused
from server.decisions.records import Record
from server.decisions.tables import appeal as appeals
from server.decisions.tables import override_order as orders
from server.decisions.tables import stamp
from server.decisions.views import inputs_of, record_of

OPEN, IN_REVIEW = "open", "in_review"
CLOSED = {"uphold": "upheld", "reject": "rejected", "change": "changed"}


@dataclass(frozen=True, slots=True)
class Objection:
    """An appeal as it comes in."""

    decision_id: Uuid
    grounds: Note


@dataclass(frozen=True, slots=True)
class Ruling:
    """What a reviewer does with an appeal: takes it on, upholds the decision, rejects the appeal, or decides anew."""

    action: Literal["assign", "uphold", "reject", "change"]
    note: Note
    order: OverrideOrder | None = None


def override(unit: Unit, decision_id: str, order: OverrideOrder, by: str) -> Record | str:
    """Decides instead of the newest decision of a person; above the policy's sum it waits for a second person.

    Returns:
        The record of the new decision, or the id of the order that waits.

    Raises:
        InputError: the order passes law, means or a gate.
        Refused: 409 where a later decision stands, 404 where there is none.
    """
    given, decision = _standing(unit, decision_id)
    result = _overridden(given, decision, order, unit)
    if order.amount_fen > given.policy.override.second_person_above_fen:
        return _waits(unit, decision_id, given.request.subject_ref, order, by)
    return _stored(unit, given, result, Cause("override", by), order)


def second(unit: Unit, order_id: str, by: str) -> Record:
    """A second person's approval of an order that waits; raises `Refused` where it is the same person's."""
    row = unit.connection.execute(select(orders).where(orders.c.order_id == order_id)).mappings().one_or_none()
    if row is None or row["state"] != "pending":
        raise Refused(404, "unknown_override", "No override of that id waits.", "override_id")
    if row["ordered_by"] == by:
        raise Refused(403, "same_person", "Another person than the one who ordered it must approve.")
    given, decision = _standing(unit, row["decision_id"])
    asked = chain.read(unit.connection, unit.vault, row["seq"])
    if asked is None or asked.text is None:
        raise Refused(404, "erased", "The person of this override was erased.")
    order = read(OverrideOrder, asked.body["order"], "stored override")
    result = _overridden(given, decision, order, unit)
    record = _stored(unit, given, result, Cause("override", by), order, row["ordered_by"])
    done = {"state": "applied", "approved_by": by, "closed_at": stamp(unit.now)}
    unit.connection.execute(update(orders).where(orders.c.order_id == order_id).values(done))
    return record


def _waits(unit: Unit, decision_id: str, subject: str, order: OverrideOrder, by: str) -> str:
    order_id = str(uuid4())
    body = {"by": by, "decision_id": decision_id, "order_id": order_id, "order": plain(order)}
    record = chain.append(unit.connection, unit.vault, "override_ordered", subject, body)
    row = {
        "order_id": order_id,
        "decision_id": decision_id,
        "state": "pending",
        "ordered_by": by,
        "ordered_at": stamp(unit.now),
        "seq": record.seq,
    }
    unit.connection.execute(orders.insert(), row)
    return order_id


def _standing(unit: Unit, decision_id: str) -> tuple[Inputs, Decision]:
    """The inputs and the pure answer of a person's newest decision, which alone can be overridden."""
    record = record_of(unit, decision_id)
    person = known(unit, str(record.subject_ref))
    if person.current != decision_id:
        raise Refused(409, "superseded", "A later decision stands.", "decision_id")
    given = inputs_of(unit, record)
    return given, given.decide()


def _overridden(given: Inputs, decision: Decision, order: OverrideOrder, unit: Unit) -> Decision:
    return overridden(given.case(), decision, order, unit.now)


def _stored(
    unit: Unit, given: Inputs, decision: Decision, cause: Cause, order: OverrideOrder, ordered_by: str = ""
) -> Record:
    person = known(unit, given.request.subject_ref)
    asked: DecisionRequest = person.asked or given.request
    current = Inputs(
        given.request, given.policy, given.bundle, given.state, given.account, portfolio.load(unit.connection)
    )
    more = {"order": order, "overridden_at": stamp(unit.now), "ordered_by": ordered_by or cause.by}
    if order.reason == "fraud_concern" and not order.amount_fen:  # no later data undoes it: a person must clear it
        suspicion = Event(f"override-{uuid4()}", "fraud_suspected", unit.now)
        chain.append(unit.connection, unit.vault, "event", asked.subject_ref, {"by": cause.by, "event": suspicion})
        person = replace(person, events=(*person.events, suspicion))
    return store(unit, Made(person, asked, current, decision, more), cause)


def object_to(unit: Unit, objection: Objection, by: str) -> Mapping[str, Any]:
    """Opens an appeal; of one decision there is one that is open."""
    record = record_of(unit, objection.decision_id)
    theirs = (appeals.c.decision_id == objection.decision_id) & appeals.c.closed_at.is_(None)
    if unit.connection.execute(select(appeals.c.appeal_id).where(theirs)).first():
        raise Refused(409, "appeal_open", "An appeal of this decision is open already.", "decision_id")
    days = unit.registry.active(unit.connection).policy.appeal_days
    body = {"by": by, "decision_id": objection.decision_id, "grounds": objection.grounds}
    noted = chain.append(unit.connection, unit.vault, "appeal_opened", record.subject_ref, body)
    row = {
        "appeal_id": str(uuid4()),
        "decision_id": objection.decision_id,
        "state": OPEN,
        "opened_at": stamp(unit.now),
        "due_at": stamp(unit.now + timedelta(days=days)),
        "assigned_to": None,
        "closed_at": None,
        "seq": noted.seq,
    }
    unit.connection.execute(appeals.insert(), row)
    return row


def rule(unit: Unit, appeal_id: str, ruling: Ruling, by: str) -> tuple[Mapping[str, Any], Record | None]:
    """A reviewer's act on an appeal; whoever made the decision by hand may not judge it.

    Returns:
        The appeal after it, and the new decision where it was changed.
    """
    row = unit.connection.execute(select(appeals).where(appeals.c.appeal_id == appeal_id)).mappings().one_or_none()
    if row is None or row["closed_at"] is not None:
        raise Refused(404, "unknown_appeal", "No open appeal of that id is known.", "appeal_id")
    record = record_of(unit, row["decision_id"])
    if by in (record.body["by"], record.body.get("ordered_by")):
        raise Refused(403, "same_person", "Whoever made the decision may not judge its appeal.")
    if row["assigned_to"] not in (None, by):
        raise Refused(409, "assigned", "Another reviewer has this appeal.")
    if (ruling.action == "change") != (ruling.order is not None):
        raise InputError("ruling", "order", "must be given for `change`, and only then")
    if ruling.action != "assign" and row["assigned_to"] is None:
        raise Refused(409, "not_assigned", "Take the appeal on first (action assign).", "action")
    made = _changed(unit, row["decision_id"], ruling.order, by) if ruling.order is not None else None
    body = {"by": by, "appeal_id": appeal_id, "action": ruling.action, "note": ruling.note}
    noted = chain.append(unit.connection, unit.vault, "appeal_ruled", record.subject_ref, body)
    values = {"state": CLOSED.get(ruling.action, IN_REVIEW), "assigned_to": by, "seq": noted.seq}
    if ruling.action != "assign":
        values["closed_at"] = stamp(unit.now)
    unit.connection.execute(update(appeals).where(appeals.c.appeal_id == appeal_id).values(values))
    return {**row, **values}, made


def _changed(unit: Unit, decision_id: str, order: OverrideOrder, by: str) -> Record:
    person = known(unit, str(record_of(unit, decision_id).subject_ref))
    given, decision = _standing(unit, person.current or decision_id)
    if order.amount_fen > given.policy.override.second_person_above_fen:
        raise Refused(409, "second_person", "Above this sum use an override, which a second person approves.", "order")
    return _stored(unit, given, _overridden(given, decision, order, unit), Cause("appeal", by), order)
