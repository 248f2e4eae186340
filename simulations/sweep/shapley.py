"""What each domain adds to the AUC of one finished cell: Shapley values over all subsets of blocks.

A subset's AUC is that of the published table with the other domains absent, on the true held-out labels: only a
simulation may do that. Where the run told contributions of its own, they are taken: they are post-processing of its
one joint release, cost nothing and come with intervals, so a real run has them too.

Source: L. S. Shapley (1953), "A value for n-person games".
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain, combinations
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from model import fusion, metrics
from model.bundle import decision_bundle
from model.contributions import MAX_BLOCKS, Floats, Subset, shapley
from model.fusion import Subscores
from model.limits.table import MICRO, DecisionBundle
from simulations.deciding import sampled
from simulations.sweep.points import Point, point

PERSONS = 20_000  # at most: enough for an AUC to .005


def told(contributions: Mapping[str, Mapping[str, float]]) -> list[Point]:
    """The curve `shapley` from the contributions of a run's report."""
    return [
        point("shapley", name, value=c["shapley"], low=c["low"], high=c["high"])
        for name, c in sorted(contributions.items())
    ]


def measured(model: Path, persons: pl.DataFrame) -> list[Point]:
    """The curve `shapley` from a published model and held-out persons; nothing for more than `MAX_BLOCKS` blocks.

    Args:
        model: the model's folder.
        persons: `id`, `label` and the blocks' sub-scores `sub_BLOCK` in micro-logit, null where there is none.
    """
    bundle = decision_bundle(model)
    blocks = bundle.table.blocks
    if len(blocks) > MAX_BLOCKS:
        return []
    values = separations(bundle, sampled(persons, PERSONS))
    if values is None:
        return []
    return [point("shapley", name, value=float(v)) for name, v in sorted(shapley(blocks, values).items())]


def separations(bundle: DecisionBundle, persons: pl.DataFrame) -> dict[Subset, Floats] | None:
    """AUC less one half of every subset of blocks, those outside it absent; None where one class is absent.

    The lender's own block is never absent in a table: outside it, everybody has its average.
    """
    table = bundle.table
    labels = persons["label"].to_numpy().astype(np.float64)
    whole = np.stack([_log_odds(persons, block) for block in table.blocks], axis=1)
    found: dict[Subset, Floats] = {}
    for subset in chain.from_iterable(combinations(table.blocks, size) for size in range(len(table.blocks) + 1)):
        kept = whole.copy()
        for i, block in enumerate(table.blocks):
            if block not in subset:
                kept[:, i] = bundle.reference_e6[block] / MICRO if block == table.own else np.nan
        z = fusion.z_e6(table, Subscores(table.optional, table.own, kept))
        auc = metrics.auc(labels, z.astype(np.float64))
        if auc is None:
            return None
        found[subset] = np.asarray(auc - 0.5)
    return found


def _log_odds(persons: pl.DataFrame, block: str) -> Any:
    return persons[f"sub_{block}"].cast(pl.Float64).fill_null(float("nan")).to_numpy() / MICRO
