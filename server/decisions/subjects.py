"""One person as an officer sees it: account, decisions, blocks, events, appeals."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from model.limits.fields import plain
from server.decisions import persons
from server.decisions.accounts import known
from server.decisions.deciding import Unit
from server.decisions.persons import Person
from server.decisions.problems import Refused
from server.decisions.receipts import newest_of
from server.decisions.records import Record
from server.decisions.tables import appeal, decision, idempotency


def find(unit: Unit, text: str) -> tuple[str, str | None]:
    """The person whom `text` names by subject, decision or request, and the decision that it names.

    Raises:
        Refused: 404 where it names nobody.
    """
    if persons.load(unit.connection, unit.vault, text) is not None:
        return text, None
    by_request = select(idempotency.c.seq).where(idempotency.c.key == text)
    either = (decision.c.decision_id == text) | decision.c.seq.in_(by_request)
    query = select(decision.c.subject_ref, decision.c.decision_id).where(either & decision.c.subject_ref.is_not(None))
    found = unit.connection.execute(query.limit(1)).one_or_none()
    if found is None:
        raise Refused(404, "not_found", "Nothing of that reference is known.", "q")
    return found.subject_ref, found.decision_id


def successor(unit: Unit, record: Record) -> str | None:
    """The person's decision that stands, where that is another than the record's."""
    person = persons.load(unit.connection, unit.vault, str(record.subject_ref))
    return None if person is None or person.current == record.index["decision_id"] else person.current


def overview(unit: Unit, subject: str) -> dict[str, Any]:
    """All that is known of a person, the newest decision first.

    Raises:
        Refused: 404 for somebody unknown or erased.
    """
    person = known(unit, subject)
    policy = unit.registry.active(unit.connection).policy
    account = person.account(policy)
    return {
        "subject_ref": subject,
        "account": {**plain(account), "status": account.status},
        "decisions": _decisions(unit, subject),
        "blocks": _blocks(unit, person),
        "events": plain(person.events),
        "appeals": _appeals(unit, subject),
        "waiting": plain(person.waiting) if person.waits else None,
    }


def changes(unit: Unit, after: int, count: int) -> list[dict[str, Any]]:
    """The decisions after a record's number, in order: what was refreshed, reviewed or overridden since."""
    query = select(decision).where(decision.c.seq > after).order_by(decision.c.seq).limit(count)
    return [_line(row) | {"subject_ref": row.subject_ref} for row in unit.connection.execute(query)]


def _decisions(unit: Unit, subject: str) -> list[dict[str, Any]]:
    query = select(decision).where(decision.c.subject_ref == subject).order_by(decision.c.seq.desc())
    return [_line(row) for row in unit.connection.execute(query)]


def _line(row: Any) -> dict[str, Any]:
    """A decision as it is listed."""
    return {
        "decision_id": row.decision_id,
        "seq": row.seq,
        "decided_at": row.decided_at,
        "decision": row.outcome,
        "amount_fen": row.amount_fen,
        "cause": row.reason,
        "parent_id": row.parent_id,
    }


def _blocks(unit: Unit, person: Person) -> dict[str, dict[str, Any]]:
    """What is held of each domain: the receipt that counts, and the recorded consent."""
    shown = {}
    active = unit.registry.active(unit.connection)
    for domain in active.bundle.table.optional:
        mine = [r for r in person.receipts.get(domain, ()) if (domain, r.partner) in active.partners]
        receipt, consent = newest_of(mine), person.consents.get(domain)
        shown[domain] = {
            "partner": receipt.partner if receipt else None,
            "as_of": plain(receipt.as_of) if receipt else None,
            "quality": receipt.quality if receipt else None,
            "consent": consent.withdrawn_at is None if consent else None,
            "consent_until": plain(consent.expires_at) if consent else None,
        }
    return shown


def _appeals(unit: Unit, subject: str) -> list[dict[str, Any]]:
    theirs = select(decision.c.decision_id).where(decision.c.subject_ref == subject)
    query = select(appeal).where(appeal.c.decision_id.in_(theirs)).order_by(appeal.c.opened_at.desc())
    return [shown_appeal(row) for row in unit.connection.execute(query).mappings()]


def shown_appeal(row: Any) -> dict[str, Any]:
    """An appeal as it is listed."""
    names = ("appeal_id", "decision_id", "state", "opened_at", "due_at", "assigned_to", "closed_at")
    return {name: row[name] for name in names}
