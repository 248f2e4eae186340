"""`fedscore bundle`: which code this installation would send to nodes, as the one number that partners allow."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from server.coordinator.bundling import build, digest
from server.coordinator.folder import private_file


def bundle(
    out: Annotated[
        Path | None, typer.Option(help="File to write the bundle to, to be read before it is allowed.")
    ] = None,
) -> None:
    """Print the SHA-256 of this installation's app bundle: what welcomes name and partners' lists allow.

    Example: fedscore bundle
    """
    made = build()
    if out is not None:
        private_file(out, made)
    typer.echo(digest(made))
