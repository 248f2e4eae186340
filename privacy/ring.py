"""Exact arithmetic modulo 2^64: products of matrices, and signed integers as ring elements."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]
Integers = NDArray[np.int64]

_BITS = 22  # three limbs hold 66 bits
_HALF, _MASK = 2 ** (_BITS - 1), 2**_BITS - 1
_ROWS = 2**53 // _HALF**2  # 2048: no partial sum leaves the integers that a double holds exactly


def product(a: Words, b: Words) -> Words:
    """a^T b modulo 2^64, exactly.

    numpy multiplies integers without BLAS. So each word becomes three signed limbs of 22 bits, and the six pairs of
    limbs that reach below bit 64 are multiplied as doubles, in slices of rows so short that every sum is exact.

    Args:
        a: shape (n, c).
        b: shape (n, d).

    Returns:
        Shape (c, d). Raises `ValueError` where the rows differ.

    >>> a = np.array([[2**64 - 1], [3]], dtype=np.uint64)
    >>> product(a, a)
    array([[10]], dtype=uint64)
    """
    if a.ndim != 2 or b.ndim != 2 or len(a) != len(b):
        raise ValueError(f"a product needs two matrices of as many rows, got shapes {a.shape} and {b.shape}")
    total = np.zeros((a.shape[1], b.shape[1]), dtype=np.uint64)
    for start in range(0, len(a), _ROWS):
        left, right = (_limbs(x[start : start + _ROWS]) for x in (a, b))
        for i in range(3):
            for j in range(3 - i):
                total += to_ring((left[i].T @ right[j]).astype(np.int64)) << np.uint64(_BITS * (i + j))
    return total


def _limbs(words: Words) -> list[NDArray[np.float64]]:
    """Three matrices with `words` = l0 + 2^22 l1 + 2^44 l2 modulo 2^64, each |l| <= 2^21."""
    rest = from_ring(words)
    limbs = []
    for _ in range(2):
        low = ((rest + _HALF) & _MASK) - _HALF
        limbs.append(low.astype(np.float64))
        rest = (rest - low) >> _BITS
    return [*limbs, rest.astype(np.float64)]


def to_ring(values: Integers) -> Words:
    """Signed integers as ring elements (two's complement).

    >>> to_ring(np.array([-1, 5]))
    array([18446744073709551615,                    5], dtype=uint64)
    """
    return np.asarray(values, dtype=np.int64).view(np.uint64)


def from_ring(words: Words) -> Integers:
    """Ring elements as signed integers in [-2^63, 2^63); refuses no value, so a sum must stay in this range.

    >>> from_ring(to_ring(np.array([-7, 2**62]))).tolist() == [-7, 2**62]
    True
    """
    return np.asarray(words, dtype=np.uint64).view(np.int64)


def largest_persons(row_square: int) -> int:
    """How many persons fit: no entry of their sum of products reaches 2^62, which leaves one bit to the noise.

    Args:
        row_square: the largest sum of squares of one person's row, in grid steps squared, >= 1. It bounds every
            product of two of the row's entries too.

    >>> largest_persons(2**30) == 2**32 - 1
    True
    """
    if row_square < 1:
        raise ValueError(f"row_square must be >= 1 (grid steps squared), got {row_square}")
    return int((2**62 - 1) // row_square)
