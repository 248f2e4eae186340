"""Persons' rows of the joint fit known by their bins: their second moments and gradients, exact, without the rows.

A row is one line of a table for each part, so a sum over persons of products of two parts is B^T C D, where C counts
the persons in each pair of bins. Counting is faster than multiplying rows, and a person takes a few bytes. Only who may
see all rows can count so: a curator, or an audit on synthetic persons.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from model.encoding import Codes
from model.moments import LABEL, UNIT, BlockRows, Layout

Integers = NDArray[np.int64]


def bins_of(block: BlockRows, codes: Codes, here: NDArray[np.bool_], labels: NDArray[np.int8] | None = None) -> Codes:
    """A block's bins of persons, what leads among them, shape (parts, n); the bin after the last is for the absent.

    Args:
        codes: shape (parts of the encoding, n), meaningless where a person is absent.
        here: who has a relationship, shape (n,).
        labels: the lender's; one that is not 1 counts as 0. The constant and the label are everybody's.
    """
    tables = _tables(block)
    leading = [np.zeros(len(here), np.uint16)]
    if block.lender:
        leading.append(np.equal(labels, 1).astype(np.uint16) if labels is not None else leading[0])
    known = codes if len(codes) else np.zeros((0, len(here)), np.uint16)  # a lender may have no features
    out = np.concatenate([np.stack(leading), known]).astype(np.uint16)
    first = block.leading if block.lender else 0
    for row, table in zip(out[first:], tables[first:], strict=True):
        row[~here] = len(table) - 1
    return out


def _tables(block: BlockRows) -> list[Integers]:
    """Of each part, shape (bins + 1, columns): what leads first; the last line, of the absent, is zero."""
    leading = [np.array([[UNIT]]), np.array([[0], [LABEL * UNIT]])] if block.lender else [np.array([[UNIT // 2]])]
    return [np.concatenate([t, np.zeros((1, t.shape[1]), np.int64)]) for t in (*leading, *block.bases)]


@dataclass(frozen=True)
class Binned:
    """All persons' bins in all blocks.

    Args:
        bins: by block as `bins_of` gives them, shape (parts, n) each.

    Raises:
        ValueError: bins that the layout does not know.
    """

    layout: Layout
    bins: Mapping[str, Codes]

    def __post_init__(self) -> None:
        for name, block in self.layout.blocks.items():
            sizes = np.array([len(table) for table in _tables(block)])
            rows = self.bins[name]
            if len(rows) != len(sizes) or (rows.size and (rows.max(axis=1) >= sizes).any()):
                raise ValueError(f"block {name!r} has bins that its contract does not know")

    @property
    def labels(self) -> NDArray[np.bool_]:
        """Who defaulted, shape (n,)."""
        return np.asarray(self.bins[""][1] == 1)

    def moments(self) -> Integers:
        """The upper triangle of the sum over persons of row times row, shape (width, width), in steps squared."""
        parts, total = self._parts, np.zeros((self.layout.width, self.layout.width))
        for i, (first, table, place) in enumerate(parts):
            bins = first.astype(np.int64)
            for second, other, beside in parts[i:]:
                count = np.bincount(bins * len(other) + second, minlength=len(table) * len(other))
                pairs = count.reshape(len(table), len(other)).astype(np.float64)
                total[place, beside] = table.T @ pairs @ other  # exact: whole numbers far below 2^53
        return np.triu(total).astype(np.int64)

    def gradient(self, residuals: Integers) -> Integers:
        """The sum over persons of a residual in whole steps times the row, shape (width,)."""
        weights = residuals.astype(np.float64)
        sums = [(table, np.bincount(bins, weights, len(table))) for bins, table, _ in self._parts]
        return np.concatenate([table.T @ found.astype(np.int64) for table, found in sums])

    @cached_property
    def _parts(self) -> list[tuple[Codes, Integers, slice]]:
        """Of each part of each block: persons' bins, its table, and its columns."""
        found, at = [], 0
        for name, block in self.layout.blocks.items():
            for bins, table in zip(self.bins[name], _tables(block), strict=True):
                found.append((bins, table, slice(at, at + table.shape[1])))
                at += table.shape[1]
        return found
