"""The partner's commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from model.inputs import InputError, write_text

contract = typer.Typer(no_args_is_help=True, help="Contracts: what a domain's columns mean.")


@contract.command("draft")
def contract_draft(
    file: Annotated[Path, typer.Argument(help="Parquet or CSV file of one data holder.")],
    domain: Annotated[str, typer.Option(help="Domain of the holder.")] = "payments",
    id_column: Annotated[str, typer.Option("--id", help="Column that identifies persons.")] = "id",
    out: Annotated[Path | None, typer.Option(help="Where to write it; by default it is printed.")] = None,
) -> None:
    """Write a first contract from column names and types only, and say what to fill in.

    Example: fedscore contract draft payments.parquet --domain payments --out payments.contract.toml
    """
    from clients.drafting import draft

    if out is not None and out.exists():
        raise InputError(out, "", "exists already", remedy="give another --out")
    text = draft(file, domain, id_column)
    if out is None:
        typer.echo(text, nl=False)
        return
    write_text(out, text)
    typer.echo(f"{out}: {text.count('FILL IN') - 1} places to fill in, marked FILL IN")
