"""C1: whoever does what a next step says gets what it promised: read from its sentence, done, and decided on again."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from itertools import combinations

from model.limits.ladder import Event, account_of, snapshot
from model.limits.reasons import CATALOGUE, yuan
from model.limits.request import Flags, Improvement
from model.limits.states import Case

CHANGES = tuple(CATALOGUE.improve)


def fen_in(text: str) -> int:
    """The first amount of a sentence."""
    whole, rest = re.search(r"¥([\d,]+)(?:\.(\d\d))?", text).groups()
    return int(whole.replace(",", "")) * 100 + int(rest or 0)


def arrived(near, case: Case, domains: str) -> Case:
    """The data of these domains here, authorised, and at the bundle's reference."""
    for domain in domains.split("+"):
        evidence = {"consent": True, "consent_until": None, "as_of": case.request.as_of, "quality": "ok"}
        case = near.block(case, domain, **evidence, logit_e6=case.bundle.reference_e6[domain])
    return case


def improved(near, case: Case, step) -> Case:
    """The case after the improvements that the sentence names."""
    for domain in step.source.split("+"):
        block = case.request.blocks[domain]
        named = [part for part in block.next_steps if CATALOGUE.improve[part.code].en in step.en]
        assert all(part.days <= int(re.search(r"about (\d+) days", step.en)[1]) for part in named)
        case = near.block(case, domain, logit_e6=block.logit_e6 + sum(part.delta_e6 for part in named))
    return case


def done(near, case: Case, step) -> Case:
    """What the step says, done; the ladder's steps are done in another test."""
    kyc = case.request.kyc
    if step.code in ("AUTHORISE", "CONSENT", "WAIT", "WAIT_ONLY"):
        return arrived(near, case, step.source)
    return (
        {
            "IDENTITY": lambda: near.kyc(case, passed=True),
            "INCOME": lambda: near.kyc(case, income_fen_month=fen_in(step.en), income_source="verified"),
            "ASK": lambda: near.asked(case, requested_fen=fen_in(step.en)),
            "DECIDE_NOW": lambda: near.asked(case, flags=replace(case.request.flags, decide_now=True)),
            "IMPROVE": lambda: improved(near, case, step),
        }[step.code]()
        if kyc
        else case
    )


def with_chances(near, draw) -> Case:
    """A case whose blocks name what could be changed."""
    random, case = draw.random, draw.case(now_only=False)
    for place, domain in enumerate(case.request.blocks):
        parts = [
            Improvement(code, -random.choice((1, 20_000, 60_000, 200_000, 500_000)), random.choice((10, 30, 45, 60)))
            for code in random.sample(CHANGES[3 * place : 3 * place + 3], random.choice((0, 1, 3)))
        ]
        case = near.block(case, domain, next_steps=tuple(parts))
    up = random.choice((0, 0, 50_000, 300_000))
    case = near.kyc(case, logit_e6=case.request.kyc.logit_e6 + up, passed=random.random() < 0.93)
    return near.asked(case, requested_fen=random.choice((None, None, 3_000_000, 49_000)))


def test_c1_a_step_done_gives_what_it_promised(near):
    draw, told = near(31), Counter()
    for _ in range(2500):
        case = with_chances(near, draw)
        got = near.answer(case, explain=True)
        assert len(got.next_steps) <= 3
        assert len({step.code + step.source for step in got.next_steps}) == len(got.next_steps)
        for step in got.next_steps:
            told[step.code] += 1
            if step.code in ("LADDER", "SEASON"):
                continue
            then = near.answer(done(near, case, step))
            assert (then.decision, then.amount_fen) == (step.decision, step.amount_fen), (step, case)
            if step.code != "WAIT_ONLY":
                assert then.amount_fen > got.amount_fen
                assert yuan(step.amount_fen) in step.zh
                assert yuan(step.amount_fen) in step.en
    assert set(told) >= {"IDENTITY", "INCOME", "ASK", "WAIT", "DECIDE_NOW", "IMPROVE", "CONSENT", "AUTHORISE", "LADDER"}
    assert min(told[code] for code in ("INCOME", "IMPROVE", "WAIT", "DECIDE_NOW")) > 25, told


