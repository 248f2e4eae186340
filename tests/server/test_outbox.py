"""The coordinator's side of signed messages: whose answer counts, and what an order to somebody unknown brings."""

from __future__ import annotations

import json
from itertools import count
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from clients.inbox import envelope
from model import contents
from model.wire import CONFIG, DESCRIBE, HEADER, JSON, SIGNED, TRAIN
from privacy.enrolment import Enrolled
from privacy.envelope import SealBroken, new_key
from privacy.messages import Header
from privacy.signing import announcement, new_signing_key, verify_key
from server.log import Log
from server.outbox import Outbox
from tests.envelopes import reply_of

KEY, PAY, SHOP = new_signing_key(), new_signing_key(), new_signing_key()


@pytest.fixture
def outbox() -> Outbox:
    """An outbox that knows pay-1 and shop-1."""
    made = Outbox("7", KEY, count(1), Log(None, KEY))
    made.meet("pay-1", "payments", verify_key(PAY))
    made.meet("shop-1", "shopping", verify_key(SHOP))
    return made


def _order(outbox: Outbox, receiver: str = "pay-1", kind: str = TRAIN) -> RecordDict:
    return outbox.address(RecordDict({CONFIG: ConfigRecord({JSON: '{"round": 3}'})}), kind, receiver, {"round": 3})


def _reply(order: RecordDict, name: str = "pay-1", key: bytes = PAY, **config: Any) -> RecordDict:
    return reply_of(order, RecordDict({CONFIG: ConfigRecord({JSON: "{}", **config})}), name, key)


def _header(content: RecordDict) -> Header:
    return Header.of(str(content.config_records[SIGNED][HEADER]))


def test_an_order_names_run_round_stage_parties_number_and_content(outbox: Outbox) -> None:
    headers = [_header(_order(outbox, name)) for name in ("pay-1", "shop-1")]
    told = [(h.run, h.round, h.stage, h.sender, h.receiver, h.sequence) for h in headers]
    assert told == [("7", 3, TRAIN, "coordinator", name, i) for i, name in ((1, "pay-1"), (2, "shop-1"))]
    assert headers[0].content == headers[1].content == contents.content_digest(_order(outbox))


def test_the_answer_of_the_holder_that_was_asked_counts(outbox: Outbox) -> None:
    order = _order(outbox)
    assert outbox.signer(order, "pay-1", _reply(order)) == ("pay-1", verify_key(PAY))


@pytest.mark.parametrize(
    ("name", "whose"), [("shop-1", "shop"), ("pay-1", "shop"), ("shop-1", "pay"), ("coordinator", "coordinator")]
)
def test_the_answer_of_anybody_else_does_not(outbox: Outbox, name: str, whose: str) -> None:
    order, keys = _order(outbox), {"shop": SHOP, "pay": PAY, "coordinator": KEY}
    with pytest.raises(SealBroken):
        outbox.signer(order, "pay-1", _reply(order, name, keys[whose]))


def test_an_answer_to_another_order_of_the_same_number_does_not(outbox: Outbox) -> None:
    """As where a coordinator's folder was put back from a copy, and its numbers came twice."""
    order, again = _order(outbox), Outbox("7", KEY, count(1), outbox.log)
    content = RecordDict({CONFIG: ConfigRecord({JSON: '{"round": 3, "block": "tax"}'})})
    other = again.address(content, TRAIN, "pay-1", {"round": 3})
    assert _header(order).sequence == _header(other).sequence
    with pytest.raises(SealBroken, match="not to what was asked"):
        outbox.signer(order, "pay-1", _reply(other))


def test_an_answer_without_a_word_about_the_log_does_not_count(outbox: Outbox) -> None:
    order = _order(outbox)
    reply = _reply(order)
    told = _header(reply)
    for log in ({}, {"held": 1}, {"cosigned": 3}, {"cosigned": told.log["cosigned"][:-4]}):
        reply[SIGNED] = envelope(Header(**{**vars(told), "log": log}), PAY)
        with pytest.raises(SealBroken):
            outbox.signer(order, "pay-1", reply)
    assert outbox.log.witnesses == {}


def test_an_answer_that_is_too_large_is_refused_unread(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    order = _order(outbox)
    for reply in (_reply(order, sealed=bytes(2001)), _reply(order, **{JSON: "x" * 2001})):
        with monkeypatch.context() as patch:
            patch.setattr(contents, "LARGEST" if "sealed" in reply.config_records[CONFIG] else "LONGEST", 2000)
            with pytest.raises(SealBroken, match="too large"):
                outbox.signer(order, "pay-1", reply)


def test_a_holder_that_is_asked_first_is_told_all_proofs_that_somebody_may_need(outbox: Outbox) -> None:
    for name, key in (("pay-1", PAY), ("shop-1", SHOP)):
        order = _order(outbox, name)
        outbox.signer(order, name, _reply(order, name, key))
        outbox.log.append("asked", {})
    assert set(_header(_order(outbox, "node-9", DESCRIBE)).log["proofs"]) == {"1", "2"}
    assert set(_header(_order(outbox, "pay-1")).log["proofs"]) == {"1"}
    assert set(_header(_order(outbox, "stranger")).log["proofs"]) == set()


def test_only_an_enrolled_holder_with_its_own_key_is_met() -> None:
    rows = {n: Enrolled(n, d, **announcement(n, new_key(), k)) for n, d, k in (("pay-1", "payments", PAY),)}
    outbox = Outbox("7", KEY, count(1), Log(None, KEY), rows)
    for name, domain, key in (("shop-1", "shopping", SHOP), ("pay-1", "payments", SHOP), ("pay-1", "tax", PAY)):
        with pytest.raises(SealBroken, match="not enrolled"):
            outbox.meet(name, domain, verify_key(key))
    assert outbox.known == {}
    outbox.meet("pay-1", "payments", verify_key(PAY))
    assert outbox.known == {"pay-1": verify_key(PAY)}


# --- the digest of a content


def _content(**config: Any) -> RecordDict:
    return RecordDict({CONFIG: ConfigRecord({JSON: "{}", **config})})


def test_names_types_and_values_all_count_in_the_digest() -> None:
    """Contents that differ in anything have different digests; the order of keys is no difference."""
    values: list[Any] = [1, 1.0, "1", b"1", True, 0, 0.0, -0.0, False, "", b"", [1], [1, 1], ["1"], [b"1"], ["1", ""]]
    values += [[1.0], [True], ["", "1"], "11", 2**60, -1, float("inf")]
    made = [_content(a=value) for value in values] + [_content(b=1), _content(a=1, b=1), _content(aa=1)]
    made += [RecordDict({"x": ConfigRecord({JSON: "{}", "a": 1})})]
    for array in (np.zeros(2), np.zeros((2, 1)), np.zeros((1, 2)), np.zeros(2, np.float32), np.zeros(2, np.int64)):
        made += [RecordDict({"arrays": ArrayRecord({name: Array(array)})}) for name in ("x", "y")]
    digests = [contents.content_digest(content) for content in made]
    assert len(set(digests)) == len(made)
    one = RecordDict({CONFIG: ConfigRecord({"a": 1, "b": 2}), "x": ConfigRecord({"c": 3})})
    other = RecordDict({"x": ConfigRecord({"c": 3}), CONFIG: ConfigRecord({"b": 2, "a": 1})})
    assert contents.content_digest(one) == contents.content_digest(other)


def test_the_envelope_is_not_in_its_own_digest(outbox: Outbox) -> None:
    content = _content()
    before = contents.content_digest(content)
    assert contents.content_digest(outbox.address(content, TRAIN, "pay-1", json.loads("{}"))) == before
