"""What a node takes in: each order of its coordinator once, nothing changed, replayed or meant for others."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from flwr.proto.recorddict_pb2 import RecordDict as WireRecords
from google.protobuf.message import DecodeError

from clients.config import Node
from clients.identity import PEERS, peer, pinned, signing_key, trust
from clients.inbox import MARKS, Inbox, Replayed
from model import contents
from model.inputs import InputError
from model.wire import CONFIG, DESCRIBE, HEADER, JSON, SIGNED, TRAIN
from privacy.envelope import SealBroken, new_key, public_key
from privacy.messages import LONGEST
from privacy.signing import announcement, coordinator_of, new_signing_key, verify_key
from server.log import Log
from server.outbox import Outbox

RUN, PLACE = "7", "node-1001"
REFUSED = (SealBroken, Replayed, InputError, KeyError, TypeError, ValueError)


@pytest.fixture
def node(small: Path, tmp_path: Path) -> Node:
    """A node that plays pay-1."""
    config = {"federation": str(small), "out": str(tmp_path / "out")}
    return Node.of({"partition-id": 1, "num-partitions": 5}, config, 7)


@pytest.fixture
def outbox() -> Outbox:
    return _outbox(new_signing_key())


def _outbox(key: bytes, first: int = 1, run: str = RUN) -> Outbox:
    return Outbox(run, key, count(first), Log(None, key))


def _content(number: int = 1, **more: Any) -> RecordDict:
    config: dict[str, Any] = {JSON: json.dumps({"round": number, "holder": "pay-1"}), "sealed": b"\x00\x01packet"}
    arrays = ArrayRecord({"payments/last": Array(np.arange(3.0)), "payments/mean": Array(np.ones((2, 2)))})
    return RecordDict({CONFIG: ConfigRecord(config | more), "arrays": arrays})


def _order(outbox: Outbox, number: int = 1, receiver: str = "pay-1", kind: str = TRAIN, **more: Any) -> RecordDict:
    return outbox.address(_content(number, **more), kind, receiver, {"round": number})


def _taken(node: Node, content: RecordDict, kind: str = TRAIN) -> dict[str, Any]:
    return _inbox(node, content, kind).order()


def _inbox(node: Node, content: RecordDict, kind: str = TRAIN, run: str = RUN) -> Inbox:
    return Inbox(node, kind, content, run, PLACE)


def _changed(content: RecordDict) -> list[RecordDict]:
    """The content as it arrives after each of its bytes was changed in two ways; without those that do not parse."""
    wire, found = recorddict_to_proto(content).SerializeToString(), []
    for place in range(len(wire)):
        for flip in (0x01, 0xFF):
            changed = wire[:place] + bytes([wire[place] ^ flip]) + wire[place + 1 :]
            try:
                found.append(recorddict_from_proto(WireRecords.FromString(changed)))
            except (DecodeError, ValueError, TypeError, KeyError, AttributeError):
                continue
    assert len(found) > len(wire)
    return found


def test_an_order_is_obeyed_once(node: Node, outbox: Outbox) -> None:
    order = _order(outbox)
    assert _taken(node, order) == {"round": 1, "holder": "pay-1"}
    with pytest.raises(Replayed):
        _taken(node, order)
    assert _taken(node, _order(outbox, 2))["round"] == 2


def test_no_order_is_accepted_with_a_byte_changed(node: Node, outbox: Outbox) -> None:
    order, accepted = _order(outbox), 0
    for content in _changed(order):
        accepted += _accepted(node, content)
    assert accepted == 0
    assert _accepted(node, order)


def _accepted(node: Node, content: RecordDict, kind: str = TRAIN, run: str = RUN) -> bool:
    try:
        _inbox(node, content, kind, run).order()
    except REFUSED:
        return False
    return True


def test_no_reply_is_accepted_with_a_byte_changed(node: Node, outbox: Outbox) -> None:
    order = _order(outbox)
    inbox = _inbox(node, order)
    inbox.order()
    reply = inbox.reply(dict(_content()))
    outbox.known["pay-1"] = verify_key(signing_key(node, "pay-1"))
    taken = [c for c in _changed(reply) if _is_answer(outbox, order, c)]
    assert taken == []
    assert _is_answer(outbox, order, reply)


def _is_answer(outbox: Outbox, order: RecordDict, reply: RecordDict, label: str = "pay-1") -> bool:
    try:
        outbox.signer(order, label, reply)
    except SealBroken:
        return False
    return True


def test_of_ten_thousand_replayed_and_misdirected_orders_none_is_accepted(node: Node, tmp_path: Path) -> None:
    """A wire that was overheard: any order again, late, in another run, of another kind, at another node."""
    outbox, draw = _outbox(new_signing_key()), random.Random(5)
    orders = [_order(outbox, n) for n in range(100)]
    others = [_order(outbox, n, receiver) for n, receiver in enumerate(["shop-1", "lender", "pay-2", PLACE, ""] * 20)]
    misdirected = [
        *((order, TRAIN, RUN) for order in others),
        *((order, TRAIN, "8") for order in orders),
        *((order, "train.bins", RUN) for order in orders),
        *((order, DESCRIBE, RUN) for order in others),
    ]
    early = sum(_accepted(node, *one) for one in misdirected)
    last = 50
    assert [_accepted(node, order) for order in orders[:last]] == [True] * last
    tried = [(draw.choice(orders[:last]), TRAIN, RUN) for _ in range(4600)]
    tried += [draw.choice(misdirected) for _ in range(10_000 - len(tried) - len(misdirected))]
    assert early + sum(_accepted(node, *one) for one in tried) == 0
    assert _accepted(node, orders[-1])
    assert not any(_accepted(node, order) for order in orders[last:])  # what comes after a later one is refused


def test_replies_fit_their_own_order_only(node: Node, outbox: Outbox) -> None:
    """Another order's, another holder's, another run's, or the same of another attempt: none counts."""
    outbox.known |= {name: verify_key(signing_key(node, name)) for name in ("pay-1", "shop-1")}
    orders = [_order(outbox, n) for n in range(8)]
    replies = []
    for order in orders:
        inbox = _inbox(node, order)
        inbox.order()
        replies.append(inbox.reply(dict(_content())))
    fits = [[_is_answer(outbox, order, reply) for reply in replies] for order in orders]
    assert fits == np.eye(8, dtype=bool).tolist()
    assert not _is_answer(outbox, orders[0], replies[0], "shop-1")
    assert not _is_answer(_outbox(new_signing_key()), orders[0], replies[0])  # whom nobody knows
    del replies[0][SIGNED]
    assert not _is_answer(outbox, orders[0], replies[0])


