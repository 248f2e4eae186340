"""The command `fedscore audit`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from model.inputs import InputError, write_text
from privacy.accounting import shown


def audit(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run, e.g. demo.")],
    trials: Annotated[
        int, typer.Option(min=100, help="Draws of noise with, and as many without, the canary.")
    ] = 10_000,
    trainings: Annotated[int, typer.Option(min=0, help="Whole trainings to attack a model with; 0 for none.")] = 150,
    out: Annotated[Path | None, typer.Option(help="Also write the findings as JSON.")] = None,
    engine: Annotated[str, typer.Option(help="FILE.py:NAME, where the run's engine was your own.")] = "",
) -> None:
    """Audit a run: canaries through the same training code, on synthetic persons; lower bounds beside the claims.

    Example: fedscore audit demo
    """
    from server.failures import RunFailed
    from simulations.auditing import Subject
    from simulations.auditing import audit as audit_run
    from simulations.extending import named
    from simulations.gate import findings, refusal, told

    if out is not None and out.exists():
        raise InputError(out, "", "exists already", remedy="give another --out")
    named(engine)
    found = audit_run(Subject.of_run(run), trials, trainings)
    table = Table("what", "epsilon is at least", "claimed", "noisy sums", box=None)
    for finding in findings(found):
        table.add_row(finding.name, f"{finding.epsilon:.3f}", shown(finding.claim), str(finding.releases))
    Console(width=120).print(table)
    typer.echo(
        f"lower bounds at confidence {found.confidence:.1%} each, {found.trials:,} trials, {found.seconds:.0f} s; "
        f"the releases cost epsilon {shown(found.recomputed)}, the run claims {shown(found.claim)}"
    )
    if found.note:
        typer.echo(found.note)
    if out is not None:
        write_text(out, json.dumps(told(found), indent=1))
    if found.exceeded:
        raise RunFailed(refusal(found))
