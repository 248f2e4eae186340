"""Making decisions: what is known of a person is put together, decided on by the pure core, and appended to the chain.

Everything here runs as a job of the writer: it sees one state of the database, and refuses before it writes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal
from uuid import uuid4

from sqlalchemy import Connection, bindparam, delete, select

from model.inputs import InputError
from model.limits.decide import decide
from model.limits.decision import Decision
from model.limits.experiment import arm_bp
from model.limits.ladder import Account, snapshot
from model.limits.policy import NotInForce, check_in_force
from model.limits.request import DecisionRequest, StateSnapshot
from model.limits.schema import Policy
from model.limits.states import Case
from model.limits.table import DecisionBundle
from server.decisions import chain, persons, portfolio
from server.decisions.asking import Ask
from server.decisions.persons import Person, Waiting
from server.decisions.problems import Refused, refusal
from server.decisions.registry import Registry
from server.decisions.tables import idempotency, stamp, waiting
from server.decisions.vault import Vault

_REPEATED = select(idempotency.c.body_sha256, idempotency.c.seq).where(
    (idempotency.c.caller == bindparam("caller")) & (idempotency.c.key == bindparam("key"))
)
_REMEMBER = idempotency.insert()
LENDER = "lender"  # requests are one lender's, with whichever of its keys they come


@dataclass(frozen=True, slots=True)
class Unit:
    """One unit of work: the writer's transaction, the vault, the registry, and the service's clock at its begin."""

    connection: Connection
    vault: Vault
    registry: Registry
    now: datetime


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a decision is made, and by whom."""

    reason: Literal["request", "refresh", "review", "override", "appeal"]
    by: str


@dataclass(frozen=True, slots=True)
class Inputs:
    """The inputs of one decision, and the account and the book that its state was read from."""

    request: DecisionRequest
    policy: Policy
    bundle: DecisionBundle
    state: StateSnapshot
    account: Account
    book: portfolio.Portfolio

    def case(self) -> Case:
        """What the core calls a case."""
        return Case(self.request, self.policy, self.bundle, self.state)

    def decide(self) -> Decision:
        """The pure decision on them; raises `Refused` (503) where policy or model do not hold."""
        try:
            return decide(self.request, self.policy, self.bundle, self.state, self.request.as_of)
        except NotInForce as error:
            raise refusal(error) from None


@dataclass(frozen=True, slots=True)
class Made:
    """A decision before it is stored: on whom, on what was asked, on which inputs, and what else its record says."""

    person: Person
    asked: DecisionRequest
    inputs: Inputs
    decision: Decision
    more: Mapping[str, Any] = field(default_factory=dict)


def answer(unit: Unit, ask: Ask) -> tuple[chain.Record, bool]:
    """Decides on a request once; sent again, it gets the record it got, and True.

    Raises:
        Refused: 422 where the request's id was used with another body.
        InputError: the request does not fit what is known.
    """
    before = repeated(unit, ask.key, ask.body_sha256)
    if before is not None:
        return before, True
    person = persons.load(unit.connection, unit.vault, ask.request.subject_ref) or Person()
    persons.check_request(person, ask.request, unit.registry.active(unit.connection), unit.now)
    record = conclude(unit, person, ask.request, Cause("request", ask.caller))
    row = {"caller": LENDER, "key": ask.key, "body_sha256": ask.body_sha256, "seq": record.seq, "at": stamp(unit.now)}
    unit.connection.execute(_REMEMBER, row)
    return record, False


def repeated(unit: Unit, key: str, body_sha256: str) -> chain.Record | None:
    """The record that this request led to before, whichever key of the service it came with.

    Raises:
        Refused: 422 where it came with another body, 404 where its person was erased.
    """
    row = unit.connection.execute(_REPEATED, {"caller": LENDER, "key": key}).one_or_none()
    if row is None:
        return None
    if row[0] != body_sha256:
        detail = "This Idempotency-Key was used with another body."
        raise Refused(422, "idempotency_mismatch", detail, "Idempotency-Key")
    record = chain.read(unit.connection, unit.vault, row[1])
    if record is None or record.text is None:
        raise Refused(404, "erased", "The person of this request was erased.")
    return record


def gather(unit: Unit, person: Person, asked: DecisionRequest, policy: Policy | None = None) -> Inputs:
    """What is known for a decision at `asked.as_of`: by the active policy, or by another one.

    Raises:
        Refused: 503 where the policy does not hold now.
    """
    active = unit.registry.active(unit.connection)
    rules = policy or active.policy
    try:
        check_in_force(rules, unit.now)
    except NotInForce as error:
        raise refusal(error) from None
    blocks = {d: persons.evidence_of(person, asked, d, active, unit.now) for d in active.bundle.table.optional}
    account, book = person.account(rules), portfolio.load(unit.connection)
    points = persons.eligible_points(account, rules, asked.subject_ref)
    request = replace(asked, blocks=blocks, points=points)
    state = snapshot(account, rules, asked.as_of, book.book(rules, person, account.limit_fen, unit.now))
    return Inputs(request, rules, active.bundle, state, account, book)


