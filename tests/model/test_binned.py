"""Sums over persons known by their bins: exactly those over their rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.binned import Binned, bins_of
from model.contract import Contract, Feature
from model.encoding import Encoding
from model.moments import LABEL, UNIT, BlockRows, Layout
from model.products import Product

AMOUNT = Feature("amt", "numeric", high=9.0, special=("-1",))
PURPOSE = Feature("purpose", "categorical", values=("a", "b"))
WIDE = Encoding.of(Contract("payments", 1, (AMOUNT, PURPOSE), products=(Product(("amt", "purpose")),)))
FLAG = Encoding.of(Contract("tax_business", 1, (Feature("late", "flag"),)))


def drawn(layout: Layout, count: int, seed: int) -> tuple[Binned, np.ndarray]:
    """Persons known by their bins, and their rows as the secure fit makes them."""
    rng, bins, rows = np.random.default_rng(seed), {}, []
    for name, block in layout.blocks.items():
        codes, here = np.zeros((0, count), np.uint16), rng.random(count) < 0.7
        if block.encoding:
            own = [rng.integers(0, len(p.labels), count) for p in block.encoding.features]
            codes = block.encoding.with_products(np.array(own, np.uint16))
        labels = None if name else rng.choice([0, 1, -1, 127], count).astype(np.int8)
        bins[name] = bins_of(block, codes, here, labels)
        made = block.rows(codes, labels)
        made[np.ix_(~here, np.arange(0 if name else block.leading, block.width))] = 0
        rows.append(made)
    return Binned(layout, bins), np.concatenate(rows, axis=1)


@settings(derandomize=True, max_examples=30, deadline=None)
@given(st.sampled_from([None, WIDE, FLAG]), st.integers(0, 60), st.integers(0, 2**32 - 1))
def test_moments_and_gradients_are_those_of_the_rows(own: Encoding | None, count: int, seed: int) -> None:
    persons, rows = drawn(Layout(own, {"payments": WIDE, "tax_business": FLAG}), count, seed)
    residuals = np.random.default_rng(seed).integers(-(1 << 20), 1 << 20, count)
    assert np.array_equal(persons.moments(), np.triu(rows.T @ rows))
    assert np.array_equal(persons.gradient(residuals), residuals @ rows)
    assert np.array_equal(persons.labels * LABEL * UNIT, rows[:, 1])


def test_an_absent_person_has_no_row_but_the_lenders_constant_and_label() -> None:
    codes, nobody = np.array([[3], [0], [3]], np.uint16), np.array([False])
    lender = bins_of(BlockRows(WIDE, True), codes, nobody, np.array([1], np.int8))
    partner = bins_of(BlockRows(WIDE, False), codes, nobody)
    moments = Binned(Layout(WIDE, {"payments": WIDE}), {"": lender, "payments": partner}).moments()
    assert moments[:2, :2].tolist() == [[UNIT**2, LABEL * UNIT**2], [0, (LABEL * UNIT) ** 2]]
    assert moments.sum() == UNIT**2 * (1 + LABEL + LABEL**2)


@pytest.mark.parametrize("bins", [np.array([[0], [5]], np.uint16), np.array([[0]], np.uint16)])
def test_bins_that_no_contract_knows_are_refused(bins: np.ndarray) -> None:
    with pytest.raises(ValueError, match="'tax_business' has bins that its contract does not know"):
        Binned(Layout(None, {"tax_business": FLAG}), {"": np.zeros((2, 1), np.uint16), "tax_business": bins})
