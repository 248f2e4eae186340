"""One step of a refinement on shares: a public table of every person's sum, then its product with the masked columns.

The same three roles as in `privacy.shares`. For each person U is the sum of the owners' small integers u, the residual
is r = table[U modulo SIZE], and the result is X^T r. Nobody sees U, r or X. Any table of 64-bit integers is looked up
exactly, and X^T r is exact modulo 2^64, so it must stay within 63 bits. The labels' part X^T y is a product that the
moments hold already. The result is a release like any other: shares of its noise are added before it is opened.

Masks: a hides U modulo SIZE, and the dealer, who alone knows a, shares the table rotated by it, T[d] = table[d + a].
Both parties know D = U - a, and a party's share of T[D] is one of table[U]. A table serves one person once. b hides r,
and the dealer shares A^T b, where A hides X.

Source: one-time truth tables, Ishai, Kushilevitz, Meldgaard, Orlandi & Paskin-Cherniavsky (2013), "On the power of
correlated randomness in secure computation", TCC, LNCS 7785.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Self

import numpy as np
from numpy.typing import NDArray

from privacy.ring import Integers, Words, product, to_ring
from privacy.shares import Blocks, Roots, State, checked, expand, first_share, mask_seed, masks, shown_rows

Bytes = NDArray[np.uint8]

SIZE = 128
"""Entries of a table, a power of two <= 256: whoever limits the parts keeps every U in [-SIZE / 2, SIZE / 2)."""

_LOW = np.uint8(SIZE - 1)  # x & _LOW is x modulo SIZE, and bytes wrap at a multiple of it


def _label(step: int, chunk: int, what: str) -> str:
    return f"step|{step}|chunk|{chunk}|{what}"


def masked_sums(values: Integers, seeds: tuple[bytes, bytes], step: int, chunk: int) -> Bytes:
    """What an owner shows both parties of its integers u of one chunk: minus both its masks, modulo SIZE.

    A step's and chunk's numbers must never serve for other values: the difference of both would show.

    Args:
        values: shape (n,), each in [-SIZE / 2, SIZE / 2), zero for persons who are another owner's; `ValueError`
            otherwise.
        seeds: the owner's `mask_seed` of either party.
        step: number of the step.
        chunk: number of the chunk, from 0.

    Returns:
        Shape (n,), below SIZE: one byte a person.
    """
    if values.ndim != 1 or ((values < -SIZE // 2) | (values >= SIZE // 2)).any():
        raise ValueError(f"the sums' parts must have shape (n,) and lie in [{-SIZE // 2}, {SIZE // 2})")
    first, second = (_part_mask(seed, step, chunk, len(values)) for seed in seeds)
    return (values.astype(np.uint8) - first - second) & _LOW


def _part_mask(key: bytes, step: int, chunk: int, rows: int) -> Bytes:
    """One party's mask of one owner's u, shape (rows,): the low bits of a byte each."""
    words = expand(key, _label(step, chunk, "sums"), -(-rows // 8))
    return words.astype("<u8", copy=False).view(np.uint8)[:rows] & _LOW


def _sum_mask(owners: Sequence[str], root: bytes, step: int, chunk: int, rows: int) -> Bytes:
    """One party's part of a, shape (rows,)."""
    return reduce(np.add, [_part_mask(mask_seed(root, owner), step, chunk, rows) for owner in owners])


def _residual_mask(root: bytes, step: int, chunk: int, rows: int) -> Words:
    """One party's part of b, shape (rows, 1)."""
    return expand(root, _label(step, chunk, "residual"), (rows, 1))


def _dealt_tables(root: bytes, step: int, chunk: int, rows: int) -> Words:
    """Party 0's shares of the rotated tables, shape (rows, SIZE)."""
    return expand(root, _label(step, chunk, "tables"), (rows, SIZE))


def _dealt_product(root: bytes, step: int, width: int) -> Words:
    """Party 0's share of A^T b, shape (width,)."""
    return expand(root, f"step|{step}|product", width)


