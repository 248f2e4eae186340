"""What is told of a person: events of the account, sub-scores, consents, and the wish to be forgotten."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import select, update

from model.inputs import InputError
from model.limits.fields import Bp, Count, Fen, Label, Name, plain, read
from model.limits.ladder import OF_CYCLE, Event, EventKind
from model.limits.receipt import Receipt
from model.limits.request import BlockEvidence, Uuid
from server.decisions import chain, persons, portfolio
from server.decisions.deciding import Unit
from server.decisions.persons import Consent, Person
from server.decisions.problems import Refused
from server.decisions.receipts import SKEW
from server.decisions.records import Record
from server.decisions.refreshing import attempt, renewed
from server.decisions.tables import appeal as appeals
from server.decisions.tables import decision as decisions
from server.decisions.tables import override_order as orders
from server.decisions.tables import stamp
from server.decisions.vault import Forgotten
from server.decisions.views import record_of

LATEST = timedelta(days=3)  # an acceptance is told within them
ADVERSE = ("late", "fraud_suspected", "dispute_opened", "closed")
SHUT = ("closed", "frozen", "referred")


@dataclass(frozen=True, slots=True)
class EventReport:
    """An event as a lender reports it; what an accepted offer was, the service reads from the decision itself."""

    event_id: Label
    kind: EventKind
    at: datetime
    cycle: Count | None = None
    dpd: Count = 0
    used_bp: Bp = 0
    outstanding_days: Count = 0
    outstanding_fen: Fen = 0
    source: Name | None = None
    upheld: bool = False
    decision_id: Uuid | None = None


def happened(unit: Unit, subject: str, report: EventReport, by: str) -> bool:
    """Adds an event to an account; False where the same one was told before. An adverse one is decided on at once.

    Raises:
        Refused: 404 without such a person, 409 where the id was another event's, or the offer no longer stands.
        InputError: the event does not fit its kind.
    """
    person = known(unit, subject)
    event = _event(unit, subject, person, report)
    before = next((old for old in person.events if old.event_id == event.event_id), None)
    if before == event:
        return False
    if before is not None:
        raise Refused(409, "event_differs", "This event_id was used for another event.", "event_id")
    policy = unit.registry.active(unit.connection).policy
    after = replace(person, events=(*person.events, event))
    change = after.account(policy).limit_fen - person.account(policy).limit_fen
    chain.append(unit.connection, unit.vault, "event", subject, {"by": by, "event": event})
    persons.save(unit.connection, unit.vault, subject, after, known=True)
    book = portfolio.load(unit.connection)
    portfolio.save(unit.connection, book, book.happened(person, event, policy).moved(change))
    if event.kind in ADVERSE:  # an offer that stands from before must not be taken any more
        attempt(unit, subject, by)
    return True


def _event(unit: Unit, subject: str, person: Person, report: EventReport) -> Event:
    """The event, if its fields fit its kind."""
    if report.at > unit.now + SKEW:
        raise InputError("event", "at", "must not lie in the future")
    if (report.kind in OF_CYCLE) != bool(report.cycle):
        rule = "must be the billing cycle, from 1" if report.kind in OF_CYCLE else "must be left out for this kind"
        raise InputError("event", "cycle", rule)
    if report.dpd and report.kind not in ("paid", "late"):
        raise InputError("event", "dpd", "must be left out for this kind")
    if report.upheld and report.kind != "dispute_closed":
        raise InputError("event", "upheld", "must be left out for this kind")
    if report.kind == "late" and report.dpd == 0:
        raise InputError("event", "dpd", "must be >= 1 for a late cycle")
    earn = unit.registry.active(unit.connection).policy.programme.earn
    if report.kind == "points" and (report.source not in earn or report.source == "on_time_payment"):
        allowed = ", ".join(sorted(earn.keys() - {"on_time_payment"}))
        raise InputError("event", "source", f"must be one of {allowed}; payments earn theirs by themselves")
    if (report.kind == "accepted") != (report.decision_id is not None):
        raise InputError("event", "decision_id", "must be given for `accepted`, and only then")
    fields = {key: value for key, value in plain(report).items() if key != "decision_id"}
    event = read(Event, fields, "event")
    if report.decision_id is None:
        return event
    if any(old.event_id == event.event_id for old in person.events):
        old = next(old for old in person.events if old.event_id == event.event_id)
        return replace(event, amount_fen=old.amount_fen, offer=old.offer, rung=old.rung)
    return _accepted(unit, subject, person, event, report.decision_id)


def _accepted(unit: Unit, subject: str, person: Person, event: Event, decision_id: str) -> Event:
    """The acceptance of the offer that stands."""
    record = record_of(unit, decision_id)
    offer = record.body["decision"]
    if record.subject_ref != subject:
        raise Refused(404, "unknown_decision", "No decision of that id is known for this person.", "decision_id")
    if person.current != decision_id:
        raise Refused(409, "superseded", "A later decision stands; accept that one.", "decision_id")
    made, until = (datetime.fromisoformat(text) for text in (record.index["decided_at"], offer["valid_until"]))
    if offer["kind"] is None or until <= event.at or until + LATEST <= unit.now:
        raise Refused(409, "no_offer", "That decision offers nothing, or no longer stands.", "decision_id")
    if event.at < made - SKEW:
        raise InputError("event", "at", "must not lie before the decision that was accepted")
    if person.account(unit.registry.active(unit.connection).policy).status in SHUT:
        raise Refused(409, "account_shut", "The account is closed, frozen, or waits for a person.", "decision_id")
    rung = (offer["ladder"] or {}).get("rung") or 0
    return replace(event, amount_fen=offer["amount_fen"], offer=offer["kind"], rung=rung)


def check_newer(unit: Unit, receipts: list[Receipt]) -> None:
    """Refuses a message of which one receipt would be refused, before any of it is stored.

    Raises:
        InputError: one is not newer than the partner's last one.
        Refused: 409 where the person's consent does not stand.
    """
    persons_now: dict[str, Person] = {}
    for receipt in receipts:
        subject = receipt.subject_ref
        person = persons_now.get(subject) or persons.load(unit.connection, unit.vault, subject) or Person()
        persons_now[subject] = person.with_receipt(receipt)
        consent = person.consents.get(receipt.domain)
        if consent is not None and not consent.stands(unit.now):
            raise Refused(409, "consent_withdrawn", "The person's consent for this domain does not stand.", "domain")


def received(unit: Unit, receipt: Receipt) -> Record | None:
    """Stores a sub-score that `check_newer` let pass; where the person has asked before, decides again.

    Returns:
        The record of that decision, None where there is none to be made.
    """
    subject = receipt.subject_ref
    person = persons.load(unit.connection, unit.vault, subject)
    after = (person or Person()).with_receipt(receipt)
    chain.append(unit.connection, unit.vault, "subscore", subject, {"receipt": receipt})
    persons.save(unit.connection, unit.vault, subject, after, known=person is not None)
    return renewed(unit, subject, receipt.partner)


def consented(unit: Unit, subject: str, domain: str, consent: Consent, by: str) -> None:
    """Records a consent, of which the lender keeps the document; one from before a withdrawal revives nothing."""
    _check_domain(unit, domain)
    if consent.withdrawn_at is not None:
        raise InputError("consent", "withdrawn_at", "must be left out; to withdraw, delete the consent")
    if consent.granted_at > unit.now + SKEW:
        raise InputError("consent", "granted_at", "must not lie in the future")
    if consent.expires_at is not None and consent.expires_at <= max(unit.now, consent.granted_at):
        raise InputError("consent", "expires_at", "has passed", consent.expires_at.isoformat())
    person = persons.load(unit.connection, unit.vault, subject)
    before = person.consents.get(domain) if person else None
    if before is not None and before.withdrawn_at is not None and consent.granted_at <= before.withdrawn_at:
        raise InputError("consent", "granted_at", "must lie after the withdrawal")
    after = replace(person or Person(), consents={**(person.consents if person else {}), domain: consent})
    chain.append(unit.connection, unit.vault, "consent", subject, {"by": by, "domain": domain, "consent": consent})
    persons.save(unit.connection, unit.vault, subject, after, known=person is not None)


def withdrawn(unit: Unit, subject: str, domain: str, by: str) -> Record | None:
    """Withdraws a consent: the domain's sub-scores are deleted, and the limit is decided on again without them."""
    _check_domain(unit, domain)
    person = known(unit, subject)
    before = person.consents.get(domain) or Consent(unit.now)
    consents = {**person.consents, domain: replace(before, withdrawn_at=unit.now)}
    receipts = {name: kept for name, kept in person.receipts.items() if name != domain}
    asked = person.asked
    if asked is not None and (block := asked.blocks.get(domain)) is not None:
        bare = BlockEvidence(block.covered, block.consent)
        asked = replace(asked, blocks={**asked.blocks, domain: bare})
    chain.append(unit.connection, unit.vault, "consent_withdrawn", subject, {"by": by, "domain": domain})
    after = replace(person, consents=consents, receipts=receipts, asked=asked)
    persons.save(unit.connection, unit.vault, subject, after, known=True)
    return attempt(unit, subject, by)


