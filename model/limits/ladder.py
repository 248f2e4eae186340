"""The account's ladder: what repayment, lateness, disputes and accepted offers make of a limit.

`account_of` folds *all* events of an account into its standing. The events of one billing cycle are merged as a set; it
stands where it was due, or where it became late enough to demote, freeze or close. So the order in which events arrive
never matters, and an event told twice counts once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from model.limits.fields import Bp, Count, Fen, Label, Name
from model.limits.offers import Kind, rung_of
from model.limits.request import Stage, StateSnapshot, Status
from model.limits.schema import Days, Policy, Trial

EventKind = Literal[
    "accepted", "paid", "late", "balance", "dispute_opened", "dispute_closed",
    "fraud_suspected", "fraud_cleared", "points", "closed",
]  # fmt: skip
OF_CYCLE = ("paid", "late", "dispute_opened", "dispute_closed")
YEAR = timedelta(days=365)


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened to an account, `account-event/1`.

    Attributes:
        cycle: the billing cycle from 1, for what belongs to one.
        dpd: days past due: for `late` so far, for `paid` when it was paid (0: by the grace date).
        used_bp, outstanding_days: for `paid`, how much of the limit was used in the cycle, and for how many days.
        outstanding_fen: for `balance`.
        amount_fen, offer, rung: for `accepted`, of the decision.
        source: for `points`, what they are for.
        upheld: for `dispute_closed`: the lateness was an error, and is void.
    """

    event_id: Label
    kind: EventKind
    at: datetime
    cycle: Count | None = None
    dpd: Days = 0
    used_bp: Bp = 0
    outstanding_days: Count = 0
    outstanding_fen: Fen = 0
    amount_fen: Fen = 0
    offer: Kind | None = None
    rung: Count = 0
    source: Name | None = None
    upheld: bool = False


@dataclass(frozen=True, slots=True)
class Account:
    """Where an account stands; without events, that of somebody new.

    Attributes:
        clean_cycles, clean_total: since the last step of the ladder, and ever.
        hold_cycles: paid cycles still to wait before the limit may rise.
        frozen_cycles: None unless frozen by lateness; then how many were paid in time since.
        lates: when each late cycle was due or, demoting or worse, became so.
        increases: when the limit was raised.
        disputed: a dispute about a cycle is open; its lateness does not count, and nothing rises.
    """

    stage: Stage = "none"
    rung: int = 0
    limit_fen: int = 0
    outstanding_fen: int = 0
    clean_cycles: int = 0
    clean_total: int = 0
    hold_cycles: int = 0
    frozen_cycles: int | None = None
    dpd_now: int = 0
    lates: tuple[datetime, ...] = ()
    increases: tuple[datetime, ...] = ()
    last_step_at: datetime | None = None
    points: int = 0
    disputed: bool = False
    fraud_suspected: bool = False
    closed: bool = False

    @property
    def status(self) -> Status:
        """The strictest side state that holds; who owes what is overdue, or disputes a cycle, is on hold."""
        if self.closed:
            return "closed"
        if self.fraud_suspected:
            return "referred"
        if self.frozen_cycles is not None:
            return "frozen"
        return "hold" if self.hold_cycles or self.dpd_now or self.disputed else "open"


@dataclass(frozen=True, slots=True)
class Book:
    """What a decision must know beside the account: this person's applications, and the portfolio."""

    applications_30d: int = 0
    deferrals: int = 0
    first_deferred_at: datetime | None = None
    headroom_fen: int | None = None
    trials_stopped: bool = False


@dataclass(frozen=True, slots=True)
class _Cycle:
    """One billing cycle, merged from its events: late by its worst, paid once any says so."""

    at: datetime
    dpd: int
    paid: bool
    used_bp: int
    outstanding_days: int
    disputed: bool


