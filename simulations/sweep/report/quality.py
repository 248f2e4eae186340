"""Figures of quality: how well persons are ranked, whether the predicted rates are right, and the scores themselves."""

from __future__ import annotations

import numpy as np
import polars as pl
from matplotlib.axes import Axes

from simulations.charts import BLUE, ORANGE, Chart, chart_of
from simulations.estimates import Floats
from simulations.sweep.report.doubt import chance, intervals
from simulations.sweep.report.drawing import GREY, NORMAL, NOTHING, WIDTH, Budgets, Drawn, about, draw_arms, line_of
from simulations.sweep.report.tables import OWN_BLOCK, Part
from simulations.sweep.report.words import Pair, at_budget, budget, estimated, look_of, number

_BIN = 25.0  # points
_MANY = 7  # arms that one panel can hold


def quality(part: Part) -> Drawn:
    """AUC, KS and Brier score against the budget, by arm; many arms share two panels of AUC, and few the rest."""
    crowded = len(part.arms) > _MANY
    chart = chart_of(WIDTH, 7.2 if crowded else 6.6)
    axes = chart.figure.subplot_mosaic("ao;kb" if crowded else "aa;kb", height_ratios=[1.5, 1])
    ours = [arm for arm in part.arms if part.is_federation(arm) or arm == OWN_BLOCK]
    others = [part.main, *(arm for arm in part.arms if arm not in ours)]
    few = _few(part) if crowded else part.arms
    panels = {
        "a": ("auc", ours if crowded else part.arms, "AUC (higher is better)", "AUC（越高越好）"),
        "o": ("auc", others, "AUC, beside pooled data", "AUC，与数据集中对比"),
        "k": ("ks", few, "KS (higher is better)", "KS（越高越好）"),
        "b": ("brier", few, "Brier score (lower is better)", "Brier 分数（越低越好）"),
    }
    for name, panel in axes.items():
        column, arms, *label = panels[name]
        draw_arms(panel, chart, part, column, arms)
        _sample_band(panel, chart, part, column)
        panel.set_ylabel(chart.say(*label))
    chart.legend(list(axes.values()), columns=3)
    found = part.estimate(part.main, part.epsilon, "auc")
    means = [part.values(part.main, e, "auc").mean() for e in part.epsilons(part.main)]
    told = {"auc": estimated(found) if found else "–", "from": number(min(means)), "to": number(max(means))}
    doubts = {"intervals": intervals(part), "chance": chance(part)}
    return Drawn(chart, about(part) | doubts | {name: Pair.same(text) for name, text in told.items()})


def _few(part: Part) -> list[str]:
    """The arms that a small panel can hold: the main one, and the first of each kind beside it."""
    chosen = (part.main, "apart", OWN_BLOCK, "dp-ebm", "trees")
    return [arm for arm in part.arms if arm in chosen]


def _sample_band(axes: Axes, chart: Chart, part: Part, column: str) -> None:
    """What another sample of held-out persons might have given for the main arm: a light band about its line."""
    mean, error = (line_of(part, part.main, name) for name in (column, f"{column}_error"))
    if mean is None or error is None or mean.epsilons != error.epsilons:
        return
    budgets = Budgets(part.epsilons())
    places = np.array([budgets.at(e) for e in mean.epsilons])
    half, colour = NORMAL * error.mean, look_of(part.main).colour
    label = chart.say("another test sample might give this", "换一批测试样本可能的范围")
    if len(places) == 1:
        places = places + np.array([-0.04, 0.04]) * budgets.span
    axes.fill_between(places, mean.mean - half, mean.mean + half, color=colour, alpha=0.13, linewidth=0, label=label)


