"""Under a plan a holder scores with one version of its block: charged, trained here, counted; with no other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from clients.answers import versions
from clients.cohort import table_of
from clients.config import Node
from clients.orders import Agreement
from clients.published import version_of
from clients.scored import admit
from clients.scoring import Joined, score
from clients.training import Order, train
from model.blocks import Block
from model.inputs import InputError
from model.wire import ABSENT
from privacy.plan import BudgetExceeded


def _weights(node: Node, name: str) -> np.ndarray[Any, Any]:
    encoding = table_of(node, name).encoding
    assert encoding is not None
    return np.random.default_rng(0).normal(scale=0.3, size=encoding.columns)


def _version(node: Node, name: str, weights: np.ndarray[Any, Any]) -> str:
    encoding = table_of(node, name).encoding
    assert encoding is not None
    return version_of(Block.finished("scorecard", encoding, weights))


def test_a_plan_that_was_never_charged_scores_nobody(node: Node, lines: Any, document: Any) -> None:
    """Else a coordinator that is the lender's friend reads all features out, by weights of its own, for nothing."""
    private = replace(node, epsilon=1.0)
    for plan in ([], lines(node, "pay-1")):
        with pytest.raises(BudgetExceeded, match="never charged"):
            score(private, "pay-1", Agreement.of(document(private, plan), private), _weights(node, "pay-1"))
    assert not (private.durable("pay-1") / "models").exists()


@pytest.mark.parametrize("rounds", [1, 4, 5])
def test_a_holder_that_alone_has_a_block_scores_with_what_it_trained(
    node: Node, lines: Any, document: Any, trained: Any, rounds: int
) -> None:
    private = replace(node, epsilon=1.0)
    agreement = Agreement.of(document(private, lines(node, "pay-1"), rounds=rounds), private)
    weights = trained(private, agreement)
    for made_up in (weights + 1e-6, weights[:-1], np.full_like(weights, np.nan)):
        with pytest.raises((InputError, ValueError)):
            score(private, "pay-1", agreement, made_up)
    assert not (private.durable("pay-1") / "models").exists()
    assert (score(private, "pay-1", agreement, weights).subscores != ABSENT).any()


def test_a_block_is_scored_only_once_it_is_trained_to_the_end(node: Node, lines: Any, document: Any) -> None:
    private = replace(node, epsilon=1.0)
    agreement = Agreement.of(document(private, lines(node, "pay-1"), rounds=2), private)
    half = train(private, "pay-1", Order(agreement, "payments", 1), np.zeros(lines(node, "pay-1")[0].size))
    with pytest.raises(InputError, match="to the end"):
        score(private, "pay-1", agreement, half["mean"])


def test_a_plan_is_scored_with_one_version_and_versions_are_counted(
    node: Node, lines: Any, document: Any, trained: Any
) -> None:
    """Where a block is shared no holder knows the mean: so whatever comes first stays, and is one of few a year."""
    private = replace(node, epsilon=4.0, total=4.0, limits=replace(node.limits, max_models=1))
    both = [lines(node, name)[0] for name in ("shop-1", "shop-2")]
    priced = document(replace(node, epsilon=0.5), both)["lines"]
    plans = []
    for run in ("a", "b"):
        told = {**document(private, both, run=run), "lines": priced}
        plans.append(Agreement.of(told, private))
        trained(private, plans[-1], "shop-1")
    weights = _weights(node, "shop-1")
    one, other = (score(private, "shop-1", plans[0], weights) for _ in range(2))
    np.testing.assert_array_equal(one.subscores, other.subscores)
    with pytest.raises(InputError, match="scored with first"):
        score(private, "shop-1", plans[0], weights * 2)
    score(private, "shop-1", plans[1], weights)  # known already: counted once
    with pytest.raises(InputError, match="scored with first"):
        score(private, "shop-1", plans[1], weights * 2)
    assert versions(private.durable("shop-1")) == [_version(node, "shop-1", weights)]


def test_one_version_too_many_is_not_scored_and_not_even_paid_for(
    node: Node, lines: Any, document: Any, trained: Any
) -> None:
    private = replace(node, epsilon=1.0)
    strict = replace(private, limits=replace(node.limits, max_models=0))
    agreement = Agreement.of(document(private, lines(node, "pay-1")), private)
    with pytest.raises(InputError, match="max-models"):
        trained(strict, agreement)
    assert not (private.durable("pay-1") / "ledger.db").exists()
    weights = trained(private, agreement)
    with pytest.raises(InputError, match="max-models"):
        score(strict, "pay-1", agreement, weights)
    assert not (private.durable("pay-1") / "models").exists()
    score(private, "pay-1", agreement, weights)
    score(strict, "pay-1", agreement, weights)  # counted already
    trained(strict, agreement)


def test_reasons_and_errors_of_a_joint_fit_are_told_by_one_set_of_numbers(
    node: Node, lines: Any, document: Any, trained: Any
) -> None:
    """Averages and covariance are the coordinator's word, too: others would read features out of steps and errors."""
    private = replace(node, epsilon=1.0)
    agreement = Agreement.of(document(private, lines(node, "pay-1")), private)
    weights = trained(private, agreement)
    encoding = table_of(node, "pay-1").encoding
    assert encoding is not None
    block, square = Block.finished("scorecard", encoding, weights), np.eye(3)
    admit(private, "pay-1", agreement, block, weights, Joined({"a": 0.1}, square).to_bytes())
    admit(private, "pay-1", agreement, block, weights, Joined({"a": 0.1}, square).to_bytes())
    for other in (Joined({"a": 0.2}, square), Joined({"a": 0.1}, square * 2), Joined({"b": 0.1}, square)):
        with pytest.raises(InputError, match="scored with first"):
            admit(private, "pay-1", agreement, block, weights, other.to_bytes())
