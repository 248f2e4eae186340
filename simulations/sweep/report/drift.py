"""Figure of whether a score holds as months pass."""

from __future__ import annotations

import polars as pl
from matplotlib.axes import Axes

from simulations.charts import BLUE, RED, Chart, chart_of
from simulations.sweep.report.drawing import NOTHING, WIDTH, Drawn, about
from simulations.sweep.report.tables import Part
from simulations.sweep.report.words import Pair, number

WATCH, ACT = 0.10, 0.25  # customary lines of a population stability index


def drift(part: Part) -> Drawn:
    """How the score's distribution and the default rate move by month."""
    psi, rate = (part.curve(name, part.main, part.epsilon) for name in ("drift_psi", "drift_rate"))
    if psi.is_empty() and rate.is_empty():
        return NOTHING
    chart = chart_of(WIDTH, 3.6)
    left, right = chart.figure.subplots(1, 2)
    months = psi.group_by("at").agg(pl.col("value", "high").sort().mean()).sort("at").drop_nulls("value")
    _stability(left, chart, months)
    _rates(right, chart, rate.group_by("at").agg(pl.col("value", "low").sort().mean()).sort("at"))
    return Drawn(chart, about(part) | _moved(months["value"].to_list(), months["high"].to_list()))


def _stability(axes: Axes, chart: Chart, months: pl.DataFrame) -> None:
    """The index by month; where the tables do not tell how far chance goes, no area says so."""
    bound = months["high"].drop_nulls()
    if len(bound):
        known = months.drop_nulls("high")
        axes.fill_between(
            known["at"], 0, known["high"], color="#BBBBBB", alpha=0.5, linewidth=0,
            label=chart.say("chance alone", "仅凭偶然"),
        )  # fmt: skip
        axes.legend(loc="upper left", frameon=True, framealpha=0.9, edgecolor="none")
    axes.plot(months["at"], months["value"], color=BLUE, marker="o", markersize=4, linewidth=1.6)
    for level, en, zh, style in ((WATCH, "watch", "关注", ":"), (ACT, "act", "处置", "--")):
        axes.axhline(level, color=RED, linewidth=1, linestyle=style)
        axes.annotate(
            chart.say(f"{en} {level:.2f}", f"{zh} {level:.2f}"), (1.015, level), va="center", fontsize=8,
            xycoords=("axes fraction", "data"),
        )  # fmt: skip
    axes.set_ylim(0, 1.15 * max([ACT, *months["value"], *bound]))
    axes.set_ylabel(chart.say("population stability index", "群体稳定性指数（PSI）"))
    _dated(axes, chart, months["at"])


def _rates(axes: Axes, chart: Chart, rates: pl.DataFrame) -> None:
    for column, en, zh, colour, style, marker in (
        ("value", "observed", "实际", RED, "-", "o"),
        ("low", "predicted", "预测", BLUE, "--", "s"),
    ):
        axes.plot(
            rates["at"], 100 * rates[column], color=colour, linestyle=style, marker=marker, markersize=4,
            label=chart.say(en, zh),
        )  # fmt: skip
    axes.set_ylabel(chart.say("defaults, %", "违约率（%）"))
    axes.set_ylim(0, 112 * max(*rates["value"].to_list(), *rates["low"].drop_nulls().to_list(), 0.01))
    axes.legend(loc="best", frameon=True, framealpha=0.9, edgecolor="none")
    _dated(axes, chart, rates["at"])


def _moved(values: list[float], chance: list[float | None]) -> dict[str, Pair]:
    """The largest index that chance does not explain, and what it means; of all where chance explains each.

    A bound that is not known explains nothing and refutes nothing: the verdict then says so.
    """
    beyond = [value for value, bound in zip(values, chance, strict=True) if bound is not None and value > bound]
    known = None not in chance
    worst = max((beyond if known else []) or values, default=0.0)
    if not known:
        verdict = _unknown(worst)
    elif not beyond:
        verdict = Pair("no more than chance alone gives months of this size", "不超过这样人数的月份仅凭偶然的波动")
    elif worst < WATCH:
        verdict = Pair("below the line at 0.10", "低于 0.10 的关注线")
    elif worst < ACT:
        verdict = Pair("more than chance and above 0.10: worth watching", "超出偶然且高于 0.10：值得关注")
    else:
        verdict = Pair(
            "more than chance and above 0.25: the persons scored are others than in the first held-out months",
            "超出偶然且高于 0.25：被评分的人已不同于最初的留出月份",
        )
    area = Pair("", "")
    if any(bound is not None for bound in chance):
        area = Pair(
            "The grey area is what chance alone stays within, were nothing to drift. ",
            "灰色区域是毫无漂移时仅凭偶然的范围。",
        )
    return {"worst": Pair.same(number(worst, 2)), "verdict": verdict, "area": area}


def _unknown(worst: float) -> Pair:
    line = next((level for level in (ACT, WATCH) if worst >= level), None)
    side = Pair("below the line at 0.10", "低于 0.10 的关注线")
    if line is not None:
        side = Pair(f"above the line at {line:.2f}", f"高于 {line:.2f} 线")
    return Pair(
        f"{side.en}, but these tables do not tell what chance alone gives",
        f"{side.zh}，但这些表没有记录仅凭偶然会有多大",
    )


def _dated(axes: Axes, chart: Chart, months: pl.Series) -> None:
    """Months since year 0 as year and month, six at most."""
    places = months.to_list()
    ticks = places[:: max(1, -(-len(places) // 6))]
    axes.set_xticks(ticks, [f"{int(m) // 12:04d}-{int(m) % 12 + 1:02d}" for m in ticks], rotation=30, ha="right")
    axes.set_xlabel(chart.say("month", "月份"))
