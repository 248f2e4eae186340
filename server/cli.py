"""The lender's commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from model.inputs import InputError

ON_ERROR = ("stop", "skip")


def decide(
    model: Annotated[Path, typer.Argument(help="Model folder of a run, e.g. demo/model.")],
    requests: Annotated[Path, typer.Option(help="The requests: .json (one), .jsonl, or .parquet.")],
    policy: Annotated[Path | None, typer.Option(help="Limit policy (TOML); the shipped one by default.")] = None,
    state: Annotated[Path | None, typer.Option(help="JSON state of the account, for rows without their own.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Decisions: .jsonl or .parquet; by default they are printed.")
    ] = None,
    steps: Annotated[bool, typer.Option("--steps/--no-steps", help="Find what would change each answer.")] = True,
    on_error: Annotated[
        str, typer.Option(help="stop | skip, at a bad row; skipped ones are told of beside --out.")
    ] = "stop",
    jobs: Annotated[int, typer.Option(min=1, max=64, help="Processes.")] = 1,
) -> None:
    """Decide on limits: how much, at what price, why, and what would change it.

    Example: fedscore decide demo/model --requests request.json
    """
    from server.batches import Batch, run  # late: it loads polars

    if on_error not in ON_ERROR:
        raise InputError("fedscore decide", "--on-error", "must be " + " | ".join(ON_ERROR), on_error)
    if on_error == "skip" and out is None:
        raise InputError("fedscore decide", "--on-error", "skip needs --out")
    skipped = out.with_suffix(".errors.jsonl") if out and on_error == "skip" else None
    table = out is not None and out.suffix == ".parquet"
    done = run(Batch(model, requests, policy, state, steps, table), out, skipped, jobs)
    if done.refused:
        typer.echo(f"{done.decided:,} decided, {done.refused:,} refused: see {skipped}", err=True)
