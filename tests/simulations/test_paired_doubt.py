"""Differences between arms on the same persons: their intervals hold the chance of training and of the persons."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.stats import t as student

from simulations.estimates import Estimate, Floats, shared_variance
from simulations.sweep.report import doubt, rival, summary
from simulations.sweep.report.tables import Part, read_tables
from tests.sweep_tables import Asked, change, write_tables

INF = math.inf
ASKED = Asked(arms=("joint", "own-block", "dp-ebm"), epsilons=(1.0, INF), seeds=3)
PERSONS, DRAWS = 60, 60
T, Z = student.ppf(0.975, 2), 1.959964
UNSURE = "chance, of training or of the persons"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A sweep of three seeds."""
    return write_tables(tmp_path / "sweep", ASKED)


def _part(out: Path) -> Part:
    return read_tables(out).parts[0]


def _resampled(part: Part, arm: str, epsilon: float = 1.0) -> Floats:
    return part.curve("resampled", arm, epsilon).sort("seed", "at")["value"].to_numpy().reshape(3, -1)


def _seen(training: float, rng: np.random.Generator) -> Floats:
    """What each person gives to each seed's value: something to all alike, something to each training; (seeds, n)."""
    alike, own = rng.normal(size=PERSONS), 0.5 * rng.normal(size=(3, PERSONS))
    return alike + own + training * rng.normal(size=(3, 1))


def _misses(training: float, common: float) -> tuple[int, int]:
    """Of 200 intervals, how many miss the truth, 0: with the persons and without them."""
    rng, missed = np.random.default_rng(31), [0, 0]
    share = int(common * PERSONS)
    for _ in range(200):
        given = _seen(training, rng)
        if common < 1:
            given = np.stack([one[rng.permutation(PERSONS)[:share]] for one in given])
        weights = rng.standard_exponential((DRAWS, share))
        drawn = given @ (weights / weights.sum(axis=1, keepdims=True)).T
        for place, shared in enumerate((shared_variance(drawn, common), None)):
            found = Estimate.of_cells(given.mean(axis=1), shared=shared)
            missed[place] += not (found.low is not None and found.high is not None and found.low <= 0 <= found.high)
    return missed[0], missed[1]


@pytest.mark.parametrize("training", [0.02, 0.3], ids=["little noise", "much noise"])
@pytest.mark.parametrize("common", [1.0, 0.3], ids=["one split", "a split a seed"])
def test_an_interval_of_both_chances_holds_the_truth_as_often_as_it_says(training: float, common: float) -> None:
    both, seeds_alone = _misses(training, common)
    assert both <= 10 + 12  # of 200 at 95 %: four standard deviations
    assert seeds_alone > both


def test_what_is_particular_to_a_training_is_not_counted_twice() -> None:
    drawn = np.random.default_rng(5).normal(size=(4, 4000))  # nothing in common
    assert abs(shared_variance(drawn, 1.0)) < 0.02  # while the mean's own variance is .25
    alike = np.tile(drawn[:1], (4, 1))
    assert shared_variance(alike, 1.0) == pytest.approx(alike[0].var(ddof=1))
    assert shared_variance(drawn, 0.3) == pytest.approx(0.3 * drawn.var(axis=1, ddof=1).mean())


def test_both_chances_of_a_difference_add_as_squares(out: Path) -> None:
    part = _part(out)
    gaps = part.values("joint", 1.0, "auc") - part.values("dp-ebm", 1.0, "auc")
    covariance = np.cov(_resampled(part, "joint") - _resampled(part, "dp-ebm"))
    shared = max(covariance[np.triu_indices(3, 1)].mean(), 0)
    found = part.difference("joint", "dp-ebm", 1.0)
    assert found is not None
    half = math.hypot(T * gaps.std(ddof=1) / math.sqrt(3), Z * math.sqrt(shared))
    assert (found.low, found.high) == pytest.approx((gaps.mean() - half, gaps.mean() + half))
    change(out, "results", split=pl.lit("seeded"))
    shared = 8_948 / 30_000 * np.trace(covariance) / 3
    found = _part(out).difference("joint", "dp-ebm", 1.0)
    assert found is not None
    assert found.se == pytest.approx(math.hypot(gaps.std(ddof=1) / math.sqrt(3), math.sqrt(shared)))
    half = math.hypot(T * gaps.std(ddof=1) / math.sqrt(3), Z * math.sqrt(shared))
    assert (found.low, found.high) == pytest.approx((gaps.mean() - half, gaps.mean() + half))


def test_a_difference_of_copies_has_the_interval_of_the_persons(out: Path) -> None:
    where = pl.col("epsilon").is_infinite()
    change(out, "results", auc=pl.when(where).then(pl.col("arm").str.len_chars() / 100 + 0.6).otherwise("auc"))
    moved = pl.col("at").sin() * pl.col("arm").str.len_chars() / 1000
    resampled = (pl.col("curve") == "resampled") & where
    change(out, "curves", value=pl.when(resampled).then(0.7 + moved).otherwise("value"))
    found = _part(out).difference("own-block", "joint", INF)
    assert found is not None
    assert found.se == pytest.approx(np.std(np.sin(np.arange(20.0)), ddof=1) * 4 / 1000)
    assert found.high == pytest.approx(found.mean + Z * found.se)


def test_the_report_says_whether_a_difference_may_be_chance_of_either_kind(out: Path) -> None:
    tables = read_tables(out)
    assert UNSURE not in rival.sentence(tables.parts[0]).en
    told = rival.verdict(tables)
    assert "counts the noise of training and the sample of held-out persons, not the sample trained on" in told.en
    assert "留出人群的抽样" in told.zh
    assert "one held-out sample" not in told.en
    assert (
        "are of the same persons: over all of them, their intervals hold the noise of training and"
        in doubt.chance(tables.parts[0]).en
    )
    wide = (pl.col("curve") == "resampled") & (pl.col("arm") == "joint") & (pl.col("at") % 2 == 0)
    change(out, "curves", value=pl.when(wide).then(pl.col("value") - 0.2).otherwise("value"))
    tables = read_tables(out)
    assert f"but the difference may be {UNSURE}" in rival.verdict(tables).en
    assert "差异可能只是训练或留出人群的偶然" in rival.verdict(tables).zh
    assert UNSURE in rival.sentence(tables.parts[0]).en
    gain = next(told.en for told in summary.findings(tables.parts[0]) if "than the lender alone" in told.en)
    assert gain.endswith(f"; it may be {UNSURE}.")


def test_tables_that_lack_a_cells_resamples_are_told_as_before(out: Path) -> None:
    path, lacks = out / "curves.parquet", (pl.col("arm") == "joint") & (pl.col("seed") == 0)
    pl.read_parquet(path).filter(~(lacks & (pl.col("curve") == "resampled"))).write_parquet(path)
    part = _part(out)
    gaps = part.values("joint", 1.0, "auc") - part.values("dp-ebm", 1.0, "auc")
    found = part.difference("joint", "dp-ebm", 1.0)
    assert found is not None
    assert found.se == pytest.approx(gaps.std(ddof=1) / math.sqrt(3))
    assert "one held-out sample" in rival.verdict(read_tables(out)).en
    assert "would move a difference between arms, these tables do not tell" in doubt.chance(part).en
    assert "同一批人：" not in doubt.chance(part).zh
