"""A chart of a report, drawn with matplotlib in the Okabe-Ito colours: SVG in two languages, and PNG.

Charts are drawn in English; the Chinese ones are the same SVG with every label exchanged, so that no Chinese font is
needed here, only where it is read.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import matplotlib
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

MINUS = "\N{MINUS SIGN}"
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, RED, PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"
STACK = (SKY, BLUE, GREEN, YELLOW, ORANGE, RED, PURPLE, BLACK)
SETTINGS: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "fedscore",
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "hatch.linewidth": 0.5,
    "legend.frameon": False,
    "figure.dpi": 100,
}


@dataclass
class Chart:
    """One chart: the figure and its labels in both languages."""

    figure: Figure
    words: dict[str, str] = field(default_factory=dict)

    def say(self, en: str, zh: str) -> str:
        """The English label; the Chinese one is kept for the other SVG."""
        self.words[en] = zh
        return en

    def legend(self, panels: Iterable[Axes], columns: int = 4) -> None:
        """One legend below all panels, with what any of these has."""
        found: dict[str, Artist] = {}
        for axes in panels:
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
                found.setdefault(label, handle)
        self.figure.legend(found.values(), found.keys(), loc="outside lower center", ncols=min(len(found), columns))

    def settle(self) -> None:
        """Places everything once and for all, so that no picture of it has to do it again."""
        self.figure.draw_without_rendering()
        self.figure.set_layout_engine("none")

    @cached_property
    def svg(self) -> str:
        """The English SVG; the same figure always gives the same text."""
        text = io.StringIO()
        with matplotlib.rc_context(SETTINGS):
            self.figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
        return text.getvalue()

    @property
    def svg_zh(self) -> str:
        """The Chinese SVG."""
        text = self.svg
        for en, zh in self.words.items():
            text = text.replace(f">{html.escape(en, quote=False)}</text>", f">{html.escape(zh, quote=False)}</text>")
        return text

    @property
    def png(self) -> bytes:
        """The English PNG, for documents that take no SVG."""
        data = io.BytesIO()
        with matplotlib.rc_context(SETTINGS):
            self.figure.savefig(data, format="png", dpi=160, metadata={"Software": None})
        return data.getvalue()


def chart_of(width: float, height: float) -> Chart:
    """An empty chart, in inches."""
    return Chart(Figure(figsize=(width, height), layout="constrained"))


def embedded(svg: str) -> str:
    """A picture as an address that holds all of it."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
