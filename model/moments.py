"""Rows of the joint fit on an integer grid, and how far one person can move the matrix of their second moments.

The joint fit needs one matrix only: the sum over persons of a a^T, where a holds all blocks' encoded features, the
constant and the label. Every number of a row is a whole number of steps of 1/`UNIT`, so sums and products are exact
integers: on one machine, on shares of several, and in the bound of a person's influence.

A feature's ordered bins get the leading components of a smooth kernel, exp(-|i - j| / (bins / 3)) less as much of the
constant as leaves it positive: all its rows are of about one length, where damped cosines spend the length on the
outermost bins, in which hardly anybody is. Measured against them: +.004 AUC at epsilon 1 (docs/joint.md).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from model.encoding import Codes, Encoding, FeatureBins

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
_Number = TypeVar("_Number", np.int64, np.uint64, np.float64)

UNIT = 1 << 10  # steps of a row's grid; products of two rows lie on the grid of `privacy.mechanisms`
LABEL = 2  # scale of the label's column: the noise on its products is that much smaller, measured
COMPONENTS = 8  # of an ordered feature
REACH = 3.0  # bins over this is the kernel's length
_LEADING = 2  # columns of the lender's block before its features: the constant, the label


@lru_cache(maxsize=64)
def smooth(bins: int) -> Floats:
    """The basis of `bins` ordered bins, shape (bins, components), each row of norm at most 1.

    >>> bool(np.linalg.norm(smooth(24), axis=1).max() <= 1 + 1e-12)
    True
    """
    count = min(bins - 1, COMPONENTS)
    if count < 1:
        return np.zeros((bins, 0))
    place = np.arange(bins)
    kernel = np.exp(-np.abs(place[:, None] - place) * max(REACH / bins, 1e-3))
    kernel = kernel - 1.0 / np.linalg.solve(kernel, np.ones(bins)).sum()
    values, vectors = np.linalg.eigh(kernel)
    chosen = np.argsort(-values)[:count]
    basis = vectors[:, chosen] * np.sqrt(np.maximum(values[chosen], 0.0))
    basis = basis * np.where(basis[0] < 0, -1.0, 1.0)  # one sign on every machine
    return np.asarray(basis / np.linalg.norm(basis, axis=1).max())


def basis_of(part: FeatureBins) -> Integers:
    """The basis of a part's bins on the grid, shape (bins, columns): smooth over ordered bins, else an indicator.

    It is scaled by the part's own weight: a product's factors are not.
    """
    return np.rint(_basis(part, COMPONENTS) * (part.feature.weight * UNIT)).astype(np.int64)


def _basis(part: FeatureBins, components: int, extra: int | None = None) -> Floats:
    """A part's basis; `extra` cuts the indicator columns to the first so many."""
    if part.factors is not None:
        (first, second), degree = part.factors, part.degree
        left, right = (_basis(f, degree, len(f.labels) - f.ordered - _unnamed(f)) for f in (first, second))
        return np.asarray(np.einsum("ia,jb->ijab", left, right).reshape(len(part.labels), -1))
    ordered = smooth(part.ordered)[:, :components] if part.ordered else np.zeros((0, 0))
    others = len(part.labels) - part.ordered
    kept = others if extra is None else extra
    basis = np.zeros((len(part.labels), ordered.shape[1] + kept))
    basis[: part.ordered, : ordered.shape[1]] = ordered
    basis[part.ordered : part.ordered + kept, ordered.shape[1] :] = np.eye(kept)
    return basis


def _unnamed(part: FeatureBins) -> int:
    """How many of the last bins no contract names: missing, and for texts other."""
    return 1 if part.feature.kind == "numeric" else 2


