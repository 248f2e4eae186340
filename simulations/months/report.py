"""Writing a study out: months as CSV, the summary as JSON, the charts, and one self-contained page that shows them."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined

from simulations.charts import MINUS, Chart, embedded
from simulations.months.charts import draw_all
from simulations.months.narrative import captions
from simulations.months.study import MAIN, Found, Study

_COUNTS = (
    "applicants", "approved", "thin_applicants", "thin_approved", "accounts", "defaults", "late",
    "first_payment_defaults", "thin_first_payment_defaults", "demoted", "seasoned", "standard", "frozen",
    "trial_standard", "seasoned_standard", "trials_ever", "graduated", "labels",
)  # fmt: skip
_AMOUNTS = (
    "drawn", "income", "loss", "expected_loss", "fixed", "queries", "points_cost", "profit", "thin_result",
    "trial_result",
)  # fmt: skip


def write_study(out: Path, study: Study, found: Found) -> dict[str, Any]:
    """Writes `months.csv`, `summary.json`, the charts and `report.html` into a folder; returns the summary."""
    summary = study.summary(found)
    _write_months(out / "months.csv", found, study)
    (out / "summary.json").write_text(json.dumps(summary, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    charts = draw_all(study, found, summary)
    for name, chart in charts.items():
        (out / f"{name}.svg").write_text(chart.svg, encoding="utf-8")
        (out / f"{name}.zh.svg").write_text(chart.svg_zh, encoding="utf-8")
        (out / f"{name}.png").write_bytes(chart.png)
    (out / "report.html").write_text(_page(study, summary, charts), encoding="utf-8")
    return summary


def _write_months(path: Path, found: Found, study: Study) -> None:
    """One row a policy, scenario, seed and month; amounts in whole fen."""
    rungs = sorted(
        {name for months in found.values() for name in months if name.startswith("trial_r")} - {"trial_result"}
    )
    names = ["policy", "scenario", "seed", "month", *_COUNTS, *rungs, *(f"{n}_fen" for n in _AMOUNTS), "thin_shift"]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        for (section, policy, scenario), months in found.items():
            if section != MAIN:
                continue
            none = np.zeros_like(months["month"])
            columns = [months.get(name, none) for name in (*_COUNTS, *rungs, *_AMOUNTS)]
            for at, seed in enumerate(study.seeds):
                for month in range(study.months):
                    whole = [round(float(column[at, month])) for column in columns]
                    shift = f"{months['thin_shift'][at, month]:.6f}"
                    writer.writerow([policy, scenario, seed, month + 1, *whole, shift])


def _page(study: Study, summary: dict[str, Any], charts: dict[str, Chart]) -> str:
    """The report in both languages; its pictures are within it."""
    source = Path(__file__).with_name("report.html.j2").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"million": _million, "percent": _percent, "yuan": _yuan}
    told = captions(study, summary)
    languages: list[dict[str, Any]] = []
    for lang in ("zh", "en"):
        pick: Callable[[str, str], str] = (lambda en, zh: zh) if lang == "zh" else (lambda en, zh: en)
        figures = [
            {
                "title": pick(told[name].en, told[name].zh),
                "says": pick(told[name].says_en, told[name].says_zh),
                "image": embedded(chart.svg_zh if lang == "zh" else chart.svg),
            }
            for name, chart in charts.items()
        ]
        languages.append({"lang": lang, "t": pick, "figures": dict(zip(charts, figures, strict=True))})
    return environment.from_string(source).render(languages=languages, study=study, s=summary)


def _million(figure: dict[str, float | None], sign: bool = False) -> str:
    mean, low, high = figure["mean"], figure["low"], figure["high"]
    text = f"{(mean or 0.0) / 1e6:{'+' if sign else ''}.2f}"
    if low is not None and high is not None:
        text += f" ({low / 1e6:.2f} … {high / 1e6:.2f})"
    return text.replace("-", MINUS)


def _percent(figure: dict[str, float], digits: int = 0) -> str:
    return f"{100 * figure['mean']:.{digits}f} %"


def _yuan(figure: dict[str, float]) -> str:
    return f"{round(figure['mean']):,}".replace("-", MINUS)
