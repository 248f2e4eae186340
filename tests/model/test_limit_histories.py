"""Random histories of accounts: against the ladder's table written a second time, in any order, and one cycle more.

The model here keeps one row a cycle and walks through the days; the core folds merged events. M6 is asked of decisions.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from random import Random

import pytest

from model.limits.decide import decide
from model.limits.ladder import Event, account_of, snapshot
from model.limits.policy import load_policy

POLICY = load_policy()
BEGIN = datetime.fromisoformat("2026-11-23T10:00:00+08:00")
RUNGS = (50_000, 100_000, 200_000, 400_000)
DPD = (0, 0, 0, 0, 0, 1, 7, 8, 29, 30, 89, 90)
OFFERS = [("TRIAL", RUNGS[r], r) for r in range(4)] + [("SEASONING", fen, 0) for fen in (60_000, 300_000, 900_000)]
OFFERS += [("STANDARD", fen, 0) for fen in (50_000, 2_000_000)]


def cycle(number: int, dpd: int, random: Random, half: bool = False) -> list[Event]:
    """The events of one billing cycle, due `30 * number` days after the beginning, or half a month later."""
    due, used = BEGIN + timedelta(days=30 * number + 15 * half), random.choice((0, 2999, 3000, 9000, 9000, 9000))
    name, events = f"{number}{'h' * half}", []
    number += 1000 * half
    for days in {1, dpd // 2, dpd} if dpd else ():
        if days:
            events.append(Event(f"l{name}-{days}", "late", due + timedelta(days=days), number, days))
    if not (dpd and random.random() < 0.15):
        held = random.choice((6, 7, 20, 20))
        events.append(Event(f"p{name}", "paid", due + timedelta(days=dpd), number, dpd, used, held))
    if dpd and random.random() < 0.2:
        events.append(Event(f"o{name}", "dispute_opened", due + timedelta(days=dpd + 1), number))
        if random.random() < 0.6:
            upheld = random.random() < 0.5
            events.append(Event(f"c{name}", "dispute_closed", due + timedelta(days=dpd + 9), number, upheld=upheld))
    return events


def history(random: Random, months: int) -> list[Event]:
    kind, fen, rung = random.choice(OFFERS)
    events = [Event("a", "accepted", BEGIN, amount_fen=fen, offer=kind, rung=rung)]
    for number in range(1, months + 1):
        events += cycle(number, random.choice(DPD), random)
    if random.random() < 0.3:
        kind, fen, rung = random.choice(OFFERS)
        later = BEGIN + timedelta(days=30 * random.randint(1, months) + 14)
        events.append(Event("b", "accepted", later, amount_fen=fen, offer=kind, rung=rung))
    return events


def by_the_table(events: list[Event]) -> dict:
    """The table of the ladder, row by row, over the rows of what happened."""
    rows = []
    for event in events:
        if event.kind == "accepted":
            rows.append((event.at, 0, "accepted", event))
    owed = disputes = 0
    for number in sorted({event.cycle for event in events if event.cycle}):
        mine = [event for event in events if event.cycle == number]
        opened = sum(event.kind == "dispute_opened" for event in mine)
        closed = sum(event.kind == "dispute_closed" for event in mine)
        disputes += opened > closed
        paid = [event for event in mine if event.kind == "paid"]
        days = max(event.dpd for event in mine)
        due = min(event.at for event in mine if event.kind in ("paid", "late"))
        due -= timedelta(days=min(event.dpd for event in mine if event.kind in ("paid", "late")))
        if opened > closed or any(event.upheld for event in mine):
            days = 0
        if not paid:
            owed = max(owed, days)
        step = 0 if days < 8 else 8 if days < 30 else 30 if days < 90 else 90
        if days or paid:
            rows.append((due + timedelta(days=step), number, days, paid[0] if paid else None))
    at = dict.fromkeys(("rung", "limit", "clean", "total", "hold", "points", "lates"), 0)
    at |= {"stage": "none", "frozen": None, "closed": False}
    for _, _, what, event in sorted(rows, key=lambda row: row[:2]):
        if what == "accepted" and at["closed"]:
            continue
        if what == "accepted":
            named = {"TRIAL": "trial", "SEASONING": "seasoned", "STANDARD": "standard"}[event.offer]
            stage = "standard" if at["stage"] == "standard" else named
            rung = max([event.rung] + [r for r in range(4) if RUNGS[r] <= event.amount_fen])
            rung = max(rung, at["rung"]) if event.amount_fen >= at["limit"] else rung
            if (stage, rung, event.amount_fen) != (at["stage"], at["rung"], at["limit"]):
                at |= {"stage": stage, "rung": rung, "limit": event.amount_fen, "clean": 0}
        elif what == 0 and at["frozen"] is not None:
            at["frozen"] = None if at["frozen"] >= 5 and not owed else at["frozen"] + 1
            at["hold"] = 0
        elif what == 0 and at["hold"]:
            at["hold"] -= 1
        elif what == 0:
            if event.used_bp >= 3000 and event.outstanding_days >= 7:
                at |= {"clean": at["clean"] + 1, "total": at["total"] + 1, "points": at["points"] + 100}
        else:
            at |= {"clean": 0, "lates": at["lates"] + 1, "hold": max(at["hold"], 1)}
            at["frozen"] = None if at["frozen"] is None else 0
            if what >= 90:
                at |= {"closed": True, "limit": 0}
            elif what >= 30:
                at |= {"frozen": 0, "stage": "trial", "rung": 0, "limit": min(at["limit"], 50_000)}
            elif what >= 8:
                lower = [r for r in range(4) if RUNGS[r] < at["limit"]][-1:] or [0]
                rung = max(at["rung"] - 1, 0) if at["stage"] == "trial" else lower[0]
                at |= {"stage": "trial", "rung": rung, "limit": min(at["limit"], RUNGS[rung]), "hold": 2}
    status = "frozen" if at.pop("frozen") is not None else "hold" if at["hold"] or owed or disputes else "open"
    return at | {"owed": owed, "status": "closed" if at.pop("closed") else status}


def test_a_thousand_histories_stand_where_the_table_puts_them_in_whatever_order_they_are_told():
    random, seen = Random(1116), set()
    for _ in range(1000):
        events = history(random, random.randint(1, 14))
        account = account_of(events, POLICY)
        expected = by_the_table(events)
        assert expected == {
            "stage": account.stage,
            "rung": account.rung,
            "limit": account.limit_fen,
            "clean": account.clean_cycles,
            "total": account.clean_total,
            "hold": account.hold_cycles,
            "points": account.points,
            "lates": len(account.lates),
            "owed": account.dpd_now,
            "status": account.status,
        }
        told_again = events + random.sample(events, len(events) // 2)
        random.shuffle(told_again)
        assert account_of(told_again, POLICY) == account
        seen.add((account.stage, account.status))
    assert len(seen) >= 9


def person(near, draw):
    """Somebody whose PD may lie below every line, with or without a record elsewhere."""
    case = draw.case()
    better = draw.random.choice((0, 300_000, 800_000, 1_500_000))
    case = draw.kyc(case, logit_e6=case.request.kyc.logit_e6 - better)
    return draw.asked(case, purpose="review", requested_fen=draw.random.choice((None, None, 3_000_000)))


def limit_of(case, events, days):
    account = account_of(events, POLICY)
    now = BEGIN + timedelta(days=days)
    state = snapshot(account, POLICY, now)
    return decide(case.request, case.policy, case.bundle, state, case.request.as_of, explain=False)


@pytest.mark.parametrize("clean", [False, True])
def test_m6_one_more_late_cycle_is_never_better_and_one_more_clean_one_never_worse(near, clean):
    draw, told, moved = near(6 + clean), [], 0
    random = draw.random
    for _ in range(3000):
        events, case = history(random, random.randint(1, 9)), person(near, draw)
        dpd = 0 if clean else random.choice((1, 7, 8, 29, 30, 90))
        extra = cycle(random.randint(0, 9), dpd, random, half=True)
        if clean:
            extra = [replace(event, used_bp=9000, outstanding_days=20) for event in extra]
        elif any(event.kind.startswith("dispute") for event in extra):
            continue
        days = random.choice((54, 55, 60, 120, 200, 280, 330))
        base, more = limit_of(case, events, days), limit_of(case, events + extra, days)
        worse, better = (base, more) if clean else (more, base)
        if better.amount_fen < worse.amount_fen or better.score < worse.score:
            told.append((base, more, events, extra, days))
        moved += better.amount_fen > worse.amount_fen
    assert not told, (len(told), told[0])
    assert moved > 30
