"""What leaves a node: the allow-listed keys and generic codes, whatever happens inside; and what fusing may cost."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.common.serde import message_to_proto

from clients.app import app
from clients.config import Node
from clients.identity import introduction
from clients.packets import Channel
from model.wire import COHORT, DESCRIBE, ERRORS, FUSE, SUBSCORES, TRAIN
from privacy.chain import Chain
from privacy.plan import digest
from server.config import RunConfig
from server.phases import Programme
from simulations.loopback import FIRST_NODE, LoopbackGrid
from tests.envelopes import anew

MARK = "SECRET-4711"
KINDS = (DESCRIBE, COHORT, TRAIN, SUBSCORES, FUSE)


class Recorded:
    """A finished run whose every message can be sent again, changed or not."""

    def __init__(self, federation: Path, out: Path, epsilon: str = "1.0") -> None:
        self.config = config = {"federation": str(federation), "out": str(out), "epsilon": epsilon, "wait": 0.1}
        nodes = [{"partition-id": i, "num-partitions": 5} for i in range(5)]
        sent: list[tuple[int, Message]] = []
        self.grid = LoopbackGrid(app, nodes, config, tamper=lambda node, message: sent.append((node, message)))
        programme = Programme(self.grid, RunConfig.parse(config))
        self.outcome, self.exchange = programme.run(), programme.exchange
        self.sent, self.state = tuple(sent), out / "nodes"

    def again(self, kind: str, change: Callable[[Any, RecordDict], None] = lambda data, content: None) -> Any:
        """The reply when the last message of that kind is sent once more, after `change`."""
        node, message = [m for m in self.sent if m[1].metadata.message_type == kind][-1]
        content = copy.deepcopy(message.content)
        record = content.config_records["config"]
        data = json.loads(str(record["json"]))
        change(data, content)
        record["json"] = json.dumps(data)
        return self.send(content, node, kind)

    def send(self, content: RecordDict, node: int, kind: str, receiver: str = "") -> Any:
        """The reply to an order that the coordinator signs anew, to whom it was for unless told otherwise."""
        return next(iter(self.grid.send_and_receive([anew(self.exchange, content, node, kind, receiver)])))

    def charges(self, name: str) -> int:
        """Number of plans in a holder's ledger."""
        return sum(row.kind == "plan" for row in Chain(self.state / name / "ledger.db").checked())


