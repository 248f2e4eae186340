"""Deciding again without being asked: when data arrives, a deadline passes, a consent ends, or something happens.

What made it necessary is a fact that stays, whether or not a decision can be made now: nothing here refuses it.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, select, update

from model.inputs import InputError
from server.decisions import persons
from server.decisions.deciding import Cause, Unit, conclude
from server.decisions.problems import Refused
from server.decisions.records import Record
from server.decisions.tables import stamp, waiting

LATER = timedelta(minutes=15)  # when a decision that cannot be made now is tried again


def refresh(unit: Unit, subject: str, cause: Cause) -> Record | None:
    """Decides again on what was last asked, with what is known now; None where nothing was asked.

    Raises:
        Refused, InputError: it cannot be decided now; nothing was written.
    """
    person = persons.load(unit.connection, unit.vault, subject)
    if person is None or person.asked is None:
        return None
    goes_on = person.waits and cause.reason == "refresh"
    asked = replace(person.asked, as_of=unit.now, purpose=person.asked.purpose if goes_on else "review")
    return conclude(unit, person, asked, cause)


def attempt(unit: Unit, subject: str, by: str) -> Record | None:
    """Decides again after something happened, if that can be done now."""
    try:
        return refresh(unit, subject, Cause("refresh", by))
    except (Refused, InputError):
        return None


def renewed(unit: Unit, subject: str, by: str) -> Record | None:
    """Decides again after new data: not against a person's decision that stands, nor for who asked long ago."""
    person = persons.load(unit.connection, unit.vault, subject)
    if person is None or person.asked is None:
        return None
    if person.overridden_until is not None and unit.now < person.overridden_until:
        return None
    policy = unit.registry.active(unit.connection).policy
    old = unit.now - person.asked.as_of > timedelta(days=policy.limit.valid_days)
    if old and not person.waits and not person.account(policy).limit_fen:
        return None
    return attempt(unit, subject, by)


def expire(unit: Unit, subject: str) -> Record | None:
    """Decides for one whose wait has ended; where that cannot be done now, it is tried again later."""
    mine = waiting.c.subject_ref == subject
    due = unit.connection.execute(select(waiting.c.due_at).where(mine)).scalar_one_or_none()
    if due is None or due > stamp(unit.now):
        return None  # another process was faster
    person = persons.load(unit.connection, unit.vault, subject)
    if person is None or not person.waits:
        unit.connection.execute(delete(waiting).where(mine))
        return None
    record = attempt(unit, subject, "deadline")
    if record is None:
        unit.connection.execute(update(waiting).where(mine).values(due_at=stamp(unit.now + LATER)))
    return record


def overdue(connection: Connection, now: datetime, count: int = 100) -> list[str]:
    """Whose deadline has passed: they are to be decided on without the late data."""
    due = select(waiting.c.subject_ref).where(waiting.c.due_at <= stamp(now)).order_by(waiting.c.due_at).limit(count)
    return list(connection.execute(due).scalars())
