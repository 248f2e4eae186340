"""A book: a file of decision requests, read one row at a time and as strictly as the service reads them.

`.json` holds one request, `.jsonl` one a line, `.parquet` one a row: JSON text in a column `request`, and the account's
state as JSON text in an optional column `state`. Where a request is expected, `{"request": …, "state": …}` may stand.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import polars as pl

from model.inputs import InputError, refuse_unknown
from model.limits.decide import decide
from model.limits.decision import Decision
from model.limits.fields import read
from model.limits.policy import NotInForce
from model.limits.request import DecisionRequest, StateSnapshot, parse_request
from model.limits.schema import Policy
from model.limits.strict_json import MAX_BYTES, loads
from model.limits.table import DecisionBundle

SUFFIXES = (".json", ".jsonl", ".parquet")
_SLICE = 10_000


@dataclass(frozen=True, slots=True)
class Row:
    """One row as it stands in the file: the JSON text of its request, and that of its account."""

    path: Path
    place: str
    text: bytes | str
    state: str | None = None

    @property
    def source(self) -> str:
        """File and place, for messages."""
        return f"{self.path} {self.place}".rstrip()


@dataclass(frozen=True, slots=True)
class Entry:
    """One row, read: the request, and the account's state beside it."""

    source: str
    request: DecisionRequest
    state: StateSnapshot

    def decide(self, policy: Policy, bundle: DecisionBundle, *, explain: bool = False) -> Decision:
        """The decision at the request's own instant.

        Raises:
            InputError: the request does not fit the policy or the bundle, or neither holds then; names the row.
        """
        try:
            return decide(self.request, policy, bundle, self.state, self.request.as_of, explain=explain)
        except InputError as error:
            raise InputError(self.source, error.field, error.rule, error.value, error.remedy) from None
        except NotInForce as error:
            raise InputError(self.source, "as_of", f"cannot be decided at: {error}") from None


def rows(path: Path) -> Iterator[Row]:
    """The rows of a book, in order; only a part of the file is in memory at a time.

    Raises:
        InputError: the file is missing, empty, unreadable, or of another kind.
    """
    if path.suffix not in SUFFIXES:
        raise InputError(path, "", "must end in " + ", ".join(SUFFIXES))
    found = _of_parquet(path) if path.suffix == ".parquet" else _of_text(path)
    first = next(found, None)
    if first is None:
        raise InputError(path, "", "is empty", remedy="give a request")
    yield first
    yield from found


def parse(row: Row, account: StateSnapshot) -> Entry:
    """One row, read field by field; `account` stands where the row brings no state of its own.

    Raises:
        InputError: names the row, the field, the rule.

    >>> parse(Row(Path("book.jsonl"), "line 3", "{}"), StateSnapshot())
    Traceback (most recent call last):
    model.inputs.InputError: book.jsonl line 3: request_id is missing.
    """
    source = row.source
    data = loads(row.text, source)
    state = None if row.state is None else loads(row.state, f"{source} state")
    if isinstance(data, dict) and "request" in data:
        refuse_unknown(source, "", data, ("request", "state"))
        state = data.get("state") if state is None else state
        data = data["request"]
    request = parse_request(data, source)
    return Entry(source, request, account if state is None else read(StateSnapshot, state, source, "state"))


def entries(path: Path, account: StateSnapshot) -> Iterator[Entry]:
    """Every row of a book, read; refuses the first bad row, and an id that came before."""
    with seen_ids() as seen:
        for row in rows(path):
            entry = parse(row, account)
            seen.add(entry.request.request_id, row)
            yield entry


class SeenIds:
    """The request ids so far, on disk: what is in memory does not grow with their number."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        database.execute("CREATE TABLE seen (id BLOB PRIMARY KEY, place TEXT) WITHOUT ROWID")

    def add(self, request_id: str, row: Row) -> None:
        """Notes an id; raises `InputError`, naming both rows, where it came before."""
        key = bytes.fromhex(request_id.replace("-", ""))
        try:
            self._database.execute("INSERT INTO seen VALUES (?, ?)", (key, row.place))
        except sqlite3.IntegrityError:
            [(earlier,)] = self._database.execute("SELECT place FROM seen WHERE id = ?", (key,))
            rule, remedy = f"is that of {earlier} too", "give each request an id of its own"
            raise InputError(row.source, "request_id", rule, request_id, remedy) from None


@contextmanager
def seen_ids() -> Iterator[SeenIds]:
    """Ids in a private file that is gone when it is closed."""
    database = sqlite3.connect("", isolation_level=None)
    try:
        database.execute("BEGIN")
        yield SeenIds(database)
    finally:
        database.close()


def as_if_in_force(policy: Policy) -> Policy:
    """A copy of the policy that holds at any instant: for asking what it would have decided, never for deciding.

    Its hash is another, since its dates are; an offer's validity no longer ends with the policy.

    >>> from model.limits.policy import load_policy
    >>> as_if_in_force(load_policy()).effective_from.year
    1999
    """
    always = datetime(1999, 1, 1, tzinfo=UTC), datetime(2202, 1, 1, tzinfo=UTC)
    return replace(policy, effective_from=always[0], expires_at=always[1])


def _of_text(path: Path) -> Iterator[Row]:
    try:
        with path.open("rb") as file:
            if path.suffix == ".json":
                text = file.read(MAX_BYTES + 1)
                yield from [Row(path, "", text)] if text.strip() else []
                return
            for number, line in enumerate(_lines(file), 1):
                if not line.isspace():
                    yield Row(path, f"line {number}", line)
    except FileNotFoundError:
        raise InputError(path, "", "does not exist", remedy="check the path") from None
    except OSError as error:
        raise InputError(path, "", f"cannot be read ({error.strerror})", remedy="check the file") from None


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """The lines of a file; of one that is too long only its beginning, which is refused for its length."""
    while line := file.readline(MAX_BYTES + 1):
        rest = line
        while len(rest) > MAX_BYTES and not rest.endswith(b"\n"):
            rest = file.readline(MAX_BYTES + 1)
        yield line


def _of_parquet(path: Path) -> Iterator[Row]:
    if not path.is_file():
        raise InputError(path, "", "does not exist" if not path.exists() else "is no file", remedy="check the path")
    try:
        table = pl.scan_parquet(path, glob=False)
        columns = table.collect_schema()
        if columns.get("request") != pl.String or columns.get("state", pl.String) != pl.String:
            raise InputError(path, "request", "must be a column of JSON texts, and so must state, if given", [*columns])
        chosen = table.select("request", state=pl.col("state") if "state" in columns else pl.lit(None, pl.String))
        for start in range(0, table.select(pl.len()).collect().item(), _SLICE):
            part = chosen.slice(start, _SLICE).collect()
            for at, (request, state) in enumerate(part.iter_rows(), start + 1):
                yield Row(path, f"row {at}", request or "", state)
    except (pl.exceptions.PolarsError, OSError):
        raise InputError(path, "", "cannot be read as Parquet", remedy="check the file") from None
