"""Lower bounds on epsilon from canaries: how far what was released tells a present person from an absent one.

A bound above the claim shows that the mechanism, or the claim, is wrong; one below it proves nothing. Three routes,
the more each assumes the more it sees: `tails_bound` nothing, `ranks_bound` that the scores are normal,
`spread_bound` also that a person only shifts them, by a known amount.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import betaincinv, chdtri, ndtr, ndtri, owens_t

from privacy.accounting import gaussian_epsilon
from privacy.mechanisms import Mechanism, noise_share
from privacy.noise import Csprng

Floats = NDArray[np.float64]

CONFIDENCE = 0.999
_WIDTH = 2**13  # coordinates drawn at once
_LARGEST_MU = 12.0  # an area under the curve cannot be told from 1 beyond it


@dataclass(frozen=True)
class Bound:
    """Epsilon is at least `epsilon` at the given delta, up to the confidence asked for.

    Attributes:
        route: ranks, spread or tails.
        epsilon: the lower bound, >= 0.
        mu: the lower bound on mu that it follows from; NaN where no normal law is assumed.
        estimate: mu without the margin for chance; NaN likewise.
    """

    route: str
    epsilon: float
    mu: float = math.nan
    estimate: float = math.nan


@dataclass(frozen=True)
class Scores:
    """An attacker's scores of canaries that were present (`inside`) and absent (`outside`), shape (n,) each.

    `shift` is by how much presence moves a score where the release is the sum plus noise.
    """

    inside: Floats
    outside: Floats
    shift: float

    @classmethod
    def joined(cls, lines: Sequence[Scores]) -> Scores:
        """The scores of persons who take part in every line, with independent noise: log-likelihood ratios add up."""
        inside, outside = (np.sum([getattr(s, side) for s in lines], axis=0) for side in ("inside", "outside"))
        return cls(inside, outside, sum(s.shift for s in lines))


def area(inside: Floats, outside: Floats) -> float:
    """The share of (inside, outside) pairs in which the former scores higher, ties half: the area under the curve.

    >>> area(np.array([2.0, 3.0]), np.array([1.0, 2.0]))
    0.875
    """
    ordered = np.sort(outside)
    below = np.searchsorted(ordered, inside, "left") + np.searchsorted(ordered, inside, "right")
    return float(below.mean()) / (2 * len(outside))


def ranks_bound(scores: Scores, delta: float, confidence: float = CONFIDENCE) -> Bound:
    """From the area under the curve A: mu = sqrt(2) * inverse normal of A, with the standard error at the bound.

    The error is that of normal scores at the mu in question, so that an area of 1 gives a finite bound.

    Source: Hanley & McNeil (1982) for the variance of A; the pair probability by Owen (1956).

    >>> still = Scores(np.arange(50.0), np.arange(50.0), 0.0)
    >>> ranks_bound(still, 1e-5).epsilon
    0.0
    """
    found, z = area(scores.inside, scores.outside), float(ndtri(confidence))
    estimate = math.sqrt(2) * float(ndtri(found))
    sizes = len(scores.inside), len(scores.outside)

    def beyond(mu: float) -> float:
        return (found - 1) + float(ndtr(-mu / math.sqrt(2))) - z * _area_error(mu, *sizes)

    if beyond(0.0) <= 0:
        return Bound("ranks", 0.0, 0.0, estimate)
    mu = float(brentq(beyond, 0.0, _LARGEST_MU, xtol=1e-9))
    return Bound("ranks", gaussian_epsilon(mu, delta), mu, estimate)


def _area_error(mu: float, inside: int, outside: int) -> float:
    """Standard error of the area under the curve of two unit normals `mu` apart."""
    h = mu / math.sqrt(2)
    below = float(ndtr(-h))  # in terms of what is missing from 1, or large mu would come out as certain
    both = below - below**2 - 2 * float(owens_t(h, 1 / math.sqrt(3)))  # covariance: two insiders against one outsider
    variance = below * (1 - below) + (inside + outside - 2) * both
    return math.sqrt(max(variance, 0.0) / (inside * outside))


def spread_bound(scores: Scores, delta: float, confidence: float = CONFIDENCE) -> Bound:
    """From the scores' standard deviation about their means: mu = shift / deviation, exact for normal noise.

    It needs hundreds of scores where ranks need tens of thousands, but is blind to a release that moves by more
    than the sum does: use both.
    """
    if scores.shift == 0:
        return Bound("spread", 0.0, 0.0, 0.0)
    inside, outside = scores.inside - scores.inside.mean(), scores.outside - scores.outside.mean()
    freedom = len(inside) + len(outside) - 2
    squares = float((inside**2).sum() + (outside**2).sum())
    if squares <= (1e-9 * scores.shift) ** 2:
        return Bound("spread", math.inf, math.inf, math.inf)
    mu = scores.shift / math.sqrt(squares / float(chdtri(freedom, confidence)))
    return Bound("spread", gaussian_epsilon(mu, delta), mu, scores.shift / math.sqrt(squares / freedom))


def tails_bound(scores: Scores, delta: float, confidence: float = CONFIDENCE) -> Bound:
    """Free of any law: a threshold chosen on every other score, Clopper-Pearson limits of both rates on the rest.

    (epsilon, delta) means P(inside beyond t) <= e^epsilon P(outside beyond t) + delta, on either side of t and with
    the roles exchanged.
    """
    even, odd = (Scores(scores.inside[i::2], scores.outside[i::2], scores.shift) for i in (0, 1))
    pooled = np.sort(np.concatenate([even.inside, even.outside]))
    thresholds = pooled[:: max(1, len(pooled) // 512)]
    candidates = [(upper, _by_threshold(even, thresholds, upper, delta, confidence)) for upper in (True, False)]
    upper, values = max(candidates, key=lambda c: float(c[1].max()))
    chosen = thresholds[[int(values.argmax())]]
    return Bound("tails", max(0.0, float(_by_threshold(odd, chosen, upper, delta, confidence)[0])))


def _by_threshold(scores: Scores, thresholds: Floats, upper: bool, delta: float, confidence: float) -> Floats:
    """Epsilon's lower bound by each threshold: insiders above it, or outsiders below it."""
    hit, miss = (scores.inside, scores.outside) if upper else (-scores.outside, -scores.inside)
    at = thresholds if upper else -thresholds
    hits, misses = (len(s) - np.searchsorted(np.sort(s), at, "left") for s in (hit, miss))
    each = (1 - confidence) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        true = np.where(hits > 0, betaincinv(np.maximum(hits, 1), len(hit) - hits + 1.0, each), 0.0)
        false = np.where(misses < len(miss), betaincinv(misses + 1.0, np.maximum(len(miss) - misses, 1), 1 - each), 1.0)
        return np.asarray(np.where(true > delta, np.log((true - delta) / false), -math.inf))