def calibration(part: Part) -> Drawn:
    """Predicted against observed defaults by tenth of the persons, a panel a budget; thin lines are single seeds."""
    found = {e: _tenths(part.curve("calibration", part.main, e)) for e in part.epsilons(part.main)}
    found = {epsilon: seeds for epsilon, seeds in found.items() if seeds}
    if not found:
        return NOTHING
    columns = min(len(found), 4)
    rows = -(-len(found) // columns)
    chart = chart_of(WIDTH, 2.2 * rows + 0.5)
    grid = chart.figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    top = 105 * max(float(seed.max()) for seeds in found.values() for seed in seeds)
    look = look_of(part.main)
    for axes in grid.flat[len(found) :]:
        axes.set_axis_off()
    for place, (axes, (epsilon, seeds)) in enumerate(zip(grid.flat, found.items(), strict=False)):
        heading = budget(epsilon)
        axes.set_title(chart.say(heading.en, heading.zh), fontsize=9)
        axes.plot([0, top], [0, top], color=GREY, linestyle=(0, (4, 3)), linewidth=1)
        for seed in seeds:
            axes.plot(100 * seed[:, 0], 100 * seed[:, 1], color=look.colour, alpha=0.25, linewidth=0.8)
        mean = 100 * np.mean([seed for seed in seeds if len(seed) == len(seeds[0])], axis=0)
        axes.plot(mean[:, 0], mean[:, 1], color=look.colour, marker=look.marker, markersize=4, linewidth=1.6)
        axes.set_xlim(0, top)
        axes.set_ylim(0, top)
        axes.tick_params(labelbottom=place >= len(found) - columns)
    chart.figure.supxlabel(chart.say("predicted defaults, %", "预测违约率（%）"), fontsize=9.5)
    chart.figure.supylabel(chart.say("observed defaults, %", "实际违约率（%）"), fontsize=9.5)
    seeds = found.get(part.epsilon) or next(iter(found.values()))
    gap = float(np.mean([np.abs(seed[:, 0] - seed[:, 1]).mean() for seed in seeds]))
    return Drawn(chart, about(part) | {"gap": Pair.same(number(100 * gap, 2))})


def _tenths(curve: pl.DataFrame) -> list[Floats]:
    """Each seed's tenths in order: predicted and observed, shape (tenths, 2)."""
    points = curve.filter(pl.col("at").is_not_null() & pl.col("value").is_not_null())
    return [
        points.filter(pl.col("seed") == seed).select("at", "value").to_numpy() for seed in sorted(set(points["seed"]))
    ]


def scores(part: Part) -> Drawn:
    """How the scores of good and bad payers are spread, at three budgets."""
    have = [e for e in part.epsilons(part.main) if part.curve("scores", part.main, e).height]
    if not have:
        return NOTHING
    shown = sorted({have[0], part.epsilon if part.epsilon in have else have[0], have[-1]})
    chart = chart_of(WIDTH, 3.3)
    grid = chart.figure.subplots(1, len(shown), sharex=True, sharey=True, squeeze=False)
    for axes, epsilon in zip(grid.flat, shown, strict=True):
        heading = budget(epsilon)
        axes.set_title(chart.say(heading.en, heading.zh), fontsize=9)
        _spread(axes, chart, part, epsilon)
        axes.set_xlabel(chart.say("score", "分数"))
        axes.grid(False, axis="x")
    grid.flat[0].set_ylabel(chart.say("share of the group, %", "占该组比例（%）"))
    chart.legend([grid.flat[0]])
    told = part.epsilon if part.epsilon in shown else shown[0]
    means = {group: Pair.same(_mean_score(part, told, group)) for group in ("good", "bad")}
    return Drawn(chart, about(part) | means | {"at": at_budget(told)})


def _spread(axes: Axes, chart: Chart, part: Part, epsilon: float) -> None:
    curve = part.curve("scores", part.main, epsilon)
    looks = (
        ("good", "paid as agreed", "按约还款", BLUE, "-", ""),
        ("bad", "defaulted", "违约", ORANGE, "--", "////"),
    )
    for group, en, zh, colour, line, hatch in looks:
        at, share = _shares(curve.filter(pl.col("group") == group))
        if not len(at):
            continue
        edges, steps = np.append(at, at[-1] + _BIN), np.append(share, share[-1])
        axes.fill_between(
            edges, 0, 100 * steps, step="post", facecolor=(colour, 0.2), edgecolor=colour, hatch=hatch, linewidth=0
        )
        axes.step(
            edges, 100 * steps, where="post", color=colour, linestyle=line, linewidth=1.5, label=chart.say(en, zh)
        )


def _shares(curve: pl.DataFrame) -> tuple[Floats, Floats]:
    """Lower ends of the bins and the mean share over seeds; a bin that a seed lacks is empty there."""
    seeds = max(curve["seed"].n_unique(), 1)
    total = curve.group_by("at").agg(pl.col("value").sort().sum()).sort("at")
    return total["at"].to_numpy(), total["value"].to_numpy() / seeds


def _mean_score(part: Part, epsilon: float, group: str) -> str:
    at, share = _shares(part.curve("scores", part.main, epsilon).filter(pl.col("group") == group))
    return number(float(((at + _BIN / 2) * share).sum() / share.sum()), 0) if share.sum() else "–"
