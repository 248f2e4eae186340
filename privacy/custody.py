"""Keeping a ledger file: reading it without touching it, exporting it for a witness, backing it up, restoring a copy.

A copy that is put back is a rollback: what was charged since then would be free again. So a restore appends what the
copy may have missed, from the export of a ledger of the same programme, or else counts everything as spent; either
way no reply of an earlier plan may be claimed again. Files appear whole or not at all.
"""

from __future__ import annotations

import json
import os
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from privacy.accounting import filter_order
from privacy.chain import DAMAGE, GENESIS, BrokenRow, Chain, Entry, LedgerCorrupt, check_chain, check_replies, rows_of
from privacy.ledger import LedgerMismatch, largest_fitting
from privacy.plan import EVERYBODY, Line, line_of, spent_by

BESIDE = ("", "-wal", "-shm")  # a ledger's file, and what SQLite keeps beside it while it is in use
FIELDS = {"seq": int, "key": str, "text": str, "prev": str, "hash": str}
ATTEMPTS = 20


@dataclass(frozen=True)
class Contents:
    """What the rows of one ledger say.

    Attributes:
        opened: the first row: programme, holder, delta and the total when it was opened.
        plans: lines of every plan charged, oldest first.
        claims: replies claimed, by (plan, line).
        restored: how often the ledger was restored.
        unknown: whether one of these times nobody knew what was missed, so that all counts as spent.
    """

    opened: Mapping[str, Any]
    plans: Mapping[str, Sequence[Line]]
    claims: Mapping[tuple[str, str], int]
    restored: int
    unknown: bool

    @classmethod
    def of(cls, rows: Sequence[Entry]) -> Contents:
        """From rows whose chain holds; raises `LedgerCorrupt` with the first that says nothing we know."""
        plans: dict[str, Sequence[Line]] = {}
        claims: Counter[tuple[str, str]] = Counter()
        restored: list[bool] = []
        for row in rows:
            try:
                if row.kind == "plan":
                    plans[row.body["plan"]] = [line_of(line) for line in row.body["lines"]]
                elif row.kind == "claim":
                    claims[row.body["plan"], row.body["line"]] += 1
                elif row.kind == "restored":
                    restored.append(bool(row.body["unknown"]))
                elif row.kind != "head":  # where the coordinator saw another ledger; else the opening row
                    _numbers(row.body)
            except (KeyError, TypeError, ValueError):
                raise BrokenRow(f"ledger row {row.seq} is of no known kind; restore a good copy") from None
        if not rows:
            raise BrokenRow("the ledger has no rows: it was never opened")
        return cls(rows[0].body, plans, claims, len(restored), any(restored))

    def spent(self, own: bool = False) -> float:
        """As `Ledger.spent`, at the total and delta for which the ledger was opened."""
        return self._spent(self._kept(own))

    def remaining(self) -> float:
        """As `Ledger.remaining` of the total for which the ledger was opened."""
        total, delta = _numbers(self.opened)
        return largest_fitting(self._spent, self._kept(False), total, delta)

    def alone(self, line: Line) -> float:
        """Epsilon of one line by itself."""
        total, delta = _numbers(self.opened)
        return spent_by([[line]], total, delta)

    def _kept(self, own: bool) -> list[list[Line]]:
        holder = self.opened["holder"]
        kept = [
            [line for line in lines if not own or line.holder in (holder, EVERYBODY)] for lines in self.plans.values()
        ]
        return [lines for lines in kept if lines]

    def _spent(self, plans: Sequence[Sequence[Line]]) -> float:
        total, delta = _numbers(self.opened)
        return float("inf") if self.unknown else spent_by(plans, total, delta, filter_order(total, delta))


def read(path: Path) -> list[Entry]:
    """All rows of a ledger file, which is not changed by it.

    Raises:
        LedgerCorrupt: with the first row or reply that was changed, or where the file is no ledger.
    """
    with _snapshot(path) as db:
        return _verified(path, db)


def export(path: Path) -> str:
    """All rows as JSON Lines, which somebody else can keep as a witness: its last line is the ledger's head."""
    return "".join(json.dumps({name: getattr(row, name) for name in FIELDS}) + "\n" for row in read(path))


def exported(text: str) -> list[Entry]:
    """The rows that `export` wrote.

    Raises:
        ValueError: where the text is no export.
        LedgerCorrupt: with the first row that was changed.
    """
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            row = None
        if not isinstance(row, dict) or {name: type(value) for name, value in row.items()} != FIELDS:
            raise ValueError(f"line {number} is no row of an exported ledger")
        rows.append(Entry(**row))
    if not rows:
        raise ValueError("line 1 is no row of an exported ledger")
    Contents.of(check_chain(rows))
    return rows


def head(rows: Sequence[Entry]) -> tuple[int, str]:
    """Number of rows and the last hash, as `Ledger` takes them from a witness."""
    return (rows[-1].seq, rows[-1].hash) if rows else (0, GENESIS)


def backup(path: Path, to: Path) -> None:
    """Copies a ledger as it is at one moment, in use or not, to one file that must not exist.

    Raises:
        LedgerCorrupt: where the ledger is not sound, or the copy cannot be written.
        OSError: where `to` exists or its folder does not take it.
    """
    with _snapshot(path) as db:
        _verified(path, db)
        with _appearing(to) as part:
            _write(db, part)


