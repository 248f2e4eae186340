"""The persons of one chunk: when they apply, what is true of them, which partners know them, whether they default."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from scipy.special import ndtr

from model.descent import sigmoid
from simulations.population import signals
from simulations.population.drift import WORSE
from simulations.population.signals import Signals
from simulations.population.traits import (
    DOMAINS,
    SALARIED,
    Bools,
    Floats,
    Ints,
    Traits,
    draw_coverage,
    draw_risk,
    draw_tenures,
    draw_traits,
    level_of,
)
from simulations.population.world import FIRST_MONTH, Chunk, Partner, World

TRAITS, RISK, COVERAGE, FORM, GAPS, MEMBERS, DEFAULTS, OUTCOMES, FAIRNESS, AVAILABILITY, FLIPS = range(11)
PARTNERS = 16  # the first partner's stream; each has one of its own

_SHARED = 0.15  # of a domain's customers are known to a second partner
_LEVEL_FROM = 200_000  # persons that the constant of the log-odds is set on, the same for every population
_FRAUD_ODDS = 4.0
_THIN_BLOCKS, _THIN_MONTHS = 2, 12


@dataclass(frozen=True)
class People:
    """Persons in columns of shape (n,).

    Attributes:
        number: place in the whole population, from 0.
        day: of the application, from the first.
        month: of the application, from 0.
        fraud: who applies with cloned good features and never pays.
        logit_pd: true log-odds of default within 12 months.
        defaulted: what comes of it.
        covered: shape (n, 3), with which domains they have a relationship.
        members: shape (n, partners), which partners know them.
        tenures: shape (n, 3), months with each domain, were there a relationship.
        form: what the application form says, before units.
    """

    number: Ints
    day: Ints
    month: Ints
    who: Traits
    fraud: Bools
    logit_pd: Floats
    defaulted: Bools
    covered: Bools
    members: Bools
    tenures: Floats
    form: Signals

    def __len__(self) -> int:
        return len(self.number)

    @property
    def thin(self) -> Bools:
        """Fewer than two domains know them, or for less than a year in all."""
        months = np.where(self.covered, np.floor(self.tenures), 0).sum(axis=1)
        return np.asarray((self.covered.sum(axis=1) < _THIN_BLOCKS) | (months < _THIN_MONTHS))


def draw_people(world: World, chunk: Chunk, month: int | None = None) -> People:
    """Draws the persons of a chunk; all of them apply in `month` where it is given.

    >>> len(draw_people(World(persons=1000), Chunk(0, 0, 1000)))
    1000
    """
    rng = world.stream(chunk.place, TRAITS)
    drift = world.changes
    day, months = _applications(world, chunk.size, rng, month)
    who = replace(draw_traits(rng, chunk.size), faded=drift.faded(months))
    risk = draw_risk(who, world.stream(chunk.place, RISK))
    fraud = drift.frauds(months, rng)
    who = _cloned(who, fraud)
    covered = _coverage(world, chunk, who, drift.thinner(months), fraud)
    form = signals.lender_kyc(replace(who, noise=world.stream(chunk.place, FORM)))
    members = _members(world, chunk, who, form, covered)
    level, worse = levels(world.base_rate)
    risk = risk + np.where(drift.recession(months), worse, level)
    risk = risk + members @ np.array([partner.prevalence for partner in world.partners])
    logit = np.where(fraud, _FRAUD_ODDS, risk)
    defaulted = fraud | (world.stream(chunk.place, DEFAULTS).random(chunk.size) < sigmoid(logit))
    number = np.arange(chunk.first, chunk.first + chunk.size)
    tenures = np.stack(draw_tenures(who), axis=1)
    return People(number, day, months, who, fraud, logit, defaulted, covered, members, tenures, form)


@cache
def levels(base_rate: float) -> tuple[float, float]:
    """The constants of the log-odds in usual times and in a recession; no seed moves them."""
    rng = np.random.default_rng(0)
    risk = draw_risk(draw_traits(rng, _LEVEL_FROM), rng)
    return level_of(risk, base_rate), level_of(risk, min(0.9, base_rate * WORSE))


def _applications(world: World, n: int, rng: np.random.Generator, month: int | None) -> tuple[Ints, Ints]:
    """Days and months in which they apply, all days alike."""
    begins = np.datetime64(FIRST_MONTH, "M") + np.arange(world.months + 1)
    starts = (begins.astype("datetime64[D]") - begins[0].astype("datetime64[D]")).astype(np.int64)
    low, high = (0, world.months) if month is None else (month, month + 1)
    day = rng.integers(starts[low], starts[high], n)
    return day, np.searchsorted(starts, day, side="right") - 1


def _cloned(who: Traits, fraud: Bools) -> Traits:
    """Fraudsters look able, willing and settled."""
    good = 1.0 * fraud
    facets = tuple(facet + good for facet in who.facets)
    return replace(who, A=who.A + good, W=who.W + good, S=who.S + good, P=who.P - good, facets=facets)


def _coverage(world: World, chunk: Chunk, who: Traits, thinner: Floats, fraud: Bools) -> Bools:
    """Which relationships there are; of a fraudster's, one, with payments."""
    covered = draw_coverage(replace(who, noise=world.stream(chunk.place, COVERAGE)), thinner)
    return np.where(fraud[:, None], np.array(DOMAINS) == "payments", covered)


def _members(world: World, chunk: Chunk, who: Traits, form: Signals, covered: Bools) -> Bools:
    """Which partners of each domain know them: one, and for some a second."""
    rng = world.stream(chunk.place, MEMBERS)
    columns = []
    for place, domain in enumerate(DOMAINS):
        partners = [partner for partner in world.partners if partner.domain == domain]
        if domain == "ecommerce" and world.split_partners:
            first, second = _of_many(who, len(partners), rng)
        else:
            first, second = _of_few(world, partners, who, form, rng)
        shared = (rng.random(len(who)) < _SHARED) & ("duplicates" in world.shifts) & (len(partners) > 1)
        for rank in range(len(partners)):
            columns.append(covered[:, place] & ((first == rank) | (shared & (second == rank))))
    return np.stack(columns, axis=1)


def _of_many(who: Traits, count: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Equal shops whose customers differ in ability from the first to the last, and another shop for each person."""
    rank = ndtr(0.5 * who.A + np.sqrt(0.75) * rng.normal(size=len(who)))
    first = np.minimum((count * rank).astype(np.int64), count - 1)
    return first, (first + rng.integers(1, max(2, count), len(who))) % count


def _of_few(
    world: World, partners: list[Partner], who: Traits, form: Signals, rng: np.random.Generator
) -> tuple[Ints, Ints]:
    """The partner that draws a person most, by its size and by whom it serves, and the second."""
    pull = np.stack([_pull(partner, who, form) for partner in partners], axis=1) * ("covariate" in world.shifts)
    pull = pull + np.log([partner.size for partner in partners]) + rng.gumbel(size=pull.shape)
    order = np.argsort(-pull, axis=1)
    return order[:, 0], order[:, min(1, len(partners) - 1)]


def _pull(partner: Partner, who: Traits, form: Signals) -> Floats:
    """Whom a partner serves, in log-odds against the first of its domain."""
    pull = np.zeros(len(who))
    if partner.name == "ec-2":  # smaller cities
        pull += -0.45 * who.A + 0.35 * (form["city_tier"] - 3)
    elif partner.name == "ec-3":  # the young
        pull += -0.07 * (who.age - 40)
    elif partner.name == "pay-2":  # a wallet: the young, and those without a salary
        pull += -0.06 * (who.age - 42) - 0.4 * (who.segment == SALARIED)
    return pull
