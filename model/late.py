"""What is foreseen of sub-scores that are late, from those at hand.

Means and covariances of sub-scores are those of the persons who have both relationships, taken to be alike in every
pattern of relationships; a number that noise or sampling could have made is shrunk towards nothing. What stays unknown
flattens the score: a logistic curve averaged over a Gaussian of variance s^2 is about the curve at
z / sqrt(1 + pi s^2 / 8).

Source: D. J. C. MacKay (1992), "The evidence framework applied to classification networks", Neural Computation 4(5).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, combinations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

LEAST = 0.02  # eigenvalue of the sub-scores' correlations: noise may make smaller ones
CLOSE = 0.98  # largest correlation of two sub-scores before the eigenvalues are looked at
_TINY = 1e-12


@dataclass(frozen=True)
class ScoreMoments:
    """Means and covariances of sub-scores among those who have them.

    Attributes:
        blocks: the domains, then the lender's own block if there is one.
        own: its name, or None: it is always at hand.
        means: by block in log-odds, shape (b,).
        shifts: [i, j]: how much higher block i's mean is with a relationship j than without, shape (b, b).
        shares: [i, j]: of the persons related to i those who are related to j, shape (b, b).
        covariance: positive definite, shape (b, b).
    """

    blocks: tuple[str, ...]
    own: str | None
    means: Floats
    shifts: Floats
    shares: Floats
    covariance: Floats

    @classmethod
    def of(
        cls, blocks: tuple[str, ...], own: str | None, second: Floats, noise: Floats, means: Floats, persons: float
    ) -> ScoreMoments:
        """From the mean products of [relationships, sub-scores], shape (2b, 2b), and their noise, same shape."""
        size = len(blocks)
        both = _overlaps(second[:size, :size], persons)
        shares = both / np.diag(both)[:, None]
        alone = np.maximum(np.diag(second)[size:] / np.diag(both) - means**2, _TINY)
        covariance = _covariance(second[size:], noise[size:], both, alone, persons)
        shifts = _shifts(second[size:, :size], noise[size:, :size], both, (means, alone), persons)
        return cls(blocks, own, means, shifts, shares, covariance)

    def foreseen(
        self, constant: float, related: Sequence[str], available: Sequence[str]
    ) -> tuple[float, dict[str, float]]:
        """Intercept and weights of one pair of patterns, in log-odds; no weight is negative.

        Where nothing is late, the intercept is `constant` and every weight is 1.
        """
        here = np.array([block in related or block == self.own for block in self.blocks], dtype=bool)
        seen = np.array([block in available or block == self.own for block in self.blocks], dtype=bool)
        told = np.where(np.eye(len(here), dtype=bool), 0.0, here - self.shares)
        means = self.means + (self.shifts * told).sum(axis=1)
        flatter, weights = self._weighed(here, seen)
        while (weights < 0.0).any():  # a sub-score that would count against itself is no better than a late one
            used = weights != 0.0
            used[int(weights.argmin())] = False
            flatter, weights = self._weighed(here, used)
        intercept = flatter * (constant + float(means[here].sum())) - float(weights @ means)
        return intercept, {block: float(w) for block, w, s in zip(self.blocks, weights, seen, strict=True) if s}

    def _weighed(self, here: Bools, seen: Bools) -> tuple[float, Floats]:
        """By how much the mean is flattened, and the weight of each block, 0 where it is not seen, shape (b,)."""
        late = here & ~seen
        across = self.covariance[np.ix_(seen, late)]
        told = np.linalg.solve(self.covariance[np.ix_(seen, seen)], across).sum(axis=1)
        unknown = float(self.covariance[np.ix_(late, late)].sum() - across.sum(axis=1) @ told)
        flatter = 1.0 / math.sqrt(1.0 + math.pi * max(unknown, 0.0) / 8)
        weights = np.zeros(len(seen))
        weights[seen] = flatter * (1.0 + told)
        return flatter, weights


def patterns(domains: Sequence[str]) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Every pair of related and, within them, available domains."""
    return ((related, available) for related in _subsets(domains) for available in _subsets(related))


def _subsets(domains: Sequence[str]) -> Iterator[tuple[str, ...]]:
    return chain.from_iterable(combinations(domains, size) for size in range(len(domains) + 1))


def _overlaps(presence: Floats, persons: float) -> Floats:
    """The share of all persons who have both relationships, shape (b, b), within what two shares allow."""
    alone = np.clip(np.diag(presence), 1.0 / persons, 1.0)
    least = np.maximum(alone[:, None] + alone - 1.0, 1.0 / persons)
    both = np.clip(presence, least, np.minimum(alone[:, None], alone))
    np.fill_diagonal(both, alone)
    return np.asarray(both)


def _covariance(second: Floats, noise: Floats, both: Floats, alone: Floats, persons: float) -> Floats:
    """Covariances of the sub-scores, shape (b, b), from their products with relationships and with each other."""
    size = len(both)
    crossed = second[:, :size] / both  # the mean of sub-score i where there is a relationship j too
    found = second[:, size:] / both - crossed * crossed.T
    deviations = np.sqrt(alone)
    error = (noise[:, size:] / both) ** 2 + np.outer(alone, alone) / (persons * both)
    correlations = np.clip(_kept(found, error) / np.outer(deviations, deviations), -CLOSE, CLOSE)
    np.fill_diagonal(correlations, 1.0)
    values, vectors = np.linalg.eigh((correlations + correlations.T) / 2)
    mended = (vectors * np.maximum(values, LEAST)) @ vectors.T
    return np.asarray(mended * np.outer(deviations, deviations))


def _shifts(crossed: Floats, noise: Floats, both: Floats, scores: tuple[Floats, Floats], persons: float) -> Floats:
    """How a sub-score's mean depends on the other relationships, shape (b, b): regressions among those who have it.

    Three relationships at once are no second moment: how two go together is taken from all persons.

    Args:
        crossed: mean products of sub-scores with relationships, shape (b, b); `noise` is theirs.
        scores: the sub-scores' means and variances, shape (b,) each.
    """
    (means, variances), alone = scores, np.diag(both)
    spread = np.sqrt(np.maximum(alone * (1 - alone), _TINY))
    together = (both - np.outer(alone, alone)) / np.outer(spread, spread)
    out = np.zeros_like(both)
    for i, (mean, share) in enumerate(zip(means, alone, strict=True)):
        shares = both[i] / share
        deviations = np.sqrt(np.maximum(shares * (1 - shares), 0.0))
        least = (noise[i] / share) ** 2 + variances[i] * deviations**2 / (persons * share)
        moved = _kept(crossed[i] / share - mean * shares, least)
        others = np.flatnonzero((np.arange(len(alone)) != i) & (deviations > 0.0))
        square = together[np.ix_(others, others)] * np.outer(deviations[others], deviations[others])
        square[np.diag_indices(len(others))] = deviations[others] ** 2 + np.sqrt(least[others]) + _TINY
        values, vectors = np.linalg.eigh(square)
        out[i, others] = (vectors / np.maximum(values, values.max(initial=0.0) * LEAST)) @ (vectors.T @ moved[others])
    return out


def _kept(values: Floats, error: Floats) -> Floats:
    """Numbers shrunk by how much of their square their error's variance explains (the positive part of James-Stein)."""
    return np.asarray(values * np.maximum(1.0 - error / np.maximum(values * values, _TINY), 0.0))
