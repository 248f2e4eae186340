"""What a private sweep costs: its candidates with their plans, the one charge for all of them, and who is charged."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from clients.cohort import sizes_of
from clients.config import Node
from clients.orders import ledger
from model.inputs import InputError
from privacy.accounting import gaussian_epsilon
from privacy.plan import EVERYBODY, HELD_OUT, TRAIN, BudgetExceeded, Line, Plan, Release, on_one_person
from privacy.selection import GEOMETRIC, POISSON, Repeats, Selection, cheapest, mu_of_a_run
from server.budget import open_book
from server.planning import RunPlan, make_plan
from server.roster import planned
from simulations.settings import Settings

SHAPES = {"poisson": POISSON, "geometric": GEOMETRIC}
SELECTS = ("auto", "once", *SHAPES)


@dataclass(frozen=True)
class Candidate:
    """One arm that may be selected: its simulation, its holders' files, and the lines of its plan once it is priced."""

    name: str
    settings: Settings
    node: Node
    lines: tuple[Line, ...] = ()

    def check(self) -> None:
        """Raises `InputError` where its releases are not what the theorems are used for, which no budget changes."""
        if any(not isinstance(line, Release) or line.probability != 1.0 for line in self._planned(math.inf, 0.5)):
            rule = "draws batches or tells labels: a private sweep takes Gaussian noise on full batches only"
            raise InputError("command line", "--arms", rule, self.name, "leave it out, or drop privacy.label-epsilon")

    def priced(self, epsilon: float, delta: float) -> Candidate:
        """With the plan of a run at (epsilon, delta); raises `InputError` where so little budget gives no model."""
        try:
            lines = self._planned(epsilon, delta)
        except InputError as error:
            where = f"{self.name} at epsilon {epsilon:.3g} a run: {error.file}"
            raise InputError(where, error.field, error.rule, error.value, error.remedy) from None
        return replace(self, lines=lines, settings=replace(self.settings, epsilon=epsilon, delta=delta))

    def _planned(self, epsilon: float, delta: float) -> tuple[Line, ...]:
        federation, asked = self.node.federation, self.settings
        terms = replace(federation.privacy, epsilon=epsilon, delta=delta)
        roster = planned(replace(federation, privacy=terms), sizes_of(self.node))
        return make_plan(roster, asked.engine, asked.rounds, asked.trust).plan.lines

    def mu(self, persons: str) -> float:
        """Sensitivity over stddev of the whole run, to one of these persons."""
        touching = on_one_person(self.lines).get(persons, [])
        return math.sqrt(math.fsum(line.event.mu_squared for line in touching if isinstance(line, Release)))

    @property
    def slack(self) -> tuple[float, float]:
        """How far the whole run's noise is from what it is accounted as: (ratio, tail)."""
        ratio, tail = zip(*(line.slack for line in self.lines), strict=True)
        return math.fsum(ratio), math.fsum(tail)


@dataclass(frozen=True)
class Priced:
    """A sweep that is ready to run: its candidates, how often they run (None: each once), and what is charged."""

    candidates: tuple[Candidate, ...]
    repeats: Repeats | None
    charge: RunPlan


def priced(candidates: Sequence[Candidate], select: str, epsilon: float, node: Node) -> Priced:
    """The candidates with the most that each run may cost, so that the whole keeps to `epsilon`, noise grid included.

    Args:
        candidates: two or more.
        select: one of `SELECTS`.
        epsilon: of the whole sweep on one person.
        node: the holders under the ledgers that will be charged.

    Raises:
        InputError: where nobody is held out to select by, or a candidate cannot be priced.
        BudgetExceeded: where the budget is below the noise grid's own slack.
    """
    sizes, delta = sizes_of(node), node.delta
    if not sizes["held_out"]:
        remedy = "give a split that holds persons out"
        raise InputError(node.federation.path, "federation.split", "holds nobody out to select by", 0, remedy)
    for candidate in candidates:
        candidate.check()
    if select == "auto":
        repeats = cheapest(len(candidates), epsilon, delta)
    else:
        repeats = Repeats.covering(len(candidates), SHAPES[select]) if select in SHAPES else None
    left = epsilon, delta
    for _ in range(2):  # the first time to know the slack, which falls as noise grows
        run_epsilon = gaussian_epsilon(mu_of_a_run(len(candidates), repeats, *left), delta)
        candidates = [candidate.priced(run_epsilon, delta) for candidate in candidates]
        plan = Plan(_charged(candidates, repeats), epsilon, delta)
        of_epsilon, of_delta = plan.slack
        if of_epsilon >= epsilon or of_delta >= delta:
            raise BudgetExceeded(f"epsilon={epsilon:g}, delta={delta:g} is below the discrete noise's own slack")
        left = (1 - 1e-9) * (epsilon - of_epsilon), (1 - 1e-9) * (delta - of_delta)
    plan.check()
    return Priced(tuple(candidates), repeats, RunPlan(plan, {}, node.programme, "private sweep", 1, sizes))


def _charged(candidates: Sequence[Candidate], repeats: Repeats | None) -> tuple[Line, ...]:
    """Every line of every candidate, or the selection as a whole to each group of persons."""
    if repeats is None:
        return tuple(replace(line, name=f"{c.name}: {line.name}") for c in candidates for line in c.lines)
    ratios, tails = zip(*(c.slack for c in candidates), strict=True)
    worst = max(ratios), max(tails)
    return tuple(
        Selection(f"sweep/{persons}", EVERYBODY, max(c.mu(persons) for c in candidates), repeats, worst, persons)
        for persons in (TRAIN, HELD_OUT)
    )


def charge(node: Node, due: RunPlan) -> None:
    """Charges the sweep in the coordinator's ledger and in every holder's.

    Raises:
        BudgetExceeded: where one of them does not hold it, with what was asked, spent and is left; none is charged,
            unless another run spends in between.
    """
    told = planned(node.federation, due.sizes).terms
    book = open_book(node.ledgers, replace(told, programme=node.programme, total=node.total))
    heads, lines = book.heads(), due.plan.lines
    for name in node.holders:
        with ledger(node, name, heads.get(name)) as kept:
            if kept is None:
                raise InputError("command line", "--ledger", "cannot be given without privacy")
            kept.check(lines)
    book.reserve(due)
    for name in node.holders:
        with ledger(node, name) as kept:
            if kept is not None:
                kept.reserve(due.id, lines)
                heads[name] = kept.head()
    book.note(heads)
