"""A book of accounts, month by month: apply, draw, pay or not, climb the ladder, and what that earns.

A month admits new applicants, bills every account (default with the monthly hazard of its true PD; else paid, in time
or late), and decides again for whoever has a step due. From month 9 on the intercept of files with few blocks is fitted
to the book's own outcomes, every three months. Left out, since the book is a scale model: the policy's total exposure
and its breakers (a quota of no new small limits at all is kept), and deferral, which is over within the month.
"""

from __future__ import annotations

import numpy as np

from model.descent import sigmoid
from model.limits.schema import Policy
from model.limits.table import MICRO, DecisionBundle
from simulations.months.accounts import SEASONED, STANDARD, TRIAL, new_ladder
from simulations.months.applicants import Bools, Floats, Ints
from simulations.months.arrivals import Arrivals
from simulations.months.engine import NEVER, SEASONING_OFFER, TRIAL_OFFER, Engine, nobody
from simulations.months.evidence import recalibrated
from simulations.months.scenarios import World

FIXED_FEN, QUERY_FEN = 100, 200  # an account's month, and one partner's answer
BURDEN = 0.20  # logit per log unit of limit above one month's income
LATE_LEVEL, LATE_SLOPE = -1.7, 0.7  # log-odds of a late cycle, by the log-odds of default
LATE_DAYS, MOST_DAYS = 9.0, 89  # days past due of a late cycle: mean beyond the first, most
USAGE_SPREAD = 0.35  # of a month's log-odds of usage around the account's own
RUN_OFF = 5 / 6  # of a debt that may not be drawn again, a month
RECALIBRATED_FROM, RECALIBRATED_EVERY, PRIOR_DEFAULTS = 9, 3, 10.0
FIRST_YEAR = 12
_BP = 10_000

MonthRow = dict[str, float]


def monthly(pd: Floats) -> Floats:
    """The hazard of a month that adds up to `pd` over twelve.

    >>> float(monthly(np.array([0.12])).round(6)[0])
    0.010596
    """
    return 1 - (1 - pd) ** (1 / 12)


