"""Small files that outlive a crash: put in place as a whole, on disk when the call returns, for their owner only."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def write(path: Path, content: bytes, sync: bool = True) -> None:
    """Puts a file in place as a whole, or leaves the older one; only its owner may read it.

    Inside `alone` it stays after a crash of the machine. Without `sync` it stays after one of the process only: that
    is enough for a simulation.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)  # of mode 0600
    part = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            if sync:
                os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


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
    """What a file holds; what `make` gives, whole and on disk, where there is no file yet.

    Of two that try at once, one wins and both are told it.
    """
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with alone(path.parent):
            if not path.exists():
                write(path, make())
    return path.read_bytes()
