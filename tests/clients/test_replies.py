"""What a reply, its length, a log or a code may tell of the rows behind it: nothing."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.common.serde import message_to_proto

from clients.app import app
from clients.handlers import _padded
from model.wire import BINS, COHORT, DESCRIBE, FUSE, HOMES, PRESENCE, SUBSCORES, TRAIN
from server.config import RunConfig
from server.exchange import Exchange
from server.phases import Programme
from simulations.loopback import FIRST_NODE, LoopbackGrid
from tests.envelopes import anew

VALUE, PERSON = 987654.321, "MARKER-ID-77"
COHORT_SIZE, PARTNERS = 600, ("pay-1", "pay-2")
MARKS = (PERSON.encode(), np.float64(VALUE).tobytes(), np.float32(VALUE).tobytes())
NUMBER = re.compile(rb"(?<![\d.])987654")  # begins a number; within a fraction of many digits it may stand by chance


def _marked(wire: bytes) -> bool:
    return bool(NUMBER.search(wire)) or any(mark in wire for mark in MARKS)


ALLOWED = {
    DESCRIBE: {"json"},
    COHORT: {"json", "sealed-pay-1", "sealed-pay-2"},
    PRESENCE: {"json", "sealed"},
    HOMES: {"json", "sealed-pay-1", "sealed-pay-2"},
    BINS: {"json"},
    TRAIN: {"json"},
    SUBSCORES: {"json", "sealed"},
    FUSE: {"json"},
}
ARRAYS = {BINS: {"counts"}, TRAIN: {"payments/last", "payments/mean"}, FUSE: {"counts"}}


class Overheard:
    """A run of two home partners with private bins, and every reply of it."""

    def __init__(self, federation: Path, out: Path) -> None:
        config = {"federation": str(federation), "out": str(out), "epsilon": "1.0", "wait": 0.1}
        nodes = [{"partition-id": i, "num-partitions": 3} for i in range(3)]
        self.replies: list[tuple[str, int, Message]] = []
        self.sent: list[tuple[str, int, Message]] = []
        overheard, asked = self.replies, self.sent

        class Ear(LoopbackGrid):
            def _deliver(self, message: Message) -> Message | None:
                reply = super()._deliver(message)
                asked.append((message.metadata.message_type, message.metadata.dst_node_id, message))
                if reply is not None:
                    overheard.append((message.metadata.message_type, message.metadata.dst_node_id, reply))
                return reply

        self.grid = Ear(app, nodes, config)
        self.programme = Programme(self.grid, RunConfig.parse(config))
        self.programme.run()
        self.state = out / "nodes"

    def sizes(self) -> dict[tuple[str, int], list[tuple[int, int]]]:
        """Of every reply the bytes of its content: (all, JSON text), by kind and node."""
        sizes: dict[tuple[str, int], list[tuple[int, int]]] = {}
        for kind, node, reply in self.replies:
            length = message_to_proto(reply).content.ByteSize()
            text = len(str(reply.content.config_records["config"]["json"]))
            sizes.setdefault((kind, node), []).append((length, text))
        return sizes


@pytest.fixture
def hear(write_federation: Any, persons: Any, party: Any, tmp_path: Path, quick: None) -> Callable[..., Overheard]:
    """Makes the federation with so many rows at the first partner, the same cohort each time, and runs it."""
    made: list[Any] = []

    def run(rows: int, name: str) -> Overheard:
        labels, risk = persons(COHORT_SIZE)
        labels = labels.with_columns(id=pl.when(pl.int_range(pl.len()) == 0).then(pl.lit(PERSON)).otherwise("id"))
        strangers = [f"X{i:06d}" for i in range(5000)]
        ids = (labels["id"].to_list() + strangers)[:rows]
        spend = np.resize(np.abs(risk) * 1000, len(ids))
        spend[0] = VALUE
        features = [
            {"name": "spend", "kind": "numeric", "range": [0, 1000000], "edges": "private", "group": "money"},
            {"name": "late", "kind": "flag", "group": "repayment"},
        ]
        first = pl.DataFrame({"id": ids, "spend": spend, "late": (spend > 500).astype(np.int8)})
        if made:
            first.write_parquet(made[0].folder / "pay-1.parquet")
        else:
            second = first.head(300)
            head = {"privacy": 'within-domain = "home"\nlabel-epsilon = 0.5'}
            parties = [party(n, t, features) for n, t in zip(PARTNERS, (first, second), strict=True)]
            made.append(write_federation(labels, *parties, **head))
        return Overheard(made[0].federation, tmp_path / name)

    return run


def test_every_kind_of_reply_holds_its_allow_listed_keys_only(hear: Callable[..., Overheard]) -> None:
    run = hear(400, "run")
    assert {kind for kind, _, _ in run.replies} == set(ALLOWED)
    for kind, _, reply in run.replies:
        content = reply.content
        assert set(content.config_records["config"]) == ALLOWED[kind]
        assert not content.metric_records
        arrays = content.array_records.get("arrays", {})
        assert set(arrays) == ARRAYS.get(kind, set())
        assert set(content) == {"config", "signed", *(["arrays"] if kind in ARRAYS else [])}
        assert set(content.config_records["signed"]) == {"header", "signature", "verify"}


def test_the_length_of_every_reply_is_the_same_for_few_rows_and_for_many(hear: Callable[..., Overheard]) -> None:
    few, many = hear(100, "few").sizes(), hear(5000, "many").sizes()
    assert set(few) == set(many)
    assert {key for key in few if few[key] != many[key]} == set()


def test_markers_of_a_person_never_leave_in_the_open(
    hear: Callable[..., Overheard], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("DEBUG"):
        run = hear(400, "run")
    for kind, _, reply in run.replies:
        wire = message_to_proto(reply).SerializeToString()
        assert not _marked(wire), kind
    assert PERSON not in caplog.text
    assert "987654" not in caplog.text


@pytest.mark.parametrize("kind", sorted(ALLOWED))
def test_markers_never_leave_where_a_handler_fails(
    hear: Callable[..., Overheard], kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The data are spoilt after the run: repeated ids, then a text where numbers and labels should be."""
    run = hear(400, "run")
    folder = run.state.parent.parent / "made"
    marker = pl.DataFrame({"id": [PERSON] * 3, "spend": [VALUE] * 3, "late": [PERSON] * 3})
    for name in PARTNERS:
        marker.write_parquet(folder / f"{name}.parquet")
    pl.DataFrame({"id": [PERSON] * 3, "label": [str(VALUE)] * 3, "split": ["train"] * 3}).write_parquet(
        folder / "labels.parquet"
    )
    with caplog.at_level("DEBUG"):
        for _, node, message in [row for row in run.sent if row[0] == kind]:
            again = anew(run.programme.exchange, message.content, node, kind)
            reply = next(iter(run.grid.send_and_receive([again])))
            wire = message_to_proto(reply).SerializeToString()
            assert not _marked(wire)
            config = reply.content.config_records["config"]
            assert set(config) <= ALLOWED[kind] or dict(config) == {"error": "input"}
    assert PERSON not in caplog.text
    assert "987654" not in caplog.text


def test_values_inside_a_malformed_message_are_not_repeated(small: Path, caplog: pytest.LogCaptureFixture) -> None:
    grid = LoopbackGrid(app, [{"partition-id": 0, "num-partitions": 1}], {"federation": str(small)})
    exchange = Exchange(grid, 5.0)
    for kind in ALLOWED:
        record = RecordDict({"config": ConfigRecord({"json": f'{{"holder": "{PERSON}", "keys": {VALUE}}}'})})
        receiver = f"node-{FIRST_NODE}" if kind == DESCRIBE else "pay-1"
        order = exchange.outbox.address(record, kind, receiver, {})
        reply = next(iter(grid.send_and_receive([Message(order, FIRST_NODE, kind)])))
        assert PERSON.encode() not in message_to_proto(reply).SerializeToString()
    assert PERSON not in caplog.text


def test_padded_json_has_one_length_whatever_its_numbers() -> None:
    numbers = [0, 1, -1, 12345678, 0.1, -1.7976931348623157e308, 5e-324, 2**63]
    lengths = {len(_padded({"a": [x, {"b": x}], "c": True, "d": None, "e": "text"})) for x in numbers}
    assert len(lengths) == 1
