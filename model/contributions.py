"""What each block adds to the joint model: Shapley values and leave-one-out of explained separation, with intervals.

A subset's separation is the AUC less one half that its own linear fit explains, with two classes of equal Gaussian
spread: AUC = Phi(d / sqrt 2), d^2 = R^2 / ((1 - R^2) rate (1 - rate)). R^2 is the fit's covariance with the label less
what noise and sample put into it by themselves, their *optimism*, tr(K Omega) for coefficients K times a target whose
error has the covariance Omega. So a block of noise explains about nothing. What is measured is what the fit attains,
shrinkage included: under heavy noise less than the block could give without. It is post-processing of one release.

Sources: L. S. Shapley (1953), "A value for n-person games"; B. Efron (2004), "The estimation of prediction error:
covariance penalties and cross-validation", JASA 99, for the optimism; R. A. Fisher (1936) for d and R^2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from model.denoising import Moments, Normal, normal_equations
from model.joint import linear_fit, of_columns
from model.moments import Layout

Floats = NDArray[np.float64]
Subset = tuple[str, ...]

MAX_BLOCKS = 8  # exact: 2^8 fits
DRAWS = 200  # of noise and sample, for all subsets together
LEVEL = 0.9  # of an interval
MOST = 0.95  # of the label's variance that a fit may explain: more is noise
_TINY = 1e-6


@dataclass(frozen=True)
class Contribution:
    """One block's part of the explained separation, in AUC.

    Attributes:
        shapley: its Shapley value; those of all blocks sum to the separation of all.
        low: lower end of the 90 % interval of `shapley`.
        high: upper end.
        without: separation, AUC less one half, of the fit on all other blocks.
    """

    shapley: float
    low: float
    high: float
    without: float


def contributions(moments: Moments, own: str | None, rng: np.random.Generator | None = None) -> dict[str, Contribution]:
    """Every block's contribution, the lender's own block included; its constant belongs to every subset.

    The intervals redraw the noise of the known standard deviation and, as Gaussian, the sample's error of the target;
    matrix and strength of shrinkage stay as they are.

    Args:
        own: the name to give to the lender's own block; None where it has none.
        rng: for tests: it protects nothing, and unseeded it is fresh each time.

    Raises:
        ValueError: more than `MAX_BLOCKS` blocks, or `own` and the layout disagree.
    """
    columns = columns_of(moments.layout, own)
    if len(columns) > MAX_BLOCKS:
        raise ValueError(f"contributions are exact for at most {MAX_BLOCKS} blocks, got {len(columns)}: merge domains")
    normal, root = _positive(normal_equations(moments))
    separations = _separations(normal, root, columns, rng or np.random.default_rng())
    values = shapley(tuple(columns), separations)
    everything = tuple(columns)
    found = {}
    for name, draws in values.items():
        low, high = np.quantile(draws[1:], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        without = float(separations[tuple(b for b in everything if b != name)][0])
        found[name] = Contribution(float(draws[0]), float(low), float(high), without)
    return found


def shapley(blocks: Subset, values: Mapping[Subset, Floats]) -> dict[str, Floats]:
    """The Shapley value of each block from the value of every subset, of one shape each.

    Args:
        blocks: in the order in which the keys of `values` name them.

    >>> shapley(("a", "b"), {(): 0.0, ("a",): 1.0, ("b",): 2.0, ("a", "b"): 4.0})
    {'a': 1.5, 'b': 2.5}
    """
    count, found = len(blocks), {}
    for block in blocks:
        total = 0.0 * values[()]
        for size in range(count):
            share = 1.0 / (count * math.comb(count - 1, size))
            for others in combinations([b for b in blocks if b != block], size):
                joined = tuple(b for b in blocks if b == block or b in others)
                total = total + share * (values[joined] - values[others])
        found[block] = total
    return found


def columns_of(layout: Layout, own: str | None) -> dict[str, list[int]]:
    """Each block's columns among those without the label, the constant left out.

    Raises:
        ValueError: `own` names no block of the lender's, or one of the domains.
    """
    if (own is None) != (layout.own is None) or own in layout.domains:
        raise ValueError(f"own must name the lender's block if and only if it has one, and no domain: {own}")
    slices = layout.slices
    found = {name: list(range(s.start - 1, s.stop - 1)) for name, s in slices.items() if name}
    return found if own is None else {**found, own: list(range(1, slices[""].stop - 1))}


def _positive(normal: Normal) -> tuple[Normal, Floats]:
    """The normal equations with a positive semidefinite gram, and a root of it: gram = root root^T."""
    values, vectors = np.linalg.eigh((normal.gram + normal.gram.T) / 2)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    return replace(normal, gram=root @ root.T), root


def _separations(
    normal: Normal, root: Floats, columns: Mapping[str, Sequence[int]], rng: np.random.Generator
) -> dict[Subset, Floats]:
    """The separation of every subset of blocks: as estimated, then in every draw, shape (1 + DRAWS,).

    One draw's noise and sample are the same for all subsets.
    """
    size, rate = len(normal.target), normal.rate
    noise = rng.standard_normal((size, DRAWS))
    sample = root @ rng.standard_normal((size, DRAWS)) * math.sqrt(rate * (1 - rate))
    found = {}
    for count in range(len(columns) + 1):
        for subset in combinations(columns, count):
            kept = sorted([0, *(c for name in subset for c in columns[name])])
            explained = _explained(of_columns(normal, kept), noise[kept], sample[kept])
            found[subset] = _separation(explained / (normal.persons * rate * (1 - rate)), rate)
    found[()] = np.zeros(1 + DRAWS)
    return found


def _explained(normal: Normal, noise: Floats, sample: Floats) -> Floats:
    """The fit's covariance with the label, summed over persons, less its optimism: as estimated, then as drawn.

    Target t has an error e of covariance Omega; the coefficients are K t = C gram Omega^-1 t, with C their posterior
    covariance. The result is (K t)^T P t - tr(P K Omega), where P takes off the mean; a draw takes off the error that
    a redrawn e makes.
    """
    beta, covariance, _ = linear_fit(normal)
    variance = normal.label_noise**2 + normal.gram_noise**2 * float(beta @ beta)
    means = normal.gram[0] / normal.persons
    errors = math.sqrt(variance) * noise + sample
    rate = normal.rate
    omega = rate * (1 - rate) * normal.gram
    omega[np.diag_indices(len(omega))] += variance + _TINY
    along = covariance @ normal.gram  # K Omega
    moved = along @ np.linalg.solve(omega, errors)  # K e
    optimism = float(np.trace(along)) - float(means @ along[:, 0])
    explained = float(beta @ normal.target) - float(beta @ means) * float(normal.target[0])

    known = normal.gram @ beta
    known = known - means * known[0]
    centred = errors - np.outer(means, errors[0])
    wrong = beta @ centred + known @ moved + (moved * centred).sum(axis=0) - optimism
    return np.concatenate([[explained - optimism], explained - optimism - wrong])


def _separation(share: Floats, rate: float) -> Floats:
    """AUC less one half from the share of the label's variance that is explained; a negative share explains nothing."""
    size = np.clip(share, 0.0, MOST)
    return np.asarray(ndtr(np.sqrt(size / ((1 - size) * rate * (1 - rate)) / 2)) - 0.5)
