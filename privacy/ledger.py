"""A holder's privacy ledger: append-only, hash-chained, charged and on disk before any noise is drawn.

Order of every release: charge -> claim -> fsync -> draw noise -> store the reply -> release. Nothing is ever refunded.
A reply is claimed once: a retry gets the stored bytes, or, where the first attempt died in between, nothing, so that
one charge never pays for two draws.
"""

from __future__ import annotations

import hashlib
import json
import math
import sqlite3
from pathlib import Path

from privacy.accounting import Event, shown
from privacy.plan import BudgetExceeded, Plan, Release

_GENESIS = "0" * 64
_SCHEMA = """
CREATE TABLE IF NOT EXISTS charge(seq INTEGER PRIMARY KEY, key TEXT UNIQUE NOT NULL, body TEXT NOT NULL,
                                  prev TEXT NOT NULL, hash TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS reply(key TEXT PRIMARY KEY, bytes BLOB);
"""


class LedgerCorrupt(RuntimeError):
    """A ledger whose chain does not hold; nothing may be released until a person has looked at it."""


class Ledger:
    """The ledger file of one holder for one programme of persons.

    Args:
        path: the SQLite file; made where it does not exist.
        epsilon: this holder's own ceiling, which no run can raise.
        delta: the delta at which the ceiling is stated.

    Raises:
        LedgerCorrupt: with the first bad row, where a charge was changed by anything but this class. Charges cut off
            at the end show only against a `head` that somebody else keeps.
    """

    def __init__(self, path: Path, epsilon: float, delta: float) -> None:
        if not (math.isfinite(epsilon) and epsilon > 0):
            raise ValueError(f"a ledger's ceiling must be finite and > 0, got {epsilon}")
        path.parent.mkdir(parents=True, exist_ok=True)
        self.epsilon, self.delta = epsilon, delta
        self._db = sqlite3.connect(path, isolation_level=None, timeout=30.0)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.executescript(_SCHEMA)
        self.verify()

    def close(self) -> None:
        """Closes the file."""
        self._db.close()

    def verify(self) -> None:
        """Raises `LedgerCorrupt` naming the first row that does not continue the chain."""
        prev = _GENESIS
        rows = self._db.execute("SELECT seq, key, body, prev, hash FROM charge ORDER BY seq")
        for number, (seq, key, body, before, digest) in enumerate(rows, 1):
            if seq != number or before != prev or digest != _hash(prev, key, body):
                raise LedgerCorrupt(f"ledger row {number} does not continue the chain; restore a good copy")
            prev = digest

    def charge(self, key: str, release: Release, terms: str = "") -> bool:
        """Charges `release` durably under `key`; False where that key was charged before, with the same release.

        `terms` are what else must not change between two charges of one key.

        Raises:
            BudgetExceeded: where the ceiling would be passed, with requested and spent, or where the key was charged
                for another release; nothing is charged.
        """
        body = json.dumps({"release": release.to_dict(), "terms": terms}, sort_keys=True)
        self._db.execute("BEGIN IMMEDIATE")  # one writer at a time
        with self._db:  # commits, or rolls back where anything fails
            known = self._db.execute("SELECT body FROM charge WHERE key = ?", (key,)).fetchone()
            if known is None:
                self._append(key, body, release)
            elif known[0] != body:
                raise BudgetExceeded("this key was charged for another release: each is paid for by itself")
        return known is None

    def _append(self, key: str, body: str, release: Release) -> None:
        before = tuple(self.releases())
        spent, after = self._spent(before), self._spent((*before, release))
        if after > self.epsilon:
            raise BudgetExceeded(
                f"{release.name} would pass this holder's ceiling (delta={self.delta:g}): "
                f"spent {shown(spent)}, after it {shown(after)}, ceiling {self.epsilon:g}"
            )
        seq, prev = self.head()
        row = (seq + 1, key, body, prev, _hash(prev, key, body))
        self._db.execute("INSERT INTO charge VALUES (?, ?, ?, ?, ?)", row)

    def _spent(self, releases: tuple[Release, ...]) -> float:
        return Plan(releases, self.epsilon, self.delta).spent()

    def spent(self) -> float:
        """Epsilon of everything charged so far, at the ledger's delta, the discrete noise's slack included."""
        return self._spent(tuple(self.releases()))

    def events(self) -> list[Event]:
        """Everything charged so far, as the accountant sees it."""
        return [r.event for r in self.releases()]

    def releases(self) -> list[Release]:
        """Everything charged so far, oldest first."""
        rows = self._db.execute("SELECT body FROM charge ORDER BY seq")
        return [Release.from_dict(json.loads(body)["release"]) for (body,) in rows]

    def head(self) -> tuple[int, str]:
        """Number of charges and the last hash: what a witness keeps."""
        row = self._db.execute("SELECT seq, hash FROM charge ORDER BY seq DESC LIMIT 1").fetchone()
        return (int(row[0]), str(row[1])) if row else (0, _GENESIS)

    def claim(self, key: str) -> None:
        """Marks durably that noise is about to be drawn for the reply `key`.

        Raises:
            BudgetExceeded: where it was claimed before: that noise is spent, whether or not its bytes were kept.
        """
        try:
            self._db.execute("INSERT INTO reply VALUES (?, NULL)", (key,))
        except sqlite3.IntegrityError:
            raise BudgetExceeded("noise was drawn for this reply before and its bytes were not kept") from None

    def store(self, key: str, reply: bytes) -> None:
        """Keeps the bytes of the reply claimed under `key`, before they leave; they never change afterwards."""
        changed = self._db.execute("UPDATE reply SET bytes = ? WHERE key = ? AND bytes IS NULL", (reply, key))
        if changed.rowcount != 1:
            raise LedgerCorrupt("a reply is stored once, after it was claimed")

    def stored(self, key: str) -> bytes | None:
        """The bytes that were released under `key`, if any were."""
        row = self._db.execute("SELECT bytes FROM reply WHERE key = ?", (key,)).fetchone()
        return None if row is None or row[0] is None else bytes(row[0])


def _hash(prev: str, key: str, body: str) -> str:
    return hashlib.sha256(f"{prev}\0{key}\0{body}".encode()).hexdigest()
