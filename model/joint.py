"""One model over all blocks from a noisy matrix of second moments, refined by noisy gradients of the log-loss.

The moments give a linear fit; what follows it lives on the log-odds scale. Every release is one observation of the
same kind: `target = H beta + noise`, where H is the curvature, known from the matrix. A prior variance for each part
of the encoding is found from the observation itself (empirical Bayes), so nothing is tuned on data: noise alone sets
how much is shrunk. The last gradient is weighed against earlier observations by noise and by how far it has moved.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from model.denoising import Normal
from model.descent import sigmoid

Floats = NDArray[np.float64]

PRIOR = 1e-3  # variance of a coefficient of the linear fit before data, as two pseudo-columns a part
ROUNDS = 6  # of empirical Bayes
CONSTANT_VARIANCE = 10.0  # of the constant's prior: as good as free
CURVED = 0.5  # share of a movement by which a gradient, linearised where it was taken, is off elsewhere
_TINY = 1e-6


@dataclass(frozen=True)
class Observation:
    """A released vector as an observation of the coefficients.

    Attributes:
        at: coefficients where it was taken, shape (p,).
        target: H times the coefficients that it points to, shape (p,).
        variance: of the noise on each coordinate.
    """

    at: Floats
    target: Floats
    variance: float


@dataclass(frozen=True)
class Fit:
    """Coefficients on the log-odds scale, and how sure they are.

    Attributes:
        beta: shape (p,); column 0 is the constant.
        covariance: of `beta` by the privacy noise and the sample, shape (p, p).
        curvature: H, shape (p, p).
        prior: variance of each coefficient before data, shape (p,).
        seen: every observation so far.
        sampling: variance of a person's residual, in units of H.
    """

    beta: Floats
    covariance: Floats
    curvature: Floats
    prior: Floats
    seen: tuple[Observation, ...]
    sampling: float


def linear_fit(normal: Normal) -> tuple[Floats, Floats, Floats]:
    """The linear fit of the label: coefficients, their covariance, and the prior variance of each.

    Noise on the gram acts as noise on the target, in proportion to the coefficients' own length.
    """
    spectrum = _Spectrum.of(normal.gram)
    rate = normal.rate
    prior = np.full(len(normal.target), PRIOR)
    prior[0] = CONSTANT_VARIANCE
    prior[np.diag(normal.gram) == 0.0] = _TINY  # a column that was left out
    beta, covariance = np.zeros_like(prior), np.zeros_like(normal.gram)
    for _ in range(ROUNDS):
        noise = normal.label_noise**2 + normal.gram_noise**2 * float(beta @ beta)
        beta, covariance = spectrum.solve(normal.target, noise, rate * (1 - rate), prior)
        for group in normal.groups:
            count = group.stop - group.start
            found = float(beta[group] @ beta[group]) + float(np.diag(covariance)[group].sum())
            shared = max(_TINY, (found + 2 * PRIOR) / (count + 2))
            prior[group] = np.where(np.diag(normal.gram)[group] == 0.0, _TINY, shared)
    return beta, covariance, prior


def first_fit(normal: Normal) -> Fit:
    """The fit from the moments alone, carried to the log-odds scale along a secant of the logistic curve.

    From the mean default rate to two standard deviations above it: a tangent would overshoot where defaults are rare.
    """
    beta, covariance, prior = linear_fit(normal)
    rate = normal.rate
    spread = math.sqrt(max(float(beta @ normal.gram @ beta) / normal.persons - rate * rate, 1e-6))
    slope = _secant(rate, spread)
    curvature = normal.gram / slope
    variance = normal.label_noise**2 + normal.gram_noise**2 * float(beta @ beta)
    residual = normal.gram @ beta - normal.target
    odds = slope * beta
    odds[0] += math.log(rate / (1 - rate)) - slope * rate
    prior = slope * slope * prior
    prior[0] = 100.0
    seen = (Observation(odds, curvature @ odds - residual, variance),)
    return Fit(odds, slope * slope * covariance, curvature, prior, seen, slope * rate * (1 - rate))


def refined(fit: Fit, gradient: Floats, variance: float) -> Fit:
    """The fit after another gradient of the log-loss at `fit.beta`, summed over persons, shape (p,).

    Args:
        variance: of the noise on each coordinate.
    """
    seen = (*fit.seen, Observation(fit.beta, fit.curvature @ fit.beta - gradient, variance))
    moved = [float(np.mean((fit.curvature @ (fit.beta - o.at)) ** 2)) for o in seen]
    weights = np.array([1.0 / (o.variance + CURVED**2 * m + _TINY) for o, m in zip(seen, moved, strict=True)])
    target = np.einsum("o,op->p", weights / weights.sum(), np.stack([o.target for o in seen]))
    spectrum = _Spectrum.of(fit.curvature)
    beta, covariance = spectrum.solve(target, 1.0 / float(weights.sum()), fit.sampling, fit.prior)
    return replace(fit, beta=beta, covariance=covariance, seen=seen)


def settled(fit: Fit, normal: Normal) -> Fit:
    """The fit with level and slope set so that, for constant and score, residuals sum to nothing (Platt's conditions).

    The last gradient tells both sums where it was taken; how they changed since is foreseen by the logistic curve's
    slope over log-odds of the known mean and variance, taken as Gaussian. It costs nothing.
    """
    if len(fit.seen) < 2:
        return fit
    last, gram, persons = fit.seen[-1], normal.gram, normal.persons
    gradient = fit.curvature @ last.at - last.target
    mean = float(gram[0] @ fit.beta) / persons
    spread = math.sqrt(max(float(fit.beta @ gram @ fit.beta) / persons - mean * mean, 1e-6))
    moved = fit.beta - last.at
    shift = float(gram[0] @ moved) / persons
    tilt = (float(moved @ gram @ fit.beta) / persons - shift * mean) / spread**2
    places, shares = np.polynomial.hermite_e.hermegauss(40)
    centred = spread * places
    rates = sigmoid(mean + centred)
    weights = shares / shares.sum() * rates * (1 - rates)
    slopes = persons * np.array([[(weights * centred ** (i + j)).sum() for j in (0, 1)] for i in (0, 1)])
    slopes[np.diag_indices(2)] += _TINY * persons  # noise may throw every score where the curve is flat
    sums = np.array([gradient[0], float(last.at @ gradient) - mean * gradient[0]])
    level, slope = np.clip(-np.linalg.solve(slopes, sums) - np.array([shift, tilt]), -0.5, 0.5)
    beta = (1 + slope) * fit.beta
    beta[0] += level - slope * mean
    return replace(fit, beta=beta, covariance=(1 + slope) ** 2 * fit.covariance)


def of_columns(normal: Normal, columns: Sequence[int]) -> Normal:
    """The normal equations of some of the columns, ascending, the constant first; groups are cut to what is left."""
    place = {column: i for i, column in enumerate(columns)}
    groups = []
    for group in normal.groups:
        kept = [place[c] for c in range(group.start, group.stop) if c in place]
        if kept:
            groups.append(slice(kept[0], kept[-1] + 1))
    chosen = np.asarray(columns)
    return replace(normal, gram=normal.gram[np.ix_(chosen, chosen)], target=normal.target[chosen], groups=tuple(groups))


def _secant(rate: float, spread: float) -> float:
    above = min(rate + 2 * spread, 0.95)
    if above - rate < 1e-4:
        return 1.0 / (rate * (1 - rate))
    return (math.log(above / (1 - above)) - math.log(rate / (1 - rate))) / (above - rate)


@dataclass(frozen=True)
class _Spectrum:
    """A symmetric matrix by its eigenvalues, negative ones (which only noise makes) set to zero."""

    values: Floats
    vectors: Floats

    @classmethod
    def of(cls, matrix: Floats) -> _Spectrum:
        values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
        return cls(np.maximum(values, 0.0), vectors)

    def solve(self, target: Floats, noise: float, sampling: float, prior: Floats) -> tuple[Floats, Floats]:
        """Posterior mean and covariance of beta from target = H beta + e, cov e = noise I + sampling H."""
        weight = self.values / (noise + sampling * self.values + _TINY)
        information = (self.vectors * (weight * self.values)) @ self.vectors.T
        pointed = self.vectors @ (weight * (self.vectors.T @ target))
        scale = np.sqrt(prior)
        scaled = scale[:, None] * information * scale
        scaled[np.diag_indices(len(scaled))] += 1.0
        inverse = np.linalg.inv(scaled)
        covariance = scale[:, None] * inverse * scale
        return covariance @ pointed, covariance
