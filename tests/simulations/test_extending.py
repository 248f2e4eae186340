"""Engines and mechanisms of a researcher's own: what loads, what is refused, and that a wrong bound is found out."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clients import orders
from clients.config import Node
from clients.orders import Agreement
from model import blocks
from model.blocks import ENGINES, Engine, Scorecard, Spec
from model.contract import Contract, Feature
from model.encoding import Encoding
from model.federation import load_federation
from model.inputs import InputError
from privacy.mechanisms import GAUSSIAN_SUM, GaussianSum, UnknownMechanism, discreteness, mechanism
from privacy.noise import Csprng
from privacy.plan import Release, line_of, price
from server.planning import make_plan
from server.roster import planned
from simulations.auditing import Audit, Subject, audit
from simulations.extending import named
from simulations.rehearsal import rehearse
from simulations.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
SIZES = {"train": 1000, "held_out": 400}
CONTRACT = Contract("payments", 1, (Feature("late", "flag", values=("0", "1")), Feature("age", "flag")))
FILE = """
from model.blocks import Scorecard, Spec

class Mine(Scorecard):
    pass
"""


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Writes a class of an engine; what is added to a process lasts for one test."""
    monkeypatch.setattr(blocks, "_ENGINES", dict(blocks._ENGINES))
    monkeypatch.setattr("privacy.mechanisms._MECHANISMS", {GAUSSIAN_SUM: GaussianSum})

    def write(body: str = "pass", text: str = FILE) -> str:
        (tmp_path / "mine.py").write_text(text.replace("pass", body), encoding="utf-8")
        return f"{tmp_path / 'mine.py'}:Mine"

    return write


# --- the Protocol


@pytest.mark.parametrize("name", ENGINES)
def test_each_shipped_engine_meets_the_protocol_and_cannot_be_replaced(name: str) -> None:
    assert isinstance(blocks.engine(name), Engine)
    with pytest.raises(ValueError, match="shipped"):
        blocks.add_engine(name, Scorecard())


def test_a_file_is_known_by_the_hash_of_its_text(written: Callable[..., str]) -> None:
    first, second = named(written()), named(written("points = False"))
    assert first.startswith("mine.py:Mine@")
    assert first != second == named(written("points = False"))
    assert blocks.engine(first).points
    assert not blocks.engine(second).points


def test_a_shipped_line_is_told_as_it_always_was() -> None:
    """Plans are named by the hash of these values: a new key would give every ledger's plans new names."""
    line = Release("payments/pay-1", "pay-1", 2.0, 4, 3, 0.5, noise_multiplier=9.0)
    assert line.to_dict() == {
        **{"name": "payments/pay-1", "holder": "pay-1", "bound": 2.0, "size": 4, "count": 3, "share": 0.5},
        **{"probability": 1.0, "noise_multiplier": 9.0, "persons": "train", "home": ""},
        **{"mechanism": "discrete gaussian sum", "sensitivity": 2.0 + 2.0 / 2**20},
    }
    assert line_of(json.loads(json.dumps(line.to_dict()))) == line


# --- what is refused

BAD = [
    ("no file", "nowhere.py:Mine", None, "does not exist"),
    ("no name", "mine.py:", None, "must be FILE.py:NAME"),
    ("no Python", "mine.toml:Mine", None, "must be FILE.py:NAME"),
    ("no class", "mine.py:Others", FILE, "Others is not in the file"),
    ("syntax", "mine.py:Mine", "class Mine(\n", "cannot be loaded (SyntaxError"),
    ("import", "mine.py:Mine", "import no_such_module", "cannot be loaded (ModuleNotFoundError"),
    ("no engine", "mine.py:Mine", "class Mine:\n    points = False", "it lacks batches, finished, gradient_sum, spec"),
    ("form", "mine.py:Mine", FILE.replace("pass", "def __init__(self, n): self.n = n"), "a form without arguments"),
]


@pytest.mark.parametrize(("asked", "text", "told"), [pytest.param(*row[1:], id=row[0]) for row in BAD])
def test_a_file_that_gives_no_engine_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str, text: str | None, told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if text is not None:
        Path("mine.py").write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as refused:
        Settings(None, tmp_path / "out", engine=asked)
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("field", "value"), [("backend", "flower"), ("ledger", Path("ledgers"))])
def test_other_processes_and_lasting_ledgers_take_no_engine_from_a_file(
    written: Callable[..., str], tmp_path: Path, field: str, value: Any
) -> None:
    with pytest.raises(InputError, match=f"runs in this process.*drop --{field}"):
        Settings(None, tmp_path / "out", engine=written(), **{field: value})


