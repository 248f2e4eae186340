"""Aligning persons by keyed tokens, as simulations do: `privacy.matching` is what a deployment takes.

The lender hands every holder a key and the tokens of its cohort, in order. A token hides an id from a casual look
only: a holder of the key can test a guess. Tokens are 64 bits; among n persons two collide with probability n^2/2^65.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray


def tokens(ids: Iterable[str], key: bytes) -> NDArray[np.uint64]:
    """One 64-bit keyed token an id, in order.

    >>> [bool(tokens(["7"], b"k") == tokens(["7"], key)) for key in (b"k", b"other")]
    [True, False]
    """
    digests = b"".join(hashlib.blake2b(i.encode(), key=key, digest_size=8).digest() for i in ids)
    return np.frombuffer(digests, dtype=np.uint64)


def positions(cohort: NDArray[np.uint64], own: NDArray[np.uint64]) -> NDArray[np.int64]:
    """For each person of the cohort its row in `own`, or -1 where absent. `own` has no duplicates.

    Promise: no row is used twice, whatever the cohort repeats; else one person would weigh as many.

    >>> positions(np.array([5, 9, 2, 5], dtype=np.uint64), np.array([2, 5], dtype=np.uint64))
    array([ 1, -1,  0, -1])
    """
    if len(own) == 0:
        return np.full(len(cohort), -1, dtype=np.int64)
    order = np.argsort(own)
    at = np.minimum(np.searchsorted(own, cohort, sorter=order), len(own) - 1)
    rows = order[at]
    found = np.where(own[rows] == cohort, rows, -1).astype(np.int64)
    used, first = np.unique(found, return_index=True)
    once = np.full(len(cohort), -1, dtype=np.int64)
    once[first] = used
    return once


def hash_fraction(ids: Iterable[str], salt: str) -> NDArray[np.float64]:
    """A number in [0, 1] for each id, fixed by id and salt: for splits that must not depend on order."""
    return tokens(ids, salt.encode()[:64]).astype(np.float64) / 2.0**64


def homes(ids: Iterable[str], holders: Sequence[str], present: NDArray[np.bool_], key: bytes) -> NDArray[np.int64]:
    """For each person the index of its home among the holders that have it, or -1 where nobody has.

    Promise: one home a person, which does not change when another holder comes to lack the person, or leaves. The home
    has the smallest keyed hash (rendezvous hashing), so that homes fall evenly.

    Args:
        ids: n persons.
        holders: names of k holders.
        present: who has whom, shape (k, n).
        key: the chooser's secret.
    """
    key = hashlib.blake2b(key, digest_size=32).digest()
    persons = list(ids)
    rank = np.full(present.shape, np.inf)
    for row, holder in enumerate(holders):
        there = np.flatnonzero(present[row])
        rank[row, there] = tokens((f"{holder}\0{persons[i]}" for i in there), key)
    home = np.argmin(rank, axis=0)
    return np.where(present.any(axis=0), home, -1).astype(np.int64)
