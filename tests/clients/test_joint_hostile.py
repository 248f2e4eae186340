"""A coordinator that asks a joint fit's holders for what it may not have: other rows, links, noise, roles."""

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from flwr.app import Message

from clients.joint_handlers import _seat
from clients.orders import Agreement
from model.inputs import InputError
from privacy.envelope import new_key
from privacy.signing import announcement, new_signing_key
from server.failures import RunFailed
from tests.joint_world import CHUNK, Run, node_of, write_world

EPSILON, LAST = 8.0, 3  # the last of four chunks
Change = Callable[[dict[str, Any], Any], None]


def _cut(folder: Path, kind: str) -> Run:
    """A run whose every message of a kind is lost: all before it was answered."""
    world = write_world(folder / "made", epsilon=str(EPSILON))

    def tamper(node: int, message: Message) -> str | None:
        return "silent" if message.metadata.message_type == kind else None

    run = Run(world, folder / "out", EPSILON, ledger=folder / "ledger", tamper=tamper)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("server.joint_planning.CHUNK", CHUNK)
        with pytest.raises(RunFailed):
            run.go()
    run.sent._tamper = lambda node, message: None
    return run


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that stopped before the fusion: every order of the fit was answered, and no secret deleted."""
    return _cut(tmp_path_factory.mktemp("fitted"), "train.fusion")


@pytest.fixture
def closed(tmp_path: Path) -> Run:
    """A run that stopped before the opening: everybody was charged."""
    return _cut(tmp_path, "train.open")


def _nothing(order: dict[str, Any], record: Any) -> None:
    """The very same message."""


def _set(**values: Any) -> Change:
    return lambda order, record: order.update(values)


def _dealer(run: Run) -> str:
    return str(run.table.joint.roles.dealer)


def _forged(run: Run, name: str, what: str, message: bytes) -> bytes:
    """A packet that a holder really sealed for the lender, under the right context, with another content."""
    node = node_of(run.world, name)
    asked = next(m for k, n, m in run.messages if (k, n) == ("train.close", node))
    seat = _seat(run.node(name), json.loads(str(asked.content.config_records["config"]["json"])))
    return seat.seal("lender", message, what)


def test_a_second_opening_with_other_noise_gives_the_first_bytes(fitted: Run) -> None:
    first = fitted.again("train.open", "lender", _nothing)["matrix"]
    size = fitted.table.line("moments/joint").size
    other = _forged(fitted, "shop", "noise|moments/joint|", np.zeros(size, np.uint64).tobytes())
    second = fitted.again("train.open", "lender", lambda order, record: record.update({"noise-shop": other}))
    assert second["matrix"] == first


@pytest.mark.parametrize("name", ["lender", "pay-1", "shop"])
def test_an_opening_without_one_holders_noise_is_refused_and_spoils_nothing(closed: Run, name: str) -> None:
    full = {}

    def less(order: dict[str, Any], record: Any) -> None:
        full.update(record)
        del record[f"noise-{name}"]

    assert dict(closed.again("train.open", "lender", less)) == {"error": "input"}
    broken = bytes(len(bytes(full["noise-shop"])))
    answer = closed.again("train.open", "lender", lambda order, record: record.update({"noise-shop": broken}))
    assert dict(answer) == {"error": "seal"}
    assert "matrix" in closed.again("train.open", "lender", _nothing)


def test_other_rows_under_the_same_masks_are_refused(closed: Run) -> None:
    before = closed.again("query.rows", "shop", _nothing, 1)
    assert "for-0" in before
    path = closed.world.folder / "shop.parquet"
    pl.read_parquet(path).with_columns(card=1 - pl.col("card")).write_parquet(path)
    assert dict(closed.again("query.rows", "shop", _nothing, 1)) == {"error": "input"}


def test_other_sums_under_the_same_masks_are_refused(fitted: Run) -> None:
    def steeper(order: dict[str, Any], record: Any) -> None:
        order["link"]["step"] *= 1e-6  # whatever the points, they now pass the limits

    assert "sums-0-0" in fitted.again("train.sums", "shop", _nothing)
    assert dict(fitted.again("train.sums", "shop", steeper)) == {"error": "input"}
    assert dict(fitted.again("train.sums", "shop", _set(step=3))) == {"error": "input"}


def test_a_steps_masks_hide_one_table_only(fitted: Run) -> None:
    def moved(order: dict[str, Any], record: Any) -> None:
        order["link"]["middle"] += 0.1

    dealer = _dealer(fitted)
    assert "tables" in fitted.again("query.tables", dealer, _nothing)
    assert dict(fitted.again("query.tables", dealer, moved)) == {"error": "input"}


@pytest.mark.parametrize("values", [{"chunk": 4}, {"chunk": -1}, {"chunk": 0.5}, {"step": 3}, {"step": -1}])
def test_no_chunk_or_step_beyond_the_plan_is_answered(fitted: Run, values: dict[str, Any]) -> None:
    for kind, name in (("query.rows", "shop"), ("query.tables", _dealer(fitted)), ("train.step", "lender")):
        if kind != "query.rows" or "chunk" in values:
            assert dict(fitted.again(kind, name, _set(**values))) == {"error": "input"}


def test_a_step_asked_again_shows_the_same_and_for_another_opening_nothing(fitted: Run) -> None:
    """Two openings of one step would tell the coordinator the second party's masks, and with them rows."""

    def opened(answer: Any, chunk: int) -> bytes:
        return bytes(fitted.table.open("lender", answer["opening"], f"opened|1|{chunk}"))

    first = [opened(fitted.again("train.step", "lender", _nothing, 4 + c), c) for c in range(4)]
    assert [opened(fitted.again("train.step", "lender", _nothing, 4 + c), c) for c in range(4)] == first

    def other(order: dict[str, Any], record: Any) -> None:
        words = np.zeros(CHUNK, np.uint64)
        record["opening"] = fitted.table.seal("lender", words.tobytes(), "opening|1|0")

    assert dict(fitted.again("train.step", "lender", other, 4)) == {"error": "input"}


