"""What the service holds of one person: one sealed document, read and written whole.

Its parts all come from the audit chain: events, the newest receipts, consents, what was last asked and decided.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Annotated

from sqlalchemy import Connection, bindparam, select, update

from model.inputs import InputError
from model.limits.experiment import arm_bp
from model.limits.fields import Count, Label, Name, Sha256, Text, canonical, read
from model.limits.ladder import Account, Event, account_of
from model.limits.receipt import Receipt
from model.limits.request import BlockEvidence, DecisionRequest, Uuid
from model.limits.schema import Policy
from server.decisions.receipts import newest_of
from server.decisions.registry import Active
from server.decisions.tables import account, person_key
from server.decisions.vault import Vault, seal, unseal

MONTH = timedelta(days=30)
Day = Annotated[str, Text(r"\d{4}-\d\d-\d\d", "must be a day")]
_MINE = account.c.subject_ref == bindparam("subject")
_LOAD = (
    select(person_key.c.wrapped, account.c.state)
    .outerjoin_from(person_key, account, person_key.c.subject_ref == account.c.subject_ref)
    .where(person_key.c.subject_ref == bindparam("subject"))
)
_CHANGE = update(account).where(_MINE).values(state=bindparam("sealed"))
_ADD = account.insert()


@dataclass(frozen=True, slots=True)
class Consent:
    """That a person agrees to the use of one domain's sub-score: from `granted_at` to the earlier of the other two."""

    granted_at: datetime
    expires_at: datetime | None = None
    withdrawn_at: datetime | None = None
    doc_sha256: Sha256 | None = None

    def stands(self, now: datetime) -> bool:
        """Whether it may be relied on."""
        return self.withdrawn_at is None and (self.expires_at is None or now < self.expires_at)


@dataclass(frozen=True, slots=True)
class Waiting:
    """The wait of one application for late data: since when, how often deferred, and whether it goes on.

    Once it is over it is remembered, so that the same application does not begin to wait anew.
    """

    since: datetime
    times: Count
    open: bool = True


@dataclass(frozen=True, slots=True)
class Person:
    """One person's document.

    Attributes:
        events: of the account, in order of arrival.
        receipts: by domain, the newest of each partner.
        marks: by partner, the newest `as_of` that was taken, kept when its receipt is deleted: none is taken again.
        consents: recorded ones, by domain; a domain without one goes by what the request says.
        applications: when the person asked for a limit in the last 30 days.
        asked: the last request as the lender sent it: what a new sub-score is decided on.
        current: the decision that stands.
        waiting: of the application last asked, where it was ever deferred.
        overridden_until: until when a person's decision stands against new data.
        trial_day: the day (UTC) on which a small limit was last counted for this person.
    """

    events: tuple[Event, ...] = ()
    receipts: Mapping[Name, tuple[Receipt, ...]] = field(default_factory=dict)
    marks: Mapping[Label, datetime] = field(default_factory=dict)
    consents: Mapping[Name, Consent] = field(default_factory=dict)
    applications: tuple[datetime, ...] = ()
    asked: DecisionRequest | None = None
    current: Uuid | None = None
    waiting: Waiting | None = None
    overridden_until: datetime | None = None
    trial_day: Day | None = None

    @property
    def waits(self) -> bool:
        """Whether the last application waits for late data."""
        return self.waiting is not None and self.waiting.open

    def account(self, policy: Policy) -> Account:
        """Where the account stands."""
        return account_of(self.events, policy)

    def recent(self, now: datetime) -> tuple[datetime, ...]:
        """The applications of the last 30 days."""
        return tuple(at for at in self.applications if at > now - MONTH)

    def with_receipt(self, receipt: Receipt) -> Person:
        """The person with a partner's newer receipt.

        Raises:
            InputError: it is not newer than the last one that was taken.
        """
        mark = self.marks.get(receipt.partner)
        if mark is not None and receipt.as_of <= mark:
            raise InputError("receipt", "as_of", "must be newer than that of the last receipt: this one was used")
        others = [known for known in self.receipts.get(receipt.domain, ()) if known.partner != receipt.partner]
        receipts = {**self.receipts, receipt.domain: (*others, receipt)}
        return replace(self, receipts=receipts, marks={**self.marks, receipt.partner: receipt.as_of})


