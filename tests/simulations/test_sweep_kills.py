"""A sweep that is killed, interrupted or out of room: what is finished stays, and the same command goes on with it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import psutil
import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-c", "from simulations.cli import main; main()", "sweep"]
ASKED = ["--epsilons", "1,inf", "--seeds", "3", "--arms", "apart", "--jobs", "2", "--no-report"]
FIGURES = ["persons", "train", "held_out", "base_rate", "learner", "error", "repeat", "data_sha256", "versions"]


def _started(federation: Path, out: Path, *more: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [*COMMAND, str(federation), *ASKED, "--out", str(out), *more]
    return subprocess.Popen(
        command, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True, cwd=federation.parent
    )


def _ended(running: subprocess.Popen[str]) -> tuple[int, str]:
    told = running.communicate(timeout=300)[1]
    return running.returncode, told


def _cells(out: Path) -> dict[str, int]:
    return {path.stem: path.stat().st_mtime_ns for path in (out / "cells").glob("*.json")}


def _killed_after_a_cell(running: subprocess.Popen[str], out: Path, number: int) -> list[psutil.Process]:
    """Sends the signal once a cell is finished; returns the workers that were there."""
    deadline = time.monotonic() + 120
    while not _cells(out):
        assert running.poll() is None, running.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    workers = psutil.Process(running.pid).children(recursive=True)
    os.kill(running.pid, number)
    return workers


def _gone(workers: list[psutil.Process]) -> bool:
    _, alive = psutil.wait_procs(workers, timeout=30)
    return not [worker for worker in alive if worker.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture(scope="module")
def whole(small: Path, tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    """The table of a sweep that nobody interrupted."""
    out = tmp_path_factory.mktemp("whole") / "sweep"
    assert _ended(_started(small, out))[0] == 0
    assert len(_cells(out)) == 6
    return pl.read_parquet(out / "results.parquet")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_killed_sweep_goes_on_without_training_a_finished_cell_again(
    small: Path, whole: pl.DataFrame, tmp_path: Path, number: int
) -> None:
    out = tmp_path / "sweep"
    running = _started(small, out)
    workers = _killed_after_a_cell(running, out, number)
    code, told = _ended(running)
    if number == signal.SIGINT:
        assert code == 130
        assert told.splitlines()[-1] == (
            f"fedscore: interrupted: finished cells are kept in {out}, the same command goes on"
        )
    assert len(workers) >= 2
    assert _gone(workers)
    before = _cells(out)
    assert 0 < len(before) < 6
    assert _ended(_started(small, out))[0] == 0
    after = _cells(out)
    assert {key: after[key] for key in before} == before
    table = pl.read_parquet(out / "results.parquet")
    keys = ["set", "arm", "epsilon", "seed"]
    assert table.select(*keys, *FIGURES).equals(whole.select(*keys, *FIGURES))
    assert sorted(path.name for path in out.iterdir()) == [
        *("cells", "curves.csv", "curves.parquet", "federations", "results.csv", "results.parquet", "sweep.json"),
    ]


def test_a_worker_that_is_killed_costs_its_cell_only_and_the_row_says_so(small: Path, tmp_path: Path) -> None:
    out = tmp_path / "sweep"
    running = _started(small, out)
    deadline = time.monotonic() + 120
    while not (out / ".work").is_dir() or not list((out / ".work").iterdir()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    key = next((out / ".work").iterdir()).name
    victim = [p for p in psutil.Process(running.pid).children() if "spawn_main" in " ".join(p.cmdline())]
    for process in victim[:1]:
        process.kill()
    assert _ended(running)[0] == 0
    failed = pl.read_parquet(out / "results.parquet").filter(pl.col("error") != "")
    assert failed.height == 1, key
    assert failed["error"][0] == "its process ended by signal 9"
    assert len(_cells(out)) == 6


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare to mount a small disk")
def test_a_full_disk_stops_the_sweep_with_the_cell_named_and_what_is_finished_readable(
    small: Path, tmp_path: Path
) -> None:
    disk, kept = tmp_path / "disk", tmp_path / "kept"
    disk.mkdir()
    if subprocess.run(["unshare", "-Urm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("may not make a namespace to mount a small disk in")
    fill = (
        f"while ! ls {disk}/sweep/cells/*.json >/dev/null 2>&1; do sleep 0.05; done; "
        f"dd if=/dev/zero of={disk}/ballast bs=64k 2>/dev/null"
    )
    script = (
        f"mount -t tmpfs -o size=96m tmpfs {disk} || exit 99; ({fill}) & "
        f'"$@"; code=$?; kill $! 2>/dev/null; cp -r {disk}/sweep {kept}; exit $code'
    )
    command = ["unshare", "-Urm", "sh", "-c", script, "sh", *COMMAND, str(small), *ASKED, "--out", str(disk / "sweep")]
    ended = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False, timeout=300
    )
    assert ended.returncode == 1, ended.stderr
    last = ended.stderr.splitlines()[-1]
    assert last.startswith("fedscore: ")
    assert "sample.apart." in last
    assert last.endswith("what is finished is kept: make room, and the same command goes on")
    assert 0 < len(_cells(kept)) < 6
