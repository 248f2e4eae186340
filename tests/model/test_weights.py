"""Weights of features and products: read strictly, hashed, and rows that keep a smaller bound; wide products."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model import scorecard
from model.contract import Contract, Feature, load_contract
from model.encoding import MAX_CELLS, Encoding
from model.inputs import InputError
from model.moments import UNIT, Layout, basis_of
from model.products import Product

DERANDOMIZED = settings(derandomize=True, deadline=None, max_examples=60, database=None)
AMOUNT = Feature("amt", "numeric", high=100.0, special=("-1",))
GRADE = Feature("grade", "ordinal", values=("a", "b", "c"))
SPEND = Feature("spend", "numeric", high=1e6, scale="log")
PRODUCTS = (Product(("amt", "grade"), 2), Product(("spend", "grade")))
PLAIN = Contract("payments", 1, (AMOUNT, GRADE, SPEND), products=PRODUCTS)

STATES = tuple(f"s{i}" for i in range(51))

TEXT = (
    'domain = "payments"\n[[feature]]\nname = "amt"\nkind = "numeric"\nrange = [0, 100]\n{feature}\n'
    '[[feature]]\nname = "late"\nkind = "flag"\n[[product]]\nof = ["amt", "late"]\n{product}\n'
)


def loaded(folder: Path, feature: str = "", product: str = "") -> Contract:
    path = folder / "payments.contract.toml"
    path.write_text(TEXT.format(feature=feature, product=product), encoding="utf-8")
    return load_contract(path)


def weighted(contract: Contract, features: list[float], products: list[float]) -> Contract:
    """The contract with these weights."""
    return replace(
        contract,
        features=tuple(replace(f, weight=w) for f, w in zip(contract.features, features, strict=True)),
        products=tuple(replace(p, weight=w) for p, w in zip(contract.products, products, strict=True)),
    )


some_weights = st.one_of(st.sampled_from([1.0, 0.9, 0.5, 1e-3]), st.floats(1e-9, 1.0))
weights = st.builds(
    lambda f, p: weighted(PLAIN, f, p),
    st.lists(some_weights, min_size=3, max_size=3),
    st.lists(some_weights, min_size=2, max_size=2),
)


# --- the file


def test_a_weight_is_read_and_is_one_by_default(tmp_path: Path) -> None:
    plain = loaded(tmp_path)
    assert [*(f.weight for f in plain.features), plain.products[0].weight] == [1.0, 1.0, 1.0]
    assert loaded(tmp_path, "weight = 1", "weight = 1.0") == plain
    told = loaded(tmp_path, "weight = 0.64", "weight = 0.5")
    assert [*(f.weight for f in told.features), told.products[0].weight] == [0.64, 1.0, 0.5]


@pytest.mark.parametrize("value", ["0", "-0.5", "1.01", "2", "nan", "inf", "true", '"0.5"', "[0.5]"])
def test_any_other_weight_is_refused_in_one_line(tmp_path: Path, value: str) -> None:
    line = f"weight = {value}"
    for field, texts in (("feature.amt.weight", (line, "")), ("product.amt x late.weight", ("", line))):
        with pytest.raises(InputError, match="must be a number above 0, at most 1, got") as refused:
            loaded(tmp_path, *texts)
        assert refused.value.field == field
        assert "\n" not in str(refused.value)


def test_a_weight_of_one_keeps_the_old_hash_and_another_counts(tmp_path: Path) -> None:
    plain, told = loaded(tmp_path), [loaded(tmp_path, "weight = 0.9"), loaded(tmp_path, "", "weight = 0.9")]
    assert "weight" not in json.dumps(plain.to_dict())
    assert len({contract.sha256 for contract in (plain, *told)}) == 3
    for contract in (plain, *told):
        again = Contract.from_dict(json.loads(json.dumps(contract.to_dict())))
        assert again == contract
        assert again.sha256 == contract.sha256


@pytest.mark.parametrize("place", ["features", "products"])
def test_a_weight_that_another_holder_made_up_is_refused(place: str) -> None:
    data = PLAIN.to_dict()
    data[place][0]["weight"] = 3.0
    with pytest.raises(InputError, match=r"weight must be a number above 0, at most 1, got 3\.0"):
        Contract.from_dict(data)


# --- the rows


@DERANDOMIZED
@given(contract=weights)
def test_no_row_is_longer_than_the_row_norm_in_exact_numbers(contract: Contract) -> None:
    encoding = Encoding.of(contract)
    sizes = [max(sum(Fraction(x) ** 2 for x in row.tolist()) for row in part.basis) for part in encoding.parts]
    cap = 1 + len(encoding.parts)
    assert min(1 + sum(sizes), cap) <= Fraction(encoding.row_norm) ** 2 * (1 + Fraction(1, 2**52))
    assert encoding.row_norm**2 == pytest.approx(float(1 + sum(sizes)), rel=1e-8)
    assert encoding.row_norm <= np.sqrt(cap)


def test_weights_of_one_change_nothing_and_smaller_ones_cost_less_noise() -> None:
    plain = Encoding.of(replace(PLAIN, products=()))
    assert plain.row_norm == 2.0
    light = Encoding.of(weighted(plain.contract, [1.0, 0.5, 0.1], []))
    assert light.row_norm**2 == pytest.approx(1 + 1 + 0.25 + 0.01, rel=1e-8)


@DERANDOMIZED
@given(contract=weights)
def test_features_are_scaled_and_products_by_their_own_weight_only(contract: Contract) -> None:
    parts = zip(Encoding.of(contract).parts, Encoding.of(PLAIN).parts, strict=True)
    told = [*(f.weight for f in contract.features), *(p.weight for p in contract.products)]
    for (scaled, plain), weight in zip(parts, told, strict=True):
        assert scaled.feature.weight == weight
        assert np.array_equal(scaled.basis, plain.basis * weight)
        assert np.abs(basis_of(scaled) - basis_of(plain) * weight).max() <= 0.5 + 0.5 * weight
    light, usual = (Layout(None, {"payments": Encoding.of(c)}) for c in (contract, PLAIN))
    assert light.sensitivity <= usual.sensitivity + 40 / UNIT


@DERANDOMIZED
@given(contract=weights, seed=st.integers(0, 99), scale=st.sampled_from([0.0, 1.0, 1e3]))
def test_leaving_out_one_person_moves_the_gradient_by_at_most_the_row_norm(
    contract: Contract, seed: int, scale: float
) -> None:
    encoding, rng = Encoding.of(contract), np.random.default_rng(seed)
    codes = encoding.with_products(
        np.array([rng.integers(0, len(p.labels), 20) for p in encoding.features], dtype=np.uint16)
    )
    labels, theta = rng.integers(0, 2, 20).astype(np.float64), scale * rng.standard_normal(encoding.columns)
    whole = scorecard.gradient_sum(encoding, codes, labels)(theta)
    without = scorecard.gradient_sum(encoding, codes[:, 1:], labels[1:])(theta)
    assert np.linalg.norm(whole - without) <= encoding.row_norm * (1 + 1e-9)


@pytest.mark.parametrize("weight", [1.0, 0.7])
def test_private_edges_that_come_later_do_not_move_the_row_norm(weight: float) -> None:
    fine = replace(SPEND, private=True)
    contract = replace(PLAIN, features=(AMOUNT, GRADE, replace(fine, weight=weight)))
    later = contract.with_edges({"spend": [1.0, 10.0]})
    assert Encoding.of(contract).row_norm == Encoding.of(later).row_norm


# --- wide products


def test_two_lists_of_values_may_cross_in_more_than_two_hundred_columns() -> None:
    lists = (Feature("line", "categorical", values=tuple("0NTY")), Feature("state", "categorical", values=STATES))
    part = Encoding.of(Contract("d", 1, lists, products=(Product(("line", "state")),))).parts[-1]
    assert part.basis.shape == (6 * 53, 4 * 51)


def test_a_product_with_more_pairs_than_a_group_has_cells_stands_alone() -> None:
    fine = tuple(Feature(n, "numeric", high=1e3, edges=tuple(range(1, 254))) for n in "ab")
    encoding = Encoding.of(Contract("d", 1, (*fine, Feature("c", "flag")), products=(Product(("a", "b"), 2),)))
    assert len(encoding.parts[-1].labels) == 255 * 255 > MAX_CELLS
    rng = np.random.default_rng(0)
    codes = encoding.with_products(
        np.array([rng.integers(0, len(p.labels), 30) for p in encoding.features], dtype=np.uint16)
    )
    packed = encoding.packed(codes)
    assert packed.groups[-1][1] == (3,)
    matrix, theta, residuals = encoding.matrix(codes), rng.standard_normal(encoding.columns), rng.standard_normal(30)
    assert np.abs(encoding.gather(packed, *encoding.points(theta)) - matrix @ theta).max() < 1e-9
    assert np.abs(encoding.scatter(packed, residuals) - matrix.T @ residuals).max() < 1e-9
