"""The Merkle tree of RFC 6962: a log's root, and proofs that an entry is in it and that it only grew.

Leaves and inner nodes are hashed apart (0x00 and 0x01 in front). Who keeps a root of `m` entries can check, with a few
hashes, that a root of `n` is of the same log with entries added. Proofs are lists of hashes of 32 bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

EMPTY = hashlib.sha256(b"").digest()  # the root of no entries


def leaf(entry: bytes) -> bytes:
    """The hash of an entry."""
    return hashlib.sha256(b"\x00" + entry).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


class Tree:
    """The hashes of all complete subtrees: an entry costs two hashes to add, a proof a look-up a level.

    >>> tree = Tree([b"one", b"two", b"three"])
    >>> verify_inclusion(b"two", (1, 3), tree.inclusion(1, 3), tree.root())
    True
    """

    def __init__(self, entries: Iterable[bytes] = ()) -> None:
        self._levels: list[list[bytes]] = [[]]
        for entry in entries:
            self.append(entry)

    def __len__(self) -> int:
        return len(self._levels[0])

    def append(self, entry: bytes) -> None:
        """Adds an entry at the end."""
        self._levels[0].append(leaf(entry))
        level = 0
        while len(self._levels[level]) % 2 == 0:
            if level + 1 == len(self._levels):
                self._levels.append([])
            self._levels[level + 1].append(_node(*self._levels[level][-2:]))
            level += 1

    def root(self, size: int | None = None) -> bytes:
        """The root over the first `size` entries; over all where no size is given."""
        count = self._within(len(self) if size is None else size)
        return self._root(0, count) if count else EMPTY

    def inclusion(self, number: int, size: int) -> list[bytes]:
        """The proof that entry `number`, from 0, is in the log of the first `size` entries."""
        if not 0 <= number < self._within(size):
            raise ValueError(f"entry {number} is not among the first {size}")
        proof, start, stop = [], 0, size
        while stop - start > 1:
            middle = start + _split(stop - start)
            if number < middle:
                proof.append(self._root(middle, stop))
                stop = middle
            else:
                proof.append(self._root(start, middle))
                start = middle
        return proof[::-1]

    def consistency(self, old: int, new: int) -> list[bytes]:
        """The proof that the first `new` entries begin with the first `old`; nothing to prove of 0, or of as many."""
        if not 0 <= old <= self._within(new):
            raise ValueError(f"{new} entries cannot begin with {old}")
        if old in (0, new):
            return []
        proof, start, stop, whole = [], 0, new, True
        while old != stop:
            middle = start + _split(stop - start)
            if old <= middle:
                proof.append(self._root(middle, stop))
                stop = middle
            else:
                proof.append(self._root(start, middle))
                start, whole = middle, False
        if not whole:
            proof.append(self._root(start, stop))
        return proof[::-1]

    def _within(self, size: int) -> int:
        if not 0 <= size <= len(self):
            raise ValueError(f"the log has {len(self)} entries, not {size}")
        return size

    def _root(self, start: int, stop: int) -> bytes:
        """The root of a stretch that the tree's recursion makes: complete subtrees are looked up."""
        count = stop - start
        if count & (count - 1) == 0:
            level = count.bit_length() - 1
            return self._levels[level][start >> level]
        middle = start + _split(count)
        return _node(self._root(start, middle), self._root(middle, stop))


def _split(count: int) -> int:
    """The largest power of two below `count`."""
    return 1 << ((count - 1).bit_length() - 1)


def verify_inclusion(entry: bytes, place: tuple[int, int], proof: Sequence[bytes], root: bytes) -> bool:
    """Whether an entry is in the log of that root.

    Args:
        entry: its bytes.
        place: its number from 0, and the size of the log.
        proof: hashes from the leaf upwards.
        root: of a log that the caller trusts.
    """
    number, last = place[0], place[1] - 1
    if not 0 <= number <= last:
        return False
    found = leaf(entry)
    for part in proof:
        if last == 0:
            return False
        if number & 1 or number == last:
            found = _node(part, found)
            while number and not number & 1:
                number, last = number >> 1, last >> 1
        else:
            found = _node(found, part)
        number, last = number >> 1, last >> 1
    return last == 0 and found == root


def verify_consistency(old: tuple[int, bytes], new: tuple[int, bytes], proof: Sequence[bytes]) -> bool:
    """Whether the log of one root begins with the log of another.

    Args:
        old: size and root that the caller holds.
        new: size and root that it is told.
        proof: hashes as `Tree.consistency` gives them.
    """
    (before, old_root), (after, new_root) = old, new
    if before == 0:
        return old_root == EMPTY and not proof and after >= 0
    if before == after:
        return old_root == new_root and not proof
    if not 0 < before < after or not proof:
        return False
    number, last, parts = before - 1, after - 1, list(proof)
    if before & (before - 1) == 0:
        parts.insert(0, old_root)
    while number & 1:
        number, last = number >> 1, last >> 1
    first = second = parts[0]
    for part in parts[1:]:
        if last == 0:
            return False
        if number & 1 or number == last:
            first, second = _node(part, first), _node(part, second)
            while number and not number & 1:
                number, last = number >> 1, last >> 1
        else:
            second = _node(second, part)
        number, last = number >> 1, last >> 1
    return last == 0 and (first, second) == (old_root, new_root)