def _document(small: Path, engine: str) -> tuple[dict[str, Any], Node]:
    """A plan that asks for an engine, and a simulated node of that plan's programme."""
    plan = make_plan(planned(load_federation(small), SIZES), engine, 0)
    node = Node.of({"num-partitions": 1}, {"federation": str(small), "out": str(small.parent / "none")}, 1)
    return plan.document, replace(node, programme=plan.programme)


def test_a_real_node_obeys_no_plan_of_an_engine_or_mechanism_from_a_file(
    written: Callable[..., str], small: Path
) -> None:
    for engine in (named(written()), _coarse(written)):
        document, node = _document(small, engine)
        assert Agreement.of(document, node).engine == engine
        with pytest.raises(InputError, match="engine must be scorecard"):
            Agreement.of(document, replace(node, simulated=False))
    document["engine"] = "scorecard"
    with pytest.raises(InputError, match="mechanism must be discrete gaussian sum"):
        Agreement.of(document, replace(node, simulated=False))


def test_a_process_that_never_loaded_the_file_knows_neither_engine_nor_mechanism(
    written: Callable[..., str], small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document, node = _document(small, _coarse(written))
    monkeypatch.setattr("privacy.mechanisms._MECHANISMS", {GAUSSIAN_SUM: GaussianSum})
    orders._check.cache_clear()  # another process has checked no plan yet
    with pytest.raises(UnknownMechanism):
        Agreement.of(document, node)
    monkeypatch.setattr(blocks, "_ENGINES", {name: blocks.engine(name) for name in ENGINES})
    for line in document["lines"]:
        line["mechanism"] = GAUSSIAN_SUM
    with pytest.raises(InputError, match="engine must be"):
        Agreement.of(document, node)


@pytest.mark.parametrize("folder", ["clients", "server", "model", "privacy"])
def test_no_part_of_a_real_federation_can_load_a_file_by_its_name(folder: str) -> None:
    loading = {"exec", "eval", "compile", "__import__", "import_module", "exec_module", "spec_from_file_location"}
    loading |= {"add_engine", "run_path", "run_module"}
    for path in (ROOT / folder).rglob("*.py"):
        calls = [node.func for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)]
        names = {call.attr for call in calls if isinstance(call, ast.Attribute) and ast.unparse(call) != "re.compile"}
        assert not loading & (names | {call.id for call in calls if isinstance(call, ast.Name)}), path


# --- the rehearsal

SHORT = """def spec(self, encoding, *public):
        told = Scorecard.spec(self, encoding, *public)
        return Spec(told.size, told.bound / 1.5, told.schedule)"""
FAULTS = [
    ("bound", SHORT, r"moves the gradient sum by 1\.\d+, above its bound"),
    ("stretch", SHORT.replace("told.bound / 1.5", "encoding.row_norm"), r"moves .* above its bound"),
    ("hangs on mu", SHORT.replace("told.bound / 1.5", "told.bound + public[1]"), "do not hang on mu"),
    ("no spec", "def spec(self, *public):\n        return 3", "must give a Spec"),
    ("raises", "def start(self, encoding, rng):\n        return 1 / 0", r"line 6 fails.*ZeroDivisionError"),
    ("start", "def start(self, encoding, rng):\n        return rng.random(2)", "start must have the shape"),
    ("sum", "def gradient_sum(self, *given):\n        return lambda weights: weights[:1]", "gradient_sum must have"),
    ("scores", "def subscores(self, encoding, weights, codes):\n        return weights[:2]", "finite number for each"),
]


@pytest.mark.parametrize(("body", "told"), [pytest.param(*row[1:], id=row[0]) for row in FAULTS])
def test_a_rehearsal_tells_what_is_wrong_before_any_data_are_touched(
    written: Callable[..., str], body: str, told: str
) -> None:
    with pytest.raises(InputError, match=told) as refused:
        rehearse(written(body), [CONTRACT])
    assert "\n" not in str(refused.value)


