"""What must hold between the fields of a policy: checked when it is loaded, so that no decision needs to check it.

The invariants of `decide` rest on these rules (a safer score never gets less, points never pass a cap, no price above
the legal cap, no standard price below its cost); each raises `model.inputs.InputError` with the field's path.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from operator import ge, gt, le
from pathlib import Path
from typing import get_args

from model.inputs import InputError
from model.limits.schema import IncomeSource, Policy, Segment

_Refuse = Callable[[bool, str, str, object], bool]


def lint(policy: Policy, source: str | Path) -> None:
    """Raises `InputError` for the first rule that a well-formed policy breaks.

    Args:
        policy: as read field by field.
        source: its file, for the message.

    >>> from model.limits.policy import load_policy
    >>> lint(load_policy(), "policy.toml")
    """
    for finding in findings(policy, source):
        raise finding


def findings(policy: Policy, source: str | Path) -> list[InputError]:
    """Every rule that a well-formed policy breaks, in the order of its sections; arguments as of `lint`.

    >>> from model.limits.policy import load_policy
    >>> findings(load_policy(), "policy.toml")
    []
    """
    found: list[InputError] = []

    def refuse(broken: bool, field: str, rule: str, value: object) -> bool:
        if broken:
            found.append(InputError(source, field, rule, value))
        return broken

    for section in (_dates_and_law, _evidence, _amounts, _prices, _points, _programme, _ladder):
        section(policy, refuse)
    return found


def _ordered(values: Sequence[int], holds: Callable[[int, int], bool]) -> bool:
    return all(holds(later, earlier) for earlier, later in pairwise(values))


def _dates_and_law(policy: Policy, refuse: _Refuse) -> None:
    legal = policy.legal
    refuse(policy.expires_at <= policy.effective_from, "expires_at", "must be after effective_from", policy.expires_at)
    refuse(legal.max_age < legal.min_age, "legal.max_age", "must be >= legal.min_age", legal.max_age)
    field = f"legal.apr_cap.{legal.lender_type}"
    since = [cap.since for cap in legal.apr_caps]
    rising = all(a < b for a, b in pairwise(since))
    if not refuse(not since or not rising, field, "must be a list with rising since", [str(day) for day in since]):
        refuse(since[0] > policy.effective_from, f"{field}[0].since", "must not be after effective_from", since[0])
    codes = [fee.code for fee in policy.fee]
    refuse(len(set(codes)) < len(codes), "fee", "must have each code once", codes)


def _evidence(policy: Policy, refuse: _Refuse) -> None:
    refuse("default" not in policy.freshness, "freshness.default", "must be given", sorted(policy.freshness))
    for name, fresh in policy.freshness.items():
        short = fresh.stale_hours < fresh.fresh_hours
        refuse(short, f"freshness.{name}.stale_hours", "must be >= fresh_hours", fresh.stale_hours)
    wait, trust = policy.defer, policy.confidence
    refuse(wait.retry_hours > wait.max_hours, "defer.retry_hours", "must be <= max_hours", wait.retry_hours)
    falling = bool(trust.margin_e6) and _ordered(trust.margin_e6, le)
    refuse(not falling, "confidence.margin_e6", "must never rise with more blocks", trust.margin_e6)
    grades = len(trust.grades_e6) == 3 and _ordered(trust.grades_e6, ge)
    refuse(not grades, "confidence.grades_e6", "must be three margins, rising, for A, B and C", trust.grades_e6)


def _amounts(policy: Policy, refuse: _Refuse) -> None:
    limit, classes, rungs = policy.limit, policy.classes, policy.trial.rungs_fen
    refuse(limit.min_fen % limit.increment_fen > 0, "limit.min_fen", "must be whole increments", limit.min_fen)
    if not refuse(not rungs or not _ordered(rungs, gt), "trial.rungs_fen", "must rise strictly", rungs):
        uneven = any(rung % limit.increment_fen for rung in rungs)
        refuse(uneven, "trial.rungs_fen", f"must be whole increments of {limit.increment_fen}", rungs)
        least = limit.min_fen
        refuse(rungs[0] < least, "trial.rungs_fen[0]", f"must be >= limit.min_fen = {least}", rungs[0])
    for source in get_args(IncomeSource):
        refuse(source not in limit.income_haircut_bp, f"limit.income_haircut_bp.{source}", "must be given", None)
    for segment in get_args(Segment):
        field = f"limit.segment_cap_fen.{segment}"
        if not refuse(segment not in limit.segment_cap_fen, field, "must be given", None):
            cap, legal = limit.segment_cap_fen[segment], policy.legal.consumer_cap_fen
            refuse(cap > legal, field, f"must be <= legal.consumer_cap_fen = {legal}", cap)
    top = classes.trial_pd_max_bp
    over = classes.standard_pd_max_bp > top
    refuse(over, "classes.standard_pd_max_bp", f"must be <= trial_pd_max_bp = {top}", classes.standard_pd_max_bp)
    # a thin file that may get a seasoned limit may also get its rung: the larger one counts, so safer never gets less
    early = classes.review_refer_pd_bp < top
    refuse(early, "classes.review_refer_pd_bp", f"must be >= trial_pd_max_bp = {top}", classes.review_refer_pd_bp)
    over = classes.strong_thin_pd_max_bp > classes.standard_pd_max_bp
    refuse(over, "classes.strong_thin_pd_max_bp", "must be <= standard_pd_max_bp", classes.strong_thin_pd_max_bp)


def _prices(policy: Policy, refuse: _Refuse) -> None:
    prices, classes, legal = policy.pricing, policy.classes, policy.legal.apr_caps
    rising = bool(prices) and _ordered([tier.pd_max_bp for tier in prices], gt)
    if refuse(not rising, "pricing", "must have rising pd_max_bp", [tier.pd_max_bp for tier in prices]):
        return
    fair = _ordered([tier.apr_bp for tier in prices], ge)
    refuse(not fair, "pricing", "must never charge less for more risk (apr_bp)", [tier.apr_bp for tier in prices])
    last, top = prices[-1].pd_max_bp, classes.trial_pd_max_bp
    refuse(last != top, f"pricing[{len(prices) - 1}].pd_max_bp", f"must be classes.trial_pd_max_bp = {top}", last)
    begun = max((cap.since for cap in legal if cap.since <= policy.effective_from), default=policy.effective_from)
    fees = sum(fee.annual_bp for fee in policy.fee if not fee.contingent)
    in_force = [cap.bp for cap in legal if begun <= cap.since < policy.expires_at]
    lowest = min(in_force, default=10_000) - fees
    subsidised = policy.trial.subsidy_budget_fen > 0
    safest = 0
    for at, tier in enumerate(prices):
        field = f"pricing[{at}].apr_bp"
        rule = f"must be <= {lowest}, the lowest legal.apr_cap in force less the fees"
        refuse(tier.apr_bp > lowest, field, rule, tier.apr_bp)
        if safest < classes.standard_pd_max_bp:
            worst = min(tier.pd_max_bp, classes.standard_pd_max_bp)
            rule = f"must carry its worst PD of {worst} bp"
            refuse(not _carries(policy, tier.apr_bp, worst), field, rule, tier.apr_bp)
        elif not subsidised:
            rule = f"must carry its worst PD of {tier.pd_max_bp} bp, or trial.subsidy_budget_fen be declared"
            refuse(not _carries(policy, tier.apr_bp, tier.pd_max_bp), field, rule, tier.apr_bp)
        safest = tier.pd_max_bp


def _carries(policy: Policy, apr_bp: int, pd_bp: int) -> bool:
    """Whether a year's income on one fen of limit, at the largest discount, covers its expected loss."""
    costs = policy.economics
    off = max((tier.apr_off_bp for tier in policy.points), default=0)
    income = costs.avg_util_bp * (apr_bp - off - costs.fund_cost_bp - costs.opex_bp) * 10_000
    return income >= pd_bp * costs.lgd_bp * costs.ccf_bp


