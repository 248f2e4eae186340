"""The charts of a study, with line styles and hatches for print."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes

from simulations.charts import SETTINGS, STACK, Chart, chart_of
from simulations.estimates import Estimate
from simulations.months.applicants import Floats
from simulations.months.compare import band, cumulative, metrics
from simulations.months.policies import APR_CAPS, GIVEN
from simulations.months.study import CAPS, COSTS_FEN, EFFECTS, MAIN, Found, Study

MILLION = 1e6
_STYLES = {
    "A": ("#000000", ":", "...."),
    "B": ("#E69F00", "--", "////"),
    "C": ("#56B4E9", "-.", "\\\\\\\\"),
    GIVEN: ("#0072B2", "-", ""),
}
_MORE = (("#009E73", (0, (5, 1, 1, 1)), "xxxx"), ("#CC79A7", (0, (1, 1)), "oooo"), ("#D55E00", (0, (8, 2)), "++++"))


def draw_all(study: Study, found: Found, summary: dict[str, Any]) -> dict[str, Chart]:
    """All charts by name, in the order of the report."""
    with matplotlib.rc_context(SETTINGS):
        return {
            "profit": _profit(study, found),
            "differences": _differences(study, summary),
            "thin_approvals": _thin_approvals(study, summary),
            "trial_cohort": _trial_cohort(study, found),
            "losses": _losses(study, found),
            "points": _points(summary),
            "apr_caps": _apr_caps(study, found),
        }


def _style(code: str, study: Study) -> tuple[str, Any, str]:
    extra = [variant.code for variant in study.variants if variant.code not in _STYLES]
    return _STYLES[code] if code in _STYLES else _MORE[extra.index(code) % len(_MORE)]


def _panels(chart: Chart, study: Study) -> Iterator[tuple[Axes, str]]:
    """One panel a scenario, three in a row, with its title and common axes."""
    count = len(study.scenarios)
    rows, columns = -(-count // 3), min(count, 3)
    grid = chart.figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    chart.figure.set_size_inches(max(3.4 * columns, 6.5), 2.9 * rows + 0.6)
    for at, axes in enumerate(grid.flat):
        if at >= count:
            axes.set_axis_off()
            continue
        scenario = study.scenarios[at]
        axes.set_title(chart.say(f"{scenario.code}: {scenario.en}", f"{scenario.code}:{scenario.zh}"), fontsize=8.5)
        if at >= count - columns:
            axes.set_xlabel(chart.say("month", "月"))
            axes.tick_params(labelbottom=True)
        yield axes, scenario.code


def _profit(study: Study, found: Found) -> Chart:
    chart = chart_of(10, 6)
    axes = None
    for axes, scenario in _panels(chart, study):
        for variant in study.variants:
            months = found[MAIN, variant.code, scenario]
            colour, line, _ = _style(variant.code, study)
            label = chart.say(f"{variant.code}: {variant.en}", f"{variant.code}:{variant.zh}")
            _banded(axes, cumulative(months, "profit") / MILLION, colour, line, label)
        axes.axhline(0, color="#555555", linewidth=0.8)
    if axes is not None:
        chart.figure.supylabel(chart.say("profit so far, CNY million", "累计利润(百万元)"), fontsize=9.5)
        chart.legend([axes])
    return chart


def _banded(axes: Axes, values: Floats, colour: str, line: Any, label: str) -> None:
    """A mean over seeds with its 95 % band."""
    mean, low, high = band(values)
    months = np.arange(1, len(mean) + 1)
    axes.fill_between(months, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.plot(months, mean, color=colour, linestyle=line, linewidth=1.8, label=label)


def _differences(study: Study, summary: dict[str, Any]) -> Chart:
    """What the given policy earns more than each other, with intervals: paired, so much tighter than the bands."""
    others = [variant for variant in study.variants if variant.code != GIVEN]
    chart = chart_of(8, 0.9 + 0.27 * len(others) * len(study.scenarios))
    axes = chart.figure.subplots()
    rows = {(row["scenario"], row["against"]): row["profit"] for row in summary["differences"]}
    places = []
    for at, scenario in enumerate(study.scenarios):
        for place, other in enumerate(others):
            found = rows[scenario.code, other.code]
            y = at + (place - (len(others) - 1) / 2) * 0.22
            low, high = (found["mean"] if found[end] is None else found[end] for end in ("low", "high"))
            label = chart.say(f"less {other.code}: {other.en}", f"减 {other.code}:{other.zh}") if at == 0 else None
            axes.plot([low / MILLION, high / MILLION], [y, y], color="#333333", linewidth=1.6, zorder=2)
            marker = "osD^vP"[place % 6]
            colour = _style(other.code, study)[0]
            axes.plot(
                found["mean"] / MILLION, y, marker, color=colour, markeredgecolor="#333333", label=label, zorder=3
            )
        places.append(chart.say(f"{scenario.code}: {scenario.en}", f"{scenario.code}:{scenario.zh}"))
    axes.set_yticks(range(len(places)), places)
    axes.invert_yaxis()
    axes.axvline(0, color="#555555", linewidth=1)
    axes.set_xlabel(
        chart.say("profit of the given policy less that of another, CNY million", "给定政策与其他政策的利润差(百万元)")
    )
    chart.legend([axes])
    return chart


def _thin_approvals(study: Study, summary: dict[str, Any]) -> Chart:
    chart = chart_of(9, 3.6)
    axes = chart.figure.subplots()
    rows = {(row["scenario"], row["policy"]): row["thin_approval"] for row in summary["results"]}
    width = 0.8 / len(study.variants)
    for place, variant in enumerate(study.variants):
        figures = [rows[scenario.code, variant.code] for scenario in study.scenarios]
        means = np.array([figure["mean"] for figure in figures]) * 100
        halves = [0.0 if f["low"] is None else 100 * (f["high"] - f["low"]) / 2 for f in figures]
        x = np.arange(len(means)) + (place - (len(study.variants) - 1) / 2) * width
        colour, _, hatch = _style(variant.code, study)
        label = chart.say(f"{variant.code}: {variant.en}", f"{variant.code}:{variant.zh}")
        axes.bar(x, means, width * 0.92, color=colour, hatch=hatch, edgecolor="white", linewidth=0.5, label=label)
        axes.errorbar(x, means, halves, fmt="none", ecolor="#333333", elinewidth=1, capsize=2)
    axes.set_xticks(range(len(study.scenarios)), [scenario.code for scenario in study.scenarios])
    axes.set_ylabel(chart.say("thin files approved, %", "薄档案通过率(%)"))
    axes.set_ylim(0, 100)
    axes.grid(False, axis="x")
    chart.legend([axes])
    return chart


def _trial_cohort(study: Study, found: Found) -> Chart:
    months = found[MAIN, GIVEN, study.focus.code]
    chart = chart_of(9, 3.8)
    axes = chart.figure.subplots()
    layers, labels = [], []
    for rung, fen in enumerate(study.policy.trial.rungs_fen):
        layers.append(months[f"trial_r{rung}"].mean(axis=0))
        labels.append(chart.say(f"on the ladder at CNY {fen / 100:,.0f}", f"试用额度 {fen / 100:,.0f} 元"))
    layers.append(months["seasoned"].mean(axis=0))
    labels.append(chart.say("strong thin file at a share of its limit", "优质薄档案,先给部分额度"))
    layers.append(months["seasoned_standard"].mean(axis=0))
    labels.append(chart.say("strong thin file, now at a standard limit", "优质薄档案,已升至标准额度"))
    layers.append(months["trial_standard"].mean(axis=0))
    labels.append(chart.say("began on the ladder, now at a standard limit", "由试用升至标准额度"))
    x = np.arange(1, study.months + 1)
    axes.stackplot(x, *layers, labels=labels, colors=STACK[: len(layers)], edgecolor="white", linewidth=0.8)
    axes.set_xlabel(chart.say("month", "月"))
    axes.set_ylabel(chart.say("accounts", "账户数"))
    axes.set_xlim(1, max(study.months, 2))
    handles, names = axes.get_legend_handles_labels()
    chart.figure.legend(handles[::-1], names[::-1], loc="outside right center")
    return chart


def _losses(study: Study, found: Found) -> Chart:
    chart = chart_of(10, 6)
    axes, top = None, 1.0
    for axes, scenario in _panels(chart, study):
        months = found[MAIN, GIVEN, scenario]
        drawn = np.maximum(months["drawn"], 1) / 12 / 100
        lost, expected = months["loss"] / drawn, months["expected_loss"] / drawn
        _banded(axes, lost, "#D55E00", "-", chart.say("actually lost", "实际损失"))
        _banded(axes, expected, "#0072B2", "--", chart.say("expected by the score", "评分预期"))
        top = max(top, 1.15 * float(lost.mean(axis=0)[2:].max(initial=0.0)))  # the first months are few accounts
    if axes is not None:
        axes.set_ylim(0, top)
        chart.figure.supylabel(chart.say("loss a year, % of what is drawn", "年损失率(占用信余额,%)"), fontsize=9.5)
        chart.legend([axes])
    return chart


def _points(summary: dict[str, Any]) -> Chart:
    chart = chart_of(8, 3.8)
    axes = chart.figure.subplots()
    fewer = [100 * summary["points"]["fewer_defaults"][str(effect)] for effect in EFFECTS]
    looks = (("#009E73", "-", "o"), ("#E69F00", "--", "s"), ("#D55E00", "-.", "D"))
    for cost, (colour, line, marker) in zip(COSTS_FEN, looks, strict=True):
        figures = [row["profit"] for row in summary["points"]["table"] if row["cost_fen"] == cost]
        mean, low, high = (np.array([f[n] or f["mean"] for f in figures]) / MILLION for n in ("mean", "low", "high"))
        text = chart.say(f"CNY {cost / 100:.1f} an account and month", f"每户每月 {cost / 100:.1f} 元")
        axes.fill_between(fewer, low, high, color=colour, alpha=0.2, linewidth=0)
        axes.plot(fewer, mean, color=colour, linestyle=line, marker=marker, linewidth=1.8, label=text)
    axes.axhline(0, color="#555555", linewidth=1)
    axes.set_xlabel(chart.say("fewer defaults thanks to points, %", "积分使违约减少(%)"))
    axes.set_ylabel(chart.say("profit gained, CNY million", "利润增量(百万元)"))
    chart.legend([axes])
    return chart


def _apr_caps(study: Study, found: Found) -> Chart:
    chart = chart_of(8, 3.2)
    left, right = chart.figure.subplots(1, 2)
    values = [metrics(found[CAPS, str(cap), study.focus.code]) for cap in APR_CAPS]
    names = [f"{cap / 100:.0f}" for cap in APR_CAPS]
    panels = (
        (left, "thin_approval", 100.0, "thin files approved, %", "薄档案通过率(%)", "#0072B2"),
        (right, "profit", 1 / MILLION, "profit, CNY million", "利润(百万元)", "#E69F00"),
    )
    for axes, name, scale, en, zh, colour in panels:
        estimates = [Estimate.of(value[name] * scale) for value in values]
        halves = [0.0 if e.low is None or e.high is None else (e.high - e.low) / 2 for e in estimates]
        axes.bar(names, [e.mean for e in estimates], 0.65, color=colour)
        axes.errorbar(names, [e.mean for e in estimates], halves, fmt="none", ecolor="#333333", capsize=3)
        axes.set_xlabel(chart.say("legal cap on the annual rate, %", "年化利率上限(%)"))
        axes.set_ylabel(chart.say(en, zh))
        axes.grid(False, axis="x")
    return chart
