"""The parts of declared products: pairs of bins, rows that keep the bound, and all that is built on them."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model import scorecard
from model.averages import families_of
from model.blocks import Block
from model.contract import Contract, Feature
from model.descent import sigmoid
from model.encoding import Codes, Encoding
from model.products import Product

DERANDOMIZED = settings(derandomize=True, deadline=None, max_examples=60, database=None)
AMOUNT = Feature("amt", "numeric", high=100.0, special=("-1",), group="money")
GRADE = Feature("grade", "ordinal", values=("a", "b", "c"))
HOME = Feature("home", "categorical", values=("own", "rent"), group="person")
PLAIN = Contract("payments", 1, (AMOUNT, GRADE))
ENCODING = Encoding.of(
    Contract(
        "payments",
        1,
        (AMOUNT, GRADE, HOME),
        products=(Product(("grade", "amt"), 2, "debt"), Product(("amt", "home"), 1, "money")),
    )
)


def drawn(encoding: Encoding, persons: int, seed: int) -> Codes:
    """Bins of all parts, each feature's drawn evenly."""
    rng = np.random.default_rng(seed)
    return encoding.with_products(
        np.array([rng.integers(0, len(p.labels), persons) for p in encoding.features], dtype=np.uint16)
    )


# --- the parts


@st.composite
def crossed(draw: st.DrawFn) -> Encoding:
    """An encoding of two to four features of any kind, with any of their pairs as products."""
    kinds = draw(
        st.lists(st.sampled_from(["numeric", "edges", "ordinal", "flag", "categorical"]), min_size=2, max_size=4)
    )
    special = draw(st.sampled_from([(), ("-1",), ("-1", "-2")]))
    values = tuple(f"v{i}" for i in range(draw(st.integers(2, 6))))
    features = []
    for i, kind in enumerate(kinds):
        more: dict[str, Any] = {"values": values}
        if kind in ("numeric", "edges"):
            more = {"high": 100.0, "special": special, "edges": (5.0,) if kind == "edges" else ()}
        elif kind == "ordinal":
            more["special"] = values[: draw(st.integers(0, 1))] if len(values) > 2 else ()
        features.append(Feature(f"f{i}", "numeric" if kind == "edges" else kind, **more))
    pairs = draw(st.lists(st.sampled_from(list(combinations([f.name for f in features], 2))), min_size=1, unique=True))
    degree = draw(st.sampled_from([1, 2]))
    return Encoding.of(Contract("d", 1, tuple(features), products=tuple(Product(p, degree) for p in pairs)))


@DERANDOMIZED
@given(encoding=crossed(), seed=st.integers(0, 999))
def test_a_products_row_is_the_outer_product_of_two_rows_of_norm_at_most_one(encoding: Encoding, seed: int) -> None:
    codes, degree = drawn(encoding, 40, seed), encoding.contract.products[0].degree
    row = {part.feature.name: codes[i] for i, part in enumerate(encoding.features)}
    for part, pairs in zip(encoding.parts[len(row) :], codes[len(row) :], strict=True):
        assert part.factors is not None
        (first, second), (a, b) = part.factors, (row[f.feature.name] for f in part.factors)
        assert np.linalg.norm(part.basis, axis=1).max() <= 1 + 1e-12
        left, right = first.reduced(degree)[a], second.reduced(degree)[b]
        assert part.basis[pairs] == pytest.approx((left[:, :, None] * right[:, None, :]).reshape(40, -1))
        for i, pair in enumerate(pairs):
            assert part.labels[pair] == f"{first.labels[a[i]]}, {second.labels[b[i]]}"
    assert np.linalg.norm(encoding.matrix(codes), axis=1).max() <= encoding.row_norm * (1 + 1e-12)
    largest = [np.square(part.basis).sum(axis=1).max() for part in encoding.parts]
    assert encoding.row_norm**2 == pytest.approx(1 + sum(largest), rel=1e-8)
    assert encoding.row_norm <= np.sqrt(len(encoding.parts) + 1)


def test_the_slowest_curves_special_codes_and_values_take_part_other_and_missing_do_not() -> None:
    amount, grade, home = ENCODING.features
    assert [part.reduced(1).shape[1] for part in (amount, grade, home)] == [2, 1, 2]
    assert [part.reduced(2).shape[1] for part in (amount, grade, home)] == [3, 2, 2]
    assert np.array_equal(amount.reduced(2)[:, :2], amount.basis[:, :2])
    assert amount.reduced(1)[amount.ordered].tolist() == [0.0, 1.0]  # -1
    for part in (grade, home):
        assert not part.reduced(2)[part.other].any()
    for part in (amount, grade, home):
        assert part.extra == len(part.labels) - part.ordered
        assert not part.reduced(2)[part.missing].any()


