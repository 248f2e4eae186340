"""What a report calls things, in both languages, and how it writes figures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from model.inputs import read_toml
from simulations.charts import GREEN, MINUS, ORANGE, PURPLE, RED
from simulations.estimates import Estimate

_OTHERS = ((RED, "-", "v", "++"), (PURPLE, "--", "^", "//"), (GREEN, ":", "D", "oo"), (ORANGE, "-.", "X", "xx"))


@dataclass(frozen=True)
class Pair:
    """One text in both languages."""

    en: str
    zh: str

    @classmethod
    def same(cls, text: str) -> Pair:
        """A text that is the same in both: a number, a code."""
        return cls(text, text)

    def filled(self, numbers: Mapping[str, Pair]) -> Pair:
        """With the values for its braces, each in the text's own language; the sentence begins with a capital."""
        en = self.en.format_map({name: value.en for name, value in numbers.items()})
        return Pair(en[:1].upper() + en[1:], self.zh.format_map({name: value.zh for name, value in numbers.items()}))


@dataclass(frozen=True)
class Look:
    """How an arm is drawn."""

    colour: str
    line: str
    marker: str
    hatch: str


@cache
def texts(name: str) -> dict[str, Any]:
    """A TOML file of texts beside this module, read once."""
    return read_toml(Path(__file__).with_name(f"{name}.toml"))


def in_order(arms: set[str]) -> tuple[str, ...]:
    """Arms in the report's order; those without words come last, by name."""
    known = list(texts("words")["arms"])
    return tuple(sorted(arms, key=lambda arm: (known.index(arm) if arm in known else len(known), arm)))


def arm_name(arm: str) -> Pair:
    """What an arm is called."""
    words = texts("words")["arms"].get(arm)
    return Pair(words["en"], words["zh"]) if words else Pair.same(arm)


def arm_told(arm: str) -> Pair:
    """What an arm is called within a sentence."""
    words = texts("words")["arms"].get(arm)
    return Pair(words["told_en"], words["zh"]) if words else Pair(f"the arm {arm}", f"方案 {arm}")


def who_sees(arm: str, trust: str) -> Pair:
    """Who sees what under an arm."""
    words = texts("words")["arms"].get(arm)
    return Pair(words["sees_en"], words["sees_zh"]) if words else called("trust", trust)


def look_of(arm: str) -> Look:
    """An arm's look; one without words gets one by its name, always the same."""
    words = texts("words")["arms"].get(arm)
    return Look(*words["look"]) if words else Look(*_OTHERS[sum(arm.encode()) % len(_OTHERS)])


def called(table: str, name: str) -> Pair:
    """A name's words in a table of `words.toml`; the name itself where it has none."""
    words = texts("words")[table].get(name)
    return Pair(*words) if words else Pair.same(name)


def release_name(line: str) -> Pair:
    """What a line of the plan is called, with its own name behind."""
    kind = line.partition("/")[0]
    words = called("releases" if kind in texts("words")["releases"] else "domains", kind)
    return words if words.en == line else Pair(f"{words.en} ({line})", f"{words.zh} ({line})")


def budget(epsilon: float) -> Pair:
    """A budget as a heading."""
    return Pair("no noise", "无噪声") if math.isinf(epsilon) else Pair.same(f"epsilon {epsilon:g}")


def at_budget(epsilon: float) -> Pair:
    """A budget within a sentence."""
    if math.isinf(epsilon):
        return Pair("without noise", "无噪声时")
    return Pair(f"at epsilon {epsilon:g}", f"epsilon {epsilon:g} 时")


def number(value: float, digits: int = 4, sign: bool = False) -> str:
    """A figure with a true minus sign.

    >>> number(-0.00123, sign=True)
    '−0.0012'
    """
    text = f"{value:{'+' if sign else ''},.{digits}f}"
    return text.lstrip("+-") if not text.strip("+-0.,") else text.replace("-", MINUS)


def percent(share: float, digits: int = 1) -> str:
    """A share in percent."""
    return f"{number(100 * share, digits)}%"


def more_or_less(gap: Estimate) -> Pair:
    """A difference as words: how much more, or less.

    >>> more_or_less(Estimate(-0.02, 0.01, -0.04, -0.01)).en
    '0.0200 less (0.0100 … 0.0400)'
    """
    less = gap.mean < 0
    low, high = (gap.high, gap.low) if less else (gap.low, gap.high)
    sign = -1.0 if less else 1.0
    ends = "" if low is None or high is None else f" ({number(sign * low)} … {number(sign * high)})"
    size = number(abs(gap.mean))
    return Pair(f"{size} {'less' if less else 'more'}{ends}", f"{'低' if less else '高'} {size}{ends}")


def estimated(found: Estimate, digits: int = 4, sign: bool = False) -> str:
    """A mean with its interval over seeds, where there is one.

    >>> estimated(Estimate(0.5, 0.1, 0.4, 0.6))
    '0.5000 (0.4000 … 0.6000)'
    """
    text = number(found.mean, digits, sign)
    if found.low is None or found.high is None:
        return text
    return f"{text} ({number(found.low, digits, sign)} … {number(found.high, digits, sign)})"
