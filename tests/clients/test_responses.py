"""Labels told by randomised response: drawn once, kept, right on average, and never the true ones."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from clients.cohort import aligned, cohort_of, hand_out
from clients.config import Node
from clients.identity import introduction
from clients.orders import Agreement, reserve
from clients.packets import Channel
from clients.responses import told_labels
from clients.training import Order, train
from model.inputs import InputError
from model.scorecard import start
from model.wire import HELD_OUT, TRAIN_ROWS, unpack
from privacy.mechanisms import respond
from privacy.noise import Csprng
from privacy.plan import LabelResponse

LOUD = LabelResponse("labels/lender", "lender", 1.5)


def _again(node: Node) -> Node:
    """The same node after a restart."""
    return Node.of({"num-partitions": 1}, {"federation": str(node.federation.path), "out": str(node.state.parent)}, 7)


def test_a_response_is_drawn_once_and_kept(node: Node) -> None:
    first = told_labels(node, LOUD)
    np.testing.assert_array_equal(told_labels(node, LOUD), first)
    np.testing.assert_array_equal(told_labels(_again(node), LOUD), first)


def test_another_label_epsilon_is_refused_in_one_line(node: Node) -> None:
    told_labels(node, LOUD)
    with pytest.raises(InputError, match=r"label-epsilon must stay 1\.5") as refused:
        told_labels(node, replace(LOUD, epsilon=1.0))
    assert "\n" not in str(refused.value)


def test_without_a_response_labels_are_told_as_they_are(node: Node) -> None:
    np.testing.assert_array_equal(told_labels(node, None), cohort_of(node).labels)


def test_training_labels_are_flipped_as_often_as_the_plan_says(node: Node) -> None:
    cohort, told = cohort_of(node), told_labels(node, LOUD)
    train = cohort.group == TRAIN_ROWS
    flipped = int((told[train] != cohort.labels[train]).sum())
    assert stats.binomtest(flipped, int(train.sum()), LOUD.flip).pvalue > 1e-6
    assert (told[cohort.group == HELD_OUT] == -1).all()


def test_the_mechanism_flips_as_often_as_it_says_and_a_null_label_is_a_fair_coin() -> None:
    rng, count = Csprng(), 100_000
    for label, chance in ((0, 0.2), (1, 0.8), (-1, 0.5), (7, 0.5)):
        ones = int(respond(np.full(count, label, np.int8), 0.2, rng).sum())
        assert stats.binomtest(ones, count, chance).pvalue > 1e-6


def test_unbiased_labels_are_right_on_average() -> None:
    count = 200_000
    for label in (0, 1):
        told = respond(np.full(count, label, np.int8), LOUD.flip, Csprng())
        unbiased = LOUD.unbiased(told.astype(np.float64))
        assert abs(unbiased.mean() - label) < 5 * unbiased.std() / math.sqrt(count)


def test_packets_hold_responses_and_true_labels_stay_at_the_lender(node: Node) -> None:
    cohort, told = cohort_of(node), told_labels(node, LOUD)
    packet = hand_out(Channel(node, "lender", "plan"), {"pay-1": introduction(node, "pay-1")}, told).packets["pay-1"]
    opened = unpack(Channel(node, "pay-1", "plan").open("lender", introduction(node, "lender"), packet, "cohort"))
    np.testing.assert_array_equal(opened["labels"], told)
    own, train = aligned(node, "lender"), cohort.group == TRAIN_ROWS
    np.testing.assert_array_equal(own.labels[train], cohort.labels[train])


@pytest.mark.parametrize(("stretched", "accepted"), [(True, True), (False, False)])
def test_a_line_whose_bound_is_not_stretched_is_refused(
    node: Node, lines: Any, document: Any, response: LabelResponse, stretched: bool, accepted: bool
) -> None:
    own = lines(node, "pay-1", stretch=response.stretch if stretched else 1.0)
    agreement = Agreement.of(document(node, [response, *own]), node)
    assert agreement.response == response
    reserve(node, "pay-1", agreement)
    order, weights = Order(agreement, "payments", 1), np.zeros(own[0].size)
    if accepted:
        assert all(np.isfinite(v).all() for v in train(node, "pay-1", order, weights).values())
    else:
        with pytest.raises(InputError, match="does not bound"):
            train(node, "pay-1", order, weights)


def test_the_lenders_own_block_needs_no_stretch(node: Node, lines: Any, document: Any, response: LabelResponse) -> None:
    own = lines(node, "lender")
    agreement = Agreement.of(document(node, [response, *own]), node)
    reserve(node, "lender", agreement)
    from clients.cohort import table_of

    encoding = table_of(node, "lender").encoding
    assert encoding is not None
    assert train(node, "lender", Order(agreement, "lender_kyc", 1), start(encoding))
