"""What would change the answer: each step is a changed input on which the decision is made again.

Nothing here models behaviour. A step is told only where the same pure function, asked again, gives more; its sentence
says "could", since everything else is held as it is now. Never suggested: spending, buying points, another segment.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import combinations

from model.limits.decision import Decision, LadderNote, NextStep
from model.limits.offers import Offer, Verdict, rung_of
from model.limits.reasons import CATALOGUE, Wording, minute, wording, yuan
from model.limits.request import Improvement
from model.limits.states import USABLE, Case, evidence_of

MAX_STEPS = 3
_Set = tuple[tuple[str, Improvement], ...]
_INCOME_CAPS = ("AFFORDABILITY", "INCOME_MULTIPLE")
_INCOME_STEP_FEN = 10_000


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a decision is, without why and what it costs."""

    decision: Verdict
    amount_fen: int


Again = Callable[[Case], Outcome]


@dataclass(frozen=True, slots=True)
class _Change:
    """A changed input, and the words of the step that would bring it about."""

    code: str
    case: Case
    source: str = "rule"
    by: datetime | None = None
    values: dict[str, str] = field(default_factory=dict)
    what: tuple[Wording, ...] = ()


def next_steps(case: Case, decision: Decision, again: Again) -> tuple[NextStep, ...]:
    """At most three steps that give more than `decision` does.

    Args:
        case: the inputs of the decision.
        decision: the answer to them.
        again: decides on changed inputs.
    """
    if decision.decision == "REFER" or not decision.reasons:
        return ()
    steps = []
    for change in _changes(case, decision, again):
        answer = again(change.case)
        if answer.amount_fen > decision.amount_fen:
            steps.append(_told(change, answer))
        elif change.code == "WAIT":
            steps.append(_told(replace(change, code="WAIT_ONLY"), answer))
        if len(steps) == MAX_STEPS:
            break
    return tuple(steps)


def _told(change: _Change, answer: Outcome) -> NextStep:
    values = {"amount": yuan(answer.amount_fen), **change.values}
    zh, en = wording(CATALOGUE.step[change.code], domain=change.source, what=change.what, values=values)
    return NextStep(change.code, zh, en, change.source, answer.decision, answer.amount_fen, change.by)


def _changes(case: Case, decision: Decision, again: Again) -> Iterator[_Change]:
    """Every step worth trying, in the order of telling."""
    request = case.request
    if decision.decision == "DEFER":
        yield from _waiting(case, decision)
        return
    if not request.kyc.passed:
        passed = replace(case, request=replace(request, kyc=replace(request.kyc, passed=True)))
        yield _Change("IDENTITY", passed)
    for domain, state in decision.blocks.items():
        if state == "no_consent":
            ended = evidence_of(case, domain).consent
            yield _Change("CONSENT" if ended else "AUTHORISE", typical(case, [domain]), domain)
    if decision.binding_cap in _INCOME_CAPS:
        yield from _income(case, decision, again)
    least = case.policy.limit.min_fen
    if request.requested_fen is not None and request.requested_fen < least:
        asked = replace(case, request=replace(request, requested_fen=least))
        yield _Change("ASK", asked, values={"value": yuan(least)})
    if decision.ladder is not None:
        yield _ladder(case, decision, decision.ladder)
    yield from _improvements(case, decision, again)


def typical(case: Case, domains: Iterable[str]) -> Case:
    """The case were these domains' data here, authorised, in order, and at the bundle's reference."""
    blocks, reference = dict(case.request.blocks), case.bundle.reference_e6
    for domain in domains:
        blocks[domain] = replace(
            evidence_of(case, domain),
            consent=True,
            consent_until=None,
            logit_e6=reference[domain],
            as_of=case.request.as_of,
            quality="ok",
        )
    return replace(case, request=replace(case.request, blocks=blocks))


def _waiting(case: Case, decision: Decision) -> Iterator[_Change]:
    """Wait for the late data, all of it; or do without it."""
    late = [domain for domain, state in decision.blocks.items() if state in ("delayed", "abnormal")]
    by = decision.defer_deadline
    if by is not None:
        yield _Change("WAIT", typical(case, late), "+".join(late), by, {"deadline": minute(by)})
    flags = replace(case.request.flags, decide_now=True)
    yield _Change("DECIDE_NOW", replace(case, request=replace(case.request, flags=flags)))


