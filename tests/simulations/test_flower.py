"""The same app under Flower's own processes: slow, and nothing that we started is left."""

import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import psutil
import pytest

from server.failures import RunFailed
from simulations import flower
from simulations.flower import APP, flower_run, private_link
from simulations.run import Settings, simulate

pytestmark = pytest.mark.slow


def _ours() -> set[int]:
    """Our descendants and every process that carries one of our private homes in its environment."""
    found = {child.pid for child in psutil.Process().children(recursive=True)}
    for process in psutil.process_iter():
        try:
            if "fedscore-flwr-" in process.environ().get("FLWR_HOME", ""):
                found.add(process.pid)
        except (psutil.AccessDenied, psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return found


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    before = _ours()
    yield
    deadline = time.monotonic() + 15
    while (left := _ours() - before) and time.monotonic() < deadline:
        time.sleep(0.5)
    told = [psutil.Process(pid).cmdline()[:4] for pid in left if psutil.pid_exists(pid)]
    assert not told


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Less than half an hour for a run that hangs."""
    monkeypatch.setattr(flower, "RUN_SECONDS", 420.0)


@pytest.mark.usefixtures("patient")
def test_the_flower_backend_gives_the_same_scores_and_the_same_shape_of_report(
    small: Path, exact_run: Any, tmp_path: Path
) -> None:
    result = simulate(Settings(small, tmp_path / "out", epsilon=math.inf, backend="flower"))
    assert result.report["backend"] == "flower"
    assert result.report.keys() == exact_run.report.keys()
    assert result.report["failures"] == {}
    assert set(result.report["partners"]) == set(exact_run.report["partners"])
    one, two = (pl.read_parquet(r.out / "scores.parquet") for r in (result, exact_run))
    assert one["id"].equals(two["id"])
    assert (one["z"] - two["z"]).abs().max() < 1e-5


@pytest.mark.usefixtures("patient")
def test_the_flower_backend_spends_just_the_budget(small: Path, tmp_path: Path) -> None:
    report = simulate(Settings(small, tmp_path / "out", backend="flower")).report
    assert 0.99 < report["epsilon"] <= 1.0
    ledgers = {p.parent.name for p in (tmp_path / "out").rglob("ledger.db")}
    assert ledgers == {"coordinator", "lender", *report["partners"]}


def _finished(link: Any, run_id: str) -> dict[str, Any]:
    deadline = time.monotonic() + 420
    while time.monotonic() < deadline:
        runs = link.cli("list", "private", "--run-id", run_id)["runs"]
        if runs and str(runs[0]["status"]).startswith("finished"):
            return dict(runs[0])
        time.sleep(1)
    pytest.fail("the run did not finish: " + link.log()[-2000:])


def test_a_bare_run_completes_on_flowers_default_of_two_nodes(tmp_path: Path) -> None:
    with private_link() as link:
        run_id = str(link.cli("run", str(APP), "private")["run-id"])
        assert _finished(link, run_id)["status"] == "finished:completed", link.log()[-2000:]


def test_a_run_that_fails_is_reported_though_the_command_succeeds(tmp_path: Path) -> None:
    failure = flower_run({"federation": str(tmp_path / "none.toml"), "wait": 5.0}, 2)
    assert failure is not None
    assert failure.startswith("Flower says finished:failed")


def test_a_failed_flower_run_leaves_no_output(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simulations.run.Settings.run_config", lambda self, out: {"engine": "trees"})
    with pytest.raises(RunFailed, match="Flower says finished:failed"):
        simulate(Settings(small, tmp_path / "out", backend="flower"))
    assert list(tmp_path.iterdir()) == []


def test_a_link_that_cannot_start_says_so_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flower, "_tool", lambda name: "false")
    with pytest.raises(RuntimeError, match="SuperLink did not start"), private_link():
        pass


def test_the_private_home_goes_with_its_link() -> None:
    with private_link() as link:
        home = link.home
        assert json.dumps(link.cli("list", "private")["runs"]) == "[]"
    assert not home.exists()