class StepDealer:
    """Gives party 1 its shares of one step's rotated tables and of A^T b; one chunk is in memory at a time.

    Args:
        roots: the dealer's own.
        blocks: as for both parties.
        step: number of the step; never twice in one programme: with another table it would show party 1 the rotation.
        table: public, int64 of shape (SIZE,), U's value at U modulo SIZE; `ValueError` otherwise.
    """

    def __init__(self, roots: Roots, blocks: Blocks, step: int, table: Integers) -> None:
        if table.shape != (SIZE,) or table.dtype != np.int64:
            raise ValueError(f"the table must be int64 of shape {(SIZE,)}, got {table.dtype} {table.shape}")
        self._owners = checked(blocks)
        self._roots, self._blocks, self._step = roots, blocks, step
        self._rotated = np.stack([np.roll(to_ring(table), -a) for a in range(SIZE)])

    def tables(self, chunk: int, rows: int) -> Words:
        """Party 1's shares of the tables of one chunk, of `rows` persons, shape (rows, SIZE)."""
        step, both = self._step, self._roots.both
        a = reduce(np.add, [_sum_mask(self._owners, root, step, chunk, rows) for root in both]) & _LOW
        tables: Words = self._rotated[a]
        tables -= _dealt_tables(both[0], step, chunk, rows)
        return tables

    def correction(self, chunks: Sequence[int]) -> Words:
        """Party 1's share of A^T b over chunks of so many rows, shape (d,)."""
        step, both = self._step, self._roots.both
        width = sum(width for _, width in self._blocks.values())
        total = np.uint64(0) - _dealt_product(both[0], step, width)
        for chunk, rows in enumerate(chunks):
            b = reduce(np.add, [_residual_mask(root, step, chunk, rows) for root in both])
            columns = reduce(np.add, [masks(self._blocks, root, chunk, rows) for root in both])
            total += product(columns, b)[:, 0]
        return np.asarray(total)


class StepParty:
    """One computing party in one step: every chunk is first `opening`, then, when both have theirs, `add`.

    Promises: the shares of both, `opened`, are X^T r over all columns. An `opening` is deterministic: the same inputs
    for a step and chunk give the same bytes, in another process too, so asking again shows nothing new. Other inputs
    for them would show both residuals' difference. Memory is d words and one chunk.

    Args:
        index: 0 or 1.
        root: the party's own root.
        blocks: as for `privacy.shares.Party`, whose masked rows serve again.
        step: number of the step; never twice in one programme.
        correction: from the dealer, for party 1 only, shape (d,).
    """

    def __init__(self, index: int, root: bytes, blocks: Blocks, step: int, correction: Words | None = None) -> None:
        self._owners, width = checked(blocks), sum(width for _, width in blocks.values())
        self._index, self._root, self._blocks, self._step = index, root, blocks, step
        self._opened, self._added = 0, 0
        self._total = first_share(index, (width,), correction, lambda: _dealt_product(root, step, width))

    def opening(self, chunk: int, masked: Mapping[str, Bytes], tables: Words | None = None) -> Words:
        """The share of r - b of the next chunk, shape (rows,), for the other party: uniform, as b is the party's own.

        Args:
            chunk: number of the chunk, in order.
            masked: every owner's `masked_sums`, shape (rows,).
            tables: what the dealer dealt, for party 1 only, shape (rows, SIZE).

        Raises `ValueError` on another chunk than the next, an owner too few or too many, or another shape.
        """
        if chunk != self._opened:
            raise ValueError(f"chunk {self._opened} is to be opened next, got {chunk}")
        shown = _shown_sums(self._owners, masked)
        rows, step, root = len(shown), self._step, self._root
        dealt = first_share(self._index, (rows, SIZE), tables, lambda: _dealt_tables(root, step, chunk, rows))
        share: Words = dealt[np.arange(rows), shown]
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
    def from_state(cls, index: int, root: bytes, blocks: Blocks, step: int, state: State) -> Self:
        """The party that `state` was taken of."""
        party = cls(index, root, blocks, step, None if index == 0 else state["total"])
        party._total = state["total"].copy()
        party._opened, party._added = (int(chunk) for chunk in state["chunks"])
        return party


def _shown_sums(owners: Sequence[str], masked: Mapping[str, Bytes]) -> Bytes:
    """D = U - a modulo SIZE, shape (rows,)."""
    if set(masked) != set(owners):
        raise ValueError("a chunk needs the masked sums of every owner and of nobody else")
    shapes = {(masked[owner].shape, masked[owner].dtype.name) for owner in owners}
    if len(shapes) != 1 or any(len(shape) != 1 or name != "uint8" for shape, name in shapes):
        raise ValueError("masked sums must be uint8 of one shape (rows,)")
    return reduce(np.add, [masked[owner] for owner in owners]) & _LOW
