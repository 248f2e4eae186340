"""Who is enrolled: the coordinator's roster file, which counts up at every change."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from model.inputs import InputError, read_text
from privacy.enrolment import Enrolled
from server.coordinator.folder import private_file

FILE = "roster.json"
VERSION = 1


@dataclass(frozen=True)
class Row:
    """One holder: as all others may know it, and what only the coordinator keeps.

    Attributes:
        node: Flower's id of its node, in decimal.
        node_key: public key of its node in OpenSSH form.
        contract: SHA-256 of its contract, or empty.
        csr: its signing request (PEM), from which every welcome's certificate is issued.
        enrolled: when, as ISO text in UTC.
    """

    name: str
    domain: str
    key: str
    verify: str
    bound: str
    node: str
    node_key: str
    contract: str
    csr: str
    enrolled: str

    @property
    def public(self) -> Enrolled:
        """What all others may know of it."""
        return Enrolled(self.name, self.domain, self.key, self.verify, self.bound)


@dataclass(frozen=True)
class Roster:
    """Who is enrolled, and who was: rows of `left` were expelled, or replaced by new keys."""

    number: int = 0
    holders: tuple[Row, ...] = ()
    left: tuple[Row, ...] = ()

    @classmethod
    def load(cls, folder: Path) -> Roster:
        """The roster of a coordinator's folder; an empty one where there is no file yet."""
        path = folder / FILE
        if not path.exists():
            return cls()
        try:
            told = json.loads(read_text(path))
            rows = [tuple(Row(**row) for row in told[key]) for key in ("holders", "left")]
            if told["version"] != VERSION or not isinstance(told["number"], int):
                raise ValueError("another version")
        except (ValueError, KeyError, TypeError):
            raise InputError(path, "", "is no roster of this version", remedy="restore it from a backup") from None
        return cls(told["number"], *rows)

    def save(self, folder: Path) -> None:
        """Writes the roster, whole and on disk."""
        body = {
            "version": VERSION,
            "number": self.number,
            "holders": [asdict(row) for row in self.holders],
            "left": [asdict(row) for row in self.left],
        }
        private_file(folder / FILE, (json.dumps(body, indent=1) + "\n").encode())

    def find(self, name: str) -> Row | None:
        """The row of that name."""
        return next((row for row in self.holders if row.name == name), None)

    def with_row(self, row: Row) -> Roster:
        """The next roster with this row added, or in the place of the one of its name, which has then left."""
        old = self.find(row.name)
        kept = tuple(r for r in self.holders if r.name != row.name)
        return Roster(self.number + 1, (*kept, row), (*self.left, old) if old else self.left)

    def without(self, name: str) -> Roster:
        """The next roster without that name, which has then left."""
        gone = tuple(row for row in self.holders if row.name == name)
        kept = tuple(row for row in self.holders if row.name != name)
        return Roster(self.number + 1, kept, (*self.left, *gone))

    def renumbered(self) -> Roster:
        """The same roster under the next number."""
        return replace(self, number=self.number + 1)
