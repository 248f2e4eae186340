"""What a partner has answered of whom, for which model version: each person once, then the same bytes for ever.

A lender that is answered twice of one person and version, on other data or in another roster, learns the difference;
one that is answered for many versions solves for features, and one that may show anybody learns who is whose customer.
So an answer is kept before it leaves, a version belongs to one roster, and new versions, answers and lists of persons
that are compared are counted by the year.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from model.inputs import InputError

FILE = "answers.db"
YEAR, EVER = timedelta(days=365), datetime.min.replace(tzinfo=UTC)
_TABLES = """
CREATE TABLE IF NOT EXISTS model (version TEXT PRIMARY KEY, roster TEXT NOT NULL, first_at TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS answer (
    version TEXT NOT NULL, person BLOB NOT NULL, request TEXT NOT NULL, reply BLOB NOT NULL, at TEXT NOT NULL,
    PRIMARY KEY (version, person)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS compared (
    party TEXT NOT NULL, list TEXT NOT NULL, counted INTEGER NOT NULL, at TEXT NOT NULL, PRIMARY KEY (party, list)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS answered_at ON answer (at);
"""
_ADD = "INSERT INTO answer VALUES (?, ?, ?, ?, ?)"
_ASK = "SELECT request, reply FROM answer WHERE version = ? AND person = ?"


@dataclass(frozen=True)
class Version:
    """Whom an answer is for.

    Attributes:
        name: of the model version.
        roster: digest of those whose answers are summed with it; empty where it stands alone.
        most: how many new versions a year this holder answers for.
        answers: how many new answers a year it gives, for all versions together.
        now: with an offset.
    """

    name: str
    roster: str
    most: int
    answers: int
    now: datetime


@dataclass(frozen=True)
class Answered:
    """An answer as it was given first: under which request, and its bytes."""

    request: str
    reply: bytes


def once(
    folder: Path, version: Version, persons: Sequence[tuple[str, str]], make: Callable[[list[int]], Sequence[bytes]]
) -> list[Answered]:
    """The answer of each person: the stored one, or a new one that is stored, on disk, before it is given.

    Args:
        folder: the holder's durable one.
        version: of the model.
        persons: id and request of each; an id as the holder's own file writes it.
        make: makes the answers of the persons at these places, in order.

    Raises:
        InputError: where the version belongs to another roster, or versions or answers are too many in a year.
    """
    keys = [hashlib.sha256(person.encode()).digest() for person, _ in persons]
    with _opened(folder / FILE) as database:
        _admit(database, version)
        found: dict[bytes, Answered] = {}
        for key in keys:
            row = database.execute(_ASK, (version.name, key)).fetchone()
            if row is not None:
                found[key] = Answered(*row)
        new = [i for i, key in enumerate(keys) if key not in found]
        _allow(database, version, len(new))
        for i, reply in zip(new, make(new) if new else (), strict=True):
            if keys[i] not in found:
                found[keys[i]] = Answered(persons[i][1], reply)
                database.execute(_ADD, (version.name, keys[i], persons[i][1], reply, _told(version.now)))
    return [found[key] for key in keys]


def admit(folder: Path, version: Version) -> None:
    """Counts a version, unless it was counted before; raises `InputError` where it is one too many this year."""
    with _opened(folder / FILE) as database:
        _admit(database, version)


def room(folder: Path, most: int, now: datetime) -> None:
    """Raises `InputError` where no new version may be answered for this year."""
    with _opened(folder / FILE) as database:
        _room(database, most, now)


@dataclass(frozen=True)
class Compared:
    """A list of persons that another party shows.

    Attributes:
        party: which.
        digest: of the list as it was shown.
        counted: for how much it counts.
        limit: what is said to be reached.
        most: how much a year.
        now: with an offset.
    """

    party: str
    digest: str
    counted: int
    limit: str
    most: int
    now: datetime


def compare(folder: Path, shown: Compared) -> None:
    """Counts a list, on disk, before anybody is looked for in it; the same list again is free.

    Who is found in it tells whose customer somebody is, and so does who is not: all persons of a list count.

    Raises:
        InputError: where it is too much for this year.
    """
    with _opened(folder / FILE) as database:
        key = (shown.party, shown.digest)
        if database.execute("SELECT 1 FROM compared WHERE party = ? AND list = ?", key).fetchone():
            return
        since = _told(shown.now - YEAR)
        asked = "SELECT coalesce(sum(counted), 0) FROM compared WHERE party = ? AND at > ?"
        before = database.execute(asked, (shown.party, since)).fetchone()[0]
        if before + shown.counted > shown.most:
            raise InputError("node.toml", f"limits.{shown.limit}", "is reached for this year", shown.most)
        row = (*key, shown.counted, _told(shown.now))
        database.execute("INSERT INTO compared VALUES (?, ?, ?, ?)", row)


def versions(folder: Path, since: datetime = EVER) -> list[str]:
    """The versions first answered for after an instant, oldest first."""
    if not (folder / FILE).exists():
        return []
    with _opened(folder / FILE) as database:
        query = "SELECT version FROM model WHERE first_at > ? ORDER BY first_at"
        return [name for (name,) in database.execute(query, (_told(since),))]


def _admit(database: sqlite3.Connection, version: Version) -> None:
    known = database.execute("SELECT roster FROM model WHERE version = ?", (version.name,)).fetchone()
    if known is not None:
        if known[0] != version.roster:
            raise InputError("order", "roster", "is not the one that this model version was answered in first")
        return
    _room(database, version.most, version.now)
    row = (version.name, version.roster, _told(version.now))
    database.execute("INSERT INTO model VALUES (?, ?, ?)", row)


def _room(database: sqlite3.Connection, most: int, now: datetime) -> None:
    since = _told(now - YEAR)
    if database.execute("SELECT count(*) FROM model WHERE first_at > ?", (since,)).fetchone()[0] >= most:
        raise InputError("node.toml", "limits.max-models", "is reached for this year", most)


def _allow(database: sqlite3.Connection, version: Version, more: int) -> None:
    since = _told(version.now - YEAR)
    count = database.execute("SELECT count(*) FROM answer WHERE at > ?", (since,)).fetchone()[0]
    if more and count + more > version.answers:
        raise InputError("node.toml", "limits.max-applicants", "is reached for this year", version.answers)


def _told(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat(timespec="seconds")


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """One transaction that is on disk when it ends; nobody else writes meanwhile."""
    database = sqlite3.connect(path, isolation_level=None, timeout=60.0)
    try:
        path.chmod(0o600)
        database.execute("PRAGMA synchronous = FULL")
        database.executescript(_TABLES)
        database.execute("BEGIN IMMEDIATE")
        yield database
        database.execute("COMMIT")
    finally:
        database.close()
