"""`table.md`: the AUC of a sweep as tables for a README."""

from __future__ import annotations

import math
import re

from simulations.sweep.report.tables import Part, Tables
from simulations.sweep.report.words import arm_name, in_order

ONE = 1.0


def markdown(tables: Tables) -> str:
    """A table with a row a set at three budgets, and one with every budget of every set and arm."""
    pinned = any(part.pinned for part in tables.parts)
    arms = in_order({arm for part in tables.parts for arm in part.arms})
    columns = [(arm, epsilon) for arm in arms for epsilon in _three(tables, arm)]
    text = [
        "Held-out AUC, mean ± standard deviation over seeds; everything of a cell composed at its epsilon."
        + (" Seeds share one split: the deviation is that of training, on one held-out sample." if pinned else ""),
        "",
        _line(["set (data holders, training persons)", *(f"{arm_name(arm).en}, {_budget(e)}" for arm, e in columns)]),
        _line(["---"] * (len(columns) + 1)),
        *(_line([_about(part), *(_cell(part, arm, e) for arm, e in columns)]) for part in tables.parts),
        "",
        "Every budget:",
        "",
    ]
    epsilons = sorted({epsilon for part in tables.parts for epsilon in part.epsilons()})
    text += [_line(["set", "arm", *map(_budget, epsilons)]), _line(["---"] * (len(epsilons) + 2))]
    for part in tables.parts:
        text += [_line([_code(part.name), _code(a), *(_cell(part, a, e) for e in epsilons)]) for a in part.arms]
    return "\n".join(text) + "\n"


def _three(tables: Tables, arm: str) -> list[float]:
    """Of an arm's budgets in any set: 1, the largest, and none; where there is no 1, the smallest."""
    there = sorted({epsilon for part in tables.parts for epsilon in part.epsilons(arm)})
    finite = [epsilon for epsilon in there if math.isfinite(epsilon)]
    first = [ONE] if ONE in finite else finite[:1]
    return sorted({*first, *finite[-1:], *(e for e in there if math.isinf(e))})


def _about(part: Part) -> str:
    train = int(part.cells["train"].drop_nulls().to_numpy().max(initial=0))
    return f"{_code(part.name)} ({part.holders}, {train:,})"


def _code(name: str) -> str:
    r"""A name as code within a table's cell, whatever is in it.

    >>> print(_code("a|b"), _code("a`b"))
    `a\|b` `` a`b ``
    """
    ticks = "`" * (1 + max((len(run) for run in re.findall("`+", name)), default=0))
    inner = name.replace("|", r"\|")
    return f"{ticks} {inner} {ticks}" if len(ticks) > 1 else f"`{inner}`"


def _cell(part: Part, arm: str, epsilon: float) -> str:
    """A mean with its deviation, as `.7633 ± .0014`; of copies of one training the mean alone."""
    found = part.estimate(arm, epsilon, "auc")
    if found is None:
        return "-"
    values = part.values(arm, epsilon, "auc")
    texts = [found.mean, *([values.std(ddof=1)] if found.se is not None else [])]
    return " ± ".join(f"{value:.4f}".removeprefix("0") for value in texts)


def _budget(epsilon: float) -> str:
    return "no noise" if math.isinf(epsilon) else f"epsilon {epsilon:g}"


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"
