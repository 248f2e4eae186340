"""Who gets offers, by protected group: share with an offer, and the same among those who did not default.

Groups are the values of features that the contracts mark `protected`, whether or not they train, read from the
holders' own files: numbers in the contract's edges, or in five equal parts of its range. A lender may also keep
attributes that no contract may have: `fairness.parquet` beside its first file is read here and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import polars as pl

from clients.config import Node
from clients.files import read_columns, scan, text
from clients.ids import persons
from clients.tables import load_table
from model.contract import Feature, load_contract
from model.federation import LENDER, Federation, Holder
from model.inputs import read_toml
from simulations.sweep.points import Point, point

ATTRIBUTES = "fairness.parquet"
RANGES = 5
MOST = 20  # values of an attribute: with more it is no group
WIDE = 20.0  # a range whose parts may end at whole numbers


def curve(node: Node, decided: pl.DataFrame) -> list[Point]:
    """The curve `fairness` over the persons decided for; whom no holder of a feature knows, is in none of its groups.

    Args:
        node: for the holders' files.
        decided: `id`, `offer` and `label` of each person.
    """
    place, found = _alike(node.federation, decided), []
    for name, groups in _groups(_Files.of(node.federation)):
        shares = (
            place.join(groups, on="id", how="inner")
            .group_by("group")
            .agg(pl.col("offer").filter(pl.col("label") == 0).mean(), share=pl.col("offer").mean(), persons=pl.len())
        )
        for group, deserved, share, count in shares.sort("group").iter_rows():
            found.append(point("fairness", f"{name}={group}", at=deserved, value=share, weight=count))
    return found


@dataclass(frozen=True)
class _Files:
    """A federation over files as they are now: a cache's key."""

    federation: Federation = field(compare=False)
    changed: tuple[tuple[Path, int], ...]

    @classmethod
    def of(cls, federation: Federation) -> _Files:
        paths = (federation.path, _beside(federation), *(path for holder in federation.holders for path in holder.data))
        return cls(federation, tuple((path, path.stat().st_mtime_ns) for path in paths if path.is_file()))


@lru_cache(maxsize=2)
def _groups(files: _Files) -> tuple[tuple[str, pl.DataFrame], ...]:
    """By feature, sorted, the `group` of each `id` that a holder of it knows."""
    federation = files.federation
    found: dict[str, list[pl.DataFrame]] = {}
    for holder in federation.holders:
        for name, groups in _protected(federation, holder).items():
            found.setdefault(name, []).append(groups)
    for name, groups in _attributes(federation).items():
        found.setdefault(name, []).append(groups)
    return tuple((name, pl.concat(parts).unique("id", keep="first")) for name, parts in sorted(found.items()))


def _protected(federation: Federation, holder: Holder) -> dict[str, pl.DataFrame]:
    """The groups of one holder's protected features."""
    head = read_toml(federation.path)
    rows = {row["name"]: row for row in head.get("partner", [])} | {LENDER: head["lender"]}
    if "contract" not in rows[holder.name]:
        return {}
    contract = load_contract(federation.path.parent / rows[holder.name]["contract"])
    features = tuple(_banded(f) for f in contract.features if f.protected)
    if not features:
        return {}
    asked = replace(holder, contract=replace(contract, features=features, products=(), outcome=None))
    table = load_table(replace(federation, lender=asked) if holder.name == LENDER else federation, asked)
    parts = table.encoding.features if table.encoding else ()
    ids = _alike(federation, table.ids.to_frame("id"))
    return {
        part.feature.name: ids.with_columns(group=pl.Series(np.array(part.labels)[codes], dtype=pl.String))
        for part, codes in zip(parts, table.codes, strict=True)
    }


def _banded(feature: Feature) -> Feature:
    """The feature with public edges, few enough for groups of persons."""
    if feature.kind != "numeric" or feature.edges:
        return feature
    edges = np.linspace(feature.low, feature.high, RANGES + 1)[1:-1]
    edges = np.rint(edges) if feature.high - feature.low >= WIDE else edges  # of years, say
    return replace(feature, edges=tuple(edges.tolist()), private=False)


def _attributes(federation: Federation) -> dict[str, pl.DataFrame]:
    """The groups of the lender's own attributes, if it keeps any."""
    path = _beside(federation)
    if not path.is_file():
        return {}
    table = read_columns(path, federation.id, scan(path).collect_schema().names())
    texts = table.select(text(pl.all().exclude(federation.id)).fill_null("missing"))
    ids = _alike(federation, table.select(id=federation.id))
    return {c.name: ids.with_columns(group=c) for c in texts.iter_columns() if c.n_unique() <= MOST}


def _beside(federation: Federation) -> Path:
    """Where the lender's attributes would lie."""
    return federation.lender.data[0].parent / ATTRIBUTES


def _alike(federation: Federation, frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with its `id` as the federation compares them."""
    ids = persons(federation.path, federation.id, frame["id"], federation.id_form)
    return frame.with_columns(pl.Series("id", ids, dtype=pl.String))
