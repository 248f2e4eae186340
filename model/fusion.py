"""Fusion and calibration at the lender: from the blocks' sub-scores to one log-odds, by relationship pattern.

Three releases, all on the training persons: the centres of the sub-scores, the weights (shared ones plus deviations
of each relationship pattern, shrunk to zero by the travelled time), and Platt's slope and intercepts. A block that is
late, though the relationship exists, counts as the average of those who have it: its centred value is zero. So one
fit gives an entry for every (relationship, available) pair, and no outage need have happened.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, combinations

import numpy as np
from numpy.typing import NDArray

from model.descent import Release, Schedule, descend, noise_variance, sigmoid
from model.limits.table import MICRO, Default, Entry, FusionTable

Floats = NDArray[np.float64]

CENTRE = -2.0  # log-odds about which sub-scores are bounded before their mean is known
RANGE = 3.0  # log-odds: a person's centred sub-scores are scaled by this and bounded to norm 1
LARGEST = 1e3  # in units of RANGE, beyond what the wire can carry: no sub-score's products overflow
START = 0.7  # weight of every block before data: domains overlap, so less than 1
CONSTANT, ABSENCE, PATTERN, SLOPE = 0.5, 0.35, 0.3, 0.2  # column scales: the row's norm is their sum of squares
PLATT_RANGE = 4.0  # log-odds about the centre within which calibration looks
REACH, SAMPLING = 3e-3, 2.8e-3  # as in scorecard.py, docs/learner.md
MAX_PARAMETER = 30.0  # usual ones are 2 to 4: a table within its range comes out whatever the noise
MAX_PATTERN_DOMAINS = 4  # above this many domains, patterns share all weights
PARTS = {"centres": 0.1, "weights": 0.6, "calibration": 0.3}  # of fusion's budget


@dataclass(frozen=True)
class Subscores:
    """Sub-scores of n persons: `values` has shape (n, blocks) in log-odds, NaN where there is no relationship.

    `optional` are the partners' domains, sorted; `own` is the lender's block, the last column, or None.
    """

    optional: tuple[str, ...]
    own: str | None
    values: Floats

    @property
    def blocks(self) -> tuple[str, ...]:
        """Names of the columns."""
        return self.optional if self.own is None else (*self.optional, self.own)

    @cached_property
    def present(self) -> NDArray[np.bool_]:
        """Where there is a relationship, shape (n, blocks)."""
        return ~np.isnan(self.values)

    @cached_property
    def pattern(self) -> NDArray[np.int64]:
        """Each person's relationship pattern: bit i stands for `optional[i]`."""
        bits = self.present[:, : len(self.optional)] @ (1 << np.arange(len(self.optional)))
        return np.asarray(bits, dtype=np.int64)


@dataclass(frozen=True)
class Layout:
    """Columns and bounds of the fusion's three releases, from the blocks' names alone."""

    optional: int
    blocks: int

    @property
    def patterns(self) -> int:
        """Relationship patterns with deviations of their own; 0 where there would be too many."""
        return 1 << self.optional if self.optional <= MAX_PATTERN_DOMAINS else 0

    def bounds(self) -> dict[str, tuple[float, int]]:
        """For each release the norm of a person's row and the number of columns."""
        keyed = self.patterns > 0
        weights = CONSTANT**2 + 1 + ABSENCE**2 + keyed * (PATTERN**2 + SLOPE**2)
        columns = 1 + self.blocks + self.optional + self.patterns * (1 + self.blocks)
        platt = CONSTANT**2 + 1 + keyed * PATTERN**2
        return {
            "centres": (math.sqrt(2), 2 * self.blocks),
            "weights": (math.sqrt(weights), columns),
            "calibration": (math.sqrt(platt), 2 + self.patterns),
        }

    def weights_map(self, pattern: int) -> Floats:
        """From the weights' parameters to [intercept, one weight a block] of a pattern: what scales its rows.

        Parameters: the constant, a weight a block, a term an absent domain, then each pattern's own deviations.
        """
        out = np.zeros((1 + self.blocks, self.bounds()["weights"][1]))
        out[0, 0] = CONSTANT
        out[1:, 1 : 1 + self.blocks] = np.eye(self.blocks)
        for i in range(self.optional):
            if not pattern >> i & 1:
                out[0, 1 + self.blocks + i] = ABSENCE / math.sqrt(self.optional)
        if self.patterns:
            first = 1 + self.blocks + self.optional + pattern * (1 + self.blocks)
            own = np.diag([PATTERN, *[SLOPE] * self.blocks])
            out[:, first : first + 1 + self.blocks] = own
        return out

    def platt_map(self, pattern: int) -> Floats:
        """From calibration's parameters to [intercept, slope] of a pattern."""
        out = np.zeros((2, self.bounds()["calibration"][1]))
        out[0, 0], out[1, 1] = CONSTANT, 1.0
        if self.patterns:
            out[0, 2 + pattern] = PATTERN
        return out

    def start(self) -> Floats:
        """The weights' parameters before data: every block at `START`."""
        theta = np.zeros(self.bounds()["weights"][1])
        theta[0] = CENTRE / CONSTANT
        theta[1 : 1 + self.blocks] = START * RANGE
        return theta

    def schedule(self, name: str, persons: int, mu: float) -> Schedule:
        """Steps and rate of a release from public numbers; the centres take one step."""
        if name == "centres":
            return Schedule(1, 1.0)
        bound, _ = self.bounds()[name]
        return Schedule.of(REACH / (noise_variance(bound, persons, mu) + SAMPLING / persons), bound)


