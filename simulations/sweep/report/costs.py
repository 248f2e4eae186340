"""Figures of what it costs: budget by release, what an audit could prove, who sees what, time and bytes."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
from matplotlib.axes import Axes

from simulations.charts import BLUE, STACK, Chart, chart_of
from simulations.sweep.report.drawing import GREY, NOTHING, WIDTH, Budgets, Drawn, Line, about, draw_line, named
from simulations.sweep.report.tables import AUDIT, POOLED, Part, nearest_to_one
from simulations.sweep.report.words import Pair, at_budget, called, look_of, number, release_name, who_sees

HELD_OUT = "evaluation/"  # begins the name of a release about held-out persons
ALL_LINES = "all lines"  # begins the name of an audit of all lines that touch a group of persons
MOST_PHASES = 6
OTHER = "other"  # phases that are not shown by themselves
_HATCHES = ("", "////", "....", "xxxx", "\\\\\\\\", "++++", "oooo")


def audit(part: Part) -> Drawn:
    """What an attacker with canaries could prove, against what is claimed."""
    budgets = Budgets(tuple(e for e in part.epsilons() if math.isfinite(e)))
    lines = {arm: line for arm in part.arms if (line := _strongest(part, arm)).epsilons}
    if not lines or not budgets.epsilons:
        return NOTHING
    if len(budgets.epsilons) == 1:
        side = {"side": Pair("left of", "点线左侧的")}
        return Drawn(_bounds(lines, budgets.epsilons[0]), about(part) | _beyond(part) | side)
    chart = chart_of(WIDTH, 3.8)
    axes = chart.figure.subplots()
    claims = np.array(budgets.epsilons)
    axes.plot(
        [budgets.at(e) for e in claims], claims, color="#000000", marker="_", markersize=14, linestyle=":",
        label=_claimed(chart),
    )  # fmt: skip
    for shift, (arm, line) in zip(budgets.side_by_side(len(lines)), lines.items(), strict=True):
        draw_line(axes, budgets, line, look_of(arm), named(chart, arm), shift)
    budgets.dress(axes, chart)
    ticks = [0.0, *budgets.epsilons]
    axes.set_yscale("symlog", linthresh=budgets.epsilons[0])
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_ylim(0, 1.3 * budgets.epsilons[-1])
    axes.minorticks_off()
    axes.set_ylabel(chart.say("epsilon", "epsilon"))
    chart.legend([axes], columns=3)
    return Drawn(chart, about(part) | _beyond(part) | {"side": Pair("below", "低于点线的")})


def _bounds(lines: dict[str, Line], claim: float) -> Chart:
    """With one budget there is no axis of budgets: a bar an arm, against the claim."""
    chart = chart_of(WIDTH, 1.3 + 0.36 * len(lines))
    axes = chart.figure.subplots()
    for y, (arm, line) in enumerate(lines.items()):
        look, value = look_of(arm), line.mean[0]
        axes.barh(y, value, 0.6, color=look.colour, hatch=look.hatch, edgecolor="white", linewidth=0.5)
        axes.annotate(number(value, 2), (1.02, y), xycoords=("axes fraction", "data"), va="center", fontsize=8.5)
    axes.axvline(claim, color="#000000", linestyle=":", label=_claimed(chart))
    axes.set_yticks(range(len(lines)), [named(chart, arm) for arm in lines])
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    axes.set_xlim(0, 1.2 * max(claim, *(line.mean[0] for line in lines.values())))
    axes.set_xlabel(chart.say("epsilon", "epsilon"))
    chart.legend([axes])
    return chart


def _claimed(chart: Chart) -> str:
    return chart.say("claimed: at most this", "声明：至多如此")


def _beside(axes: Axes, text: str, place: tuple[float, float]) -> None:
    """A value at the end of its bar."""
    axes.annotate(text, place, xytext=(4, 0), textcoords="offset points", va="center", fontsize=8.5)


def _strongest(part: Part, arm: str) -> Line:
    """The largest bound that any seed's audit gave at each budget: one training that leaks is enough."""
    found = {e: part.values(arm, e, "audit_at_least") for e in part.epsilons(arm) if math.isfinite(e)}
    largest = {epsilon: float(values.max()) for epsilon, values in found.items() if len(values)}
    bounds = np.array(list(largest.values()))
    return Line(tuple(largest), bounds, bounds, bounds)


