"""A holder that drops: before the charge nothing is lost, after it a new attempt pays and opens nothing twice."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Message

from privacy.ledger import Ledger, Terms
from server.failures import RunFailed
from simulations.run import Settings, simulate
from tests.joint_world import CHUNK, Run, World, node_of, write_world

EPSILON = 8.0
HOLDERS = ("lender", "pay-1", "pay-2", "shop", "coordinator")


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.joint_planning.CHUNK", CHUNK)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return write_world(tmp_path / "made", epsilon=str(EPSILON))


class Drop:
    """Loses the nth message of a kind at a node, or the answer to it; once."""

    def __init__(self, kind: str, nth: int = 1, node: int | None = None) -> None:
        self.kind, self.left, self.node = kind, nth, node

    def now(self, node: int, message: Message) -> bool:
        if message.metadata.message_type != self.kind or node != (self.node or node):
            return False
        self.left -= 1
        return self.left == 0

    def tamper(self, node: int, message: Message) -> str | None:
        return "silent" if self.now(node, message) else None


def _plans(ledger: Path) -> dict[str, set[str]]:
    """By holder the plans that it was charged for."""
    found = {}
    for holder in HOLDERS:
        path = ledger / holder / "ledger.db"
        if path.exists():
            owner = "" if holder == "coordinator" else holder
            with Ledger(path, Terms("made", owner, EPSILON, EPSILON, 1e-5)) as book:
                found[holder] = set(book.plans())
        else:
            found[holder] = set()
    return found


def _attempts(world: World, tmp_path: Path, drop: Drop, answer: bool) -> tuple[Run, Run]:
    """One that is cut, checked for what it leaves, and the next with the same settings and folders."""
    hook: dict[str, Any] = {"lose": drop.now} if answer else {"tamper": drop.tamper}
    cut = Run(world, tmp_path / "out", EPSILON, ledger=tmp_path / "ledger", **hook)
    with pytest.raises(RunFailed):
        cut.go()
    assert not (tmp_path / "out" / "model").exists()
    return cut, Run(world, tmp_path / "out", EPSILON, ledger=tmp_path / "ledger")


QUESTION, ANSWER = False, True  # which of both is lost
BEFORE = [
    ("query.deal", 1, None, ANSWER),
    ("query.rows", 4, "pay-1", QUESTION),
    ("query.rows", 1, "shop", ANSWER),
    ("query.multiply", 3, None, ANSWER),
]
AFTER = [
    ("train.close", 1, "pay-1", QUESTION),
    ("train.close", 1, "pay-1", ANSWER),
    ("train.open", 1, None, QUESTION),
    ("train.open", 1, None, ANSWER),
    ("train.sums", 2, "shop", ANSWER),
    ("query.tables", 3, None, QUESTION),
    ("train.step", 6, None, QUESTION),
    ("train.step", 6, None, ANSWER),
    ("train.step", 8, None, ANSWER),
    ("train.fusion", 1, None, ANSWER),
]


@pytest.mark.parametrize(("kind", "nth", "name", "answer"), BEFORE)
def test_a_holder_lost_before_the_closing_costs_nothing_and_leaves_nothing(
    world: World, tmp_path: Path, kind: str, nth: int, name: str | None, answer: bool
) -> None:
    drop = Drop(kind, nth, node_of(world, name) if name else None)
    _, again = _attempts(world, tmp_path, drop, answer)
    assert drop.left <= 0
    assert not any(_plans(tmp_path / "ledger").values())
    assert _secrets(tmp_path) == []
    again.go()
    assert {len(plans) for plans in _plans(tmp_path / "ledger").values()} == {1}
    assert _secrets(tmp_path) == []


@pytest.mark.parametrize(("kind", "nth", "name", "answer"), AFTER)
def test_a_holder_lost_after_the_charge_loses_nothing(
    world: World, tmp_path: Path, kind: str, nth: int, name: str | None, answer: bool
) -> None:
    drop = Drop(kind, nth, node_of(world, name) if name else None)
    cut, again = _attempts(world, tmp_path, drop, answer)
    assert drop.left <= 0
    kept = tmp_path / "ledger" / "coordinator"
    assert len(list(kept.glob("joint*.json"))) == 1
    again.go()
    plans = _plans(tmp_path / "ledger")
    assert {len(own) for own in plans.values()} == {1}  # charged once, everywhere the same
    assert len(set.union(*plans.values())) == 1
    if cut.matrix is not None:
        assert np.array_equal(cut.matrix, again.matrix)
    for (_, _, one), (_, _, other) in zip(cut.gradients, again.gradients, strict=False):
        assert np.array_equal(one, other)
    exact = (rows := world.exact(again.homes)).T @ rows / 2**20
    assert np.abs(again.matrix - exact).max() < 6 * _stddev(again)  # an opening of other masks would be far off
    assert (tmp_path / "out" / "model").is_dir()
    assert list(kept.glob("joint*.json")) == []
    assert _secrets(tmp_path) == []


def _stddev(run: Run) -> float:
    told = {row["name"]: row for row in run.outcome.facts["releases"]}["moments/joint"]
    return float(told["noise_multiplier"] * told["sensitivity"] * np.sqrt(5 / 4))


def _secrets(folder: Path) -> list[str]:
    """What a joint fit keeps and must not be there any more."""
    found = [p for p in folder.rglob("joint*/*") if p.name != "over"]
    return [str(p) for p in (*found, *folder.rglob("joint*.json"))]


def test_a_model_that_is_published_needs_nobody_to_forget(world: World, tmp_path: Path) -> None:
    drop = Drop("query.forget", 1, node_of(world, "shop"))
    Run(world, tmp_path / "out", EPSILON, ledger=tmp_path / "ledger", tamper=drop.tamper).go()
    assert (tmp_path / "out" / "model").is_dir()
    assert not list((tmp_path / "ledger" / "coordinator").glob("joint*.json"))


def test_a_simulation_that_fails_leaves_no_output_and_the_next_goes_on(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder of the first attempt, with keys and cohorts, is gone: what must last lies with the ledgers."""
    settings = Settings(
        world.federation, tmp_path / "out", engine="moments", epsilon=EPSILON, ledger=tmp_path / "ledger"
    )
    with monkeypatch.context() as patch:
        patch.setattr("server.joint.SecureFit.gradient", lambda *_: (_ for _ in ()).throw(RunFailed("cut")))
        with pytest.raises(RunFailed, match="cut"):
            simulate(settings)
    assert {p.name for p in tmp_path.iterdir()} == {"made", "ledger"}
    before = _plans(tmp_path / "ledger")
    report = simulate(settings).report
    assert _plans(tmp_path / "ledger") == before
    assert report["epsilon"] <= EPSILON
    assert _secrets(tmp_path) == []
