"""Drift by month of the held-out persons, where the lender's files have a column `date` or one that cuts the split.

The population stability index of a month compares its scores with those of the first months, in tenths of the
first held-out months: PSI = sum (p - q) ln(p / q). Without any drift, PSI / (1/n + 1/m) of n and m persons is about
chi-square with 9 degrees of freedom, so few persons alone give a large index: each month's bound on chance is told too.

Sources: Siddiqi (2006), "Credit Risk Scorecards", for the index and its marks at .10 and .25; Yurdakul and Naranjo
(2020), "Statistical properties of the population stability index", J. Risk Model Validation 14, for its distribution.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import polars as pl
from scipy.stats import chi2

from clients.config import Node
from clients.files import read_columns
from model.metrics import Floats
from simulations.sweep.points import Point, point

DATE = "date"
FIRST = 3  # months that others are compared with
FEWEST = 100  # persons of a month
BANDS = 10
CHANCE = 0.05  # that without drift any month at all is above its bound


def curves(node: Node, persons: pl.DataFrame) -> list[Point]:
    """The curves `drift_psi` and `drift_rate`; nothing where the lender's files have no dates, or one month only.

    Args:
        node: for the lender's files.
        persons: the held-out persons' `id`, `z`, `pd` and `label`.
    """
    months = _months(node, persons)
    if len(months) < 2:
        return []
    first = np.concatenate([part["z"].to_numpy() for _, part in months[:FIRST]])
    edges = np.unique(np.quantile(first, np.arange(1, BANDS) / BANDS))
    indices, rates = [], []
    bound = chance(len(edges), len(months))
    for month, part in months:
        index = psi(first, part["z"].to_numpy(), edges)
        rate, expected = part.select(pl.col("label", "pd").cast(pl.Float64).mean()).row(0)
        most = bound * (1 / len(first) + 1 / part.height)
        indices.append(point("drift_psi", at=month, value=index, high=most, weight=part.height))
        rates.append(point("drift_rate", at=month, value=rate, low=expected, weight=part.height))
    return indices + rates


def chance(edges: int, months: int) -> float:
    """What PSI / (1/n + 1/m) stays below in all months, but for a chance of `CHANCE`, where nothing drifts.

    >>> round(chance(9, 24), 1)
    25.9
    """
    return float(chi2.ppf(1 - CHANCE / months, max(edges, 1)))


def psi(first: Floats, now: Floats, edges: Floats) -> float:
    """The population stability index of two samples, in the bins between `edges`; an empty bin counts half a person.

    >>> psi(np.array([1.0, 2.0]), np.array([2.0, 1.0]), np.array([1.5]))
    0.0
    """
    p, q = (
        np.maximum(np.bincount(np.searchsorted(edges, values, "right"), minlength=len(edges) + 1), 0.5) / len(values)
        for values in (first, now)
    )
    return float(((q - p) * np.log(q / p)).sum())


def _months(node: Node, persons: pl.DataFrame) -> list[tuple[float, pl.DataFrame]]:
    """The persons of each month that has enough of them, by months since year 0."""
    federation = node.federation
    column = federation.cut.column if federation.cut else DATE
    for path in federation.lender.data:
        dates = _dates(path, path.stat().st_mtime_ns, federation.id, column)
        if dates is not None:
            parts = persons.join(dates, on="id", how="inner").partition_by("month", as_dict=True)
            return sorted((float(m), part) for (m,), part in parts.items() if part.height >= FEWEST)
    return []


@lru_cache(maxsize=4)
def _dates(path: Path, _changed: int, id_column: str, column: str) -> pl.DataFrame | None:
    """The `month` of each `id` that has a date, or None where this file has no dates of that name."""
    table = read_columns(path, id_column, [column])
    kind = table.schema.get(column)
    if kind == pl.String:
        day = (pl.col(column).str.slice(0, 7) + "-01").str.to_date("%Y-%m-%d", strict=False)
    elif kind in (pl.Date, pl.Datetime):
        day = pl.col(column).cast(pl.Date)
    else:
        return None
    month = day.dt.year().cast(pl.Int64) * 12 + day.dt.month() - 1
    return table.select(id=id_column, month=month).drop_nulls()
