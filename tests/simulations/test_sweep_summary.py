"""What a report says in numbers: means and intervals over seeds, the verdict on DP-EBM, and what comparing spends."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.stats import t as student

from privacy.accounting import Event, epsilon_of, gaussian_mu
from simulations.estimates import Estimate
from simulations.sweep.arms import ARMS
from simulations.sweep.report import rival, summary
from simulations.sweep.report.lending import _ratios, _side
from simulations.sweep.report.quality_table import markdown
from simulations.sweep.report.tables import Part, nearest_to_one, read_tables
from simulations.sweep.report.words import in_order, look_of, texts, who_sees
from tests.sweep_tables import Asked, change, write_tables

SETS = Asked(sets=("gmsc", "uci-default"))


@pytest.fixture
def tables(tmp_path):
    """Reads what was asked for."""

    def read(asked: Asked = SETS):
        return read_tables(write_tables(tmp_path / "sweep", asked))

    return read


def _part(out: Path) -> Part:
    return read_tables(out).parts[0]


def test_an_estimate_is_the_mean_of_the_seeds_with_students_interval(tables) -> None:
    part = tables().parts[1]
    rows = part.results.filter((pl.col("arm") == "joint") & (pl.col("epsilon") == 1.0))
    values = rows["auc"].to_numpy()
    found = part.estimate("joint", 1.0, "auc")
    half = student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values))
    assert (found.mean, found.low, found.high) == pytest.approx(
        (values.mean(), values.mean() - half, values.mean() + half)
    )


def test_a_cell_that_failed_is_in_no_figure(tables) -> None:
    part = tables().parts[0]
    assert part.seeds("apart", 0.1) == 3
    assert part.seeds("apart", 0.5) == 4
    assert [f.cells for f in summary.failures(tables())] == [1, 1, 1, 1]


def test_single_figures_show_the_first_of_ours_at_the_budget_nearest_to_one(tmp_path) -> None:
    asked = Asked(arms=("trees", "dp-ebm", "own-block", "apart", "joint"), epsilons=(0.1, 2.0, math.inf))
    part = _part(write_tables(tmp_path / "sweep", asked))
    assert (part.main, part.epsilon) == ("joint", 2.0)
    assert part.ours == ("joint", "apart")
    assert nearest_to_one((0.25, 4.0)) == 0.25


def test_ours_below_dp_ebm_is_said_plainly(tables) -> None:
    assert "at or above pooled DP-EBM on every set that has both (2)" in rival.verdict(tables()).en
    told = rival.verdict(tables(Asked(sets=("gmsc", "sba"), shift={"dp-ebm": 0.02})))
    assert "NOT at or above" in told.en
    assert "below on gmsc, sba" in told.en
    assert "gmsc、sba 上低于它" in told.zh
    sentence = rival.sentence(tables(Asked(shift={"dp-ebm": 0.02})).parts[0])
    assert "BELOW pooled DP-EBM" in sentence.en
    assert " less (" in sentence.en


def test_a_set_without_dp_ebm_is_not_counted_as_won(tmp_path) -> None:
    out = write_tables(tmp_path / "sweep", SETS)
    path = out / "results.parquet"
    kept = pl.read_parquet(path).filter((pl.col("set") != "gmsc") | (pl.col("arm") != "dp-ebm"))
    kept.write_parquet(path)
    told = rival.verdict(read_tables(out)).en
    assert "every set that has both (1)" in told
    assert told.endswith(" Not compared: gmsc.")
    kept.filter(pl.col("arm") != "dp-ebm").write_parquet(path)
    assert "were not both trained at epsilon 1" in rival.verdict(read_tables(out)).en


def test_ours_is_compared_with_dp_ebm_seed_by_seed_and_with_the_same_features(tables) -> None:
    arms = ("joint", "joint-protected", "dp-ebm")
    asked = Asked(arms=arms, shift={"joint-protected": 0.05}, without=("resampled",))
    part = tables(asked).parts[0]
    found = rival.match(part)
    assert (found.arm, found.of) == ("joint", 1)
    auc = {arm: part.values(arm, 1.0, "auc") for arm in ("joint", "dp-ebm")}
    gaps = auc["joint"] - auc["dp-ebm"]
    assert (found.gap.mean, found.gap.se) == pytest.approx((gaps.mean(), gaps.std(ddof=1) / 2))


def test_with_noise_the_best_arm_is_one_that_protects_a_person(tables) -> None:
    asked = Asked(arms=("joint", "response-only", "trees"), shift={"response-only": 0.15}, epsilons=(1.0, math.inf))
    first, last = summary.best_rows(tables(asked).parts[0])
    assert first.best.en == "Joint model (curator)"
    assert last.best.en == "Boosted trees (pooled, no privacy)"  # without noise, private labels are plain ones


def test_what_all_private_trainings_spend_together_is_their_composition(tables) -> None:
    part = tables(Asked(arms=("joint", "trees"), epsilons=(0.5, 1.0), seeds=3)).parts[0]
    events = [Event(1 / gaussian_mu(e, 1e-5)) for e in (0.5, 1.0) for _ in range(3)]
    told, whole = summary.spending(part), f"{epsilon_of(events, 1e-5):.1f}"
    assert told.en.startswith(
        f"uci-default: 6 private trainings together would amount to about epsilon {whole} at delta 1e-5"
    )
    assert "3 more have no noise" in told.en
    assert "would protect nobody" in summary.spending(tables(Asked(arms=("trees",))).parts[0]).en


def test_a_groups_ratio_is_to_its_features_best_group_and_small_groups_are_left_out(tmp_path) -> None:
    out = write_tables(tmp_path / "sweep", Asked(arms=("joint",), epsilons=(1.0,), seeds=2))
    shares = {"sex=f": 0.6, "sex=m": 0.45, "sex=other": 0.1}
    value = pl.col("group").replace_strict(shares, default=0.5, return_dtype=pl.Float64)
    found = _ratios(_part(change(out, "curves", value=value)), "joint")
    assert found["sex=m"][0].mean == pytest.approx(0.75)
    assert found["sex=f"][0].mean == pytest.approx(1.0)
    assert "sex=other" not in found
    assert [_side(found[group][0]).en for group in ("sex=m", "sex=f")] == [
        "below the line of four fifths", "not below the line of four fifths",
    ]  # fmt: skip
    assert "cannot tell" in _side(Estimate(0.7, 0.1, 0.5, 0.9)).en


def test_the_table_has_a_row_a_set_with_mean_and_deviation(tables) -> None:
    read = tables()
    lines = markdown(read).splitlines()
    values = read.parts[1].values("joint", 1.0, "auc")
    cell = f".{round(values.mean() * 1e4):04d} ± .{round(values.std(ddof=1) * 1e4):04d}"
    assert lines[2].startswith("| set (data holders, training persons) | Joint model (curator), epsilon 1 | ")
    assert lines[5].startswith(f"| `uci-default` (3, 21,052) | {cell} | ")
    assert len({line.count("|") for line in lines[2:6]}) == 1
    assert sum(line.startswith("| `gmsc` | `") for line in lines) == 5


def test_every_named_arm_has_words_and_a_look_of_its_own() -> None:
    words = texts("words")["arms"]
    assert set(words) == set(ARMS)
    looks = [look_of(arm) for arm in words]
    assert len({(look.line, look.marker) for look in looks}) == len({look.hatch for look in looks}) == len(looks)
    assert all(len(text) < 80 for arm in words.values() for text in (arm["sees_en"], arm["sees_zh"]))


def test_an_arm_without_words_is_called_by_its_name_and_comes_last() -> None:
    assert in_order({"mine", "trees", "joint"}) == ("joint", "trees", "mine")
    assert who_sees("mine", "pooled").en == "One party sees all rows in the clear"
    assert look_of("mine") == look_of("mine")


def test_one_seed_leaves_no_interval(tables) -> None:
    part = tables(Asked(seeds=1)).parts[0]
    assert part.estimate("joint", 1.0, "auc").low is None
    assert np.isfinite(part.estimate("joint", 1.0, "auc").mean)
    assert "cannot tell it from none" in rival.sentence(part).en
    assert "One seed cannot tell" in summary.findings(part)[-1].en
