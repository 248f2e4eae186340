"""The two tables of a sweep, read and checked, and one set's part of them as figures need it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl

from simulations.estimates import Estimate, Floats, shared_variance
from simulations.sweep.report.reading import SHARES, read_curves, read_results
from simulations.sweep.report.words import in_order
from simulations.sweep.rows import KEY

PERSON = "person"  # what epsilon covers, in the column `private`
OWN_BLOCK, POOLED = "own-block", "pooled"
PINNED = "pinned"  # in the column `split`: all seeds share one
RESAMPLED = "resampled"  # the curve of the AUC on resampled persons
AUDIT = "audit:"  # begins the error of a training whose audit refused it: it ran to its end and released its sums


@dataclass(frozen=True)
class Part:
    """One set's cells, sorted, and their curves."""

    name: str
    results: pl.DataFrame
    curves: pl.DataFrame

    @cached_property
    def cells(self) -> pl.DataFrame:
        """The cells that have figures."""
        return self.results.filter(~_failed() & pl.col("auc").is_finite())

    @cached_property
    def failed(self) -> pl.DataFrame:
        """The cells that have none, each with its error."""
        return self.results.filter(_failed())

    @cached_property
    def trained(self) -> pl.DataFrame:
        """The cells that trained and released what they had to, those that their audit refused among them."""
        return self.results.filter(~_failed() | pl.col("error").str.starts_with(AUDIT))

    @cached_property
    def pinned(self) -> bool:
        """Whether all seeds share one split of the persons."""
        return not self.cells.is_empty() and bool((self.cells["split"].fill_null("") == PINNED).all())

    @cached_property
    def split_known(self) -> bool:
        """Whether the tables tell if seeds share a split; those of earlier sweeps do not."""
        return self.cells["split"].null_count() == 0

    @cached_property
    def resampled(self) -> bool:
        """Whether every cell tells its AUC on the same resamples of the same persons; earlier sweeps' do not."""
        told = self.curves.filter((pl.col("curve") == RESAMPLED) & pl.col("value").is_finite())
        counts = self.cells.join(told.group_by(KEY).len(), on=KEY, how="left")["len"].fill_null(0)
        persons = self.cells.group_by("seed").agg(pl.col("held_out").n_unique())["held_out"]
        draws = told["at"].n_unique()
        return draws > 1 and bool((counts == draws).all()) and bool((persons == 1).all())

    @cached_property
    def holders(self) -> int:
        """How many holders the data lie with; partners that an arm made up of one count as that one."""
        federated = (pl.col("trust") != POOLED) & (pl.col("learner") != OWN_BLOCK)
        counts = self.results.filter(federated)["holders"].drop_nulls().to_list()
        return min(counts or self.results["holders"].drop_nulls().to_list(), default=0)

    @cached_property
    def arms(self) -> tuple[str, ...]:
        """The arms that have figures, in the report's order."""
        return in_order(set(self.cells["arm"]))

    @cached_property
    def ours(self) -> tuple[str, ...]:
        """Those of them that are this project's federations under a person's budget."""
        return tuple(arm for arm in self.arms if self.protects_persons(arm) and self.is_federation(arm))

    @cached_property
    def main(self) -> str:
        """The arm that single figures show: the first of ours that trained with noise, else of ours, else of all."""
        noisy = [arm for arm in self.ours if math.isfinite(self.epsilons(arm)[0])]
        return next(iter(noisy or self.ours or self.arms), "")

    @cached_property
    def epsilon(self) -> float:
        """The budget that single figures show: the main arm's nearest to 1."""
        return nearest_to_one(self.epsilons(self.main))

    def _about(self, arm: str) -> dict[str, object]:
        return self.cells.filter(pl.col("arm") == arm).row(0, named=True)

    def trust(self, arm: str) -> str:
        """Whom an arm trusts."""
        return str(self._about(arm)["trust"])

    def learner(self, arm: str) -> str:
        """What an arm learns with."""
        return str(self._about(arm)["learner"])

    def is_federation(self, arm: str) -> bool:
        """Whether holders train together, perhaps over a trusted curator, neither pooled nor a lender alone."""
        return self.trust(arm) != POOLED and self.learner(arm) != OWN_BLOCK

    def is_private(self, arm: str) -> bool:
        """Whether epsilon covers anything under this arm."""
        return self._about(arm)["private"] != "nothing"

    def protects_persons(self, arm: str) -> bool:
        """Whether epsilon covers all of a person."""
        return self._about(arm)["private"] == PERSON

    def uses_protected(self, arm: str) -> bool:
        """Whether features marked protected train."""
        return bool(self._about(arm)["protected"])

    def epsilons(self, arm: str = "") -> tuple[float, ...]:
        """The budgets that have figures, of one arm or of all; that without noise is last."""
        cells = self.cells.filter(pl.col("arm") == arm) if arm else self.cells
        return tuple(sorted(set(cells["epsilon"])))

    def seeds(self, arm: str, epsilon: float) -> int:
        """With how many seeds."""
        return self._cells_of(arm, epsilon).height

    def _cells_of(self, arm: str, epsilon: float) -> pl.DataFrame:
        return self.cells.filter((pl.col("arm") == arm) & (pl.col("epsilon") == epsilon))

    def values(self, arm: str, epsilon: float, column: str) -> Floats:
        """A column, one value a seed that has it, in the seeds' order."""
        found = self._cells_of(arm, epsilon)[column].cast(pl.Float64).drop_nulls().to_numpy()
        return np.asarray(found[np.isfinite(found)], dtype=np.float64)

    def estimate(self, arm: str, epsilon: float, column: str) -> Estimate | None:
        """A column's mean and interval over seeds, within what it can be; None where no seed has it."""
        values = self.values(arm, epsilon, column)
        most = 1.0 if column in SHARES else math.inf
        return Estimate.of_cells(values, 0.0 if column in SHARES else -math.inf, most) if len(values) else None

    def difference(self, arm: str, other: str, epsilon: float, than: float | None = None) -> Estimate | None:
        """The AUC of one arm less that of another, seed by seed: they share the persons; None without a shared seed.

        Where the cells were resampled, the interval holds the chance of the persons too.

        Args:
            arm: which one.
            other: the one that is taken off; it may be the same arm.
            epsilon: the budget of both.
            than: that of the other, where it is another.
        """
        of_other = epsilon if than is None else than
        both = self._cells_of(arm, epsilon).join(self._cells_of(other, of_other), on="seed", suffix="_of_other")
        gaps = both.sort("seed").select(pl.col("auc") - pl.col("auc_of_other")).to_series().to_numpy()
        if not len(gaps):
            return None
        if len(gaps) < 2 or not self.resampled:
            return Estimate.of_cells(gaps, -1.0, 1.0)
        mine, others = self.curve(RESAMPLED, arm, epsilon), self.curve(RESAMPLED, other, of_other)
        table = mine.join(others, on=["seed", "at"], suffix="_of_other")
        table = table.with_columns(gap=pl.col("value") - pl.col("value_of_other"))
        wide = table.pivot("seed", index="at", values="gap").drop("at").drop_nulls()
        common = 1.0 if self.pinned else float((both["held_out"] / both["persons"]).to_numpy().mean())
        return Estimate.of_cells(gaps, -1.0, 1.0, shared_variance(wide.to_numpy().T, common))

    def has(self, column: str, arm: str = "") -> bool:
        """Whether any cell, of one arm or of all, has this column."""
        cells = self.cells.filter(pl.col("arm") == arm) if arm else self.cells
        return bool(cells[column].cast(pl.Float64).is_finite().any())

    def curve(self, curve: str, arm: str, epsilon: float) -> pl.DataFrame:
        """A curve's points under one arm and budget, all seeds."""
        where = (pl.col("curve") == curve) & (pl.col("arm") == arm) & (pl.col("epsilon") == epsilon)
        return self.curves.filter(where)


@dataclass(frozen=True)
class Tables:
    """The tables of a sweep, a part a set."""

    parts: tuple[Part, ...]

    @cached_property
    def cells(self) -> int:
        """How many trainings were asked for."""
        return sum(part.results.height for part in self.parts)


def read_tables(out: Path) -> Tables:
    """Reads a sweep's folder.

    Raises:
        InputError: a table is missing, unreadable, without rows, or holds what no sweep writes.
    """
    results, curves = read_results(out), read_curves(out)
    names = sorted(set(results["set"]))
    return Tables(tuple(Part(n, results.filter(pl.col("set") == n), curves.filter(pl.col("set") == n)) for n in names))


def nearest_to_one(epsilons: Sequence[float]) -> float:
    """The finite budget nearest to 1 on a log scale; inf where there is none.

    >>> nearest_to_one([0.1, 0.5, 2.0, math.inf]), nearest_to_one([math.inf])
    (0.5, inf)
    """
    return min((e for e in epsilons if math.isfinite(e)), key=lambda e: (abs(math.log(e)), e), default=math.inf)


def _failed() -> pl.Expr:
    return pl.col("error").fill_null("") != ""
