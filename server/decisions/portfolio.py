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
        rule, brake, today = policy.portfolio, policy.breakers, day_of(now) == self.day
        recent = self.first_payments[-brake.window :]
        tripped = len(recent) == brake.window and recent.count("1") * 10_000 > brake.first_payment_bp * brake.window
        full = today and (self.trials >= rule.trials_per_day or self.trial_fen >= rule.trial_fen_per_day)
        counted = person.trial_day == day_of(now)
        waiting = person.waiting
        return Book(
            applications_30d=len(person.recent(now)),
            deferrals=0 if waiting is None else waiting.times if waiting.open else policy.defer.max_times,
            first_deferred_at=waiting.since if waiting else None,
            headroom_fen=max(0, rule.exposure_fen - self.exposure_fen + limit_fen),
            trials_stopped=tripped or (full and not counted),
        )

    def granted(self, decision: Decision, now: datetime) -> Portfolio:
        """After a small limit for somebody new, who was not counted for that day yet."""
        today = day_of(now)
        begun = self if self.day == today else replace(self, day=today, trials=0, trial_fen=0)
        return replace(begun, trials=begun.trials + 1, trial_fen=begun.trial_fen + decision.amount_fen)

    def moved(self, change_fen: int) -> Portfolio:
        """After an account's limit changed."""
        return replace(self, exposure_fen=max(0, self.exposure_fen + change_fen)) if change_fen else self

    def happened(self, person: Person, event: Event, policy: Policy) -> Portfolio:
        """After an event of an account: the first that tells how a small limit's first payment went is counted."""
        after, freeze = self, policy.trial.freeze_dpd_days
        if person.account(policy).stage not in ("trial", "seasoned") or not _settles(event, freeze):
            return after
        if any(_settles(before, freeze) for before in person.events):
            return after
        missed = event.dpd >= freeze
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


def _settles(event: Event, freeze_days: int) -> bool:
    """Whether an event tells how the first payment went."""
    return event.cycle == 1 and (event.kind == "paid" or (event.kind == "late" and event.dpd >= freeze_days))


def day_of(now: datetime) -> str:
    """The day in UTC."""
    return now.astimezone(UTC).date().isoformat()
