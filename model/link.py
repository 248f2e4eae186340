"""Log-odds in whole steps: what a refinement needs of each person, small enough to be looked up on shares.

Each block rounds its own part of a person's log-odds to whole steps and keeps it within limits that are public. The sum
is then one of `STEPS` integers, for each of which the logistic curve is tabulated: a table that the dealer of a secure
product hides by rotation (`privacy.refining`). Nothing is approximated but the rounding, and no residual p - y can be
longer than 1, whatever anybody holds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.descent import sigmoid
from model.inputs import InputError, whole

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

STEPS = 128  # sums of parts, from -STEPS / 2 on: as many rows as a hidden table has
SCALE = 1 << 20  # of a tabulated probability
LOW, HIGH = 3.0, 5.0  # standard deviations of a block's log-odds within which its part may lie: risk is skewed
NARROW, WIDE = 0.5, 8.0  # log-odds: least and most of a block's range on one side


@dataclass(frozen=True)
class Link:
    """How log-odds become whole steps.

    Attributes:
        middle: by block the log-odds of step 0 of its part.
        limits: by block the size of the largest step of its part, on both sides.
        step: log-odds of one step.
    """

    middle: Mapping[str, float]
    limits: Mapping[str, int]
    step: float

    def __post_init__(self) -> None:
        if min(self.limits.values()) < 0 or sum(self.limits.values()) >= STEPS // 2 or set(self.limits) != set(
            self.middle
        ):
            raise InputError("link", "limits", f"must sum to less than {STEPS // 2}", sum(self.limits.values()))
        if not 0 < self.step < math.inf or not all(math.isfinite(m) for m in self.middle.values()):
            raise InputError("link", "step", "must be finite and > 0", self.step)

    @classmethod
    def of(cls, means: Mapping[str, float], spreads: Mapping[str, float]) -> Link:
        """The link for blocks whose log-odds have these (noisy) means and standard deviations.

        >>> link = Link.of({"": -1.0, "payments": -0.5}, {"": 0.4, "payments": 0.9})
        >>> sum(link.limits.values()) < STEPS // 2, round(link.step, 3)
        (True, 0.085)
        """
        below = {name: float(np.clip(LOW * s, NARROW, WIDE)) for name, s in spreads.items()}
        above = {name: float(np.clip(HIGH * s, NARROW, WIDE)) for name, s in spreads.items()}
        half = {name: (above[name] + below[name]) / 2 for name in means}
        step = sum(half.values()) / (STEPS // 2 - 1 - len(half))
        middle = {name: means[name] + (above[name] - below[name]) / 2 for name in means}
        return cls(middle, {name: math.ceil(h / step) for name, h in half.items()}, step)

    def part(self, block: str, log_odds: Floats) -> Integers:
        """A block's part of persons' log-odds in whole steps, shape (n,), within its limits."""
        limit = self.limits[block]
        steps = np.rint((np.nan_to_num(log_odds) - self.middle[block]) / self.step)
        return np.clip(steps, -limit, limit).astype(np.int64)

    def absent(self, block: str) -> int:
        """The part of a person without the relationship, whose log-odds there are 0."""
        return int(self.part(block, np.zeros(1))[0])

    def table(self) -> Integers:
        """`SCALE` times the probability at each sum of parts, shape (STEPS,): sum s stands at s modulo `STEPS`."""
        sums = np.fft.fftfreq(STEPS, 1.0 / STEPS)
        odds = sum(self.middle.values()) + np.rint(sums) * self.step
        return np.rint(sigmoid(odds) * SCALE).astype(np.int64)

    def to_dict(self) -> dict[str, Any]:
        """Plain values; `from_dict` reads them back."""
        return {"middle": dict(self.middle), "limits": dict(self.limits), "step": self.step}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Link:
        """The link that `to_dict` wrote; raises `InputError` where sums could pass the table."""
        limits = {name: whole("link", "limits", limit) for name, limit in data["limits"].items()}
        return cls({name: float(value) for name, value in data["middle"].items()}, limits, float(data["step"]))
