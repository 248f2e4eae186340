"""Figures of the decisions: who gets an offer at which budget, what it earns, and whether groups are treated alike."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
from matplotlib.axes import Axes

from simulations.charts import BLUE, GREEN, RED, SKY, YELLOW, Chart, chart_of
from simulations.estimates import Estimate
from simulations.sweep.report.drawing import (
    GREY,
    NOTHING,
    WIDTH,
    Budgets,
    Drawn,
    about,
    draw_arms,
    draw_line,
    ends,
    line_of,
)
from simulations.sweep.report.tables import Part
from simulations.sweep.report.words import Look, Pair, arm_name, arm_told, called, look_of, number, percent

FOUR_FIFTHS = 0.8  # of the best group's share with an offer: the customary line of adverse impact
MOST_RATIO = 1.25  # where the axis of ratios ends
FEWEST = 100  # persons of a group: the shares of fewer say little
_KINDS = (
    ("APPROVE", BLUE, ""), ("TRIAL", SKY, "////"), ("DEFER", YELLOW, "...."), ("REFER", GREEN, "xxxx"),
    ("DECLINE", "#BBBBBB", ""),
)  # fmt: skip


def decisions(part: Part) -> Drawn:
    """Approval, the mix of decisions, loss and profit against the budget."""
    if not part.has("approval", part.main):
        return NOTHING
    chart = chart_of(WIDTH, 6.4)
    grid = chart.figure.subplots(2, 2)
    draw_arms(grid[0, 0], chart, part, "approval", part.arms, 100.0)
    grid[0, 0].set_ylabel(chart.say("persons with an offer, %", "获得额度的人（%）"))
    grid[0, 0].set_ylim(0, 1.12 * grid[0, 0].get_ylim()[1])
    _mix(grid[0, 1], chart, part)
    for axes, expected, realised, texts in (
        (grid[1, 0], "expected_loss", "realised_loss", ("loss a year and applicant", "每名申请人每年的损失")),
        (grid[1, 1], "profit_expected", "profit_realised", ("profit a year and applicant", "每名申请人每年的利润")),
    ):
        _money(axes, chart, part, (expected, realised))
        axes.set_ylabel(chart.say(*texts))
    chart.legend([grid[0, 0]], columns=3)
    approval, *profits = (
        part.estimate(part.main, part.epsilon, name) for name in ("approval", "profit_expected", "profit_realised")
    )
    told = [Pair.same(number(found.mean, 2) if found else "–") for found in profits]
    offers = Pair.same(percent(approval.mean) if approval else "–")
    told_of = {"approval": offers, "expected": told[0], "realised": told[1], "without": _without(part)}
    return Drawn(chart, about(part) | told_of)


def _without(part: Part) -> Pair:
    """Which arms are missing, and why."""
    names = [arm_told(arm) for arm in part.arms if not part.has("approval", arm)]
    if not names:
        return Pair("", "")
    return Pair(
        f"Not here: {', '.join(name.en for name in names)}. Only a whole federation's run ends in decisions.",
        f"未列出：{'、'.join(name.zh for name in names)}。只有完整的联邦运行才给出额度决定。",
    )


def _mix(axes: Axes, chart: Chart, part: Part) -> None:
    """Stacked shares of each kind of decision under the main arm."""
    budgets = part.epsilons(part.main)
    tables = [_kinds(part, epsilon) for epsilon in budgets]
    places, below = np.arange(len(budgets)), np.zeros(len(budgets))
    for kind, colour, hatch in _KINDS:
        shares = np.array([table.get(kind, 0.0) for table in tables]) * 100
        if shares.any():
            words = called("decisions", kind)
            axes.bar(
                places, shares, 0.7, bottom=below, color=colour, hatch=hatch, edgecolor="white", linewidth=0.5,
                label=chart.say(words.en, words.zh),
            )  # fmt: skip
            below += shares
    names = [chart.say("no noise", "无噪声") if math.isinf(e) else f"{e:g}" for e in budgets]
    axes.set_xticks(places, names)
    axes.set_xlabel(chart.say("epsilon", "epsilon"))
    name = arm_name(part.main)
    axes.set_ylabel(chart.say(f"decisions, %: {name.en}", f"决定（%）：{name.zh}"), fontsize=8.5)
    axes.set_ylim(0, 100)
    axes.grid(False, axis="x")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, fontsize=8)


def _kinds(part: Part, epsilon: float) -> dict[str, float]:
    curve = part.curve("decisions", part.main, epsilon)
    seeds = max(curve["seed"].n_unique(), 1)
    return {
        kind: value / seeds for kind, value in curve.group_by("group").agg(pl.col("value").sort().sum()).iter_rows()
    }


def _money(axes: Axes, chart: Chart, part: Part, columns: tuple[str, str]) -> None:
    """What the model expected and what truly happened, under the main arm."""
    budgets = Budgets(part.epsilons(part.main))
    looks = (
        (columns[0], "expected by the score", "评分预期", Look("#777777", "--", "s", "")),
        (columns[1], "as it happened", "实际", look_of(part.main)),
    )
    for column, en, zh, look in looks:
        line = line_of(part, part.main, column)
        if line is not None:
            draw_line(axes, budgets, line, look, chart.say(en, zh))
    budgets.dress(axes, chart)
    axes.axhline(0, color=GREY, linewidth=0.8)
    axes.legend(loc="best", frameon=True, framealpha=0.9, edgecolor="none", fontsize=8.5)


def fairness(part: Part) -> Drawn:
    """Offers by protected group: the ratio to the best group, and the same among persons who paid."""
    arms = _with_and_without(part)
    found = {arm: _ratios(part, arm) for arm in arms}
    found = {arm: ratios for arm, ratios in found.items() if ratios}
    if not found:
        return NOTHING
    groups = sorted({group for ratios in found.values() for group in ratios})
    chart = chart_of(WIDTH, 1.5 + 0.3 * len(groups))
    left, right = chart.figure.subplots(1, 2, sharey=True)
    for place, (arm, ratios) in enumerate(found.items()):
        look, label = look_of(arm), _label(chart, part, arm)
        rows = np.array([groups.index(group) for group in ratios]) + (place - (len(found) - 1) / 2) * 0.24
        for axes, key in ((left, 0), (right, 1)):
            pairs = [(y, ratio[key]) for y, ratio in zip(rows, ratios.values(), strict=True)]
            _points(
                axes,
                [(y, estimate) for y, estimate in pairs if estimate is not None],
                look.colour,
                "os^D"[place % 4],
                label,
            )
    left.axvline(FOUR_FIFTHS, color=RED, linestyle="--", linewidth=1.2)
    left.annotate(
        chart.say("four fifths", "五分之四"),
        (FOUR_FIFTHS, 1.0),
        xycoords=("data", "axes fraction"),
        ha="center",
        va="bottom",
        fontsize=8,
    )
    left.set_yticks(range(len(groups)), groups)
    left.set_ylim(len(groups) - 0.5, -0.5)
    left.set_xlabel(chart.say("share with an offer ÷ the best group's", "获得额度比例 ÷ 最高组"))
    right.set_xlabel(chart.say("the same among those who paid", "同左，只看按约还款者"))
    for axes in (left, right):
        axes.set_xlim(0, MOST_RATIO)
    chart.legend([left], columns=2)
    return Drawn(chart, about(part) | _lowest(found[next(iter(found))]) | {"beyond": _beyond(found)})


def _beyond(found: Mapping[str, Mapping[str, tuple[Estimate | None, Estimate | None]]]) -> Pair:
    """What an arrow means, where any interval is cut."""
    estimates = [one for ratios in found.values() for pair in ratios.values() for one in pair if one is not None]
    if all((one.mean if one.high is None else one.high) <= MOST_RATIO for one in estimates):
        return Pair("", "")
    return Pair(" An arrow marks an interval that goes on beyond the figure.", "箭头表示区间延伸到图外。")


def _points(axes: Axes, points: Sequence[tuple[float, Estimate]], colour: str, marker: str, label: str) -> None:
    if points:
        mean, low, high = ends([estimate for _, estimate in points])
        rows, cut = np.array([y for y, _ in points]), high > MOST_RATIO
        axes.errorbar(
            mean, rows, xerr=[mean - low, high - mean], fmt=marker, color=colour, markersize=6,
            markeredgecolor="white", capsize=2.5, label=label,
        )  # fmt: skip
        for y in rows[cut]:
            axes.plot([MOST_RATIO], [y], color=colour, marker=">", markersize=6, clip_on=False)


def _label(chart: Chart, part: Part, arm: str) -> str:
    if part.uses_protected(arm):
        return chart.say("protected features train too", "受保护特征参与训练")
    return chart.say("protected features left out", "不含受保护特征")


def _with_and_without(part: Part) -> tuple[str, ...]:
    """The main arm, and the first with the same learner that differs in whether protected features train."""
    others = [
        arm for arm in part.ours
        if part.learner(arm) == part.learner(part.main) and part.uses_protected(arm) != part.uses_protected(part.main)
    ]  # fmt: skip
    return (part.main, *others[:1])


def _ratios(part: Part, arm: str) -> dict[str, tuple[Estimate | None, Estimate | None]]:
    """By group FEATURE=value, to the feature's group with the largest share: (of all, of those who paid)."""
    curve = part.curve("fairness", arm, part.epsilon).sort("group", "seed")
    curve = curve.filter(pl.col("weight").fill_null(0) >= FEWEST)
    found: dict[str, tuple[Estimate | None, Estimate | None]] = {}
    for group in curve["group"].unique(maintain_order=True):
        feature = group.partition("=")[0]
        same = curve.filter(pl.col("group").str.starts_with(f"{feature}="))
        found[group] = (_to_best(same, group, "value"), _to_best(same, group, "at"))
    return {group: pair for group, pair in found.items() if pair != (None, None)}