@pytest.mark.parametrize("receiver", ["shop-1", "lender", "nobody", "", "coordinator", PLACE])
def test_an_order_for_another_holder_is_refused(node: Node, outbox: Outbox, receiver: str) -> None:
    with pytest.raises(InputError):
        _taken(node, _order(outbox, receiver=receiver))


def test_the_holder_in_an_order_must_be_whom_it_was_sent_to(node: Node, outbox: Outbox) -> None:
    text = json.dumps({"round": 1, "holder": "shop-1"})
    with pytest.raises(InputError, match="whom it was sent to"):
        _taken(node, _order(outbox, **{JSON: text}))


def test_the_round_in_the_header_is_the_orders(node: Node, outbox: Outbox) -> None:
    order = outbox.address(_content(2), TRAIN, "pay-1", {"round": 1})
    with pytest.raises(SealBroken, match="round"):
        _taken(node, order)


def test_a_question_who_is_there_is_for_one_node(node: Node, outbox: Outbox) -> None:
    for place, taken in ((PLACE, True), ("node-1002", False), ("pay-1", False)):
        order = outbox.address(RecordDict({CONFIG: ConfigRecord({JSON: "{}"})}), DESCRIBE, place, {})
        assert _accepted(node, order, DESCRIBE) == taken


# --- keys


def test_a_real_node_obeys_the_coordinator_that_it_joined_or_nobody(node: Node) -> None:
    key = new_signing_key()
    joined = replace(node, coordinator=verify_key(key), simulated=False)
    for refuses in (joined, replace(joined, coordinator=b"")):
        with pytest.raises(SealBroken, match="not from the coordinator"):
            _taken(refuses, _order(_outbox(new_signing_key())))
    assert _taken(joined, _order(_outbox(key)))


def test_another_signature_under_the_coordinators_name_is_refused(node: Node, outbox: Outbox) -> None:
    order, forged = _order(outbox), _order(_outbox(new_signing_key(), 2))
    record = dict(forged.config_records[SIGNED]) | {"verify": order.config_records[SIGNED]["verify"]}
    forged[SIGNED] = ConfigRecord(record)
    with pytest.raises(SealBroken, match="signature"):
        _taken(node, forged)


