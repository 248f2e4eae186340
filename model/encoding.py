"""From a contract to bins and a bounded row: the public encoding that every block shares.

A person's value falls into one bin of each feature. A feature's bins are rows of a matrix, its *basis*: ordered bins
get an orthonormal cosine basis whose k-th frequency is damped by 1/k, so that curves are smooth unless the data insist;
special codes, missing, other and categories get an indicator column. Every basis row has norm at most 1 and is then
scaled by the contract's weight, hence an encoded person (with the constant 1) has norm at most sqrt(parts + 1): nothing
is ever clipped. A *part* is a feature, or a product that the contract declares: its bins are all pairs of its two
features' bins.

A linear model is then one number per bin, so that training needs only the bins (two bytes a value), never the
encoded matrix.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from model.contract import Contract, Feature
from model.inputs import InputError
from model.products import Product

BINS = 24
FREQUENCIES = 8
LOG_DECADES = 4.0
STEPS = 2.0**30  # of a squared norm: it is rounded up to them
MAX_COLUMNS = 256  # of a product
MAX_PAIRS = (1 << 16) - 1  # of a product's bins: a code is two bytes
MAX_CELLS = 1 << 14  # of a group of features: its table stays in a core's cache

Floats = NDArray[np.float64]
Codes = NDArray[np.uint16]


def feature_edges(feature: Feature) -> Floats:
    """The increasing inner edges of a numeric feature's ordered bins; bin i holds edge[i-1] <= value < edge[i].

    Where the contract gives none, `BINS` bins of equal width on the feature's scale; a log scale that starts at 0
    reaches down `LOG_DECADES` decades from the top, and 0 has a bin of its own.
    """
    if feature.edges:
        return np.asarray(feature.edges)
    low, high = feature.low, feature.high
    if feature.scale == "linear":
        return np.linspace(low, high, BINS + 1)[1:-1]
    if feature.scale == "log":
        bottom = low if low > 0 else high * 10.0**-LOG_DECADES
        zero = [np.nextafter(0.0, 1.0), bottom] if low <= 0 else []
        return np.concatenate([zero, np.geomspace(bottom, high, BINS + 1)[1:-1]])
    top = max(abs(low), abs(high))
    half = np.geomspace(top * 10.0**-LOG_DECADES, top, BINS // 2 + 1)[:-1]
    edges = np.concatenate([-half[::-1], half])
    return edges[(edges > low) & (edges < high)]


def _cosines(bins: int) -> Floats:
    """Damped cosine basis over `bins` ordered bins, shape (bins, k), each row of norm at most 1."""
    count = min(bins - 1, FREQUENCIES)
    k = np.arange(1, count + 1)
    basis = np.cos(np.pi * np.outer(np.arange(bins) + 0.5, k) / bins) / k
    return basis / max(1e-300, np.sqrt((basis**2).sum(axis=1)).max()) if count else basis


@dataclass(frozen=True)
class FeatureBins:
    """The bins of one feature: `ordered` bins first, then one each for the special codes, other and missing.

    Or of a product: then `factors` are its features' bins, `degree` is the contract's, `ordered` is 0, and `feature`
    (of kind "product") has only the product's name, reason family and weight. `plain` is the basis before it is scaled.
    """

    feature: Feature
    ordered: int
    labels: tuple[str, ...]
    plain: Floats
    factors: tuple[FeatureBins, FeatureBins] | None = None
    degree: int = 0

    @classmethod
    def of(cls, feature: Feature) -> FeatureBins:
        """The bins that the contract's entry means."""
        if feature.kind == "numeric":
            edges = feature_edges(feature)
            ordered = len(edges) + 1
            bounds = [feature.low, *edges.tolist(), feature.high]
            names = [f"{a:g} to {b:g}" for a, b in itertools.pairwise(bounds)]
            extra = [*feature.special, "missing"]
        elif feature.kind == "ordinal":
            names = [v for v in feature.values if v not in feature.special]
            ordered, extra = len(names), [*feature.special, "other", "missing"]
        else:
            ordered, names, extra = 0, [], [*feature.values, "other", "missing"]
        cosines = _cosines(ordered) if ordered else np.zeros((0, 0))
        basis = np.zeros((ordered + len(extra), cosines.shape[1] + len(extra)))
        basis[:ordered, : cosines.shape[1]] = cosines
        basis[ordered:, cosines.shape[1] :] = np.eye(len(extra))
        return cls(feature, ordered, (*names, *extra), basis)

    @classmethod
    def product(cls, product: Product, first: FeatureBins, second: FeatureBins) -> FeatureBins:
        """All pairs of two features' bins, the second's running fastest; plain rows are outer products of plain rows.

        Raises:
            InputError: no columns or more than `MAX_COLUMNS`, or more than `MAX_PAIRS` pairs.
        """
        left, right = first.reduced(product.degree), second.reduced(product.degree)
        columns, pairs = left.shape[1] * right.shape[1], len(left) * len(right)
        where, remedy = f"product.{product.name}", "merge values or special codes, or delete the product"
        if not 1 <= columns <= MAX_COLUMNS:
            raise InputError("contract", where, f"must have 1 to {MAX_COLUMNS} columns", columns, remedy)
        if pairs > MAX_PAIRS:
            raise InputError("contract", where, f"must have at most {MAX_PAIRS} pairs of bins", pairs, remedy)
        feature = Feature(product.name, "product", group=product.group, weight=product.weight)
        labels = tuple(f"{a}, {b}" for a in first.labels for b in second.labels)
        basis: Floats = np.einsum("ik,jl->ijkl", left, right).reshape(pairs, columns)
        return cls(feature, 0, labels, basis, (first, second), product.degree)

    @cached_property
    def basis(self) -> Floats:
        """What encodes a bin, shape (bins, columns): the plain basis times the weight; no row is longer than that."""
        return self.plain if self.feature.weight == 1 else self.plain * self.feature.weight

    @cached_property
    def square(self) -> float:
        """No basis row has a larger squared norm, but for rounding; private edges, known later, do not change it."""
        whole = self.feature.weight**2  # the indicator of missing reaches it
        if self.factors is None or any(part.feature.private for part in self.factors):
            return whole
        return whole * math.prod(float(np.square(f.reduced(self.degree)).sum(axis=1).max()) for f in self.factors)

    def reduced(self, degree: int) -> Floats:
        """What of a feature's plain basis takes part in a product, shape (bins, k), each row of norm at most 1.

        The `degree` slowest cosines and the indicators of special codes and values; other and missing are zero rows.
        """
        cosines = self.plain.shape[1] - self.extra
        known = self.plain.shape[1] - (1 if self.feature.kind == "numeric" else 2)
        return np.concatenate([self.plain[:, : min(degree, cosines)], self.plain[:, cosines:known]], axis=1)

    @property
    def extra(self) -> int:
        """How many bins have an indicator column: special codes or values, other, missing."""
        return len(self.labels) - self.ordered

    @property
    def missing(self) -> int:
        """The bin of a missing value: always the last."""
        return len(self.labels) - 1

    def codes_of_numbers(self, values: Floats) -> Codes:
        """Bins of numeric values; NaN is missing, infinities and values outside the range are clamped."""
        clamped = np.clip(values, self.feature.low, self.feature.high)
        codes = np.searchsorted(feature_edges(self.feature), clamped, side="right").astype(np.uint16)
        for i, special in enumerate(self.feature.special):
            codes[values == float(special)] = self.ordered + i
        codes[np.isnan(values)] = self.missing
        return codes

    def codes_of_texts(self) -> Mapping[str, int]:
        """The bin of each known text of a non-numeric feature; any other text is `other`, the last but one."""
        return {label: i for i, label in enumerate(self.labels[:-2])}

    @property
    def other(self) -> int:
        """The bin of a text that the contract does not know (non-numeric features)."""
        return len(self.labels) - 2


