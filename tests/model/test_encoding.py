"""The public encoding: bins in closed form, rows bounded for any contract, and passes equal to the dense product."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.contract import DIRECTIONS, SCALES, Contract, Feature
from model.encoding import BINS, FREQUENCIES, LOG_DECADES, MAX_CELLS, Codes, Encoding, FeatureBins, feature_edges

DERANDOMIZED = settings(derandomize=True, deadline=None, max_examples=80, database=None)
TIGHT = 1e-12  # rounding of float64 in a norm


@st.composite
def features(draw: st.DrawFn, name: str = "f") -> Feature:
    kind = draw(st.sampled_from(["numeric", "ordinal", "categorical", "flag"]))
    direction = draw(st.sampled_from(["", *DIRECTIONS]))
    if kind == "flag":
        return Feature(name, kind, values=("0", "1"), direction=direction)
    if kind != "numeric":
        values = tuple(f"v{i}" for i in range(draw(st.integers(1, 40))))
        special = values[: draw(st.integers(0, min(2, len(values))))] if kind == "ordinal" else ()
        return Feature(name, kind, values=values, special=special, direction=direction)
    scale = draw(st.sampled_from(SCALES))
    low = draw(st.sampled_from([0.0, 0.5, 1.0, 300.0] if scale == "log" else [-1e6, -3.5, 0.0, 2.0, 50.0]))
    high = low + draw(st.sampled_from([1e-3, 1.0, 24.0, 1e7]))
    edges = draw(st.sampled_from([(), (low + (high - low) / 2,), tuple(np.linspace(low, high, 70)[1:-1].tolist())]))
    special = draw(st.sampled_from([(), ("-1",), ("-1", "999999999")]))
    return Feature(name, "numeric", low=low, high=high, scale=scale, edges=edges, special=special)


@st.composite
def encodings(draw: st.DrawFn, most: int = 6) -> Encoding:
    count = draw(st.integers(1, most))
    return Encoding.of(Contract("payments", 1, tuple(draw(features(f"f{i}")) for i in range(count))))


def some_codes(encoding: Encoding, persons: int, seed: int) -> Codes:
    rng = np.random.default_rng(seed)
    rows = [rng.integers(0, len(p.labels), persons) for p in encoding.parts]
    return np.array(rows, dtype=np.uint16).reshape(len(encoding.parts), persons)


def bins(kind: str = "numeric", **more: object) -> FeatureBins:
    return FeatureBins.of(Feature("f", kind, **more))  # type: ignore[arg-type]


def codes(part: FeatureBins, *values: float) -> list[int]:
    return part.codes_of_numbers(np.array(values)).tolist()


# --- bounds


@DERANDOMIZED
@given(feature=features())
def test_every_basis_row_has_norm_at_most_one(feature: Feature) -> None:
    part = FeatureBins.of(feature)
    norms = np.linalg.norm(part.basis, axis=1)
    assert part.basis.shape[0] == len(part.labels)
    assert norms.max() == pytest.approx(1.0, abs=TIGHT)  # at most, and the indicators use it up
    assert norms[: part.ordered].max(initial=0.0) <= 1 + TIGHT


@DERANDOMIZED
@given(encoding=encodings(), seed=st.integers(0, 999))
def test_an_encoded_person_has_at_most_the_row_norm(encoding: Encoding, seed: int) -> None:
    matrix = encoding.matrix(some_codes(encoding, 50, seed))
    assert matrix.shape == (50, encoding.columns)
    assert np.linalg.norm(matrix, axis=1).max() <= encoding.row_norm * (1 + TIGHT)
    missing = np.array([[p.missing] for p in encoding.parts], dtype=np.uint16)
    assert np.linalg.norm(encoding.matrix(missing)) == pytest.approx(encoding.row_norm)


def test_the_row_norm_is_the_root_of_features_and_constant() -> None:
    encoding = Encoding.of(Contract("d", 1, tuple(Feature(n, "flag", values=("0", "1")) for n in "abc")))
    assert encoding.row_norm == 2.0


def test_ordered_bins_have_damped_orthogonal_cosines() -> None:
    basis = bins(low=0.0, high=1.0).basis[:BINS, :FREQUENCIES]
    products = basis.T @ basis
    lengths = np.sqrt(np.diag(products))
    assert np.abs(products - np.diag(np.diag(products))).max() < 1e-12
    assert lengths[0] / lengths == pytest.approx(np.arange(1, FREQUENCIES + 1))
    assert np.abs(basis.sum(axis=0)).max() < 1e-12  # orthogonal to the constant


def test_indicator_columns_touch_nothing_else() -> None:
    part = bins(low=0.0, high=1.0, special=("-1", "-2"))
    extra = part.basis[part.ordered :]
    assert np.array_equal(extra[:, FREQUENCIES:], np.eye(3))
    assert not extra[:, :FREQUENCIES].any()
    assert not part.basis[: part.ordered, FREQUENCIES:].any()


# --- passes over persons


@DERANDOMIZED
@given(encoding=encodings(), seed=st.integers(0, 999))
def test_packed_passes_equal_the_dense_product(encoding: Encoding, seed: int) -> None:
    rng, rows = np.random.default_rng(seed), some_codes(encoding, 60, seed)
    matrix, weights, residuals = encoding.matrix(rows), rng.standard_normal(encoding.columns), rng.standard_normal(60)
    constant, points = encoding.points(weights)
    packed = encoding.packed(rows)
    assert np.abs(encoding.gather(packed, constant, points) - matrix @ weights).max() < 1e-9
    assert np.abs(encoding.scatter(packed, residuals) - matrix.T @ residuals).max() < 1e-9


@pytest.mark.parametrize("count", [1, 2, 3, 4, 9, 30])
def test_more_features_than_fit_in_a_group_are_split_into_groups(count: int) -> None:
    encoding = Encoding.of(Contract("d", 1, tuple(Feature(f"f{i}", "numeric", high=1.0) for i in range(count))))
    rows = some_codes(encoding, 40, count)
    packed = encoding.packed(rows)
    each = BINS + 1
    at_once = math.floor(math.log(MAX_CELLS, each))
    assert [len(f) for _, f in packed.groups] == [at_once] * (count // at_once) + [count % at_once] * (
        count % at_once > 0
    )
    rng = np.random.default_rng(count)
    weights, residuals, matrix = rng.standard_normal(encoding.columns), rng.standard_normal(40), encoding.matrix(rows)
    assert np.abs(encoding.gather(packed, *encoding.points(weights)) - matrix @ weights).max() < 1e-9
    assert np.abs(encoding.scatter(packed, residuals) - matrix.T @ residuals).max() < 1e-9


def test_a_feature_with_more_bins_than_a_group_has_cells_stands_alone() -> None:
    values = tuple(str(i) for i in range(MAX_CELLS + 5))
    parts = (Feature("a", "flag"), Feature("b", "ordinal", values=values), Feature("c", "flag"))
    encoding = Encoding.of(Contract("d", 1, parts))
    rows = np.array([[0, 1], [3, MAX_CELLS + 6], [1, 0]], dtype=np.uint16)
    packed = encoding.packed(rows)
    assert [f for _, f in packed.groups] == [(0,), (1,), (2,)]
    weights = np.random.default_rng(0).standard_normal(encoding.columns)
    dense = encoding.matrix(rows) @ weights
    assert np.abs(encoding.gather(packed, *encoding.points(weights)) - dense).max() < 1e-9


def test_nobody_sums_to_zero() -> None:
    encoding = Encoding.of(Contract("d", 1, (Feature("a", "numeric", high=1.0), Feature("b", "flag"))))
    packed = encoding.packed(np.zeros((2, 0), dtype=np.uint16))
    assert encoding.gather(packed, 1.0, np.ones(int(encoding.offsets[-1]))).shape == (0,)
    assert encoding.scatter(packed, np.zeros(0)).tolist() == [0.0] * encoding.columns


# --- bins


def test_linear_edges_are_equally_far_apart() -> None:
    edges = feature_edges(Feature("f", "numeric", low=-2.0, high=10.0))
    assert len(edges) == BINS - 1
    assert np.concatenate([[-2.0], edges, [10.0]]) == pytest.approx(np.linspace(-2.0, 10.0, BINS + 1))


def test_log_edges_have_equal_ratios() -> None:
    edges = feature_edges(Feature("f", "numeric", low=1.0, high=1e4, scale="log"))
    assert len(edges) == BINS - 1
    assert edges[1:] / edges[:-1] == pytest.approx(10 ** (4 / BINS))
    assert edges[0] == pytest.approx(10 ** (4 / BINS))


def test_zero_on_a_log_scale_has_a_bin_below_the_four_decades() -> None:
    part = bins(low=0.0, high=1e6, scale="log")
    assert part.ordered == BINS + 2
    bottom = 1e6 * 10.0**-LOG_DECADES
    assert feature_edges(part.feature)[1] == pytest.approx(bottom)
    assert codes(part, 0.0, bottom * 0.999, bottom * 1.001, 1e6) == [0, 1, 2, BINS + 1]


def test_zero_on_a_log_scale_has_a_bin_of_its_own() -> None:
    zero, ten = codes(bins(low=0.0, high=1e6, scale="log"), 0.0, 10.0)
    assert zero != ten


def test_signed_log_edges_mirror_each_other_and_keep_to_the_range() -> None:
    both = feature_edges(Feature("f", "numeric", low=-1e4, high=1e4, scale="signed-log"))
    assert both == pytest.approx(-both[::-1])
    assert both.max() < 1e4
    assert both[both > 0].min() == pytest.approx(1.0)
    positive = feature_edges(Feature("f", "numeric", low=0.0, high=1e4, scale="signed-log"))
    assert positive == pytest.approx(both[both > 0])


@DERANDOMIZED
@given(feature=features().filter(lambda f: f.kind == "numeric"), seed=st.integers(0, 99))
def test_a_bin_holds_its_left_edge_and_not_its_right_one(feature: Feature, seed: int) -> None:
    part, edges = FeatureBins.of(feature), feature_edges(feature)
    assert (np.diff(edges) > 0).all()
    assert codes(part, *edges) == list(range(1, len(edges) + 1))
    below = np.nextafter(edges, -np.inf)
    assert codes(part, *below[below >= feature.low]) == np.flatnonzero(below >= feature.low).tolist()
    values = np.random.default_rng(seed).uniform(feature.low, feature.high, 30)
    assert codes(part, *values) == [int((edges <= v).sum()) for v in values]


def test_values_outside_the_range_and_infinities_are_clamped() -> None:
    part = bins(low=0.0, high=10.0)
    assert codes(part, -5.0, -np.inf, 0.0, 10.0, 11.0, np.inf) == [0, 0, 0, 23, 23, 23]


def test_special_codes_and_missing_have_bins_of_their_own() -> None:
    part = bins(low=0.0, high=10.0, special=("-1", "98.5", "3"))
    assert part.labels[-4:] == ("-1", "98.5", "3", "missing")
    assert codes(part, -1.0, 98.5, 3.0, np.nan, -1.5, 3.01) == [24, 25, 26, 27, 0, 7]
    assert part.missing == 27


def test_given_edges_are_used_as_they_are() -> None:
    part = bins(low=0.0, high=10.0, scale="log", edges=(1.0, 5.0))
    assert part.ordered == 3
    assert part.labels == ("0 to 1", "1 to 5", "5 to 10", "missing")
    assert codes(part, 0.5, 1.0, 4.9, 5.0) == [0, 1, 1, 2]


def test_ordinal_values_keep_the_contracts_order_and_specials_leave_it() -> None:
    part = bins("ordinal", values=("good", "fair", "refused", "bad"), special=("refused",))
    assert part.labels == ("good", "fair", "bad", "refused", "other", "missing")
    assert part.ordered == 3
    assert part.codes_of_texts() == {"good": 0, "fair": 1, "bad": 2, "refused": 3}
    assert (part.other, part.missing) == (4, 5)
    assert (np.diff(part.basis[:3, 0]) < 0).all()  # the slowest cosine falls along the order


def test_categories_are_indicators_with_other_and_missing_last() -> None:
    part = bins("categorical", values=("b", "a"))
    assert part.labels == ("b", "a", "other", "missing")
    assert np.array_equal(part.basis, np.eye(4))
    assert part.codes_of_texts() == {"b": 0, "a": 1}


def test_weights_are_laid_out_constant_first_then_feature_by_feature() -> None:
    parts = (Feature("a", "flag", values=("0", "1")), Feature("b", "categorical", values=("x",)))
    encoding = Encoding.of(Contract("d", 1, parts))
    constant, points = encoding.points(np.arange(8.0))
    assert (constant, points.tolist(), encoding.offsets.tolist()) == (0.0, [1, 2, 3, 4, 5, 6, 7], [0, 4, 7])
