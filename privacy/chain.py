"""An append-only, hash-chained file: one SQLite database whose rows each carry the hash of the row before.

WAL with `synchronous=FULL`: a row is on disk when its transaction returns. Whatever SQLite cannot read or write (a
damaged file, a full disk) is a `LedgerCorrupt`, before anything that the row was to pay for happens.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

GENESIS = "0" * 64
WAIT_SECONDS = 30.0  # for another process to finish writing
SHORTEST = 512  # bytes of a database; SQLite takes a shorter file for a new one
DAMAGE = (sqlite3.Error, UnicodeDecodeError)  # SQLite's message may quote a damaged name
_SCHEMA = """
CREATE TABLE IF NOT EXISTS entry(seq INTEGER PRIMARY KEY, key TEXT UNIQUE NOT NULL, body TEXT NOT NULL,
                                 prev TEXT NOT NULL, hash TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS reply(key TEXT PRIMARY KEY, bytes BLOB NOT NULL, hash TEXT NOT NULL);
"""


class LedgerCorrupt(RuntimeError):
    """A ledger whose chain does not hold, or that cannot be written; nothing may be released until a person looked."""


class BrokenRow(LedgerCorrupt):
    """One row or reply that was changed; whoever knows the file's name adds it."""


@dataclass(frozen=True)
class Entry:
    """One row: its number from 1, its unique key, its JSON text, and the hashes before and after it."""

    seq: int
    key: str
    text: str
    prev: str
    hash: str

    @cached_property
    def body(self) -> Mapping[str, Any]:
        """What the row says; it always has a `kind`."""
        try:
            body = _parsed(self.text)
        except json.JSONDecodeError:
            body = None
        if not isinstance(body, dict) or not isinstance(body.get("kind"), str):
            raise _broken(self.seq)
        return body

    @property
    def kind(self) -> str:
        """What the row records."""
        return str(self.body["kind"])

    @classmethod
    def after(cls, seq: int, prev: str, key: str, body: Mapping[str, Any]) -> Entry:
        """The row that follows row `seq` with hash `prev`."""
        text = json.dumps(body, sort_keys=True)
        return cls(seq + 1, key, text, prev, _hash(prev, key, text))


class Chain:
    """The file. Replies lie beside the chain: their keys are claimed in it.

    Raises:
        LedgerCorrupt: with the first bad row, where a row was changed by anything but this class. Rows cut off at the
            end show only against a head that somebody else keeps.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        check_length(path)
        with self._trouble():
            self._db = sqlite3.connect(path, isolation_level=None, timeout=WAIT_SECONDS)
            self._prepare(time.monotonic() + WAIT_SECONDS)
        self.checked()

    def _prepare(self, deadline: float) -> None:
        """Makes the file a chain. SQLite itself does not wait for another process that makes the same new file one."""
        while True:
            try:
                self._db.execute("PRAGMA journal_mode=WAL")
                self._db.execute("PRAGMA synchronous=FULL")
                self._db.executescript(_SCHEMA)
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    def close(self) -> None:
        """Closes the file."""
        self._db.close()

    def checked(self) -> list[Entry]:
        """All rows; raises `LedgerCorrupt` naming the first that does not continue the chain."""
        with self._trouble():
            return rows_of(self._db)

    def head(self) -> tuple[int, str]:
        """Number of rows and the last hash: what a witness keeps."""
        with self._trouble():
            row = self._db.execute("SELECT seq, hash FROM entry ORDER BY seq DESC LIMIT 1").fetchone()
        return (int(row[0]), str(row[1])) if row else (0, GENESIS)

    def get(self, key: str) -> Mapping[str, Any] | None:
        """The body of the row with that key, if there is one."""
        with self._trouble():
            row = self._db.execute("SELECT body FROM entry WHERE key = ?", (key,)).fetchone()
        return None if row is None else json.loads(row[0])

    def bodies(self, kind: str) -> list[Mapping[str, Any]]:
        """The bodies of all rows whose key begins with `kind` and a bar, oldest first."""
        return [_parsed(text) for text in self.texts(kind)]

    def texts(self, kind: str) -> list[str]:
        """The JSON texts of `bodies`."""
        with self._trouble():
            query = "SELECT body FROM entry WHERE key GLOB ? ORDER BY seq"
            return [str(body) for (body,) in self._db.execute(query, (f"{kind}|*",))]

    @contextmanager
    def writing(self) -> Iterator[None]:
        """One writer at a time, others wait; all rows appended inside are kept, or none."""
        with self._trouble():
            self._db.execute("BEGIN IMMEDIATE")
            with self._db:  # commits, or rolls back where anything fails
                yield

    def append(self, key: str, body: Mapping[str, Any]) -> None:
        """Adds a row; only inside `writing`."""
        row = Entry.after(*self.head(), key, body)
        self.put(row)

    def put(self, row: Entry) -> None:
        """Adds a row that is already hashed, as from a copy; only inside `writing`."""
        with self._trouble():
            values = (row.seq, row.key, row.text, row.prev, row.hash)
            self._db.execute("INSERT INTO entry VALUES (?, ?, ?, ?, ?)", values)

    def store(self, key: str, reply: bytes) -> None:
        """Keeps a reply's bytes; raises `LedgerCorrupt` where that key has some."""
        with self._trouble():
            self._db.execute("INSERT INTO reply VALUES (?, ?, ?)", (key, reply, _reply_hash(key, reply)))

    def stored(self, key: str) -> bytes | None:
        """A reply's bytes, if there are any; raises `LedgerCorrupt` where they are not those that were stored."""
        with self._trouble():
            row = self._db.execute("SELECT key, bytes, hash FROM reply WHERE key = ?", (key,)).fetchone()
            return None if row is None else _unchanged(*row)

    @contextmanager
    def _trouble(self) -> Iterator[None]:
        try:
            yield
        except DAMAGE as error:
            raise LedgerCorrupt(f"{self.path}: {_line(error)}: nothing is released") from None
        except BrokenRow as error:
            raise LedgerCorrupt(f"{self.path}: {error}") from None


@lru_cache(maxsize=8)
def _parsed(text: str) -> Any:
    """A row's text read: the same few rows are read at every step of a run, and a large plan's text is long."""
    return json.loads(text)


def check_length(path: Path) -> None:
    """Raises `LedgerCorrupt` where a file was cut so short that SQLite would begin anew in it."""
    size = path.stat().st_size if path.is_file() else 0
    if 0 < size < SHORTEST:
        raise LedgerCorrupt(f"{path}: has {size} bytes, which is no ledger; restore a good copy")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def rows_of(db: sqlite3.Connection) -> list[Entry]:
    """All rows of an open ledger file, whose chain holds."""
    db.text_factory = lambda text: text.decode(errors="replace")  # bytes that are no text: their row's hash names it
    return check_chain(Entry(*row) for row in db.execute("SELECT seq, key, body, prev, hash FROM entry ORDER BY seq"))


def check_replies(db: sqlite3.Connection, keys: set[str]) -> None:
    """Raises `BrokenRow` for the first reply that was changed, or that none of `keys` claimed."""
    for key, reply, digest in db.execute("SELECT key, bytes, hash FROM reply ORDER BY key"):
        if key not in keys:
            raise BrokenRow(f"the reply {key!r} was never claimed; restore a good copy")
        _unchanged(key, reply, digest)


def check_chain(rows: Iterable[Entry]) -> list[Entry]:
    """All rows of a chain; raises `LedgerCorrupt` naming the first that does not continue it."""
    good: list[Entry] = []
    for number, row in enumerate(rows, 1):
        prev = good[-1].hash if good else GENESIS
        if (row.seq, row.prev, row.hash) != (number, prev, _hash(prev, row.key, row.text)):
            raise _broken(number)
        if (number == 1) != (row.kind == "opened"):
            raise _broken(number)
        good.append(row)
    return good


def _unchanged(key: str, reply: bytes, digest: str) -> bytes:
    if not isinstance(reply, bytes) or digest != _reply_hash(key, reply):
        raise BrokenRow(f"the reply {key!r} is not what was stored; restore a good copy")
    return reply


def _reply_hash(key: str, reply: bytes) -> str:
    return hashlib.sha256(f"{key}\0".encode() + reply).hexdigest()


def _broken(row: int) -> BrokenRow:
    return BrokenRow(f"ledger row {row} does not continue the chain; restore a good copy")


def _hash(prev: str, key: str, text: str) -> str:
    return hashlib.sha256(f"{prev}\0{key}\0{text}".encode()).hexdigest()
