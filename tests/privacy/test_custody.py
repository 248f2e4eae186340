"""Keeping a ledger file: reading leaves no trace, a backup is whole, and a restore never makes anything free again."""

from __future__ import annotations

import json
import math
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from privacy import custody
from privacy.ledger import Ledger, LedgerCorrupt, LedgerMismatch, Terms
from privacy.plan import BudgetExceeded, Release

ONE = Release("payments/pay-1", "pay-1", bound=2.0, size=10, count=1, share=1.0, noise_multiplier=10.0)
SHOP = replace(ONE, name="ecommerce/ec-1", holder="ec-1")
TERMS = Terms("programme", "pay-1", ceiling=5.0, total=8.0, delta=1e-5)
LENDER = replace(TERMS, holder="lender")


def charged(path: Path, *plans: str, terms: Terms = TERMS, claimed: bool = True) -> Path:
    with Ledger(path, terms) as book:
        for plan in plans:
            book.reserve(plan, [ONE, SHOP])
            if claimed and terms.holder == ONE.holder:
                book.store(book.claim(plan, ONE), plan.encode())
    return path


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.rglob("*") if p.is_file() and not p.name.endswith("-shm")}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return charged(tmp_path / "live" / "ledger.db", "a", "b")


@pytest.fixture
def copy(path: Path, tmp_path: Path) -> Path:
    """A backup of two plans, after which the live ledger goes on with two more."""
    custody.backup(path, tmp_path / "copy.db")
    charged(path, "c", "d")
    return tmp_path / "copy.db"


def test_an_export_is_all_rows_and_can_be_read_back(path: Path) -> None:
    text = custody.export(path)
    rows = custody.exported(text)
    assert rows == custody.read(path)
    assert [set(json.loads(line)) for line in text.splitlines()] == [{"seq", "key", "text", "prev", "hash"}] * 5
    with Ledger(path, TERMS) as book:
        assert custody.head(rows) == book.head()
    assert custody.head([]) == (0, "0" * 64)
    Ledger(path, TERMS, custody.head(rows)).close()


def test_what_the_rows_say_is_what_the_ledger_says(path: Path) -> None:
    contents = custody.Contents.of(custody.read(path))
    with Ledger(path, TERMS) as book:
        assert contents.plans == book.plans()
        for own in (True, False):
            assert contents.spent(own) == book.spent(own)
        assert contents.remaining() == book.remaining()
    assert contents.claims == {("a", ONE.name): 1, ("b", ONE.name): 1}
    assert (contents.restored, contents.unknown) == (0, False)
    assert contents.alone(ONE) < contents.spent(own=True) < contents.spent()


@pytest.mark.parametrize("text", ["", "{}\n", "x", "[1]\n", '{"seq": 1}\n', '{"seq": true, "key": 1}\n', "null\n"])
def test_something_else_is_no_export(text: str) -> None:
    with pytest.raises(ValueError, match="line 1 is no row of an exported ledger"):
        custody.exported(text)


@pytest.mark.parametrize("field", ["key", "text", "prev", "hash", "seq"])
def test_a_changed_export_is_named_with_its_row(path: Path, field: str) -> None:
    lines = [json.loads(line) for line in custody.export(path).splitlines()]
    lines[2][field] = 77 if field == "seq" else lines[2][field] + " "
    with pytest.raises(LedgerCorrupt, match="row 3 "):
        custody.exported("\n".join(map(json.dumps, lines)))


def test_reading_leaves_no_trace(path: Path) -> None:
    before = bytes_of(path.parent)
    for action in (custody.read, custody.export):
        action(path)
    assert bytes_of(path.parent) == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_ledger_in_use_is_read_with_what_is_still_in_its_journal(path: Path) -> None:
    with Ledger(path, TERMS) as book:
        book.reserve("c", [ONE, SHOP])
        before = bytes_of(path.parent)
        assert custody.head(custody.read(path)) == book.head()
        assert bytes_of(path.parent) == before
        assert book.reserve("d", [ONE, SHOP])