def _to_best(groups: pl.DataFrame, group: str, column: str) -> Estimate | None:
    """A group's share to that of the group with the largest mean share, seed by seed."""
    there = groups.filter(pl.col(column).is_finite())
    means = there.group_by("group").agg(pl.col(column).sort().mean()).sort(column, "group", descending=[True, False])
    if means.is_empty():
        return None
    best = there.filter((pl.col("group") == means["group"][0]) & (pl.col(column) > 0)).select("seed", best=column)
    own = there.filter(pl.col("group") == group).join(best, on="seed").sort("seed")
    return Estimate.of_cells((own[column] / own["best"]).to_numpy(), 0.0) if own.height else None


def _lowest(ratios: Mapping[str, tuple[Estimate | None, Estimate | None]]) -> dict[str, Pair]:
    """The group with the lowest ratio, and on which side of the line it is, if the seeds can tell."""
    told = {group: pair[0] for group, pair in ratios.items() if pair[0] is not None}
    if not told:
        return {"lowest": Pair.same("–"), "ratio": Pair.same("–"), "verdict": Pair("not to be judged", "无法判断")}
    group = min(told, key=lambda name: (told[name].mean, name))
    return {"lowest": Pair.same(group), "ratio": Pair.same(number(told[group].mean, 2)), "verdict": _side(told[group])}


def _side(ratio: Estimate) -> Pair:
    low, high = (ratio.mean if end is None else end for end in (ratio.low, ratio.high))
    if high < FOUR_FIFTHS:
        return Pair("below the line of four fifths", "低于五分之四线")
    if low >= FOUR_FIFTHS:
        return Pair("not below the line of four fifths", "不低于五分之四线")
    return Pair(
        "and these seeds cannot tell on which side of four fifths it is", "从这些随机种子无法判断它在五分之四线的哪一侧"
    )
