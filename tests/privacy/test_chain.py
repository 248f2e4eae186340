"""The file under a ledger: what two processes that make it at once may expect."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest

from privacy import chain
from privacy.chain import Chain, LedgerCorrupt


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite as it is where two processes turn a new file into WAL: "locked" at once, whatever it was told to wait."""
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda file, **options: connect(file, **{**options, "timeout": 0.0}))


def locked(path: Path) -> sqlite3.Connection:
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    return other


@pytest.mark.usefixtures("impatient")
def test_a_new_file_that_another_process_is_making_is_waited_for(tmp_path: Path) -> None:
    ending = threading.Timer(0.2, locked(tmp_path / "ledger.db").close)
    ending.start()
    made = Chain(tmp_path / "ledger.db")
    with made.writing():
        made.append("plan|one", {"kind": "plan"})
    assert made.head()[0] == 1
    made.close()
    ending.join()


@pytest.mark.usefixtures("impatient")
def test_a_file_that_stays_locked_ends_it_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain, "WAIT_SECONDS", 0.1)
    other = locked(tmp_path / "ledger.db")
    with pytest.raises(LedgerCorrupt, match=r"ledger\.db: database is locked: nothing is released"):
        Chain(tmp_path / "ledger.db")
    other.close()
