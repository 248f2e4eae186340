"""A run that is killed at any message goes on where it was: charged once, every reply drawn once, and it ends."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from privacy import custody
from privacy.ledger import Ledger, Terms

ROOT = Path(__file__).parents[2]
HOLDERS = ("lender", "pay-1", "shop-1", "shop-2", "tax-1", "coordinator")
PROCESS = """
import json, os, signal, sys
from pathlib import Path
import model.descent
from simulations.loopback import LoopbackGrid
from simulations.run import Settings, simulate
import clients.app, privacy.ledger, server.app

model.descent.MIN_STEPS = model.descent.MAX_STEPS = 8
federation, work, deaths = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
deliver, store = LoopbackGrid._deliver, privacy.ledger.Ledger.store

def life(death, ledger, out):
    kind, number = death
    seen = {"before": 0, "after": 0, "drawn": 0}
    def at(moment):
        seen[moment] += 1
        if moment == kind and seen[moment] == number:
            os.kill(os.getpid(), signal.SIGKILL)
    def delivered(grid, message):
        at("before")
        reply = deliver(grid, message)
        at("after")
        return reply
    def stored(book, key, reply):
        at("drawn")
        store(book, key, reply)
    LoopbackGrid._deliver, privacy.ledger.Ledger.store = delivered, stored
    told = simulate(Settings(federation, out, ledger=ledger, force=True)).report
    (out / "seen.json").write_text(json.dumps({"messages": seen["before"], "failures": told["failures"]}))

for i, death in enumerate(deaths):
    for now in (death, ["never", 0]):
        child = os.fork()
        if child == 0:
            life(now, work / f"ledger-{i}", work / f"out-{i}")
            os._exit(0)
        print(i, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def lives(federation: Path, work: Path, deaths: list[tuple[str, int]]) -> list[dict[str, object]]:
    """Each death and the run after it, in ledgers of their own; what the second run saw."""
    command = [sys.executable, "-c", PROCESS, str(federation), str(work), json.dumps(deaths)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, done.stderr
    codes = [int(line.split()[1]) for line in done.stdout.splitlines()]
    assert codes == [-9, 0] * len(deaths), done.stderr
    for i in range(len(deaths)):
        charged_once(work / f"ledger-{i}")
        assert not list((work / f"ledger-{i}" / "coordinator").glob("blocks-*.json"))  # nothing is left to go on from
    return [json.loads((work / f"out-{i}" / "seen.json").read_text()) for i in range(len(deaths))]


def charged_once(ledgers: Path) -> None:
    names = set()
    for holder in HOLDERS:
        path = ledgers / holder / "ledger.db"
        owner = "" if holder == "coordinator" else holder
        rows = custody.read(path)  # the chain holds, and no reply is there that was not claimed
        assert len({row.key for row in rows}) == len(rows)
        with Ledger(path, Terms("sample", owner, 1.0, 1.0, 1e-5)) as book:
            names.add(tuple(book.plans()))
            assert book.spent() <= 1.0
    assert len(names) == 1
    assert len(names.pop()) == 1


def test_a_run_that_is_killed_goes_on_and_pays_once(small: Path, tmp_path: Path) -> None:
    seen = lives(small, tmp_path, [("before", 8), ("after", 12)])
    assert [told["failures"] for told in seen] == [{}, {}]


def test_a_holder_that_dies_while_it_draws_is_named_and_the_others_go_on(small: Path, tmp_path: Path) -> None:
    """That noise may have been seen by nobody, but one charge never pays for two draws."""
    (seen,) = lives(small, tmp_path, [("drawn", 1)])
    assert list(seen["failures"].values()) == ["budget"]  # type: ignore[attr-defined]


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["before", "after"])
def test_so_it_is_at_every_message(small: Path, tmp_path: Path, moment: str) -> None:
    (first,) = lives(small, tmp_path / "first", [("before", 1)])
    deaths = [(moment, n) for n in range(1, int(str(first["messages"])) + 1)]
    assert len(deaths) > 20
    assert all(told["failures"] == {} for told in lives(small, tmp_path / "all", deaths))
