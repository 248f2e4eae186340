"""The log of a whole run among enrolled holders: what stands in it, who cosigns it, and who is let in."""

from __future__ import annotations

import base64
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from flwr.app import Message

from clients.witness import HELD
from model.wire import DESCRIBE, ERRORS, TRAIN
from privacy.checkpoints import Checkpoint
from privacy.logfile import Kept, read_log
from privacy.signing import announcement, new_signing_key, verify_key
from server import log as log_module
from server.config import RunConfig
from server.coordinator.founding import rekey
from server.failures import RunFailed
from server.log import Log
from server.phases import Programme
from server.roster import discover
from simulations.loopback import FIRST_NODE, LoopbackGrid
from tests.joined_world import HOLDERS, Joined, joined

CODES = {*ERRORS, "silent"}
HASH = re.compile(r"[0-9a-f]{64}")


@pytest.fixture(scope="module")
def world(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Joined:
    """Everybody enrolled; nothing has run."""
    return joined(tmp_path_factory.mktemp("joined"), small)


@pytest.fixture(scope="module")
def ran(small: Path, tmp_path_factory: pytest.TempPathFactory, few_steps: Any) -> tuple[Joined, Programme, Path]:
    """A federation of enrolled holders after one run."""
    folder = tmp_path_factory.mktemp("ran")
    made = joined(folder / "world", small)
    with pytest.MonkeyPatch.context() as patch:
        few_steps(patch)
        programme = made.programme(folder / "out")
        programme.run()
    return made, programme, folder / "out"


def _kept(world: Joined) -> Kept:
    return read_log(world.hub / "log", verify_key(world.key))


def test_a_run_among_enrolled_holders_publishes_a_model_that_the_log_names(ran: tuple[Joined, Programme, Path]) -> None:
    world, programme, out = ran
    assert programme.exchange.failures == {}
    entries = _kept(world).entries
    facts = json.loads((out / "run.json").read_text())
    assert entries[-1].kind == "published"
    assert dict(entries[-1].body) == {"model": facts["bundle_sha256"], "plan": facts["plan"], "run": "1"}
    kinds = [e.kind for e in entries]
    assert kinds[:2] == ["opened", "run"]
    assert kinds.index("plan") < kinds.index("asked")
    heads = next(e.body["heads"] for e in entries if e.kind == "ledgers")
    assert set(heads) == set(HOLDERS)


def test_every_round_is_opened_and_closed_and_names_what_each_holder_sent(ran: tuple[Joined, Programme, Path]) -> None:
    open_now: list[Any] = []
    stages = []
    for entry in _kept(ran[0]).entries:
        if entry.kind == "asked":
            open_now.append((entry.body["stage"], entry.body["round"], set(entry.body["orders"])))
        elif entry.kind == "answered" and entry.body["stage"] != DESCRIBE:
            asked = open_now.pop()
            stages.append(asked[0])
            assert asked == (entry.body["stage"], entry.body["round"], set(entry.body["answers"]))
    assert open_now == []
    assert stages[:2] == ["query.match", "query.cohort"]
    assert stages.count(TRAIN) > 1
    assert stages[-2:] == ["query.subscores", "train.fusion"]


def test_the_log_holds_digests_names_and_codes_and_nothing_of_a_person(
    ran: tuple[Joined, Programme, Path], small: Path
) -> None:
    world = ran[0]

    def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
        if isinstance(value, dict):
            for name, inner in value.items():
                yield from leaves(inner, f"{path}/{name}")
        elif isinstance(value, list):
            for inner in value:
                yield from leaves(inner, path)
        else:
            yield path, value

    for entry in _kept(world).entries:
        for path, value in leaves(dict(entry.body)):
            last = path.rpartition("/")[2]
            if last == "round":
                assert value in range(10)
            elif path.startswith("/failed/"):
                assert value in CODES
            elif last in ("stage", "run", "verify", "why"):
                assert re.fullmatch(r"[A-Za-z0-9.+/=]{1,44}", value)
            else:
                assert value in HOLDERS or HASH.fullmatch(value), (entry.kind, path)
    text = (world.hub / "log" / "entries.jsonl").read_text()
    ids = pl.read_parquet(small.parent / "labels.parquet")["id"].to_list()
    assert not [i for i in ids if f'"{i}"' in text]


def test_every_holder_is_a_witness_and_holds_what_the_log_says(ran: tuple[Joined, Programme, Path]) -> None:
    world = ran[0]
    kept, enrolled = _kept(world), world.enrolled()
    assert set(kept.witnesses) == set(HOLDERS)
    for name in HOLDERS:
        assert kept.witnesses[name].verify == enrolled[name].verify
        held = Checkpoint.read((world.state(name) / HELD).read_text())
        kept.holds(held, name)
        assert held.size == kept.witnesses[name].checkpoint.size
    assert kept.witnesses["lender"].checkpoint.size == len(kept.entries) - 3  # the fusion: answered, ledgers, published


def test_a_log_that_was_rolled_back_finds_no_holder(ran: tuple[Joined, Programme, Path], tmp_path: Path) -> None:
    """An older, sound copy of the coordinator's folder: nobody who saw more obeys it."""
    world, log = ran[0], ran[0].hub / "log"
    shutil.copytree(log, tmp_path / "log")
    try:
        shutil.rmtree(log)
        Log(log, world.key).append("run", {"run": "1"})
        programme = world.programme(tmp_path / "out", 2)
        with pytest.raises(RunFailed, match="no lender appeared"):
            programme.run()
        assert {programme.exchange.failures[f"node-{FIRST_NODE + i}"] for i in range(5)} == {"log"}
    finally:
        shutil.rmtree(log)
        shutil.copytree(tmp_path / "log", log)


# --- who is let in


def _found(programme: Programme) -> tuple[set[str], dict[str, str]]:
    roster = discover(programme.exchange, programme.grid, 0.1)
    return set(roster.members), programme.exchange.failures


def test_everybody_who_is_enrolled_is_found(world: Joined, tmp_path: Path) -> None:
    world.enrol()
    assert _found(world.programme(tmp_path)) == (set(HOLDERS), {})


def test_who_is_not_enrolled_takes_no_part(world: Joined, tmp_path: Path) -> None:
    world.enrol(*(name for name in HOLDERS if name != "pay-1"))
    assert _found(world.programme(tmp_path)) == (set(HOLDERS) - {"pay-1"}, {"pay-1": "seal"})


@pytest.mark.parametrize("change", ["key", "domain"])
def test_a_changed_key_or_domain_takes_no_part(world: Joined, tmp_path: Path, change: str) -> None:
    world.enrol()
    path = world.hub / "roster.json"
    told = json.loads(path.read_text())
    row = next(row for row in told["holders"] if row["name"] == "shop-1")
    row |= announcement("shop-1", new_signing_key(), new_signing_key()) if change == "key" else {"domain": "payments"}
    path.write_text(json.dumps(told))
    assert _found(world.programme(tmp_path)) == (set(HOLDERS) - {"shop-1"}, {"shop-1": "seal"})


def test_a_coordinator_of_another_key_is_obeyed_by_nobody(world: Joined, tmp_path: Path) -> None:
    world.enrol()
    shutil.copytree(world.hub, tmp_path / "rogue", ignore=shutil.ignore_patterns("keys", "log"))
    rogue = Joined(tmp_path / "rogue", world.parties)
    assert rogue.key != world.key
    programme = rogue.programme(tmp_path / "out")
    with pytest.raises(RunFailed, match="no lender appeared"):
        programme.run()
    assert set(programme.exchange.failures.values()) == {"seal"}
    assert base64.b64encode(verify_key(rogue.key)).decode() not in (world.state("pay-1") / "orders.json").read_text()


# --- nothing is released that is not logged


def _simulated(small: Path, tmp_path: Path, sent: list[str]) -> Programme:
    from clients.app import app

    config = {"federation": str(small), "out": str(tmp_path / "out"), "wait": 0.1}
    nodes = [{"partition-id": i, "num-partitions": 5} for i in range(5)]

    def tamper(node: int, message: Message) -> None:
        sent.append(message.metadata.message_type)

    return Programme(LoopbackGrid(app, nodes, config, tamper), RunConfig.parse(config))


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("kind", "sent_then"), [("plan", {DESCRIBE}), ("published", None)])
def test_where_the_log_cannot_be_written_nothing_follows(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, sent_then: set[str] | None
) -> None:
    real, sent = log_module.os.write, []  # type: ignore[var-annotated]

    def full(place: int, data: bytes) -> int:
        return real(place, data[:7]) if f'"kind":"{kind}"'.encode() in data else real(place, data)

    monkeypatch.setattr("server.log.os.write", full)
    with pytest.raises(RunFailed, match="the log cannot be written"):
        _simulated(small, tmp_path, sent).run()
    assert sent_then is None or set(sent) == sent_then
    assert not (tmp_path / "out" / "model").exists()
    assert not (tmp_path / "out" / "run.json").exists()
    kept = read_log(tmp_path / "out" / "nodes" / "coordinator" / "log")
    assert kept.entries[-1].kind == "stopped"
    assert dict(kept.entries[-1].body) == {"run": "1", "why": "RunFailed"}


def test_a_new_key_is_obeyed_once_holders_took_it_and_the_log_goes_on(small: Path, tmp_path: Path) -> None:
    world = joined(tmp_path / "world", small)
    old, run = world.key, world.programme(tmp_path / "out")
    assert len(discover(run.exchange, run.grid, 0.1).members) == len(HOLDERS)
    rekey(world.hub)
    assert world.key != old
    run = world.programme(tmp_path / "out", run=2)
    with pytest.raises(RunFailed, match="no lender appeared"):
        discover(run.exchange, run.grid, 0.1)
    world.enrol()
    run = world.programme(tmp_path / "out", run=3)
    assert len(discover(run.exchange, run.grid, 0.1).members) == len(HOLDERS)
    assert _kept(world).keys == (verify_key(old), verify_key(world.key))
    with pytest.raises(RunFailed, match="another key"):
        Log(world.hub / "log", old)