def account_of(events: Iterable[Event], policy: Policy) -> Account:
    """The standing that these events make, whatever their order.

    Args:
        events: all of one account; those with one `event_id` are one.
        policy: its ladder and points programme.

    >>> from model.limits.policy import load_policy
    >>> at = datetime.fromisoformat("2026-11-23T10:00:00+08:00")
    >>> grant = Event("e0", "accepted", at, amount_fen=50_000, offer="TRIAL")
    >>> paid = [Event(f"e{n}", "paid", at + timedelta(days=30 * n), n, 0, 5000, 20) for n in (1, 2)]
    >>> account = account_of([*paid, grant], load_policy())
    >>> account.stage, account.clean_cycles, account.points
    ('trial', 2, 200)
    """
    once = {event.event_id: event for event in events}.values()
    if not once:
        return Account()
    items: list[tuple[datetime, str, Event | _Cycle]] = [
        (event.at, event.event_id, event) for event in once if event.kind not in OF_CYCLE
    ]
    cycles = _cycles([event for event in once if event.kind in OF_CYCLE], policy.trial)
    items += [(cycle.at, f"~{number:06}", cycle) for number, cycle in cycles.items()]
    account = Account(
        dpd_now=max([cycle.dpd for cycle in cycles.values() if not cycle.paid], default=0),
        disputed=any(cycle.disputed for cycle in cycles.values()),
    )
    for _, _, item in sorted(items, key=lambda item: item[:2]):
        account = _billed(account, item, policy) if isinstance(item, _Cycle) else _happened(account, item, policy)
    return account


def snapshot(account: Account, policy: Policy, now: datetime, book: Book = Book()) -> StateSnapshot:
    """What a decision at `now` is to know of the account: a step that is due by then is already in it."""
    stage, rung, clean = account.stage, account.rung, account.clean_cycles
    rule, since = policy.trial, _days(account.last_step_at, now)
    if account.status == "open" and since is not None and since >= rule.min_days_between_steps:
        if stage == "seasoned" and clean >= rule.clean_cycles_seasoned:
            stage, clean = "standard", 0
        elif stage == "trial" and clean >= rule.clean_cycles_to_promote:
            stage, rung = (stage, rung + 1) if rung + 1 < len(rule.rungs_fen) else ("standard", rung)
            clean = 0
    return StateSnapshot(
        current_limit_fen=account.limit_fen,
        outstanding_fen=account.outstanding_fen,
        applications_30d=book.applications_30d,
        dpd_now=account.dpd_now,
        deferrals=book.deferrals,
        first_deferred_at=book.first_deferred_at,
        portfolio_headroom_fen=book.headroom_fen,
        stage=stage,
        rung=rung,
        days_since_increase=since,
        increases_365d=sum(at > now - YEAR for at in account.increases),
        risk_hold=account.status != "open" or account.dpd_now > 0,
        status=account.status,
        clean_cycles=clean,
        clean_total=account.clean_total,
        lates_12m=sum(at > now - YEAR for at in account.lates),
        trials_stopped=book.trials_stopped,
    )


def _days(since: datetime | None, now: datetime) -> int | None:
    return None if since is None else max((now - since).days, 0)


def _cycles(events: Iterable[Event], rule: Trial) -> dict[int, _Cycle]:
    """Each cycle from the set of its events; lateness under an open or upheld dispute does not count.

    An offer taken between the due date and the day of a demotion is demoted too.
    """
    marks = (0, rule.demote_dpd_days, rule.freeze_dpd_days, rule.close_dpd_days)
    found: dict[int, list[Event]] = {}
    for event in events:
        found.setdefault(event.cycle or 0, []).append(event)
    merged = {}
    for number, some in sorted(found.items()):
        paid = [event for event in some if event.kind == "paid"]
        kinds = [event.kind for event in some]
        disputed = kinds.count("dispute_opened") > kinds.count("dispute_closed")
        void = disputed or any(event.upheld for event in some)
        dpd = 0 if void else max(event.dpd for event in some)
        due = min(event.at - timedelta(days=event.dpd) for event in some)
        merged[number] = _Cycle(
            at=due + timedelta(days=max(days for days in marks if days <= dpd)),
            dpd=dpd,
            paid=bool(paid),
            used_bp=max([event.used_bp for event in paid], default=0),
            outstanding_days=max([event.outstanding_days for event in paid], default=0),
            disputed=disputed,
        )
    return merged