@pytest.mark.parametrize(
    "change",
    [
        *("UPDATE entry SET key = 'x' WHERE seq = 2", "DELETE FROM entry", "DROP TABLE entry"),
        *("UPDATE reply SET bytes = x'00'", "UPDATE reply SET key = key || 'x'", "DROP TABLE reply"),
    ],
)
@pytest.mark.parametrize("action", [custody.read, lambda p: custody.backup(p, p.with_name("to.db"))])
def test_nothing_is_made_of_a_ledger_that_is_not_sound(
    path: Path, change: str, action: Callable[[Path], object]
) -> None:
    with sqlite3.connect(path) as db:
        db.execute(change)
    db.close()
    with pytest.raises(LedgerCorrupt, match=str(path)):
        action(path)
    assert [p.name for p in path.parent.iterdir() if "-" not in p.name] == [path.name]


def test_a_backup_is_one_file_with_rows_and_replies(path: Path, tmp_path: Path) -> None:
    to = tmp_path / "kept" / "copy.db"
    to.parent.mkdir()
    with Ledger(path, TERMS) as book:  # even of a ledger in use
        book.reserve("c", [ONE, SHOP])
        custody.backup(path, to)
    assert [p.name for p in to.parent.iterdir()] == ["copy.db"]
    assert custody.export(to) == custody.export(path)
    with Ledger(to, TERMS) as book:
        assert book.stored(book.key("a", ONE.name)) == b"a"


@pytest.mark.parametrize("end", ["", "-wal", "-shm"])
@pytest.mark.parametrize("action", [custody.backup, custody.restore])
def test_nothing_is_put_where_something_is(
    path: Path, tmp_path: Path, end: str, action: Callable[[Path, Path], object]
) -> None:
    there = tmp_path / f"to.db{end}"
    there.write_bytes(b"there")
    with pytest.raises(FileExistsError):
        action(path, tmp_path / "to.db")
    assert {p.name for p in tmp_path.rglob("*") if p.is_file()} == {"ledger.db", there.name}
    assert there.read_bytes() == b"there"


def test_with_its_own_export_a_restored_ledger_is_the_lost_one_with_its_plans_closed(
    path: Path, copy: Path, tmp_path: Path
) -> None:
    witness = custody.exported(custody.export(path))
    to = tmp_path / "new.db"
    added = custody.restore(copy, to, witness)
    rows = custody.read(to)
    assert rows[: len(witness)] == witness
    assert added == rows[5:]
    assert (added[-1].key, dict(added[-1].body)) == (
        "restored|1",
        {"kind": "restored", "closed": ["a", "b", "c", "d"], "unknown": False},
    )
    with Ledger(to, TERMS, custody.head(witness)) as book, Ledger(path, TERMS) as lost:
        assert book.spent() == lost.spent()
        assert book.stored(book.key("a", ONE.name)) == b"a"  # may be sent again
        for plan in ("a", "b", "c", "d"):
            assert not book.reserve(plan, [ONE, SHOP])
            with pytest.raises(BudgetExceeded, match="before the ledger was restored"):
                book.claim(plan, ONE, "another part")
        assert book.reserve("e", [ONE, SHOP])
        assert book.claim("e", ONE)


@pytest.mark.parametrize("holder", ["lender", "", "ec-1"])
def test_with_another_holders_export_the_missing_plans_are_charged(
    path: Path, copy: Path, tmp_path: Path, holder: str
) -> None:
    other = charged(tmp_path / "other.db", "a", "b", "c", "d", terms=replace(TERMS, holder=holder))
    to = tmp_path / "new.db"
    added = custody.restore(copy, to, custody.read(other))
    assert [row.key for row in added] == ["plan|c", "plan|d", "restored|1"]
    with Ledger(to, TERMS) as book, Ledger(path, TERMS) as lost:
        assert book.plans() == lost.plans()
        assert (book.spent(), book.spent(own=True)) == (lost.spent(), lost.spent(own=True))
        with pytest.raises(BudgetExceeded, match="restored"):
            book.claim("d", ONE)
        assert book.claim(*[("e", ONE), book.reserve("e", [ONE])][0])


def test_without_a_witness_everything_counts_as_spent(copy: Path, tmp_path: Path) -> None:
    to = tmp_path / "new.db"
    (added,) = custody.restore(copy, to)
    assert added.body["unknown"] is True
    contents = custody.Contents.of(custody.read(to))
    assert (contents.spent(), contents.remaining()) == (math.inf, 0.0)
    with pytest.raises(BudgetExceeded, match="restored without a witness: what it missed is unknown") as refused:
        Ledger(to, TERMS)
    assert "\n" not in str(refused.value)


