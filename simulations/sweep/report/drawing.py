"""What the figures of a sweep share: the axis of budgets, an arm's line over it, and an arm's bar."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from matplotlib.axes import Axes

from simulations.charts import Chart
from simulations.estimates import Estimate, Floats
from simulations.sweep.report.tables import Part
from simulations.sweep.report.words import Look, Pair, arm_name, arm_told, at_budget, look_of

WIDTH = 8.0  # inches of a figure
GREY = "#555555"
NORMAL = 1.96  # standard errors of a 95 % interval
_GAP = 0.5  # decades between the largest budget and "no noise"
_STEP, _STEPS = 0.012, 0.05  # of the axis, between two arms' lines and for all of them


@dataclass(frozen=True)
class Drawn:
    """A figure, and the values for the braces of its caption; without a chart, nothing could be drawn."""

    chart: Chart | None
    numbers: dict[str, Pair] = field(default_factory=dict)


NOTHING = Drawn(None)


@dataclass(frozen=True)
class Budgets:
    """The axis of budgets: a log scale, and a place of its own for "no noise"."""

    epsilons: tuple[float, ...]

    def at(self, epsilon: float) -> float:
        """Where a budget lies."""
        finite = [e for e in self.epsilons if math.isfinite(e)]
        if math.isinf(epsilon):
            return math.log10(finite[-1]) + _GAP if finite else 0.0
        return math.log10(epsilon)

    @property
    def span(self) -> float:
        """How long the axis is, in decades."""
        return max(self.at(self.epsilons[-1]) - self.at(self.epsilons[0]), _GAP)

    def side_by_side(self, lines: int) -> list[float]:
        """By how much to shift each of several lines, so that none hides another."""
        step = min(_STEP, _STEPS / max(lines, 1)) * self.span
        return [(place - (lines - 1) / 2) * step for place in range(lines)]

    def dress(self, axes: Axes, chart: Chart) -> None:
        """Ticks and label; a line sets "no noise" apart."""
        names = [chart.say("no noise", "无噪声") if math.isinf(e) else f"{e:g}" for e in self.epsilons]
        axes.set_xticks([self.at(e) for e in self.epsilons], names)
        axes.set_xlim(self.at(self.epsilons[0]) - 0.07 * self.span, self.at(self.epsilons[-1]) + 0.12 * self.span)
        axes.set_xlabel(chart.say("privacy budget epsilon (smaller protects more)", "隐私预算 epsilon（越小保护越强）"))
        if len(self.epsilons) > 1 and math.isinf(self.epsilons[-1]):
            axes.axvline(self.at(math.inf) - _GAP / 2, color="#AAAAAA", linewidth=0.8, linestyle=(0, (2, 3)))


@dataclass(frozen=True)
class Line:
    """A column over budgets: shape (budgets,) each; low and high are the mean where one seed leaves no interval."""

    epsilons: tuple[float, ...]
    mean: Floats
    low: Floats
    high: Floats


def line_of(part: Part, arm: str, column: str, scale: float = 1.0) -> Line | None:
    """An arm's column over budgets; None where it has it nowhere."""
    found = [(e, part.estimate(arm, e, column)) for e in part.epsilons(arm)]
    there = [(e, estimate) for e, estimate in found if estimate is not None]
    if not there:
        return None
    means, lows, highs = ends([estimate for _, estimate in there], scale)
    return Line(tuple(e for e, _ in there), means, lows, highs)


def ends(estimates: Sequence[Estimate], scale: float = 1.0) -> tuple[Floats, Floats, Floats]:
    """Means and ends of their intervals, shape (n,) each."""
    return (
        np.array([e.mean for e in estimates]) * scale,
        np.array([e.mean if e.low is None else e.low for e in estimates]) * scale,
        np.array([e.mean if e.high is None else e.high for e in estimates]) * scale,
    )


def draw_line(axes: Axes, budgets: Budgets, line: Line, look: Look, label: str, shift: float = 0.0) -> None:
    """A line with its intervals; what has one budget only is a marker."""
    places = np.array([budgets.at(e) for e in line.epsilons]) + shift
    errors = np.abs(np.array([line.mean - line.low, line.high - line.mean]))
    axes.errorbar(
        places, line.mean, errors, color=look.colour, linestyle=look.line, marker=look.marker, markersize=5.5,
        markeredgecolor="white", markeredgewidth=0.6, linewidth=1.7, elinewidth=1.1, capsize=2.5, label=label, zorder=3,
    )  # fmt: skip


def draw_arms(axes: Axes, chart: Chart, part: Part, column: str, arms: Sequence[str], scale: float = 1.0) -> None:
    """A column of those arms that have it, side by side so that none hides another; what has no privacy is level."""
    budgets = Budgets(part.epsilons())
    lines = {arm: line for arm in arms if (line := line_of(part, arm, column, scale)) is not None}
    moving = [arm for arm in lines if part.is_private(arm)]
    places = dict(zip(moving, budgets.side_by_side(len(moving)), strict=True))
    for arm, line in lines.items():
        look, label = look_of(arm), named(chart, arm)
        if arm in places:
            draw_line(axes, budgets, line, look, label, places[arm])
        else:
            axes.axhline(line.mean[-1], color=look.colour, linestyle=look.line, linewidth=1.4, label=label, zorder=2)
    budgets.dress(axes, chart)


def named(chart: Chart, arm: str) -> str:
    """An arm's name as a label."""
    name = arm_name(arm)
    return chart.say(name.en, name.zh)


def about(part: Part) -> dict[str, Pair]:
    """What every caption may name: the main arm, the budget of single figures and its seeds."""
    return {
        "arm": arm_told(part.main),
        "at": at_budget(part.epsilon),
        "seeds": Pair.same(str(part.seeds(part.main, part.epsilon))),
    }