def eligible_points(account: Account, policy: Policy, subject_ref: str) -> int:
    """The points that count; none for those held out to measure the programme."""
    held_out = arm_bp("points-holdout", subject_ref) < policy.programme.holdout_bp
    return 0 if held_out else account.points


def check_request(person: Person, request: DecisionRequest, active: Active, now: datetime) -> None:
    """Refuses a new request that brings what the service keeps, or claims a consent that ended.

    Raises:
        InputError: names the field.
    """
    if request.points:
        raise InputError("request", "points", "are kept by the service", remedy="leave the field out")
    for domain, given in request.blocks.items():
        where, known = f"blocks.{domain}", person.consents.get(domain)
        if domain not in active.bundle.table.optional:
            raise InputError("request", where, "is not a block of the bundle", active.bundle.table.optional)
        if given is None:
            continue
        if given.consent and given.consent_until is not None and given.consent_until <= now:
            raise InputError("request", f"{where}.consent_until", "has passed", remedy="record a new consent first")
        if given.consent and known is not None and not known.stands(now):
            ended = "was withdrawn" if known.withdrawn_at else "has expired"
            raise InputError("request", f"{where}.consent", ended, remedy="record a new consent first")
        if active.fed(domain) and (given.logit_e6 is not None or given.as_of is not None):
            remedy = "leave it out: registered partners send it to POST /v1/subscores"
            raise InputError("request", f"{where}.logit_e6", "must come signed by the domain's partner", remedy=remedy)


def evidence_of(
    person: Person, request: DecisionRequest, domain: str, active: Active, now: datetime
) -> BlockEvidence | None:
    """A block's evidence: from receipts of registered partners, or from the request where the domain has none.

    It refuses nothing: what was asked long ago may hold no longer, and counts as no consent then.
    """
    given, consent = request.blocks.get(domain), person.consents.get(domain)
    agreed = given.consent if given is not None else consent is not None
    ends = [given.consent_until if given is not None and consent is None else None]
    if consent is not None:
        agreed, ends = agreed and consent.stands(now), [consent.expires_at]
    until = next((end for end in ends if end is not None), None)
    agreed = agreed and (until is None or now < until)
    if not active.fed(domain):
        return None if given is None else replace(given, consent=agreed, consent_until=until if agreed else None)
    mine = [r for r in person.receipts.get(domain, ()) if (domain, r.partner) in active.partners]
    receipt = newest_of(mine)
    if given is None and (receipt is None or consent is None):
        return None
    covered = given.covered if given is not None else True
    if receipt is None or not agreed:
        return BlockEvidence(covered, agreed, consent_until=until if agreed else None)
    return receipt.evidence(covered, agreed, until)


def load(connection: Connection, vault: Vault, subject_ref: str) -> Person | None:
    """The person's document; None for somebody new or erased."""
    wrapped, state = connection.execute(_LOAD, {"subject": subject_ref}).one_or_none() or (None, None)
    key = vault.told(connection, subject_ref, wrapped)
    if key is None or state is None:
        return None
    return read(Person, json.loads(unseal(key, state, _context(subject_ref))), "stored person")


def save(connection: Connection, vault: Vault, subject_ref: str, person: Person, known: bool) -> None:
    """Stores the document, after the record that changed it was appended; `known`: whether there was one."""
    sealed = seal(vault.key_of(connection, subject_ref, create=True), canonical(person), _context(subject_ref))
    if known:
        connection.execute(_CHANGE, {"subject": subject_ref, "sealed": sealed})
    else:
        connection.execute(_ADD, {"subject_ref": subject_ref, "state": sealed})


def _context(subject_ref: str) -> bytes:
    return b"person|" + subject_ref.encode()