def test_an_open_ledger_that_comes_to_be_unknown_refuses_every_plan(path: Path) -> None:
    with Ledger(path, TERMS) as book:
        with book.chain.writing():
            book.chain.append("restored|1", {"kind": "restored", "closed": [], "unknown": True})
        with pytest.raises(BudgetExceeded, match=r"remaining 0\.000; no such plan would fit"):
            book.reserve("c", [ONE])


def test_what_another_ledger_does_not_know_itself_it_cannot_vouch_for(copy: Path, tmp_path: Path) -> None:
    other = charged(tmp_path / "other.db", "a", "b", terms=LENDER)
    custody.restore(other, tmp_path / "unknown.db")
    custody.restore(copy, tmp_path / "new.db", custody.read(tmp_path / "unknown.db"))
    assert custody.Contents.of(custody.read(tmp_path / "new.db")).unknown


def test_a_ledger_can_be_restored_again(path: Path, copy: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first.db", tmp_path / "second.db"
    custody.restore(copy, first, custody.read(path))
    added = custody.restore(copy, second, custody.read(charged(first, "e")))
    assert [row.key for row in added[-2:]] == [f"claim|e|{ONE.name}|", "restored|2"]
    assert added[-1].body["closed"] == ["a", "b", "c", "d", "e"]


def test_a_copy_that_is_put_back_by_hand_is_refused_where_a_restored_one_is_not(
    path: Path, copy: Path, tmp_path: Path
) -> None:
    seen = custody.read(path)
    shutil.copy(copy, tmp_path / "by-hand.db")
    with pytest.raises(LedgerCorrupt, match="a rollback"):
        Ledger(tmp_path / "by-hand.db", TERMS, custody.head(seen))
    custody.restore(copy, tmp_path / "restored.db", seen)
    Ledger(tmp_path / "restored.db", TERMS, custody.head(seen)).close()


def forked(path: Path, tmp_path: Path) -> Path:
    """Another continuation of the same first rows."""
    return charged(tmp_path / "fork.db", "a", "x", "c", "d", "e")


def other_lines(path: Path, tmp_path: Path) -> Path:
    with Ledger(tmp_path / "other.db", LENDER) as book:
        book.reserve("a", [ONE])
    return tmp_path / "other.db"


CASES: list[tuple[Callable[[Path, Path], Path], type[Exception], str]] = [
    (forked, LedgerCorrupt, "row 4 is not what the witness saw"),
    (other_lines, LedgerCorrupt, "row 2 is a plan with other lines"),
    (lambda _, folder: charged(folder / "old.db", "a"), LedgerCorrupt, "ends at row 3, before the copy does"),
    (lambda _, folder: charged(folder / "old.db", "a", terms=LENDER), LedgerCorrupt, "take a newer one"),
    (lambda _, folder: charged(folder / "p.db", "a", terms=replace(TERMS, programme="x")), LedgerMismatch, "programme"),
    (lambda _, folder: charged(folder / "d.db", "a", terms=replace(LENDER, delta=1e-6)), LedgerMismatch, "delta"),
]


@pytest.mark.parametrize(("make", "error", "text"), CASES)
def test_a_witness_that_does_not_fit_restores_nothing(
    path: Path, copy: Path, tmp_path: Path, make: Callable[[Path, Path], Path], error: type[Exception], text: str
) -> None:
    witness = custody.read(make(path, tmp_path))
    with pytest.raises(error, match=text):
        custody.restore(copy, tmp_path / "to" / "new.db", witness)
    assert not (tmp_path / "to").exists()


def test_a_witness_as_old_as_the_copy_is_enough(copy: Path, tmp_path: Path) -> None:
    added = custody.restore(copy, tmp_path / "new.db", custody.read(copy))
    assert [row.key for row in added] == ["restored|1"]
    assert custody.missing(custody.read(tmp_path / "new.db"), custody.read(copy)) == []


def test_a_restore_that_fails_leaves_nothing(copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.link", full)
    with pytest.raises(OSError, match="No space left"):
        custody.restore(copy, tmp_path / "new.db")
    assert not [p for p in tmp_path.iterdir() if p.name.startswith((".ledger", "new"))]