def _beyond(part: Part) -> dict[str, Pair]:
    """How many audits there were, how many found more than was claimed, and the strongest proof of any at one budget.

    A training whose audit refused it has failed and has no curve: its error tells.
    """
    made = part.curves.filter((pl.col("curve") == "audit") & pl.col("high").is_finite() & pl.col("value").is_finite())
    made = made.filter(~_told_twice())
    refused = part.failed.filter(pl.col("error").str.starts_with(AUDIT)).height
    beyond = made.filter(pl.col("value") > pl.col("high") + 1e-9).height + refused
    known = part.cells.filter(pl.col("audit_at_least").is_finite() & pl.col("epsilon").is_finite())
    epsilon = nearest_to_one(known["epsilon"].to_list())
    strongest = known.filter(pl.col("epsilon") == epsilon)["audit_at_least"].to_numpy().max()
    verdict = Pair("none passed its claim", "无一超过声明值")
    if beyond:
        told = f"{beyond} passed their claim: do not trust this sweep", f"{beyond} 次超过声明值：不可信赖本次比较"
        verdict = Pair(*told)
    audits, at_least = Pair.same(f"{made.height + refused:,}"), Pair.same(number(float(strongest), 2))
    return {"audits": audits, "beyond": verdict, "at_least": at_least, "audited": at_budget(epsilon)}


def _told_twice() -> pl.Expr:
    """Whether an audit of all lines of a group of persons is that of its only line, with the same bound and claim."""
    total = pl.col("group").str.starts_with(ALL_LINES)
    return total & (pl.len().over("arm", "epsilon", "seed", "value", "high") > 1)


def releases(part: Part) -> Drawn:
    """The plan's lines, each alone; a person is trained on or held out, so one kind only is paid by it."""
    table = part.curve("releases", part.main, part.epsilon).filter(pl.col("value").is_finite())
    lines = table.group_by("group").agg(pl.col("value").sort().mean()).sort("value", "group", descending=[True, False])
    if lines.is_empty():
        return NOTHING
    chart = chart_of(WIDTH, 1.3 + 0.34 * lines.height)
    axes = chart.figure.subplots()
    values, held = lines["value"].to_numpy(), np.array([g.startswith(HELD_OUT) for g in lines["group"]])
    for which, en, zh, colour, hatch in (
        (~held, "touches training persons", "触及训练者", BLUE, ""),
        (held, "touches held-out persons", "触及留出者", "#999999", "////"),
    ):
        rows = np.flatnonzero(which)
        if len(rows):
            axes.barh(rows, values[rows], 0.66, color=colour, hatch=hatch, edgecolor="white", label=chart.say(en, zh))
    names = [release_name(group) for group in lines["group"]]
    axes.set_yticks(range(len(values)), [chart.say(name.en, name.zh) for name in names])
    for y, value in enumerate(values):
        _beside(axes, f"{value:.3f}", (value, y))
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    axes.set_xlim(0, 1.12 * values[0])
    axes.set_xlabel(chart.say("epsilon of this release alone", "该项发布单独的 epsilon"))
    chart.legend([axes])
    top = int(np.flatnonzero(~held)[0]) if not held.all() else 0
    spent = part.estimate(part.main, part.epsilon, "epsilon_spent")
    told = {
        "most": number(values[top], 3),
        "sum": number(values[~held].sum(), 2),
        "spent": number(spent.mean, 3) if spent else "–",
    }
    return Drawn(chart, about(part) | {"top": names[top]} | {name: Pair.same(text) for name, text in told.items()})


def trust(part: Part) -> Drawn:
    """AUC by arm at the main budget, with who sees what."""
    rows = [(arm, part.epsilon if part.is_private(arm) else part.epsilons(arm)[-1]) for arm in part.arms]
    found = [(arm, value) for arm, e in rows if (value := part.estimate(arm, e, "auc")) is not None]
    if len(found) < 2:
        return NOTHING
    chart = chart_of(WIDTH, 0.8 + 0.6 * len(found))
    axes = chart.figure.subplots()
    beside = ("axes fraction", "data")
    for y, (arm, value) in enumerate(found):
        look = look_of(arm)
        axes.barh(
            y, value.mean - 0.5, 0.42, left=0.5, color=look.colour, hatch=look.hatch, edgecolor="white", linewidth=0.5
        )
        if value.low is not None and value.high is not None:
            axes.plot([value.low, value.high], [y, y], color="#222222", linewidth=1.2, marker="|", markersize=6)
        axes.annotate(number(value.mean), (1.02, y), xycoords=beside, va="center", fontsize=8.5)
        sees = who_sees(arm, part.trust(arm))
        axes.annotate(
            chart.say(sees.en, sees.zh), (0, y + 0.36), xycoords=beside, xytext=(3, 0),
            textcoords="offset points", va="center", fontsize=8, color=GREY,
        )  # fmt: skip
    axes.set_yticks(range(len(found)), [named(chart, arm) for arm, _ in found])
    axes.set_ylim(len(found) - 0.4, -0.5)
    axes.grid(False, axis="y")
    top = max(value.high or value.mean for _, value in found)
    axes.annotate(chart.say("mean", "均值"), (1.02, 1.0), xycoords="axes fraction", va="bottom", fontsize=8.5)
    axes.set_xlim(0.5, top + 0.04 * (top - 0.5))
    axes.set_xlabel(chart.say("AUC (0.5 is a coin)", "AUC（0.5 等于抛硬币）"))
    return Drawn(chart, about(part) | {"arms": Pair.same(str(len(found)))})


