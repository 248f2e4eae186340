"""How good a score is on held-out persons, read off one noisy histogram of scores: AUC, KS, default rate, calibration.

The histogram has 20 public score bins for good payers, then the same 20 for defaulters. Once it is released with
Gaussian noise, everything here is post-processing: it costs no further privacy and may use an ordinary generator.

Method: the population's 40 cell probabilities p get a prior that is smooth over the bins (and, in the log-odds, the
public PD of every bin up to a wide shift and slope). A noisy cell is read as y + s^2 ~ Poisson(n p + s^2), which has
the mean and the variance of count plus noise and is the exact likelihood at s = 0. Draws from the posterior give the
intervals; they are for the population, so they cover both the sampling of the persons and the privacy noise. The
values come from the expected counts given those draws and the noisy cells: without noise, the counts themselves.
Where noise drowns the data (2,000 persons at s = 36) the values lean towards the public PD, and an interval may cover
as few as 86 % for a score that is worthless and as many as 99 % for one that is as declared.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.points import BASE_ODDS, BASE_SCORE, MAX_SCORE, MIN_SCORE, PDO

Floats = NDArray[np.float64]

BINS = 20
WIDTH = (MAX_SCORE - MIN_SCORE) // BINS
BANDS = 5

_ROUGHNESS = (0.03, 0.1, 0.3, 1.0)  # third difference of a log density over the bins; the evidence weighs them
_SHIFT = 1.2  # prior sd of the log-odds' shift from the public PD: a factor of 3 in the default odds
_SLOPE = math.log(2) * WIDTH / PDO  # prior sd of its slope a bin: a worthless score is one sd from the declared one
_INFLATE = 1.3  # proposals wider than the posterior's normal approximation, so that long tails are reached
_STEPS, _MIX = 80, 0.5
_GROUP = 128  # chains at a time: larger products wake the linear algebra's threads, 10 times slower on busy cores


def histogram(scores: NDArray[Any], labels: NDArray[Any]) -> Floats:
    """Persons in each score bin, good payers' 20 cells first. One person is in one cell: L2 sensitivity 1.

    Args:
        scores: shape (n,), 350 to 950; what lies outside falls into the nearest bin.
        labels: shape (n,), true for a defaulter.

    >>> np.flatnonzero(histogram(np.array([350, 379, 950]), np.array([0, 0, 1]))).tolist()
    [0, 39]
    """
    bins = np.clip((np.asarray(scores).astype(np.int64) - MIN_SCORE) // WIDTH, 0, BINS - 1)
    defaulted = np.asarray(labels).astype(bool)
    return np.bincount(bins + BINS * defaulted, minlength=2 * BINS).astype(np.float64)


def declared_pd() -> Floats:
    """The PD that the public scale gives to each bin's middle, shape (20,). The outer bins hold clamped scores too.

    >>> declared_pd()[[0, 8, 19]].round(4).tolist()
    [0.4302, 0.0451, 0.001]
    """
    middle = MIN_SCORE + WIDTH * (np.arange(BINS) + 0.5)
    return np.asarray(1 / (1 + BASE_ODDS * np.exp2((middle - BASE_SCORE) / PDO)))


def estimates(noisy: Floats, stddev: float, persons: int, pd: Floats | None = None, draws: int = 500) -> dict[str, Any]:
    """`auc`, `ks` and `base_rate` as {value, low, high}, and `calibration` in at most five bands, safest first.

    `value` is None where no person of one class is estimated; low and high bound the population's value with 95 %
    coverage. `auc` and `ks` are those of the binned score; the interval of `auc` allows for the order within bins.
    A worthless score's KS is 0, so `low` is 0 wherever the interval of `auc` holds one half.

    Args:
        noisy: shape (40,), `histogram` plus noise.
        stddev: of the noise on every cell, in persons; 0 without privacy.
        persons: how many were held out, a public constant.
        pd: shape (20,), the public PD of each bin, each in (0, 1); `declared_pd()` if None.
        draws: from the posterior; 500 take about 0.1 s.

    Raises:
        ValueError: on another shape, or a number out of its range.

    >>> perfect = histogram(np.repeat([900, 400], [90, 10]), np.repeat([0, 1], [90, 10]))
    >>> {key: estimates(perfect, 0.0, 100, draws=50)[key]["value"] for key in ("auc", "ks", "base_rate")}
    {'auc': 1.0, 'ks': 1.0, 'base_rate': 0.1}
    """
    pd = declared_pd() if pd is None else pd
    _check(noisy, stddev, persons, pd, draws)
    if persons == 0:
        nothing: dict[str, Any] = {key: _interval(noisy, noisy, False) for key in ("auc", "ks", "base_rate")}
        return {**nothing, "calibration": []}
    cells = noisy if stddev > 0 else project(noisy, persons)
    population = _posterior(_Release(cells, stddev**2, persons), pd, draws)
    expected = persons * population
    kept = expected / (expected + stddev**2) if stddev > 0 else np.ones_like(expected)
    counts = project((expected + kept * (cells - expected)).mean(axis=0), persons)
    known = min(counts[:BINS].sum(), counts[BINS:].sum()) >= 0.5
    auc = _interval(_auc(counts), _auc(population) + _within_bins(population), known)
    ks = _interval(_ks(counts), _ks(population), known)
    if known and (auc["low"] or 0.0) <= 0.5 <= (auc["high"] or 0.0):
        ks["low"] = 0.0
    base_rate = _interval(_rate(counts, slice(None)), _rate(population, slice(None)), True)
    return {"auc": auc, "ks": ks, "base_rate": base_rate, "calibration": _calibration(counts, population, pd)}


def project(cells: Floats, persons: float) -> Floats:
    """The nearest point, in L2, with no negative cell and the sum `persons`.

    Source: Duchi et al. (2008), figure 1.

    >>> project(np.array([3.0, 1.0, -5.0]), 2.0).tolist()
    [2.0, 0.0, 0.0]
    """
    falling = np.sort(cells)[::-1]
    excess = (np.cumsum(falling) - persons) / np.arange(1, len(cells) + 1)
    last = np.flatnonzero(falling > excess)
    return np.asarray(np.maximum(cells - excess[last[-1] if len(last) else 0], 0.0))


@dataclass(frozen=True)
class _Release:
    """Noisy cells (40,), the variance of their noise, and how many persons they count."""

    cells: Floats
    variance: float
    persons: int

    def likelihood(self, log_p: Floats) -> Floats:
        """Log-likelihood of log probabilities (..., 40), relative to no persons: exact in huge noise too."""
        shifted = np.maximum(self.cells + self.variance, 0.0)
        if self.variance == 0:
            return np.asarray((shifted * log_p).sum(axis=-1))
        return np.asarray((shifted * np.log(1.0 + self.persons / self.variance * np.exp(log_p))).sum(axis=-1))

    def slope(self, p: Floats) -> tuple[Floats, Floats]:
        """Gradient (40,) and expected information (40, 40) of the log-likelihood in the log intensities, at p (40,)."""
        mean = self.persons * p + self.variance
        moves = self.persons * (np.diag(p) - np.outer(p, p))
        score = np.maximum(self.cells + self.variance, 0.0) / mean - 1.0
        return moves @ score, moves @ (moves / mean[:, None])


@dataclass(frozen=True)
class _Target:
    """The posterior of the log intensities eta (40,) under one roughness: normal prior and likelihood."""

    release: _Release
    precision: Floats
    centre: Floats

    def density(self, eta: Floats) -> Floats:
        """Log density of eta (..., 40) but for a constant."""
        away = eta - self.centre
        return np.asarray(self.release.likelihood(_log_p(eta)) - 0.5 * ((away @ self.precision) * away).sum(axis=-1))

    def mode(self, eta: Floats) -> tuple[Floats, Floats]:
        """The highest point (40,), by Fisher scoring with halved steps, and the information there (40, 40)."""
        best = self.density(eta)
        for _ in range(60):
            gradient, information = self.release.slope(np.exp(_log_p(eta)))
            step = np.linalg.solve(information + self.precision, gradient - self.precision @ (eta - self.centre))
            while (now := self.density(eta + step)) < best and np.abs(step).max() > 1e-6:
                step = step / 2
            if now <= best + 1e-6:
                break
            eta, best = eta + step, now
        return eta, self.release.slope(np.exp(_log_p(eta)))[1] + self.precision


def _log_p(eta: Floats) -> Floats:
    """Log probabilities of log intensities (..., 40)."""
    eta = eta - eta.max(axis=-1, keepdims=True)
    return np.asarray(eta - np.log(np.exp(eta).sum(axis=-1, keepdims=True)))


def _prior(roughness: float, pd: Floats) -> tuple[Floats, Floats]:
    """Precision (40, 40) and centre (40,) of the log intensities.

    Good payers: third differences are small, so normal densities cost nothing; second and first differences and the
    level are held only as far as empty cells need it. Log-odds of default: those of `pd`, up to shift, slope and
    small second differences.
    """
    first, second, third = (np.diff(np.eye(BINS), n=order, axis=0) for order in (1, 2, 3))
    level, steps = np.full(BINS, 1 / BINS), np.arange(BINS) - (BINS - 1) / 2
    rising = steps / (steps @ steps)
    good = third.T @ third / roughness**2 + second.T @ second / 10**2 + first.T @ first / 17**2 + np.outer(level, level)
    odds = second.T @ second / (roughness / 2) ** 2
    odds = odds + np.outer(rising, rising) / _SLOPE**2 + np.outer(level, level) / _SHIFT**2
    centre = np.clip(np.log(pd / (1 - pd)), -12.0, 12.0)
    return np.block([[good + odds, -odds], [-odds, odds]]), np.concatenate([np.zeros(BINS), centre])


def _posterior(release: _Release, pd: Floats, draws: int) -> Floats:
    """Draws (draws, 40) of the population's probabilities, each roughness taken by its Laplace evidence."""
    bell = -0.5 * ((np.arange(BINS) - BINS / 2) / 5.0) ** 2
    eta = np.concatenate([bell, bell - 2.0])
    fits, evidence = list[tuple[_Target, Floats, Floats]](), list[float]()
    for roughness in _ROUGHNESS:
        target = _Target(release, *_prior(roughness, pd))
        eta, information = target.mode(eta)
        fits.append((target, eta, information))
        prior, posterior = np.linalg.slogdet(target.precision)[1], np.linalg.slogdet(information)[1]
        evidence.append(float(target.density(eta)) + 0.5 * (prior - posterior))
    weights = np.cumsum(np.exp(np.array(evidence) - max(evidence)))
    counts = np.diff(np.rint(np.append(0.0, weights / weights[-1]) * draws)).astype(int).tolist()
    rng = np.random.default_rng(20_260_101)  # not privacy noise: the same release always gives the same estimates
    groups = [(fit, min(_GROUP, n - i)) for fit, n in zip(fits, counts, strict=True) for i in range(0, n, _GROUP)]
    return np.exp(_log_p(np.concatenate([_chains(*fit, size, rng) for fit, size in groups])))


