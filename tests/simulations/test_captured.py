"""Slow: messages of a whole run, captured; bytes all over each kind are changed, both ways, and nothing is accepted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from flwr.app import Message, RecordDict
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from flwr.proto.recorddict_pb2 import RecordDict as WireRecords
from google.protobuf.message import DecodeError

from clients.app import app
from clients.config import Node
from clients.inbox import Inbox, Replayed
from model.inputs import InputError
from model.wire import DESCRIBE
from privacy.checkpoints import LogRefused
from privacy.envelope import SealBroken
from server.config import RunConfig
from server.phases import Programme
from simulations.loopback import FIRST_NODE, LoopbackGrid

pytestmark = pytest.mark.slow

REFUSED = (SealBroken, Replayed, InputError, KeyError, TypeError, ValueError)


class _Captured(LoopbackGrid):
    """A grid that keeps the smallest order of each kind with its reply."""

    kept: dict[str, tuple[int, bytes, RecordDict, RecordDict]]

    def _deliver(self, message: Message) -> Message | None:
        reply = super()._deliver(message)
        kind, wire = message.metadata.message_type, recorddict_to_proto(message.content).SerializeToString()
        if reply is not None and (kind not in self.kept or len(wire) < len(self.kept[kind][1])):
            self.kept[kind] = (message.metadata.dst_node_id, wire, message.content, reply.content)
        return reply


@pytest.fixture
def run(small: Path, tmp_path: Path, quick: None) -> tuple[Programme, _Captured, dict[str, Any]]:
    """A finished run with secure alignment, and what was captured of it."""
    del quick
    config = {"federation": str(small), "out": str(tmp_path / "out"), "wait": 0.1, "alignment": "psi"}
    grid = _Captured(app, [{"partition-id": i, "num-partitions": 5} for i in range(5)], config)
    grid.kept = {}
    programme = Programme(grid, RunConfig.parse(config))
    programme.run()
    return programme, grid, config


def _parsed(wire: bytes) -> RecordDict | None:
    try:
        return recorddict_from_proto(WireRecords.FromString(wire))
    except (DecodeError, ValueError, TypeError, KeyError, AttributeError):
        return None


def test_no_byte_of_any_captured_order_or_reply_can_be_changed(run: Any, tmp_path: Path) -> None:
    """Towards a holder that saw nothing yet, so that an order's number refuses none of them."""
    programme, grid, config = run
    accepted, tried = [], 0
    for kind, (node_id, wire, order, reply) in grid.kept.items():
        index, fresh = node_id - FIRST_NODE, {**config, "out": str(tmp_path / kind)}
        node = Node.of({"partition-id": index, "num-partitions": 5}, fresh, 1)
        label = node.holders[0] if kind != DESCRIBE else f"node-{node_id}"
        sent = recorddict_to_proto(reply).SerializeToString()
        for place in _places(wire):
            content = _parsed(wire[:place] + bytes([wire[place] ^ 1 << place % 8]) + wire[place + 1 :])
            tried += 1
            if content is not None and _obeyed(node, content, kind, f"node-{node_id}"):
                accepted.append((kind, "order", place))
        for place in _places(sent):
            content = _parsed(sent[:place] + bytes([sent[place] ^ 1 << place % 8]) + sent[place + 1 :])
            tried += 1
            if content is not None and _counts(programme, order, label, content):
                accepted.append((kind, "reply", place))
        assert _counts(programme, order, label, reply)
        assert _obeyed(node, order, kind, f"node-{node_id}")
    assert accepted == []
    assert set(grid.kept) >= {DESCRIBE, "query.match", "query.cohort", "train.block", "query.subscores", "train.fusion"}
    assert tried > 20_000


def _places(wire: bytes) -> range:
    """Every byte of a short message; of one with long ciphertexts about three thousand, all over it."""
    return range(0, len(wire), 1 + len(wire) // 3000)


def _obeyed(node: Node, content: RecordDict, kind: str, place: str) -> bool:
    try:
        Inbox(node, kind, content, "1", place).order()
    except (*REFUSED, LogRefused):
        return False
    return True


def _counts(programme: Programme, order: RecordDict, label: str, reply: RecordDict) -> bool:
    try:
        programme.exchange.outbox.signer(order, label, reply)
    except SealBroken:
        return False
    return True
