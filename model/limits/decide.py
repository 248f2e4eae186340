"""The limit decision: one pure function, in integers, without clock, chance or database.

Five inputs give one answer, the same bytes every time. Caps come first, then the largest eligible offer; late data is
waited for only while it could change the answer; the score speaks of z alone, and uncertainty moves only the limit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from model.inputs import InputError
from model.limits.causes import late_code, offer_reasons, stopping_reasons, waiting_reasons
from model.limits.costs import cost_table
from model.limits.decision import Decision, Versions
from model.limits.offers import Offer, Verdict, best_offer, points_tier
from model.limits.policy import NotInForce, check_in_force
from model.limits.reasons import MAX_REASONS, Reason, reason
from model.limits.request import DecisionRequest, StateSnapshot
from model.limits.schema import Policy
from model.limits.states import Case, Standing, evidence_of, grade_of, if_all_arrived, standing_of
from model.limits.steps import Outcome, ladder_note, next_steps
from model.limits.table import DecisionBundle
from model.points import band_of, pd_e8, score_of

_NO_OFFER = Offer(None)


@dataclass(frozen=True, slots=True)
class _Answer:
    """What was decided, not yet explained or written out: by rules that stop it, to wait until a time, or an offer."""

    decision: Verdict
    rules: tuple[Reason, ...] = ()
    offer: Offer = _NO_OFFER
    deadline: datetime | None = None
    missed: bool = False


def decide(
    request: DecisionRequest,
    policy: Policy,
    bundle: DecisionBundle,
    state: StateSnapshot,
    now: datetime,
    *,
    explain: bool = True,
) -> Decision:
    """How much, at what price, why, and what would change it.

    Promises: 0 <= amount <= every cap; a safer sub-score never lowers score or amount, nor raises the price (where no
    late data is waited for); points never change score, PD or a refusal; equal inputs give equal bytes.

    Args:
        request: the question; `parse_request` checks it.
        policy: the lender's rules, in force at `now`.
        bundle: the published model.
        state: account and portfolio, as read once for this decision.
        now: equals `request.as_of`: the only notion of now.
        explain: also find the next steps, by deciding again on changed inputs; costs some ten decisions.

    Raises:
        InputError: the request does not fit the policy or the bundle.
        NotInForce: policy or bundle do not hold at `now`.

    >>> from model.limits.policy import load_policy
    >>> from model.limits.request import Applicant
    >>> from model.limits.table import Entry, FusionTable
    >>> table = FusionTable((), "lender_kyc", {"|": Entry(-3_500_000, {"lender_kyc": 1_000_000})})
    >>> bundle = DecisionBundle("demo-1", "0" * 64, table, "subscores", {"lender_kyc": 0})
    >>> kyc = Applicant(True, 30, "salaried", 800_000, "verified", 0, 0, logit_e6=100_000)
    >>> now = datetime.fromisoformat("2026-11-23T10:00:00+08:00")
    >>> request = DecisionRequest("4711", "ab", "new", now, "consumer", 1_000_000, 12, kyc, {})
    >>> answer = decide(request, load_policy(), bundle, StateSnapshot(), now)
    >>> answer.decision, answer.amount_fen, answer.apr_bp, answer.score, answer.binding_cap
    ('APPROVE', 1000000, 1500, 634, 'REQUESTED')
    """
    if now != request.as_of:
        raise InputError(request.request_id, "as_of", f"must equal now = {now.isoformat()}", request.as_of.isoformat())
    if request.product != policy.product:
        raise InputError(request.request_id, "product", f"must be the policy's, {policy.product}", request.product)
    check_in_force(policy, now)
    if bundle.valid_until is not None and now >= bundle.valid_until:
        raise NotInForce(f"bundle {bundle.bundle_id} was valid until {bundle.valid_until.isoformat()}")
    case = Case(request, policy, bundle, state)
    standing = standing_of(case)
    decision = _written(case, standing, _answer(case, standing))
    return replace(decision, next_steps=next_steps(case, decision, _outcome)) if explain else decision


def _outcome(case: Case) -> Outcome:
    """What a decision on the case would be, not explained."""
    answer = _answer(case, standing_of(case))
    return Outcome(answer.decision, answer.offer.amount_fen)


def _answer(case: Case, standing: Standing) -> _Answer:
    if case.request.flags.human_review_requested:
        return _Answer("REFER", (reason("H01", "system"),))
    stopped = stopping_reasons(case)
    if stopped:
        return _Answer("DECLINE", tuple(stopped))
    if case.state.status == "referred":
        return _Answer("REFER", (reason("H02"),))
    missed = bool(standing.late) and late_data_matters(case, standing)
    if missed:
        deadline = _deadline(case)
        if deadline is not None:
            return _Answer("DEFER", deadline=deadline)
    offer = best_offer(case, standing.pd_upper_e8, standing.thin, points_tier(case).share_bp)
    if case.request.purpose == "review" and case.state.stage != "none" and _alarming(case, standing):
        return _Answer("REFER", (reason("H02"), *offer_reasons(case, standing, offer, missed))[:MAX_REASONS])
    return _Answer(offer.decision, offer=offer, missed=missed)


def _alarming(case: Case, standing: Standing) -> bool:
    """Whether an account's risk has risen so far that a person must look."""
    return standing.pd_upper_e8 > case.policy.classes.review_refer_pd_bp * 10_000


