"""Private bins: what the counts cost, and how their edges come back with an order."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from clients.cohort import aligned, table_of
from clients.config import Node
from clients.orders import Agreement
from clients.training import bins
from model import quantiles
from model.inputs import InputError
from model.wire import BINS, TRAIN
from privacy.plan import Release
from server.preparing import cut_bins

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture
def at(stage: Any, files: Any) -> Any:
    """A run in which one feature of the payments contract has private bins, before they are cut."""
    files.text("payments.contract.toml", "range = [0, 180]", 'range = [0, 180]\nedges = "private"')
    return stage(files.federation)


def _node(at: Any, name: str) -> Node:
    context = at.grid._contexts[at.roster.members[name].node]
    return Node.of(context.node_config, context.run_config, context.run_id)


def _counts(at: Any, document: Any = None) -> Any:
    from server.exchange import Post

    data = {"plan": document or at.plan.document, "holder": "pay-1"}
    if document:
        at.deliver("pay-1")  # what was sealed opens for its own plan only
    sealed = dict(at.parcels.get("pay-1", {}))
    return at.send(BINS, Post("pay-1", at.roster.members["pay-1"].node, data, sealed=sealed))


def _code(reply: Any) -> Any:
    return reply.content.config_records["config"].get("error")


def test_the_reply_holds_one_noisy_count_a_fine_bin_drawn_once(at: Any) -> None:
    first, second = (_counts(at).content.array_records["arrays"]["counts"].numpy() for _ in range(2))
    assert first.shape == (quantiles.FINE,)
    assert np.isfinite(first).all()
    np.testing.assert_array_equal(first, second)


def test_without_noise_the_counts_are_those_of_the_training_persons(at: Any) -> None:
    assert _code(_counts(at)) is None  # brings the cohort
    node = replace(_node(at, "pay-1"), epsilon=float("inf"))
    table, cohort = table_of(node, "pay-1"), aligned(node, "pay-1")
    assert table.encoding is not None
    feature = next(p.feature for p in table.encoding.parts if p.feature.private)
    line = Release("bins/pay-1", "pay-1", 1.0, quantiles.FINE, 1, 1.0)
    document = at.plan.document | {"epsilon": "inf", "lines": [line.to_dict()], "schedules": {}}
    told = bins(node, "pay-1", Agreement.of(document, node))
    values = table.raw[feature.name][cohort.rows[cohort.trainable]]
    np.testing.assert_array_equal(told, quantiles.counts([feature], [values]))
    assert told.sum() == (~np.isnan(values)).sum()


def test_edges_arrive_with_an_order_and_the_blocks_columns_stay(at: Any) -> None:
    roster, failed = cut_bins(at.exchange, at.roster, at.plan, at.parcels)
    assert failed == set()
    member = roster.members["pay-1"]
    assert len(member.edges) == 1
    node = _node(at, "pay-1")
    before, after = (table_of(n, "pay-1").encoding for n in (node, node.with_edges("pay-1", member.edges)))
    assert before is not None
    assert after is not None
    assert before.columns == after.columns == at.plan.line("payments/pay-1").size
    assert before.row_norm == after.row_norm
    assert after.contract == member.contract
    reply = at.send(TRAIN, at.train("pay-1", edges={k: list(v) for k, v in member.edges.items()}))
    assert _code(reply) is None


def test_an_order_for_bins_that_the_plan_does_not_have_is_refused(at: Any) -> None:
    document = at.document("bins/pay-1")
    document["lines"] = [line for line in document["lines"] if line["name"] != "bins/pay-1"]
    assert _code(_counts(at, document)) == "input"


@pytest.mark.parametrize(("field", "value"), [("size", 63), ("bound", 0.99), ("count", 2), ("home", "payments")])
def test_a_line_that_does_not_pay_for_the_counts_is_refused(at: Any, field: str, value: Any) -> None:
    assert _code(_counts(at, at.document("bins/pay-1", **{f"release__{field}": value}))) in ("input", "budget")


def test_a_holder_without_private_features_has_no_counts(node: Node, agreed: Any) -> None:
    line = Release("bins/pay-1", "pay-1", 1.0, quantiles.FINE, 1, 1.0, noise_multiplier=1e3)
    with pytest.raises(InputError, match="does not pay"):
        bins(node, "pay-1", agreed(node, line))
