"""The strategy: each holder sees its own block, all holders of a domain count alike, and a bad reply is a failure."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict

from model import blocks
from model.wire import LAST, key
from privacy.plan import digest
from privacy.signing import new_signing_key, verify_key
from server.failures import RunFailed
from server.strategy import BlockStrategy, note_head
from tests.envelopes import plain, reply_of

NAMES = ("lender", "pay-1", "shop-1", "shop-2", "tax-1")
KEYS = {name: new_signing_key() for name in NAMES}
Reply = Callable[[str, Message], dict[str, Array]]


@pytest.fixture
def strategy(stage: Any, small: Path) -> BlockStrategy:
    """A strategy about to begin its first round."""
    at = stage(small)
    at.exchange.outbox.known = {name: verify_key(key) for name, key in KEYS.items()}
    return BlockStrategy(at.exchange, at.roster, at.plan, dict(at.parcels), {})


def _start(strategy: BlockStrategy) -> ArrayRecord:
    rng = np.random.default_rng(0)
    arrays = {
        key(m.domain, LAST): Array(blocks.start("scorecard", m.encoding, rng)) for m in strategy.roster.training()
    }
    return ArrayRecord(arrays)


def _messages(strategy: BlockStrategy, server_round: int = 1, arrays: ArrayRecord | None = None) -> dict[str, Message]:
    sent = strategy.configure_train(server_round, arrays or _start(strategy), ConfigRecord(), strategy.exchange.grid)
    labelled = {}
    for message in sent:
        label = json.loads(str(message.content.config_records["config"]["json"]))["label"]
        message.metadata.__dict__["_message_id"] = f"id-{label}"
        labelled[label] = message
    return labelled


def _value(message: Message, value: float) -> dict[str, Array]:
    name = next(iter(message.content.array_records["arrays"]))
    size = message.content.array_records["arrays"][name].numpy().shape
    block = name.split("/")[0]
    return {f"{block}/last": Array(np.full(size, value)), f"{block}/mean": Array(np.full(size, value + 0.5))}


def _reply(message: Message, arrays: dict[str, Array]) -> Message:
    content = RecordDict({"config": ConfigRecord({"json": "{}"}), "arrays": ArrayRecord(arrays)})
    label = plain(message.content)["label"]
    return Message(reply_of(message.content, content, label, KEYS[label]), reply_to=message)


def _round(strategy: BlockStrategy, change: Reply, server_round: int = 1) -> ArrayRecord:
    messages = _messages(strategy, server_round)
    replies = [_reply(message, change(name, message)) for name, message in messages.items()]
    return strategy.aggregate_train(server_round, replies[::-1])[0]  # type: ignore[return-value]


def test_each_holder_receives_its_own_block_only(strategy: BlockStrategy) -> None:
    messages = _messages(strategy)
    assert set(messages) == set(NAMES)
    for name, message in messages.items():
        member = strategy.roster.members[name]
        assert list(message.content.array_records["arrays"]) == [f"{member.domain}/last"]
        assert message.metadata.dst_node_id == member.node


def test_every_holder_is_sent_the_same_whole_plan(strategy: BlockStrategy) -> None:
    plans = []
    for name, message in _messages(strategy).items():
        told = json.loads(str(message.content.config_records["config"]["json"]))
        assert told["holder"] == name
        plans.append(told["plan"])
    assert all(plan == strategy.plan.document for plan in plans)
    assert digest(plans[0]) == strategy.plan.id


def test_the_sealed_cohort_goes_to_its_partner_in_the_first_round_only(strategy: BlockStrategy) -> None:
    parcels = dict(strategy.parcels)
    for server_round in (1, 2):
        for name, message in _messages(strategy, server_round).items():
            record = message.content.config_records["config"]
            assert ("sealed" in record) == (server_round == 1 and name != "lender")
            if "sealed" in record:
                assert record["sealed"] == parcels[name]["sealed"]


def test_where_a_ledger_stands_is_kept_and_told_the_next_time(strategy: BlockStrategy) -> None:
    _messages(strategy)
    note_head(strategy.heads, "pay-1", {"head": [3, "abc"]})
    note_head(strategy.heads, "tax-1", {"holder": "tax-1", "head": []})
    again = _messages(strategy, 2)
    told = {n: json.loads(str(m.content.config_records["config"]["json"]))["witness"] for n, m in again.items()}
    assert told == {**dict.fromkeys(NAMES), "pay-1": [3, "abc"]}


@pytest.mark.parametrize(
    "head",
    [["x", "y"], [[], "y"], [float("inf"), ""], [True, "y"], [-1, "y"], [1 << 63, "y"], [1, "y" * 65], [1, 2], 3, {}],
)
def test_a_place_that_is_none_is_as_if_it_was_not_told(head: Any) -> None:
    heads = {"pay-1": (3, "abc")}
    note_head(heads, "pay-1", {"head": head})
    assert heads == {"pay-1": (3, "abc")}


def test_the_mean_of_a_domain_is_plain_and_other_blocks_are_their_own(strategy: BlockStrategy) -> None:
    values = {"lender": 1.0, "pay-1": 2.0, "shop-1": 10.0, "shop-2": 30.0, "tax-1": 5.0}
    arrays = _round(strategy, lambda name, message: _value(message, values[name]))
    assert {name: set(array.numpy().tolist()) for name, array in arrays.items()} == {
        "lender_kyc/last": {1.0}, "payments/last": {2.0}, "ecommerce/last": {20.0}, "tax_business/last": {5.0},
    }  # fmt: skip


def test_the_published_weights_average_the_rounds_after_the_burn_in(strategy: BlockStrategy) -> None:
    assert strategy.plan.rounds == 4
    for server_round in (1, 2, 3, 4):
        _round(strategy, lambda name, message, r=server_round: _value(message, float(r)), server_round)  # type: ignore
    assert {d: set(w.tolist()) for d, w in strategy.weights().items()} == {
        d: {3.5} for d in ("lender_kyc", "payments", "ecommerce", "tax_business")
    }


def _spoil(how: str, message: Message) -> dict[str, Array]:
    good = _value(message, 1.0)
    last = next(name for name in good if name.endswith("last"))
    array = good[last].numpy()
    spoilt: dict[str, Any] = {
        "shape": array[:-1],
        "two-dimensional": array[:, None],
        "nan": np.where(np.arange(len(array)) == 0, np.nan, array),
        "inf": array * np.inf,
        "integers": array.astype(np.int64),
        "complex": array.astype(np.complex128),
    }
    if how == "missing":
        del good[last]
    elif how == "other-block":
        good[f"other/{LAST}"] = good.pop(last)
    elif how == "nothing":
        good = {}
    else:
        good[last] = Array(spoilt[how])
    return good


HOW = ("shape", "two-dimensional", "nan", "inf", "integers", "complex", "missing", "other-block", "nothing")


@pytest.mark.parametrize("how", HOW)
def test_a_reply_that_does_not_fit_the_block_is_a_failure(strategy: BlockStrategy, how: str) -> None:
    arrays = _round(strategy, lambda n, m: _spoil(how, m) if n == "pay-1" else _value(m, 1.0))
    assert strategy.failed == {"pay-1"}
    assert strategy.exchange.failures == {"pay-1": "protocol"}
    start = _start(strategy)
    np.testing.assert_array_equal(arrays["payments/last"].numpy(), start["payments/last"].numpy())
    assert set(strategy.weights()) <= {"lender_kyc", "ecommerce", "tax_business"}


def test_a_block_that_a_reply_adds_is_ignored(strategy: BlockStrategy) -> None:
    def more(name: str, message: Message) -> dict[str, Array]:
        return {**_value(message, 1.0), "payments/last": Array(np.full(85, 9.0)), f"{name}/x": Array(np.ones(2))}

    arrays = _round(strategy, lambda n, m: more(n, m) if n == "tax-1" else _value(m, 1.0))
    assert set(arrays["payments/last"].numpy().tolist()) == {1.0}
    assert len(arrays) == 4


def test_swapped_replies_cannot_train_anothers_block(strategy: BlockStrategy) -> None:
    """A reply counts for the question whose id it answers; arrays of another block do not fit it."""
    messages = _messages(strategy)
    arrays = {name: _value(message, 1.0) for name, message in messages.items()}
    arrays["pay-1"], arrays["tax-1"] = arrays["tax-1"], arrays["pay-1"]
    strategy.aggregate_train(1, [_reply(messages[name], arrays[name]) for name in messages])
    assert strategy.failed == {"pay-1", "tax-1"}


def test_who_failed_is_asked_no_more_and_its_domain_goes_on_without_it(strategy: BlockStrategy) -> None:
    _round(strategy, lambda n, m: {} if n == "shop-1" else _value(m, 1.0))
    assert set(_messages(strategy, 2)) == set(NAMES) - {"shop-1"}
    arrays = _round(strategy, lambda n, m: _value(m, 7.0), 2)
    assert set(arrays["ecommerce/last"].numpy().tolist()) == {7.0}
    assert "ecommerce" in strategy.weights()


def test_a_silent_holder_counts_as_failed(strategy: BlockStrategy) -> None:
    messages = _messages(strategy)
    replies = [_reply(m, _value(m, 1.0)) for name, m in messages.items() if name != "tax-1"]
    strategy.aggregate_train(1, replies)
    assert strategy.failed == {"tax-1"}
    assert strategy.exchange.failures == {"tax-1": "silent"}


def test_with_stop_the_first_failure_ends_the_run_by_name(strategy: BlockStrategy) -> None:
    from dataclasses import replace

    strategy.roster = replace(strategy.roster, terms=replace(strategy.roster.terms, on_failure="stop"))
    with pytest.raises(RunFailed, match=r"stopped, as configured: pay-1 \(protocol\)"):
        _round(strategy, lambda n, m: {} if n == "pay-1" else _value(m, 1.0))


def test_nothing_is_evaluated_on_the_way(strategy: BlockStrategy) -> None:
    assert list(strategy.configure_evaluate(1, ArrayRecord(), ConfigRecord(), strategy.exchange.grid)) == []
    assert strategy.aggregate_evaluate(1, []) is None