@dataclass(frozen=True)
class Fit:
    """A fitted fusion: the table, and each block's centre, which reasons are measured against."""

    table: FusionTable
    centres: dict[str, float]

    def to_json(self) -> bytes:
        """As bytes, for a ledger; `from_json` reads them back."""
        return json.dumps({"table": self.table.to_dict(), "centres": self.centres}).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Fit:
        """The fit that `to_json` wrote."""
        plain = json.loads(data)
        return cls(FusionTable.from_dict(plain["table"]), plain["centres"])


def fit(scores: Subscores, labels: Floats, releases: dict[str, Release], schedules: dict[str, Schedule]) -> Fit:
    """Fits centres, weights and calibration through their releases; everything else is post-processing.

    Args:
        scores: of the training persons.
        labels: 1 where the person defaulted, shape (n,).
        releases: by the names in `PARTS`.
        schedules: by the same names.
    """
    layout = Layout(len(scores.optional), len(scores.blocks))
    centres = _centres(scores, releases["centres"])
    centred = _filled((scores.values - centres) / RANGE)
    rows = _bounded(centred)
    maps = [layout.weights_map(p) for p in range(1 << layout.optional)]
    theta = _descend(
        _Rows.of(rows, scores.pattern, maps), labels, releases["weights"], schedules["weights"], layout.start()
    )
    forms = [m @ theta for m in maps]
    for form in forms:
        form[1:] = np.maximum(form[1:], 0.0)
    raw = np.empty(len(rows))
    for p, form in enumerate(forms):
        here = scores.pattern == p
        raw[here] = form[0] + centred[here] @ form[1:]  # as the table adds them; Platt's own column is bounded below
    slope = np.clip((raw - CENTRE) / PLATT_RANGE, -1.0, 1.0)[:, None]
    platt_maps = [layout.platt_map(p) for p in range(1 << layout.optional)]
    start = np.zeros(platt_maps[0].shape[1])
    start[:2] = CENTRE / CONSTANT, PLATT_RANGE
    platt = _descend(
        _Rows.of(slope, scores.pattern, platt_maps), labels, releases["calibration"], schedules["calibration"], start
    )
    table = _table(scores, centres, [(f, m @ platt) for f, m in zip(forms, platt_maps, strict=True)])
    return Fit(table, dict(zip(scores.blocks, centres.tolist(), strict=True)))


def z_e6(table: FusionTable, scores: Subscores) -> NDArray[np.int64]:
    """The table's z for each person, all of whose relationships are available: what `FusionTable.z_e6` gives."""
    micro = np.rint(np.nan_to_num(scores.values) * MICRO).astype(np.int64)
    out = np.empty(len(micro), dtype=np.int64)
    for pattern in np.unique(scores.pattern):
        domains = [d for i, d in enumerate(scores.optional) if pattern >> i & 1]
        entry = table.entry(domains, domains)
        weights = np.array([entry.weights_e6.get(b, 0) for b in scores.blocks], dtype=np.int64)
        rows = scores.pattern == pattern
        out[rows] = entry.intercept_e6 + (micro[rows] @ weights) // MICRO
    return out


def _filled(rows: Floats) -> Floats:
    """Zero where there is no relationship, and nowhere beyond `LARGEST`: an infinity would spoil everybody's sum."""
    return np.nan_to_num(np.clip(rows, -LARGEST, LARGEST))


