"""The coordinator's transparency log: everything that is released or decided is written here first, on disk.

A log without a folder is kept in memory: a simulation that keeps nothing else. Several processes may write to one
folder, one at a time. Where an entry cannot be written, nothing that it announces happens.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from privacy.checkpoints import Checkpoint, proof_to_list
from privacy.durable import alone, write
from privacy.logfile import (
    CHECKPOINT,
    ENTRIES,
    KEY,
    OPENED,
    Entry,
    Kept,
    LogBroken,
    Witness,
    entries_of,
    lines_of,
    read_state,
)
from privacy.signing import verify_key
from privacy.translog import Tree
from server.failures import RunFailed


class Log:
    """A log that is open for adding.

    Args:
        folder: where it lies, made with its first entry; None keeps it in memory.
        key: the coordinator's signing key, 32 bytes.

    Raises:
        RunFailed: where what lies there does not hold, is of another key, or cannot be read.
    """

    def __init__(self, folder: Path | None, key: bytes) -> None:
        self.folder, self._key = folder, key
        self._tree, self._name, self._end = Tree(), "", 0
        self.witnesses: dict[str, Witness] = {}
        with self._writing():
            if not len(self._tree):
                self._name = f"fedscore-log-{os.urandom(16).hex()}"
                self._add(OPENED, {"verify": base64.b64encode(verify_key(key)).decode()})

    def append(self, kind: str, body: Mapping[str, Any]) -> None:
        """Adds an entry, signed, and on disk when this returns.

        Raises:
            RunFailed: where it cannot be written.
        """
        with self._writing():
            self._add(kind, body)

    def rotate(self, new: bytes) -> None:
        """Has the log signed by another key from now on; the old one signs that it is so."""
        with self._writing():
            self._add(KEY, {"verify": base64.b64encode(verify_key(new)).decode()}, new)

    @property
    def checkpoint(self) -> Checkpoint:
        """Where the log stands, signed."""
        return self._checkpoint

    def proofs(self, sizes: set[int]) -> dict[str, list[str]]:
        """By size the proof that the log continues what it was at that size; sizes that it never had are left out."""
        now = self._checkpoint.size
        return {str(n): proof_to_list(self._tree.consistency(n, now)) for n in sorted(sizes) if 0 < n <= now}

    def witnessed(self, name: str, witness: Witness) -> None:
        """Keeps a holder's cosignature, of the latest checkpoint that it signed; on disk with the next entry."""
        if name not in self.witnesses or self.witnesses[name].checkpoint.size < witness.checkpoint.size:
            self.witnesses[name] = witness

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Alone with the files, having read what other processes added."""
        try:
            if self.folder is not None:
                self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            new = not self._end  # later entries are in a file that is there: its own sync is enough
            with alone(self.folder, sync=new) if self.folder is not None else nullcontext():
                self._catch_up()
                yield
        except OSError as error:
            raise RunFailed(f"the log cannot be written ({error.strerror}): nothing is released") from None
        except LogBroken as error:
            raise RunFailed(f"the log does not hold: {error}") from None

    def _add(self, kind: str, body: Mapping[str, Any], new: bytes | None = None) -> None:
        time = datetime.now(UTC).isoformat(timespec="seconds")
        line = Entry(self._name, len(self._tree), time, kind, dict(body)).signed(self._key).line()
        if self.folder is not None:
            self._written(self.folder / ENTRIES, line + b"\n")
        self._tree.append(line)
        self._key = new or self._key
        self._checkpoint = self._signed()
        self._keep()

    def _written(self, path: Path, line: bytes) -> None:
        """Adds a line to the file; where the disk is full, the file is as it was."""
        place = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.lseek(place, self._end, os.SEEK_SET)
            if os.write(place, line) != len(line):
                raise OSError(28, "No space left on device")
            os.fsync(place)
        except OSError:
            os.ftruncate(place, self._end)
            raise
        finally:
            os.close(place)
        self._end += len(line)

    def _keep(self) -> None:
        if self.folder is None:
            return
        witnesses = {name: witness.to_dict() for name, witness in sorted(self.witnesses.items())}
        told = {"checkpoint": self._checkpoint.to_dict(), "witnesses": witnesses}
        write(self.folder / CHECKPOINT, (json.dumps(told, indent=1) + "\n").encode())

    def _catch_up(self) -> None:
        """Reads what other processes added, wholly checked, and mends what a process left that died while it added."""
        path = self.folder / ENTRIES if self.folder is not None else None
        size = path.stat().st_size if path is not None and path.exists() else 0
        if path is None or size == self._end:
            return None
        lines, rest = lines_of(path)
        if not lines and not len(self._tree) and not path.with_name(CHECKPOINT).exists():
            return os.truncate(path, 0)  # not even its first entry was finished
        entries, keys = entries_of(lines)
        if keys[-1] != verify_key(self._key):
            raise LogBroken("it is signed by another key than the coordinator's")
        tree = Tree(lines)
        if len(tree) < len(self._tree) or tree.root(len(self._tree)) != self._tree.root():
            raise LogBroken("it was rewritten while it was open")
        if path.with_name(CHECKPOINT).exists() or len(lines) > 1:
            checkpoint, witnesses = read_state(path.with_name(CHECKPOINT))
            Kept(entries, tree, keys, checkpoint, witnesses).holds(checkpoint, "the coordinator")
            self.witnesses = witnesses | self.witnesses
        self._tree, self._name, self._end = tree, entries[0].log, size - len(rest)
        if rest:  # half an entry, which no checkpoint covers
            os.truncate(path, self._end)
        self._checkpoint = self._signed()
        return None

    def _signed(self) -> Checkpoint:
        return Checkpoint(self._name, len(self._tree), self._tree.root()).signed(self._key)


def append(folder: Path, key: bytes, kind: str, body: Mapping[str, Any]) -> None:
    """Adds one entry to the log in `folder`, which is made if it is not there; raises `RunFailed` where it cannot."""
    Log(folder, key).append(kind, body)
