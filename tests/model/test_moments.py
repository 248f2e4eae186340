"""Proved sensitivity of the joint fit: one person's move of the matrix and of a gradient, in exact integers."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from model.contract import Contract, Feature
from model.encoding import Encoding
from model.inputs import InputError
from model.link import SCALE, STEPS, Link
from model.moments import LABEL, UNIT, BlockRows, Layout, smooth, symmetric, upper
from model.products import Product
from privacy.mechanisms import GaussianSum

Integers = NDArray[np.int64]
DERANDOMIZED = settings(derandomize=True, deadline=None, max_examples=60, database=None)
KINDS = {
    "numeric": lambda name, k, weight: Feature(name, "numeric", high=100.0, special=("-1", "-2")[:k], weight=weight),
    "few": lambda name, k, weight: Feature(name, "numeric", high=9.0, edges=(1.0, 2.5, 7.0)[: k + 1], weight=weight),
    "ordinal": lambda name, k, weight: Feature(name, "ordinal", values=tuple("abcdef"[: k + 2]), weight=weight),
    "categorical": lambda name, k, weight: Feature(name, "categorical", values=tuple("abc"[: k + 1]), weight=weight),
}
some_weights = st.one_of(st.sampled_from([1.0, 0.5, 1e-3]), st.floats(1e-6, 1.0))
some_features = st.tuples(st.sampled_from(sorted(KINDS)), st.integers(0, 2), some_weights)


@st.composite
def encodings(draw: st.DrawFn) -> Encoding:
    """One to four features of any kind and weight, with up to two products."""
    rows = draw(st.lists(some_features, min_size=1, max_size=4))
    features = tuple(KINDS[kind](f"f{i}", k, weight) for i, (kind, k, weight) in enumerate(rows))
    pairs = list(itertools.combinations([f.name for f in features], 2))
    chosen = draw(st.lists(st.sampled_from(pairs), unique=True, max_size=2)) if pairs else []
    products = tuple(Product(pair, draw(st.integers(1, 2)), weight=draw(some_weights)) for pair in chosen)
    return Encoding.of(Contract("payments", 1, features, products=products))


layouts = st.builds(
    lambda own, others: Layout(own, {f"d{i}": e for i, e in enumerate(others)}),
    st.none() | encodings(),
    st.lists(encodings(), min_size=1, max_size=3),
)
seeds = st.integers(0, 2**32 - 1)


def persons(layout: Layout, count: int, seed: int) -> Integers:
    """Rows of persons in bins drawn evenly, each at a partner or not; labels of every kind."""
    rng, columns = np.random.default_rng(seed), []
    for name, block in layout.blocks.items():
        codes = np.zeros((0, count), np.uint16)
        if block.encoding:
            drawn = [rng.integers(0, len(p.labels), count) for p in block.encoding.features]
            codes = block.encoding.with_products(np.array(drawn, np.uint16))
        rows = block.rows(codes, None if name else rng.choice([0, 1, -1, 127], count).astype(np.int8))
        if name:
            rows[rng.random(count) < 0.3] = 0
        columns.append(rows)
    return np.concatenate(columns, axis=1)


def square(values: Integers) -> int:
    """The exact sum of squares."""
    return sum(int(v) ** 2 for v in values)


def allowed(bound: float, size: int, unit: int) -> Fraction:
    """The square of what noise is made for, in steps, as an exact number."""
    return (Fraction(GaussianSum(bound, size, 1.0).sensitivity) * unit) ** 2


@DERANDOMIZED
@given(layouts, seeds)
def test_one_person_moves_the_matrix_by_no_more_than_its_proved_bound(layout: Layout, seed: int) -> None:
    rows = persons(layout, 12, seed)
    whole, rest = (upper(r.T @ r) for r in (rows, rows[1:]))
    moved = square(whole - rest)
    squares, fourths = (sum(getattr(b, of) for b in layout.blocks.values()) for of in ("squares", "fourths"))
    assert 2 * moved <= squares**2 + fourths
    assert moved <= allowed(layout.sensitivity, layout.size, UNIT**2)
    assert len(whole) == layout.size


@DERANDOMIZED
@given(layouts, seeds)
def test_no_row_is_longer_than_its_block_promises(layout: Layout, seed: int) -> None:
    rows = persons(layout, 40, seed)
    assert np.abs(rows).max() ** 2 <= layout.largest_square
    for name, block in layout.blocks.items():
        own = rows[:, layout.slices[name]].astype(object)
        assert (own**2).sum(axis=1).max() <= block.squares
        assert (own**4).sum(axis=1).max() <= block.fourths
        without = np.delete(own, 1, axis=1) if block.lender else own
        assert (without**2).sum(axis=1).max() <= block.squares_without_label <= block.squares


@pytest.mark.parametrize("own", [False, True])
def test_a_worst_row_attains_both_bounds(own: bool) -> None:
    """Else they could not be told from twice the bounds. Products' pairs are tied to features, so they stay below."""
    contract = Contract("payments", 1, (KINDS["numeric"]("a", 1, 1.0), KINDS["ordinal"]("b", 1, 0.7)))
    encoding = Encoding.of(contract)
    layout = Layout(encoding if own else None, {"payments": encoding, "shops": encoding})
    worst = {}
    for name, block in layout.blocks.items():
        bins = itertools.product(*(range(len(p.labels)) for p in block.encoding.parts)) if block.encoding else [()]
        codes = np.array(list(bins), np.uint16).T
        rows = block.rows(codes, None if name else np.ones(codes.shape[1], np.int8))
        worst[name] = rows[np.argmax((rows**2).sum(axis=1))]
    row = np.concatenate(list(worst.values()))
    assert 0.98 < math.sqrt(square(upper(np.outer(row, row)))) / UNIT**2 / layout.sensitivity <= 1 + 1e-12
    assert 0.98 < math.sqrt(square(np.delete(row, 1))) / UNIT / layout.row_norm <= 1 + 1e-12


