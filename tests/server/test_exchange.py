"""Questions and answers: matched by message id, counted in bytes, and never trusted."""

import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, RecordDict
from flwr.common.serde import message_to_proto

from clients.app import app
from model.wire import DESCRIBE, ERRORS
from privacy.signing import new_signing_key
from server.exchange import Answer, Exchange, Post
from simulations.loopback import LoopbackGrid
from tests.envelopes import reply_of

MARK = "SECRET-4711"
KEY = new_signing_key()


class _Scripted(LoopbackGrid):
    """A grid whose replies a test writes; they come back in reverse order."""

    def __init__(self, reply: Any) -> None:
        super().__init__(app, [{}] * 4, {})
        self.reply = reply

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        del timeout
        replies = []
        for i, message in enumerate(messages):
            message.metadata.__dict__["_message_id"] = f"id-{i}"
            made = self.reply(i, message)
            replies += [] if made is None else [made]
        return replies[::-1]


def _good(i: int, message: Message) -> Message:
    return _with(json=json.dumps({"i": i}))(i, message)


def _with(**config: Any) -> Any:
    return lambda i, message: _signed(RecordDict({"config": ConfigRecord(config)}), message)


def _signed(content: RecordDict, message: Message) -> Message:
    return Message(reply_of(message.content, content, "pay-1", KEY), reply_to=message)


def _posts(count: int) -> list[Post]:
    return [Post(f"p{i}", 1000 + i, {"n": i}) for i in range(count)]


def test_replies_are_matched_by_message_id_whatever_their_order() -> None:
    answers = Exchange(_Scripted(_good), 5.0).ask(DESCRIBE, _posts(4))
    assert {label: answer.data["i"] for label, answer in answers.items()} == {f"p{i}": i for i in range(4)}


def test_a_reply_to_nothing_that_was_asked_is_ignored() -> None:
    exchange = Exchange(_Scripted(_good), 5.0)
    sent = [(exchange.message(DESCRIBE, post), post.label) for post in _posts(2)]
    replies = list(exchange.grid.send_and_receive([m for m, _ in sent]))
    foreign = _Scripted(_good)
    other = exchange.message(DESCRIBE, Post("x", 1003, {}))
    other.metadata.__dict__["_message_id"] = "elsewhere"
    replies += [foreign.reply(9, other), replies[0]]
    assert {label: a.data["i"] for label, a in exchange.match(sent, replies).items()} == {"p0": 0, "p1": 1}


def test_who_stays_silent_is_noted() -> None:
    exchange = Exchange(_Scripted(lambda i, m: _good(i, m) if i else None), 5.0)
    assert set(exchange.ask(DESCRIBE, _posts(3))) == {"p1", "p2"}
    assert exchange.failures == {"p0": "silent"}


@pytest.mark.parametrize("code", ERRORS)
def test_a_nodes_own_code_is_kept(code: str) -> None:
    exchange = Exchange(_Scripted(_with(error=code)), 5.0)
    assert exchange.ask(DESCRIBE, _posts(1)) == {}
    assert exchange.failures == {"p0": code}


@pytest.mark.parametrize("code", [MARK, "", 7, b"x"])
def test_any_other_code_becomes_internal(code: Any) -> None:
    exchange = Exchange(_Scripted(_with(error=code)), 5.0)
    exchange.ask(DESCRIBE, _posts(1))
    assert exchange.failures == {"p0": "internal"}


def test_the_reason_of_a_flower_error_is_never_kept(caplog: pytest.LogCaptureFixture) -> None:
    exchange = Exchange(_Scripted(lambda i, m: Message(Error(code=2, reason=MARK), reply_to=m)), 5.0)
    assert exchange.ask(DESCRIBE, _posts(1)) == {}
    assert exchange.failures == {"p0": "flower-2"}
    assert MARK not in caplog.text


@pytest.mark.parametrize(
    "reply",
    [
        lambda i, m: _signed(RecordDict(), m),
        _with(other=1),
        _with(json="{"),
        _with(json=3),
        lambda i, m: _signed(RecordDict({"config": ArrayRecord({"x": Array(np.zeros(1))})}), m),
    ],
    ids=["empty", "no-json", "broken-json", "number", "arrays"],
)
def test_an_answer_without_our_record_counts_as_a_failure(reply: Any) -> None:
    exchange = Exchange(_Scripted(lambda i, m: reply(i, m) if i == 0 else _good(i, m)), 5.0)
    answers = exchange.ask(DESCRIBE, _posts(2))
    assert set(answers) - {"p0"} == {"p1"}
    if "p0" in answers:
        assert answers["p0"].data == 3
    else:
        assert exchange.failures == {"p0": "protocol"}


def test_bytes_and_seconds_are_counted_by_phase() -> None:
    exchange = Exchange(_Scripted(_good), 5.0)
    with exchange.phase("describe"):
        sent = exchange.message(DESCRIBE, _posts(1)[0])
        exchange.ask(DESCRIBE, _posts(1))
    assert exchange.bytes_sent["describe"] > 2 * message_to_proto(sent).ByteSize() * 0.5
    assert exchange.seconds["describe"] >= 0
    with exchange.phase("train"):
        pass
    assert "train" not in exchange.bytes_sent


def test_a_message_carries_plain_data_arrays_and_ciphertexts() -> None:
    exchange = Exchange(_Scripted(_good), 5.0)
    arrays = ArrayRecord({"payments/last": Array(np.arange(3.0))})
    message = exchange.message(DESCRIBE, Post("p", 1000, {"a": [1, None]}, arrays, {"sealed": b"x"}))
    record = message.content.config_records["config"]
    assert json.loads(str(record["json"])) == {"a": [1, None], "label": "p"}
    assert record["sealed"] == b"x"
    assert list(message.content.array_records["arrays"]) == ["payments/last"]
    assert (message.metadata.dst_node_id, message.metadata.ttl) == (1000, 5.0)


def test_nothing_is_sent_where_nobody_is_asked() -> None:
    exchange = Exchange(_Scripted(lambda i, m: pytest.fail("sent")), 5.0)
    assert exchange.ask(DESCRIBE, []) == {}
    assert exchange.bytes_sent == {}


@pytest.mark.parametrize("value", [None, "text", 3])
def test_a_sealed_part_must_be_there_and_be_bytes(value: Any) -> None:
    config = {} if value is None else {"sealed": value}
    assert Answer(1, {}, RecordDict({"config": ConfigRecord(config)})).sealed("sealed") is None


@pytest.mark.parametrize("text", ["[" * 200_000, "[]", "7", "null", '"x"', "{", "9" * 5000])
def test_an_answer_that_is_no_object_costs_its_own_holder_only(text: str) -> None:
    exchange = Exchange(_Scripted(lambda i, message: (_with(json=text) if i == 1 else _good)(i, message)), 5.0)
    assert set(exchange.ask(DESCRIBE, _posts(3))) == {"p0", "p2"}
    assert exchange.failures == {"p1": "protocol"}


@pytest.mark.parametrize("data", [b"", b"x", b"\x93NUMPY\x01\x00", b"\x93NUMPY" + bytes(200)])
def test_an_array_that_is_none_is_not_there(data: bytes) -> None:
    arrays = ArrayRecord({"a": Array(np.zeros(3))})
    arrays["a"].data = data
    assert Answer(1, {}, RecordDict({"arrays": arrays})).array("a", (3,)) is None