def test_a_right_engine_passes_its_rehearsal_and_a_wrong_one_writes_nothing(
    written: Callable[..., str], small: Path, tmp_path: Path
) -> None:
    from simulations.run import simulate

    rehearse(written(), [CONTRACT])
    wrong = written(SHORT)
    with pytest.raises(InputError, match="above its bound"):
        simulate(Settings(small, tmp_path / "out", engine=wrong))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.py"]


# --- the audit


class Understated(Scorecard):
    """A scorecard that pays for two thirds of its bound."""

    def spec(self, encoding: Encoding, persons: int, mu: float, holders: int, stretch: float) -> Spec:
        told = super().spec(encoding, persons, mu, holders, stretch)
        return replace(told, bound=told.bound / 1.5)


@dataclass(frozen=True)
class Quiet(GaussianSum):
    """A mechanism that draws half of the noise that it says it does."""

    def release(self, total: np.ndarray[Any, Any], rng: Csprng) -> np.ndarray[Any, Any]:
        return np.asarray((total + super().release(total, rng)) / 2)


def _audited(engine: Engine, kind: str = GAUSSIAN_SUM) -> Audit:
    """The audit of one block's line, as a plan would price it."""
    blocks.add_engine("mine", engine)
    spec = blocks.spec("mine", Encoding.of(CONTRACT), 800, 0.5)
    line = Release("payments/pay-1", "pay-1", spec.bound, spec.size, 100, 1.0, kind=kind)
    plan = price([line], 2.0, 1e-5)
    return audit(Subject(plan.lines, "mine", {"payments": CONTRACT}, 800, 2.0, 1e-5), trials=1000)


def test_the_audit_refutes_a_block_whose_bound_is_too_small_and_passes_the_right_one(
    written: Callable[..., str],
) -> None:
    assert not _audited(Scorecard()).exceeded
    assert _audited(Understated()).exceeded


def test_the_audit_refutes_a_mechanism_that_draws_less_than_it_says(written: Callable[..., str]) -> None:
    mechanism("quiet")(Quiet)
    assert _audited(Scorecard(), "quiet").exceeded


# --- mechanisms


def _coarse(written: Callable[..., str]) -> str:
    """The engine of docs/extend.md with a mechanism of its own, by its name in plans."""
    page = (ROOT / "docs" / "extend.md").read_text("utf-8")
    text = page.partition("# coarse.py\n")[2].partition("```")[0]
    return named(written(text=text).replace(":Mine", ":CoarseScorecard"))


def test_a_mechanisms_own_rounding_and_discreteness_are_priced(written: Callable[..., str], small: Path) -> None:
    roster = planned(load_federation(small), SIZES)
    plan = make_plan(roster, _coarse(written), 0)
    line, shipped = plan.line("payments/pay-1"), make_plan(roster, "scorecard", 0).line("payments/pay-1")
    assert line is not None
    assert shipped is not None
    assert plan.plan.spent() <= plan.plan.epsilon
    assert line.mechanism.sensitivity == line.bound + np.sqrt(line.size) / 64
    assert line.slack[0] == line.count * discreteness(line.size, line.mechanism.noise_stddev * 64)[0] > shipped.slack[0]
    assert line.noise_multiplier > shipped.noise_multiplier  # it pays for its slack
    steps = line.mechanism.release(np.full(line.size, 0.3), Csprng()) * 64
    assert np.array_equal(steps, np.rint(steps))
    assert abs(steps).max() > 64


@dataclass(frozen=True)
class Modest(GaussianSum):
    """A mechanism that says it draws less than what it is priced at."""

    @property
    def noise_stddev(self) -> float:
        return self.noise_multiplier * self.sensitivity / 2


@pytest.mark.parametrize(("name", "kind"), [("modest", Modest), (GAUSSIAN_SUM, Quiet), ("none", lambda *given: 3)])
def test_a_mechanism_that_is_none_or_priced_wrongly_is_not_known(
    written: Callable[..., str], name: str, kind: Any
) -> None:
    with pytest.raises(ValueError, match=name):
        mechanism(name)(kind)


def test_an_audit_without_the_file_that_a_run_was_trained_with_is_one_line(tmp_path: Path, run_cli: Any) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "report.json").write_text('{"engine": "mine.py:Mine@0123456789ab"}', "utf-8")
    (tmp_path / "model" / "bundle.json").write_text("{}", "utf-8")
    ended = run_cli("audit", tmp_path)
    assert ended.code == 2
    assert ended.err.count("\n") == 1
    assert "give its file with the very text, --engine FILE.py:NAME" in ended.err