def grown(near, draw) -> tuple[Case, list[Event]]:
    """A case with an account: an accepted small limit, and some cycles paid."""
    random, case = draw.random, draw.case()
    now = case.request.as_of
    case = near.kyc(case, logit_e6=case.request.kyc.logit_e6 - random.choice((0, 300_000, 900_000)))
    case = near.asked(case, requested_fen=None, purpose="review")
    rung, months = random.randint(0, 3), random.randint(0, 4)
    kind, fen = random.choice([("TRIAL", (50_000, 100_000, 200_000, 400_000)[rung]), ("SEASONING", 300_000), ("", 0)])
    begun = now - timedelta(days=30 * months + random.choice((1, 20)))
    events = [Event("a", "accepted", begun, amount_fen=fen, offer=kind, rung=rung * (kind == "TRIAL"))] if kind else []
    if kind and random.random() < 0.3:  # raised before, several times
        early = [begun - timedelta(days=100 - at) for at in range(random.randint(3, 5))]
        events += [
            Event(f"r{n}", "accepted", at, amount_fen=10_000 * (n + 1), offer="TRIAL") for n, at in enumerate(early)
        ]
    events += [clean(n, begun) for n in range(1, months + 1)] if kind else []
    return near_state(case, events), events


def near_state(case: Case, events: list[Event], days: int = 0) -> Case:
    state = snapshot(account_of(events, case.policy), case.policy, case.request.as_of + timedelta(days=days))
    return replace(case, state=state)


def clean(number: int, begun) -> Event:
    return Event(f"p{number}", "paid", begun + timedelta(days=30 * number), number, 0, 9000, 20)


def test_c1_the_ladder_s_steps_come_true_for_whoever_accepts_and_pays_in_time(near):
    draw, told = near(11), Counter()
    for _ in range(2500):
        case, events = grown(near, draw)
        got, now = near.answer(case, explain=True), case.request.as_of
        for step in got.next_steps:
            if step.code not in ("LADDER", "SEASON"):
                continue
            told[step.code, case.state.stage] += 1
            assert step.by == got.ladder.earliest
            assert step.by.date().isoformat() in step.en
            cycles = int(re.search(r"After (\d+) payments", step.en)[1])
            assert cycles == max(got.ladder.needed - got.ladder.clean_cycles, 1)
            rung = got.ladder.rung or 0
            taken = Event("t", "accepted", now, amount_fen=got.amount_fen, offer=got.kind, rung=rung)
            paid = [replace(clean(90 + n, now), at=now + timedelta(days=n)) for n in range(1, cycles + 1)]
            then = near_state(case, [*events, taken, *paid], (step.by - now).days)
            again = near.answer(then)
            assert (again.amount_fen, again.decision) == (step.amount_fen, step.decision), (
                step,
                case.state,
                then.state,
            )
            early = near_state(case, [*events, taken, *paid[:-1]], (step.by - now).days)
            before = near_state(case, [*events, taken]).state
            assert (early.state.stage, early.state.rung) == (before.stage, before.rung)
    assert min(told[code, stage] for code, stage in (("LADDER", "none"), ("LADDER", "trial"), ("SEASON", "none"))) > 20


def test_no_single_improvement_that_helps_is_passed_over_and_the_soonest_is_told(near):
    draw, found = near(5), 0
    for _ in range(1500):
        case = near.asked(with_chances(near, draw), flags=Flags(decide_now=True))
        got = near.answer(case, explain=True)
        told = [step for step in got.next_steps if step.code == "IMPROVE"]
        usable = [d for d, state in got.blocks.items() if state in ("fresh", "stale")]
        single = [(d, part) for d in usable for part in case.request.blocks[d].next_steps]
        helps = [part.days for d, part in single if after(near, case, [(d, part)]) > got.amount_fen]
        pairs = [some for some in combinations(single, 2) if after(near, case, some) > got.amount_fen]
        if not (got.reasons and (helps or pairs)) or len(got.next_steps) - len(told) == 3:
            assert not told
            continue
        found += 1
        (step,) = told
        soonest = min(helps) if helps else min(max(part.days for _, part in some) for some in pairs)
        assert f"about {soonest} days" in step.en
    assert found > 40


def after(near, case: Case, some) -> int:
    """The amount with these improvements made."""
    for domain, part in some:
        case = near.block(case, domain, logit_e6=case.request.blocks[domain].logit_e6 + part.delta_e6)
    return near.answer(case).amount_fen
