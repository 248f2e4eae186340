"""Products between holders' columns on additive shares modulo 2^64, with masks that a dealer handed out (Beaver).

Three roles of which no two may collude: party 0, party 1 and the dealer (`privacy.roles`). Each holder subtracts two
masks from its rows and shows the rest to both parties. A party knows one of the two masks, so the rest is uniform to
it; the dealer knows all masks and sees no rest. The parties' shares add up to the exact products between blocks.
Products within a block are the holders' own: they know them, and `split` shares them.

Source: Beaver (1992), CRYPTO '91, LNCS 576; matrix form: Mohassel & Zhang (2017), IEEE S&P, section IV.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Self

import numpy as np
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from privacy.noise import Csprng
from privacy.ring import Integers, Words, from_ring, product, to_ring

Blocks = Mapping[str, tuple[tuple[str, ...], int]]
"""Name of a block: its owners, who hold its columns for disjoint persons, and its width. The order counts."""

State = dict[str, NDArray[np.uint64]]


def expand(key: bytes, label: str, shape: int | tuple[int, ...]) -> Words:
    """Uniform words that only a holder of `key` can make: the same for the same label, independent for another one.

    AES-256-CTR under HKDF-SHA256(key, label). A longer shape begins with the words of a shorter one.

    >>> bool((expand(b"k", "a", (2, 3)) == expand(b"k", "a", (2, 3))).all())
    True
    """
    stream = Cipher(algorithms.AES(_derived(key, "expand", label)), modes.CTR(bytes(16))).encryptor()
    count = int(np.prod(shape, dtype=np.int64))
    return np.frombuffer(stream.update(bytes(8 * count)), dtype="<u8").astype(np.uint64, copy=False).reshape(shape)


def mask_seed(root: bytes, owner: str) -> bytes:
    """From which `owner`'s masks of one party are expanded; an owner is told its own two and nothing else."""
    return _derived(root, "mask", owner)


def _derived(key: bytes, purpose: str, label: str) -> bytes:
    return HKDF(hashes.SHA256(), 32, salt=None, info=f"fedscore-{purpose}-1|{label}".encode()).derive(key)


def _fresh() -> tuple[bytes, bytes]:
    return os.urandom(32), os.urandom(32)


@dataclass(frozen=True)
class Roots:
    """What a dealer draws for one programme: a root for each party, fresh unless it continues its own programme.

    Roots that were used for other rows show those rows' difference to both parties.
    """

    both: tuple[bytes, bytes] = field(default_factory=_fresh, repr=False)

    def mask_seeds(self, owner: str) -> tuple[bytes, bytes]:
        """What `owner` is told."""
        return mask_seed(self.both[0], owner), mask_seed(self.both[1], owner)


def checked(blocks: Blocks) -> tuple[str, ...]:
    """All owners, in order. Raises `ValueError` where one stands twice: its masks would hide two things."""
    owners = tuple(owner for owners, _ in blocks.values() for owner in owners)
    if len(set(owners)) != len(owners):
        raise ValueError("an owner stands in two blocks: name it once a block, e.g. 'owner/block'")
    if not all(owners and width >= 1 for owners, width in blocks.values()):
        raise ValueError("every block needs an owner and a width >= 1 (columns)")
    return owners


def joined(blocks: Blocks, part: Callable[[str, int], Words]) -> Words:
    """One chunk's columns of all blocks, shape (rows, d): a block is the sum of `part(owner, width)`, its owners'."""
    return np.concatenate(
        [reduce(np.add, [part(owner, width) for owner in owners]) for owners, width in blocks.values()], axis=1
    )


def masks(blocks: Blocks, root: bytes, chunk: int, rows: int) -> Words:
    """One party's masks of one chunk, shape (rows, d)."""
    return joined(blocks, lambda owner, width: _mask(mask_seed(root, owner), chunk, (rows, width)))


def _mask(key: bytes, chunk: int, shape: tuple[int, int]) -> Words:
    return expand(key, f"chunk|{chunk}", shape)


def masked(rows: Integers, seeds: tuple[bytes, bytes], chunk: int) -> Words:
    """What an owner shows both parties of one chunk: its rows minus both its masks.

    A chunk's number must never serve for other rows: the difference of both would show.

    Args:
        rows: shape (n, c), in grid steps; zero for persons who are another owner's.
        seeds: the owner's `mask_seed` of either party.
        chunk: number of the chunk, from 0.
    """
    return to_ring(rows) - _mask(seeds[0], chunk, rows.shape) - _mask(seeds[1], chunk, rows.shape)


def _products(blocks: Blocks, left: Words, right: Words) -> Words:
    """left^T right between an earlier and a later block, zero elsewhere, shape (d, d)."""
    total = np.zeros((left.shape[1], right.shape[1]), dtype=np.uint64)
    end = 0
    for _, width in blocks.values():
        start, end = end, end + width
        total[start:end, end:] = product(left[:, start:end], right[:, end:])
    return total


