"""The fusion table: what turns the blocks' sub-scores into one log-odds z.

It is keyed by two patterns, since they are different facts: with which domains a person *has a relationship* (R), and
which of those *are available* now (V). Never having shopped somewhere says something about a person; late data does
not. All numbers are micro-logit, so the same sub-scores give the same z everywhere.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from itertools import chain, combinations
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from model.inputs import InputError
from model.limits.fields import Label, Logit, Name, Sha256, Spread, Text, plain, read

_SOURCE = "fusion table"
MICRO = 1_000_000
PairKey = Annotated[str, Text(r"[a-z0-9_+]*\|[a-z0-9_+]*", "must be spelled R|V")]


@dataclass(frozen=True)
class Entry:
    """The intercept and the weights of one pair of patterns; a weight of 1,000,000 is one.

    >>> Entry(-3_000_000, {"payments": 800_000}).weights_e6["payments"]
    800000
    """

    intercept_e6: Logit
    weights_e6: Mapping[Name, Spread]


@dataclass(frozen=True)
class Default:
    """The rule for pairs without an entry: one intercept, plus a term for each absent and each late domain.

    >>> Default(-3_000_000, {"payments": 800_000}, {"payments": 200_000}, {"payments": 50_000}).absent_e6
    {'payments': 200000}
    """

    intercept_e6: Logit
    weights_e6: Mapping[Name, Spread]
    absent_e6: Mapping[Name, Logit]
    late_e6: Mapping[Name, Logit]


@dataclass(frozen=True)
class FusionTable:
    """Intercepts and non-negative weights by (relationship pattern, available pattern).

    `z` never falls when a block's log-odds rise. Checked when made: patterns are real subsets of `optional`, each entry
    weighs just the available blocks (and the lender's own), no weight is negative, every pair has an entry or a rule.

    Attributes:
        optional: the partners' domains, sorted.
        own: the lender's own block, always available; None where it has none.
        entries: by key `"R|V"`, each pattern sorted and joined by `+`, as in `"ecommerce+payments|payments"`.
        default: the rule for pairs that `entries` does not name.

    >>> rule = Default(-3_000_000, {"payments": 800_000}, {"payments": 200_000}, {"payments": 0})
    >>> table = FusionTable(("payments",), None, {"|": Entry(-2_500_000, {})}, rule)
    >>> table.z_e6(("payments",), ("payments",), {"payments": 1_000_000}), table.z_e6((), (), {})
    (-2200000, -2500000)
    """

    optional: tuple[Name, ...]
    own: Name | None
    entries: Mapping[PairKey, Entry] = field(default_factory=dict)
    default: Default | None = None

    def __post_init__(self) -> None:
        if list(self.optional) != sorted(set(self.optional)):
            raise InputError(_SOURCE, "optional", "must be sorted, each domain once", self.optional)
        if self.own in self.optional:
            raise InputError(_SOURCE, "own", "must not be one of optional", self.own)
        for key, entry in self.entries.items():
            available = self._available(key)
            _demand(f"entries.{key}.weights_e6", entry.weights_e6, self._weighed(available))
            _check_weights(f"entries.{key}", entry)
        if self.default is not None:
            _demand("default.weights_e6", self.default.weights_e6, self.blocks)
            _demand("default.absent_e6", self.default.absent_e6, self.optional)
            _demand("default.late_e6", self.default.late_e6, self.optional)
            _check_weights("default", self.default)
        elif len(self.entries) < 3 ** len(self.optional):
            missing = next(pair for pair in self._pairs() if pair not in self.entries)
            raise InputError(_SOURCE, f"entries.{missing}", "is missing, and there is no default")

    @cached_property
    def blocks(self) -> tuple[str, ...]:
        """All blocks, the lender's own last."""
        return self._weighed(self.optional)

    def entry(self, related: Collection[str], available: Collection[str]) -> Entry:
        """The entry of a pair of patterns; the order within a pattern does not matter.

        Raises:
            InputError: a domain the table does not know, or one available without a relationship.
        """
        key = f"{'+'.join(sorted(related))}|{'+'.join(sorted(available))}"
        found = self.entries.get(key) or self._composed.get(key)
        if found is None:
            if not set(available) <= set(related) <= set(self.optional):
                raise InputError(_SOURCE, "pattern", f"must be within {'+'.join(self.optional)}", key)
            found = self._composed[key] = self._compose(related, available)
        return found

    def z_e6(self, related: Collection[str], available: Collection[str], logits_e6: Mapping[str, int]) -> int:
        """The person's log-odds: intercept + floor(sum of weight x log-odds).

        Args:
            related: domains with a relationship.
            available: those of them whose sub-score is at hand.
            logits_e6: sub-score of every available block and of the lender's own; others are not looked at.
        """
        entry = self.entry(related, available)
        return entry.intercept_e6 + sum(w * logits_e6[block] for block, w in entry.weights_e6.items()) // MICRO

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; `from_dict` is its inverse."""
        return cast(dict[str, Any], plain(self))

    @classmethod
    def from_dict(cls, data: Mapping[str, object], source: str | Path = _SOURCE) -> FusionTable:
        """The table of `to_dict`, read strictly; raises `InputError` (a ValueError) naming the field."""
        return read(cls, data, source)

    @cached_property
    def _composed(self) -> dict[str, Entry]:
        """Entries made by the default rule, kept: there are few."""
        return {}

    def _compose(self, related: Collection[str], available: Collection[str]) -> Entry:
        rule = cast(Default, self.default)
        absent = sum(rule.absent_e6[domain] for domain in self.optional if domain not in related)
        late = sum(rule.late_e6[domain] for domain in related if domain not in available)
        weighed = self._weighed(sorted(available))
        return Entry(rule.intercept_e6 + absent + late, {block: rule.weights_e6[block] for block in weighed})

    def _weighed(self, available: Collection[str]) -> tuple[str, ...]:
        return (*available,) if self.own is None else (*available, self.own)

    def _available(self, key: str) -> list[str]:
        """The available domains of an entry's key, which must be the one spelling of a real pair."""
        related, available = (pattern.split("+") if pattern else [] for pattern in (key + "|").split("|")[:2])
        nested = set(available) <= set(related) <= set(self.optional)
        if not nested or key != f"{'+'.join(sorted(set(related)))}|{'+'.join(sorted(set(available)))}":
            remedy = "write R|V, each sorted and joined by +, V within R within optional"
            raise InputError(_SOURCE, f"entries.{key}", "is no pair of patterns", remedy=remedy)
        return available

    def _pairs(self) -> Iterator[str]:
        return (f"{'+'.join(r)}|{'+'.join(v)}" for r in _subsets(self.optional) for v in _subsets(r))


@dataclass(frozen=True)
class DecisionBundle:
    """A published model as the limit decision sees it.

    Attributes:
        bundle_id: its name.
        sha256: of the model bundle that it was made from.
        table: the fusion table.
        kind: `subscores`, one number per block; a bundle that gives sums only is not decided on yet.
        reference_e6: each block's log-odds of the average applicant: reasons are shortfalls to it.
        valid_until: from then on no decision is made with it.

    >>> table = FusionTable((), "lender_kyc", {"|": Entry(-3_000_000, {"lender_kyc": 1_000_000})})
    >>> DecisionBundle("demo-1", "0" * 64, table, "subscores", {"lender_kyc": 0}).table.blocks
    ('lender_kyc',)
    """

    bundle_id: Label
    sha256: Sha256
    table: FusionTable
    kind: Literal["subscores"]
    reference_e6: Mapping[Name, Logit]
    valid_until: datetime | None = None

    def __post_init__(self) -> None:
        if self.kind != "subscores":
            raise InputError(self.bundle_id, "kind", "must be subscores", self.kind)
        _demand("reference_e6", self.reference_e6, self.table.blocks)


def _demand(name: str, given: Mapping[str, int], wanted: Collection[str]) -> None:
    """Exactly the `wanted` names, and real integers (numpy's would not reach JSON)."""
    if set(given) != set(wanted):
        raise InputError(_SOURCE, name, f"must name just {', '.join(sorted(wanted)) or 'nothing'}", sorted(given))
    for key, value in given.items():
        if type(value) is not int:
            raise InputError(_SOURCE, f"{name}.{key}", "must be an int of micro-logits", value)


def _check_weights(name: str, entry: Entry | Default) -> None:
    if type(entry.intercept_e6) is not int:
        raise InputError(_SOURCE, f"{name}.intercept_e6", "must be an int of micro-logits", entry.intercept_e6)
    for block, weight in entry.weights_e6.items():
        if weight < 0:
            raise InputError(_SOURCE, f"{name}.weights_e6.{block}", "must be >= 0", weight)


def _subsets(domains: Collection[str]) -> Iterator[tuple[str, ...]]:
    return chain.from_iterable(combinations(domains, size) for size in range(len(domains) + 1))
