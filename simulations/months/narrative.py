"""What each figure shows, in one sentence and in both languages, with the study's own numbers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.inputs import read_toml
from simulations.months.policies import DECLINE, FULL, GIVEN
from simulations.months.study import EFFECTS, Study


@dataclass(frozen=True)
class Caption:
    """A figure's title and what it shows."""

    en: str
    zh: str
    says_en: str
    says_zh: str


def captions(study: Study, summary: dict[str, Any]) -> dict[str, Caption]:
    """By the figure's name."""
    numbers = _numbers(study, summary)
    texts = read_toml(Path(__file__).with_name("captions.toml"))
    return {
        name: Caption(**{key: text.format_map(numbers) for key, text in caption.items()})
        for name, caption in texts.items()
    }


def _numbers(study: Study, summary: dict[str, Any]) -> dict[str, str]:
    focus = study.focus.code
    results = {row["policy"]: row for row in summary["results"] if row["scenario"] == focus}
    over = {row["against"]: row["profit"] for row in summary["differences"] if row["scenario"] == focus}
    caps = {row["cap_bp"]: row["thin_approval"] for row in summary["apr_caps"]["table"]}
    needs_en, needs_zh = _needs(summary)
    return {
        "focus": focus,
        "seeds": str(len(study.seeds)),
        "profit": _million(results[GIVEN]["profit"]["mean"]),
        "over_full": _interval(over[FULL]),
        "over_decline": _interval(over[DECLINE]),
        "thin": _percent(results[GIVEN]["thin_approval"]),
        "thin_full": _percent(results[FULL]["thin_approval"]),
        "thin_decline": _percent(results[DECLINE]["thin_approval"]),
        "graduated": _percent(results[GIVEN]["graduation"]),
        "needs_en": needs_en,
        "needs_zh": needs_zh,
        "thin_20": _percent(caps[2000]),
        "thin_12": _percent(caps[1200]),
    }


def _interval(found: dict[str, float]) -> str:
    return f"{_million(found['mean'], '+')} ({_million(found['low'])} … {_million(found['high'])})"


def _million(cny: float, sign: str = "") -> str:
    return f"{cny / 1e6:{sign}.2f}"


def _percent(figure: dict[str, float]) -> str:
    return f"{100 * figure['mean']:.0f}"


def _needs(summary: dict[str, Any]) -> tuple[str, str]:
    """By how much defaults must fall for each cost of points."""
    points, en, zh = summary["points"], [], []
    most = 100 * points["fewer_defaults"][str(EFFECTS[-1])]
    for fen, share in points["break_even"].items():
        if fen != "own":
            cost = f"{int(fen) / 100:.1f}"
            en.append(
                f"at CNY {cost} a month it must spare " + (f"{100 * share:.1f} %" if share else f"over {most:.0f} %")
            )
            zh.append(f"每月 {cost} 元需减少" + (f" {100 * share:.1f}%" if share else f"超过 {most:.0f}%"))
    return ", ".join(en), ",".join(zh)
