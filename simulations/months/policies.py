"""The policies that are compared: the given one, three other ways to treat thin files, and what caps and points change.

Each is the given policy with some of its own fields changed, and passes the lint that any policy file must pass.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from model.limits.lint import lint
from model.limits.schema import AprCap, Economics, Policy, Tier

GIVEN, DECLINE, FULL, LADDER = "E", "A", "B", "C"
APR_CAPS = (2400, 2000, 1800, 1500, 1200)
_BP = 10_000


@dataclass(frozen=True)
class Variant:
    """A policy under a name that readers see."""

    code: str
    zh: str
    en: str
    policy: Policy


def variants(policy: Policy, others: tuple[tuple[str, Policy], ...] = ()) -> tuple[Variant, ...]:
    """The given policy last but for `others`, which are named by the file they come from.

    >>> from model.limits.policy import load_policy
    >>> [variant.code for variant in variants(load_policy())]
    ['A', 'B', 'C', 'E']
    """
    quota = replace(policy.portfolio, trials_per_day=0)
    nobody_thin = replace(policy.confidence, thin_min_blocks=0, thin_min_tenure_months=0)
    nobody_strong = replace(policy.classes, strong_thin_pd_max_bp=0)
    found = [
        Variant(DECLINE, "拒绝薄档案", "decline thin files", replace(policy, portfolio=quota)),
        Variant(FULL, "一次给足额度", "full limit at once", replace(policy, confidence=nobody_thin)),
        Variant(
            LADDER, "薄档案一律从试用额度起步", "ladder for all thin files", replace(policy, classes=nobody_strong)
        ),
        Variant(GIVEN, "给定政策", "the policy as given", policy),
    ]
    found += [Variant(name, f"对比政策 {name}", f"policy {name}", other) for name, other in others]
    for variant in found:
        lint(variant.policy, f"variation {variant.code}")
    return tuple(found)


def break_even_bp(costs: Economics, apr_bp: int) -> int:
    """The PD in basis points at which a year's income on a limit equals its expected loss, floored.

    >>> from model.limits.policy import load_policy
    >>> [break_even_bp(load_policy().economics, apr) for apr in (2400, 2000, 1800, 1500, 1200)]
    [1362, 1089, 953, 749, 544]
    """
    income = costs.avg_util_bp * max(apr_bp - costs.fund_cost_bp - costs.opex_bp, 0)
    return income * _BP // (costs.lgd_bp * costs.ccf_bp)


def capped(policy: Policy, cap_bp: int) -> Policy:
    """The policy under another legal cap on the annual rate, fees included.

    Where the cap binds, prices above it are cut to it, nobody is served above the PD at which it breaks even, and
    points take nothing off the price. A cap above all prices changes nothing.

    >>> from model.limits.policy import load_policy
    >>> tight = capped(load_policy(), 1200)
    >>> [(tier.pd_max_bp, tier.apr_bp) for tier in tight.pricing], tight.classes.trial_pd_max_bp
    ([(155, 900), (273, 1200), (476, 1200), (544, 1200)], 544)
    """
    rate = cap_bp - sum(fee.annual_bp for fee in policy.fee if not fee.contingent)
    legal = replace(
        policy.legal,
        apr_cap={**policy.legal.apr_cap, policy.legal.lender_type: (AprCap(policy.effective_from, cap_bp),)},
    )
    if rate >= policy.pricing[-1].apr_bp:
        return replace(policy, legal=legal)
    line, old = break_even_bp(policy.economics, rate), policy.classes
    top = min(old.trial_pd_max_bp, line)
    classes = replace(
        old,
        trial_pd_max_bp=top,
        standard_pd_max_bp=min(old.standard_pd_max_bp, top),
        strong_thin_pd_max_bp=min(old.strong_thin_pd_max_bp, top),
    )
    kept = [tier for tier in policy.pricing if tier.pd_max_bp < top]
    last = policy.pricing[len(kept)]
    pricing = tuple(Tier(tier.pd_max_bp, min(tier.apr_bp, rate)) for tier in (*kept, Tier(top, last.apr_bp)))
    points = tuple(replace(tier, apr_off_bp=0) for tier in policy.points)
    found = replace(policy, legal=legal, classes=classes, pricing=pricing, points=points)
    lint(found, f"policy under a cap of {cap_bp} bp")
    return found


def without_points(policy: Policy) -> Policy:
    """The policy without a points programme.

    >>> from model.limits.policy import load_policy
    >>> dict(without_points(load_policy()).programme.earn)
    {}
    """
    return replace(policy, programme=replace(policy.programme, earn={}))