def cost(part: Part) -> Drawn:
    """Seconds by phase and bytes, by arm."""
    arms = [arm for arm in part.arms if part.has("seconds", arm)]
    if not arms:
        return NOTHING
    chart = chart_of(WIDTH, 1.3 + 0.36 * len(arms))
    left, right = chart.figure.subplots(1, 2, sharey=True, width_ratios=[1.5, 1])
    phases = {arm: _phases(part, arm) for arm in arms}
    total = {name: sum(p.get(name, 0.0) for p in phases.values()) for p in phases.values() for name in p}
    shown = sorted(total, key=lambda name: (-total[name], name))[:MOST_PHASES]
    _stacked(left, chart, phases, shown)
    left.set_yticks(range(len(arms)), [named(chart, arm) for arm in arms])
    left.invert_yaxis()
    left.set_xlabel(chart.say("seconds", "秒"))
    sizes = [_mean(part, arm, "bytes") / 1e6 for arm in arms]
    right.barh(range(len(arms)), sizes, 0.6, color="#777777")
    for y, (arm, size) in enumerate(zip(arms, sizes, strict=True)):
        told = chart.say("every row, to one party", "全部记录交给一方") if part.trust(arm) == POOLED else f"{size:,.1f}"
        _beside(right, told, (size, y))
    right.set_xlim(0, 1.25 * max(*sizes, 1e-3))
    right.set_xlabel(chart.say("megabytes sent", "各方之间传输（兆字节）"))
    for axes in (left, right):
        axes.grid(False, axis="y")
    if shown:
        chart.legend([left])
    numbers = {
        "seconds": Pair.same(number(_mean(part, part.main, "seconds"), 1)),
        "megabytes": Pair.same(number(_mean(part, part.main, "bytes") / 1e6, 1)),
    }
    return Drawn(chart, about(part) | numbers)


def _stacked(axes: Axes, chart: Chart, phases: dict[str, dict[str, float]], shown: list[str]) -> None:
    """A bar an arm, a piece a phase; what is not shown by itself is the last piece."""
    below = np.zeros(len(phases))
    for place, name in enumerate([*shown, OTHER]):
        values = np.array([_piece(found, name, shown) for found in phases.values()])
        if values.any():
            words = called("phases", name)
            axes.barh(
                range(len(values)), values, 0.6, left=below, color=STACK[place], hatch=_HATCHES[place],
                edgecolor="white", linewidth=0.5, label=chart.say(words.en, words.zh),
            )  # fmt: skip
            below += values


def _piece(found: dict[str, float], name: str, shown: list[str]) -> float:
    """Seconds of one phase, or of all that are not shown by themselves."""
    return sum(v for n, v in found.items() if n not in shown) if name == OTHER else found.get(name, 0.0)


def _phases(part: Part, arm: str) -> dict[str, float]:
    """Mean seconds of each phase over all cells of an arm; of one that tells no phases, all as one."""
    curve = part.curves.filter((pl.col("curve") == "seconds") & (pl.col("arm") == arm))
    if curve.is_empty():
        return {"train": _mean(part, arm, "seconds")}
    cells = curve.select("epsilon", "seed").n_unique()
    totals = curve.group_by("group").agg(pl.col("value").sort().sum()).sort("group")
    return {name: value / cells for name, value in totals.iter_rows()}


def _mean(part: Part, arm: str, column: str) -> float:
    """A column's mean over all cells of an arm that have it, 0 where none has."""
    values = part.cells.filter(pl.col("arm") == arm)[column].cast(pl.Float64).drop_nulls().to_numpy()
    return float(values.mean()) if len(values) else 0.0
