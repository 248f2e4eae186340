"""All figures of one set, in the report's order, each with its caption."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import matplotlib

from simulations.charts import SETTINGS, Chart
from simulations.sweep.report import costs, drift, gains, lending, quality
from simulations.sweep.report.drawing import Drawn
from simulations.sweep.report.tables import Part
from simulations.sweep.report.words import Pair, texts

_SETTINGS = {"text.parse_math": False, "legend.fontsize": 8.5, "legend.handlelength": 2.8}

FIGURES: dict[str, Callable[[Part], Drawn]] = {
    "quality": quality.quality,
    "trust": costs.trust,
    "calibration": quality.calibration,
    "scores": quality.scores,
    "known_by": gains.known_by,
    "shapley": gains.shapley,
    "decisions": lending.decisions,
    "fairness": lending.fairness,
    "drift": drift.drift,
    "audit": costs.audit,
    "releases": costs.releases,
    "cost": costs.cost,
}


@dataclass(frozen=True)
class Figure:
    """A figure with its words; without a chart, `says` tells why there is none.

    Attributes:
        name: of its files.
        title: what it is about.
        says: what it shows, in one sentence.
        note: small print; may be empty.
        chart: the picture.
    """

    name: str
    title: Pair
    says: Pair
    note: Pair
    chart: Chart | None


def draw_all(part: Part) -> list[Figure]:
    """Every figure of a set."""
    with matplotlib.rc_context(SETTINGS | _SETTINGS):
        return [_figure(part, name) for name in FIGURES]


def _figure(part: Part, name: str) -> Figure:
    words = texts("captions")[name]
    title, absent = Pair(words["en"], words["zh"]), Pair(words["absent_en"], words["absent_zh"])
    drawn = FIGURES[name](part) if part.arms else Drawn(None)
    if drawn.chart is None:
        return Figure(name, title, absent, Pair.same(""), None)
    drawn.chart.settle()
    says, note = (
        Pair(words.get(f"{k}_en", ""), words.get(f"{k}_zh", "")).filled(drawn.numbers) for k in ("says", "note")
    )
    return Figure(name, title, says, note, drawn.chart)
