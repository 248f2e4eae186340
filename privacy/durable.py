"""Small files that outlive a crash: put in place as a whole, on disk when the call returns, for their owner only."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def write(path: Path, content: bytes, sync: bool = True) -> None:
    """Puts a file in place as a whole; only its owner may read it. Inside `alone` it stays after a crash.

    Without `sync` it stays after a crash of the process, not of the machine: enough for a simulation.
    """
    part = path.with_name(f"{path.name}.part")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        if sync:
            os.fsync(file.fileno())
    part.replace(path)


@contextmanager
def alone(folder: Path, sync: bool = True) -> Iterator[None]:
    """Nobody else writes in this folder meanwhile; what was put in place stays after a crash, as `write` says."""
    place = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(place, fcntl.LOCK_EX)
        yield
        if sync:
            os.fsync(place)
    finally:
        os.close(place)


def made(path: Path, make: Callable[[], bytes]) -> bytes:
    """What a file holds; what `make` gives, whole and on disk, where there is no file yet."""
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with alone(path.parent):
            if not path.exists():
                write(path, make())
    return path.read_bytes()
