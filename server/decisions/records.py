"""What a record of the audit chain is, and how it is hashed, sealed and opened."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from typing import Any

from model.inputs import InputError
from model.limits.fields import canonical
from server.decisions.vault import SEALED, CannotUnseal, Forgotten, Vault, seal, unseal

GENESIS = "0" * 64
INDEX = "index"  # of a decision's body: its row in the table `decision`
_encode = json.JSONEncoder(separators=(",", ":")).encode


class ChainBroken(RuntimeError):
    """The first record that does not fit, and why; nothing after it can be trusted."""

    def __init__(self, seq: int, what: str) -> None:
        self.seq, self.what = seq, what
        super().__init__(f"record {seq} {what}; restore a good copy")


@dataclass(frozen=True, slots=True)
class Head:
    """The last record's number (0: none yet) and hash: what a witness keeps.

    >>> Head.parse("12:" + "a" * 64).seq
    12
    """

    seq: int = 0
    record_sha256: str = GENESIS

    def __str__(self) -> str:
        return f"{self.seq}:{self.record_sha256}"

    @classmethod
    def parse(cls, text: str) -> Head:
        """Reads what `str` writes; raises `InputError` otherwise."""
        if not re.fullmatch(r"\d{1,18}:[0-9a-f]{64}", text):
            raise InputError("head", "", "must be a record's number, a colon and its SHA-256", text)
        seq, _, digest = text.partition(":")
        return cls(int(seq), digest)


@dataclass(frozen=True)
class Record:
    """One record. `text` is its canonical JSON; None where the person was erased, whose `subject_ref` is None too.

    `parts` has the canonical JSON of each member of the body, where the record was just made.
    """

    seq: int
    kind: str
    at: str
    subject_ref: str | None
    text: bytes | None
    prev_sha256: str
    record_sha256: str
    parts: Mapping[str, bytes] | None = field(default=None, repr=False, compare=False)

    def part(self, name: str) -> bytes:
        """The canonical JSON of one member of the body."""
        return canonical(self.body[name]) if self.parts is None else self.parts[name]

    @cached_property
    def index(self) -> dict[str, Any]:
        """A decision's row in the table `decision`."""
        found: dict[str, Any] = json.loads(self.part(INDEX))
        return found

    @cached_property
    def body(self) -> Any:
        """What was recorded; raises `Forgotten` where the person was erased."""
        if self.text is None:
            raise Forgotten(f"record {self.seq} is of a person who was erased")
        return json.loads(self.text)


@dataclass(frozen=True, slots=True)
class Verified:
    """How many records were checked, how many of them are of erased persons, and the head."""

    count: int
    erased: int
    head: Head


def continued(row: Sequence[Any], last: Head) -> Head:
    """The head after a row; raises `ChainBroken` where it does not continue the chain."""
    seq, kind, at, subject_ref, body, prev, digest = row[:7]
    if seq != last.seq + 1:
        raise ChainBroken(last.seq + 1, "is missing")
    typed = isinstance(kind, str) and isinstance(at, str) and isinstance(body, bytes)  # SQLite takes any type anywhere
    if not typed or prev != last.record_sha256 or digest != hash_of(prev, seq, kind, at, body):
        raise ChainBroken(seq, "was changed")
    if subject_ref is not None and body[:1] != SEALED:
        raise ChainBroken(seq, "names a person but is not sealed")
    return Head(seq, digest)


def sealed(key: bytes, text: bytes, place: tuple[int, str, str, str]) -> bytes:
    """A record's body, bound to its place: seq, kind, at and subject_ref."""
    return seal(key, text, _context(*place))


def opened(row: Sequence[Any], vault: Vault) -> Record:
    """A row with its person's wrapped key, as a record."""
    seq, kind, at, subject_ref, body, prev, digest, wrapped = row[:8]
    continued(row, Head(seq - 1, prev))
    text: bytes | None = body
    if body[:1] == SEALED:
        text = None
        if subject_ref is not None:
            if wrapped is None:
                raise ChainBroken(seq, "has lost its person's key without an erasure")
            try:
                text = unseal(vault.unwrap(subject_ref, wrapped), body, _context(seq, kind, at, subject_ref))
            except CannotUnseal:
                raise ChainBroken(seq, "does not open with this vault") from None
    return Record(seq, kind, at, subject_ref, text, prev, digest)


def _context(seq: int, kind: str, at: str, subject_ref: str) -> bytes:
    return f"audit|{seq}|{kind}|{at}|{subject_ref}".encode()


def hash_of(prev: str, seq: int, kind: str, at: str, body: bytes) -> str:
    """Over the record before and every column but `subject_ref`; the JSON array keeps the columns apart."""
    return sha256(_encode([prev, seq, kind, at]).encode() + body).hexdigest()