def _points(policy: Policy, refuse: _Refuse) -> None:
    tiers, base = policy.points, policy.limit.base_share_bp
    if refuse(not tiers or tiers[0].points > 0, "points[0].points", "must be 0", [tier.points for tier in tiers]):
        return
    refuse(not _ordered([tier.points for tier in tiers], gt), "points", "must rise in points", len(tiers))
    shares = [tier.share_bp for tier in tiers]
    refuse(shares[0] != base, "points[0].share_bp", f"must be limit.base_share_bp = {base}", shares[0])
    refuse(not _ordered(shares, ge), "points", "must never lower share_bp for more points", shares)
    offs = [tier.apr_off_bp for tier in tiers]
    refuse(not _ordered(offs, ge), "points", "must never lower apr_off_bp for more points", offs)
    field, lowest = f"points[{len(tiers) - 1}].apr_off_bp", min((tier.apr_bp for tier in policy.pricing), default=0)
    refuse(offs[-1] > lowest, field, f"must be <= {lowest}, the lowest price", offs[-1])


def _programme(policy: Policy, refuse: _Refuse) -> None:
    programme = policy.programme
    both = sorted(programme.earn.keys() & set(programme.excluded_sources))
    refuse(bool(both), f"programme.earn.{both[0] if both else ''}", "must not be one of excluded_sources", both)


def _ladder(policy: Policy, refuse: _Refuse) -> None:
    rule, late = policy.trial, policy.behaviour.late_e6
    rising = rule.demote_dpd_days < rule.freeze_dpd_days < rule.close_dpd_days
    days = (rule.demote_dpd_days, rule.freeze_dpd_days, rule.close_dpd_days)
    refuse(not rising, "trial.demote_dpd_days", "must be < freeze_dpd_days < close_dpd_days", days)
    falling = bool(late) and late[0] == 0 and _ordered(late, ge)
    refuse(not falling, "behaviour.late_e6", "must begin with 0 and never fall", late)