def _billed(account: Account, cycle: _Cycle, policy: Policy) -> Account:
    """What one cycle does; the longer late, the more. A late one shortens no hold, and begins a freeze's count anew."""
    rule, rungs = policy.trial, policy.trial.rungs_fen
    if cycle.dpd == 0:
        return _in_time(account, cycle, policy) if cycle.paid else account
    late = replace(
        account,
        clean_cycles=0,
        lates=(*account.lates, cycle.at),
        hold_cycles=max(account.hold_cycles, 1),
        frozen_cycles=None if account.frozen_cycles is None else 0,
    )
    if cycle.dpd >= rule.close_dpd_days:
        return replace(late, closed=True, limit_fen=0)
    if cycle.dpd >= rule.freeze_dpd_days:
        return replace(late, frozen_cycles=0, stage="trial", rung=0, limit_fen=min(late.limit_fen, rungs[0]))
    if cycle.dpd >= rule.demote_dpd_days and late.stage != "none":
        rung = max(late.rung - 1, 0) if late.stage == "trial" else rung_of(policy, late.limit_fen - 1)
        lower = rungs[min(rung, len(rungs) - 1)]
        return replace(late, hold_cycles=2, stage="trial", rung=rung, limit_fen=min(late.limit_fen, lower))
    return late


def _in_time(account: Account, cycle: _Cycle, policy: Policy) -> Account:
    """A cycle paid in time: it ends a freeze or a hold, or counts as clean where enough was used for long enough."""
    rule = policy.trial
    if account.frozen_cycles is not None:
        paid = account.frozen_cycles + 1
        cured = paid >= rule.clean_cycles_to_return and account.dpd_now == 0
        return replace(account, frozen_cycles=None if cured else paid, hold_cycles=0)
    if account.hold_cycles:
        return replace(account, hold_cycles=account.hold_cycles - 1)
    if cycle.used_bp < rule.min_use_bp or cycle.outstanding_days < rule.min_outstanding_days:
        return account
    return replace(
        account,
        clean_cycles=account.clean_cycles + 1,
        clean_total=account.clean_total + 1,
        points=account.points + policy.programme.earn.get("on_time_payment", 0),
    )


def _happened(account: Account, event: Event, policy: Policy) -> Account:
    """What an event outside the cycles does."""
    if event.kind == "accepted":
        return _accepted(account, event, policy)
    if event.kind == "balance":
        return replace(account, outstanding_fen=event.outstanding_fen)
    if event.kind == "points":
        return replace(account, points=account.points + policy.programme.earn.get(event.source or "", 0))
    if event.kind == "closed":
        return replace(account, closed=True, limit_fen=0)
    return replace(account, fraud_suspected=event.kind == "fraud_suspected")


def _accepted(account: Account, event: Event, policy: Policy) -> Account:
    """An offer taken: the new limit; a step of the ladder begins where the offer is another one than before.

    A limit is worth the rung below it at least, and one that is not lowered loses no rung. What is closed stays so.
    """
    if account.closed:
        return account
    stages: dict[Kind | None, Stage] = {"TRIAL": "trial", "SEASONING": "seasoned", "STANDARD": "standard"}
    stage: Stage = "standard" if account.stage == "standard" else stages.get(event.offer, account.stage)
    kept = account.rung if event.amount_fen >= account.limit_fen else 0
    rung = max(event.rung, kept, rung_of(policy, event.amount_fen))
    same = (stage, rung, event.amount_fen) == (account.stage, account.rung, account.limit_fen)
    if same:
        return account
    raised = 0 < account.limit_fen < event.amount_fen
    return replace(
        account,
        stage=stage,
        rung=rung,
        limit_fen=event.amount_fen,
        clean_cycles=0,
        last_step_at=event.at,
        increases=(*account.increases, event.at) if raised else account.increases,
    )
