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

from model.limits.decide import decide
from model.limits.decision import Decision
from model.limits.experiment import arm_bp
from model.limits.ladder import Account, snapshot
from model.limits.policy import NotInForce
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
        Refused: 422 where the key was used with another body.
        InputError: the request does not fit what is known.
    """
    before = repeated(unit, ask.caller, ask.key, ask.body_sha256)
    if before is not None:
        return before, True
    person = persons.load(unit.connection, unit.vault, ask.request.subject_ref) or Person()
    record = conclude(unit, person, ask.request, Cause("request", ask.caller))
    remember(unit, ask, record.seq)
    return record, False


def repeated(unit: Unit, caller: str, key: str, body_sha256: str) -> chain.Record | None:
    """The record that this key led to before; raises `Refused` (422) where it came with another body."""
    row = unit.connection.execute(_REPEATED, {"caller": caller, "key": key}).one_or_none()
    if row is None:
        return None
    if row[0] != body_sha256:
        raise Refused(
            422, "idempotency_mismatch", "This Idempotency-Key was used with another body.", "Idempotency-Key"
        )
    record = chain.read(unit.connection, unit.vault, row[1])
    if record is None or record.text is None:
        raise Refused(404, "erased", "The person of this request was erased.")
    return record


def remember(unit: Unit, ask: Ask, seq: int) -> None:
    """Notes which record a key led to."""
    row = {"caller": ask.caller, "key": ask.key, "body_sha256": ask.body_sha256, "seq": seq, "at": stamp(unit.now)}
    unit.connection.execute(_REMEMBER, row)


def refresh(unit: Unit, subject: str, cause: Cause) -> chain.Record | None:
    """Decides again on what was last asked, with what is known now; None where nothing was asked."""
    person = persons.load(unit.connection, unit.vault, subject)
    if person is None or person.asked is None:
        return None
    waits = person.waiting is not None and cause.reason == "refresh"
    asked = replace(person.asked, as_of=unit.now, purpose=person.asked.purpose if waits else "review")
    return conclude(unit, person, asked, cause)


def gather(unit: Unit, person: Person, asked: DecisionRequest, policy: Policy | None = None) -> Inputs:
    """What is known for a decision at `asked.as_of`: by the active policy, or by another one."""
    active = unit.registry.active(unit.connection)
    rules = policy or active.policy
    if asked.points:
        raise Refused(422, "invalid", "points are kept by the service; leave the field out.", "points")
    domains = dict.fromkeys([*active.bundle.table.optional, *asked.blocks])
    blocks = {d: persons.evidence_of(person, asked, d, active.fed(d)) for d in domains}
    account, book = person.account(rules), portfolio.load(unit.connection)
    points = persons.eligible_points(account, rules, asked.subject_ref)
    request = replace(asked, blocks=blocks, points=points)
    again = person.waiting is not None and person.asked is not None and person.asked.request_id == asked.request_id
    earlier = replace(person, applications=person.applications[:-1]) if again else person
    state = snapshot(account, rules, asked.as_of, book.book(rules, earlier, account.limit_fen, asked.as_of))
    return Inputs(request, rules, active.bundle, state, account, book)


def conclude(unit: Unit, person: Person, asked: DecisionRequest, cause: Cause) -> chain.Record:
    """Decides and stores; in an experiment the challenger decides for its share, or only in the shadow."""
    trial = unit.registry.active(unit.connection).policy.experiment
    given = gather(unit, person, asked)
    if trial is None:
        return store(unit, Made(person, asked, given, given.decide()), cause)
    challenged = arm_bp(trial.id, asked.subject_ref) < trial.share_bp
    share = trial.share_bp if challenged else 10_000 - trial.share_bp
    arm = "challenger" if challenged else "champion"
    more: dict[str, Any] = {"experiment": {"id": trial.id, "arm": arm, "propensity_bp": share, "shadow": trial.shadow}}
    if challenged:
        rival = gather(unit, person, asked, unit.registry.policy(unit.connection, trial.challenger_sha256))
        if trial.shadow:
            more["shadow"] = rival.decide()
        else:
            given = rival
    return store(unit, Made(person, asked, given, given.decide(), more), cause)


def store(unit: Unit, made: Made, cause: Cause) -> chain.Record:
    """Appends one decision with all that a replay needs, and moves the person and the book on."""
    given, decision, person, subject = made.inputs, made.decision, made.person, made.asked.subject_ref
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
        "parent_id": person.current,
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
    after = _moved_on(made, cause, str(row["decision_id"]))
    persons.save(unit.connection, unit.vault, subject, after, known=person != Person())
    portfolio.save(unit.connection, given.book, given.book.decided(decision, given.state.stage, unit.now))
    _note_waiting(unit, subject, person, decision)
    return record


def _moved_on(made: Made, cause: Cause, decision_id: str) -> Person:
    """The person after a decision: what was asked, which decision stands, and how long it has been waited."""
    person, asked, deferred = made.person, made.asked, made.decision.decision == "DEFER"
    before = person.waiting
    if cause.reason == "request":
        person = replace(person.applied(asked.as_of), asked=asked)
    since = before.since if before else asked.as_of
    times = (before.times if before else 0) + (cause.reason == "request")
    return replace(person, current=decision_id, waiting=Waiting(since, times) if deferred else None)


def _note_waiting(unit: Unit, subject: str, before: Person, decision: Decision) -> None:
    """Keeps the list of those whose deadline must be watched."""
    if before.waiting is not None:
        unit.connection.execute(delete(waiting).where(waiting.c.subject_ref == subject))
    if decision.defer_deadline is not None:
        unit.connection.execute(waiting.insert(), {"subject_ref": subject, "due_at": stamp(decision.defer_deadline)})


def overdue(connection: Connection, now: datetime, count: int = 100) -> list[str]:
    """Whose deadline has passed: they are to be decided on without the late data."""
    due = select(waiting.c.subject_ref).where(waiting.c.due_at <= stamp(now)).order_by(waiting.c.due_at).limit(count)
    return list(connection.execute(due).scalars())
