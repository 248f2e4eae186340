"""The transparency log as a file: signed entries, a line each, and how anybody checks it without trusting its writer.

Nothing in it is about one person, and it holds no counts and no metrics: digests, names of holders and codes only. The
first entry names the log and the key that signs it; an entry of kind `key` names the next key, signed by the old one.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from privacy.chain import LedgerCorrupt
from privacy.checkpoints import Checkpoint, decoded
from privacy.envelope import SealBroken
from privacy.signing import check, sign
from privacy.translog import Tree

ENTRIES, CHECKPOINT = "entries.jsonl", "checkpoint.json"
OPENED, KEY = "opened", "key"  # kinds of entry that name a key
LONGEST = 1 << 20  # bytes of an entry
_CONTEXT = "log-entry-1"
_FIELDS = {"log": str, "number": int, "time": str, "kind": str, "body": dict}


class LogBroken(LedgerCorrupt):
    """A log that does not hold: what is wrong with it, in words."""


@dataclass(frozen=True)
class Entry:
    """One line of a log.

    Attributes:
        log: the log's name, the origin of its checkpoints.
        number: from 0.
        time: by the coordinator's clock, ISO 8601 in UTC; no check rests on it.
        kind: of what was released or decided.
        body: digests, names and codes.
        signature: of everything else, base64.
    """

    log: str
    number: int
    time: str
    kind: str
    body: Mapping[str, Any]
    signature: str = ""

    def signed(self, key: bytes) -> Entry:
        """This entry under a signature."""
        made = base64.b64encode(sign(key, _canonical(self._told()), _CONTEXT)).decode()
        return Entry(self.log, self.number, self.time, self.kind, self.body, made)

    def check(self, verify: bytes) -> None:
        """Raises `SealBroken` where the entry is not signed by the owner of this key."""
        check(verify, decoded(self.signature), _canonical(self._told()), _CONTEXT)

    def line(self) -> bytes:
        """The bytes in the file, without the end of the line: the leaf of the tree."""
        return _canonical(self._told() | {"signature": self.signature})

    @property
    def names(self) -> bytes | None:
        """The key that this entry names as the log's from now on."""
        if self.kind not in (OPENED, KEY):
            return None
        try:
            return decoded(self.body["verify"])
        except (KeyError, SealBroken):
            raise LogBroken(f"entry {self.number} names no key") from None

    @classmethod
    def of(cls, line: bytes, number: int) -> Entry:
        """The entry of a line; raises `LogBroken` where it is none in canonical form."""
        try:
            told = json.loads(line) if len(line) <= LONGEST else None
        except (ValueError, RecursionError):
            told = None
        kinds = _FIELDS | {"signature": str}
        if not isinstance(told, dict) or {n: type(v) for n, v in told.items()} != kinds or told["number"] != number:
            raise LogBroken(f"entry {number} is no entry: the log was changed")
        made = cls(**told)
        if made.line() != line:
            raise LogBroken(f"entry {number} is not in canonical form: the log was changed")
        return made

    def _told(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _FIELDS}


@dataclass(frozen=True)
class Witness:
    """A holder's word for a checkpoint: its verify key and its cosignature, base64."""

    checkpoint: Checkpoint
    verify: str
    cosigned: str

    def check(self, name: str) -> None:
        """Raises `SealBroken` where the cosignature is not of that key and name. Whose key it is, the roster says."""
        self.checkpoint.check_witness(name, decoded(self.verify), self.cosigned)

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"checkpoint": self.checkpoint.to_dict(), "verify": self.verify, "cosigned": self.cosigned}

    @classmethod
    def of(cls, told: Any) -> Witness:
        """From plain values; raises `SealBroken` where they are none."""
        if not isinstance(told, Mapping) or set(told) != {"checkpoint", "verify", "cosigned"}:
            raise SealBroken("is no witness")
        return cls(Checkpoint.of(told["checkpoint"]), str(told["verify"]), str(told["cosigned"]))


