"""Partners that come late, leave and come back: every run is charged to whoever was there, and the rest goes on."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from privacy.ledger import Ledger, Terms
from simulations.run import Settings, simulate

pytestmark = pytest.mark.usefixtures("quick")


def _plans(folder: Path, holder: str) -> int:
    owner = "" if holder == "coordinator" else holder
    with Ledger(folder / holder / "ledger.db", Terms("sample", owner, 1.0, 1.0, 1e-5)) as book:
        return len(book.plans())


def _without(files: Any, name: str) -> Path:
    """The federation file without one partner, as it was before that one joined or after it left."""
    text = files.federation.read_text(encoding="utf-8")
    left = re.sub(rf'\[\[partner\]\]\nname = "{name}"\n(?:(?!\[).*\n)*', "", text)
    assert left != text
    path: Path = files.folder / f"without-{name}.toml"
    path.write_text(left, encoding="utf-8")
    return path


def test_a_partner_that_joins_late_leaves_and_comes_back_pays_for_the_runs_it_was_in(
    files: Any, tmp_path: Path
) -> None:
    ledger, small = tmp_path / "ledger", _without(files, "shop-2")
    for i, federation in enumerate([small, files.federation, small, files.federation]):
        told = simulate(Settings(federation, tmp_path / f"run-{i}", epsilon=0.2, ledger=ledger)).report
        assert told["failures"] == {}
        assert ("shop-2" in told["partners"]) == (federation == files.federation)
        assert told["partners"]["shop-1"]["domain"] == "ecommerce"  # its domain goes on without it
    plans = {name: _plans(ledger, name) for name in ("shop-1", "shop-2", "coordinator")}
    assert plans == {"shop-1": 4, "shop-2": 2, "coordinator": 4}


def test_one_that_comes_back_without_its_ledger_is_refused_and_the_others_go_on(files: Any, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    simulate(Settings(files.federation, tmp_path / "one", epsilon=0.2, ledger=ledger))
    (ledger / "shop-2" / "ledger.db").unlink()
    for beside in ("-wal", "-shm"):
        (ledger / "shop-2" / f"ledger.db{beside}").unlink(missing_ok=True)
    told = simulate(Settings(files.federation, tmp_path / "two", epsilon=0.2, ledger=ledger)).report
    assert told["failures"] == {"shop-2": "ledger"}
    shutil.rmtree(tmp_path / "two")
