"""Figures of a sweep keep every word and interval where it can be read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib
import polars as pl
import pytest
from matplotlib.axes import Axes
from matplotlib.text import Text

from simulations.charts import SETTINGS, Chart
from simulations.sweep.report import costs, drift, gains, lending, quality
from simulations.sweep.report.drawing import Drawn
from simulations.sweep.report.tables import read_tables
from simulations.sweep.report.words import texts
from tests.sweep_tables import Asked, change, write_tables

LONGEST = 1.0 / 0.55  # width of a Chinese character, in Latin ones


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    """A sweep of one budget and two seeds."""
    asked = Asked(arms=("joint", "apart", "own-block", "dp-ebm"), epsilons=(1.0,), seeds=2)
    out = write_tables(tmp_path_factory.mktemp("sweeps") / "sweep", asked)
    return change(out, "curves", group=pl.col("group").str.replace("age=", "age_in_years="))


def _chart(out: Path, figure: Callable[..., Drawn]) -> tuple[Chart, Drawn]:
    with matplotlib.rc_context(SETTINGS):
        drawn = figure(read_tables(out).parts[0])
    assert drawn.chart is not None
    drawn.chart.settle()
    return drawn.chart, drawn


def _texts(axes: Axes) -> dict[str, Text]:
    return {text.get_text(): text for text in axes.texts}


@pytest.mark.parametrize(
    "figure", [lending.fairness, costs.trust, costs.audit, costs.cost, costs.releases, drift.drift, quality.quality,
               gains.shapley, lending.decisions],
)  # fmt: skip
def test_no_word_is_cut_at_the_figures_edge(out: Path, figure: Callable[..., Drawn]) -> None:
    chart, _ = _chart(out, figure)
    edge = chart.figure.bbox
    for part in (*chart.figure.axes, *chart.figure.legends):
        box = part.get_tightbbox()
        assert box is not None
        assert edge.x0 - 1 <= box.x0 < box.x1 <= edge.x1 + 1
        assert edge.y0 - 1 <= box.y0 < box.y1 <= edge.y1 + 1


def test_the_mean_of_trust_stands_beside_the_axis_and_not_at_an_intervals_end(out: Path) -> None:
    chart, _ = _chart(out, costs.trust)
    (axes,) = chart.figure.axes
    means = [text for name, text in _texts(axes).items() if name.startswith("0.")]
    assert len(means) == 4
    assert len({round(text.get_window_extent().x0) for text in means}) == 1
    assert all(text.get_window_extent().x0 > axes.bbox.x1 for text in means)
    assert "mean" in _texts(axes)


def test_an_interval_of_fairness_that_leaves_the_axis_has_an_arrow_and_a_word(out: Path, tmp_path: Path) -> None:
    assert _chart(out, lending.fairness)[1].numbers["beyond"].en == ""
    wide = write_tables(tmp_path / "wide", Asked(arms=("joint",), epsilons=(1.0,), seeds=2))
    far = (pl.col("group") == "age=20-29") & (pl.col("seed") == 1)
    change(wide, "curves", value=pl.when(far).then(0.6).otherwise(pl.col("value")))
    chart, drawn = _chart(wide, lending.fairness)
    left, right = chart.figure.axes
    arrows = [line for line in left.lines if line.get_marker() == ">"]
    assert len(arrows) == 1
    assert arrows[0].get_xdata()[0] == left.get_xlim()[1]
    assert not [line for line in right.lines if line.get_marker() == ">"]
    assert "goes on beyond the figure" in drawn.numbers["beyond"].en


def test_the_lines_of_drift_are_named_beside_the_axis(out: Path) -> None:
    chart, _ = _chart(out, drift.drift)
    left = chart.figure.axes[0]
    assert {"watch 0.10", "act 0.25"} == set(_texts(left))
    assert all(text.get_window_extent().x0 > left.bbox.x1 for text in left.texts)


def test_an_audit_of_one_budget_is_a_bar_an_arm_against_its_claim(out: Path) -> None:
    chart, drawn = _chart(out, costs.audit)
    (axes,) = chart.figure.axes
    assert drawn.numbers["side"].en == "left of"
    assert [round(bar.get_width(), 2) for bar in axes.patches] == [0.90, 0.90]
    assert [line.get_xdata()[0] for line in axes.lines] == [1.0]
    assert len(axes.get_xticks()) > 3


def test_no_arms_chinese_name_is_much_longer_than_the_english_one_that_its_place_is_made_for() -> None:
    for words in texts("words")["arms"].values():
        length = sum(LONGEST if ord(sign) > 0x2E80 else 1 for sign in words["zh"])
        assert length <= len(words["en"]) * 1.05, words["zh"]
