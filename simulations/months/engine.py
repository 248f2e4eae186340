"""Many limit decisions at once, in whole numbers: what `model.limits.decide` gives for each, found with numpy.

It covers what a monthly book meets: new applicants and accounts, on data that has arrived. Deferral, referral to a
person and the reasons are the scalar function's alone; a late block is decided without, as after its deadline.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Self, cast, get_args

import numpy as np

from model.limits.offers import annuity_e6
from model.limits.request import Stage, Status
from model.limits.schema import IncomeSource, Policy
from model.limits.table import MICRO, DecisionBundle
from model.points import MAX_SCORE, score_thresholds
from model.points import pd_e8 as pd_e8_of
from simulations.months.applicants import SEGMENTS, Bools, Ints

STAGES: tuple[Stage, ...] = get_args(Stage)
STATUSES: tuple[Status, ...] = get_args(Status)
SOURCES: tuple[IncomeSource, ...] = get_args(IncomeSource)
DECLINE, TRIAL, APPROVE = range(3)
VERDICTS = ("DECLINE", "TRIAL", "APPROVE")
STANDARD_OFFER, SEASONING_OFFER, TRIAL_OFFER = range(3)  # in the order that ties are broken in
NEVER = -1
_BP = 10_000
_MAX = np.iinfo(np.int64).max
_CERTAIN_E6 = 40_000_000


@dataclass(frozen=True)
class _Columns:
    """Columns of one length."""

    def take(self, rows: Ints | slice) -> Self:
        """Some of the rows."""
        return type(self)(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    def __len__(self) -> int:
        return len(getattr(self, fields(self)[0].name))


@dataclass(frozen=True)
class Cases(_Columns):
    """What `n` requests say; places are those in `SEGMENTS` and `SOURCES`.

    Attributes:
        covered, available: shape (n, d), by the bundle's optional domains: a relationship with consent; usable now.
        tenure_months: shape (n, d).
        logits_e6: shape (n, d + 1), the lender's own sub-score last.
    """

    segment: Ints
    age_years: Ints
    income_fen: Ints
    income_source: Ints
    debt_service_fen: Ints
    other_credit_fen: Ints
    requested_fen: Ints
    covered: Bools
    available: Bools
    tenure_months: Ints
    logits_e6: Ints


@dataclass(frozen=True)
class Accounts(_Columns):
    """What `n` state snapshots say; places are those in `STAGES` and `STATUSES`.

    `days_since_increase` is `NEVER` where there was none; `points` stand in the request, not in the state.
    """

    stage: Ints
    status: Ints
    rung: Ints
    limit_fen: Ints
    dpd_now: Ints
    days_since_increase: Ints
    increases_365d: Ints
    clean_total: Ints
    lates_12m: Ints
    points: Ints


@dataclass(frozen=True)
class Offers(_Columns):
    """What was decided; `apr_bp` and `kind` mean nothing where `amount_fen` is 0."""

    verdict: Ints
    kind: Ints
    amount_fen: Ints
    apr_bp: Ints
    off_bp: Ints
    z_e6: Ints
    thin: Bools

    @property
    def score(self) -> Ints:
        """350 to 950."""
        return MAX_SCORE - np.searchsorted(np.array(score_thresholds()), self.z_e6, side="right")


def nobody(n: int) -> Accounts:
    """The state of new customers.

    >>> len(nobody(3)), nobody(3).days_since_increase[0]
    (3, np.int64(-1))
    """
    columns: dict[str, Any] = {field.name: np.zeros(n, dtype=np.int64) for field in fields(Accounts)}
    return Accounts(**columns | {"days_since_increase": np.full(n, NEVER)})


def pd_e8(z_e6: Ints) -> Ints:
    """`model.points.pd_e8` of many: in floating point, and exactly where that is too near a half to round by.

    >>> pd_e8(np.array([0, -2_995_732]))
    array([50000000,  4761906])
    """
    raw = 1e8 / (1 + np.exp(-np.clip(z_e6, -_CERTAIN_E6, _CERTAIN_E6) / MICRO))
    found = np.rint(raw).astype(np.int64)
    for row in np.flatnonzero(np.abs(raw - np.floor(raw) - 0.5) < 1e-4):
        found[row] = pd_e8_of(int(z_e6[row]))
    return found


@dataclass(frozen=True)
class Engine:
    """Policy and bundle, ready to decide for many.

    Attributes:
        policy: the lender's rules.
        bundle: the model.
        term_months: of every request.
    """

    policy: Policy
    bundle: DecisionBundle
    term_months: int = 12

    def decide(self, cases: Cases, accounts: Accounts) -> Offers:
        """The decisions, each as `decide(..., explain=False)` would give it with `decide_now` set."""
        z = self.z_e6(cases) + self._record_e6(accounts)
        upper = pd_e8(z + self._margin_e6(cases))
        thin = self.thin(cases)
        tier = np.minimum(np.searchsorted(self._prices, upper), len(self._prices) - 1)
        common, risk = self._caps(cases, accounts, upper, tier)
        share, off = self._points(accounts)
        raw = self._raw(cases, accounts, common, risk)
        open_to = self._open_to(accounts, upper, thin) & ~self._stopped(cases, accounts)[:, None]
        plain = np.where(open_to, self._rounded(raw), 0)
        kind = plain.argmax(axis=1)  # points neither choose the kind nor make an offer where there is none without them
        best = raw[np.arange(len(kind)), kind]
        best = np.where(kind == STANDARD_OFFER, np.minimum(common, risk * share // _BP), best)
        amount = np.where(plain.max(axis=1) > 0, self._rounded(best), 0)
        verdict = np.where(amount == 0, DECLINE, np.where(kind == TRIAL_OFFER, TRIAL, APPROVE))
        return Offers(verdict, kind, amount, self._aprs[tier] - off, off, z, thin)

    def z_e6(self, cases: Cases) -> Ints:
        """Log-odds by the fusion table, the account's record apart."""
        intercepts, weights = self._table
        places = 1 << np.arange(cases.covered.shape[1])
        pair = (cases.covered @ places) * (1 << len(places)) + cases.available @ places
        z: Ints = intercepts[pair] + (weights[pair] * cases.logits_e6).sum(axis=1) // MICRO
        return z

    def eligible(self, cases: Cases) -> Bools:
        """Whom the product may serve at all, by age and segment."""
        legal = self.policy.legal
        barred = np.array([name in legal.ineligible_segments for name in SEGMENTS])[cases.segment]
        fits: Bools = ~barred & (cases.age_years >= legal.min_age) & (cases.age_years <= legal.max_age)
        return fits

    def thin(self, cases: Cases) -> Bools:
        """Too few blocks, or too short a relationship in all."""
        rule, domains = self.policy.confidence, cases.covered.shape[1]
        used = cases.available.sum(axis=1)
        months = (cases.tenure_months * cases.available).sum(axis=1)
        short = (months < rule.thin_min_tenure_months) & (domains > 0)
        return cast(Bools, (used < min(rule.thin_min_blocks, domains)) | short)

    @cached_property
    def _table(self) -> tuple[Ints, Ints]:
        """Intercepts, shape (4^d,), and weights, shape (4^d, d + 1), by the two patterns' bits."""
        table = self.bundle.table
        domains = table.optional
        size = 1 << len(domains)
        intercepts = np.zeros(size * size, dtype=np.int64)
        weights = np.zeros((size * size, len(domains) + 1), dtype=np.int64)
        for related in range(size):
            for available in (a for a in range(size) if a & related == a):
                names = [[d for at, d in enumerate(domains) if bits >> at & 1] for bits in (related, available)]
                entry, pair = table.entry(*names), related * size + available
                intercepts[pair] = entry.intercept_e6
                for at, block in enumerate((*domains, table.own)):
                    weights[pair, at] = entry.weights_e6.get(block or "", 0)
        return intercepts, weights

    @cached_property
    def _prices(self) -> Ints:
        return np.array([tier.pd_max_bp * _BP for tier in self.policy.pricing])

    @cached_property
    def _aprs(self) -> Ints:
        return np.array([tier.apr_bp for tier in self.policy.pricing])

    def _record_e6(self, accounts: Accounts) -> Ints:
        rule = self.policy.behaviour
        late = np.array(rule.late_e6)
        clean = rule.clean_e6 * np.minimum(accounts.clean_total, rule.clean_max)
        return cast(Ints, clean + late[np.minimum(accounts.lates_12m, len(late) - 1)])

    def _margin_e6(self, cases: Cases) -> Ints:
        margin = np.array(self.policy.confidence.margin_e6)
        return cast(Ints, margin[np.minimum(cases.available.sum(axis=1), len(margin) - 1)])

    def _caps(self, cases: Cases, accounts: Accounts, upper: Ints, tier: Ints) -> tuple[Ints, Ints]:
        """The minimum of all caps, and of those that measure risk and means."""
        policy = self.policy
        rule, costs, velocity = policy.limit, policy.economics, policy.velocity
        haircut = np.array([rule.income_haircut_bp[source] for source in SOURCES])
        income = cases.income_fen * (_BP - haircut[cases.income_source]) // _BP
        free = np.maximum(0, income * rule.dsti_bp // _BP - cases.debt_service_fen)
        months = min(self.term_months, rule.term_months)
        annuity = np.array([annuity_e6(int(apr), months) for apr in self._aprs])
        # floor(floor(a / b) / c) = floor(a / (b c)); past 2^63 another cap is smaller anyway
        budget = min(rule.el_budget_fen * 10**16 // (costs.lgd_bp * costs.ccf_bp), _MAX)
        risk = np.minimum.reduce(
            [
                budget // np.maximum(upper, 1),
                free * annuity[tier] // 10**6,
                income * rule.income_multiple_bp // _BP,
                np.array([rule.segment_cap_fen[name] for name in SEGMENTS])[cases.segment],  # type: ignore[index]
                np.maximum(0, policy.legal.consumer_cap_fen - cases.other_credit_fen),
            ]
        )
        early = (accounts.days_since_increase != NEVER) & (
            accounts.days_since_increase < velocity.min_days_between_increases
        )
        held = accounts.status == STATUSES.index("hold")
        blocked = early | held | (accounts.increases_365d >= velocity.max_increases_365d)
        speed = accounts.limit_fen * np.where(blocked, _BP, velocity.max_step_bp) // _BP
        return np.minimum.reduce([risk, np.where(accounts.limit_fen > 0, speed, _MAX), cases.requested_fen]), risk

    def _raw(self, cases: Cases, accounts: Accounts, common: Ints, risk: Ints) -> Ints:
        """What each kind of offer would be before rounding and without points, shape (n, 3)."""
        rungs, policy = np.array(self.policy.trial.rungs_fen), self.policy
        usual = risk * policy.points[0].share_bp // _BP
        seasoned = np.minimum(usual, cases.requested_fen) * policy.classes.thin_seasoning_bp // _BP
        # only the first rung may pass the share
        small = np.minimum(rungs[np.minimum(accounts.rung, len(rungs) - 1)], np.maximum(usual, rungs[0]))
        if trials_stopped(policy):
            new = accounts.stage == STAGES.index("none")
            seasoned, small = np.where(new, 0, seasoned), np.where(new, 0, small)
        raw: Ints = np.minimum(common[:, None], np.stack([usual, seasoned, small], axis=1))
        return raw

    def _rounded(self, fen: Ints) -> Ints:
        """Down to the increment; nothing below the smallest limit."""
        limit = self.policy.limit
        return np.where(fen >= limit.min_fen, fen // limit.increment_fen * limit.increment_fen, 0)

    def _open_to(self, accounts: Accounts, upper: Ints, thin: Bools) -> Bools:
        """Which kinds of offer are open, shape (n, 3)."""
        classes = self.policy.classes
        able = upper <= classes.trial_pd_max_bp * _BP
        proven = ~thin | (accounts.stage == STAGES.index("standard"))
        standard = able & (upper <= classes.standard_pd_max_bp * _BP) & proven
        seasoned = able & ~standard & thin & (upper <= classes.strong_thin_pd_max_bp * _BP)
        small = able & (standard | thin | classes.thick_trial)
        return np.stack([standard, seasoned, small], axis=1)

    def _stopped(self, cases: Cases, accounts: Accounts) -> Bools:
        """The hard rules."""
        side = (accounts.status == STATUSES.index("frozen")) | (accounts.status == STATUSES.index("closed"))
        return cast(Bools, ~self.eligible(cases) | side | (accounts.dpd_now >= self.policy.trial.freeze_dpd_days))

    def _points(self, accounts: Accounts) -> tuple[Ints, Ints]:
        """Share of the risk cap and discount; under a risk hold, those of no points."""
        tiers = self.policy.points
        at = np.searchsorted([tier.points for tier in tiers], accounts.points, side="right") - 1
        hold = (accounts.status != STATUSES.index("open")) | (accounts.dpd_now > 0)
        at = np.where(hold, 0, at)
        return np.array([t.share_bp for t in tiers])[at], np.array([t.apr_off_bp for t in tiers])[at]


def trials_stopped(policy: Policy) -> bool:
    """Whether the policy's own daily quota lets no new small limit through.

    >>> from model.limits.policy import load_policy
    >>> trials_stopped(load_policy())
    False
    """
    return min(policy.portfolio.trials_per_day, policy.portfolio.trial_fen_per_day) == 0
