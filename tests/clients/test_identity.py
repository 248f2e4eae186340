"""Who a holder is to the others: keys of its own, kept; and others' keys, which may not change."""

from __future__ import annotations

import base64
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from clients.config import Node
from clients.identity import PEERS, introduction, peer, pinned, private_key, signing_key
from clients.nodefile import NAME, NodeFile
from clients.partner.folder import Folder
from clients.partner.joining import renew
from privacy.envelope import SealBroken, new_key, public_key
from privacy.signing import (
    Keys,
    announcement,
    coordinator_of,
    keys_of,
    new_signing_key,
    seal_signed,
    unseal_signed,
    verify_key,
)
from tests.joined_world import joined


def _node(small: Path, out: Path, run: int = 7, **config: str) -> Node:
    return Node.of({"num-partitions": 1}, {"federation": str(small), "out": str(out), **config}, run)


@pytest.fixture
def node(small: Path, tmp_path: Path) -> Node:
    """A node that plays every holder of the small sample."""
    return _node(small, tmp_path / "run")


@pytest.fixture
def key() -> bytes:
    """Some holder's verify key."""
    return verify_key(new_signing_key())


def test_a_signing_key_is_made_once_and_for_its_owner_only(node: Node, small: Path, tmp_path: Path) -> None:
    made = signing_key(node, "pay-1")
    path = node.durable("pay-1") / "sign.key"
    assert path.stat().st_mode & 0o777 == 0o600
    assert signing_key(_node(small, tmp_path / "run"), "pay-1") == made == path.read_bytes()
    assert len(made) == 32
    assert made not in (signing_key(node, "shop-1"), private_key(node.folder("pay-1")))
    assert not [p for p in path.parent.iterdir() if p.suffix == ".part"]


def test_two_simulations_share_no_identity(small: Path, tmp_path: Path) -> None:
    one, other = (_node(small, tmp_path / out) for out in ("one", "other"))
    assert not set(introduction(one, "pay-1").values()) & set(introduction(other, "pay-1").values())
    peer(one, "lender", "pay-1", introduction(one, "pay-1"))
    peer(other, "lender", "pay-1", introduction(other, "pay-1"))


def test_an_identity_outlives_a_run_where_the_ledger_does(small: Path, tmp_path: Path) -> None:
    runs = [_node(small, tmp_path / f"run-{i}", i, ledger=str(tmp_path / "ledgers")) for i in (1, 2, 3)]
    first, second = (introduction(run, "pay-1") for run in runs[:2])
    assert first == second  # a new attempt opens what was sealed in an earlier one
    keys = [peer(run, "lender", "pay-1", told) for run, told in zip(runs[:2], (first, second), strict=True)]
    assert keys[1] == Keys(public_key(private_key(runs[1].durable("pay-1"))), keys[0].verify)
    with pytest.raises(SealBroken, match="changed"):
        peer(runs[2], "lender", "pay-1", announcement("pay-1", new_key(), new_signing_key()))


def test_two_holders_that_met_send_each_other_packets(node: Node) -> None:
    shop = peer(node, "pay-1", "shop-1", introduction(node, "shop-1"))
    pay = peer(node, "shop-1", "pay-1", introduction(node, "pay-1"))
    packet = seal_signed(shop.seal, signing_key(node, "pay-1"), b"seed", "plan|seed")
    assert unseal_signed(private_key(node.folder("shop-1")), pay.verify, packet, "plan|seed") == b"seed"


# --- pins


def test_the_first_key_is_kept_and_another_refused(node: Node, key: bytes) -> None:
    assert pinned(node, "lender", "pay-1", key) == key
    assert pinned(node, "lender", "pay-1", key) == key
    with pytest.raises(SealBroken, match=r"^the key of pay-1 changed: [^\n]*$"):
        pinned(node, "lender", "pay-1", verify_key(new_signing_key()))
    assert pinned(node, "lender", "pay-1", key) == key


def test_pins_survive_reopening(node: Node, small: Path, tmp_path: Path, key: bytes) -> None:
    pinned(node, "lender", "pay-1", key)
    again = _node(small, tmp_path / "run")
    with pytest.raises(SealBroken, match="changed"):
        pinned(again, "lender", "pay-1", verify_key(new_signing_key()))
    path = again.durable("lender") / PEERS
    assert json.loads(path.read_text()) == {"pay-1": base64.b64encode(key).decode()}
    assert path.stat().st_mode & 0o777 == 0o600


