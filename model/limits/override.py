"""A person's override of a limit decision: within soft caps, never past law, means or the hard gates.

Soft are the occupation group's cap, the expected-loss budget (stretched by the policy's factor), the share that points
fill, and the rung. All others stand: affordability, the multiple of income, the legal ceiling, the portfolio, velocity.
Where the policy has no price, since the score is below every line, a person can only refuse too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Annotated, Literal

from model.inputs import InputError
from model.limits.causes import offer_reasons, stopping_reasons
from model.limits.costs import cost_table
from model.limits.decision import Decision
from model.limits.fields import Fen, Sha256, Text
from model.limits.offers import Offer, best_offer, points_tier
from model.limits.reasons import MAX_REASONS, Reason, reason
from model.limits.schema import Policy
from model.limits.states import Case, standing_of

OverrideReason = Literal["income_evidence", "data_error", "hardship", "fraud_concern", "relationship", "other"]
Note = Annotated[str, Text(".{1,500}", "must be 1 to 500 characters on one line")]
_ALL = 10_000  # all of it, in basis points
# what a person who gives less than the rules do tells the applicant: "other" would be no reason
_AGAINST = {"income_evidence": "A01", "data_error": "K02", "hardship": "A02", "fraud_concern": "F01"}


@dataclass(frozen=True, slots=True)
class OverrideOrder:
    """What a person decides instead: an amount (0 refuses), why, on what evidence, until when."""

    amount_fen: Fen
    reason: OverrideReason
    note: Note
    evidence_sha256: Sha256
    expires_at: datetime | None = None


def ceiling(case: Case) -> tuple[int, Offer]:
    """The most that a person may grant on this case, in whole increments, and the offer whose price it has.

    0 where a hard gate stops the case, fraud is suspected, or no kind of offer is open.
    """
    if stopping_reasons(case) or case.state.status == "referred":
        return 0, Offer(None)
    policy, standing = case.policy, standing_of(case)
    raised = replace(case.state, rung=case.state.rung + policy.override.rungs)
    offer = best_offer(
        Case(case.request, _softened(policy), case.bundle, raised), standing.pd_upper_e8, standing.thin, _ALL
    )
    return offer.amount_fen, offer


def _softened(policy: Policy) -> Policy:
    """The policy without the caps that a person may lift, and with the stretched expected-loss budget."""
    limit = policy.limit
    budget = limit.el_budget_fen * policy.override.el_budget_bp // _ALL
    segments = dict.fromkeys(limit.segment_cap_fen, policy.legal.consumer_cap_fen)
    return replace(
        policy,
        classes=replace(policy.classes, thin_seasoning_bp=_ALL),
        limit=replace(limit, el_budget_fen=budget, segment_cap_fen=segments),
        points=(replace(policy.points[0], share_bp=_ALL),),
    )


def overridden(case: Case, decision: Decision, order: OverrideOrder, now: datetime) -> Decision:
    """The decision that a person made instead, at the price that the risk has.

    Args:
        case: the inputs that `decision` was made on.
        decision: the answer to them.
        order: what the person wants.
        now: when.

    Raises:
        InputError: the amount passes the ceiling, is no whole increment, or is less than the rules give without a
            reason that can be told; or the order has expired.
    """
    policy, amount = case.policy, order.amount_fen
    step, least = policy.limit.increment_fen, policy.limit.min_fen
    if order.expires_at is not None and order.expires_at <= now:
        raise InputError("override", "expires_at", "must lie after now", order.expires_at.isoformat())
    if amount and (amount < least or amount % step):
        raise InputError("override", "amount_fen", f"must be 0, or at least {least} and a multiple of {step}", amount)
    most, offer = ceiling(case)
    if amount > most:
        rule = f"must be at most {most}: law, means or a gate allow no more"
        raise InputError("override", "amount_fen", rule, amount)
    ends = [now + timedelta(days=policy.override.valid_days), policy.expires_at, case.bundle.valid_until]
    ends.append(order.expires_at)
    apr_bp = offer.apr_bp - points_tier(case).apr_off_bp if amount else None
    verdict = Offer(offer.kind, amount).decision
    return replace(
        decision,
        decision=verdict,
        kind=offer.kind if amount else None,
        amount_fen=amount,
        available_fen=max(0, amount - case.state.outstanding_fen),
        apr_bp=apr_bp,
        price_tier=offer.tier if amount else None,
        costs=cost_table(policy, amount, apr_bp, decision.term_months) if apr_bp is not None else (),
        binding_cap="OVERRIDE",
        reasons=(reason("H03"), *_against(case, decision, order))[:MAX_REASONS],
        next_steps=(),
        valid_until=min(end for end in ends if end is not None).astimezone(now.tzinfo),
        retry_after=None,
        defer_deadline=None,
        ladder=decision.ladder if amount else None,
    )


def _against(case: Case, decision: Decision, order: OverrideOrder) -> Sequence[Reason]:
    """Why not more: the rules' own reasons, or the person's where the rules give more. Waiting is none against it."""
    usual, told = decision.amount_fen, decision.reasons
    if decision.decision in ("DEFER", "REFER"):
        standing = standing_of(case)
        offer = best_offer(case, standing.pd_upper_e8, standing.thin, points_tier(case).share_bp)
        usual, told = offer.amount_fen, tuple(stopping_reasons(case) or offer_reasons(case, standing, offer, False))
    if order.amount_fen >= usual:
        return told if order.amount_fen == usual else ()
    if order.reason not in _AGAINST:
        rule = "must be one that the applicant can be told, where the rules give more: " + ", ".join(sorted(_AGAINST))
        raise InputError("override", "reason", rule, order.reason)
    return (reason(_AGAINST[order.reason]), *told)
