"""The accounts of a book in columns, and what a billed month or an offer does to them.

The rules are those of `model.limits.ladder`, applied to many accounts at once; months are twelfths of 365 days.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from model.limits.schema import Policy
from simulations.months.applicants import Bools, Floats, Ints
from simulations.months.engine import NEVER, STAGES, STATUSES, Accounts, Offers

NONE, TRIAL, SEASONED, STANDARD = range(len(STAGES))
STAGE_OF = np.array([STANDARD, SEASONED, TRIAL])  # by kind of offer


@dataclass
class Ladder:
    """Every applicant's account, one entry each; without a limit it has not been opened.

    Attributes:
        origin: the kind of the first offer.
        opened, stepped: month of the first offer and of the last step.
        clean, clean_total: clean cycles since the last step, and ever.
        hold: paid cycles still to wait.
        frozen: cycles paid since it was frozen, `NEVER` if it is not.
        late, raised: shape (n, 12), by month of the year.
    """

    limit: Ints
    apr: Ints
    off: Ints
    stage: Ints
    rung: Ints
    origin: Ints
    opened: Ints
    stepped: Ints
    clean: Ints
    clean_total: Ints
    hold: Ints
    frozen: Ints
    points: Ints
    owed: Floats
    closed: Bools
    graduated: Bools
    late: Bools
    raised: Bools

    def begin(self, month: int) -> None:
        """Forgets what happened a year ago."""
        self.late[:, month % 12] = self.raised[:, month % 12] = False

    def open(self, rows: Ints, offers: Offers, policy: Policy, month: int) -> None:
        """New customers take their offers."""
        self.rung[rows] = rung_of(policy, offers.amount_fen)
        self.limit[rows], self.apr[rows], self.off[rows] = offers.amount_fen, offers.apr_bp, offers.off_bp
        self.origin[rows], self.stage[rows] = offers.kind, STAGE_OF[offers.kind]
        self.opened[rows] = self.stepped[rows] = month

    def bill(self, rows: Ints, dpd: Ints, used: Bools, policy: Policy, month: int) -> None:
        """A cycle was paid: `dpd` days late, with `used` telling whether enough of the limit was drawn."""
        rule = policy.trial
        late, frozen, held = dpd > 0, self.frozen[rows] != NEVER, self.hold[rows] > 0
        waiting = rows[~late & frozen]
        self.frozen[waiting] += 1
        self.frozen[waiting[self.frozen[waiting] >= rule.clean_cycles_to_return]] = NEVER
        self.hold[waiting] = 0
        self.hold[rows[~late & ~frozen & held]] -= 1
        clean = rows[~late & ~frozen & ~held & used]
        self.clean[clean] += 1
        self.clean_total[clean] += 1
        self.points[clean] += policy.programme.earn.get("on_time_payment", 0)
        missed = rows[late]
        self.clean[missed], self.late[missed, month % 12] = 0, True
        self.hold[missed] = np.maximum(self.hold[missed], 1)
        self.frozen[rows[late & frozen]] = 0
        rungs = np.array(rule.rungs_fen)
        down = rows[(dpd >= rule.demote_dpd_days) & (dpd < rule.freeze_dpd_days)]
        ice = rows[dpd >= rule.freeze_dpd_days]
        below = np.where(self.stage[down] == TRIAL, self.rung[down] - 1, rung_of(policy, self.limit[down] - 1))
        self.rung[down], self.hold[down] = np.maximum(below, 0), 2
        self.rung[ice] = self.frozen[ice] = 0
        for cut in (down, ice):
            self.stage[cut] = TRIAL
            self.limit[cut] = np.minimum(self.limit[cut], rungs[self.rung[cut]])

    def due(self, policy: Policy, month: int, asked: Ints) -> Ints:
        """Whose step is due at the end of `month`: the ladder's, or of those who had asked for more than they got.

        A step that the decision did not grant is asked for again after as many clean cycles.
        """
        rule = policy.trial
        able = (self.clean > 0) & ~self.closed & (self.hold == 0) & (self.frozen == NEVER)
        rows = np.flatnonzero(able & ((self.stage != STANDARD) | (self.limit < asked)))
        needed = np.where(self.stage[rows] == SEASONED, rule.clean_cycles_seasoned, rule.clean_cycles_to_promote)
        more = self.clean[rows] - needed
        due = (more >= 0) & (more % rule.clean_cycles_to_promote == 0)
        ready: Ints = rows[due & (self.days_since_step(rows, month) >= rule.min_days_between_steps)]
        return ready

    def days_since_step(self, rows: Ints, month: int) -> Ints:
        """From the last step to the end of `month`."""
        return (month + 1 - self.stepped[rows]) * 365 // 12

    def accounts(self, rows: Ints, policy: Policy, month: int) -> Accounts:
        """What a decision sees of accounts whose step is due: the rung they have earned is already in it."""
        stage, rung = self.stage[rows], self.rung[rows]
        top = rung + 1 >= len(policy.trial.rungs_fen)
        climbs = (stage == TRIAL) & ~top
        nil = np.zeros(len(rows), dtype=np.int64)
        return Accounts(
            stage=np.where((stage == SEASONED) | ((stage == TRIAL) & top), STANDARD, stage),
            status=nil + STATUSES.index("open"),
            rung=rung + climbs,
            limit_fen=self.limit[rows],
            dpd_now=nil,
            days_since_increase=self.days_since_step(rows, month),
            increases_365d=self.raised[rows].sum(axis=1),
            clean_total=self.clean_total[rows],
            lates_12m=self.late[rows].sum(axis=1),
            points=self.points[rows],
        )

    def accept(self, rows: Ints, offers: Offers, seen: Accounts, policy: Policy, month: int) -> Ints:
        """Customers take what is no less than they have; returns whose account moved.

        A limit is worth the rung below it at least.
        """
        rung = np.maximum(np.maximum(seen.rung, self.rung[rows]), rung_of(policy, offers.amount_fen))
        stage = np.where(self.stage[rows] == STANDARD, STANDARD, STAGE_OF[offers.kind])
        moved = (stage != self.stage[rows]) | (rung != self.rung[rows]) | (offers.amount_fen != self.limit[rows])
        taken = (offers.amount_fen > 0) & (offers.amount_fen >= self.limit[rows]) & moved
        new: Ints = rows[taken]
        self.raised[new, month % 12] = offers.amount_fen[taken] > self.limit[new]
        self.limit[new] = offers.amount_fen[taken]
        self.apr[new], self.off[new] = offers.apr_bp[taken], offers.off_bp[taken]
        self.stage[new], self.rung[new] = stage[taken], rung[taken]
        self.clean[new], self.stepped[new] = 0, month + 1
        return new


def rung_of(policy: Policy, limit_fen: Ints) -> Ints:
    """`model.limits.offers.rung_of` of many limits.

    >>> from model.limits.policy import load_policy
    >>> rung_of(load_policy(), np.array([0, 99_999, 100_000, 2_000_000]))
    array([0, 0, 1, 3])
    """
    place: Ints = np.searchsorted(np.array(policy.trial.rungs_fen), limit_fen, side="right") - 1
    return np.maximum(place, 0)


def new_ladder(n: int) -> Ladder:
    """Nobody has an account yet.

    >>> len(new_ladder(2).limit), int(new_ladder(2).frozen[0])
    (2, -1)
    """
    still = {name: np.zeros(n, dtype=np.int64) for name in Ladder.__dataclass_fields__}
    never = {name: np.full(n, NEVER) for name in ("origin", "frozen")}
    flags = {name: np.zeros(n, dtype=bool) for name in ("closed", "graduated")}
    year = {name: np.zeros((n, 12), dtype=bool) for name in ("late", "raised")}
    return Ladder(**still | never | flags | year | {"owed": np.zeros(n)})