def rate_limits(hits: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """One-sided Clopper-Pearson limits of a rate, the lower and the upper each at `confidence`.

    >>> rate_limits(0, 59)[1] < 0.05 < rate_limits(0, 58)[1]
    True
    """
    low = float(betaincinv(hits, trials - hits + 1, 1 - confidence)) if hits else 0.0
    high = float(betaincinv(hits + 1, trials - hits, confidence)) if hits < trials else 1.0
    return low, high


@dataclass(frozen=True)
class Transcript:
    """What a mechanism is given at each step with and without one person: exact sums, shape (steps, size) each.

    `count` releases are drawn; where there are fewer steps than that, each step's sums serve for several of them.

    Attributes:
        unit: where above 0 the release is a sum in whole steps of 1/`unit` with one whole part of `noise_share`.
        draws: how many transcripts stand behind the scores at least, the person itself among each one's canaries.
    """

    mechanism: Mechanism
    inside: Floats
    outside: Floats
    count: int
    unit: int = 0
    draws: int = 1

    def __post_init__(self) -> None:
        if self.inside.shape != self.outside.shape or not 1 <= len(self.inside) <= self.count:
            raise ValueError(f"need 1 to {self.count} steps, got {self.inside.shape} and {self.outside.shape}")

    @property
    def norms(self) -> Floats:
        """How far the person moves the sum at each step, in L2, shape (steps,)."""
        return np.asarray(np.linalg.norm(self.inside - self.outside, axis=1))

    def scores(self, number: int, rng: Csprng) -> Scores:
        """`number` scores on either side, each from a whole transcript of `count` releases of the mechanism.

        The score is the log-likelihood ratio up to a constant: sum over t of <released - without, with - without> /
        stddev^2. One transcript serves `size` canaries at once: the person, and its images under a reflection that
        takes the first axis to the person's direction. They move the sum as far, at right angles to each other, so
        that each coordinate of the noise is used once and no canary shows in another's score.
        """
        size, have, done = self.mechanism.size, 0, 0
        found: tuple[list[Floats], list[Floats]] = ([], [])
        while have < number:
            abreast = max(1 + (size == 1), min(_WIDTH // size, 1 + 2 * (number - have) // size))
            present = np.zeros((abreast, size))
            for row in range(abreast):  # of an odd number of canaries one more is present in every other transcript
                order = rng.uniform(size).argsort()
                present[row, order[: (size + (done + row) % 2) // 2]] = 1.0
            scored = self._scored(present, rng)
            done += abreast
            for side, value in enumerate((1.0, 0.0)):
                canaries = scored[present == value]
                found[side].append(canaries[:: max(1, len(canaries) * self.draws // number)])
            have += min(len(found[side][-1]) for side in (0, 1))
        shift = float((self.norms**2 * np.bincount(self._places)).sum()) / self._variance
        return Scores(np.concatenate(found[0])[:number], np.concatenate(found[1])[:number], shift)

    @property
    def _places(self) -> NDArray[np.int64]:
        """Which step's sums each release is given, shape (count,)."""
        return np.arange(self.count) * len(self.inside) // self.count

    @property
    def _variance(self) -> float:
        return max(self.mechanism.noise_stddev, 1e-9 * self.mechanism.sensitivity) ** 2

    def _scored(self, present: Floats, rng: Csprng) -> Floats:
        """The score of each canary, shape (transcripts, size), after transcripts that hold the `present` ones.

        They are released side by side by one mechanism of the same bound, which is faster than one by one; its own
        allowance for rounding adds at most 1e-4 to the noise.
        """
        norms = self.norms[:, None, None]
        moved = norms * self._reflected(np.tile(present, (len(norms), 1, 1)))
        noise = np.zeros_like(moved)
        for place in self._places:
            total = (self.outside[place] + moved[place]).ravel()
            noise[place] += self._released(total, rng).reshape(present.shape) - self.outside[place]
        return np.asarray((norms * self._reflected(noise)).sum(axis=0) / self._variance)

    def _released(self, total: Floats, rng: Csprng) -> Floats:
        wide = replace(self.mechanism, size=len(total))
        if not self.unit:
            return wide.release(total, rng)
        return np.asarray((np.rint(total * self.unit) + noise_share(wide, self.unit, 1, rng)) / self.unit)

    def _reflected(self, rows: Floats) -> Floats:
        """`rows`, shape (steps, transcripts, size), under each step's reflection of the first axis into the person."""
        axis = (self.outside - self.inside) / np.maximum(self.norms, 1e-300)[:, None]
        axis[:, 0] += 1.0
        squares = (axis**2).sum(axis=1)
        doubled = axis * np.where(squares > 1e-24, 2 / np.maximum(squares, 1e-300), 0.0)[:, None]
        return np.asarray(rows - (rows @ axis[:, :, None]) * doubled[:, None, :])