@dataclass(frozen=True)
class Encoding:
    """The public encoding of one contract: bins, columns and the bound of a row.

    A weight vector is laid out as the constant first, then each part's basis columns: the features in the contract's
    order, then its products.
    """

    contract: Contract
    parts: tuple[FeatureBins, ...]

    @classmethod
    def of(cls, contract: Contract) -> Encoding:
        """The encoding that every holder of an equal contract computes."""
        features = tuple(FeatureBins.of(f) for f in contract.features)
        named = {part.feature.name: part for part in features}
        products = (FeatureBins.product(p, *(named[name] for name in p.of)) for p in contract.products)
        return cls(contract, (*features, *products))

    @property
    def features(self) -> tuple[FeatureBins, ...]:
        """The parts that are features."""
        return self.parts[: len(self.contract.features)]

    def with_products(self, codes: Codes) -> Codes:
        """Bins of all parts, shape (parts, n), from those of the features alone, shape (features, n)."""
        if not self.contract.products:
            return codes
        row = {f.name: codes[i] for i, f in enumerate(self.contract.features)}
        factors = (part.factors for part in self.parts if part.factors)
        pairs = [row[a.feature.name] * np.uint16(len(b.labels)) + row[b.feature.name] for a, b in factors]
        return np.concatenate([codes, pairs])

    @cached_property
    def offsets(self) -> NDArray[np.int64]:
        """Where each part's bins begin in the flat list of all bins, shape (parts + 1,)."""
        return np.concatenate([[0], np.cumsum([len(p.labels) for p in self.parts])]).astype(np.int64)

    @cached_property
    def columns(self) -> int:
        """Length of a weight vector, the constant included."""
        return 1 + sum(int(p.basis.shape[1]) for p in self.parts)

    @cached_property
    def row_norm(self) -> float:
        """No encoded person's norm is above this: the root of 1 and each part's largest squared norm, added.

        The sum is rounded up, by one to two of `STEPS`: more than its own rounding, and machines whose cosines differ
        in the last bit agree. It is never above sqrt(parts + 1).
        """
        total = 1.0 + sum(part.square for part in self.parts)
        return math.sqrt(min(len(self.parts) + 1.0, (math.ceil(total * STEPS) + 1) / STEPS))

    def points(self, weights: Floats) -> tuple[float, Floats]:
        """The constant and the log-odds of every bin, flat over parts."""
        out, at = np.empty(int(self.offsets[-1])), 1
        for part, start, stop in zip(self.parts, self.offsets, self.offsets[1:], strict=False):
            width = part.basis.shape[1]
            out[start:stop] = part.basis @ weights[at : at + width]
            at += width
        return float(weights[0]), out

    def packed(self, codes: Codes) -> Packed:
        """`codes` of shape (parts, n), made ready for many passes of `gather` and `scatter`."""
        return Packed.of(codes, [len(p.labels) for p in self.parts])

    def gather(self, packed: Packed, constant: float, points: Floats) -> Floats:
        """The log-odds of each person, shape (n,), from the constant and every bin's points."""
        total = np.full(packed.persons, constant)
        for cells, features in packed.groups:
            table = np.zeros(1)
            for f in features:
                table = np.add.outer(table, points[self.offsets[f] : self.offsets[f + 1]]).ravel()
            total += table.take(cells)
        return total

    def scatter(self, packed: Packed, residuals: Floats) -> Floats:
        """Sum over persons of residual times encoded row, shape (columns,): the transpose of `gather`."""
        parts = [np.array([residuals.sum()])]
        for cells, features in packed.groups:
            shape = [len(self.parts[f].labels) for f in features]
            sums = np.bincount(cells, weights=residuals, minlength=math.prod(shape)).reshape(shape)
            for axis, f in enumerate(features):
                others = tuple(a for a in range(len(shape)) if a != axis)
                parts.append(self.parts[f].basis.T @ sums.sum(axis=others))
        return np.concatenate(parts)

    def matrix(self, codes: Codes) -> Floats:
        """The encoded rows themselves, shape (n, columns): for the network block and for tests."""
        parts = [part.basis[row] for part, row in zip(self.parts, codes, strict=True)]
        return np.concatenate([np.ones((codes.shape[1], 1)), *parts], axis=1)


@dataclass(frozen=True)
class Packed:
    """Bins of n persons, several neighbouring features joined into one cell number, so that a pass reads less.

    `groups` holds for each group the cell of every person and the features it joins.
    """

    persons: int
    groups: tuple[tuple[NDArray[np.intp], tuple[int, ...]], ...]

    @classmethod
    def of(cls, codes: Codes, bins: Sequence[int]) -> Packed:
        """Joins neighbouring features as long as a group has at most `MAX_CELLS` cells."""
        groups: list[tuple[NDArray[np.intp], tuple[int, ...]]] = []
        first = 0
        while first < len(bins):
            last, size = first + 1, bins[first]
            while last < len(bins) and size * bins[last] <= MAX_CELLS:
                size *= bins[last]
                last += 1
            cells = codes[first].astype(np.intp)
            for f in range(first + 1, last):
                cells *= bins[f]
                cells += codes[f]
            groups.append((cells, tuple(range(first, last))))
            first = last
        return cls(codes.shape[1], tuple(groups))