def _chains(target: _Target, mode: Floats, information: Floats, count: int, rng: np.random.Generator) -> Floats:
    """`count` independent chains (count, 40) from the normal approximation to the posterior, last states only.

    Source: preconditioned Crank-Nicolson, Cotter et al. (2013), arXiv:1202.0709, with that approximation for prior.
    """
    spread = _INFLATE * np.linalg.inv(np.linalg.cholesky(information))
    z = rng.standard_normal((count, 2 * BINS))
    weight = target.density(mode + z @ spread) + 0.5 * (z * z).sum(axis=-1)
    for _ in range(_STEPS):
        other = math.sqrt(1 - _MIX**2) * z + _MIX * rng.standard_normal(z.shape)
        heavier = target.density(mode + other @ spread) + 0.5 * (other * other).sum(axis=-1)
        moved = rng.standard_exponential(count) > weight - heavier
        z[moved], weight[moved] = other[moved], heavier[moved]
    return np.asarray(mode + z @ spread)


def _interval(value: Floats, population: Floats, known: bool) -> dict[str, float | None]:
    """The value and the central 95 % of the draws, widened to hold it."""
    if not known:
        return {"value": None, "low": None, "high": None}
    low, high = np.quantile(population, [0.025, 0.975])
    return {"value": float(value), "low": float(min(low, value)), "high": float(max(high, value))}


