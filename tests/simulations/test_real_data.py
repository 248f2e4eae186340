"""Quality on the public credit data, where they are: floors below the measured figures (docs/learner.md)."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from model import metrics
from simulations.datasets import DataSet, find

ROOT = Path(__file__).parents[3] / "shared" / "data"
FLOORS = [("uci_default", 0.75), ("lending_club_2007_2011", 0.67)]


def _found(name: str) -> DataSet:
    data = find(name, ROOT)
    if data is None:
        pytest.skip(f"{name} is not under shared/data")
    return data


def _means(name: str, out: Path, epsilon: float, seeds: int) -> dict[str, float]:
    """Mean AUC by arm of a sweep."""
    from simulations.sweep.running import Sweep, sweep

    arms = ("apart", "own-block")
    sweep(Sweep((name,), out, ROOT, (epsilon,), seeds, arms, decide=1, report=False))
    rows = pl.read_parquet(out / "results.parquet")
    assert rows["error"].to_list() == [""] * seeds * 2
    return dict(rows.group_by("arm").agg(pl.col("auc").mean()).iter_rows())


def _scikit_learn_apart(data: DataSet, folder: Path) -> float:
    """AUC of the same blocks, each fitted by scikit-learn and then fused by it."""
    from sklearn.linear_model import LogisticRegression

    from simulations.baselines import pooled
    from simulations.preflight import node_of
    from simulations.settings import Settings

    rows = pooled(node_of(Settings(data.federation, folder, data.data), folder))
    everybody = np.arange(len(rows.labels))

    def fitted(x: np.ndarray) -> np.ndarray:
        model = LogisticRegression(C=1.0, max_iter=3000).fit(x[rows.train], rows.labels[rows.train])
        return np.asarray(model.decision_function(x))

    z = fitted(np.stack([fitted(block.matrix(everybody)) for block in rows.blocks], axis=1))
    return metrics.auc(rows.labels[rows.held], z[rows.held]) or math.nan


@pytest.mark.slow
@pytest.mark.parametrize(("name", "floor"), FLOORS)
def test_the_whole_chain_at_epsilon_one_stays_above_its_floor(name: str, floor: float, tmp_path: Path) -> None:
    _found(name)
    means = _means(name, tmp_path / "sweep", 1.0, seeds=3)
    assert means["apart"] > floor
    assert means["apart"] > means["own-block"]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, _ in FLOORS])
def test_without_noise_the_chain_is_within_three_thousandths_of_scikit_learn_on_the_same_blocks(
    name: str, tmp_path: Path
) -> None:
    data = _found(name)
    means = _means(name, tmp_path / "sweep", math.inf, seeds=1)
    assert means["apart"] > _scikit_learn_apart(data, tmp_path) - 0.003