def forgotten(unit: Unit, subject: str, by: str) -> int:
    """Destroys what is known of a person, and ends appeals and orders about them.

    Raises:
        Refused: 404 for somebody unknown, 409 while an account is open or money is owed.
    """
    person = persons.load(unit.connection, unit.vault, subject) or Person()
    account = person.account(unit.registry.active(unit.connection).policy)
    if account.outstanding_fen or account.dpd_now or (account.limit_fen and not account.closed):
        raise Refused(409, "account_open", "The account is open or money is owed: close it first.")
    theirs = select(decisions.c.decision_id).where(decisions.c.subject_ref == subject).scalar_subquery()
    try:
        unit.vault.key_of(unit.connection, subject)
    except Forgotten:
        raise Refused(404, "unknown_subject", "Nobody of that reference is known.", "subject_ref") from None
    for table in (appeals, orders):
        mine = table.c.decision_id.in_(theirs) & table.c.closed_at.is_(None)
        ended = {"state": "erased", "closed_at": stamp(unit.now)}
        unit.connection.execute(update(table).where(mine).values(ended))
    return chain.erase(unit.connection, unit.vault, subject, by)


def known(unit: Unit, subject: str) -> Person:
    """The person's document; raises `Refused` (404) for somebody unknown."""
    person = persons.load(unit.connection, unit.vault, subject)
    if person is None:
        raise Refused(404, "unknown_subject", "Nobody of that reference is known.", "subject_ref")
    return person


def _check_domain(unit: Unit, domain: str) -> None:
    domains = unit.registry.active(unit.connection).bundle.table.optional
    if domain not in domains:
        raise InputError("consent", "domain", "must be one of " + ", ".join(domains), domain)
