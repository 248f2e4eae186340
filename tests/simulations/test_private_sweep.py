"""Private sweeps: the whole is charged to everybody before the first run, and nothing but the best run leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from model.bundle import Bundle
from privacy.plan import HELD_OUT, TRAIN, BudgetExceeded, spent_by
from simulations.sweep.private import WORK, PrivateSweep, private_sweep
from tests.private_world import ARMS, LEDGERS, book, charged


@dataclass(frozen=True)
class Swept:
    """A sweep that was run, what it said, and its folders."""

    told: dict[str, Any]
    said: list[str]
    out: Path
    ledger: Path


@pytest.fixture(scope="module")
def swept(small: Path, tmp_path_factory: pytest.TempPathFactory, few_steps: Callable[..., None]) -> Swept:
    """A whole sweep of two arms on the small sample, each run once."""
    place, said = tmp_path_factory.mktemp("swept"), list[str]()
    asked = PrivateSweep(str(small), place / "out", place / "ledger", 0.6, ARMS, select="once")
    with pytest.MonkeyPatch.context() as patch:
        few_steps(patch)
        told = private_sweep(asked, said.append)
    return Swept(told, said, asked.out, asked.ledger)


def test_only_the_best_model_and_the_sweeps_statement_are_written(swept: Swept) -> None:
    assert {str(p.relative_to(swept.out)) for p in swept.out.rglob("*") if p.is_file()} == {
        *("sweep.json", "model/bundle.json", "model/arrays.safetensors")
    }
    assert json.loads((swept.out / "sweep.json").read_text()) == swept.told
    bundle = Bundle.load(swept.out / "model")
    assert bundle.statement == swept.told["privacy"]
    assert bundle.quality == swept.told["quality"]
    assert bundle.name == "sample"
    assert set(swept.told) == {
        *("schema", "federation", "programme", "candidates", "selected", "epsilon_of_a_run", "bundle_sha256", "plan"),
        *("quality", "privacy"),
    }
    assert not list(swept.ledger.glob(f"{WORK}*"))
    assert not [p for p in swept.ledger.rglob("*") if p.suffix in (".parquet", ".json", ".npz")]


def test_every_ledger_carries_the_whole_sweep(swept: Swept) -> None:
    plans = charged(swept.ledger)
    assert all(plan == plans[0] and list(plan) == [swept.told["plan"]] for plan in plans)
    for holder in LEDGERS:
        with book(swept.ledger, holder) as opened:
            assert opened.spent() == pytest.approx(0.6, abs=1e-6)
            assert opened.spent() <= 0.6


def test_runs_of_each_arm_compose_exactly_to_the_budget(swept: Swept) -> None:
    lines = charged(swept.ledger)[0][swept.told["plan"]]
    assert {line.name.partition(": ")[0] for line in lines} == set(ARMS)
    by_arm = [[line for line in lines if line.name.startswith(f"{arm}: ")] for arm in ARMS]
    for arm in by_arm:
        assert spent_by([arm], 1.0, 1e-5) == pytest.approx(swept.told["epsilon_of_a_run"], abs=1e-6)
        assert {line.persons for line in arm} == {TRAIN, HELD_OUT}
    assert spent_by([lines], 1.0, 1e-5) == pytest.approx(0.6, abs=1e-6)


def test_the_statement_says_what_the_whole_sweep_costs(swept: Swept) -> None:
    statement = swept.told["privacy"]
    assert statement["epsilon"] == pytest.approx(0.6, abs=1e-6)
    assert set(statement["by_persons"].values()) == {"0.600"} == {row["epsilon"] for row in statement["observers"]}
    assert statement["selection"]["candidates"] == list(ARMS)
    assert statement["selection"]["runs"] == "each candidate once"
    assert swept.told["selected"] in ARMS


def test_a_second_sweep_that_does_not_fit_is_refused_before_anything_runs(swept: Swept, small: Path) -> None:
    before, out = charged(swept.ledger), swept.out.parent / "second"
    for select in ("once", "poisson"):
        with pytest.raises(BudgetExceeded, match="remaining"):
            private_sweep(PrivateSweep(str(small), out, swept.ledger, 0.9, ARMS, select=select))
    assert charged(swept.ledger) == before
    assert {p.name for p in swept.out.parent.iterdir()} == {"out", "ledger"}


@pytest.fixture
def child(small: Path, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A sweep in a process of its own."""
    code = (
        "import sys; from pathlib import Path; from simulations.sweep.private import *\n"
        "place = Path(sys.argv[2])\n"
        "private_sweep(PrivateSweep(sys.argv[1], place / 'out', place / 'ledger', 0.6, ('apart', 'apart-equal')))"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(small), str(tmp_path)], cwd=Path.cwd())
    yield process
    process.kill()
    process.wait()


@pytest.mark.slow
def test_a_sweep_that_is_killed_in_its_first_run_was_charged_and_leaves_nothing_to_go_on_from(
    child: subprocess.Popen[bytes], small: Path, tmp_path: Path
) -> None:
    deadline, ledger = time.monotonic() + 120, tmp_path / "ledger"
    while not list(ledger.glob(f"{WORK}*/*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    deadline = time.monotonic() + 20
    while list(ledger.glob(f"{WORK}*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not list(ledger.glob(f"{WORK}*"))
    assert not (tmp_path / "out").exists()
    assert all(len(plans) == 1 for plans in charged(tmp_path / "ledger"))
    with pytest.raises(BudgetExceeded, match="remaining"):
        private_sweep(PrivateSweep(str(small), tmp_path / "out", tmp_path / "ledger", 0.9, ARMS))
    private_sweep(PrivateSweep(str(small), tmp_path / "out", tmp_path / "ledger", 0.3, ARMS))
    assert not list(ledger.glob(f"{WORK}*"))
    assert all(len(plans) == 2 for plans in charged(tmp_path / "ledger"))
