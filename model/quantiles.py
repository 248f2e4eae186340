"""Private bins of a numeric feature whose edges are not public: a fine histogram to release, and edges from its noise.

A holder releases one noisy sum for all such features of its block: each person adds a 1 to one of `FINE` fine bins of
each feature, laid out over the public range on the public scale. Everything after the noise is post-processing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from model.contract import Feature
from model.encoding import BINS, LOG_DECADES

FINE = 64
PRIOR = 0.5  # noise standard deviations added to every fine bin: measured, see `chosen_edges`
FAINT = 1e-3  # the same as a share of the mean fine bin: without noise, it spreads the bins of empty stretches
HEAVY = 1 / 8  # a fine bin with more than this share of all is a bin of its own, if it is above
SIGNIFICANT = 4.0  # noise standard deviations

_LARGEST = 1e100  # a count above it can only come from a broken sender

Floats = NDArray[np.float64]


def bound(features: int) -> float:
    """The L2 norm that no person's part of `counts` exceeds: one fine bin in each of `features` features.

    >>> bound(4)
    2.0
    """
    return math.sqrt(features)


def fine_edges(feature: Feature) -> Floats:
    """The increasing inner edges of a numeric feature's fine bins, shape (FINE - 1,), in (low, high].

    Fine bin i holds edge[i-1] <= value < edge[i]. They are of equal width on the feature's scale. A log scale that
    starts at 0, and a signed one always, reaches down `LOG_DECADES` decades from the top; what is nearer to 0 is one
    fine bin on each side, and 0 itself has a fine bin of its own.

    Raises:
        ValueError: where the range is too narrow for `FINE` different floats; it depends on the contract only.

    >>> fine_edges(Feature("age", "numeric", low=0.0, high=128.0))[:3]
    array([2., 4., 6.])
    """
    low, high = feature.low, feature.high
    if feature.scale == "linear":
        edges = 2.0 * np.linspace(low / 2, high / 2, FINE + 1)[1:-1]  # the halves keep high - low finite
    else:
        edges = _log_edges(low, high, signed=feature.scale == "signed-log")
    if not (low < edges[0] and edges[-1] <= high and (np.diff(edges) > 0).all()):
        raise ValueError(f"range of {feature.name!r} must be wide enough for {FINE} bins, got [{low!r}, {high!r}]")
    return edges


def _log_edges(low: float, high: float, signed: bool) -> Floats:
    """Fine edges of both logarithmic scales: fixed ones around 0, the others spread by length in logarithms."""
    top = max(abs(low), abs(high))
    bottom = top * 10.0**-LOG_DECADES if signed or low <= 0 else low
    around_zero = (-bottom, 0.0, float(np.nextafter(0.0, 1.0)), bottom)
    fixed = [e for e in around_zero if low < e <= high and (e != 0 or low < 0)]
    sides = [(max(-high, bottom), -low), (max(low, bottom), high)]
    lengths = [math.log(b / a) if b > a else 0.0 for a, b in sides]
    free = FINE - 1 - len(fixed)
    below = round(free * lengths[0] / sum(lengths)) if lengths[0] else 0
    lower, upper = (_between(*side, k) for side, k in zip(sides, (below, free - below), strict=True))
    return np.concatenate([-lower[::-1], fixed, upper])


def _between(first: float, last: float, inner: int) -> Floats:
    """`inner` points of equal ratio between `first` and `last`, without them."""
    return np.geomspace(first, last, inner + 2)[1:-1] if inner else np.zeros(0)


def counts(features: Sequence[Feature], values: Sequence[Floats]) -> Floats:
    """How many persons are in each fine bin of each feature, shape (FINE * features,), features one after another.

    Sensitivity: leaving out one person moves it by at most `bound(len(features))` in L2. Missing values and special
    codes are in no fine bin; infinities and values outside the range are clamped, as the encoding does.

    Args:
        features: the numeric features with private edges, in the contract's order.
        values: for each of them every present person's value, NaN where missing.

    >>> counts([Feature("age", "numeric", low=0.0, high=128.0)], [np.array([1.9, 2.0, np.nan, -7.0])])[:3]
    array([2., 1., 0.])
    """
    parts = [np.zeros(0)]
    for feature, column in zip(features, values, strict=True):
        counted = ~np.isnan(column) & ~np.isin(column, [float(s) for s in feature.special])
        clamped = np.clip(column[counted], feature.low, feature.high)
        places = np.searchsorted(fine_edges(feature), clamped, side="right")
        parts.append(np.bincount(places, minlength=FINE).astype(np.float64))
    return np.concatenate(parts)


def chosen_edges(feature: Feature, noisy: Floats, stddev: float) -> tuple[float, ...]:
    """The BINS - 1 increasing inner edges, all of them fine edges, that noisy counts suggest.

    Neighbouring fine bins are joined into `BINS` bins of the least sum of squared masses, exactly, by dynamic
    programming: without atoms that sum is four times the mean distance, in ranks, of a person to the nearest bound,
    and noise adds the same to it however bins are joined. A heavy fine bin stays alone. Negative counts become 0 and
    every fine bin gets `PRIOR` noise standard deviations, 0's own bin as much as a bin of equal width (nothing if 0
    is a special code): where noise dominates, the bins are those of equal width. Post-processing: it costs nothing.

    Args:
        noisy: shape (FINE,), this feature's part of the released sum, or of all partners' sums added.
        stddev: of the noise on each of them; of P partners' added sums, sqrt(P) times one partner's.

    Raises:
        ValueError: for another shape, or a `stddev` that is negative or not finite.

    >>> edges = chosen_edges(Feature("age", "numeric", low=0.0, high=128.0), np.zeros(FINE), stddev=1.0)
    >>> len(edges), edges[:2], edges[-2:]
    (23, (4.0, 8.0), (116.0, 122.0))
    """
    if noisy.shape != (FINE,):
        raise ValueError(f"noisy must have shape ({FINE},), one count a fine bin, got {noisy.shape}")
    if not (math.isfinite(stddev) and stddev >= 0):
        raise ValueError(f"stddev must be finite and >= 0 (of the noise on each count), got {stddev}")
    seen = np.clip(np.where(np.isfinite(noisy), noisy, 0.0), 0.0, _LARGEST)
    stddev = min(stddev, _LARGEST)
    prior = PRIOR * stddev + FAINT * seen.sum() / FINE
    heavy = (seen > HEAVY * seen.sum()) & (seen > SIGNIFICANT * stddev)
    mass = seen + (prior if prior > 0 else 1.0) * _prior_shape(feature)
    kept = _joined(mass / mass.sum(), heavy)
    return tuple(fine_edges(feature)[kept].tolist())


def _prior_shape(feature: Feature) -> Floats:
    """What each fine bin gets of the prior: 1, but 0's own bin as much as a bin of equal width, or nothing."""
    shape = np.ones(FINE)
    if feature.scale != "linear" and feature.low <= 0 <= feature.high:
        special = 0.0 in [float(s) for s in feature.special]
        shape[np.searchsorted(fine_edges(feature), 0.0, side="right")] = 0.0 if special else FINE / BINS
    return shape


def _joined(mass: Floats, heavy: NDArray[np.bool_]) -> NDArray[np.intp]:
    """The fine edges kept, shape (BINS - 1,), of the join with the least sum of squares that leaves `heavy` alone.

    At most 7 fine bins are heavy, with at most 8 gaps between them: such a join into `BINS` always exists.
    """
    start, stop = np.indices((FINE + 1, FINE + 1))
    below = np.concatenate([[0.0], np.cumsum(mass)])
    heavies = np.concatenate([[0], np.cumsum(heavy)])
    cost = (below[stop] - below[start]) ** 2
    cost[(stop <= start) | ((stop > start + 1) & (heavies[stop] > heavies[start]))] = np.inf
    best, origins = cost[0], []
    for _ in range(BINS - 1):  # invariant: best[j] is the least cost of the first j fine bins in len(origins) + 1 bins
        totals = best[:, None] + cost
        origins.append(totals.argmin(axis=0))
        best = totals.min(axis=0)
    at, kept = FINE, []
    for origin in reversed(origins):
        at = int(origin[at])
        kept.append(at - 1)
    return np.array(kept[::-1])
