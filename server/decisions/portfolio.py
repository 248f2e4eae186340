"""The book as a whole: exposure, the day's new small limits, and the breaker of missed first payments."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Annotated

from sqlalchemy import Connection, bindparam, select, update

from model.limits.decision import Decision
from model.limits.fields import Count, Fen, Text, canonical, read
from model.limits.ladder import Book, Event
from model.limits.schema import Policy
from server.decisions.persons import Person
from server.decisions.tables import portfolio as table
from server.decisions.vault import innermost

_HELD = "portfolio"  # of connection.info: the transaction, and the book as it is in it
_LOAD = select(table.c.body)
_CHANGE = update(table).values(body=bindparam("text"))
_Outcomes = Annotated[str, Text("[01]*", "must be 0 for paid and 1 for missed")]


@dataclass(frozen=True, slots=True)
class Portfolio:
    """Counters of the whole book; none of them tells about one person.

    Attributes:
        exposure_fen: all accepted limits together.
        day, trials, trial_fen: new small limits granted on the day (UTC) of the last one.
        first_payments: of small limits, in the order in which they were due: 1 for missed.
    """

    exposure_fen: Fen = 0
    day: Annotated[str, Text(r"(\d{4}-\d\d-\d\d)?", "must be a day")] = ""
    trials: Count = 0
    trial_fen: Fen = 0
    first_payments: _Outcomes = ""

    def book(self, policy: Policy, person: Person, limit_fen: int, now: datetime) -> Book:
        """What a decision must know beside the account; the person's own limit is in the exposure already."""
        rule, brake, today = policy.portfolio, policy.breakers, _day(now) == self.day
        recent = self.first_payments[-brake.window :]
        tripped = len(recent) == brake.window and recent.count("1") * 10_000 > brake.first_payment_bp * brake.window
        full = today and (self.trials >= rule.trials_per_day or self.trial_fen >= rule.trial_fen_per_day)
        waiting = person.waiting
        return Book(
            applications_30d=len(person.applied(now).applications) - 1,
            deferrals=waiting.times if waiting else 0,
            first_deferred_at=waiting.since if waiting else None,
            headroom_fen=max(0, rule.exposure_fen - self.exposure_fen + limit_fen),
            trials_stopped=tripped or full,
        )

    def decided(self, decision: Decision, stage: str, now: datetime) -> Portfolio:
        """After a decision: a small limit for somebody new counts for its day."""
        if stage != "none" or decision.kind not in ("TRIAL", "SEASONING"):
            return self
        today = _day(now)
        begun = self if self.day == today else replace(self, day=today, trials=0, trial_fen=0)
        return replace(begun, trials=begun.trials + 1, trial_fen=begun.trial_fen + decision.amount_fen)

    def happened(self, event: Event, change_fen: int, policy: Policy) -> Portfolio:
        """After an event of an account whose limit changed by `change_fen`."""
        after = replace(self, exposure_fen=max(0, self.exposure_fen + change_fen)) if change_fen else self
        if event.cycle != 1 or event.kind not in ("paid", "late"):
            return after
        missed = event.dpd >= policy.trial.freeze_dpd_days
        if event.kind == "late" and not missed:
            return after
        outcomes = (after.first_payments + "01"[missed])[-policy.breakers.window :]
        return replace(after, first_payments=outcomes)


def load(connection: Connection) -> Portfolio:
    """The book as it stands in this transaction, which reads it once."""
    transaction, held = connection.info.get(_HELD, (None, None))
    if isinstance(held, Portfolio) and transaction is innermost(connection):
        return held
    body = connection.execute(_LOAD).scalar_one_or_none()
    return _hold(connection, read(Portfolio, json.loads(body), "stored portfolio") if body else Portfolio())


def _hold(connection: Connection, book: Portfolio) -> Portfolio:
    connection.info[_HELD] = innermost(connection), book
    return book


def save(connection: Connection, before: Portfolio, after: Portfolio) -> None:
    """Stores what changed."""
    if after == before:
        return
    body = canonical(_hold(connection, after)).decode()
    if connection.execute(_CHANGE, {"text": body}).rowcount == 0:
        connection.execute(table.insert(), {"id": 1, "body": body})


def _day(now: datetime) -> str:
    return now.astimezone(UTC).date().isoformat()
