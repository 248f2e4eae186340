"""A holder as witness: the coordinator's log only grows, or the holder obeys no further order."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from flwr.app import ConfigRecord, Message, RecordDict

from clients.app import app
from clients.config import Node
from clients.inbox import Inbox, envelope
from clients.witness import HELD, accept, held, held_at
from model.wire import CONFIG, DESCRIBE, HEADER, JSON, SIGNED, SUBSCORES
from privacy.checkpoints import Checkpoint, LogRefused
from privacy.envelope import SealBroken
from privacy.messages import Header
from privacy.signing import new_signing_key, verify_key
from server.exchange import Exchange, Post
from server.log import Log
from server.outbox import Outbox
from simulations.loopback import FIRST_NODE, LoopbackGrid

KEY = new_signing_key()
VERIFY = verify_key(KEY)


@pytest.fixture
def node(small: Path, tmp_path: Path) -> Node:
    """A node that plays pay-1."""
    return Node.of({"partition-id": 1, "num-partitions": 5}, {"federation": str(small), "out": str(tmp_path)}, 1)


def _log(*kinds: str) -> Log:
    log = Log(None, KEY)
    for kind in kinds:
        log.append(kind, {})
    return log


def _told(log: Log, *sizes: int) -> dict[str, Any]:
    return {"checkpoint": log.checkpoint.to_dict(), "proofs": log.proofs(set(sizes))}


def test_a_checkpoint_is_kept_and_only_a_longer_one_of_the_same_log_replaces_it(tmp_path: Path) -> None:
    path, log = tmp_path / HELD, _log("run")
    assert held(path) is None
    assert accept(path, VERIFY, _told(log)) == log.checkpoint == held(path)
    assert accept(path, VERIFY, _told(log)) == log.checkpoint  # the same again needs no proof
    early = _told(log, 1, 2)
    log.append("plan", {})
    with pytest.raises(LogRefused, match="not shown to continue") as refused:
        accept(path, VERIFY, _told(log, 1))
    assert refused.value.held == 2
    assert accept(path, VERIFY, _told(log, 2)).size == 3
    for other in (early, _told(_log("run", "plan", "more"), 3), _told(_log())):
        with pytest.raises(LogRefused):
            accept(path, VERIFY, other)
    assert held(path) == log.checkpoint
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_log_of_which_two_forms_are_shown_is_refused(tmp_path: Path) -> None:
    """Both forms begin alike and are signed by the coordinator; whoever saw the one takes no other."""
    folder = tmp_path / "log"
    Log(folder, KEY).append("run", {})
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    one, other = Log(folder, KEY), Log(copy, KEY)
    one.append("published", {"model": "aa" * 32})
    other.append("published", {"model": "bb" * 32})
    path = tmp_path / HELD
    accept(path, VERIFY, _told(one))
    with pytest.raises(LogRefused):
        accept(path, VERIFY, _told(other, 3))
    other.append("run", {})
    with pytest.raises(LogRefused):
        accept(path, VERIFY, _told(other, 1, 2, 3))


@pytest.mark.parametrize("key", [pytest.param(new_signing_key(), id="another"), pytest.param(None, id="none")])
def test_a_checkpoint_of_another_key_is_refused(tmp_path: Path, key: bytes | None) -> None:
    log = _log("run")
    made = log.checkpoint.signed(key) if key else replace(log.checkpoint, signature=bytes(64))
    with pytest.raises(SealBroken):
        accept(tmp_path / HELD, VERIFY, {"checkpoint": made.to_dict(), "proofs": {}})
    assert not (tmp_path / HELD).exists()


@pytest.mark.parametrize(
    "proofs", [None, [], {}, {"2": None}, {"2": "AA=="}, {"2": ["AA=="]}, {"2": [3]}, {"2": ["x"]}, {"2": [""] * 1000}]
)
def test_a_proof_that_is_none_is_refused(tmp_path: Path, proofs: Any) -> None:
    path, log = tmp_path / HELD, _log("run")
    accept(path, VERIFY, _told(log))
    log.append("plan", {})
    with pytest.raises((LogRefused, SealBroken)):
        accept(path, VERIFY, _told(log) | {"proofs": proofs})


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"origin": 1}'])
def test_a_held_checkpoint_that_cannot_be_read_is_not_begun_anew(tmp_path: Path, text: str) -> None:
    (tmp_path / HELD).write_text(text)
    with pytest.raises(SealBroken):
        accept(tmp_path / HELD, VERIFY, _told(_log("run")))


def test_a_node_that_joined_takes_no_second_log_whatever_key_signs_it(node: Node) -> None:
    joined = replace(node, coordinator=VERIFY, simulated=False)
    other = new_signing_key()
    assert held_at(joined, "pay-1", VERIFY) == held_at(joined, "pay-1", verify_key(other))
    assert held_at(joined, "pay-1", VERIFY) == joined.durable("pay-1") / HELD
    assert held_at(node, "pay-1", VERIFY) != held_at(node, "pay-1", verify_key(other))
    accept(held_at(joined, "pay-1", VERIFY), VERIFY, _told(_log("run")))
    with pytest.raises(LogRefused, match="of another log"):
        accept(held_at(joined, "pay-1", VERIFY), VERIFY, _told(_log("run", "plan"), 2))


# --- orders


def _order(outbox: Outbox, kind: str = SUBSCORES) -> RecordDict:
    content = RecordDict({CONFIG: ConfigRecord({JSON: "{}"})})
    return outbox.address(content, kind, "pay-1", {})


def test_an_order_whose_log_does_not_continue_is_refused_with_the_size_that_is_held(node: Node) -> None:
    first, second = _log("run", "plan"), _log("run", "plan", "asked")
    orders = count(1)
    Inbox(node, SUBSCORES, _order(Outbox("1", KEY, orders, first)), "1", "").order()
    inbox = Inbox(node, SUBSCORES, _order(Outbox("1", KEY, orders, second)), "1", "")
    with pytest.raises(LogRefused):
        inbox.order()
    header = Header.of(str(inbox.reply({CONFIG: ConfigRecord({"error": "log"})}).config_records[SIGNED][HEADER]))
    assert header.log == {"held": 3}


def test_an_order_without_a_checkpoint_is_refused(node: Node) -> None:
    outbox = Outbox("1", KEY, count(1), _log("run"))
    for log in ({}, {"checkpoint": None}, {"proofs": {}}):
        order = _order(outbox)
        header = replace(Header.of(str(order.config_records[SIGNED][HEADER])), log=log, sequence=next(outbox._numbers))
        order[SIGNED] = envelope(header, KEY)
        with pytest.raises(SealBroken):
            Inbox(node, SUBSCORES, order, "1", "").order()


def _grid(small: Path, tmp_path: Path) -> LoopbackGrid:
    nodes = [{"partition-id": i, "num-partitions": 5} for i in range(5)]
    return LoopbackGrid(app, nodes, {"federation": str(small), "out": str(tmp_path / "out")})


def test_every_answer_cosigns_the_checkpoint_of_its_order(small: Path, tmp_path: Path) -> None:
    grid = _grid(small, tmp_path)
    outbox = Outbox("1", KEY, count(1), _log("run"))
    answer = Exchange(grid, 5.0, outbox).ask(DESCRIBE, [Post(f"node-{FIRST_NODE + 1}", FIRST_NODE + 1, {})])
    (told,) = answer.values()
    assert outbox.log.witnesses == {}  # nobody knows yet whose key that is
    outbox.meet(told.sender, "payments", told.verify)
    assert outbox.log.witnesses["pay-1"].checkpoint.size == 2
    outbox.log.witnesses["pay-1"].check("pay-1")


def test_a_coordinator_that_does_not_know_what_a_holder_holds_asks_once_more(small: Path, tmp_path: Path) -> None:
    grid, log = _grid(small, tmp_path), _log("run")
    posts, seen = [Post(f"node-{FIRST_NODE + 1}", FIRST_NODE + 1, {})], []
    orders = count(1)
    assert Exchange(grid, 5.0, Outbox("1", KEY, orders, log)).ask(DESCRIBE, posts)
    log.append("plan", {})
    grid._tamper = lambda node, message: seen.append(message)
    forgetful = Exchange(grid, 5.0, Outbox("1", KEY, orders, log))
    assert set(forgetful.ask(DESCRIBE, posts)) == {posts[0].label}
    assert (len(seen), forgetful.failures) == (2, {})


def test_a_refusal_shows_what_its_sender_saw_and_is_not_forgotten(small: Path, tmp_path: Path) -> None:
    """Else the next order would lack its proof, be sent twice, and the second answer would hide the first refusal."""
    grid, seen = _grid(small, tmp_path), []
    exchange = Exchange(grid, 5.0, Outbox("1", KEY, count(1), _log("run")))
    place = FIRST_NODE + 1
    (told,) = exchange.ask(DESCRIBE, [Post(f"node-{place}", place, {})]).values()
    exchange.outbox.meet("pay-1", "payments", told.verify)
    grid._tamper = lambda node, message: seen.append(message)
    for number in (1, 2, 3):
        assert exchange.ask(SUBSCORES, [Post("pay-1", place, {"holder": "pay-1"})]) == {}
        assert (len(seen), exchange.failures) == (number, {"pay-1": "protocol"})
    assert exchange.log.witnesses["pay-1"].checkpoint.size > 2
    exchange.outbox._held["pay-1"] = 0  # as if that refusal had been lost
    exchange.failures["pay-1"] = "budget"
    exchange.ask(SUBSCORES, [Post("pay-1", place, {"holder": "pay-1"})])
    assert (len(seen), exchange.failures) == (5, {"pay-1": "protocol"})


def test_a_coordinator_whose_log_was_rewritten_is_obeyed_by_nobody(small: Path, tmp_path: Path) -> None:
    grid, orders = _grid(small, tmp_path), count(1)
    posts = [Post(f"node-{FIRST_NODE + i}", FIRST_NODE + i, {}) for i in range(5)]
    assert len(Exchange(grid, 5.0, Outbox("1", KEY, orders, _log("run", "plan"))).ask(DESCRIBE, posts)) == 5
    for rewritten in (_log("run"), _log("run", "plan"), _log("run", "plan", "asked")):
        exchange = Exchange(grid, 5.0, Outbox("1", KEY, orders, rewritten))
        assert exchange.ask(DESCRIBE, posts) == {}
        assert set(exchange.failures.values()) == {"log"}


def test_a_false_cosignature_spoils_the_answer(small: Path, tmp_path: Path) -> None:
    exchange = Exchange(_grid(small, tmp_path), 5.0, Outbox("1", KEY, count(1), _log("run")))
    message = exchange.message(DESCRIBE, Post(f"node-{FIRST_NODE + 1}", FIRST_NODE + 1, {}))
    (reply,) = exchange.grid.send_and_receive([message])
    record = reply.content.config_records[SIGNED]
    header, key = Header.of(str(record[HEADER])), (tmp_path / "out" / "nodes" / "pay-1" / "sign.key").read_bytes()
    later = Checkpoint(exchange.log.checkpoint.origin, 9, bytes(32)).cosign("pay-1", key)
    for cosigned in (later, "", json.dumps(None)):
        reply.content[SIGNED] = envelope(replace(header, log={"cosigned": cosigned}), key)
        made = Message(reply.content, reply_to=message)
        assert exchange.match([(message, "pay-1")], [made]) == {}
        assert exchange.failures["pay-1"] == "seal"
