"""What a sweep compares: arms, each a learner under one trust model, and the federation files that some need."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import polars as pl
import tomli_w

from clients.files import read_columns, text
from model.blocks import ENGINES
from model.contract import load_contract
from model.federation import Federation
from model.inputs import InputError, read_toml
from server.planning import FUSION_SHARE
from simulations.availability import AVAILABILITY, beside
from simulations.extending import named

HKEY = "hkey"  # the lender's column by whose values a simulation gives persons to partners
_ENDS = 0.65  # part of the persons whom either of two made-up partners of a domain has: .3 of all have both


class Skipped(Exception):
    """An arm that a federation has nothing for; its text says why."""


@dataclass(frozen=True)
class Arm:
    """One thing that is compared.

    Attributes:
        name: as the command line and the tables have it.
        learner: an engine of `simulate`, perhaps the reader's own as FILE.py:NAME, or a baseline's name.
        trust: who sees what: local, secure, curator, or pooled where one party has all rows in the clear.
        allocation: of the budget over holders of blocks trained apart: norm or equal.
        within_domain: overlap or home, where the arm is about partners of one domain.
        protected: whether features marked protected train whatever the federation file says.
        private: what epsilon covers: person, labels or nothing.
        needs: the optional package that it runs on.
    """

    name: str
    learner: str
    trust: str
    allocation: str = ""
    within_domain: str = ""
    protected: bool = False
    private: str = "person"
    needs: str = ""

    @property
    def ours(self) -> bool:
        """Whether a cell is a whole `simulate`."""
        return self.learner in ENGINES or ":" in self.learner

    def epsilons(self, asked: Iterable[float]) -> tuple[float, ...]:
        """The budgets of its cells; what has no privacy at all runs once, without noise."""
        return tuple(asked) if self.private != "nothing" else (math.inf,)


ARMS = {
    arm.name: arm
    for arm in (
        Arm("joint", "moments", "curator"),
        Arm("joint-secure", "moments", "secure"),
        Arm("apart", "scorecard", "local", "norm"),
        Arm("apart-equal", "scorecard", "local", "equal"),
        Arm("network", "network", "local", "norm", needs="torch"),
        Arm("overlap", "scorecard", "local", "norm", "overlap"),
        Arm("home", "scorecard", "local", "norm", "home"),
        Arm("joint-protected", "moments", "curator", protected=True),
        Arm("own-block", "own-block", "local"),
        Arm("trees", "trees", "pooled", private="nothing", needs="sklearn"),
        Arm("logistic", "logistic", "pooled", private="nothing", needs="sklearn"),
        Arm("dp-ebm", "dp-ebm", "pooled", needs="interpret"),
        Arm("pooled-opacus", "pooled-opacus", "pooled", needs="opacus"),
        Arm("response-only", "response-only", "pooled", private="labels"),
    )
}
GROUPS: dict[str, Callable[[Arm], bool]] = {
    "ours": lambda arm: arm.ours,
    "baselines": lambda arm: not arm.ours,
    "all": lambda arm: True,
}


def arms_of(names: Iterable[str]) -> tuple[Arm, ...]:
    """The arms and groups of these names, each arm once, in the order of `ARMS`.

    Raises:
        InputError: for a name that is none, or an arm whose package is not installed.
    """
    found: dict[str, Arm] = {}
    for name in names:
        one = [_own(name) if ":" in name else ARMS.get(name)]
        chosen = [arm for arm in ARMS.values() if GROUPS[name](arm)] if name in GROUPS else one
        for arm in chosen:
            if arm is None:
                known = ", ".join((*ARMS, *GROUPS))
                raise InputError("command line", "--arms", "is not an arm", name, f"known: {known}")
            if arm.needs and importlib.util.find_spec(arm.needs) is None:
                remedy = "pip install 'fedscore[network,baselines]'"
                raise InputError("command line", "--arms", f"needs the package {arm.needs}", arm.name, remedy)
            found[arm.name] = arm
    if not found:
        raise InputError("command line", "--arms", "names no arm")
    shipped = [arm for arm in ARMS.values() if arm.name in found]
    return (*shipped, *(arm for name, arm in found.items() if name not in ARMS))


def _own(asked: str) -> Arm:
    """The arm of an engine of one's own; its name holds a part of the file's hash: another text is another arm."""
    name, _, digest = named(asked).rpartition(":")[2].partition("@")
    file, _, member = asked.rpartition(":")
    return Arm(f"{name}@{digest[:6]}", f"{Path(file).absolute()}:{member}", "local", "norm")


def derived(federation: Federation, data: Path | None, arm: Arm) -> str | None:
    """The federation file that an arm runs on in place of the given one, its paths whole; None where that is right.

    Args:
        federation: the given file, loaded.
        data: the folder that its data paths are relative to; None is its own.
        arm: one of ours.

    Raises:
        Skipped: where the federation has nothing that this arm is about.
    """
    table = read_toml(federation.path)
    before = repr(table)
    if arm.protected:
        _use_protected(federation, table)
    if arm.allocation == "equal":
        holders = [holder.name for holder in federation.holders if holder.contract]
        share = round((1 - FUSION_SHARE) / len(holders), 6)
        table.setdefault("privacy", {})["shares"] = {**dict.fromkeys(holders, share), "fusion": FUSION_SHARE}
    if arm.within_domain:
        domains = [partner.domain for partner in federation.partners]
        if len(set(domains)) == len(domains):
            _split_domain(federation, table)
        table.setdefault("privacy", {})["within-domain"] = arm.within_domain
    if repr(table) == before:
        return None
    folder = federation.path.parent.absolute()
    base = data.absolute() if data else folder
    return moved(table, lambda path: str(folder / path), lambda path: str(base / path))


def _use_protected(federation: Federation, table: dict[str, Any]) -> None:
    if table["federation"].get("use-protected", False):
        raise Skipped("the federation uses its protected features already")
    rows = [table["lender"], *table["partner"]]
    contracts = [load_contract(federation.path.parent / row["contract"]) for row in rows if "contract" in row]
    if not any(feature.protected for contract in contracts for feature in contract.features):
        raise Skipped("no feature is marked protected")
    table["federation"]["use-protected"] = True


def _split_domain(federation: Federation, table: dict[str, Any]) -> None:
    """Gives the partner with most features to two partners, each with some values of `hkey`, some with both."""
    largest = max(federation.partners, key=lambda p: len(p.contract.features) if p.contract else 0)
    place = [partner.name for partner in federation.partners].index(largest.name)
    first, second = _overlapping(federation)
    if HKEY in largest.only:
        raise Skipped(f"no domain has several partners, and {largest.name} is restricted by {HKEY} already")
    if beside(federation).exists():
        raise Skipped(f"no domain has several partners, and {AVAILABILITY} names those that there are")
    row: Mapping[str, Any] = table["partner"][place]
    twins = [
        {**row, "name": f"{row['name']}-{mark}", "only": {**row.get("only", {}), HKEY: values}}
        for mark, values in (("a", first), ("b", second))
    ]
    table["partner"][place : place + 1] = twins
    shares = table.get("privacy", {}).get("shares", {})
    if largest.name in shares:
        shares |= dict.fromkeys([twin["name"] for twin in twins], shares.pop(largest.name))


def _overlapping(federation: Federation) -> tuple[list[str], list[str]]:
    """Two sets of values of `hkey` that overlap: in sorted order, those of the first persons and of the last."""
    for path in federation.lender.data:
        frame = read_columns(path, federation.id, [HKEY])
        if HKEY in frame.columns:
            break
    else:
        raise Skipped(f"no domain has several partners, and the lender has no column {HKEY}")
    counts = frame.select(text(pl.col(HKEY)))[HKEY].drop_nulls().value_counts().sort(HKEY)
    values, ends = counts[HKEY].to_list(), list(accumulate(counts["count"].to_list()))
    if len(values) < 3:
        raise Skipped(f"no domain has several partners, and {HKEY} has fewer than 3 values")
    begins = [0, *ends[:-1]]
    first = [v for v, begin in zip(values, begins, strict=True) if begin < _ENDS * ends[-1]]
    second = [v for v, end in zip(values, ends, strict=True) if end > (1 - _ENDS) * ends[-1]]
    return (first if len(first) < len(values) else values[:-1]), (second if len(second) < len(values) else values[1:])


def moved(table: dict[str, Any], contract: Callable[[str], str], data: Callable[[str], str]) -> str:
    """A federation file as text, with every path of a contract and of data put otherwise."""
    for row in (table["lender"], *table["partner"]):
        if "contract" in row:
            row["contract"] = contract(row["contract"])
        row["data"] = data(row["data"]) if isinstance(row["data"], str) else [data(path) for path in row["data"]]
    return tomli_w.dumps(table)