def _income(case: Case, decision: Decision, again: Again) -> Iterator[_Change]:
    """The stated income, verified; else the smallest verified one, up to twice as much, that gives all it could."""
    stated = case.request.kyc.income_fen_month

    def verified(income_fen: int) -> Case:
        kyc = replace(case.request.kyc, income_fen_month=income_fen, income_source="verified")
        return replace(case, request=replace(case.request, kyc=kyc))

    if again(verified(stated)).amount_fen > decision.amount_fen:
        yield _Change("INCOME", verified(stated), values={"value": yuan(stated)})
        return
    low, high = stated // _INCOME_STEP_FEN, 2 * stated // _INCOME_STEP_FEN
    most = again(verified(high * _INCOME_STEP_FEN)).amount_fen
    while high - low > 1:  # `high` gives the most; more income never gives less
        middle = (low + high) // 2
        enough = again(verified(middle * _INCOME_STEP_FEN)).amount_fen >= most
        low, high = (low, middle) if enough else (middle, high)
    income = high * _INCOME_STEP_FEN
    yield _Change("INCOME", verified(income), values={"value": yuan(income)})


def ladder_note(case: Case, offer: Offer) -> LadderNote | None:
    """Where an account with this offer stands on its way to the standard limit; None where that is what it has."""
    state, rule, last = case.state, case.policy.trial, len(case.policy.trial.rungs_fen) - 1
    if offer.kind == "STANDARD" or (offer.kind == "TRIAL" and state.stage == "standard"):
        return None
    seasoned = offer.kind == "SEASONING"
    wait = max(rule.min_days_between_steps, case.policy.velocity.min_days_between_increases)
    here = state.stage == ("seasoned" if seasoned else "trial")
    begun = here and offer.amount_fen == state.current_limit_fen  # if not, a step begins when the offer is accepted
    waited = min(state.days_since_increase or 0, wait) if begun else 0
    earliest = case.request.as_of + timedelta(days=wait - waited)
    needed = rule.clean_cycles_seasoned if seasoned else rule.clean_cycles_to_promote
    return LadderNote(None if seasoned else min(state.rung, last), state.clean_cycles if begun else 0, needed, earliest)


def _ladder(case: Case, decision: Decision, note: LadderNote) -> _Change:
    """The next rung, or the standard limit after the last one or after a strong thin file's start, once earned."""
    rule, last = case.policy.trial, len(case.policy.trial.rungs_fen) - 1
    state, cycles = case.state, max(note.needed - note.clean_cycles, 1)
    done = note.rung is None or note.rung >= last
    earned = replace(
        state,
        stage="standard" if done else "trial",
        rung=rung_of(case.policy, decision.amount_fen) if note.rung is None else min(note.rung + 1, last),
        current_limit_fen=decision.amount_fen,
        clean_total=state.clean_total + cycles,
        increases_365d=state.increases_365d + (0 < state.current_limit_fen < decision.amount_fen),
        days_since_increase=case.policy.velocity.min_days_between_increases,
        applications_30d=0,
    )
    values = {
        "cycles": str(cycles),
        "use": str(rule.min_use_bp // 100),
        "deadline": note.earliest.date().isoformat(),
    }
    return _Change(
        "SEASON" if note.rung is None else "LADDER", replace(case, state=earned), "rule", note.earliest, values
    )


def _improvements(case: Case, decision: Decision, again: Again) -> Iterator[_Change]:
    """The soonest one improvement, else pair of them, that gives more: of what the data holders say can be changed.

    More of a fall in z never gives less, so of the sets sorted by their fall, those that help are the last ones.
    """
    weights = case.bundle.table.entry(*_patterns(decision)).weights_e6
    known = [
        (domain, step)
        for domain, state in decision.blocks.items()
        if state in USABLE
        for step in evidence_of(case, domain).next_steps
    ]

    def helps(some: _Set) -> bool:
        return again(_improved(case, some)).amount_fen > decision.amount_fen

    for size in (1, 2):
        sets = sorted(combinations(known, size), key=lambda some: -sum(weights[d] * s.delta_e6 for d, s in some))
        if sets and helps(sets[-1]):
            first = bisect_left(sets, True, key=helps)
            yield _improvement(case, min(sets[first:], key=lambda some: max(step.days for _, step in some)))
            return


def _patterns(decision: Decision) -> tuple[list[str], list[str]]:
    related = [domain for domain, state in decision.blocks.items() if state not in ("not_covered", "no_consent")]
    return related, [domain for domain in related if decision.blocks[domain] in USABLE]


def _improved(case: Case, some: _Set) -> Case:
    blocks = dict(case.request.blocks)
    for domain, step in some:
        block = blocks[domain]
        if block is not None and block.logit_e6 is not None:
            blocks[domain] = replace(block, logit_e6=block.logit_e6 + step.delta_e6)
    return replace(case, request=replace(case.request, blocks=blocks))


def _improvement(case: Case, some: _Set) -> _Change:
    words = [CATALOGUE.improve[step.code] for _, step in some]
    values = {"days": str(max(step.days for _, step in some))}
    source = "+".join(dict.fromkeys(domain for domain, _ in some))
    return _Change("IMPROVE", _improved(case, some), source, values=values, what=tuple(words))
