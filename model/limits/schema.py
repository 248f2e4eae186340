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

LenderType = Literal["bank_coop", "consumer_finance", "microloan"]
Segment = Literal["salaried", "self_employed", "gig", "student", "other"]
IncomeSource = Literal["verified", "partner_estimated", "declared"]
Positive = Annotated[int, Whole(1, 10**14)]
Hours = Annotated[int, Whole(1, 24 * 366)]
Days = Annotated[int, Whole(0, 3660)]
Months = Annotated[int, Whole(1, 120)]
Cycles = Annotated[int, Whole(1, 24)]


@dataclass(frozen=True)
class AprCap:
    """The highest annual rate allowed from `since` on."""

    since: datetime
    bp: Bp


@dataclass(frozen=True)
class Legal:
    """What the law and the licence allow."""

    lender_type: LenderType
    consumer_cap_fen: Fen
    min_age: Annotated[int, Whole(18, 120)]
    max_age: Annotated[int, Whole(18, 120)]
    ineligible_segments: tuple[Segment, ...]
    apr_cap: Mapping[LenderType, tuple[AprCap, ...]]

    @property
    def apr_caps(self) -> tuple[AprCap, ...]:
        """Those of this lender's licence, the oldest first."""
        return self.apr_cap.get(self.lender_type, ())


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
    review_refer_pd_bp: Bp = 1950  # of policies that were kept before it was a field


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
class Fee:
    """What a loan costs a year on what is owed, beside interest; if not contingent, it counts against the legal cap."""

    code: Label
    zh: Annotated[str, Text(".{1,40}", "must be one line of at most 40 characters")]
    en: Annotated[str, Text(".{1,80}", "must be one line of at most 80 characters")]
    payee: Annotated[str, Text(".{1,80}", "must be one line of at most 80 characters")]
    annual_bp: Bp
    contingent: bool = False


@dataclass(frozen=True)
class Trial:
    """The ladder of small limits: how it is climbed, and what being late does.

    A cycle is clean where all due was paid in time, at least `min_use_bp` of the limit was used, and the principal was
    outstanding for `min_outstanding_days`.
    """

    rungs_fen: tuple[Positive, ...]
    clean_cycles_to_promote: Cycles
    clean_cycles_seasoned: Cycles
    clean_cycles_to_return: Cycles
    min_days_between_steps: Days
    min_use_bp: Bp
    min_outstanding_days: Days
    demote_dpd_days: Annotated[int, Whole(1, 365)]
    freeze_dpd_days: Annotated[int, Whole(1, 365)]
    close_dpd_days: Annotated[int, Whole(1, 365)]
    subsidy_budget_fen: Fen


@dataclass(frozen=True)
class Behaviour:
    """How an account's own record moves z: by clean cycles up to `clean_max`, and by late ones of the last 12 months.

    `late_e6[n]` stands for n late cycles, its last value for that many or more.
    """

    clean_e6: Annotated[int, Whole(-(10**6), 0)]
    clean_max: Annotated[int, Whole(0, 120)]
    late_e6: tuple[Spread, ...]

    def z_e6(self, clean: int, late: int) -> int:
        """What a record of `clean` and `late` cycles adds to z."""
        return self.clean_e6 * min(clean, self.clean_max) + self.late_e6[min(late, len(self.late_e6) - 1)]


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
class Programme:
    """The points programme: what earns points, what never does, what it may cost, and who is held out to measure it."""

    earn: Mapping[Name, Count]
    excluded_sources: tuple[Name, ...]
    monthly_cost_budget_fen: Fen
    holdout_bp: Bp


@dataclass(frozen=True)
class Portfolio:
    """What the book may take in all, and new small limits a day; over it, nobody's risk is the reason."""

    exposure_fen: Fen
    trials_per_day: Count
    trial_fen_per_day: Fen


@dataclass(frozen=True)
class Breakers:
    """Stops new small limits where, of the last `window` first payments, more than `first_payment_bp` were missed."""

    window: Annotated[int, Whole(10, 100_000)]
    first_payment_bp: Bp


@dataclass(frozen=True)
class Override:
    """How far a person may go: within soft caps, never past law, means or the hard gates."""

    el_budget_bp: Annotated[int, Whole(10_000, 30_000)]
    rungs: Annotated[int, Whole(0, 10)]
    second_person_above_fen: Fen
    valid_days: Annotated[int, Whole(1, 366)]


@dataclass(frozen=True)
class Experiment:
    """Champion and challenger: which share of subjects another policy decides for, or only in the shadow."""

    id: Label
    challenger_sha256: Sha256
    share_bp: Bp
    shadow: bool


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
    programme: Programme
    behaviour: Behaviour
    portfolio: Portfolio
    breakers: Breakers
    override: Override
    appeal_days: Annotated[int, Whole(1, 365)]
    fee: tuple[Fee, ...] = ()
    experiment: Experiment | None = None

    @cached_property
    def sha256(self) -> Sha256:
        """SHA-256 of the content; comments, order and spelling of numbers do not count."""
        return digest(self)

    def freshness_of(self, domain: str) -> Freshness:
        """The domain's own freshness, or the default."""
        return self.freshness.get(domain) or self.freshness["default"]