@DERANDOMIZED
@given(layouts, seeds)
def test_an_absent_person_adds_exactly_nothing(layout: Layout, seed: int) -> None:
    rows = persons(layout, 9, seed)
    more = np.insert(rows, 4, 0, axis=0)
    assert np.array_equal(more.T @ more, rows.T @ rows)
    for name, block in layout.blocks.items():
        empty = np.zeros((len(block.bases), 0), np.uint16)
        assert block.rows(empty, None if name else np.zeros(0, np.int8)).shape == (0, block.width)


@st.composite
def links(draw: st.DrawFn) -> Link:
    """A link for up to four blocks, of means and spreads of any size."""
    names = ["", "d0", "d1", "d2"][: draw(st.integers(1, 4))]
    means = {name: draw(st.floats(-8.0, 8.0)) for name in names}
    return Link.of(means, {name: draw(st.floats(0.0, 3.0)) for name in names})


@DERANDOMIZED
@given(layouts, links(), seeds)
def test_one_person_moves_a_gradient_by_no_more_than_its_row(layout: Layout, link: Link, seed: int) -> None:
    """Whatever log-odds anybody has: parts keep to their limits, so each sum has its own place in the table."""
    assume(set(layout.blocks) >= set(link.limits))
    rng, rows = np.random.default_rng(seed), persons(layout, 8, seed)
    odds = {name: rng.choice([-1e30, -3.0, 0.0, 3.0, 1e30, np.nan], 8) for name in link.limits}
    sums = sum(link.part(name, values) for name, values in odds.items())
    residuals = link.table()[sums % STEPS] - rows[:, 1] * (SCALE // (LABEL * UNIT))
    assert np.abs(residuals).max() <= SCALE
    whole, rest = (np.delete(residuals[a:] @ rows[a:], 1) for a in (0, 1))
    moved = square(whole - rest)
    assert moved <= SCALE**2 * sum(block.squares_without_label for block in layout.blocks.values())
    assert moved <= allowed(layout.row_norm, layout.width - 1, UNIT * SCALE)


@DERANDOMIZED
@given(links())
def test_every_sum_of_parts_has_its_own_place_in_the_table(link: Link) -> None:
    table, last = link.table(), STEPS // 2
    for name, ends in link.limits.items():
        assert tuple(link.part(name, np.array([-1e9, 1e9]))) == ends
    least, most = (sum(ends[i] for ends in link.limits.values()) for i in (0, 1))
    assert -last <= least <= 0 <= most < last
    seen = table[np.arange(least, most + 1) % STEPS]
    assert (np.diff(seen) >= 0).all()
    assert 0 <= seen.min() <= seen.max() <= SCALE
    assert Link.from_dict(link.to_dict()) == link


@pytest.mark.parametrize("limits", [{"": (-65, 0)}, {"": (0, 64)}, {"": (-9, 40), "a": (0, 24)}, {"": (1, 2)}])
def test_limits_whose_sums_could_pass_the_table_are_refused(limits: dict[str, tuple[int, int]]) -> None:
    with pytest.raises(InputError, match="limits"):
        Link(0.0, limits, 0.1)


def test_a_triangle_and_its_matrix_are_each_others_inverse() -> None:
    rng = np.random.default_rng(1)
    whole = rng.standard_normal((5, 5))
    whole += whole.T
    assert np.array_equal(symmetric(upper(whole), 5), whole)


def test_an_ordered_features_rows_are_of_about_one_length() -> None:
    for bins in (2, 5, 24):
        lengths = np.linalg.norm(smooth(bins), axis=1)
        assert 0.6 < lengths.min() <= lengths.max() <= 1 + 1e-12
    assert smooth(1).shape == (1, 0)


def test_a_label_that_is_not_1_counts_as_0() -> None:
    rows = BlockRows(None, True).rows(np.zeros((0, 4), np.uint16), np.array([0, 1, -1, 127], np.int8))
    assert rows.tolist() == [[UNIT, 0], [UNIT, LABEL * UNIT], [UNIT, 0], [UNIT, 0]]
