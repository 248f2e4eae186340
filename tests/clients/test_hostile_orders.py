"""Well-formed orders with odd numbers: whether a node answers must not depend on its persons."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from clients.cohort import accept, hand_out, public_key_of, table_of
from clients.config import Node
from clients.training import Order, train
from model.descent import Schedule
from model.inputs import InputError
from model.scorecard import start
from privacy.ledger import BudgetExceeded
from privacy.plan import Release, price


@pytest.fixture
def node(small: Path, tmp_path: Path) -> Node:
    made = Node.of({"num-partitions": 1}, {"federation": str(small), "out": str(tmp_path)}, 1)
    packets, _ = hand_out(made, {"pay-1": public_key_of(made, "pay-1")})
    accept(made, "pay-1", packets["pay-1"])
    return made


def _order(node: Node, rate: float = 0.1, rounds: int = 1) -> tuple[Order, np.ndarray]:
    encoding = table_of(node, "pay-1").encoding
    assert encoding is not None
    weights = start(encoding)
    line = Release("payments/pay-1", "pay-1", encoding.row_norm, len(weights), 20, 1.0)
    release = price([line], 1.0, 1e-5).releases[0]
    return Order(release, Schedule(20, rate), "scorecard", 1, rounds, 1000, 1), weights


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1.79e308, 1e7])
def test_weights_that_could_overflow_are_refused_before_anything_is_charged(node: Node, value: float) -> None:
    order, weights = _order(node)
    weights[3] = value
    with pytest.raises(InputError, match="out of range"):
        train(node, "pay-1", order, weights)
    assert not (node.folder("pay-1") / "ledger.db").exists()


@pytest.mark.parametrize("rate", [np.nan, np.inf, 0.0, -1.0, 1e9])
def test_a_rate_out_of_range_is_refused(node: Node, rate: float) -> None:
    order, weights = _order(node, rate)
    with pytest.raises(InputError, match="out of range"):
        train(node, "pay-1", order, weights)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_largest_weights_allowed_still_give_a_finite_answer(node: Node, sign: float) -> None:
    order, weights = _order(node, rate=1e3)
    answer = train(node, "pay-1", order, np.full_like(weights, sign * 1e6))
    assert all(np.isfinite(value).all() for value in answer.values())


def test_a_second_way_to_divide_the_rounds_is_not_a_second_account(node: Node) -> None:
    order, weights = _order(node)
    first = train(node, "pay-1", order, weights)
    with pytest.raises(BudgetExceeded, match="another release"):
        train(node, "pay-1", _order(node, rounds=2)[0], weights)
    again = train(node, "pay-1", order, weights + 1.0)
    assert all(np.array_equal(first[name], again[name]) for name in first)


def test_an_attempt_that_dies_after_drawing_is_not_drawn_again(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    order, weights = _order(node)
    with monkeypatch.context() as broken:
        broken.setattr("clients.training.pack", lambda **arrays: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(node, "pay-1", order, weights)
    with pytest.raises(BudgetExceeded, match="not kept"):
        train(node, "pay-1", order, weights)