def conclude(unit: Unit, person: Person, asked: DecisionRequest, cause: Cause) -> chain.Record:
    """Decides and stores; in an experiment the challenger decides for its share, or only in the shadow."""
    trial, view = unit.registry.active(unit.connection).policy.experiment, _asking(person, cause)
    given = gather(unit, view, asked)
    if trial is None:
        return store(unit, Made(person, asked, given, given.decide()), cause)
    challenged = arm_bp(trial.id, asked.subject_ref) < trial.share_bp
    share = trial.share_bp if challenged else 10_000 - trial.share_bp
    arm = "challenger" if challenged else "champion"
    more: dict[str, Any] = {"experiment": {"id": trial.id, "arm": arm, "propensity_bp": share, "shadow": trial.shadow}}
    made = Made(person, asked, given, given.decide(), more)
    if challenged:
        try:
            rival = gather(unit, view, asked, unit.registry.policy(unit.connection, trial.challenger_sha256))
            other = rival.decide()
        except (Refused, InputError):  # a challenger that does not hold any more stops nobody: the champion decides
            more["experiment"]["failed"] = True
            return store(unit, made, cause)
        if trial.shadow:
            more["shadow"] = other
        else:
            made = Made(person, asked, rival, other, more)
    return store(unit, made, cause)


def _asking(person: Person, cause: Cause) -> Person:
    """The person as the question finds it: its own application is none before it, and a new one begins no old wait.

    While one waits, asking again is the same application.
    """
    if cause.reason == "request" and not person.waits:
        return replace(person, waiting=None)
    return replace(person, applications=person.applications[:-1])


def store(unit: Unit, made: Made, cause: Cause) -> chain.Record:
    """Appends one decision with all that a replay needs, and moves the person and the book on."""
    given, decision, subject = made.inputs, made.decision, made.asked.subject_ref
    row = {
        "decision_id": str(uuid4()),
        "subject_ref": subject,
        "as_of": stamp(made.asked.as_of),
        "decided_at": stamp(unit.now),
        "outcome": decision.decision,
        "kind": decision.kind,
        "amount_fen": decision.amount_fen,
        "policy_sha256": given.policy.sha256,
        "bundle_sha256": given.bundle.sha256,
        "parent_id": made.person.current,
        "reason": cause.reason,
    }
    body = {
        "by": cause.by,
        "request": given.request,
        "state": given.state,
        "decision": decision,
        "experiment": None,
        **made.more,
    }
    record = chain.append_decision(unit.connection, unit.vault, row, body)
    after = _moved_on(unit, made, cause, str(row["decision_id"]))
    if after is made.person:
        return record
    persons.save(unit.connection, unit.vault, subject, after, known=made.person != Person())
    if after.trial_day != made.person.trial_day:
        portfolio.save(unit.connection, given.book, given.book.granted(decision, unit.now))
    if made.person.waits:
        unit.connection.execute(delete(waiting).where(waiting.c.subject_ref == subject))
    if after.waits and decision.defer_deadline is not None:
        unit.connection.execute(waiting.insert(), {"subject_ref": subject, "due_at": stamp(decision.defer_deadline)})
    return record


def _moved_on(unit: Unit, made: Made, cause: Cause, decision_id: str) -> Person:
    """The person after a decision: what was asked, which decision stands, how long was waited, what was counted.

    A refusal of one application too many leaves the earlier answer standing, and counts for nothing.
    """
    person, asked, decision = made.person, made.asked, made.decision
    if [reason.code for reason in decision.reasons] == ["V01"]:
        return person
    before, new = person.waiting, cause.reason == "request" and not person.waits
    if new:
        person, before = replace(person, applications=(*person.recent(unit.now), unit.now)), None
    if cause.reason == "request":
        person = replace(person, asked=asked)
    after = replace(before, open=False) if before else None
    if decision.decision == "DEFER":
        times = (before.times if before else 0) + (cause.reason == "request")
        after = Waiting(before.since if before else asked.as_of, times)
    small = decision.kind in ("TRIAL", "SEASONING") and made.inputs.state.stage == "none"
    return replace(
        person,
        current=decision_id,
        waiting=after,
        overridden_until=decision.valid_until if cause.reason in ("override", "appeal") else None,
        trial_day=portfolio.day_of(unit.now) if small else person.trial_day,
    )
