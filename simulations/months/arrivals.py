"""Who arrives in a book's months, as the lender sees them, and the chance that is shared by all policies.

Policies are compared on the same applicants with the same luck: what happens to a person in a month hangs on the seed
alone, so that a difference between two policies is theirs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulations.months.applicants import Applicants, Bools, Floats, Ints, draw_applicants
from simulations.months.engine import SOURCES, Cases
from simulations.months.evidence import Model

_DEBT_MONTHS = 11  # what is owed elsewhere, in months of its service


@dataclass(frozen=True)
class Arrivals:
    """The applicants of all months in order of arrival, `per_month` each.

    Attributes:
        people: with their true risk.
        cases: what a decision sees of them.
        fraud: shape (n,), uniform: who is a fraudster.
        luck: by month, shape (2, arrived so far), uniform: default, lateness.
        moods: by month, shape (arrived so far,), standard logistic: usage.
    """

    people: Applicants
    cases: Cases
    per_month: int
    fraud: Floats
    luck: tuple[NDArray[np.float32], ...]
    moods: tuple[Floats, ...]

    @property
    def months(self) -> int:
        """How many months applicants arrive."""
        return len(self.luck)

    def thin(self, blocks: int, tenure_months: int) -> Bools:
        """Fewer blocks, or a shorter tenure in all."""
        people = self.people
        few, short = people.covered.sum(axis=1) < blocks, people.tenure_months.sum(axis=1) < tenure_months
        thin: Bools = few | short
        return thin


def draw_arrivals(seed: int, model: Model, months: int, per_month: int) -> Arrivals:
    """The arrivals of one seed.

    >>> from simulations.months.evidence import fit_model
    >>> arrivals = draw_arrivals(1, fit_model(persons=2000), months=2, per_month=50)
    >>> len(arrivals.cases), arrivals.luck[0].shape, arrivals.luck[1].shape
    (100, (2, 50), (2, 100))
    """
    people = draw_applicants(np.random.default_rng([seed, 2]), months * per_month)
    rng = np.random.default_rng([seed, 3])
    fraud = rng.random(len(people))
    sizes = range(per_month, (months + 1) * per_month, per_month)
    luck = tuple(rng.random((2, size), dtype=np.float32) for size in sizes)
    moods = tuple(rng.logistic(size=size) for size in sizes)
    return Arrivals(people, cases_of(people, model.logits_e6(people)), per_month, fraud, luck, moods)


def cases_of(people: Applicants, logits_e6: Ints) -> Cases:
    """The requests of these people: income as far as a covered domain shows it, all data fresh."""
    payments, tax = people.covered[:, 1], people.covered[:, 2]
    source = np.where(tax, SOURCES.index("verified"), SOURCES.index("declared"))
    source = np.where(payments & ~tax, SOURCES.index("partner_estimated"), source)
    shown = np.select([tax, payments], [people.income_fen, people.inflow_fen], people.declared_fen)
    return Cases(
        segment=people.segment,
        age_years=people.age_years,
        income_fen=shown,
        income_source=source,
        debt_service_fen=people.debt_service_fen,
        other_credit_fen=people.debt_service_fen * _DEBT_MONTHS,
        requested_fen=people.requested_fen,
        covered=people.covered,
        available=people.covered,
        tenure_months=people.tenure_months,
        logits_e6=logits_e6,
    )
