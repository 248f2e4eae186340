"""What is known of a noisy matrix of second moments beside its entries: exact zeros, equal numbers, weak dependence.

All of it is post-processing of one release. Products of two bins of one feature are zero, an indicator's square is
its sum, the present persons' sums stand in two places: such facts are put in exactly. Products of different features
are shrunk towards independence, each entry by the ratio of its likely size to the noise, whose level is known. On
432 columns (sba_national, epsilon 1) this is worth .006 AUC, docs/joint.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.moments import LABEL, UNIT, Layout

Floats = NDArray[np.float64]

HARDLY = 4.0  # noise standard deviations that the variance of a relationship must have to count


@dataclass(frozen=True)
class Moments:
    """A released matrix of second moments.

    Attributes:
        layout: its columns.
        matrix: in units of the rows, shape (width, width), symmetric.
        stddev: of the noise on each entry; 0 without privacy.
        persons: of the cohort, a public number.
    """

    layout: Layout
    matrix: Floats
    stddev: float
    persons: int


@dataclass(frozen=True)
class Normal:
    """The normal equations of a linear fit of the label on all other columns.

    Attributes:
        gram: second moments of the columns, noise shrunk, shape (p, p); the constant is column 0.
        target: sums of column times label, shape (p,).
        label_noise: standard deviation of the noise on a number of `target`.
        gram_noise: on an entry of the released gram.
        persons: as released.
        groups: the columns of each part of the encoding, for which one prior variance is found.
    """

    gram: Floats
    target: Floats
    label_noise: float
    gram_noise: float
    persons: int
    groups: tuple[slice, ...]

    @property
    def rate(self) -> float:
        """The noisy share of defaults, within [.001, .999]."""
        return float(np.clip(self.target[0] / self.persons, 1e-3, 1 - 1e-3))


def normal_equations(moments: Moments) -> Normal:
    """The denoised normal equations of a release."""
    layout, persons = moments.layout, float(moments.persons)
    kept = np.delete(np.arange(layout.width), 1)
    gram = moments.matrix[np.ix_(kept, kept)].copy()
    gram[0, 0] = persons
    places = _places(layout)
    for place in places:
        _put_facts(gram, place)
    _shrink(gram, places, moments.stddev)
    target = moments.matrix[kept, 1] / LABEL
    for lead in {place.leads for place in places} - {0}:
        if gram[lead, lead] - gram[0, lead] ** 2 / gram[0, 0] < HARDLY * moments.stddev:
            gram[lead, :] = gram[:, lead] = target[lead] = 0.0  # about everybody is there: the constant says it
    return Normal(
        gram,
        target,
        moments.stddev / LABEL,
        moments.stddev,
        moments.persons,
        tuple(place.columns for place in places),
    )


@dataclass(frozen=True)
class _Place:
    """One part's columns among those without the label; `leads` is the column of its block's presence."""

    columns: slice
    basis: Floats
    leads: int


def _places(layout: Layout) -> list[_Place]:
    """The leading column of each partner's block, and every part, in order."""
    found, at = [], 0
    for block in layout.blocks.values():
        leads = at
        if block.lender:
            at += 1
        else:
            found.append(_Place(slice(at, at + 1), np.full((1, 1), 0.5), leads))
            at += 1
        for basis in block.bases:
            found.append(_Place(slice(at, at + basis.shape[1]), basis / UNIT, leads))
            at += basis.shape[1]
    return found


def _put_facts(gram: Floats, place: _Place) -> None:
    """Puts into the gram what holds exactly for any persons: in one part's square, its sums, its block's presence."""
    columns, basis = place.columns, place.basis
    sums, square = gram[0, columns].copy(), gram[columns, columns].copy()
    if place.leads and place.leads != columns.start:  # presence, of scale 1/2, times the part: half its sums
        sums = (sums + 0.5 * gram[place.leads, columns]) / 1.25
    touching = np.abs(basis).T @ np.abs(basis) > 0
    square[~touching] = 0.0
    alone = (basis != 0).sum(axis=0) == 1  # one bin's indicator: its square is its value times its sum
    value = basis.sum(axis=0)
    diagonal = np.diag(square).copy()
    steady = alone & (value > 0)
    count = (diagonal + sums / np.where(steady, value, 1.0)) / (value * value + 1.0)
    count = np.clip(count, 0.0, gram[0, 0])
    sums = np.where(steady, value * count, sums)
    diagonal = np.where(steady, value * value * count, diagonal)
    np.fill_diagonal(square, diagonal)
    gram[columns, columns] = square
    gram[0, columns] = gram[columns, 0] = sums
    if place.leads and place.leads != columns.start:
        gram[place.leads, columns] = gram[columns, place.leads] = 0.5 * sums


def _shrink(gram: Floats, places: list[_Place], stddev: float) -> None:
    """Shrinks products of different parts towards what independence gives, by their likely size against the noise.

    An entry's likely size is rho^2 times both columns' variances; rho^2 is found from all entries together.
    """
    size, persons = len(gram), gram[0, 0]
    sums = gram[0].copy()
    related = np.full(size, persons)
    block = np.zeros(size, dtype=np.int64)
    for place in places:
        if place.leads:
            related[place.columns] = max(2.0 * gram[0, place.leads], 1.0)  # persons who have the relationship
        block[place.columns] = place.leads
    within = block[:, None] == block[None, :]
    expected = np.outer(sums, sums) / np.where(within, np.minimum(related[:, None], related), persons)
    spread = np.maximum(np.diag(gram) - sums * sums / persons, 0.0)
    free = np.ones((size, size), dtype=bool)
    free[0, :] = free[:, 0] = False
    for place in places:
        free[place.columns, place.columns] = False
        if place.leads:
            free[place.leads, place.columns] = free[place.columns, place.leads] = False
    if not free.any():
        return
    likely, excess = np.outer(spread, spread), gram - expected
    weight = likely / max(float(likely.max()), 1e-300)
    rho2 = (weight * (excess**2 - stddev**2))[free].sum() / max(float((weight * likely)[free].sum()), 1e-300)
    likely = max(float(rho2), 1e-6) * likely
    gram[free] = (expected + excess * likely / (likely + stddev**2 + 1e-9))[free]