@dataclass(frozen=True)
class BlockRows:
    """One block's columns of the joint rows: what leads, then each part's basis columns in the encoding's order.

    A partner's block is led by half a unit where there is a relationship; the lender's by the constant and the label.

    Attributes:
        encoding: None for a lender without a block of its own.
    """

    encoding: Encoding | None
    lender: bool

    @cached_property
    def bases(self) -> tuple[Integers, ...]:
        """Of each part, shape (bins, columns)."""
        return tuple(basis_of(part) for part in self.encoding.parts) if self.encoding else ()

    @property
    def leading(self) -> int:
        """Columns before the features."""
        return _LEADING if self.lender else 1

    @cached_property
    def width(self) -> int:
        """Number of columns."""
        return self.leading + sum(int(basis.shape[1]) for basis in self.bases)

    def rows(self, codes: Codes, labels: NDArray[np.int8] | None = None) -> Integers:
        """Rows of present persons, shape (n, width), from bins of shape (parts, n).

        Promise: no row's squares sum to more than `squares`, nor its fourth powers to more than `fourths`. A label that
        is not 1 counts as 0.
        """
        count = len(labels) if labels is not None else codes.shape[1]
        out = np.empty((count, self.width), dtype=np.int64)
        if self.lender:
            out[:, 0] = UNIT
            out[:, 1] = 0 if labels is None else (labels == 1) * (LABEL * UNIT)
        else:
            out[:, 0] = UNIT // 2
        at = self.leading
        for basis, row in zip(self.bases, codes, strict=True):
            out[:, at : at + basis.shape[1]] = basis[row]
            at += basis.shape[1]
        return out

    def _most(self, power: int, label: bool = True) -> int:
        leading: int = UNIT**power + (LABEL * UNIT) ** power * label if self.lender else (UNIT // 2) ** power
        return leading + sum(int((basis**power).sum(axis=1).max()) for basis in self.bases if basis.size)

    @cached_property
    def squares(self) -> int:
        """No row's squares sum to more, in steps squared."""
        return self._most(2)

    @cached_property
    def fourths(self) -> int:
        """No row's fourth powers sum to more."""
        return self._most(4)

    @cached_property
    def squares_without_label(self) -> int:
        """As `squares`, the label's column left out."""
        return self._most(2, label=False)

    def points(self, weights: Floats) -> tuple[float, Floats]:
        """The constant and the log-odds of every bin from the block's weights, shape (width,); not the label's."""
        constant = float(weights[0]) * (1.0 if self.lender else 0.5)
        parts, at = [np.zeros(0)], self.leading
        for basis in self.bases:
            parts.append(basis @ weights[at : at + basis.shape[1]] / UNIT)
            at += basis.shape[1]
        return constant, np.concatenate(parts)


@dataclass(frozen=True)
class Layout:
    """The columns of all blocks: the lender's first (constant, label, own features), then the domains by name.

    Args:
        own: the encoding of the lender's own block, if it has one.
        domains: the partners' encodings.

    >>> from model.contract import Contract, Feature
    >>> late = Encoding.of(Contract("payments", 1, (Feature("late", "flag"),)))
    >>> layout = Layout(None, {"payments": late})
    >>> layout.width, layout.slices["payments"], round(layout.sensitivity, 3)
    (5, slice(2, 5, None), 5.344)
    """

    own: Encoding | None
    domains: Mapping[str, Encoding]

    @cached_property
    def blocks(self) -> dict[str, BlockRows]:
        """By name; the lender's is called `""`, for no domain has that name."""
        partners = {name: BlockRows(self.domains[name], False) for name in sorted(self.domains)}
        return {"": BlockRows(self.own, True), **partners}

    @cached_property
    def slices(self) -> dict[str, slice]:
        """Which columns are a block's."""
        found, at = {}, 0
        for name, block in self.blocks.items():
            found[name] = slice(at, at + block.width)
            at += block.width
        return found

    @cached_property
    def width(self) -> int:
        """Columns in all, constant and label included."""
        return sum(block.width for block in self.blocks.values())

    @property
    def size(self) -> int:
        """Entries of the upper triangle, the diagonal included."""
        return self.width * (self.width + 1) // 2

    @property
    def sensitivity(self) -> float:
        """How far one person moves the upper triangle of the sum of a a^T, in L2.

        Proof. Neighbours differ in one person, whose row becomes zero, so the sums differ by one a a^T, an exact
        integer matrix on the grid: nothing is rounded. Its upper triangle has the squared length
        sum_{j<k} a_j^2 a_k^2 + sum_j a_j^4 = ((sum_j a_j^2)^2 + sum_j a_j^4) / 2. Both sums are at most their greatest
        values over all bins that a contract knows, which a look at the integer bases gives.
        """
        squares = sum(block.squares for block in self.blocks.values())
        fourths = sum(block.fourths for block in self.blocks.values())
        return math.sqrt((squares * squares + fourths) / 2) / UNIT**2

    @property
    def row_norm(self) -> float:
        """No person's row without the label is longer: with a bounded residual it bounds a gradient."""
        return math.sqrt(sum(block.squares_without_label for block in self.blocks.values())) / UNIT

    @property
    def largest_square(self) -> int:
        """No single product of a row's numbers is larger, in steps squared: what the ring must hold for a person."""
        return (LABEL * UNIT) ** 2


def upper(matrix: NDArray[_Number]) -> NDArray[_Number]:
    """The upper triangle row by row, shape (d (d + 1) / 2,)."""
    triangle: NDArray[_Number] = matrix[np.triu_indices(len(matrix))]
    return triangle


def symmetric(triangle: Floats, width: int) -> Floats:
    """The symmetric matrix of an upper triangle."""
    out = np.zeros((width, width))
    out[np.triu_indices(width)] = triangle
    return out + np.triu(out, 1).T