def test_each_holder_keeps_its_own_pins_and_one_for_each_name(node: Node, key: bytes) -> None:
    other = verify_key(new_signing_key())
    pinned(node, "lender", "pay-1", key)
    assert pinned(node, "lender", "shop-1", other) == other
    assert pinned(node, "tax-1", "pay-1", other) == other
    assert pinned(node, "lender", "pay-1", key) == key


def test_a_coordinator_may_change_between_runs_but_not_within_one(node: Node, key: bytes) -> None:
    other = verify_key(new_signing_key())
    pinned(node, "lender", coordinator_of("plan-1"), key)
    pinned(node, "lender", coordinator_of("plan-2"), other)
    with pytest.raises(SealBroken, match="changed"):
        pinned(node, "lender", coordinator_of("plan-1"), other)


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_key_of_another_length_is_not_pinned(node: Node, key: bytes, length: int) -> None:
    with pytest.raises(SealBroken, match="wrong length"):
        pinned(node, "lender", "pay-1", bytes(length))
    assert pinned(node, "lender", "pay-1", key) == key


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\udcff"])
def test_pins_that_cannot_be_read_are_not_begun_anew(node: Node, key: bytes, text: str) -> None:
    path = node.durable("lender") / PEERS
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(SealBroken, match="cannot be read"):
        pinned(node, "lender", "pay-1", key)


def test_an_announcement_that_does_not_hold_together_pins_nothing(node: Node) -> None:
    told = introduction(node, "pay-1")
    for forged in ({**told, "key": introduction(node, "shop-1")["key"]}, introduction(node, "shop-1")):
        with pytest.raises(SealBroken):
            peer(node, "lender", "pay-1", forged)
    assert not (node.durable("lender") / PEERS).exists()


def test_a_false_coordinator_cannot_swap_a_sealing_key_of_a_known_holder(node: Node) -> None:
    """It may sign a key of its own with a signing key of its own: the pin refuses that."""
    peer(node, "lender", "pay-1", introduction(node, "pay-1"))
    with pytest.raises(SealBroken, match="the key of pay-1 changed"):
        peer(node, "lender", "pay-1", announcement("pay-1", new_key(), new_signing_key()))


def test_a_crash_before_a_file_is_in_place_leaves_nothing_behind_that_counts(
    node: Node, key: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(descriptor: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", crash)
    for act in (lambda: signing_key(node, "pay-1"), lambda: pinned(node, "pay-1", "shop-1", key)):
        with pytest.raises(OSError, match="no space"):
            act()
    monkeypatch.undo()
    assert len(signing_key(node, "pay-1")) == 32
    other = verify_key(new_signing_key())
    assert pinned(node, "pay-1", "shop-1", other) == other


def _meet(node: Node, number: int) -> bytes:
    pinned(node, "lender", f"pay-{number}", number.to_bytes(32, "big"))
    return signing_key(node, "lender")


def test_many_at_once_make_one_key_and_lose_no_pin(node: Node) -> None:
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda i: _meet(node, i), range(64)))
    assert len(keys) == 1
    assert len(json.loads((node.durable("lender") / PEERS).read_text())) == 64


def test_a_sealing_key_that_its_holder_replaced_is_used_no_more(small: Path, tmp_path: Path) -> None:
    """It may have leaked with an old backup, and a coordinator may still relay what announced it."""
    world = joined(tmp_path, small)
    pay, before = (Node.own(NodeFile.load(world.parties[name] / NAME)) for name in ("pay-1", "lender"))
    old = introduction(pay, "pay-1")
    (world.state("pay-1") / "seal.key").unlink()
    renew(Folder.open(world.parties["pay-1"]))
    new = introduction(pay, "pay-1")
    assert peer(before, "lender", "pay-1", old).verify == keys_of("pay-1", new).verify
    with pytest.raises(SealBroken, match="join with the newest welcome"):  # as long as only the old one is confirmed
        peer(before, "lender", "pay-1", new)
    world.enrol()
    lender = Node.own(NodeFile.load(world.parties["lender"] / NAME))
    assert peer(lender, "lender", "pay-1", new) == keys_of("pay-1", new)
    with pytest.raises(SealBroken, match="the sealing key of pay-1 is not the welcome's"):
        peer(lender, "lender", "pay-1", old)
