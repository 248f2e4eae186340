"""The ledger: a ceiling that holds against retries, races and kill -9, and a chain that shows every change."""

from __future__ import annotations

import json
import math
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from privacy.accounting import epsilon_of, gaussian_mu
from privacy.ledger import Ledger, LedgerCorrupt
from privacy.plan import BudgetExceeded, Plan, Release

ROOT = Path(__file__).parents[2]
FIT = 5  # so many releases of the kind below fit under epsilon = 1, and no more
NOISE = math.sqrt(FIT) / gaussian_mu(1.0, 1e-5) * 1.001
ONE = Release("payments/pay-1", "pay-1", bound=2.0, size=10, count=1, share=1.0, noise_multiplier=NOISE)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "pay-1" / "ledger.db"


@pytest.fixture
def book(path: Path) -> Iterator[Ledger]:
    ledger = Ledger(path, 1.0, 1e-5)
    yield ledger
    ledger.close()


def full(book: Ledger) -> list[str]:
    keys = [f"run-1|{i}" for i in range(FIT)]
    assert [book.charge(key, ONE) for key in keys] == [True] * FIT
    return keys


def changed(path: Path, *statements: str) -> None:
    db = sqlite3.connect(path)
    for statement in statements:
        db.execute(statement)
    db.commit()
    db.close()


def test_what_fits_is_charged_and_the_next_release_is_refused(book: Ledger) -> None:
    full(book)
    before = book.head()
    with pytest.raises(BudgetExceeded) as refused:
        book.charge("run-1|more", ONE)
    spent = epsilon_of([ONE.event] * FIT, 1e-5)
    assert f"spent {math.ceil(spent * 1000) / 1000:.3f}" in str(refused.value)
    assert "ceiling 1" in str(refused.value)
    assert ONE.name in str(refused.value)
    assert book.head() == before
    assert book.head()[0] == FIT
    book.verify()


def test_a_refused_release_leaves_room_for_a_smaller_one(book: Ledger) -> None:
    keys = [f"a{i}" for i in range(FIT - 1)]
    for key in keys:
        book.charge(key, ONE)
    with pytest.raises(BudgetExceeded):
        book.charge("too much", replace(ONE, count=2))
    assert book.charge("fits", ONE)
    assert book.events() == [ONE.event] * FIT


def test_releases_of_every_kind_count_together(book: Ledger) -> None:
    book.charge("full", replace(ONE, count=2))
    book.charge("sampled", replace(ONE, count=400, probability=0.05))
    assert epsilon_of(book.events(), 1e-5) > epsilon_of([replace(ONE, count=2).event], 1e-5) + 0.01
    with pytest.raises(BudgetExceeded):
        book.charge("more", replace(ONE, count=FIT - 2))


def test_a_release_without_noise_never_fits(book: Ledger) -> None:
    with pytest.raises(BudgetExceeded, match="inf"):
        book.charge("bare", replace(ONE, noise_multiplier=0.0))
    assert book.head() == (0, "0" * 64)


def test_what_the_ledger_lets_through_is_a_plan_within_budget(book: Ledger) -> None:
    exact = replace(ONE, noise_multiplier=math.sqrt(FIT) / gaussian_mu(1.0, 1e-5), size=50_000)
    try:
        for i in range(FIT):
            book.charge(f"{i}", exact)
    except BudgetExceeded:
        pass  # to refuse the last one is right
    Plan(tuple(book.releases()), 1.0, 1e-5).check()


@pytest.mark.parametrize("ceiling", [0.0, -1.0, math.nan, math.inf])
def test_a_ledger_needs_a_finite_ceiling(path: Path, ceiling: float) -> None:
    with pytest.raises(ValueError, match="ceiling must be finite and > 0"):
        Ledger(path, ceiling, 1e-5)
    assert not path.exists()


def test_a_retry_of_a_key_is_charged_once(book: Ledger) -> None:
    keys = full(book)
    head = book.head()
    assert [book.charge(key, ONE) for key in keys] == [False] * FIT
    assert book.head() == head


def test_a_key_pays_for_one_release_only(book: Ledger) -> None:
    book.charge("run-1|a", ONE)
    for other in (replace(ONE, noise_multiplier=NOISE * 2), replace(ONE, bound=1.0), replace(ONE, name="x/y")):
        with pytest.raises(ValueError, match="charged for another release"):
            book.charge("run-1|a", other)
    assert book.releases() == [ONE]
    assert book.charge("run-1|b", ONE)  # and the ledger is not left in a transaction


def test_the_stored_bytes_come_back_and_are_never_replaced(book: Ledger, path: Path) -> None:
    book.charge("a", ONE)
    assert book.stored("a") is None
    with pytest.raises(LedgerCorrupt, match="after it was claimed"):
        book.store("a", b"never claimed")
    book.claim("a")
    with pytest.raises(BudgetExceeded, match="not kept"):
        book.claim("a")
    assert book.stored("a") is None
    book.store("a", b"\x00noisy")
    with pytest.raises(LedgerCorrupt, match="stored once"):
        book.store("a", b"drawn again")
    again = Ledger(path, 1.0, 1e-5)
    assert again.stored("a") == b"\x00noisy"
    assert again.stored("b") is None
    assert again.releases() == [ONE]
    again.close()