def test_a_step_cannot_begin_in_the_middle(closed: Run, fitted: Run) -> None:
    assert "matrix" in closed.again("train.open", "lender", _nothing)
    late = [m for k, _, m in fitted.messages if k == "train.step"][1]
    closed.messages.append(("train.step", node_of(closed.world, "lender"), late))
    assert set(closed.again("train.step", "lender", _nothing)) == {"error"}  # sealed under another plan, too


@pytest.mark.parametrize(
    ("kind", "role", "asked"),
    [("query.deal", "dealer", "shop pay-1 pay-2 lender"), ("query.multiply", "second", "shop pay-1 pay-2")],
)
def test_a_holder_plays_no_part_that_is_not_its_own(fitted: Run, kind: str, role: str, asked: str) -> None:
    player = _dealer(fitted) if role == "dealer" else "lender"
    old = next(m for k, _, m in fitted.messages if k == kind)
    for name in asked.split():
        if name != player:
            fitted.messages.append((kind, node_of(fitted.world, name), old))
            answer = fitted.again(kind, name, _set(holder=name, witness=None), -1)
            fitted.messages.pop()
            assert dict(answer) == {"error": "input"}


def _plan(change: Callable[[dict[str, Any]], None]) -> Change:
    return lambda order, record: change(order["plan"])


def _roles(first: str, second: str, dealer: str) -> Callable[[dict[str, Any]], None]:
    return lambda plan: plan["joint"].update(roles={"parties": [first, second], "dealer": dealer})


def _swapped(plan: dict[str, Any]) -> None:
    plan["joint"]["blocks"].reverse()


def _puppet(plan: dict[str, Any]) -> None:
    plan["joint"]["blocks"][2][1].append("puppet")