def _shares(cells: Floats) -> tuple[Floats, Floats]:
    """Each class's shares of the bins (..., 20); zeros for an absent class."""
    good, bad = cells[..., :BINS], cells[..., BINS:]
    people = (np.maximum(part.sum(axis=-1, keepdims=True), 1e-300) for part in (good, bad))
    return good / next(people), bad / next(people)


def _auc(cells: Floats) -> Floats:
    """P(a defaulter's bin < a good payer's), ties one half, of cells (..., 40)."""
    good, bad = _shares(cells)
    below = np.cumsum(bad, axis=-1) - 0.5 * bad
    return np.asarray((good * below).sum(axis=-1))


def _within_bins(cells: Floats) -> Floats:
    """What the order within bins adds to the AUC: a twelfth of the log-odds' fall over a bin for every tied pair."""
    good, bad = _shares(cells)
    fall = -np.gradient(np.log(np.maximum(bad, 1e-300)) - np.log(np.maximum(good, 1e-300)), axis=-1)
    return np.asarray((good * bad * np.clip(fall, -2.0, 2.0)).sum(axis=-1) / 12)


def _ks(cells: Floats) -> Floats:
    """The classes' largest distance at a bin's edge, of cells (..., 40)."""
    good, bad = _shares(cells)
    return np.asarray(np.abs(np.cumsum(bad - good, axis=-1)).max(axis=-1))


