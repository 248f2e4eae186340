"""The command `fedscore report`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer


def report(out: Annotated[Path, typer.Argument(help="Folder that `fedscore sweep` wrote.")]) -> None:
    """Draw a sweep's figures, table.md and report.html anew, from its two Parquet tables alone.

    Example: fedscore report sweep
    """
    from simulations.sweep.report.page import write_report  # late: it loads matplotlib

    write_report(out)
    typer.echo(f"written: {out}{os.sep}report.html, table.md, figures{os.sep}")
