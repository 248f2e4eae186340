"""What the policy would lend: caps first, then the largest eligible offer.

An offer's amount is the minimum of all its caps, floored once to the increment. Every cap and every condition only
tightens as the upper PD rises, and the largest offer counts, so a safer score never gets less.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from model.limits.schema import PointsTier, Policy
from model.limits.states import Case

Kind = Literal["STANDARD", "SEASONING", "TRIAL"]
Verdict = Literal["APPROVE", "TRIAL", "DECLINE", "DEFER", "REFER"]
RISK_CAPS = ("EL_BUDGET", "AFFORDABILITY", "INCOME_MULTIPLE", "SEGMENT", "LEGAL_CONSUMER")
_BP = 10_000


@dataclass(frozen=True, slots=True)
class Offer:
    """The best offer at one upper PD, or what stood in its way.

    Attributes:
        kind: the kind of offer; None where the upper PD is above the line of every kind.
        amount_fen: 0 where no offer reaches the smallest limit.
        tier: which of the policy's prices, from 1; 0 without one.
        apr_bp: the price before points.
        caps: every cap of this kind of offer, in fen; their minimum, floored to the increment, is the amount.
        binding_cap: the cap that set the amount. Where the granted share of the risk cap did, the risk cap's name.
    """

    kind: Kind | None
    amount_fen: int = 0
    tier: int = 0
    apr_bp: int = 0
    caps: Mapping[str, int] | None = None
    binding_cap: str | None = None

    @property
    def decision(self) -> Verdict:
        """APPROVE, TRIAL or DECLINE."""
        if not self.amount_fen:
            return "DECLINE"
        return "TRIAL" if self.kind == "TRIAL" else "APPROVE"


def best_offer(case: Case, pd_upper_e8: int, thin: bool, share_bp: int) -> Offer:
    """The largest eligible offer.

    Args:
        case: the inputs of the decision.
        pd_upper_e8: PD at z plus margin, in 1e-8.
        thin: whether the file is thin.
        share_bp: which share of the risk cap a standard limit may take.

    Returns:
        Of the eligible kinds the one with the largest amount; on equal amounts STANDARD before TRIAL.
    """
    kinds = _kinds(case, pd_upper_e8, thin)
    if not kinds:
        return Offer(None)
    policy = case.policy
    tier = 1 + next(at for at, tier in enumerate(policy.pricing) if pd_upper_e8 <= tier.pd_max_bp * _BP)
    apr_bp = policy.pricing[tier - 1].apr_bp
    caps = _risk_caps(case, pd_upper_e8, apr_bp)
    tightest = min(caps, key=caps.__getitem__)
    risk = caps[tightest]
    caps |= _account_caps(case)
    own = _own_caps(case, risk, share_bp)
    step, least = policy.limit.increment_fen, policy.limit.min_fen
    common, usual = min(caps.values()), risk * policy.points[0].share_bp // _BP

    def granted(fen: int) -> int:
        return fen // step * step if fen >= least else 0

    # points neither choose the kind nor make an offer where there is none without them
    plain = {kind: min(common, usual if kind == "STANDARD" else own[kind][1]) for kind in kinds}

    def rank(kind: Kind) -> tuple[int, bool, int]:
        fen, stopped = granted(plain[kind]), own[kind][0] == "PORTFOLIO"
        return (fen, False, 0) if fen else (0, stopped and common >= least, plain[kind])

    kind = max(kinds, key=rank)
    name, value = own[kind]
    amount = granted(min(common, value)) if granted(plain[kind]) else 0
    caps[name] = value
    binding = min(caps, key=caps.__getitem__)
    return Offer(kind, amount, tier, apr_bp, caps, tightest if binding == "SHARE" else binding)


def rung_of(policy: Policy, limit_fen: int) -> int:
    """The highest rung of the ladder that is no larger than a limit; the first one at least.

    >>> from model.limits.policy import load_policy
    >>> [rung_of(load_policy(), fen) for fen in (0, 99_999, 100_000, 2_000_000)]
    [0, 0, 1, 3]
    """
    return max(sum(fen <= limit_fen for fen in policy.trial.rungs_fen) - 1, 0)


def points_tier(case: Case) -> PointsTier:
    """What the applicant's points give; under a risk hold, what no points give."""
    tiers = case.policy.points
    return tiers[0] if case.state.risk_hold else [t for t in tiers if t.points <= case.request.points][-1]


def income_fen(case: Case) -> int:
    """Monthly income after the haircut for how it is known."""
    kyc = case.request.kyc
    return kyc.income_fen_month * (_BP - case.policy.limit.income_haircut_bp[kyc.income_source]) // _BP


