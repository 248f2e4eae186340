"""The packets of a joint fit: tied to sender, receiver, use and plan; nothing of a person in the open; nothing left."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from flwr.app import Message
from flwr.common.serde import message_to_proto

from clients.joint_handlers import HANDLERS
from model.wire import ERRORS
from server.failures import RunFailed
from tests.envelopes import resign
from tests.joint_world import CHUNK, MARK_ID, MARK_VALUE, Run, World, node_of, write_world

EPSILON = 8.0
MARKS = (MARK_ID.encode(), b"321.98", np.float64(MARK_VALUE).tobytes(), np.float32(MARK_VALUE).tobytes())


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.joint_planning.CHUNK", CHUNK)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return write_world(tmp_path / "made", epsilon=str(EPSILON))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("server.joint_planning.CHUNK", CHUNK)
        return Run(write_world(folder / "made", epsilon=str(EPSILON)), folder / "out", EPSILON).go()


def _swap(record: Any, first: str, second: str) -> None:
    record[first], record[second] = record[second], record[first]


SPOILT = {
    "rows of two owners": ("query.multiply", lambda r: _swap(r, "rows-pay-1", "rows-pay-2")),
    "rows of the other party's": ("query.multiply", lambda r: r.update({"rows-shop": r["rows-pay-1"]})),
    "the dealer's": ("query.multiply", lambda r: r.update({"dealt": r["rows-shop"]})),
    "noise of two owners": ("train.open", lambda r: _swap(r, "noise-pay-1", "noise-shop")),
    "sums and tables": ("train.step", lambda r: _swap(r, "sums-shop", "tables")),
    "sums and noise": ("train.step", lambda r: "noise-shop" in r and _swap(r, "sums-shop", "noise-shop")),
    "tables": ("train.step", lambda r: r.update({"tables": _bit(r["tables"])})),
    "opening": ("train.step", lambda r: r.update({"opening": _bit(r["opening"])})),
    "seeds": ("query.rows", lambda r: r.update({"seeds": _bit(r["seeds"])})),
}


def _bit(packet: bytes) -> bytes:
    return packet[:200] + bytes([packet[200] ^ 1]) + packet[201:] if len(packet) > 200 else packet[:-1] + b"\0"


@pytest.mark.parametrize(("kind", "change"), SPOILT.values(), ids=SPOILT.keys())
def test_a_packet_of_another_or_altered_opens_nothing(world: World, tmp_path: Path, kind: str, change: Any) -> None:
    def tamper(node: int, message: Message) -> str | None:
        if message.metadata.message_type == kind:
            change(message.content.config_records["config"])
            resign(run.programme.exchange, message)
        return None

    run = Run(world, tmp_path / "out", EPSILON, tamper=tamper)
    with pytest.raises(RunFailed, match=r"\(seal\)"):
        run.go()
    assert not (tmp_path / "out" / "model").exists()
    if kind != "train.step":
        assert run.matrix is None


@pytest.mark.parametrize("kind", ["query.multiply", "train.open", "train.step"])
def test_a_packet_of_another_plan_opens_nothing(world: World, finished: Run, tmp_path: Path, kind: str) -> None:
    old = next(m for k, _, m in finished.messages if k == kind).content.config_records["config"]
    name = {"query.multiply": "rows-shop", "train.open": "noise-shop", "train.step": "sums-shop"}[kind]

    def tamper(node: int, message: Message) -> str | None:
        if message.metadata.message_type == kind:
            message.content.config_records["config"][name] = old[name]
            resign(run.programme.exchange, message)
        return None

    run = Run(world, tmp_path / "out", EPSILON, tamper=tamper)
    with pytest.raises(RunFailed, match=r"lender \(seal\)"):
        run.go()


def test_nothing_of_a_person_is_in_the_open(finished: Run, caplog: pytest.LogCaptureFixture) -> None:
    kinds = {kind for kind, _, _ in finished.replies}
    assert set(HANDLERS) <= kinds
    for kind, _, message in (*finished.messages, *finished.replies):
        wire = message_to_proto(message).SerializeToString()
        assert not [mark for mark in MARKS if mark in wire], kind
    for kind, _, reply in finished.replies:
        if kind in HANDLERS:
            record = reply.content.config_records["config"]
            assert set(reply.content) == {"config", "signed"}
            assert set(json.loads(str(record["json"]))) == {"holder", "head"}


def test_packets_are_as_long_for_few_persons_as_for_many(world: World, finished: Run, tmp_path: Path) -> None:
    shop = pl.read_parquet(world.folder / "shop.parquet")
    shop.head(9).write_parquet(world.folder / "shop.parquet")
    few = Run(world, tmp_path / "out", EPSILON).go()

    def lengths(run: Run) -> list[tuple[str, int, list[tuple[str, int]]]]:
        found = []
        for kind, node, reply in run.replies:
            if kind in HANDLERS:
                record = reply.content.config_records["config"]
                found.append((kind, node, sorted((k, len(v)) for k, v in record.items() if isinstance(v, bytes))))
        return found

    assert {repr(row) for row in lengths(few)} == {repr(row) for row in lengths(finished)}


def test_secrets_are_for_their_owner_only(world: World, tmp_path: Path) -> None:
    seen: dict[str, int] = {}

    def tamper(node: int, message: Message) -> str | None:
        if message.metadata.message_type == "query.forget":
            for path in (tmp_path / "ledger").rglob("joint*"):
                for found in [path, *(path.iterdir() if path.is_dir() else [])]:
                    seen[str(found)] = found.stat().st_mode & 0o777
        return None

    run = Run(world, tmp_path / "out", EPSILON, ledger=tmp_path / "ledger", tamper=tamper).go()
    names = {Path(path).name.rstrip("-0123456789") for path in seen}
    assert {"seeds", "roots", "rows", "sums", "table", "dealt", "opening"} <= names
    assert set(seen.values()) <= {0o600, 0o700}
    left = {p.name for p in (tmp_path / "ledger").rglob("joint-*/*")}
    assert left == {"over"}
    for holder in ("lender", "pay-1", "pay-2", "shop"):
        kept = {p.name for p in (run.ledger / holder).iterdir() if p.is_dir()}  # type: ignore[operator]
        assert kept == {f"joint-{run.table.plan.id}", "models", "scored"}  # and which published versions it knows


@pytest.mark.parametrize("kind", ["query.rows", "query.deal", "query.multiply", "train.sums", "query.tables"])
def test_a_plan_that_is_over_begins_no_second_time(finished: Run, kind: str) -> None:
    """Masks that hid rows once would hide other ones, and the difference of both would show."""
    old = next(n for k, n, _ in finished.messages if k == kind)
    name = next(n for n in finished.world.holders if node_of(finished.world, n) == old)
    assert dict(finished.again(kind, name, lambda order, record: None)) == {"error": "input"}
    assert "json" in finished.again("query.forget", name, lambda order, record: None)  # as often as one likes


@pytest.mark.parametrize("kind", sorted(HANDLERS))
def test_a_holder_that_fails_tells_a_code_and_no_text(
    world: World, finished: Run, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Files spoilt with a marker, orders without their keys."""
    old = next(n for k, n, _ in finished.messages if k == kind)
    name = next(n for n in finished.world.holders if node_of(finished.world, n) == old)

    def empty(order: dict[str, Any], record: Any) -> None:
        order.update(plan={"marker": MARK_ID}, keys=MARK_ID)

    with caplog.at_level("DEBUG"):
        answer = finished.again(kind, name, empty)
    assert set(answer) == {"error"}
    assert answer["error"] in ERRORS
    assert MARK_ID not in caplog.text