class Book:
    """One policy's book over the months of some arrivals in one world.

    Attributes:
        ladder: every applicant's account as it stands.
        shift: logits last added to files with few blocks.
    """

    def __init__(self, arrivals: Arrivals, policy: Policy, bundle: DecisionBundle, world: World) -> None:
        self._arrivals, self._policy, self._bundle, self._world = arrivals, policy, bundle, world
        self._engine = Engine(policy, bundle)
        self.ladder = new_ladder(len(arrivals.cases))
        rule, scenario = world.confidence, world.scenario
        self._thin = arrivals.thin(rule.thin_min_blocks, rule.thin_min_tenure_months)
        self._few = arrivals.cases.available.sum(axis=1) < rule.thin_min_blocks
        self._fraud = self._thin & (arrivals.fraud < scenario.fraud_share)
        self._risk = arrivals.people.logit_pd + scenario.thin_logit * self._thin + world.reward_logit
        self._scored = _hazard_e6(self._engine.z_e6(arrivals.cases))
        self._predicted = self._scored.copy()
        self._seen, self._expected, self.shift = 0.0, 0.0, 0.0

    def run(self) -> list[MonthRow]:
        """One row of sums a month; amounts in fen."""
        return [self._month(month) for month in range(self._arrivals.months)]

    def _month(self, month: int) -> MonthRow:
        self.ladder.begin(month)
        row: MonthRow = {"month": month + 1, "thin_shift": self.shift} | self._admit(month) | self._bill(month)
        row["queries"] += self._review(month)
        row["profit"] = row["income"] - row["loss"] - row["fixed"] - row["queries"]
        self._recalibrate(month + 1)
        return row | self._cohorts()

    def _admit(self, month: int) -> MonthRow:
        size = self._arrivals.per_month
        rows = np.arange(month * size, (month + 1) * size)
        cases = self._arrivals.cases.take(rows)
        offers = self._engine.decide(cases, nobody(size))
        served, thin, taken = self._engine.eligible(cases), self._thin[rows], offers.amount_fen > 0
        self.ladder.open(rows[taken], offers.take(np.flatnonzero(taken)), self._policy, month)
        self._predicted[rows] = _hazard_e6(offers.z_e6)
        return {
            "applicants": float(served.sum()),
            "approved": float(taken.sum()),
            "thin_applicants": float((served & thin).sum()),
            "thin_approved": float((taken & thin).sum()),
            "queries": float(QUERY_FEN * cases.available[served].sum()),
        }

    def _bill(self, month: int) -> MonthRow:
        """Draws, defaults, lateness and the ladder's answer, and the cash of one month."""
        at = self.ladder
        rows = np.flatnonzero((at.limit > 0) & ~at.closed)
        chance, lateness = self._arrivals.luck[month][:, rows].astype(np.float64)
        share = sigmoid(self._arrivals.people.usage[rows] + USAGE_SPREAD * self._arrivals.moods[month][rows])
        at.owed[rows] = self._owed(rows, share)
        fraud = self._fraud[rows] & (at.opened[rows] == month)
        risk = self._risk_now(rows, month)
        bad = fraud | (chance < monthly(sigmoid(risk)))
        lateness = lateness / sigmoid(LATE_LEVEL + LATE_SLOPE * risk)
        dpd = np.where(bad | (lateness >= 1), 0, _days(lateness))
        row = self._cash(rows, bad, fraud) | self._counts(rows, bad, month) | {"late": float((dpd > 0).sum())}
        few = rows[self._few[rows]]
        self._seen += float(bad[self._few[rows]].sum())
        self._expected += float(self._scored[few].sum())
        at.closed[rows[bad]] = True
        used = share * _BP >= self._policy.trial.min_use_bp
        at.bill(rows[~bad], dpd[~bad], used[~bad], self._policy, month)
        return row

    def _cash(self, rows: Ints, bad: Bools, fraud: Bools) -> MonthRow:
        """What a month's accounts bring and cost: `thin_result` is that of thin files, `trial_result` of the rungs."""
        at, costs = self.ladder, self._world.economics
        limit, owed, frozen = at.limit[rows], at.owed[rows], at.frozen[rows] != NEVER
        line = np.where(frozen, owed, np.maximum(owed, costs.ccf_bp * limit / _BP))
        loss = bad * np.where(fraud, limit, line) * costs.lgd_bp / _BP
        income = ~bad * owed * (at.apr[rows] - costs.fund_cost_bp - costs.opex_bp) / _BP / 12
        result = income - loss - FIXED_FEN
        small = (at.stage[rows] == TRIAL) & (at.origin[rows] == TRIAL_OFFER)
        sums = {
            "drawn": owed.sum(),
            "income": income.sum(),
            "loss": loss.sum(),
            "expected_loss": (self._predicted[rows] * line).sum() * costs.lgd_bp / _BP,
            "fixed": FIXED_FEN * len(rows),
            "points_cost": (~bad * owed * at.off[rows]).sum() / _BP / 12,
            "thin_result": result[self._thin[rows]].sum(),
            "trial_result": result[small].sum(),
        }
        return {name: float(value) for name, value in sums.items()}

    def _counts(self, rows: Ints, bad: Bools, month: int) -> MonthRow:
        """Accounts and defaults; a label is an outcome learned on trial: defaulted within a year, or lasted it."""
        at, age = self.ladder, month - self.ladder.opened[rows]
        known = np.where(bad, age < FIRST_YEAR, age == FIRST_YEAR - 1)
        sums = {
            "accounts": len(rows),
            "defaults": bad.sum(),
            "first_payment_defaults": (bad & (age == 0)).sum(),
            "thin_first_payment_defaults": (bad & self._thin[rows] & (age == 0)).sum(),
            "labels": (known & (at.origin[rows] == TRIAL_OFFER)).sum(),
        }
        return {name: float(value) for name, value in sums.items()}

    def _owed(self, rows: Ints, share: Floats) -> Floats:
        """What is drawn; of a debt above the limit, or of a frozen account, what is not yet paid back."""
        limit, before, frozen = self.ladder.limit[rows], self.ladder.owed[rows], self.ladder.frozen[rows] != NEVER
        left = np.where(frozen | (before > limit), before * RUN_OFF, 0.0)
        return np.where(frozen, left, np.maximum(share * limit, left))

    def _risk_now(self, rows: Ints, month: int) -> Floats:
        """The true log-odds of default in a year: limits far above income, and a recession, raise them."""
        ratio = self.ladder.limit[rows] / np.maximum(self._arrivals.people.income_fen[rows], 1)
        scenario = self._world.scenario
        shock = scenario.shock_logit * (month >= scenario.shock_month)
        return self._risk[rows] + BURDEN * np.log(np.maximum(ratio, 1.0)) + shock

    def _review(self, month: int) -> float:
        """Decides again for accounts with a step due; returns what the partners' answers cost."""
        at, cases = self.ladder, self._arrivals.cases
        rows = at.due(self._policy, month, cases.requested_fen)
        some, seen = cases.take(rows), at.accounts(rows, self._policy, month)
        offers = self._engine.decide(some, seen)
        self._predicted[rows] = _hazard_e6(offers.z_e6)
        moved = at.accept(rows, offers, seen, self._policy, month)
        at.graduated[moved] |= (at.origin[moved] == TRIAL_OFFER) & (at.stage[moved] == STANDARD)
        return float(QUERY_FEN * some.available.sum())

    def _cohorts(self) -> MonthRow:
        """How many accounts stand where at the end of the month; on a rung, those that began on the ladder."""
        at = self.ladder
        rows = np.flatnonzero((at.limit > 0) & ~at.closed)
        stage, frozen, began = at.stage[rows], at.frozen[rows] != NEVER, at.origin[rows] == TRIAL_OFFER
        small = (stage == TRIAL) & ~frozen
        rungs = np.bincount(at.rung[rows[small & began]], minlength=len(self._policy.trial.rungs_fen))
        counts = {
            "demoted": small & ~began,
            "seasoned": stage == SEASONED,
            "standard": stage == STANDARD,
            "frozen": frozen,
            "trial_standard": at.graduated[rows] & (stage == STANDARD),
            "seasoned_standard": (at.origin[rows] == SEASONING_OFFER) & (stage == STANDARD),
            "trials_ever": at.origin == TRIAL_OFFER,
            "graduated": at.graduated,
        }
        row = {f"trial_r{rung}": float(count) for rung, count in enumerate(rungs)}
        return row | {name: float(flags.sum()) for name, flags in counts.items()}

    def _recalibrate(self, month: int) -> None:
        """Fits the intercept of files with few blocks to what the book has seen of them."""
        if month >= RECALIBRATED_FROM and (month - RECALIBRATED_FROM) % RECALIBRATED_EVERY == 0:
            self.shift = float(np.log((self._seen + PRIOR_DEFAULTS) / (self._expected + PRIOR_DEFAULTS)))
            fewer = self._world.confidence.thin_min_blocks
            self._engine = Engine(self._policy, recalibrated(self._bundle, self.shift, fewer))


def _hazard_e6(z_e6: Ints) -> Floats:
    return monthly(sigmoid(z_e6 / MICRO))


def _days(share: Floats) -> Ints:
    """Days past due, at least one, from a number that is uniform in (0, 1)."""
    days = 1 + np.floor(-LATE_DAYS * np.log(np.clip(share, 1e-7, 1.0)))
    whole: Ints = np.minimum(days, MOST_DAYS).astype(np.int64)
    return whole
