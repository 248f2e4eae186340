"""The ladder of many accounts against the ladder of one: the same months told as events must end the same."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import pytest

from model.limits.ladder import Account, Event, account_of, snapshot
from model.limits.policy import load_policy
from simulations.months.accounts import Ladder, new_ladder
from simulations.months.arrivals import Arrivals, draw_arrivals
from simulations.months.engine import NEVER, STAGES, Engine, Offers, nobody
from simulations.months.evidence import Model, fit_model

POLICY = load_policy()
RULE = POLICY.trial
START = datetime.fromisoformat("2026-11-01T00:00:00+08:00")
MONTHS, PERSONS = 24, 250
KINDS = ("STANDARD", "SEASONING", "TRIAL")
DPD = (*[0] * 40, 3, 7, 8, 20, 29, 30, 60)
CALENDAR = np.cumsum([0] + [31 if month % 2 else 30 for month in range(MONTHS + 1)])  # days to each month's begin


def _instant(month: int) -> datetime:
    return START + timedelta(days=int(CALENDAR[month]))


class _Diary:
    """The events of every account, as a service would be told them."""

    def __init__(self) -> None:
        self.events: list[list[Event]] = [[] for _ in range(PERSONS)]

    def accepted(self, who: int, month: int, offers: Offers, at: int, rung: int) -> None:
        amount, kind = int(offers.amount_fen[at]), KINDS[offers.kind[at]]
        # an offer is taken the moment after the month's bill
        when = _instant(month) + timedelta(minutes=1)
        name = f"a{month}"
        self.events[who].append(Event(name, "accepted", when, amount_fen=amount, offer=kind, rung=rung))

    def billed(self, who: int, month: int, dpd: int, used: bool) -> None:
        # so that it is late enough for what it does, whatever that is, when the month ends
        mark = max(days for days in (0, RULE.demote_dpd_days, RULE.freeze_dpd_days) if days <= dpd)
        bp, when = (5000 if used else 1000), _instant(month + 1) + timedelta(days=dpd - mark)
        self.events[who].append(Event(f"p{month}", "paid", when, month + 1, dpd, bp, 20))

    def account(self, who: int) -> Account:
        return account_of(self.events[who], POLICY)


@pytest.fixture(scope="module")
def model() -> Model:
    return fit_model(persons=6000)


@pytest.fixture(scope="module")
def history(model) -> tuple[Ladder, _Diary, Arrivals, list[str]]:
    """Two years of random bills; what disagreed on the way is kept."""
    arrivals, rng = draw_arrivals(11, model, 1, PERSONS), np.random.default_rng(12)
    engine, ladder, diary, wrong = Engine(POLICY, model.bundle), new_ladder(PERSONS), _Diary(), []
    offers = engine.decide(arrivals.cases, nobody(PERSONS))
    rows = np.flatnonzero(offers.amount_fen > 0)
    ladder.open(rows, offers.take(rows), POLICY, 0)
    for who in rows:
        diary.accepted(who, 0, offers, who, 0)
    for month in range(MONTHS):
        ladder.begin(month)
        dpd, used = rng.choice(DPD, len(rows)), rng.random(len(rows)) < 0.9
        ladder.bill(rows, dpd, used, POLICY, month)
        for who, days, enough in zip(rows, dpd, used, strict=True):
            diary.billed(who, month, int(days), bool(enough))
        due = ladder.due(POLICY, month, arrivals.cases.requested_fen)
        seen = ladder.accounts(due, POLICY, month)
        offers = engine.decide(arrivals.cases.take(due), seen)
        moment = _instant(month + 1) + timedelta(minutes=1)
        for at, who in enumerate(due):
            state = snapshot(diary.account(who), POLICY, moment)
            got = (STAGES[seen.stage[at]], seen.rung[at], seen.limit_fen[at], seen.clean_total[at], seen.lates_12m[at])
            want = (state.stage, state.rung, state.current_limit_fen, state.clean_total, state.lates_12m)
            wrong += [f"{who} in {month}: {got} {want}"] if got != want else []
            if seen.increases_365d[at] != state.increases_365d:
                wrong.append(f"{who} in {month}: increases")
        moved = set(ladder.accept(due, offers, seen, POLICY, month).tolist())
        for at, who in enumerate(due):
            if who in moved:
                diary.accepted(who, month + 1, offers, at, int(seen.rung[at]))
    return ladder, diary, arrivals, wrong


def test_what_a_decision_sees_is_what_the_service_would_see(history) -> None:
    assert history[3] == []


def test_all_accounts_end_where_the_fold_of_their_events_ends(history) -> None:
    ladder, diary, _, _ = history
    rows = np.flatnonzero(ladder.limit > 0)
    assert len(rows) > 100
    for who in rows:
        account, frozen = diary.account(who), int(ladder.frozen[who])
        got = (
            STAGES[ladder.stage[who]],
            int(ladder.rung[who]),
            int(ladder.limit[who]),
            int(ladder.clean[who]),
            int(ladder.clean_total[who]),
            int(ladder.hold[who]),
            None if frozen == NEVER else frozen,
            int(ladder.points[who]),
        )
        want = (
            account.stage,
            account.rung,
            account.limit_fen,
            account.clean_cycles,
            account.clean_total,
            account.hold_cycles,
            account.frozen_cycles,
            account.points,
        )
        assert got == want, who


def test_the_history_has_met_every_state(history) -> None:
    ladder, diary, _, _ = history
    stages = {STAGES[stage] for stage in ladder.stage[ladder.limit > 0]}
    assert stages >= {"trial", "standard"}
    assert (ladder.frozen[ladder.limit > 0] != NEVER).any()
    steps = [sum(event.kind == "accepted" for event in events) for events in diary.events]
    assert max(steps) >= 5
    assert sum(steps) > 1.5 * sum(count > 0 for count in steps)


def test_an_offer_below_what_one_has_is_not_taken() -> None:
    ladder = new_ladder(1)
    one = np.array([0])
    first = Offers(*(np.array([value]) for value in (2, 0, 500_000, 1500, 0, 0, False)))
    ladder.open(one, first, POLICY, 0)
    ladder.clean[:] = 2
    less = Offers(*(np.array([value]) for value in (2, 0, 400_000, 1800, 0, 0, False)))
    moved = ladder.accept(one, less, ladder.accounts(one, POLICY, 3), POLICY, 3)
    assert (len(moved), ladder.limit[0], ladder.apr[0], ladder.clean[0]) == (0, 500_000, 1500, 2)
