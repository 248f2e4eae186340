"""Populations as matrices, for tests: what a plain logistic regression makes of the columns that were written."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from simulations.months.evidence import logistic
from simulations.population.people import People, draw_people
from simulations.population.records import columns, lender_record, partner_record
from simulations.population.traits import DOMAINS, OWN
from simulations.population.world import CHUNK, Chunk, World

BLOCKS = (*DOMAINS, OWN)


def blocks(world: World, size: int, place: int = 0, month: int | None = None) -> tuple[People, dict[str, np.ndarray]]:
    """A chunk's persons, and by domain its columns as numbers: of everybody, whether a partner knows them or not."""
    chunk = Chunk(place, place * CHUNK, size)
    people = draw_people(world, chunk, month)
    everybody = np.arange(size)
    frames = {OWN: lender_record(world, chunk, people)}
    for domain in DOMAINS:
        first = next(partner for partner in world.partners if partner.domain == domain)
        frames[domain] = partner_record(world, chunk, people, first, everybody)
    return people, {block: numbers(block, frames[block]) for block in BLOCKS}


def numbers(domain: str, frame: pl.DataFrame) -> np.ndarray:
    """Columns on scales near the normal, missing ones as zero beside a mark."""
    found = []
    for name in frame.columns:
        form = columns()[domain][name].get("form")
        if form is None:
            known = frame[name].drop_nulls().unique().sort()
            found += [(frame[name] == value).fill_null(False).to_numpy().astype(float) for value in known[1:]]
            continue
        value = frame[name].cast(pl.Float64).to_numpy()
        gone = np.isnan(value)
        if form in ("money", "owed", "count", "ratio"):
            value = np.log1p(value)
        elif form == "share":
            value = np.log((value + 1e-3) / (1.001 - value))
        found.append(np.where(gone, 0.0, value - np.nanmean(value) if not gone.all() else 0.0))
        if gone.any():
            found.append(gone.astype(float))
    return np.stack(found, axis=1)


class Scorer:
    """A logistic regression over some blocks, those of unknown persons zero beside a mark."""

    def __init__(self, people: People, found: dict[str, np.ndarray], names: Sequence[str]) -> None:
        self.names = names
        x = self._matrix(people, found)
        self.mean, self.spread = x.mean(axis=0), x.std(axis=0) + 1e-9
        self.weights = logistic((x - self.mean) / self.spread, people.defaulted.astype(float), ridge=10.0)

    def z(self, people: People, found: dict[str, np.ndarray]) -> np.ndarray:
        """Log-odds of default."""
        x = (self._matrix(people, found) - self.mean) / self.spread
        return self.weights[0] + x @ self.weights[1:]

    def _matrix(self, people: People, found: dict[str, np.ndarray]) -> np.ndarray:
        parts = []
        for name in self.names:
            known = people.covered[:, DOMAINS.index(name)] if name in DOMAINS else np.ones(len(people), dtype=bool)
            parts += [found[name] * known[:, None], known[:, None].astype(float)]
        return np.concatenate(parts, axis=1)