def test_a_product_says_what_it_is() -> None:
    part = ENCODING.parts[3]
    assert (part.feature.name, part.feature.kind, part.feature.group) == ("grade x amt", "product", "debt")
    assert part.factors == (ENCODING.parts[1], ENCODING.parts[0])
    assert (part.degree, part.ordered, part.feature.direction, part.feature.private) == (2, 0, "", False)
    assert part.labels[part.missing] == "missing, missing"
    assert all(p.factors is None and p.degree == 0 for p in ENCODING.features)
    assert families_of(ENCODING) == ("debt", "money", "other", "person")


def test_without_products_the_codes_are_the_features_own() -> None:
    codes = np.array([[0, 3], [1, 2]], dtype=np.uint16)
    assert Encoding.of(PLAIN).with_products(codes) is codes


def test_the_last_pair_of_the_largest_product_has_its_code() -> None:
    names = [Feature(n, "numeric", high=1e3, edges=tuple(range(1, 254))) for n in "ab"]
    encoding = Encoding.of(Contract("d", 1, tuple(names), products=(Product(("a", "b")),)))
    last = encoding.with_products(np.array([[254], [254]], dtype=np.uint16))
    assert last.dtype == np.uint16
    assert last[2, 0] == 255 * 255 - 1


# --- what is built on them


@DERANDOMIZED
@given(encoding=crossed(), seed=st.integers(0, 999))
def test_packed_passes_equal_the_dense_product(encoding: Encoding, seed: int) -> None:
    rng, codes = np.random.default_rng(seed), drawn(encoding, 50, seed)
    matrix, weights, residuals = encoding.matrix(codes), rng.standard_normal(encoding.columns), rng.standard_normal(50)
    packed = encoding.packed(codes)
    assert np.abs(encoding.gather(packed, *encoding.points(weights)) - matrix @ weights).max() < 1e-9
    assert np.abs(encoding.scatter(packed, residuals) - matrix.T @ residuals).max() < 1e-9


@DERANDOMIZED
@given(encoding=crossed(), seed=st.integers(0, 999), scale=st.sampled_from([0.0, 1.0, 1e3]), who=st.integers(0, 19))
def test_leaving_out_one_person_moves_the_gradient_by_at_most_the_row_norm(
    encoding: Encoding, seed: int, scale: float, who: int
) -> None:
    codes, rng = drawn(encoding, 20, seed), np.random.default_rng(seed)
    labels, weights = rng.integers(0, 2, 20).astype(np.float64), scale * rng.standard_normal(encoding.columns)
    kept = np.arange(20) != who
    gradient = scorecard.gradient_sum(encoding, codes, labels)(weights)
    without = scorecard.gradient_sum(encoding, codes[:, kept], labels[kept])(weights)
    assert np.linalg.norm(gradient - without) <= encoding.row_norm * (1 + 1e-9)
    row = encoding.matrix(codes)[who]
    assert gradient - without == pytest.approx((sigmoid(row @ weights) - labels[who]) * row, abs=1e-9)


def test_a_person_with_special_codes_everywhere_reaches_the_bound() -> None:
    flags = tuple(Feature(n, "flag", values=("0", "1")) for n in "ab")
    encoding = Encoding.of(Contract("d", 1, flags, products=(Product(("a", "b")),)))
    codes = encoding.with_products(np.ones((2, 1), dtype=np.uint16))
    assert np.linalg.norm(encoding.matrix(codes)) == pytest.approx(encoding.row_norm) == 2.0


def test_a_products_part_of_the_sub_score_counts_for_its_own_family() -> None:
    codes, rng = drawn(ENCODING, 30, 1), np.random.default_rng(1)
    block = Block.finished("scorecard", ENCODING, rng.standard_normal(ENCODING.columns))
    parts = block.by_group(codes)
    assert sorted(parts) == list(families_of(ENCODING))
    assert block.weights[0] + sum(parts.values()) == pytest.approx(block.subscores(codes))
    first = int(ENCODING.offsets[3])
    assert parts["debt"] == pytest.approx(block.weights[1 + first :][codes[3]])