def line_bp(policy: Policy, thin: bool) -> int:
    """The highest upper PD at which anything is offered."""
    classes = policy.classes
    return classes.trial_pd_max_bp if thin or classes.thick_trial else classes.standard_pd_max_bp


def increase_blocked(case: Case) -> bool:
    """Whether the account had its increases for now, or is on hold after a late payment."""
    state, rule = case.state, case.policy.velocity
    days = state.days_since_increase
    early = days is not None and days < rule.min_days_between_increases
    return early or state.status == "hold" or state.increases_365d >= rule.max_increases_365d


@lru_cache(maxsize=4096)
def annuity_e6(apr_bp: int, months: int) -> int:
    """What 1 a month for `months` months is worth now, in 1e-6, floored; exact, since powers of integers are.

    >>> annuity_e6(1200, 12), annuity_e6(0, 12)
    (11255077, 12000000)
    """
    if apr_bp == 0:
        return months * 10**6
    year = 12 * _BP
    grown, still = (int(pow(rate, months)) for rate in (year + apr_bp, year))
    return 10**6 * year * (grown - still) // (apr_bp * grown)


def _kinds(case: Case, pd_upper_e8: int, thin: bool) -> list[Kind]:
    """The eligible kinds, on equal amounts the better one first; a rung is always open below a larger offer."""
    classes = case.policy.classes
    if pd_upper_e8 > classes.trial_pd_max_bp * _BP:
        return []
    standard = pd_upper_e8 <= classes.standard_pd_max_bp * _BP and (not thin or case.state.stage == "standard")
    kinds: list[Kind] = []
    if standard:
        kinds.append("STANDARD")
    elif thin and pd_upper_e8 <= classes.strong_thin_pd_max_bp * _BP:
        kinds.append("SEASONING")
    if standard or thin or classes.thick_trial:
        kinds.append("TRIAL")
    return kinds


def _risk_caps(case: Case, pd_upper_e8: int, apr_bp: int) -> dict[str, int]:
    """The caps that measure risk and means; points can never pass them."""
    policy, kyc = case.policy, case.request.kyc
    rule, costs = policy.limit, policy.economics
    income = income_fen(case)
    free = max(0, income * rule.dsti_bp // _BP - kyc.existing_debt_service_fen_month)
    months = min(case.request.term_months, rule.term_months)
    return {
        "EL_BUDGET": rule.el_budget_fen * 10**16 // (max(pd_upper_e8, 1) * costs.lgd_bp * costs.ccf_bp),
        "AFFORDABILITY": free * annuity_e6(apr_bp, months) // 10**6,
        "INCOME_MULTIPLE": income * rule.income_multiple_bp // _BP,
        "SEGMENT": rule.segment_cap_fen[kyc.segment],
        "LEGAL_CONSUMER": max(0, policy.legal.consumer_cap_fen - kyc.other_consumer_credit_fen),
    }


def _own_caps(case: Case, risk_fen: int, share_bp: int) -> dict[Kind, tuple[str, int]]:
    """What each kind of offer is held to, by name: a share of the risk cap, of that and of what was asked a part to
    start with, or a rung that passes no such share.

    Only the first rung may: it is open to whoever risk and means allow the smallest limit.
    """
    policy, state = case.policy, case.state
    rungs, usual = policy.trial.rungs_fen, risk_fen * policy.points[0].share_bp // _BP
    rung, most = rungs[min(state.rung, len(rungs) - 1)], max(usual, rungs[0])
    standard = ("SHARE", risk_fen * share_bp // _BP)
    if state.trials_stopped and state.stage == "none":
        return {"STANDARD": standard, "SEASONING": ("PORTFOLIO", 0), "TRIAL": ("PORTFOLIO", 0)}
    asked = case.request.requested_fen
    start = (usual if asked is None else min(usual, asked)) * policy.classes.thin_seasoning_bp // _BP
    return {
        "STANDARD": standard,
        "SEASONING": ("SEASONING", start),
        "TRIAL": ("LADDER", rung) if rung <= most else ("SHARE", most),
    }


def _account_caps(case: Case) -> dict[str, int]:
    """The caps of this account and request; each only where it applies."""
    request, state = case.request, case.state
    caps = {}
    if state.current_limit_fen:
        step_bp = _BP if increase_blocked(case) else case.policy.velocity.max_step_bp
        caps["VELOCITY"] = state.current_limit_fen * step_bp // _BP
    if state.portfolio_headroom_fen is not None:
        caps["PORTFOLIO"] = state.portfolio_headroom_fen
    if request.requested_fen is not None:
        caps["REQUESTED"] = request.requested_fen
    return caps
