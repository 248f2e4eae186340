"""One step of a refinement on shares: a cubic of every person's sum, then its product with the masked columns.

The same three roles as in `privacy.shares`. For each person U is the sum of the owners' integers u; the residual is
r = c0 + c1 U + c2 U^2 + c3 U^3 with public integer coefficients; the result is X^T r. Nobody sees U, r or X. All is
exact modulo 2^64, so X^T r must stay within 63 bits. The labels' part X^T y is a product that the moments hold
already. The result is a release like any other: shares of its noise are added before it is opened.

Masks: a hides U, and the dealer shares a^2 and a^3; b hides r, and the dealer shares A^T b, where A hides X.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Self

import numpy as np

from privacy.ring import Integers, Words, product, to_ring
from privacy.shares import Blocks, Roots, State, checked, expand, first_share, mask_seed, masks, shown_rows


def _label(step: int, chunk: int, what: str) -> str:
    return f"step|{step}|chunk|{chunk}|{what}"


def masked_sums(values: Integers, seeds: tuple[bytes, bytes], step: int, chunk: int) -> Words:
    """What an owner shows both parties of its integers u of one chunk, shape (n,): minus both its masks.

    A step's and chunk's numbers must never serve for other values: the difference of both would show.
    """
    label = _label(step, chunk, "sums")
    return to_ring(values) - expand(seeds[0], label, values.shape) - expand(seeds[1], label, values.shape)


def _sum_mask(owners: Sequence[str], root: bytes, step: int, chunk: int, rows: int) -> Words:
    """One party's part of a, shape (rows,)."""
    return reduce(np.add, [expand(mask_seed(root, owner), _label(step, chunk, "sums"), rows) for owner in owners])


def _residual_mask(root: bytes, step: int, chunk: int, rows: int) -> Words:
    """One party's part of b, shape (rows, 1)."""
    return expand(root, _label(step, chunk, "residual"), (rows, 1))


def _dealt_powers(root: bytes, step: int, chunk: int, rows: int) -> Words:
    """Party 0's shares of a^2 and a^3, shape (2, rows)."""
    return expand(root, _label(step, chunk, "powers"), (2, rows))


def _dealt_product(root: bytes, step: int, width: int) -> Words:
    """Party 0's share of A^T b, shape (width,)."""
    return expand(root, f"step|{step}|product", width)


class StepDealer:
    """Gives party 1 its shares of what the masks of one step multiply to; one chunk is in memory at a time."""

    def __init__(self, roots: Roots, blocks: Blocks, step: int) -> None:
        self._owners = checked(blocks)
        self._roots, self._blocks, self._step, self._chunk = roots, blocks, step, 0
        width = sum(width for _, width in blocks.values())
        self._total = np.uint64(0) - _dealt_product(roots.both[0], step, width)

    def deal(self, rows: int) -> Words:
        """Party 1's shares of a^2 and a^3 of the next chunk, of `rows` persons, shape (2, rows)."""
        step, chunk, both = self._step, self._chunk, self._roots.both
        a = reduce(np.add, [_sum_mask(self._owners, root, step, chunk, rows) for root in both])
        b = reduce(np.add, [_residual_mask(root, step, chunk, rows) for root in both])
        columns = reduce(np.add, [masks(self._blocks, root, chunk, rows) for root in both])
        self._total += product(columns, b)[:, 0]
        self._chunk += 1
        return np.stack([a * a, a * a * a]) - _dealt_powers(both[0], step, chunk, rows)

    def correction(self) -> Words:
        """Party 1's share of A^T b over all chunks dealt so far, shape (d,)."""
        return self._total.copy()


