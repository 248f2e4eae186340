"""`fedscore ledger`: what a keeper of a ledger sees and does, and one line where something is wrong."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from privacy import custody
from privacy.accounting import shown
from privacy.ledger import Ledger, Terms
from privacy.plan import LabelResponse, Release

ONE = Release("payments/pay-1", "pay-1", bound=2.0, size=10, count=40, share=1.0, noise_multiplier=60.0)
SHOP = replace(ONE, name="ecommerce/ec-1", holder="ec-1", count=10)
LABELS = LabelResponse("labels", "lender", 0.5)
TERMS = Terms("credit-2024", "pay-1", ceiling=5.0, total=8.0, delta=1e-5)
Run = Callable[..., Any]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with Ledger(tmp_path / "node" / "ledger.db", TERMS) as book:
        book.reserve("plan-a", [ONE, SHOP])
        for part in ("1", "2"):
            book.store(book.claim("plan-a", ONE, part), b"reply")
        book.reserve("plan-b", [SHOP])
    return tmp_path / "node" / "ledger.db"


@pytest.fixture
def witness(path: Path, tmp_path: Path) -> Path:
    (tmp_path / "witness.jsonl").write_text(custody.export(path))
    return tmp_path / "witness.jsonl"


@pytest.fixture
def copy(path: Path, tmp_path: Path) -> Path:
    custody.backup(path, tmp_path / "copy.db")
    return tmp_path / "copy.db"


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_show_says_what_was_spent_with_unit_relation_and_delta(path: Path, run_cli: Run, tmp_path: Path) -> None:
    before = files(tmp_path)
    begun = time.process_time()
    ended = run_cli("ledger", "show", path)
    assert time.process_time() - begun < 5  # well below a second on an idle machine
    assert (ended.code, ended.err) == (0, "")
    contents = custody.Contents.of(custody.read(path))
    for text in ("credit-2024", "ledger of pay-1", "plan plan-a", "plan plan-b", "payments/pay-1", "train", "60", "40"):
        assert text in ended.out
    (first,) = [line for line in ended.out.splitlines() if "payments/pay-1" in line]
    assert first.replace("│", " ").split()[-2:] == [shown(contents.alone(ONE)), "2"]
    suffix = "of one person over all partners (zero-out), delta=1e-05"
    for what, own in (("lines of pay-1", True), ("all lines", False)):
        assert f"spent, {what}: epsilon {shown(contents.spent(own))} {suffix}" in ended.out
    assert f"total when it was opened: epsilon 8 {suffix}" in ended.out
    left = float(ended.out.split("remaining, as one Gaussian release: epsilon ")[1].split()[0])
    assert contents.remaining() - 0.001 <= left <= contents.remaining()
    assert files(tmp_path) == before


def test_show_knows_labels_and_sampled_lines_and_the_coordinator(tmp_path: Path, run_cli: Run) -> None:
    with Ledger(tmp_path / "l.db", replace(TERMS, holder="")) as book:
        book.reserve("p", [LABELS, replace(ONE, probability=0.05, noise_multiplier=4.0)])
    ended = run_cli("ledger", "show", tmp_path / "l.db")
    assert "ledger of the coordinator" in ended.out
    for text in (f"flip {LABELS.flip:.4g}", "0.05", "spent, all lines"):
        assert text in ended.out
    assert "spent, lines of" not in ended.out


def test_verify_says_how_many_rows_and_what_only_a_witness_shows(path: Path, witness: Path, run_cli: Run) -> None:
    alone, held = run_cli("ledger", "verify", path), run_cli("ledger", "verify", path, "--witness", witness)
    assert (alone.code, held.code) == (0, 0)
    assert "sound, 5 rows, head" in alone.out
    assert "only against a --witness" in alone.out
    assert f"it has all that {witness} has" in held.out


def test_verify_sees_rows_that_were_cut_off(path: Path, witness: Path, run_cli: Run) -> None:
    with sqlite3.connect(path) as db:
        db.execute("DELETE FROM entry WHERE seq = 5")
    db.close()
    assert run_cli("ledger", "verify", path).code == 0
    ended = run_cli("ledger", "verify", path, "--witness", witness)
    assert ended.code == 1
    assert ended.lines == [f"fedscore: {path}: lacks 1 rows that {witness} has, first plan|plan-b: a rollback"]


@pytest.mark.parametrize("command", ["show", "verify", "export", "backup", "restore"])
def test_a_corrupt_ledger_is_one_line_with_its_first_bad_row_and_exit_code_1(
    path: Path, tmp_path: Path, run_cli: Run, command: str
) -> None:
    with sqlite3.connect(path) as db:
        db.execute("UPDATE entry SET body = replace(body, '60.0', '90.0') WHERE seq = 2")
    db.close()
    target = {"export": ["--out"], "backup": ["--out"], "restore": ["--to"]}.get(command, [])
    before = files(tmp_path)
    ended = run_cli("ledger", command, path, *(part for option in target for part in (option, tmp_path / "new")))
    assert (ended.code, ended.out) == (1, "")
    assert ended.lines == [f"fedscore: {path}: ledger row 2 does not continue the chain; restore a good copy"]
    assert files(tmp_path) == before


@pytest.mark.parametrize("command", ["show", "verify", "export", "backup", "restore"])
@pytest.mark.parametrize("what", ["missing", "folder"])
def test_a_path_without_a_ledger_is_bad_input_and_makes_no_file(
    tmp_path: Path, run_cli: Run, command: str, what: str
) -> None:
    place = tmp_path / "no" / "ledger.db" if what == "missing" else tmp_path
    target = {"export": ["--out"], "backup": ["--out"], "restore": ["--to"]}.get(command, [])
    ended = run_cli("ledger", command, place, *(part for option in target for part in (option, tmp_path / "new")))
    rule = "does not exist" if what == "missing" else "must be a file"
    assert (ended.code, ended.lines) == (2, [f"fedscore: {place}: {rule}; check the path."])
    assert list(tmp_path.iterdir()) == []


def test_export_writes_a_witness_and_never_over_something(path: Path, tmp_path: Path, run_cli: Run) -> None:
    out = tmp_path / "rows.jsonl"
    ended = run_cli("ledger", "export", path, "--out", out)
    rows = custody.exported(out.read_text())
    assert (ended.code, rows) == (0, custody.read(path))
    assert f"5 rows, head {rows[-1].hash}" in ended.out
    again = run_cli("ledger", "export", path, "--out", out)
    assert (again.code, again.lines) == (2, [f"fedscore: {out}: exists already; give another --out."])


def test_backup_and_restore_put_a_lost_ledger_back(path: Path, tmp_path: Path, run_cli: Run) -> None:
    assert run_cli("ledger", "backup", path, "--out", tmp_path / "b.db").code == 0
    with Ledger(path, TERMS) as book:
        book.reserve("plan-c", [ONE])
        spent = book.spent()
    assert run_cli("ledger", "export", path, "--out", tmp_path / "w.jsonl").code == 0
    shutil.rmtree(path.parent)
    path.parent.mkdir()
    ended = run_cli("ledger", "restore", tmp_path / "b.db", "--to", path, "--witness", tmp_path / "w.jsonl")
    assert (ended.code, ended.err) == (0, "")
    assert "2 rows added" in ended.out
    with Ledger(path, TERMS) as book:
        assert (book.spent(), list(book.plans())) == (spent, ["plan-a", "plan-b", "plan-c"])
    assert "restored 1 times" in run_cli("ledger", "show", path).out


def test_restore_without_a_witness_says_that_all_counts_as_spent(copy: Path, tmp_path: Path, run_cli: Run) -> None:
    ended = run_cli("ledger", "restore", copy, "--to", tmp_path / "new.db")
    assert ended.code == 0
    assert "all counts as spent" in ended.err
    shown_ = run_cli("ledger", "show", tmp_path / "new.db")
    assert "epsilon inf" in shown_.out
    assert "as one Gaussian release: epsilon 0.000" in shown_.out
    assert "what it missed is unknown" in shown_.out


def _no_export(path: Path) -> None:
    path.write_text("hello\n")


def _binary(path: Path) -> None:
    path.write_bytes(bytes(range(256)))


def _other(path: Path) -> None:
    with Ledger(path.with_suffix(".db"), replace(TERMS, programme="x")):
        pass
    path.write_text(custody.export(path.with_suffix(".db")))


BAD: list[tuple[Callable[[Path], object], int, str]] = [
    (_no_export, 2, "line 1 is no row of an exported ledger; give what `fedscore ledger export` wrote."),
    (_binary, 2, "cannot be read as UTF-8 text"),
    (lambda p: p.unlink(), 2, "does not exist; check the path."),
    (_other, 2, "is of another programme, 'x'; the ledger's is 'credit-2024'; give an export of the same programme."),
    (lambda p: p.write_text(p.read_text().replace("plan-a", "plan-z")), 1, "ledger row 2 does not continue the chain"),
    (lambda p: p.write_text("".join(p.read_text().splitlines(True)[:2])), 1, "take a newer one"),
]


@pytest.mark.parametrize(("spoil", "code", "text"), BAD)
def test_a_witness_that_does_not_fit_is_one_line(
    witness: Path, copy: Path, tmp_path: Path, run_cli: Run, spoil: Callable[[Path], object], code: int, text: str
) -> None:
    spoil(witness)
    ended = run_cli("ledger", "restore", copy, "--to", tmp_path / "new.db", "--witness", witness)
    assert (ended.code, ended.out, len(ended.lines)) == (code, "", 1)
    assert text in ended.err
    if code == 2:
        assert str(witness) in ended.err
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(("new", "."))]


@pytest.mark.parametrize("end", ["", "-wal"])
def test_restore_goes_nowhere_where_something_is(copy: Path, tmp_path: Path, run_cli: Run, end: str) -> None:
    there = tmp_path / f"new.db{end}"
    there.write_bytes(b"x")
    ended = run_cli("ledger", "restore", copy, "--to", tmp_path / "new.db")
    assert (ended.code, ended.lines) == (2, [f"fedscore: {there}: exists already; give another path or move it away."])
    assert there.read_bytes() == b"x"


def test_a_folder_that_does_not_exist_is_bad_input(path: Path, copy: Path, tmp_path: Path, run_cli: Run) -> None:
    nowhere = tmp_path / "no" / "such"
    for arguments in (("export", path, "--out"), ("backup", path, "--out"), ("restore", copy, "--to")):
        ended = run_cli("ledger", *arguments, nowhere)
        assert (ended.code, len(ended.lines)) == (2, 1)
        assert str(nowhere) in ended.err
        assert "check the folder" in ended.err
