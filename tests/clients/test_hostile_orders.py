"""Well-formed plans with odd numbers: whether a node answers must not depend on its persons."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from clients.cohort import table_of
from clients.config import Node
from clients.orders import Agreement, reserve
from clients.training import Order, train
from model.inputs import InputError
from model.scorecard import start
from privacy.plan import BudgetExceeded, Release


@pytest.fixture
def plan(node: Node, lines: Any, document: Any) -> Any:
    """Makes a document over the block of pay-1."""
    return lambda **changes: document(node, lines(node, "pay-1"), **changes)


def _order(node: Node, document: Any) -> Order:
    agreement = Agreement.of(document, node)
    reserve(node, "pay-1", agreement)
    return Order(agreement, "payments", 1)


def _start(node: Node) -> np.ndarray[Any, Any]:
    encoding = table_of(node, "pay-1").encoding
    assert encoding is not None
    return start(encoding)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1.79e308, 1e7])
def test_weights_that_could_overflow_are_refused_before_noise_is_drawn(node: Node, plan: Any, value: float) -> None:
    order, weights = _order(node, plan()), _start(node)
    weights[3] = value
    with pytest.raises(InputError, match="out of range"):
        train(node, "pay-1", order, weights)
    assert all(np.isfinite(v).all() for v in train(node, "pay-1", order, _start(node)).values())  # nothing was claimed


@pytest.mark.parametrize("rate", [np.nan, np.inf, 0.0, -1.0, 1e9])
def test_a_rate_out_of_range_is_refused(node: Node, plan: Any, rate: float) -> None:
    with pytest.raises(InputError, match="out of range"):
        Agreement.of(plan(rate=rate), node)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_largest_weights_allowed_still_give_a_finite_answer(node: Node, plan: Any, sign: float) -> None:
    answer = train(node, "pay-1", _order(node, plan(rate=1e3)), np.full_like(_start(node), sign * 1e6))
    assert all(np.isfinite(value).all() for value in answer.values())


def test_a_second_way_to_divide_the_rounds_is_a_plan_that_must_be_paid_anew(node: Node, plan: Any) -> None:
    order, weights = _order(node, plan()), _start(node)
    first = train(node, "pay-1", order, weights)
    divided = Agreement.of(plan(rounds=2), node)
    assert divided.id != order.agreement.id
    with pytest.raises(BudgetExceeded, match="would pass"):
        reserve(node, "pay-1", divided)
    with pytest.raises(BudgetExceeded):
        train(node, "pay-1", Order(divided, "payments", 1), weights)
    again = train(node, "pay-1", order, weights + 1.0)
    assert all(np.array_equal(first[name], again[name]) for name in first)


def test_an_attempt_that_dies_after_drawing_is_not_drawn_again(
    node: Node, plan: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    order, weights = _order(node, plan()), _start(node)
    with monkeypatch.context() as broken:
        broken.setattr("clients.training.pack", lambda **arrays: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(node, "pay-1", order, weights)
    with pytest.raises(BudgetExceeded, match="not kept"):
        train(node, "pay-1", order, weights)


@pytest.mark.parametrize(
    ("key", "value"),
    [("programme", "another"), ("delta", 1e-3), ("engine", "trees"), ("epsilon", "inf"), ("rounds", -1)],
)
def test_a_plan_of_another_programme_or_terms_is_refused(node: Node, plan: Any, key: str, value: Any) -> None:
    with pytest.raises(InputError, match="order"):
        Agreement.of(plan() | {key: value}, node)


@pytest.mark.parametrize("value", [0.2, 1e-9, 0.0, -1.0, np.nan])
def test_a_plan_that_says_less_than_its_lines_cost_is_refused(node: Node, plan: Any, value: float) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - BudgetExceeded, InputError, or a number that is none
        Agreement.of(plan() | {"epsilon": value}, node)


def test_a_plan_that_names_a_line_twice_is_refused(node: Node, plan: Any) -> None:
    document = plan()
    document["lines"].append(document["lines"][0])
    with pytest.raises(InputError, match="twice"):
        Agreement.of(document, node)


@pytest.mark.parametrize("ratio", [-5.0, 0.0])
def test_a_plan_with_a_private_selection_is_refused_whatever_it_says_it_costs(
    node: Node, plan: Any, ratio: float
) -> None:
    """No run releases under one; its own slack would lower what the ledger counts."""
    document = plan()
    line = {"name": "sweep/train", "holder": "*", "mu": 1e-6, "mean": 1.5, "shape": 1.0, "run_slack": [ratio, 0.0]}
    document["lines"].append(line | {"persons": "train", "mechanism": "private selection"})
    with pytest.raises(ValueError, match=r"a line that no run releases|two numbers >= 0"):
        Agreement.of(document, node)


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf])
def test_a_line_without_true_noise_is_refused(node: Node, plan: Any, value: float) -> None:
    document = plan()
    document["lines"][0]["noise_multiplier"] = value
    with pytest.raises((ValueError, BudgetExceeded)):
        _order(node, document)


@pytest.mark.parametrize("field", ["bound", "size", "count", "probability"])
def test_a_line_that_understates_the_block_is_refused_though_it_is_paid(
    node: Node, lines: Any, document: Any, field: str
) -> None:
    block, told = lines(node, "pay-1")
    less = {"bound": block.bound * (1 - 1e-6), "size": block.size - 1, "count": 1, "probability": 0.5}[field]
    made = document(node, [replace(block, **{field: less}), told])
    made["schedules"]["payments/pay-1"]["steps"] = block.count
    with pytest.raises(InputError, match="order"):
        train(node, "pay-1", _order(node, made), _start(node))


def test_a_line_of_another_holder_pays_for_nothing_here(node: Node, lines: Any, document: Any) -> None:
    block, told = lines(node, "pay-1")
    made = document(node, [replace(block, holder="shop-1"), told])
    with pytest.raises(InputError, match="is not in the plan"):
        train(node, "pay-1", _order(node, made), _start(node))


def test_a_plan_above_the_nodes_own_ceiling_is_refused_with_nothing_charged(
    node: Node, lines: Any, document: Any
) -> None:
    richer = replace(node, epsilon=4.0, total=4.0)
    agreement = Agreement.of(document(richer, lines(node, "pay-1")), node)
    with pytest.raises(BudgetExceeded, match="would pass"):
        reserve(node, "pay-1", agreement)
    with pytest.raises(BudgetExceeded):
        train(node, "pay-1", Order(agreement, "payments", 1), _start(node))
    reserve(node, "pay-1", Agreement.of(document(node, lines(node, "pay-1")), node))


def test_the_lines_of_others_count_against_the_programmes_total(node: Node, lines: Any, document: Any) -> None:
    """A small line of one's own beside large ones of others: the own ceiling holds, the total does not."""
    others = Release("x/other", "shop-1", 1.0, 4, 1, 0.999)
    own = [replace(line, share=0.0005) for line in lines(node, "pay-1")]
    richer = replace(node, epsilon=4.0, total=4.0)
    with pytest.raises(BudgetExceeded, match="budget of the programme"):
        reserve(node, "pay-1", Agreement.of(document(richer, [*own, others]), node))
