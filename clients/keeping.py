"""Secrets on a holder's disk: put in place as a whole, for its owner's eyes only."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def keep(path: Path, content: bytes) -> None:
    """Puts a file in place, whole and on disk, or leaves the older one; only its owner may read it."""
    _part(path.parent, content).replace(path)


def first(path: Path, content: bytes) -> bytes:
    """What lies at `path`: `content` if nothing did before. Of two that try at once, one wins and both are told it."""
    if not path.exists():
        part = _part(path.parent, content)
        try:
            os.link(part, path)
        except FileExistsError:
            pass
        finally:
            part.unlink()
    return path.read_bytes()


def _part(folder: Path, content: bytes) -> Path:
    descriptor, name = tempfile.mkstemp(prefix=".", suffix=".part", dir=folder)  # of mode 0600
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return Path(name)
