"""The ladder of small limits, row by row of its table, and three accounts over a year in plain sight."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from model.limits.ladder import Account, Book, Event, account_of, snapshot
from model.limits.policy import load_policy

POLICY = load_policy()
BEGIN = datetime.fromisoformat("2026-11-23T10:00:00+08:00")
RUNGS = POLICY.trial.rungs_fen


def day(number: int) -> datetime:
    return BEGIN + timedelta(days=number)


def accepted(at: int, fen: int, offer: str = "TRIAL", rung: int = 0) -> Event:
    return Event(f"accepted-{at}", "accepted", day(at), amount_fen=fen, offer=offer, rung=rung)


def paid(cycle: int, dpd: int = 0, used: int = 3000, days: int = 7) -> Event:
    return Event(f"paid-{cycle}", "paid", day(30 * cycle + dpd), cycle, dpd, used, days)


def late(cycle: int, dpd: int) -> Event:
    return Event(f"late-{cycle}-{dpd}", "late", day(30 * cycle + dpd), cycle, dpd)


def after(*events: Event, first: Event | None = None) -> Account:
    """The account of an accepted trial limit and these events."""
    return account_of([first or accepted(0, RUNGS[0]), *events], POLICY)


def seen(account: Account, at: int = 1000):
    return snapshot(account, POLICY, day(at))


@pytest.mark.parametrize(
    ("used", "days", "clean"), [(3000, 7, 1), (2999, 7, 0), (3000, 6, 0), (10_000, 30, 1), (0, 0, 0)]
)
def test_a_cycle_is_clean_where_enough_was_used_for_long_enough(used, days, clean):
    account = after(paid(1, used=used, days=days))
    assert (account.clean_cycles, account.clean_total, account.points) == (clean, clean, 100 * clean)
    assert account.status == "open"


@pytest.mark.parametrize(("cycles", "days", "rung"), [(2, 61, 1), (1, 61, 0), (2, 54, 0), (2, 55, 1), (5, 400, 1)])
def test_two_clean_cycles_and_55_days_make_a_rung(cycles, days, rung):
    account = after(*(paid(n) for n in range(1, cycles + 1)))
    state = seen(account, days)
    assert (state.stage, state.rung, state.current_limit_fen) == ("trial", rung, RUNGS[0])
    assert state.clean_cycles == (0 if rung else cycles), "those that a due step has used up count for no other"
    assert state.clean_total == cycles


def test_the_last_rung_leads_to_the_standard_limit_and_a_strong_start_after_three():
    top = accepted(0, RUNGS[3], rung=3)
    assert [seen(after(*(paid(n) for n in range(1, k)), first=top)).stage for k in (2, 3)] == ["trial", "standard"]
    strong = accepted(0, 1_000_000, "SEASONING")
    stages = [seen(after(*(paid(n) for n in range(1, k)), first=strong)).stage for k in (3, 4)]
    assert stages == ["seasoned", "standard"]


@pytest.mark.parametrize(
    ("dpd", "status", "stage", "rung", "limit", "hold"),
    [
        (1, "hold", "trial", 2, RUNGS[2], 1),
        (7, "hold", "trial", 2, RUNGS[2], 1),
        (8, "hold", "trial", 1, RUNGS[1], 2),
        (29, "hold", "trial", 1, RUNGS[1], 2),
        (30, "frozen", "trial", 0, RUNGS[0], 1),
        (89, "frozen", "trial", 0, RUNGS[0], 1),
        (90, "closed", "trial", 2, 0, 1),
    ],
)
def test_the_longer_late_the_more_it_does(dpd, status, stage, rung, limit, hold):
    account = after(paid(1), late(2, min(dpd, 3)), paid(2, dpd=dpd), first=accepted(0, RUNGS[2], rung=2))
    assert (account.status, account.stage, account.rung, account.limit_fen) == (status, stage, rung, limit)
    assert (account.hold_cycles, account.clean_cycles, account.clean_total) == (hold, 0, 1)
    state = seen(account, 70)
    assert (state.lates_12m, state.risk_hold, state.rung) == (1, True, rung)


@pytest.mark.parametrize(
    ("offer", "limit", "rung", "cut"),
    [
        ("STANDARD", 2_000_000, 3, RUNGS[3]),
        ("SEASONING", 300_000, 2, RUNGS[2]),
        ("SEASONING", 60_000, 0, RUNGS[0]),
        ("STANDARD", 50_000, 0, RUNGS[0]),
    ],
)
def test_a_larger_limit_falls_to_the_highest_rung_below_it(offer, limit, rung, cut):
    account = after(late(1, 8), paid(1, dpd=8), first=accepted(0, limit, offer))
    assert (account.stage, account.rung, account.limit_fen) == ("trial", rung, cut)


def test_a_hold_ends_after_its_paid_cycles_which_are_not_clean_ones():
    short = [after(paid(1, dpd=7), *(paid(n) for n in range(2, k))) for k in (2, 3, 4)]
    assert [(a.status, a.clean_cycles) for a in short] == [("hold", 0), ("open", 0), ("open", 1)]
    long = [after(paid(1, dpd=8), *(paid(n) for n in range(2, k))) for k in (2, 3, 4)]
    assert [a.status for a in long] == ["hold", "hold", "open"]


def test_being_late_again_never_shortens_a_hold():
    once, twice = after(paid(1, dpd=8), paid(3)), after(paid(1, dpd=8), paid(2, dpd=1), paid(3))
    assert (once.status, twice.status) == ("hold", "hold")


def test_a_freeze_ends_after_six_cycles_in_time_once_nothing_is_owed():
    def frozen(*cycles: Event) -> str:
        return after(late(1, 30), *cycles).status

    cured, six = paid(1, dpd=30), [paid(n, used=0, days=0) for n in range(2, 8)]
    assert [frozen(cured, *six[:k]) for k in (0, 5, 6)] == ["frozen", "frozen", "open"]
    assert frozen(*six) == "frozen", "the late cycle is not paid"
    assert frozen(cured, *six[:3], paid(5, dpd=1), *six[4:], paid(8)) == "frozen", "late again: the count begins anew"
    back = after(late(1, 30), cured, *six, first=accepted(0, RUNGS[3], rung=3))
    assert (back.stage, back.rung, back.limit_fen, back.clean_cycles) == ("trial", 0, RUNGS[0], 0)


def test_who_owes_what_is_overdue_is_on_hold_however_long_ago_it_began():
    account = after(late(1, 5), *(paid(n) for n in range(2, 6)))
    assert (account.hold_cycles, account.dpd_now, account.status) == (0, 5, "hold")
    assert (seen(account).rung, seen(account).risk_hold) == (0, True)
    assert seen(after(late(1, 5), paid(1, dpd=9), *(paid(n) for n in range(2, 6)))).dpd_now == 0


def test_fraud_is_looked_at_by_a_person_and_closing_is_final():
    doubt = Event("f", "fraud_suspected", day(40))
    assert after(doubt).status == "referred"
    assert after(doubt, Event("g", "fraud_cleared", day(41))).status == "open"
    assert after(Event("c", "closed", day(40)), doubt, paid(2)).status == "closed"


def test_lateness_under_an_open_or_upheld_dispute_does_not_count():
    opened = Event("d1", "dispute_opened", day(80), 2)
    kept = Event("d2", "dispute_closed", day(90), 2)
    upheld = Event("d3", "dispute_closed", day(90), 2, upheld=True)
    owing = (late(2, 45),)
    assert after(*owing).status == "frozen"
    assert after(*owing, opened).status == "hold"
    assert after(*owing, opened, kept).status == "frozen"
    assert after(*owing, opened, upheld).status == "open"
    assert after(opened, upheld, paid(2, dpd=45)).clean_cycles == 1


def test_points_come_from_what_earns_them_and_from_nothing_else():
    sources = ["identity_verified", "literacy_module", "referral", "purchase", "wealth_product", "paid", "unheard_of"]
    events = [Event(f"p{n}", "points", day(n), source=source) for n, source in enumerate(sources)]
    assert after(*events).points == 300


def test_a_decrease_leaves_nothing_to_draw_and_never_less_than_nothing():
    account = after(Event("b", "balance", day(5), outstanding_fen=90_000), first=accepted(0, RUNGS[1], rung=1))
    assert (account.outstanding_fen, seen(account).outstanding_fen) == (90_000, 90_000)


def test_lates_and_increases_are_counted_for_a_year():
    account = after(paid(1, dpd=2), accepted(45, RUNGS[1], rung=1))
    assert [seen(account, at).lates_12m for at in (30 + 364, 30 + 365)] == [1, 0]
    assert [seen(account, at).increases_365d for at in (45 + 364, 45 + 365)] == [1, 0]
    assert seen(account, 45 + 54).days_since_increase == 54


def test_somebody_new_has_the_book_s_facts_only():
    book = Book(2, 1, day(-1), 70_000, True)
    state = snapshot(account_of([], POLICY), POLICY, day(0), book)
    assert (state.stage, state.status, state.days_since_increase) == ("none", "open", None)
    assert (state.applications_30d, state.deferrals, state.first_deferred_at) == (2, 1, day(-1))
    assert (state.portfolio_headroom_fen, state.trials_stopped) == (70_000, True)


YEARS = {
    "climbs every second month, and has the standard limit in month nine": (
        "TRIAL",
        [0] * 12,
        ["0", "1", "1", "2", "2", "3", "3", "S", "S", "S", "S", "S"],
    ),
    "is five days late in month three, waits a month, and goes on from where it was": (
        "TRIAL",
        [0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        ["0", "1", "1h", "1", "1", "2", "2", "3", "3", "S", "S", "S"],
    ),
    "is ten days late at the second rung, falls to the first, and waits two months": (
        "TRIAL",
        [0, 0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        ["0", "1", "0h", "0h", "0", "0", "1", "1", "2", "2", "3", "3"],
    ),
    "is forty days late in month four, and is let back in at the first rung after six months": (
        "TRIAL",
        [0, 0, 0, 40, 0, 0, 0, 0, 0, 0, 0, 0],
        ["0", "1", "1", "0f", "0f", "0f", "0f", "0f", "0f", "0", "0", "1"],
    ),
    "starts strong, and has the full limit after three payments": (
        "SEASONING",
        [0] * 12,
        ["b", "b", "S"] + ["S"] * 9,
    ),
    "starts strong, is nine days late, and finds itself on the ladder": (
        "SEASONING",
        [0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        ["b", "3h", "3h", "3", "3", "S", "S", "S", "S", "S", "S", "S"],
    ),
}


@pytest.mark.parametrize("story", YEARS)
def test_a_year_of_an_account(story):
    offer, lateness, expected = YEARS[story]
    events, told = [accepted(0, RUNGS[0] if offer == "TRIAL" else 1_000_000, offer)], []
    for month, dpd in enumerate(lateness, 1):
        events.append(paid(month, dpd=dpd))
        account = account_of(events, POLICY)
        state = seen(account, 30 * month + dpd + 1)
        if (state.stage, state.rung) != (account.stage, account.rung):
            kind = "STANDARD" if state.stage == "standard" else "TRIAL"
            fen = RUNGS[state.rung] if kind == "TRIAL" else 2 * state.current_limit_fen
            events.append(accepted(30 * month + dpd + 1, fen, kind, state.rung))
        where = {"seasoned": "b", "standard": "S"}.get(state.stage, str(state.rung))
        told.append(where + {"hold": "h", "frozen": "f"}.get(state.status, ""))
    assert told == expected


def test_an_offer_taken_between_the_due_date_and_the_demotion_is_demoted_too():
    climbed = [paid(1), paid(2), accepted(92, RUNGS[1], rung=1)]
    demoted = after(*climbed, late(3, 1), paid(3, dpd=8))
    assert (demoted.rung, demoted.limit_fen, demoted.status) == (0, RUNGS[0], "hold")
    frozen = after(*climbed, late(3, 1), paid(3, dpd=30))
    assert (frozen.rung, frozen.limit_fen, frozen.status) == (0, RUNGS[0], "frozen")


def test_a_limit_is_worth_the_rung_below_it_and_one_that_is_not_lowered_loses_none():
    assert [after(first=accepted(0, fen, "SEASONING")).rung for fen in (60_000, 300_000, 900_000)] == [0, 2, 3]
    due = after(paid(1), paid(2), accepted(70, RUNGS[3]), first=accepted(0, RUNGS[3], rung=3))
    assert (due.stage, due.rung, due.last_step_at) == ("trial", 3, day(0)), "kept on the last rung: no step, none lost"
    lowered = after(accepted(70, RUNGS[0]), first=accepted(0, RUNGS[3], rung=3))
    assert (lowered.rung, lowered.last_step_at) == (0, day(70))