@pytest.fixture(scope="module")
def run(small: Path, tmp_path_factory: pytest.TempPathFactory, few_steps: Any) -> Recorded:
    """A run over the small sample, of which a test may repeat any message."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        few_steps(monkeypatch)
        return Recorded(small, tmp_path_factory.mktemp("recorded") / "run")


def _config(reply: Any) -> Any:
    return reply.content.config_records["config"]


def _wire(reply: Any) -> bytes:
    return message_to_proto(reply).SerializeToString()  # type: ignore[no-any-return]


def test_replies_hold_the_allow_listed_keys_and_nothing_else(run: Recorded) -> None:
    allowed = {DESCRIBE: {"json"}, TRAIN: {"json"}, SUBSCORES: {"json", "sealed"}, FUSE: {"json"}}
    allowed[COHORT] = {"json", *(f"sealed-{name}" for name in ("pay-1", "shop-1", "shop-2", "tax-1"))}
    for kind in KINDS:
        reply = run.again(kind)
        assert set(_config(reply)) == allowed[kind]
        assert not reply.content.metric_records
        assert set(reply.content) == {"config", "signed", *(["arrays"] if kind in (TRAIN, FUSE) else [])}


def test_the_plain_part_of_each_reply_holds_public_facts_only(run: Recorded) -> None:
    told = {kind: json.loads(_config(run.again(kind))["json"]) for kind in KINDS}
    assert set(told[DESCRIBE]) <= {"holders", "programme"}
    assert all(
        set(row) == {"name", "domain", "contract", "key", "verify", "bound"} for row in told[DESCRIBE]["holders"]
    )
    assert set(told[COHORT]) == {"cohort"}
    assert len(told[COHORT]["cohort"]) == 64  # a hash of tokens under a fresh key: nothing to the coordinator
    assert set(told[TRAIN]) == {"holder", "head"}
    assert set(told[SUBSCORES]) == {"holder"}
    assert set(told[FUSE]) == {"table", "centres", "head"}


def test_the_lenders_description_states_the_terms(run: Recorded) -> None:
    reply = next(m for m in run.sent if m[0] == FIRST_NODE and m[1].metadata.message_type == DESCRIBE)
    answer = run.send(reply[1].content, FIRST_NODE, DESCRIBE)
    terms = json.loads(_config(answer)["json"])["programme"]
    assert set(terms) == {
        "name",
        "federation",
        "privacy",
        "total",
        "partners",
        "on_failure",
        "sizes",
        "roles",
        "alignment",
    }


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_breaks_inside_only_a_generic_code_leaves(
    run: Recorded, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from clients import handlers

    def explode(*arguments: object) -> None:
        raise ZeroDivisionError(MARK)

    monkeypatch.setitem(handlers._HANDLERS, kind, explode)
    reply = run.again(kind)
    assert dict(_config(reply)) == {"error": "internal"}
    assert MARK.encode() not in _wire(reply)


@pytest.mark.usefixtures("quick")
def test_values_of_a_broken_file_never_appear_in_a_reply_or_a_log(
    files: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = Recorded(files.federation, tmp_path / "run")
    for name in ("labels.parquet", "payments.parquet", "lender_kyc.parquet", "ecommerce-1.parquet"):
        files.table(name, lambda table: table.with_columns(id=pl.lit(MARK)))
    files.raw("ecommerce-2.csv", f'id,tenure_months\n"{MARK}\n'.encode())
    files.raw("tax_business.parquet", b"PAR1" + MARK.encode() * 9)
    for kind in (COHORT, TRAIN, SUBSCORES, FUSE):
        reply = run.again(kind)
        assert _config(reply)["error"] in ERRORS
        assert set(reply.content) == {"config", "signed"}
        assert MARK.encode() not in _wire(reply)
        assert MARK not in caplog.text


@pytest.mark.usefixtures("quick")
def test_a_label_that_is_none_is_not_told(files: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = Recorded(files.federation, tmp_path / "run")
    files.table("labels.parquet", lambda t: t.with_columns(label=pl.lit(MARK)))
    reply = run.again(COHORT)
    assert dict(_config(reply)) == {"error": "input"}
    assert MARK not in caplog.text


@pytest.mark.parametrize("kind", [COHORT, TRAIN, SUBSCORES, FUSE])
@pytest.mark.parametrize("content", ["{", "[]", '"x"', "{}"])
def test_a_malformed_message_is_a_protocol_error(run: Recorded, kind: str, content: str) -> None:
    record = RecordDict({"config": ConfigRecord({"json": content})})
    reply = run.send(record, FIRST_NODE, kind, "lender")
    assert dict(_config(reply)) == {"error": "protocol"}


def test_a_message_without_our_record_is_a_protocol_error(run: Recorded) -> None:
    reply = next(iter(run.grid.send_and_receive([Message(RecordDict(), dst_node_id=FIRST_NODE, message_type=TRAIN)])))
    assert dict(_config(reply)) == {"error": "protocol"}


@pytest.mark.parametrize("kind", [TRAIN, SUBSCORES])
def test_a_node_answers_for_nobody_else(run: Recorded, kind: str) -> None:
    def as_shop(data: Any, content: RecordDict) -> None:
        del content
        data["holder"] = "shop-1"

    assert dict(_config(run.again(kind, as_shop))) == {"error": "input"}


@pytest.mark.parametrize("kind", [COHORT, FUSE])
def test_a_partner_never_plays_the_lender(run: Recorded, kind: str) -> None:
    message = next(m for _, m in run.sent if m.metadata.message_type == kind)
    for receiver in ("lender", "pay-1"):
        reply = run.send(message.content, FIRST_NODE + 1, kind, receiver)
        assert dict(_config(reply)) == {"error": "input"}


def test_a_tampered_sealed_packet_is_reported_and_not_used(run: Recorded) -> None:
    def spoil(data: Any, content: RecordDict) -> None:
        del data
        record = content.config_records["config"]
        name = next(key for key in record if key.startswith("sealed"))
        record[name] = bytes(record[name][:-1]) + bytes([record[name][-1] ^ 1])

    assert list(json.loads(_config(run.again(FUSE, spoil))["json"])) == ["unopened"]


def test_a_packet_swapped_for_another_partners_is_reported_and_not_used(run: Recorded) -> None:
    def swap(data: Any, content: RecordDict) -> None:
        del data
        record = content.config_records["config"]
        record["sealed-shop-1"], record["sealed-shop-2"] = record["sealed-shop-2"], record["sealed-shop-1"]

    assert json.loads(_config(run.again(FUSE, swap))["json"]) == {"unopened": ["shop-1", "shop-2"]}


def test_a_partner_that_sealed_what_is_no_evidence_is_reported_and_not_used(run: Recorded) -> None:
    def spoil(data: Any, content: RecordDict) -> None:
        node = Node.of({"num-partitions": 1}, run.config, 1)
        channel, lender = Channel(node, "pay-1", digest(data["plan"])), introduction(node, "lender")
        content.config_records["config"]["sealed-pay-1"] = channel.seal("lender", lender, b"x" * 100, "subscores")

    assert json.loads(_config(run.again(FUSE, spoil))["json"]) == {"unopened": ["pay-1"]}


def test_fusing_again_draws_no_second_noise_for_one_charge(run: Recorded) -> None:
    first, second = (json.loads(_config(run.again(FUSE))["json"]) for _ in range(2))
    assert first == second
    assert first["table"] == run.outcome.bundle.table.to_dict()


def _seal_again(run: Recorded, data: Any, content: RecordDict, before: str) -> None:
    """Has every partner say under another plan what it said under the plan before: else nothing would open."""
    node = Node.of({"num-partitions": 1}, run.config, 1)
    record, lender = content.config_records["config"], introduction(node, "lender")
    for partner in data["partners"]:
        name = partner["name"]
        told = Channel(node, "lender", before).open(name, partner["keys"], record[f"sealed-{name}"], "subscores")
        record[f"sealed-{name}"] = Channel(node, name, digest(data["plan"])).seal("lender", lender, told, "subscores")


def test_sub_scores_of_one_plan_do_not_open_for_another(run: Recorded) -> None:
    def renamed(data: Any, content: RecordDict) -> None:
        del content
        data["plan"]["run"] = "another"

    told = json.loads(_config(run.again(FUSE, renamed))["json"])
    assert told == {"unopened": ["pay-1", "shop-1", "shop-2", "tax-1"]}


UNDERSTATED = [("bound", 1e-9), ("count", 1), ("probability", 1e-3), ("noise_multiplier", 0.0)]


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [(p, *u) for p in ("centres", "weights", "calibration") for u in UNDERSTATED if (p, u[0]) != ("centres", "count")],
)
def test_a_fusion_order_that_understates_its_price_is_refused(
    run: Recorded, part: str, field: str, value: float
) -> None:
    """Another line makes it another plan, so that no stored answer hides what happens."""

    def understate(data: Any, content: RecordDict) -> None:
        before = digest(data["plan"])
        next(line for line in data["plan"]["lines"] if line["name"] == f"fusion/{part}")[field] = value
        _seal_again(run, data, content, before)

    before = run.charges("lender")
    assert _config(run.again(FUSE, understate)).get("error") in ("input", "budget")
    assert run.charges("lender") == before


def test_a_second_plan_beyond_the_lenders_ceiling_is_refused(run: Recorded) -> None:
    def renamed(data: Any, content: RecordDict) -> None:
        before = digest(data["plan"])
        data["plan"]["run"] = "another"
        _seal_again(run, data, content, before)

    before = run.charges("lender")
    assert dict(_config(run.again(FUSE, renamed))) == {"error": "budget"}
    assert run.charges("lender") == before


@pytest.mark.usefixtures("quick")
def test_the_size_of_replies_does_not_depend_on_the_rows_a_partner_holds(files: Any, tmp_path: Path) -> None:
    sizes = []
    for rows in (1200, 12):
        files.table("payments.parquet", lambda table, rows=rows: table.head(rows))  # type: ignore[misc]
        run = Recorded(files.federation, tmp_path / f"run-{rows}")
        node = FIRST_NODE + 1
        replies = []
        for kind in (DESCRIBE, TRAIN, SUBSCORES):
            message = next(m for n, m in run.sent if n == node and m.metadata.message_type == kind)
            replies.append(run.send(message.content, node, kind))
        content = [{k: len(v) for k, v in _config(r).items()} for r in replies]
        arrays = {k: a.numpy().shape for k, a in replies[1].content.array_records["arrays"].items()}
        sizes.append((content, arrays))
    assert sizes[0] == sizes[1]


def test_trained_arrays_are_named_by_block_and_never_zero_dimensional(run: Recorded) -> None:
    arrays = run.again(TRAIN).content.array_records["arrays"]
    assert set(arrays) == {"tax_business/last", "tax_business/mean"}
    assert all(a.numpy().ndim == 1 and np.isfinite(a.numpy()).all() for a in arrays.values())
