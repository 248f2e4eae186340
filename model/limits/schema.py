"""The fields of a limit policy, `limit-policy/1`, section by section.

Every amount is in fen, every rate in basis points, every log-odds in micro-logit. Ranges are read here, field by field;
what must hold between fields is in `model.limits.lint`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Annotated, Literal

from model.limits.fields import Bp, Count, Fen, Label, Name, Sha256, Spread, Text, Whole, digest

Segment = Literal["salaried", "self_employed", "gig", "student", "other"]
IncomeSource = Literal["verified", "partner_estimated", "declared"]
Positive = Annotated[int, Whole(1, 10**14)]
Hours = Annotated[int, Whole(1, 24 * 366)]
Days = Annotated[int, Whole(0, 3660)]
Months = Annotated[int, Whole(1, 120)]


@dataclass(frozen=True)
class AprCap:
    """The highest annual rate allowed from `since` on."""

    since: datetime
    bp: Bp


@dataclass(frozen=True)
class Legal:
    """What the law and the licence allow."""

    lender_type: Literal["bank_coop", "consumer_finance", "microloan"]
    consumer_cap_fen: Fen
    min_age: Annotated[int, Whole(18, 120)]
    max_age: Annotated[int, Whole(18, 120)]
    ineligible_segments: tuple[Segment, ...]
    apr_cap: tuple[AprCap, ...]


@dataclass(frozen=True)
class Economics:
    """What a loan costs and brings: for checking the prices when the policy is loaded."""

    lgd_bp: Annotated[int, Whole(1, 10_000)]
    ccf_bp: Annotated[int, Whole(1, 10_000)]
    fund_cost_bp: Bp
    opex_bp: Bp
    avg_util_bp: Bp


@dataclass(frozen=True)
class Classes:
    """Up to which upper PD each kind of offer is open."""

    standard_pd_max_bp: Bp
    trial_pd_max_bp: Bp
    strong_thin_pd_max_bp: Bp
    thin_seasoning_bp: Bp
    thick_trial: bool


@dataclass(frozen=True)
class Freshness:
    """How old one domain's data may be, what staleness adds to the margin, and how far the domain may move z."""

    fresh_hours: Hours
    stale_hours: Hours
    stale_margin_e6: Spread
    swing_e6: Spread

    @cached_property
    def fresh_for(self) -> timedelta:
        """How long data is fresh."""
        return timedelta(hours=self.fresh_hours)

    @cached_property
    def stale_for(self) -> timedelta:
        """How long data may be used at all."""
        return timedelta(hours=self.stale_hours)


@dataclass(frozen=True)
class Defer:
    """How long and how often a decision may wait for late data."""

    max_hours: Hours
    max_times: Annotated[int, Whole(0, 10)]
    retry_hours: Hours
    disputed_always: bool


@dataclass(frozen=True)
class Confidence:
    """The margin by number of usable blocks, the grades, and what makes a file thin."""

    margin_e6: tuple[Spread, ...]
    grades_e6: tuple[Spread, ...]
    se_mult_bp: Annotated[int, Whole(0, 100_000)]
    thin_min_blocks: Annotated[int, Whole(0, 20)]
    thin_min_tenure_months: Count


@dataclass(frozen=True)
class Limit:
    """The amounts: increment, smallest limit, and the parameters of the caps."""

    increment_fen: Positive
    min_fen: Positive
    el_budget_fen: Positive
    dsti_bp: Bp
    income_multiple_bp: Annotated[int, Whole(0, 1_000_000)]
    base_share_bp: Bp
    term_months: Months
    valid_days: Annotated[int, Whole(1, 366)]
    income_haircut_bp: Mapping[IncomeSource, Bp]
    segment_cap_fen: Mapping[Segment, Fen]


@dataclass(frozen=True)
class Tier:
    """One price: the annual rate up to an upper PD."""

    pd_max_bp: Annotated[int, Whole(1, 10_000)]
    apr_bp: Bp


@dataclass(frozen=True)
class Trial:
    """The ladder of small limits."""

    rungs_fen: tuple[Positive, ...]
    clean_cycles_to_promote: Annotated[int, Whole(1, 24)]
    min_days_between_steps: Days
    min_use_bp: Bp
    freeze_dpd_days: Annotated[int, Whole(1, 365)]
    subsidy_budget_fen: Fen


@dataclass(frozen=True)
class Velocity:
    """How fast a limit may grow and how often one may apply."""

    max_step_bp: Annotated[int, Whole(10_000, 100_000)]
    min_days_between_increases: Days
    max_increases_365d: Count
    max_applications_30d: Annotated[int, Whole(1, 100)]


@dataclass(frozen=True)
class PointsTier:
    """From `points` on: the share of the risk cap that is granted, and what is taken off the price."""

    points: Count
    share_bp: Bp
    apr_off_bp: Bp


@dataclass(frozen=True)
class Policy:
    """One version of one product's policy.

    >>> from model.limits.policy import load_policy
    >>> policy = load_policy()
    >>> policy.id, policy.limit.min_fen, len(policy.sha256)
    ('cn-consumer', 50000, 64)
    """

    schema: Literal["limit-policy/1"]
    id: Label
    version: Label
    product: Label
    effective_from: datetime
    expires_at: datetime
    currency: Annotated[str, Text("[A-Z]{3}", "must be a currency code of three capitals")]
    legal: Legal
    economics: Economics
    classes: Classes
    freshness: Mapping[Name, Freshness]
    defer: Defer
    confidence: Confidence
    limit: Limit
    pricing: tuple[Tier, ...]
    trial: Trial
    velocity: Velocity
    points: tuple[PointsTier, ...]

    @cached_property
    def sha256(self) -> Sha256:
        """SHA-256 of the content; comments, order and spelling of numbers do not count."""
        return digest(self)

    def freshness_of(self, domain: str) -> Freshness:
        """The domain's own freshness, or the default."""
        return self.freshness.get(domain) or self.freshness["default"]