def restore(copy: Path, to: Path, witness: Sequence[Entry] | None = None) -> list[Entry]:
    """Puts a backup at `to`, which must not exist, advanced past everything that the backup may have missed.

    Args:
        witness: the newest export of this ledger, or of another one of the programme (whose plans are the same). None:
            nobody knows what was missed, and the restored ledger counts everything as spent.

    Returns:
        The rows that were appended.

    Raises:
        LedgerCorrupt: where the copy is not sound, or does not agree with the witness, or is newer than it.
        LedgerMismatch: where the witness is of another programme or delta.
        OSError: where `to` exists or its folder does not take it.
    """
    with _snapshot(copy) as db:
        rows = _verified(copy, db)
        missed = [] if witness is None else missing(rows, witness)
        if witness is not None:
            check_newer(rows, witness)
        same = witness is not None and _same(rows, witness)
        unknown = witness is None or (not same and Contents.of(witness).unknown)
        with _appearing(to) as part:
            _write(db, part)
            with closing(Chain(part)) as chain:
                with chain.writing():
                    for row in missed:
                        chain.put(row) if same else chain.append(row.key, row.body)
                    contents = Contents.of([*rows, *missed])
                    body = {"kind": "restored", "closed": list(contents.plans), "unknown": unknown}
                    chain.append(f"restored|{contents.restored + 1}", body)
                return chain.checked()[len(rows) :]


def missing(rows: Sequence[Entry], witness: Sequence[Entry]) -> list[Entry]:
    """The rows that a witness has and a ledger lacks: of the same ledger all later ones, of another one its plans.

    Raises:
        LedgerCorrupt: where they do not agree.
        LedgerMismatch: where the witness is of another programme or delta.
    """
    for name in ("programme", "delta"):
        ours, theirs = rows[0].body[name], witness[0].body[name]
        if ours != theirs:
            raise LedgerMismatch(f"is of another {name}, {theirs!r}; the ledger's is {ours!r}")
    if _same(rows, witness):
        for row, seen in zip(rows, witness, strict=False):
            if row.hash != seen.hash:
                raise LedgerCorrupt(f"ledger row {row.seq} is not what the witness saw: they forked there")
        return list(witness[len(rows) :])
    plans, told = _plans(rows), _plans(witness)
    for key in plans.keys() & told.keys():
        if plans[key].text != told[key].text:
            raise LedgerCorrupt(f"ledger row {plans[key].seq} is a plan with other lines than the witness saw")
    return [row for key, row in told.items() if key not in plans]


def check_newer(rows: Sequence[Entry], witness: Sequence[Entry]) -> None:
    """Raises `LedgerCorrupt` where a witness ends before the ledger: it cannot tell what a copy missed."""
    named = (lambda ledger: {row.key for row in ledger}) if _same(rows, witness) else _plans
    if set(named(witness)) < set(named(rows)):
        raise LedgerCorrupt(f"the witness ends at row {len(witness)}, before the copy does: take a newer one")


def occupied(path: Path) -> Path | None:
    """What is at that place already, journals that SQLite would read included; None where nothing is."""
    return next((p for p in (path.with_name(path.name + end) for end in BESIDE) if os.path.lexists(p)), None)


def _plans(rows: Sequence[Entry]) -> dict[str, Entry]:
    return {row.key: row for row in rows if row.kind == "plan"}


def _same(rows: Sequence[Entry], witness: Sequence[Entry]) -> bool:
    return bool(rows[0].body["holder"] == witness[0].body["holder"])


def _numbers(opened: Mapping[str, Any]) -> tuple[float, float]:
    """The total and delta of the first row, which also names programme and holder."""
    if not all(isinstance(opened[name], str) for name in ("programme", "holder")):
        raise TypeError
    return float(opened["total"]), float(opened["delta"])


def _verified(path: Path, db: sqlite3.Connection) -> list[Entry]:
    try:
        rows = rows_of(db)
        Contents.of(rows)
        check_replies(db, {row.key for row in rows})
    except BrokenRow as error:
        raise LedgerCorrupt(f"{path}: {error}") from None
    except DAMAGE as error:
        raise LedgerCorrupt(f"{path}: {error}: restore a good copy") from None
    return rows


@contextmanager
def _snapshot(path: Path) -> Iterator[sqlite3.Connection]:
    """The file's state at one moment, in memory.

    A ledger that nobody uses is read without the journals that SQLite would make beside it; if somebody began to use
    it meanwhile, it is read again.
    """
    with closing(sqlite3.connect(":memory:")) as memory:
        try:
            for _ in range(ATTEMPTS):
                before = _state(path)
                how = "mode=ro" if before[1] else "mode=ro&immutable=1"
                with closing(sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True, timeout=30.0)) as source:
                    source.backup(memory)
                if before[1] or _state(path) == before:
                    break
        except DAMAGE as error:
            raise LedgerCorrupt(f"{path}: {error}: restore a good copy") from None
        yield memory


def _state(path: Path) -> tuple[tuple[int, int], int]:
    """Time of change and size of the file, and size of its journal."""
    wal = path.with_name(path.name + "-wal")
    now = path.stat()
    return (now.st_mtime_ns, now.st_size), wal.stat().st_size if wal.exists() else 0


def _write(db: sqlite3.Connection, to: Path) -> None:
    """Writes a database to one file that needs no other beside it."""
    try:
        with closing(sqlite3.connect(to)) as copy:
            db.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")
    except DAMAGE as error:
        raise LedgerCorrupt(f"{to}: {error}: nothing was written") from None


@contextmanager
def _appearing(to: Path) -> Iterator[Path]:
    """A place to write the file, which appears at `to` when all went well, and only if nothing is there."""
    there = occupied(to)
    if there is not None:
        raise FileExistsError(17, "exists already", str(there))
    with tempfile.TemporaryDirectory(prefix=".ledger-", dir=to.parent) as folder:
        part = Path(folder) / to.name
        yield part
        os.link(part, to)
    place = os.open(to.parent, os.O_RDONLY)
    try:
        os.fsync(place)
    finally:
        os.close(place)
