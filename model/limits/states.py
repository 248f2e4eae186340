"""What is known of a person now: each block's state, the margin for what is not known, and the resulting PD."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from model.inputs import InputError
from model.limits.request import BlockEvidence, DecisionRequest, StateSnapshot
from model.limits.schema import Confidence, Freshness, Policy
from model.limits.table import DecisionBundle
from model.points import pd_e8

BlockState = Literal["fresh", "stale", "delayed", "abnormal", "not_covered", "no_consent"]
USABLE = ("fresh", "stale")
_NO_TIME = timedelta(0)
DISPUTED = ("dispute_open", "negative_pending")


@dataclass(frozen=True, slots=True)
class Case:
    """The inputs of one decision; its instant is `request.as_of`."""

    request: DecisionRequest
    policy: Policy
    bundle: DecisionBundle
    state: StateSnapshot


@dataclass(frozen=True, slots=True)
class Standing:
    """How a person stands with the blocks that can be used now.

    Attributes:
        states: of every optional domain.
        related: domains with a relationship and consent.
        used: those of them that are fresh or stale; the others are late.
        logits_e6: sub-scores of the used blocks and of the lender's own.
        z_e6: log-odds; the score and the PD come from it.
        behaviour_e6: what the account's own record added to z.
        margin_e6: what uncertainty adds for the limit: never to the score.
        thin: too few blocks, or too short a relationship in all.
    """

    states: Mapping[str, BlockState]
    related: tuple[str, ...]
    used: tuple[str, ...]
    logits_e6: Mapping[str, int]
    z_e6: int
    behaviour_e6: int
    margin_e6: int
    thin: bool

    @property
    def late(self) -> tuple[str, ...]:
        """Domains with a relationship whose data cannot be used now."""
        return tuple(domain for domain in self.related if domain not in self.used)

    @property
    def pd_upper_e8(self) -> int:
        """The PD at z plus the margin, in 1e-8: what limits and prices go by."""
        return pd_e8(self.z_e6 + self.margin_e6)


def block_state(evidence: BlockEvidence | None, freshness: Freshness, now: datetime) -> BlockState:
    """The state of one block; the first rule that fits counts.

    >>> from datetime import UTC
    >>> now, rule = datetime(2026, 11, 23, tzinfo=UTC), Freshness(72, 336, 60_000, 700_000)
    >>> block_state(BlockEvidence(True, True, 0, now - timedelta(hours=72)), rule, now)
    'fresh'
    >>> block_state(BlockEvidence(True, True, 0, now + timedelta(seconds=1)), rule, now)
    'abnormal'
    """
    if evidence is None or not evidence.covered:
        return "not_covered"
    if not evidence.consent or (evidence.consent_until is not None and now >= evidence.consent_until):
        return "no_consent"
    if evidence.quality != "ok":
        return "abnormal"
    if evidence.as_of is None:
        return "delayed"
    age = now - evidence.as_of
    if age < _NO_TIME:
        return "abnormal"
    if evidence.logit_e6 is None or age > freshness.stale_for:
        return "delayed"
    return "stale" if age > freshness.fresh_for else "fresh"


def standing_of(case: Case) -> Standing:
    """How the applicant stands, by the blocks that are usable at `as_of`.

    Raises:
        InputError: the request names a block the bundle does not have, or lacks the lender's own sub-score.
    """
    request, table = case.request, case.bundle.table
    unknown = sorted(request.blocks.keys() - set(table.optional))
    if unknown:
        raise InputError(request.request_id, f"blocks.{unknown[0]}", "is not a block of the bundle", table.optional)
    if (request.kyc.logit_e6 is None) != (table.own is None):
        rule = f"must be given: the bundle has a block {table.own}" if table.own else "must be null: no such block"
        raise InputError(request.request_id, "kyc.logit_e6", rule)
    states = {d: block_state(request.blocks.get(d), case.policy.freshness_of(d), request.as_of) for d in table.optional}
    related = tuple(d for d, state in states.items() if state not in ("not_covered", "no_consent"))
    used = tuple(d for d in related if states[d] in USABLE)
    logits = {d: logit for d in used if (logit := evidence_of(case, d).logit_e6) is not None}
    if table.own is not None and request.kyc.logit_e6 is not None:
        logits[table.own] = request.kyc.logit_e6
    record = case.policy.behaviour.z_e6(case.state.clean_total, case.state.lates_12m)
    z = table.z_e6(related, used, logits) + record
    return Standing(states, related, used, logits, z, record, _margin_e6(case, states, used), _thin(case, used))


def if_all_arrived(case: Case, standing: Standing, z_e6: int) -> Standing:
    """The standing were every late block to arrive fresh and move z to `z_e6`."""
    every = standing.related
    margin, thin = _margin_e6(case, standing.states, every), _thin(case, every)
    return replace(standing, used=every, z_e6=z_e6, margin_e6=margin, thin=thin)


def evidence_of(case: Case, domain: str) -> BlockEvidence:
    """The evidence of a domain that the request is known to name."""
    evidence = case.request.blocks[domain]
    if evidence is None:
        raise KeyError(domain)
    return evidence


def grade_of(margin_e6: int, confidence: Confidence) -> str:
    """A to D by the size of the margin.

    >>> from model.limits.policy import load_policy
    >>> [grade_of(m, load_policy().confidence) for m in (0, 50_001, 300_000, 300_001)]
    ['A', 'B', 'C', 'D']
    """
    return "ABCD"[sum(margin_e6 > highest for highest in confidence.grades_e6)]


def _margin_e6(case: Case, states: Mapping[str, BlockState], used: tuple[str, ...]) -> int:
    """By the number of blocks, plus staleness, plus a multiple of the largest standard error."""
    policy, rule = case.policy, case.policy.confidence
    stale = sum(policy.freshness_of(d).stale_margin_e6 for d in used if states[d] == "stale")
    error = max([case.request.kyc.model_se_e6, *(evidence_of(case, d).model_se_e6 for d in used)])
    return rule.margin_e6[min(len(used), len(rule.margin_e6) - 1)] + stale + rule.se_mult_bp * error // 10_000


def _thin(case: Case, used: tuple[str, ...]) -> bool:
    """A federation with fewer domains than the policy asks for cannot make everybody thin."""
    rule = case.policy.confidence
    domains = len(case.bundle.table.optional)
    short = sum(evidence_of(case, d).tenure_months for d in used) < rule.thin_min_tenure_months
    return len(used) < min(rule.thin_min_blocks, domains) or (short and domains > 0)