def _rate(cells: Floats, bins: slice) -> Floats:
    """Share of defaulters among the persons in some bins, of cells (..., 40)."""
    good, bad = (part[..., bins].sum(axis=-1) for part in (cells[..., :BINS], cells[..., BINS:]))
    return np.asarray(bad / np.maximum(good + bad, 1e-300))


def _calibration(counts: Floats, population: Floats, pd: Floats) -> list[dict[str, Any]]:
    """Bands of neighbouring bins of about equal estimated size, each with its predicted and its observed rate."""
    total = counts[:BINS] + counts[BINS:]
    middle = (np.cumsum(total) - 0.5 * total) / total.sum()
    band = np.minimum(middle * BANDS, BANDS - 1).astype(int)
    bands: list[dict[str, Any]] = []
    for number in sorted(set(band[total > 0].tolist()), reverse=True):
        first, last = (int(edge) for edge in np.flatnonzero((band == number) & (total > 0))[[0, -1]])
        bins = slice(first, last + 1)
        rate = _interval(_rate(counts, bins), _rate(population, bins), True)
        bands.append(
            {
                "lowest": MIN_SCORE + WIDTH * first,
                "highest": MAX_SCORE if last == BINS - 1 else MIN_SCORE + WIDTH * (last + 1) - 1,
                "persons": float(total[bins].sum()),
                "predicted": float(total[bins] @ pd[bins] / total[bins].sum()),
                **rate,
            }
        )
    return bands


def _check(noisy: Floats, stddev: float, persons: int, pd: Floats, draws: int) -> None:
    """Refuses what is out of range; no message holds a cell."""
    if noisy.shape != (2 * BINS,) or not np.isfinite(noisy).all():
        raise ValueError(f"noisy must be {2 * BINS} finite numbers (good payers' {BINS} bins, then defaulters')")
    if not (math.isfinite(stddev) and stddev >= 0):
        raise ValueError(f"stddev must be finite and >= 0 (persons), got {stddev}")
    if persons < 0:
        raise ValueError(f"persons must be >= 0 (held-out persons), got {persons}")
    if pd.shape != (BINS,) or not ((pd > 0) & (pd < 1)).all():
        raise ValueError(f"pd must be {BINS} numbers in (0, 1), one a bin")
    if draws < 1:
        raise ValueError(f"draws must be >= 1, got {draws}")
