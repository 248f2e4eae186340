"""A folder that is written whole or not at all: made beside its place, and put there when it is finished."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from model.inputs import InputError


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A temporary folder beside `out` that takes its place at the end; where anything fails, nothing is left.

    Whether an older folder may be replaced is the caller's to check.

    Raises:
        InputError: the parent of `out` cannot be written.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        raise InputError(out, "", f"cannot be written ({error.strerror})", remedy="give another --out") from None
    try:
        yield part
        part.chmod(0o755)
        if out.exists():  # moved aside first, deleted last
            aside = Path(tempfile.mkdtemp(prefix=f".{out.name}.old.", dir=out.parent))
            out.rename(aside / out.name)
            part.rename(out)
            shutil.rmtree(aside, ignore_errors=True)
        else:
            part.rename(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