@dataclass(frozen=True)
class Kept:
    """What lies in a log's folder, once it holds: entries, their tree, the checkpoint, and who cosigned what."""

    entries: tuple[Entry, ...]
    tree: Tree
    keys: tuple[bytes, ...]
    checkpoint: Checkpoint
    witnesses: Mapping[str, Witness]

    def holds(self, checkpoint: Checkpoint, whose: str) -> None:
        """Raises `LogBroken` where a checkpoint that somebody keeps is of another log, or of one that forked."""
        if checkpoint.origin != self.checkpoint.origin:
            raise LogBroken(f"the checkpoint of {whose} is of another log")
        signed_by(checkpoint, self.keys, f"the checkpoint of {whose}")
        if checkpoint.size > len(self.tree):
            raise LogBroken(f"the log was cut: {whose} keeps a checkpoint of {checkpoint.size} entries")
        if self.tree.root(checkpoint.size) != checkpoint.root:
            raise LogBroken(f"the log is not the one that {whose} saw: it was rewritten, or shown in two forms")


def lines_of(path: Path) -> tuple[list[bytes], bytes]:
    """The whole lines of a file, and what follows the last of them: half an entry, where a process died."""
    try:
        parts = path.read_bytes().split(b"\n")
    except OSError as error:
        raise LogBroken(f"{path}: cannot be read ({error.strerror})") from None
    return parts[:-1], parts[-1]


def entries_of(lines: Sequence[bytes]) -> tuple[tuple[Entry, ...], tuple[bytes, ...]]:
    """The entries of all lines, each signed by the key that was the log's then; and those keys, the latest last.

    Raises:
        LogBroken: naming the first entry that does not hold.
    """
    found: list[Entry] = []
    keys: list[bytes] = []
    for number, line in enumerate(lines):
        entry = Entry.of(line, number)
        named = entry.names
        if (number == 0) != (entry.kind == OPENED) or (found and entry.log != found[0].log):
            raise LogBroken(f"entry {number} does not belong to this log")
        if not keys and named:
            keys.append(named)
        try:
            entry.check(keys[-1])
        except SealBroken:
            raise LogBroken(f"entry {number} is not signed by the log's key: it was changed") from None
        if number and named:
            keys.append(named)
        found.append(entry)
    if not found:
        raise LogBroken("the log has no entries")
    return tuple(found), tuple(keys)


def read_state(path: Path) -> tuple[Checkpoint, dict[str, Witness]]:
    """The checkpoint beside a log and its witnesses; raises `LogBroken` where they cannot be read."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        witnesses = {str(name): Witness.of(one) for name, one in told["witnesses"].items()}
        return Checkpoint.of(told["checkpoint"]), witnesses
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise LogBroken(f"{path}: holds no checkpoint that can be read") from None


def read_log(folder: Path, key: bytes | None = None) -> Kept:
    """A log's folder, wholly checked: every entry, the checkpoint, and every cosignature.

    Args:
        folder: with `entries.jsonl` and `checkpoint.json`.
        key: the coordinator's verify key, which must be the log's latest; without it the log vouches for its own key.

    Raises:
        LogBroken: naming what does not hold.
    """
    lines, rest = lines_of(folder / ENTRIES)
    entries, keys = entries_of(lines)
    if rest:
        raise LogBroken(f"the log ends in half an entry, after number {len(entries) - 1}")
    if key is not None and keys[-1] != key:
        raise LogBroken("the log is signed by another key than the one given")
    checkpoint, witnesses = read_state(folder / CHECKPOINT)
    if checkpoint.origin != entries[0].log:
        raise LogBroken("the checkpoint is of another log")
    kept = Kept(entries, Tree(lines), keys, checkpoint, witnesses)
    kept.holds(checkpoint, "the coordinator")
    for name, witness in witnesses.items():
        kept.holds(witness.checkpoint, name)
        try:
            witness.check(name)
        except ValueError:
            raise LogBroken(f"the cosignature of {name} does not fit its checkpoint") from None
    return kept


def signed_by(checkpoint: Checkpoint, keys: Sequence[bytes], what: str) -> None:
    """Raises `LogBroken` where a checkpoint is signed by none of these keys."""
    for key in keys:
        try:
            return checkpoint.check(key)
        except SealBroken:
            continue
    raise LogBroken(f"{what} is not signed by the log's key")


def _canonical(told: Mapping[str, Any]) -> bytes:
    return json.dumps(told, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()
