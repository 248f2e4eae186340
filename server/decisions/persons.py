"""What the service holds of one person: one sealed document, read and written whole.

Its parts all come from the audit chain: events, the newest receipts, consents, what was last asked and decided.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from sqlalchemy import Connection, bindparam, select, update

from model.inputs import InputError
from model.limits.experiment import arm_bp
from model.limits.fields import Count, Name, Sha256, canonical, read
from model.limits.ladder import Account, Event, account_of
from model.limits.request import BlockEvidence, DecisionRequest, Uuid
from model.limits.schema import Policy
from server.decisions.receipts import Receipt, newest_of
from server.decisions.tables import account, person_key
from server.decisions.vault import Vault, seal, unseal

MONTH = timedelta(days=30)
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


@dataclass(frozen=True, slots=True)
class Waiting:
    """An application that waits for late data: since when, and how often it was deferred."""

    since: datetime
    times: Count


@dataclass(frozen=True, slots=True)
class Person:
    """One person's document.

    Attributes:
        events: of the account, in order of arrival.
        receipts: by domain, the newest of each partner.
        consents: recorded ones, by domain; a domain without one goes by what the request says.
        applications: when the person asked for a limit in the last 30 days.
        asked: the last request as the lender sent it: what a new sub-score is decided on.
        current: the newest decision.
        waiting: while that decision is DEFER.
    """

    events: tuple[Event, ...] = ()
    receipts: Mapping[Name, tuple[Receipt, ...]] = field(default_factory=dict)
    consents: Mapping[Name, Consent] = field(default_factory=dict)
    applications: tuple[datetime, ...] = ()
    asked: DecisionRequest | None = None
    current: Uuid | None = None
    waiting: Waiting | None = None

    def account(self, policy: Policy) -> Account:
        """Where the account stands."""
        return account_of(self.events, policy)

    def applied(self, now: datetime) -> Person:
        """The person with one more application, and those older than 30 days forgotten."""
        return replace(self, applications=(*(at for at in self.applications if at > now - MONTH), now))

    def with_receipt(self, receipt: Receipt) -> Person:
        """The person with a partner's newer receipt.

        Raises:
            InputError: it is not newer than the one there is: it was sent before.
        """
        others = []
        for known in self.receipts.get(receipt.domain, ()):
            if known.partner != receipt.partner:
                others.append(known)
            elif receipt.as_of <= known.as_of:
                raise InputError("receipt", "as_of", "must be newer than that of the last receipt: this one was used")
        return replace(self, receipts={**self.receipts, receipt.domain: (*others, receipt)})


def eligible_points(account: Account, policy: Policy, subject_ref: str) -> int:
    """The points that count; none for those held out to measure the programme."""
    held_out = arm_bp("points-holdout", subject_ref) < policy.programme.holdout_bp
    return 0 if held_out else account.points


def evidence_of(person: Person, request: DecisionRequest, domain: str, fed: bool) -> BlockEvidence | None:
    """A block's evidence from the receipts, or from the request where no partner of the domain is registered.

    Args:
        person: whose.
        request: what the lender says of coverage and consent.
        domain: one of the bundle's.
        fed: whether the domain's sub-scores come signed.

    Raises:
        InputError: the request brings a sub-score that must come signed, or claims a consent that ended.
    """
    given, consent = request.blocks.get(domain), person.consents.get(domain)
    where = f"blocks.{domain}"
    if given is not None and given.consent:
        _check_consent(given, consent, request.as_of, where)
    if not fed:
        return given
    if given is not None and (given.logit_e6 is not None or given.as_of is not None):
        remedy = "leave it out: registered partners send it to POST /v1/subscores"
        raise InputError("request", f"{where}.logit_e6", "must come signed by the domain's partner", remedy=remedy)
    receipt = newest_of(person.receipts.get(domain, ()))
    if receipt is None and given is None:
        return None
    agreed = given.consent if given is not None else True
    if consent is not None:
        agreed = agreed and consent.withdrawn_at is None
    until = consent.expires_at if consent is not None else given.consent_until if given is not None else None
    covered = given.covered if given is not None else True
    if receipt is None:
        return BlockEvidence(covered, agreed, consent_until=until)
    return receipt.evidence(covered, agreed, until)


def _check_consent(given: BlockEvidence, known: Consent | None, now: datetime, where: str) -> None:
    renew = "record a new consent first"
    if given.consent_until is not None and given.consent_until <= now:
        raise InputError("request", f"{where}.consent_until", "has passed", given.consent_until.isoformat(), renew)
    if known is not None and known.withdrawn_at is not None:
        raise InputError("request", f"{where}.consent", "was withdrawn", True, renew)
    if known is not None and known.expires_at is not None and known.expires_at <= now:
        raise InputError("request", f"{where}.consent", "has expired", True, renew)


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
