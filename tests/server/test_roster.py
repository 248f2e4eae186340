"""Who takes part: a holder whose keys do not hold together is nobody, and the coordinator has keys of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Message

from clients.app import app
from model.wire import CONFIG, JSON
from privacy.envelope import new_key, public_key
from privacy.signing import announcement, coordinator_of, keys_of, new_signing_key, verify_key
from server.exchange import Exchange
from server.identity import Coordinator
from server.roster import Member, Roster, discover
from simulations.loopback import FIRST_NODE, LoopbackGrid
from tests.envelopes import key_of, reply_of
from tests.joined_world import HOLDERS, Joined, joined

PAY = FIRST_NODE + 1
PARTNERS = {"pay-1", "shop-1", "shop-2", "tax-1"}


class _Described(LoopbackGrid):
    """A grid on which one node describes its holder otherwise than it is."""

    def __init__(self, federation: Path, out: Path, how: Callable[[dict[str, Any]], None]) -> None:
        nodes = [{"partition-id": i, "num-partitions": 5} for i in range(5)]
        super().__init__(app, nodes, {"federation": str(federation), "out": str(out)})
        self._how, self._out = how, out

    def _deliver(self, message: Message) -> Message | None:
        reply = super()._deliver(message)
        if reply is not None and message.metadata.dst_node_id == PAY:
            record = reply.content.config_records[CONFIG]
            told = json.loads(str(record[JSON]))
            self._how(told["holders"][0])
            record[JSON] = json.dumps(told)
            reply_of(message.content, reply.content, "pay-1", key_of(self._out / "nodes", "pay-1"))
        return reply


def _discovered(federation: Path, out: Path, how: Callable[[dict[str, Any]], None]) -> Roster:
    grid = _Described(federation, out, how)
    return discover(Exchange(grid, 5.0), grid, 0.1)


def test_a_member_carries_what_its_holder_announced(small: Path, tmp_path: Path) -> None:
    said: dict[str, Any] = {}
    roster = _discovered(small, tmp_path, said.update)
    member = roster.members["pay-1"]
    assert member.public == {field: said[field] for field in ("key", "verify", "bound")}
    assert keys_of("pay-1", member.public)
    assert set(roster.members) == {"lender", *PARTNERS}
    assert len({m.verify for m in roster.members.values()}) == 5


def _instead(field: str) -> Callable[[dict[str, Any]], None]:
    return lambda row: row.update({field: announcement("pay-1", new_key(), new_signing_key())[field]})


@pytest.mark.parametrize(
    "how",
    [
        pytest.param(_instead("key"), id="another sealing key"),
        pytest.param(_instead("verify"), id="another signing key"),
        pytest.param(_instead("bound"), id="another signature"),
        pytest.param(
            lambda row: row.update(announcement("shop-1", new_key(), new_signing_key())), id="bound to shop-1"
        ),
        pytest.param(lambda row: row.pop("bound"), id="no signature"),
        pytest.param(lambda row: row.pop("verify"), id="no signing key"),
        pytest.param(lambda row: row.update(verify=None), id="null"),
        pytest.param(lambda row: row.update(key="AAAA"), id="short key"),
    ],
)
def test_a_description_with_a_bad_binding_is_left_out(
    small: Path, tmp_path: Path, how: Callable[[dict[str, Any]], None]
) -> None:
    roster = _discovered(small, tmp_path, how)
    assert set(roster.members) == {"lender", *PARTNERS} - {"pay-1"}
    assert roster.missing == ("pay-1",)


def _lied(small: Path, folder: Path, lie: Callable[[Joined, dict[str, Any]], str]) -> Roster:
    """Who takes part among enrolled holders where pay-1 signs another description, with the keys that it has."""
    world = joined(folder / "world", small)
    programme = world.programme(folder / "out")
    grid = programme.exchange.grid
    deliver = grid._deliver

    def lying(message: Message) -> Message | None:
        reply = deliver(message)
        if reply is not None and message.metadata.dst_node_id == PAY:
            record = reply.content.config_records[CONFIG]
            record[JSON] = lie(world, json.loads(str(record[JSON])))
            reply_of(message.content, reply.content, "pay-1", key_of(world.parties["pay-1"] / "state", "pay-1"))
        return reply

    grid._deliver = lying
    return discover(programme.exchange, grid, 0.1)


def _as_others(world: Joined, told: dict[str, Any], names: tuple[str, ...]) -> str:
    rows = {n: {**told["holders"][0], **asdict(row)} for n, row in world.enrolled().items()}
    return json.dumps({**told, "holders": [rows[name] for name in names]})


@pytest.mark.parametrize(
    "lie",
    [
        pytest.param(lambda world, told: _as_others(world, told, ("shop-1",)), id="another"),
        pytest.param(lambda world, told: _as_others(world, told, ("pay-1", "shop-1")), id="itself and another"),
        pytest.param(lambda world, told: _as_others(world, told, ("pay-1", "pay-1")), id="itself twice"),
        pytest.param(lambda world, told: _as_others(world, told, ()), id="nobody"),
        pytest.param(lambda world, told: "[" * 200_000, id="deep"),
        pytest.param(lambda world, told: "[]", id="a list"),
        pytest.param(lambda world, told: json.dumps({"holders": [{**told["holders"][0], "contract": "x"}]}), id="x"),
        pytest.param(lambda world, told: json.dumps({"holders": 7}), id="a number"),
    ],
)
def test_an_enrolled_partner_that_lies_of_others_is_left_out_and_nobody_else(
    small: Path, tmp_path: Path, lie: Callable[[Joined, dict[str, Any]], str]
) -> None:
    roster = _lied(small, tmp_path, lie)
    assert {n: m.node for n, m in roster.members.items()} == {
        name: FIRST_NODE + i for i, name in enumerate(HOLDERS) if name != "pay-1"
    }


def test_a_member_that_is_only_planned_with_announces_nothing() -> None:
    with pytest.raises(ValueError, match="pay-1"):
        keys_of("pay-1", Member("pay-1", 1, "payments", None, "").public)


def test_the_coordinator_has_fresh_keys_in_every_run_and_shows_public_parts_only() -> None:
    one, other = Coordinator.fresh(), Coordinator.fresh()
    assert len({one.seal_key, one.sign_key, other.seal_key, other.sign_key}) == 4
    told = one.public("plan-1")
    keys = keys_of(coordinator_of("plan-1"), told)
    assert (keys.seal, keys.verify) == (public_key(one.seal_key), verify_key(one.sign_key))
    assert repr(one) == "Coordinator()"
    with pytest.raises(ValueError, match="signature"):
        keys_of(coordinator_of("plan-2"), told)
