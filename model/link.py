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
from model.inputs import InputError

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
        middle: log-odds of step 0 of the lender's part, the model's constant included.
        limits: by block the least and the largest step of its part; the lender's block is `""`.
        step: log-odds of one step.
    """

    middle: float
    limits: Mapping[str, tuple[int, int]]
    step: float

    def __post_init__(self) -> None:
        least, most = (sum(pair[i] for pair in self.limits.values()) for i in (0, 1))
        inside = all(low <= 0 <= high for low, high in self.limits.values())
        if not (inside and least >= -STEPS // 2 and most < STEPS // 2):
            raise InputError("link", "limits", f"must keep every sum within {STEPS} steps", [least, most])
        if not 0 < self.step < math.inf or not math.isfinite(self.middle):
            raise InputError("link", "step", "must be finite and > 0", self.step)

    @classmethod
    def of(cls, means: Mapping[str, float], spreads: Mapping[str, float]) -> Link:
        """The link for blocks whose log-odds have these (noisy) means and standard deviations.

        A partner's part of a person whom it does not have is 0, so 0 is always within its limits.

        >>> link = Link.of({"": -1.0, "payments": -0.5}, {"": 0.4, "payments": 0.9})
        >>> link.limits, round(link.step, 3)
        ({'': (-18, 18), 'payments': (-35, 44)}, 0.092)
        """
        middle, ranges = 0.0, {}
        for name, mean in means.items():
            below, above = (float(np.clip(c * spreads[name], NARROW, WIDE)) for c in (LOW, HIGH))
            if name:
                ranges[name] = (min(0.0, mean - below), max(0.0, mean + above))
            else:
                middle, half = mean + (above - below) / 2, (above + below) / 2
                ranges[name] = (-half, half)
        room = STEPS // 2 - 1 - len(ranges)  # rounding takes up to one step a block
        step = max(-sum(low for low, _ in ranges.values()), sum(high for _, high in ranges.values())) / room
        limits = {name: (math.floor(low / step), math.ceil(high / step)) for name, (low, high) in ranges.items()}
        return cls(middle, limits, step)

    def part(self, block: str, log_odds: Floats) -> Integers:
        """A block's part of persons' log-odds in whole steps, shape (n,), within its limits."""
        low, high = self.limits[block]
        steps = np.rint((np.nan_to_num(log_odds) - (0.0 if block else self.middle)) / self.step)
        return np.clip(steps, low, high).astype(np.int64)

    def table(self) -> Integers:
        """`SCALE` times the probability at each sum of parts, shape (STEPS,): sum s stands at s modulo `STEPS`."""
        sums = np.rint(np.fft.fftfreq(STEPS, 1.0 / STEPS))
        return np.rint(sigmoid(self.middle + sums * self.step) * SCALE).astype(np.int64)

    def to_dict(self) -> dict[str, Any]:
        """Plain values; `from_dict` reads them back."""
        return {"middle": self.middle, "limits": {k: list(v) for k, v in self.limits.items()}, "step": self.step}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Link:
        """The link that `to_dict` wrote; raises `InputError` where sums could pass the table."""
        limits = {name: (int(low), int(high)) for name, (low, high) in data["limits"].items()}
        return cls(float(data["middle"]), limits, float(data["step"]))
