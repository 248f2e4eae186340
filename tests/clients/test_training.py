"""Training at one holder: which orders are refused, what a retry gets, and that the ledger has the last word."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clients.cohort import Aligned, table_of
from clients.config import Node
from clients.training import _gradient
from model.scorecard import start
from model.wire import HELD_OUT, TRAIN, TRAIN_ROWS
from privacy.chain import Chain
from privacy.plan import Release

pytestmark = pytest.mark.usefixtures("quick")


def _code(reply: Any) -> str | None:
    return reply.content.config_records["config"].get("error")  # type: ignore[no-any-return]


def _bytes(reply: Any) -> list[bytes]:
    record = reply.content.array_records["arrays"]
    return [record[name].numpy().tobytes() for name in sorted(record)]


def _charges(stage: Any, name: str) -> int:
    path = stage.state / name / "ledger.db"
    if not path.exists():
        return 0
    return sum(row.kind == "plan" for row in Chain(path).checked())


@pytest.mark.parametrize("engine", ["scorecard", "network"])
def test_a_good_order_gives_the_block_after_noise_and_charges_once(stage: Any, small: Path, engine: str) -> None:
    at = stage(small, engine=engine)
    reply = at.send(TRAIN, at.train("tax-1"))
    assert _code(reply) is None
    assert [len(b) // 8 for b in _bytes(reply)] == [at.plan.line("tax_business/tax-1").size] * 2
    assert _charges(at, "tax-1") == 1


def test_a_retry_of_a_round_gives_the_same_bytes_and_no_second_charge(stage: Any, small: Path) -> None:
    at = stage(small)
    first, second = (at.send(TRAIN, at.train("pay-1")) for _ in range(2))
    assert _bytes(first) == _bytes(second)
    assert _charges(at, "pay-1") == 1


def test_a_retry_with_other_weights_gives_the_same_bytes(stage: Any, small: Path) -> None:
    from flwr.app import Array, ArrayRecord

    at = stage(small)
    first = at.send(TRAIN, at.train("pay-1"))
    post = at.train("pay-1")
    post.arrays["payments/last"] = Array(post.arrays["payments/last"].numpy() + 1.0)
    assert isinstance(post.arrays, ArrayRecord)
    assert _bytes(at.send(TRAIN, post)) == _bytes(first)


@pytest.mark.parametrize("same", [True, 1.0])
def test_the_same_round_spelled_differently_draws_no_second_noise(stage: Any, small: Path, same: Any) -> None:
    """JSON's true and 1.0 equal 1 in Python; each draw of noise must be paid for."""
    at = stage(small)
    first, again = at.send(TRAIN, at.train("pay-1")), at.send(TRAIN, at.train("pay-1", round=same))
    assert _code(again) is not None or _bytes(first) == _bytes(again)


def test_all_rounds_of_one_line_are_one_charge(stage: Any, small: Path) -> None:
    at = stage(small, rounds=4)
    replies = [at.send(TRAIN, at.train("pay-1", number)) for number in (1, 2, 3, 4)]
    assert len({_bytes(reply)[0] for reply in replies}) == 4
    assert _charges(at, "pay-1") == 1


@pytest.mark.parametrize("rounds", [2, 8])
def test_the_same_line_in_other_rounds_is_charged_again_and_refused(stage: Any, small: Path, rounds: int) -> None:
    at = stage(small, epsilon=1.0)
    assert _code(at.send(TRAIN, at.train("pay-1"))) is None
    assert _code(at.send(TRAIN, at.train("pay-1", rounds=rounds))) == "budget"
    assert _charges(at, "pay-1") == 1


REFUSED = [
    ("bound", {"release__bound": 1e-9}, None),
    ("bound-just-below", {"release__bound": math.sqrt(11) * (1 - 1e-6)}, "input"),
    ("size", {"release__size": 7}, "input"),
    ("steps", {"schedule__steps": 10_000}, "input"),
    ("count", {"release__count": 1}, "input"),
    ("count-huge", {"release__count": 10**9}, "input"),
    ("round-0", {"round": 0}, "input"),
    ("round-after", {"round": 99}, "input"),
    ("sampled", {"release__probability": 1e-3}, "input"),
    ("schedule-nan", {"schedule__rate": math.nan}, None),
    ("sizes-none", {"sizes": {}}, None),
    ("programme", {"programme": "another"}, "input"),
    ("delta", {"delta": 1e-9}, "input"),
    ("holder", {"release__holder": "shop-1"}, "input"),
    ("others-pay", {"release__persons": "held-out"}, "budget"),
    ("nobody-pays", {"release__persons": "elsewhere"}, "input"),
    ("home-untold", {"release__home": "payments"}, "input"),
    ("bound-nan", {"release__bound": math.nan}, None),
    ("noise-nan", {"release__noise_multiplier": math.nan}, None),
    ("noise-minus", {"release__noise_multiplier": -1.0}, None),
    ("engine", {"engine": "trees"}, None),
    ("no-lines", {"lines": []}, "input"),
    ("witness", {"witness": [7, "0" * 64]}, "ledger"),
]