def test_an_answer_cannot_be_passed_off_as_an_order(node: Node, outbox: Outbox) -> None:
    """A holder's own signature, sent back to it by somebody."""
    inbox = _inbox(node, _order(outbox))
    inbox.order()
    assert not _accepted(node, inbox.reply(dict(_content())))


def test_a_node_that_joined_knows_whom_its_people_confirmed_and_nobody_else(node: Node, tmp_path: Path) -> None:
    keys, sealing = new_signing_key(), new_key()
    told, seals = announcement("lender", sealing, keys), {"lender": public_key(sealing)}
    joined = replace(node, coordinator=verify_key(new_signing_key()), seals=seals)
    with pytest.raises(SealBroken, match="nobody vouched for the key of lender"):
        peer(joined, "pay-1", "lender", told)
    assert not (joined.durable("pay-1") / PEERS).exists()
    trust(joined.durable("pay-1"), "lender", verify_key(keys))
    assert peer(joined, "pay-1", "lender", told).verify == verify_key(keys)
    trust(joined.durable("pay-1"), "lender", verify_key(new_signing_key()))  # a confirmed new key
    with pytest.raises(SealBroken, match="changed"):
        peer(joined, "pay-1", "lender", told)
    with pytest.raises(SealBroken, match="wrong length"):
        trust(joined.durable("pay-1"), "lender", b"short")


def test_in_a_fit_a_joined_node_takes_the_coordinators_packets_under_its_lasting_key(node: Node) -> None:
    key = verify_key(new_signing_key())
    joined = replace(node, coordinator=key)
    assert pinned(joined, "pay-1", coordinator_of("plan"), key) == key
    with pytest.raises(SealBroken, match="coordinator's key"):
        pinned(joined, "pay-1", coordinator_of("plan"), verify_key(new_signing_key()))


# --- the number of the last order


def test_of_processes_that_play_one_holder_one_obeys(node: Node, outbox: Outbox) -> None:
    for number in range(5):
        order = _order(outbox, number)
        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(lambda order: _accepted(node, order), [order] * 8)) == 1


def test_the_number_is_on_disk_before_the_order_is_obeyed(node: Node, outbox: Outbox, small: Path) -> None:
    order = _order(outbox)
    _taken(node, order)
    path = node.folder("pay-1") / MARKS
    assert list(json.loads(path.read_text()).values()) == [1]
    assert path.stat().st_mode & 0o777 == 0o600
    restarted = replace(node)
    assert not _accepted(restarted, order)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"x": "1"}', '{"x": true}'])
def test_a_damaged_mark_is_not_begun_anew(node: Node, outbox: Outbox, text: str) -> None:
    (node.folder("pay-1") / MARKS).write_text(text)
    with pytest.raises(SealBroken, match="cannot be read"):
        _taken(node, _order(outbox))


def test_a_refused_order_costs_no_number(node: Node, outbox: Outbox) -> None:
    late = _order(outbox)
    spoilt = _order(outbox, 2)
    spoilt.config_records[CONFIG]["sealed"] = b"other"
    assert not _accepted(node, spoilt)
    assert _accepted(node, late)


# --- size


@pytest.mark.parametrize("where", ["json", "sealed", "arrays", "header"])
def test_what_is_too_large_is_refused_before_it_is_parsed(
    node: Node, outbox: Outbox, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def spoil(order: RecordDict) -> RecordDict:
        if where == "header":
            order.config_records[SIGNED][HEADER] = " " * (LONGEST + 1)
        return order

    monkeypatch.setattr(contents, "LARGEST", {"sealed": 5000, "arrays": 400}.get(where, 1 << 30))
    monkeypatch.setattr(contents, "LONGEST", 1000)
    more: dict[str, Any] = {"json": {JSON: "[" * 1001}, "sealed": {"sealed": bytes(5001)}}.get(where, {})
    order = spoil(_order(outbox, **more))
    parsed: list[Callable[..., Any]] = []
    monkeypatch.setattr("clients.inbox.json.loads", lambda *a: parsed.append(a))
    with pytest.raises((ValueError, SealBroken), match=r"larger than any honest one|1,000,000 characters"):
        _taken(node, order)
    assert parsed == []
