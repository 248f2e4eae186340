"""Killing a real federation's processes while it runs: it goes on, or ends in a state that the next run takes up."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping

import psutil
import pytest

from privacy import custody
from server.coordinator.running import runs
from server.coordinator.supervising import state
from tests.federation_world import BIN, HOLDERS, Federation, federation

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("nginx"), reason="nginx is not installed: no partner's listener"),
]


@pytest.fixture(scope="module")
def fed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    with federation(tmp_path_factory.mktemp("kills"), 1000, 4.0) as made:
        yield made


def _kill(fed: Federation, what: str) -> None:
    """Kills one program of the coordinator by the id that its supervisor noted, or the app of the run."""
    if what == "serverapp":
        found = [pid for pid, words in fed.processes().items() if any("flwr-serverapp" in word for word in words)]
        assert found
        for pid in found:
            psutil.Process(pid).kill()
        return
    services = state(fed.hub)["services"]
    assert isinstance(services, dict)
    os.kill(int(services[what]), signal.SIGKILL)


def _run(fed: Federation, name: str, kills: Mapping[str, str]) -> tuple[int, list[str]]:
    """`coordinator run`, with one program killed as each phase begins."""
    command = [str(BIN / "fedscore"), "coordinator", "run", "hub", "--name", name, "--rounds", "2"]
    lines = []
    with subprocess.Popen(command, cwd=fed.root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as run:
        for line in run.stdout or ():
            lines.append(line.strip())
            if what := kills.get(line.strip()):
                time.sleep(2)
                _kill(fed, what)
    return run.returncode, lines


def _charges(fed: Federation) -> dict[str, float]:
    paths = {name: fed.root / name / "state" / name / "ledger.db" for name in HOLDERS}
    return {name: custody.Contents.of(custody.read(path)).spent() for name, path in paths.items() if path.exists()}


def test_runs_whose_app_dies_have_failed_and_the_next_goes_on_without_paying_twice(fed: Federation) -> None:
    code, lines = _run(fed, "first", {"train": "serverapp"})
    assert code == 1, lines
    paid = _charges(fed)
    assert set(paid) == set(HOLDERS)
    code, lines = _run(fed, "second", {"fuse": "superexec"})  # its app dies with it
    assert code == 1, lines
    assert not list((fed.hub.path / "out").glob("*/model"))
    assert _charges(fed) == paid
    code, lines = _run(fed, "third", {"align": "nginx", "train": "superlink"})  # a run outlives these two
    assert code == 0, lines
    assert (fed.hub.path / "out" / "third" / "model" / "bundle.json").is_file()
    assert _charges(fed) == paid
    statuses = [row["status"] for row in runs(fed.hub)]
    assert sorted(statuses) == ["finished:completed", "finished:failed", "finished:failed"]
    assert "sound" in fed.done("log", "verify", "hub")


def test_a_supervisor_that_was_killed_is_followed_by_one_that_clears_up(fed: Federation) -> None:
    before = state(fed.hub)
    os.kill(int(str(before["pid"])), signal.SIGKILL)
    time.sleep(1)
    assert fed.call("coordinator", "status", "hub").returncode == 1
    fed.done("coordinator", "up", "hub", "--background")
    after, services = state(fed.hub)["services"], before["services"]
    assert isinstance(after, dict)
    assert isinstance(services, dict)
    assert not set(after.values()) & set(services.values())
    assert not [pid for pid in services.values() if pid in fed.processes()]