@pytest.mark.parametrize(("changes", "code"), [pytest.param(*row[1:], id=row[0]) for row in REFUSED])
def test_an_order_that_does_not_fit_the_block_is_refused(stage: Any, small: Path, changes: Any, code: Any) -> None:
    at = stage(small)
    reply = at.send(TRAIN, at.train("pay-1", **changes))
    assert not reply.content.array_records
    assert _code(reply) == (code or _code(reply)) is not None
    assert _charges(at, "pay-1") == 0


def test_weights_of_another_shape_are_refused(stage: Any, small: Path) -> None:
    from flwr.app import Array

    at = stage(small)
    post = at.train("pay-1")
    post.arrays["payments/last"] = Array(np.zeros(3))
    assert _code(at.send(TRAIN, post)) == "input"


def test_an_order_without_noise_is_refused_outside_a_simulation_without_privacy(stage: Any, small: Path) -> None:
    at = stage(small)
    reply = at.send(TRAIN, at.train("pay-1", release__noise_multiplier=0.0))
    assert _code(reply) in ("input", "budget")
    assert _charges(at, "pay-1") == 0


def test_an_order_without_noise_passes_in_a_simulation_without_privacy(stage: Any, small: Path) -> None:
    at = stage(small, epsilon="inf")
    assert _code(at.send(TRAIN, at.train("pay-1"))) is None
    assert _charges(at, "pay-1") == 0


def test_a_nodes_own_ceiling_beats_whatever_the_run_asks(stage: Any, small: Path, tmp_path: Path) -> None:
    from clients.app import app
    from clients.nodefile import NAME
    from server.exchange import Post
    from server.outbox import Outbox
    from simulations.loopback import FIRST_NODE, LoopbackGrid
    from tests.joined_world import joined

    at, world = stage(small, epsilon=1.0), joined(tmp_path / "world", small)
    own = world.parties["pay-1"] / NAME
    told = own.read_text().replace("[node]", f'[node]\nprogramme = "{at.plan.programme}"')
    own.write_text(told.replace("[limits]", "[limits]\nepsilon = 0.01"))
    at.grid = LoopbackGrid(app, [{"node": str(own)}], {"epsilon": "inf", "federation": str(small)})
    at.exchange.outbox = Outbox.of(str(at.grid.run.run_id), world.hub, None)
    kept = world.state("pay-1") / "cohort.npz"
    some = np.arange(40)
    np.savez(kept, rows=some, labels=(some % 2).astype(np.int8), group=np.zeros(40, np.int8), digest=np.array(""))
    whole = at.train("pay-1")
    post = Post(whole.label, FIRST_NODE, whole.data, whole.arrays)
    assert _code(at.send(TRAIN, post)) == "budget"
    assert [row.kind for row in Chain(kept.with_name("ledger.db")).checked()] == ["opened"]


def test_a_ledger_that_was_changed_by_hand_stops_everything(stage: Any, small: Path) -> None:
    import sqlite3

    at = stage(small)
    assert _code(at.send(TRAIN, at.train("pay-1", 1))) is None
    with sqlite3.connect(at.state / "pay-1" / "ledger.db") as book:
        body = book.execute("SELECT body FROM entry WHERE key LIKE 'plan|%'").fetchone()[0]
        assert '"count": 8' in body
        book.execute("UPDATE entry SET body = ? WHERE body = ?", (body.replace('"count": 8', '"count": 1'), body))
    book.close()
    assert _code(at.send(TRAIN, at.train("pay-1", 2))) == "ledger"


def test_only_training_persons_with_a_row_are_trained_on() -> None:
    group = np.array([TRAIN_ROWS, HELD_OUT, TRAIN_ROWS, TRAIN_ROWS], np.int8)
    cohort = Aligned(np.array([0, 1, -1, 2]), np.array([0, -1, 1, 1], np.int8), group)
    assert cohort.trainable.tolist() == [0, 3]


def test_the_lender_without_a_contract_has_no_block_to_train(stage: Any, files: Any) -> None:
    at = stage(files.federation)
    post = at.train("lender")
    files.toml('contract = "lender_kyc.contract.toml"\n', "")
    assert _code(at.send(TRAIN, post)) == "input"


@pytest.mark.parametrize("label", [2, 127, -128])
def test_a_label_outside_zero_and_one_cannot_stretch_a_persons_part(
    small: Path, tmp_path: Path, agreed: Any, label: int
) -> None:
    """The lender hands labels out: whatever it sends, a person moves a partner's sum by at most the bound."""
    node = Node.of({"num-partitions": 1}, {"federation": str(small), "out": str(tmp_path)}, 1)
    encoding = table_of(node, "pay-1").encoding
    assert encoding is not None
    weights = start(encoding)
    line = Release("payments/pay-1", "pay-1", encoding.row_norm, len(weights), 100, 1.0, noise_multiplier=1e4)
    agreement = agreed(node, line)

    def total(labels: list[int]) -> np.ndarray:
        kept = {"rows": np.arange(50), "labels": np.array(labels, np.int8), "group": np.zeros(50, np.int8)}
        np.savez(node.folder("pay-1") / "cohort.npz", digest=np.array(""), **kept)
        return _gradient(node, "pay-1", agreement, line, weights)(weights)

    moved = total([label] + [0] * 49) - total([0] * 50)
    assert np.linalg.norm(moved) <= encoding.row_norm * (1 + 1e-9)
