"""The persons of the sample: what is true of each, which no file says outright, and where each is a customer."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

__all__ = ["SEGMENTS", "Customers", "FloatArray", "People", "customers", "draw_people", "sigmoid"]

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

SEGMENTS = ("salaried", "self_employed", "gig", "student", "other")
_STUDENT, _SELF_EMPLOYED = SEGMENTS.index("student"), SEGMENTS.index("self_employed")
_SEGMENT_SHARES = (0.46, 0.20, 0.20, 0.08, 0.06)
_ABILITY_SHIFT = np.array([0.15, 0.10, -0.25, -0.70, -0.30])
_STABILITY_SHIFT = np.array([0.20, 0.05, -0.30, -0.40, -0.20])
_BASE_RATE = 0.08
_FRAILTY = 0.4  # spread of what nobody can know beforehand
_SHARED_WILL = 0.40  # how much of a person's will to pay shows alike in every domain

# Rows and columns: ability, willingness, stability, debt pressure, business strength.
_CORRELATION = np.array(
    [
        [1.00, 0.15, 0.25, -0.20, 0.30],
        [0.15, 1.00, 0.20, -0.15, 0.10],
        [0.25, 0.20, 1.00, -0.15, 0.20],
        [-0.20, -0.15, -0.15, 1.00, -0.15],
        [0.30, 0.10, 0.20, -0.15, 1.00],
    ]
)


@dataclass(frozen=True)
class People:
    """Hidden truths about n persons; every array has shape (n,) and is indexed by person.

    Each domain sees its own facet of the willingness to pay (`will_*`): that is why the domains together
    know more than the best of them.
    """

    number: NDArray[np.int64]
    segment: NDArray[np.int64]
    age: FloatArray
    owner: BoolArray
    ability: FloatArray
    stability: FloatArray
    pressure: FloatArray
    business: FloatArray
    will_shop: FloatArray
    will_pay: FloatArray
    will_tax: FloatArray
    income: FloatArray
    defaulted: BoolArray

    def are(self, segment: str) -> BoolArray:
        """Who belongs to a segment."""
        return np.equal(self.segment, SEGMENTS.index(segment))

    def take(self, rows: NDArray[np.int64]) -> People:
        """The persons at `rows`, in that order."""
        return People(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


@dataclass(frozen=True)
class Customers:
    """Rows of `People` that each partner knows, each in that partner's own order."""

    payments: NDArray[np.int64]
    ecommerce_1: NDArray[np.int64]
    ecommerce_2: NDArray[np.int64]
    tax_business: NDArray[np.int64]


def sigmoid(x: FloatArray) -> FloatArray:
    """1 / (1 + exp(-x)), elementwise.

    >>> sigmoid(np.array([0.0])).tolist()
    [0.5]
    """
    return np.asarray(1.0 / (1.0 + np.exp(-x)), dtype=np.float64)


def draw_people(persons: int, rng: np.random.Generator) -> People:
    """Draws `persons` persons; eight in a hundred of them default.

    Args:
        persons: how many, at least 1.
        rng: seeded by the caller: a population is an ordinary setting, never privacy noise.

    >>> len(draw_people(5, np.random.default_rng(0)).age)
    5
    """
    segment = rng.choice(len(SEGMENTS), size=persons, p=_SEGMENT_SHARES)
    age = np.where(segment == _STUDENT, rng.normal(21, 1.5, persons), 14 + rng.gamma(7, 4.4, persons)).clip(18, 70)
    owner = (segment == _SELF_EMPLOYED) | (rng.random(persons) < 0.05)
    ability, will, stability, pressure, business = np.linalg.cholesky(_CORRELATION) @ rng.normal(size=(5, persons))
    ability = ability + _ABILITY_SHIFT[segment]
    stability = stability + _STABILITY_SHIFT[segment] + 0.008 * (age - 35)
    facets = _SHARED_WILL * will + np.sqrt(1 - _SHARED_WILL**2) * rng.normal(size=(3, persons))
    total_will = facets.sum(axis=0) / np.sqrt(3 + 6 * _SHARED_WILL**2)
    risk = -0.60 * ability - 1.55 * total_will - 0.55 * stability + 0.65 * pressure - 0.40 * business * owner
    chance = _probability(risk + _FRAILTY * rng.normal(size=persons))
    return People(
        number=rng.permutation(persons) + 1,
        segment=segment,
        age=age,
        owner=owner,
        ability=ability,
        stability=stability,
        pressure=pressure,
        business=business,
        will_shop=facets[0],
        will_pay=facets[1],
        will_tax=facets[2],
        income=np.exp(8.55 + 0.42 * ability + 0.10 * stability + rng.normal(0, 0.25, persons)),
        defaulted=rng.random(persons) < chance,
    )


def _probability(risk: FloatArray) -> FloatArray:
    """Probabilities whose log-odds are `risk` plus the constant that makes their mean the base rate."""
    low, high = -15.0, 15.0
    for _ in range(50):  # invariant: the constant lies in [low, high]
        middle = (low + high) / 2
        if sigmoid(risk + middle).mean() > _BASE_RATE:
            high = middle
        else:
            low = middle
    return sigmoid(risk + low)


def customers(people: People, rng: np.random.Generator) -> Customers:
    """Who is a customer where: likelier for the able and the settled, and for the young at shops.

    So absence is no random draw: thin records belong to riskier persons. Of all persons, 86 % are in the payments
    file, 75 % at a shop (a fifth of these at the second one, a few at both) and 33 % in the tax file.
    """
    size = len(people.age)

    def known(log_odds: FloatArray) -> BoolArray:
        return rng.random(size) < sigmoid(log_odds)

    settled = 0.45 * people.stability + 0.30 * people.ability
    at_bank = known(1.95 + 0.30 * people.ability + 0.35 * people.stability)
    at_shop = known(1.35 + 0.35 * people.ability + 0.25 * people.stability - 0.02 * (people.age - 35))
    as_owner = 0.9 + 0.35 * people.business + 0.3 * people.will_tax
    at_tax = known(
        np.where(people.owner, as_owner, settled - 1.15 - 0.8 * people.are("gig") - 1.5 * people.are("student"))
    )
    second = known(-1.6 - 0.5 * people.ability)  # the second shop serves smaller cities
    both = rng.random(size) < 0.05
    known_by = (at_bank, at_shop & (~second | both), at_shop & (second | both), at_tax)
    return Customers(*(rng.permutation(np.flatnonzero(one)) for one in known_by))