def _dealt(blocks: Blocks, root: bytes) -> Words:
    """Party 0's share of the masks' products."""
    place = np.repeat(np.arange(len(blocks)), [width for _, width in blocks.values()])
    share = expand(root, "products", (len(place), len(place)))
    return np.where(place[:, None] < place[None, :], share, np.uint64(0))


class Dealer:
    """Knows all masks and never sees a masked row: gives party 1 its share of the masks' products."""

    def __init__(self, roots: Roots, blocks: Blocks) -> None:
        checked(blocks)
        self._roots, self._blocks = roots, blocks

    def deal(self, chunks: Sequence[int]) -> Words:
        """Party 1's correction, shape (d, d), for chunks of so many rows; one chunk is in memory at a time."""
        first, second = self._roots.both
        total = np.uint64(0) - _dealt(self._blocks, first)
        for chunk, rows in enumerate(chunks):
            both = masks(self._blocks, first, chunk, rows) + masks(self._blocks, second, chunk, rows)
            total += _products(self._blocks, both, both)
        return total


class Party:
    """One computing party: adds up its share of the products between blocks, chunk by chunk.

    Promise: the shares of both, `opened`, are X_p^T X_q for every block p before q, and zero elsewhere. Memory is
    (d, d) words and one chunk.

    Args:
        index: 0 or 1.
        root: the party's own root.
        blocks: as for the dealer and for the other party.
        correction: from the dealer, for party 1 only.
    """

    def __init__(self, index: int, root: bytes, blocks: Blocks, correction: Words | None = None) -> None:
        checked(blocks)
        self._index, self._root, self._blocks, self._chunk = index, root, blocks, 0
        width = sum(width for _, width in blocks.values())
        self._total = first_share(index, (width, width), correction, lambda: _dealt(blocks, root))

    def add(self, chunk: int, masked: Mapping[str, Words]) -> None:
        """Adds one chunk, in order: `masked` rows of every owner, shape (rows, its block's width).

        Raises `ValueError` on another chunk than the next, an owner too few or too many, or another shape.
        """
        if chunk != self._chunk:
            raise ValueError(f"chunk {self._chunk} is next, got {chunk}")
        shown = shown_rows(self._blocks, masked)
        own = masks(self._blocks, self._root, chunk, len(shown))
        known = shown + own if self._index == 0 else own
        self._total = self._total + _products(self._blocks, shown, known) + _products(self._blocks, own, shown)
        self._chunk += 1

    def share(self) -> Words:
        """The share of all chunks so far, shape (d, d)."""
        return self._total.copy()

    def state(self) -> State:
        """What `from_state` goes on with, in another process too; secret like the share itself."""
        return {"total": self._total.copy(), "chunk": np.array([self._chunk], dtype=np.uint64)}

    @classmethod
    def from_state(cls, index: int, root: bytes, blocks: Blocks, state: State) -> Self:
        """The party that `state` was taken of."""
        party = cls(index, root, blocks, None if index == 0 else state["total"])
        party._total, party._chunk = state["total"].copy(), int(state["chunk"][0])
        return party


def first_share(index: int, shape: tuple[int, ...], correction: Words | None, dealt: Callable[[], Words]) -> Words:
    """A party's share of what the dealer gives: expanded by party 0, sent to party 1."""
    if index not in (0, 1):
        raise ValueError(f"index must be 0 or 1 (which party), got {index}")
    if (correction is None) != (index == 0):
        raise ValueError("the dealer's correction is party 1's, and party 1 needs it")
    share = dealt() if correction is None else correction
    if share.shape != shape or share.dtype != np.uint64:
        raise ValueError(f"the dealer's correction must be uint64 of shape {shape}, got {share.dtype} {share.shape}")
    return share.copy()


def shown_rows(blocks: Blocks, masked: Mapping[str, Words]) -> Words:
    """One chunk's masked rows of all blocks, shape (rows, d). Raises `ValueError` where it is not complete."""
    if set(masked) != set(checked(blocks)):
        raise ValueError("a chunk needs the masked rows of every owner and of nobody else")
    rows = len(next(iter(masked.values())))
    for owners, width in blocks.values():
        for owner in owners:
            if masked[owner].shape != (rows, width) or masked[owner].dtype != np.uint64:
                raise ValueError(f"masked rows of {owner} must be uint64 of shape {(rows, width)}")
    return joined(blocks, lambda owner, _: masked[owner])


def split(values: Integers | Words, rng: Csprng) -> tuple[Words, Words]:
    """Two shares that add up to `values`, each alone uniform.

    >>> opened(*split(np.array([-3, 4]), Csprng())).tolist()
    [-3, 4]
    """
    first = rng.words(values.size).reshape(values.shape)
    return first, values.view(np.uint64) - first


def opened(first: Words, second: Words) -> Integers:
    """The signed integers that two shares add up to."""
    return from_ring(first + second)