HOSTILE = {
    "dealer is the coordinator": _roles("coordinator", "lender", "coordinator"),
    "dealer is the second party": _roles("coordinator", "lender", "lender"),
    "coordinator is both parties": _roles("coordinator", "coordinator", "shop"),
    "second party is nobody's": _roles("coordinator", "puppet", "shop"),
    "another dealer": lambda plan: plan["joint"]["roles"].update(
        dealer=next(n for n in ("shop", "pay-1") if n != plan["joint"]["roles"]["dealer"])
    ),
    "blocks in another order": _swapped,
    "an owner that nobody knows": _puppet,
    "a holder left out": lambda plan: plan["joint"]["blocks"].pop(0),
    "a holder in another block": lambda plan: plan["joint"]["blocks"][2].__setitem__(0, "payment"),
    "no trust": lambda plan: plan["joint"].update(trust="local"),
    "no chunk": lambda plan: plan["joint"].update(chunk=0),
}


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE.keys())
def test_roles_and_blocks_are_a_holders_own_files_not_the_coordinators_wish(fitted: Run, change: Any) -> None:
    for kind, name in (("query.rows", "pay-1"), ("train.close", "shop"), ("query.deal", _dealer(fitted))):
        answer = fitted.again(kind, name, _plan(change))
        assert set(answer) == {"error"}
        assert answer["error"] in ("input", "protocol")


@pytest.fixture
def ledgers(fitted: Run) -> Iterator[None]:
    """No ledger may grow."""
    path = fitted.ledger / "pay-1" / "ledger.db"  # type: ignore[operator]
    before = path.read_bytes()
    yield
    assert path.read_bytes() == before


@pytest.mark.usefixtures("ledgers")
@pytest.mark.parametrize("key", ["bound", "size", "probability", "noise_multiplier"])
@pytest.mark.parametrize(("kind", "row"), [("train.close", "moments/joint"), ("train.sums", "refine/joint")])
def test_a_line_that_pays_for_less_is_refused(fitted: Run, kind: str, row: str, key: str) -> None:
    def cheaper(plan: dict[str, Any]) -> None:
        line = next(line for line in plan["lines"] if line["name"] == row)
        line[key] = {"bound": line["bound"] * 0.99, "size": line["size"] - 1, "probability": 0.5}.get(key, 0.0)

    answer = fitted.again(kind, "pay-1", _plan(cheaper))
    assert set(answer) == {"error"}
    assert answer["error"] in ("input", "budget", "protocol")


def test_contracts_are_everybodys_or_no_packet_opens(fitted: Run) -> None:
    def own(order: dict[str, Any], record: Any) -> None:
        order["contracts"]["payments"]["features"][0]["weight"] = 0.5

    def anothers(order: dict[str, Any], record: Any) -> None:
        order["contracts"]["shopping"]["features"][0]["weight"] = 0.5

    assert dict(fitted.again("train.close", "pay-1", own)) == {"error": "input"}
    told = fitted.again("train.close", "pay-1", anothers)  # it cannot know; the packets of the first answer stay
    assert told["noise-1"] == fitted.again("train.close", "pay-1", _nothing)["noise-1"]
    assert dict(fitted.again("train.open", "lender", anothers)) == {"error": "seal"}


def test_another_cohort_is_refused(fitted: Run) -> None:
    assert dict(fitted.again("query.rows", "shop", _set(cohort="0" * 64))) == {"error": "input"}


def test_a_key_that_changed_is_refused(fitted: Run) -> None:
    def swapped(order: dict[str, Any], record: Any) -> None:
        order["keys"]["lender"] = announcement("lender", new_key(), new_signing_key())

    for kind in ("query.rows", "train.sums"):
        assert dict(fitted.again(kind, "shop", swapped)) == {"error": "seal"}
    assert base64.b64decode(json.loads((fitted.ledger / "shop" / "peers.json").read_text())["lender"])  # type: ignore


def test_a_curator_is_for_simulations(fitted: Run) -> None:
    from dataclasses import replace

    asked = next(m for k, _, m in fitted.messages if k == "query.rows")
    document = json.loads(str(asked.content.config_records["config"]["json"]))["plan"]
    document["joint"]["trust"] = "curator"
    node = fitted.node("shop")
    Agreement.of(document, node)
    with pytest.raises(InputError, match="only a simulation may"):
        Agreement.of(document, replace(node, simulated=False))