@pytest.mark.parametrize("row", [1, 3, FIT])
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE charge SET body = replace(body, '\"count\": 1', '\"count\": 0') WHERE seq = {row}",
        "UPDATE charge SET key = 'other' WHERE seq = {row}",
        "UPDATE charge SET hash = '{zeros}' WHERE seq = {row}",
        "UPDATE charge SET prev = 'x' WHERE seq = {row}",
    ],
    ids=["body", "key", "hash", "prev"],
)
def test_a_changed_row_is_named(book: Ledger, path: Path, row: int, statement: str) -> None:
    full(book)
    changed(path, statement.format(row=row, zeros="0" * 64))
    with pytest.raises(LedgerCorrupt, match=f"row {row} "):
        book.verify()
    with pytest.raises(LedgerCorrupt, match=f"row {row} "):
        Ledger(path, 1.0, 1e-5)


@pytest.mark.parametrize("row", [1, 2, FIT - 1])
def test_a_deleted_row_is_named(book: Ledger, path: Path, row: int) -> None:
    full(book)
    changed(path, f"DELETE FROM charge WHERE seq = {row}")
    with pytest.raises(LedgerCorrupt, match=f"row {row} "):
        book.verify()


def test_a_deleted_row_is_named_though_the_rest_is_renumbered(book: Ledger, path: Path) -> None:
    full(book)
    changed(path, "DELETE FROM charge WHERE seq = 2", "UPDATE charge SET seq = seq - 1 WHERE seq > 2")
    with pytest.raises(LedgerCorrupt, match="row 2 "):
        book.verify()


def test_a_gap_in_the_numbers_is_named(book: Ledger, path: Path) -> None:
    full(book)
    changed(path, f"UPDATE charge SET seq = {FIT + 4} WHERE seq = {FIT}")
    with pytest.raises(LedgerCorrupt, match=f"row {FIT} "):
        book.verify()


def test_two_swapped_rows_are_named(book: Ledger, path: Path) -> None:
    full(book)
    swaps = [f"UPDATE charge SET seq = {b} WHERE seq = {a}" for a, b in ((2, 99), (3, 2), (99, 3))]
    changed(path, *swaps)
    with pytest.raises(LedgerCorrupt, match="row 2 "):
        book.verify()


def test_a_chain_cut_at_its_end_shows_in_the_head_that_a_witness_kept(book: Ledger, path: Path) -> None:
    """The file alone cannot tell: it looks as it did before the last charge."""
    full(book)
    witnessed = book.head()
    changed(path, f"DELETE FROM charge WHERE seq = {FIT}")
    assert book.head() != witnessed
    assert book.head()[0] == witnessed[0] - 1


def test_an_untouched_ledger_is_sound_when_opened_again(book: Ledger, path: Path) -> None:
    full(book)
    head = book.head()
    book.close()
    again = Ledger(path, 1.0, 1e-5)
    assert again.head() == head
    with pytest.raises(BudgetExceeded):
        again.charge("more", ONE)
    again.close()


def test_every_commit_reaches_the_disk_before_noise_is_drawn(book: Ledger) -> None:
    assert book._db.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
    assert book._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)


RACER = """
import json, sys, time
from pathlib import Path
from privacy.ledger import Ledger
from privacy.plan import BudgetExceeded, Release
path, name, line = Path(sys.argv[1]), sys.argv[2], Release.from_dict(json.loads(sys.argv[3]))
while not path.with_name("go").exists():
    time.sleep(0.001)
book, granted = Ledger(path, 1.0, 1e-5), 0
for i in range(8):
    try:
        granted += book.charge(f"{name}|{i}", line)
    except BudgetExceeded:
        pass
print(granted)
"""


def test_two_processes_on_one_ledger_never_pass_the_ceiling_together(path: Path) -> None:
    path.parent.mkdir()
    line = json.dumps(replace(ONE, noise_multiplier=NOISE * 2).to_dict())  # 4 x FIT would fit
    racers = [
        subprocess.Popen([sys.executable, "-c", RACER, str(path), n, line], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for n in ("a", "b", "c")
    ]
    time.sleep(1.0)
    path.with_name("go").touch()
    granted = [int(racer.communicate(timeout=60)[0]) for racer in racers]
    assert [racer.returncode for racer in racers] == [0, 0, 0]
    assert sum(granted) == 4 * FIT
    book = Ledger(path, 1.0, 1e-5)
    assert book.head()[0] == 4 * FIT
    assert epsilon_of(book.events(), 1e-5) <= 1.0
    book.close()


KILLED = """
import json, os, signal, sys, time
from pathlib import Path
from privacy.ledger import Ledger
from privacy.plan import Release
path, line = Path(sys.argv[1]), Release.from_dict(json.loads(sys.argv[2]))
released = os.open(sys.argv[3], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
for life, moment in enumerate(json.loads(sys.argv[4])):
    child = os.fork()
    if child == 0:
        book = Ledger(path, 8.0, 1e-5)
        for i in range(10_000):
            key = f"{life}|{i}"
            book.charge(key, line)
            book.claim(key)
            book.store(key, key.encode())
            os.write(released, (key + "\\n").encode())
    time.sleep(moment)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
"""


def test_nothing_is_released_uncharged_when_the_process_is_killed(path: Path) -> None:
    """Ten lives on one ledger, each ended by kill -9 at a random moment."""
    path.parent.mkdir()
    out = path.with_name("released")
    line = json.dumps(replace(ONE, noise_multiplier=1e4).to_dict())
    moments = json.dumps([random.uniform(0.02, 0.15) for _ in range(10)])
    subprocess.run([sys.executable, "-c", KILLED, str(path), line, str(out), moments], cwd=ROOT, check=True, timeout=60)
    book = Ledger(path, 8.0, 1e-5)  # the chain holds
    charged = {key for (key,) in book._db.execute("SELECT key FROM charge")}
    released = out.read_text().split()
    assert len(released) > 20
    assert set(released) <= charged
    assert all(book.stored(key) == key.encode() for key in released)
    assert len(charged) - len(released) <= 10  # a life loses at most the one it was killed in
    book.close()