def _bounded(rows: Floats) -> Floats:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(norms, 1.0))


def _centres(scores: Subscores, release: Release) -> Floats:
    """Noisy means of the sub-scores over those who have them."""
    count = len(scores.blocks)
    scaled = _bounded(_filled((scores.values - CENTRE) / (2 * RANGE)))
    sums = release(np.concatenate([scaled.sum(axis=0), scores.present.sum(axis=0) / math.sqrt(count)]))
    present = np.maximum(sums[count:] * math.sqrt(count), 1.0)
    return CENTRE + 2 * RANGE * np.clip(sums[:count] / present, -0.5, 0.5)


@dataclass(frozen=True)
class _Rows:
    """Persons' rows grouped by relationship pattern: [1, rows] times the pattern's map is a person's full row.

    Only as many columns as there are blocks are ever multiplied, however many deviations the patterns have.
    """

    groups: tuple[tuple[NDArray[np.intp], Floats, Floats], ...]

    @classmethod
    def of(cls, rows: Floats, pattern: NDArray[np.int64], maps: Sequence[Floats]) -> _Rows:
        """Groups for the patterns that occur."""
        found = []
        for p in np.unique(pattern):
            here = np.flatnonzero(pattern == p)
            found.append((here, np.concatenate([np.ones((len(here), 1)), rows[here]], axis=1), maps[int(p)]))
        return cls(tuple(found))

    def gradient_sum(self, labels: Floats) -> Release:
        """The log-loss gradient summed over persons, as a function of the parameters."""
        grouped = [(rows, m, labels[here]) for here, rows, m in self.groups]

        def gradient(theta: Floats) -> Floats:
            parts = [m.T @ (rows.T @ (sigmoid(rows @ (m @ theta)) - y)) for rows, m, y in grouped]
            return np.asarray(sum(parts, np.zeros_like(theta)))

        return gradient


def _descend(rows: _Rows, labels: Floats, release: Release, schedule: Schedule, start: Floats) -> Floats:
    return descend(start, rows.gradient_sum(labels), release, float(len(labels)), schedule, MAX_PARAMETER)[1]


def _table(scores: Subscores, centres: Floats, fitted: Sequence[tuple[Floats, Floats]]) -> FusionTable:
    """Entries for every pair of patterns where patterns are few, else the additive rule; calibration folded in.

    `fitted` holds for each relationship pattern the linear form on centred sub-scores and Platt's on its result.
    """
    optional, blocks = scores.optional, scores.blocks

    def linear(pattern: int) -> tuple[float, dict[str, float]]:
        (intercept, *weights), (shift, platt) = fitted[pattern]
        slope = max(float(platt) / PLATT_RANGE, 0.05)
        form = {b: slope * float(w) / RANGE for b, w in zip(blocks, weights, strict=True)}
        return float(shift) + slope * (float(intercept) - CENTRE), form

    def entry(pattern: int, available: Sequence[str]) -> Entry:
        intercept, form = linear(pattern)
        used = {b: w for b, w in form.items() if b in available or b == scores.own}
        centred = intercept - sum(w * centres[blocks.index(b)] for b, w in used.items())
        return Entry(_micro(centred), {b: _micro(w) for b, w in used.items()})

    if len(optional) <= MAX_PATTERN_DOMAINS:
        entries = {}
        for related in _subsets(optional):
            pattern = sum(1 << optional.index(d) for d in related)
            for available in _subsets(related):
                entries[f"{'+'.join(related)}|{'+'.join(available)}"] = entry(pattern, available)
        return FusionTable(optional, scores.own, entries)
    everybody = (1 << len(optional)) - 1
    intercept, form = linear(everybody)
    late = {d: form[d] * float(centres[i]) for i, d in enumerate(optional)}
    absent = {d: linear(everybody & ~(1 << i))[0] - intercept + late[d] for i, d in enumerate(optional)}
    rule = Default(
        entry(everybody, optional).intercept_e6,
        {b: _micro(w) for b, w in form.items()},
        {d: _micro(v) for d, v in absent.items()},
        {d: _micro(v) for d, v in late.items()},
    )
    return FusionTable(optional, scores.own, {}, rule)


def _micro(value: float) -> int:
    return round(value * MICRO)


def _subsets(domains: Sequence[str]) -> Iterator[tuple[str, ...]]:
    return chain.from_iterable(combinations(domains, size) for size in range(len(domains) + 1))