def _reasons(case: Case, standing: Standing, answer: _Answer) -> tuple[Reason, ...]:
    if answer.rules:
        return answer.rules
    if answer.deadline is not None:
        return tuple(waiting_reasons(case, standing, answer.deadline))
    return tuple(offer_reasons(case, standing, answer.offer, answer.missed))


def late_data_matters(case: Case, standing: Standing) -> bool:
    """Whether the late blocks could change the answer, points aside.

    Two answers are compared: they arrive and are bad, adding nothing else; they arrive and are good, with the margin
    and the record that they bring. Another kind of offer, or more than twice the amount, is another answer. Disputed
    data always matters where the policy says so: nobody is to be refused, or accepted, while it is open.
    """
    policy = case.policy
    if policy.defer.disputed_always and any(late_code(case, standing, d) == "D03" for d in standing.late):
        return True
    swing = sum(policy.freshness_of(domain).swing_e6 for domain in standing.late)
    share = policy.points[0].share_bp
    bad = best_offer(case, pd_e8(standing.z_e6 + standing.margin_e6 + swing), standing.thin, share)
    arrived = if_all_arrived(case, standing, standing.z_e6 - swing)
    good = best_offer(case, arrived.pd_upper_e8, arrived.thin, share)
    low, high = sorted((bad.amount_fen, good.amount_fen))
    return high > 2 * low or (high > 0 and bad.kind != good.kind)


def _deadline(case: Case) -> datetime | None:
    """Until when this decision may still wait; None once hours or times are used up, or none are wanted."""
    request, state, rule = case.request, case.state, case.policy.defer
    now = request.as_of
    since = min(state.first_deferred_at or now, now)
    deadline = (since + timedelta(hours=rule.max_hours)).astimezone(now.tzinfo)
    open_still = state.deferrals < rule.max_times and now < deadline and not request.flags.decide_now
    return deadline if open_still else None


def _valid_until(case: Case, standing: Standing) -> datetime:
    """The first of: the policy's days, a used block growing too old or losing consent, the end of policy or bundle."""
    policy, now = case.policy, case.request.as_of
    ends = [now + timedelta(days=policy.limit.valid_days), policy.expires_at]
    if case.bundle.valid_until is not None:
        ends.append(case.bundle.valid_until)
    for domain in standing.used:
        evidence = evidence_of(case, domain)
        if evidence.as_of is not None:
            ends.append(evidence.as_of + policy.freshness_of(domain).stale_for)
        if evidence.consent_until is not None:
            ends.append(evidence.consent_until)
    return min(ends).astimezone(now.tzinfo)


def _written(case: Case, standing: Standing, answer: _Answer) -> Decision:
    request, policy, offer = case.request, case.policy, answer.offer
    score, amount, wait = score_of(standing.z_e6), offer.amount_fen, answer.deadline
    apr_bp = offer.apr_bp - points_tier(case).apr_off_bp if amount else None
    months = min(request.term_months, policy.limit.term_months)
    retry = request.as_of + timedelta(hours=policy.defer.retry_hours)
    return Decision(
        request_id=request.request_id,
        decision=answer.decision,
        kind=offer.kind if amount else None,
        amount_fen=amount,
        available_fen=max(0, amount - case.state.outstanding_fen),
        apr_bp=apr_bp,
        price_tier=offer.tier if amount else None,
        costs=cost_table(policy, amount, apr_bp, months) if apr_bp is not None else (),
        term_months=months,
        score=score,
        band=band_of(score).code,
        confidence=grade_of(standing.margin_e6, policy.confidence),
        pd_bp=round(pd_e8(standing.z_e6), -4) // 10_000,
        pd_upper_bp=round(standing.pd_upper_e8, -4) // 10_000,
        z_e6=standing.z_e6,
        margin_e6=standing.margin_e6,
        thin=standing.thin,
        blocks=standing.states,
        caps=offer.caps or {},
        binding_cap=offer.binding_cap,
        reasons=_reasons(case, standing, answer),
        next_steps=(),
        as_of=request.as_of,
        valid_until=min(wait or policy.expires_at, _valid_until(case, standing)),
        retry_after=min(retry, wait) if wait else None,
        defer_deadline=wait,
        ladder=ladder_note(case, offer) if amount else None,
        versions=Versions(policy.id, policy.version, policy.sha256, case.bundle.bundle_id, case.bundle.sha256),
    )
