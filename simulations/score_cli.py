"""The command `fedscore score`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def score(
    federation: Annotated[Path, typer.Argument(help="The federation file (TOML) of the run.")],
    run: Annotated[Path, typer.Option(help="Folder of the finished run, whose holders know its model.")],
    applicants: Annotated[Path, typer.Option(help="New persons, with the columns of the lender's own block.")],
    data: Annotated[Path | None, typer.Option(help="Folder that data paths are relative to.")] = None,
    ledger: Annotated[Path | None, typer.Option(help="Folder of the run's ledgers, if it had one.")] = None,
    alignment: Annotated[str, typer.Option(help="How shared persons are found: tokens | psi.")] = "tokens",
) -> None:
    """Score new applicants with the model of a finished simulation; partners are asked as in a deployment.

    Example: fedscore score my-federation/federation.toml --run out --applicants applicants.parquet
    """
    from simulations.scoring import Applying, score_applicants  # late: it loads flwr

    scored, filed = score_applicants(Applying(federation, run, applicants, data, ledger, alignment))
    for name, code in sorted(scored.failures.items()):
        typer.echo(f"{name} did not answer: {code}", err=True)
    for path in filed:
        typer.echo(path)
