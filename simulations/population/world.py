"""What a population is asked to be: how many persons, which partners, what differs between them and over time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Self

import numpy as np

from model.federation import MAX_PARTNERS
from model.inputs import InputError, whole
from simulations.population.drift import Drift
from simulations.population.traits import BASE_RATE, DOMAINS

CHUNK = 50_000  # persons drawn at a time: a part of what a seed means, hence no setting
FEWEST, MOST = 1_000, 10_000_000
FIRST_MONTH = date(2023, 1, 1)
PREFIX = {"ecommerce": "ec", "payments": "pay", "tax_business": "tx"}
SHIFTS = ("sizes", "covariate", "features", "definition", "duplicates", "prevalence", "label-noise")
USUAL_SHIFTS = SHIFTS[:5]
DRIFTS = ("inflation", "mix", "recession", "concept", "gaming", "definition", "fraud", "feedback")

_WHERE = "command line"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}")
_SIZES = {"ecommerce": (10.0, 3.0, 1.0), "payments": (10.0, 3.0), "tax_business": (10.0, 3.0, 1.0)}
_PREVALENCE = (-0.3, 0.3, 0.65)  # log-odds that the customers of a domain's first, second, third partner have more
_FEWEST_OF_A_PARTNER = 50  # persons of the whole population for each of many partners


@dataclass(frozen=True)
class Partner:
    """One partner of a domain, as it differs from the others.

    Attributes:
        rank: its place among the partners of its domain, from 0.
        size: its share of the domain's customers, before those it shares.
        prevalence: log-odds of default that its customers have more.
    """

    name: str
    domain: str
    rank: int
    size: float
    prevalence: float = 0.0


@dataclass(frozen=True)
class World:
    """One population. The same world gives the same files.

    Attributes:
        persons: how many.
        seed: of everything drawn; it never reaches privacy noise.
        base_rate: mean probability of default within 12 months where nothing shifts.
        months: over which persons apply, from `FIRST_MONTH`; the first 70 % of them train.
        shifts: how partners of one domain differ, of `SHIFTS`.
        drift: what changes over the months, of `DRIFTS`.
        partners_a_domain: 1 to 3; there are at most two of payments.
        split_partners: how many partners share the e-commerce customers; 0 leaves it to `partners_a_domain`.
        outages: chance that a partner's delivery fails on a day.
        name: of the federation; two in one sweep need two names.
    """

    persons: int = 20_000
    seed: int = 7
    base_rate: float = BASE_RATE
    months: int = 24
    shifts: frozenset[str] = frozenset(USUAL_SHIFTS)
    drift: frozenset[str] = frozenset()
    partners_a_domain: int = 1
    split_partners: int = 0
    outages: float = 0.005
    name: str = "population"

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise InputError(
                _WHERE,
                "--name",
                "must be 1 to 64 of A-Z, a-z, 0-9, space, '.', '_' and '-', none of the last four first",
                self.name,
            )
        _within("--persons", self.persons, FEWEST, MOST)
        whole(_WHERE, "--seed", self.seed)
        _within("--base-rate", self.base_rate, 0.01, 0.3)
        _within("--months", self.months, 2, 120)
        _within("--partners-a-domain", self.partners_a_domain, 1, 3)
        _within("--outages", self.outages, 0.0, 0.5)
        others = sum(len(self._of(domain)) for domain in DOMAINS if domain != "ecommerce")
        _within("--split-partners", self.split_partners, 0, MAX_PARTNERS - others)
        if self.split_partners * _FEWEST_OF_A_PARTNER > self.persons:
            rule = f"must be at most one for {_FEWEST_OF_A_PARTNER} persons"
            raise InputError(_WHERE, "--split-partners", rule, self.split_partners, "give more --persons")

    @property
    def partners(self) -> tuple[Partner, ...]:
        """All partners, by domain and rank."""
        return tuple(partner for domain in DOMAINS for partner in self._of(domain))

    @property
    def cut(self) -> int:
        """The first month that is held out."""
        return max(1, round(0.7 * self.months))

    @property
    def changes(self) -> Drift:
        """What changes over the months."""
        return Drift(self.drift, self.months, self.cut)

    def stream(self, chunk: int, purpose: int) -> np.random.Generator:
        """The generator of one table of one chunk: a column more in one table leaves the others as they were."""
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(chunk, purpose)))

    def at(self, partner: Partner, kind: str, rank: int) -> bool:
        """Whether a kind of shift makes this partner the odd one of its domain; never so where many split one."""
        many = partner.domain == "ecommerce" and self.split_partners > 0
        return kind in self.shifts and partner.rank == rank and not many

    def _of(self, domain: str) -> Sequence[Partner]:
        if domain == "ecommerce" and self.split_partners:
            width = len(str(self.split_partners))
            shops = range(self.split_partners)
            return [Partner(f"ec-{r + 1:0{width}}", domain, r, 1 / self.split_partners) for r in shops]
        sizes = _SIZES[domain][: self.partners_a_domain]
        sizes = sizes if "sizes" in self.shifts else (1.0,) * len(sizes)
        odds = _PREVALENCE if "prevalence" in self.shifts and len(sizes) > 1 else (0.0,) * len(sizes)
        return [
            Partner(f"{PREFIX[domain]}-{rank + 1}", domain, rank, size / sum(sizes), odds[rank])
            for rank, size in enumerate(sizes)
        ]


@dataclass(frozen=True)
class Chunk:
    """Some persons of a world: `first` is the number of the first of them."""

    place: int
    first: int
    size: int

    @classmethod
    def all_of(cls, world: World) -> list[Self]:
        """The chunks of a world, in order."""
        starts = range(0, world.persons, CHUNK)
        return [cls(place, first, min(CHUNK, world.persons - first)) for place, first in enumerate(starts)]


def words(option: str, text: str, known: Sequence[str]) -> frozenset[str]:
    """The words of a list by commas; `none` and `all` are lists too.

    >>> sorted(words("--drift", "mix, recession", DRIFTS)), len(words("--drift", "all", DRIFTS))
    (['mix', 'recession'], 8)
    """
    if text in ("none", "all"):
        return frozenset(known if text == "all" else ())
    found = [word.strip() for word in text.split(",")]
    for word in found:
        if word not in known:
            raise InputError(_WHERE, option, "must be none, all, or by comma of " + ", ".join(known), word)
    return frozenset(found)


def _within(option: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise InputError(_WHERE, option, f"must be from {low} to {high}", value)