class StepParty:
    """One computing party in one step: every chunk is first `opening`, then, when both have theirs, `add`.

    Promise: the shares of both, `opened`, are X^T r over all columns. Memory is d words and one chunk.

    Args:
        index: 0 or 1.
        root: the party's own root.
        blocks: as for `privacy.shares.Party`, whose masked rows serve again.
        step: number of the step; never twice in one programme.
        coefficients: c0, c1, c2, c3, public integers.
        correction: from the dealer, for party 1 only, shape (d,).
    """

    def __init__(
        self,
        index: int,
        root: bytes,
        blocks: Blocks,
        step: int,
        coefficients: tuple[int, int, int, int],
        correction: Words | None = None,
    ) -> None:
        self._owners, width = checked(blocks), sum(width for _, width in blocks.values())
        self._index, self._root, self._blocks, self._step = index, root, blocks, step
        self._coefficients, self._opened, self._added = coefficients, 0, 0
        self._total = first_share(index, (width,), correction, lambda: _dealt_product(root, step, width))

    def opening(self, chunk: int, masked: Mapping[str, Words], powers: Words | None = None) -> Words:
        """The share of r - b of the next chunk, shape (rows,), for the other party: uniform, as b is the party's own.

        Args:
            chunk: number of the chunk, in order.
            masked: every owner's `masked_sums`, shape (rows,).
            powers: what the dealer dealt, for party 1 only, shape (2, rows).

        Raises `ValueError` on another chunk than the next, an owner too few or too many, or another shape.
        """
        if chunk != self._opened:
            raise ValueError(f"chunk {self._opened} is to be opened next, got {chunk}")
        shown = _shown_sums(self._owners, masked)
        rows, step, root = len(shown), self._step, self._root
        squares, cubes = first_share(self._index, (2, rows), powers, lambda: _dealt_powers(root, step, chunk, rows))
        a = _sum_mask(self._owners, root, step, chunk, rows)
        share = _cubic_share(self._index, shown, (a, squares, cubes), self._coefficients)
        self._opened += 1
        return share - _residual_mask(root, step, chunk, rows)[:, 0]

    def add(self, chunk: int, masked: Mapping[str, Words], opening: Words) -> None:
        """Adds one chunk, in order: `masked` rows as for `privacy.shares.Party.add`, `opening` both shares' sum.

        Raises `ValueError` on another chunk than the next, one that was not opened, or another shape.
        """
        if chunk != self._added or chunk >= self._opened:
            raise ValueError(f"chunk {self._added} is to be opened and added next, got {chunk}")
        shown = shown_rows(self._blocks, masked)
        if opening.shape != (len(shown),) or opening.dtype != np.uint64:
            raise ValueError(f"the opened residuals must be uint64 of shape {(len(shown),)}")
        own, e = masks(self._blocks, self._root, chunk, len(shown)), opening[:, None]
        b = _residual_mask(self._root, self._step, chunk, len(shown))
        known = e + b if self._index == 0 else b
        self._total = self._total + product(shown, known)[:, 0] + product(own, e)[:, 0]
        self._added += 1

    def share(self) -> Words:
        """The share of all chunks so far, shape (d,)."""
        return self._total.copy()

    def state(self) -> State:
        """What `from_state` goes on with, in another process too; secret like the share itself."""
        return {"total": self._total.copy(), "chunks": np.array([self._opened, self._added], dtype=np.uint64)}

    @classmethod
    def from_state(
        cls,
        index: int,
        root: bytes,
        blocks: Blocks,
        step: int,
        coefficients: tuple[int, int, int, int],
        state: State,
    ) -> Self:
        """The party that `state` was taken of."""
        party = cls(index, root, blocks, step, coefficients, None if index == 0 else state["total"])
        party._total = state["total"].copy()
        party._opened, party._added = (int(chunk) for chunk in state["chunks"])
        return party


def _shown_sums(owners: Sequence[str], masked: Mapping[str, Words]) -> Words:
    """U minus its mask, shape (rows,)."""
    if set(masked) != set(owners):
        raise ValueError("a chunk needs the masked sums of every owner and of nobody else")
    shapes = {(masked[owner].shape, masked[owner].dtype.name) for owner in owners}
    if len(shapes) != 1 or any(len(shape) != 1 or name != "uint64" for shape, name in shapes):
        raise ValueError("masked sums must be uint64 of one shape (rows,)")
    return reduce(np.add, [masked[owner] for owner in owners])


def _cubic_share(
    index: int, shown: Words, powers: tuple[Words, Words, Words], coefficients: tuple[int, int, int, int]
) -> Words:
    """A share of the cubic at U = D + a, by its Taylor series at the public D: linear in the shares of a, a^2, a^3."""
    doubled, tripled = 2 * coefficients[2], 3 * coefficients[3]
    c0, c1, c2, c3, double, triple = (np.uint64(c % 2**64) for c in (*coefficients, doubled, tripled))
    first, second, third = powers
    share: Words = first * ((triple * shown + double) * shown + c1) + second * (triple * shown + c2) + third * c3
    if index == 0:
        share = share + ((c3 * shown + c2) * shown + c1) * shown + c0
    return share
