"""Products modulo 2^64 against Python's own integers, on the values that would break limbs or rounding."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.ring import Words, from_ring, largest_persons, product, to_ring

DERANDOMIZED = settings(derandomize=True, deadline=None, max_examples=60, database=None)
LIMB = 2**21  # where a signed limb of 22 bits is largest
EXTREMES = [
    *(0, 1, 2**63 - 1, 2**63, 2**64 - 1),
    *(LIMB - 1, LIMB, LIMB * 2**22, LIMB * 2**44 % 2**64, LIMB * (1 + 2**22), -LIMB * (1 + 2**22) % 2**64),
]


def by_hand(a: Words, b: Words) -> list[list[int]]:
    """a^T b in Python's unbounded integers, modulo 2^64."""
    left, right = a.T.tolist(), b.T.tolist()
    return [[sum(x * y for x, y in zip(u, v, strict=True)) % 2**64 for v in right] for u in left]


@DERANDOMIZED
@given(st.integers(0, 9), st.integers(0, 4), st.integers(0, 4), st.data())
def test_a_product_is_exact_for_any_words(rows: int, left: int, right: int, data: st.DataObject) -> None:
    word = st.integers(0, 2**64 - 1) | st.sampled_from(EXTREMES)
    a, b = (
        np.array(data.draw(st.lists(word, min_size=rows * c, max_size=rows * c)), dtype=np.uint64).reshape(rows, c)
        for c in (left, right)
    )
    assert product(a, b).shape == (left, right)
    assert product(a, b).tolist() == by_hand(a, b)


@pytest.mark.parametrize("rows", [1, 2047, 2048, 2049, 5000])
def test_long_columns_of_extreme_words_stay_exact(rows: int) -> None:
    """Columns of one value make every partial sum as large as it can be: 2^53 within one slice."""
    words = np.tile(np.array(EXTREMES, dtype=np.uint64), (rows, 1))
    assert product(words, words).tolist() == by_hand(words, words)


def test_a_product_of_random_words_equals_numpys_slow_one() -> None:
    a, b = (np.random.default_rng(3).integers(0, 2**64, (4100, c), dtype=np.uint64) for c in (7, 5))
    assert np.array_equal(product(a, b), a.T @ b)
    assert np.array_equal(product(a[::2, ::-1], b[::2]), a[::2, ::-1].T @ b[::2])  # views too


@pytest.mark.parametrize("shapes", [((3, 2), (4, 2)), ((3,), (3, 1)), ((3, 1), (3,))])
def test_matrices_that_do_not_fit_are_refused(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    with pytest.raises(ValueError, match="as many rows"):
        product(np.zeros(shapes[0], dtype=np.uint64), np.zeros(shapes[1], dtype=np.uint64))


def test_signed_integers_come_back() -> None:
    values = np.array([0, 1, -1, 2**63 - 1, -(2**63)])
    assert from_ring(to_ring(values)).tolist() == values.tolist()
    assert to_ring(values).tolist() == [v % 2**64 for v in values.tolist()]


@pytest.mark.parametrize("row_square", [1, 3, 2**20, 2**40 + 1, 2**62 - 1, 2**62])
def test_the_persons_that_fit_leave_one_bit_and_one_more_would_not(row_square: int) -> None:
    persons = largest_persons(row_square)
    assert persons * row_square < 2**62 <= (persons + 1) * row_square
    assert math.log2(max(persons, 1)) <= 62


def test_rows_without_a_size_are_refused() -> None:
    with pytest.raises(ValueError, match=r"row_square must be >= 1 .* got 0"):
        largest_persons(0)
