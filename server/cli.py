"""The lender's commands."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from model.inputs import InputError, taking

ON_ERROR = ("stop", "skip")


@dataclass(frozen=True)
class DecideOptions:
    """Options of `fedscore decide`."""

    model: Annotated[Path, typer.Argument(help="Model folder of a run, e.g. demo/model.")]
    requests: Annotated[Path, typer.Option(help="The requests: .json (one), .jsonl, or .parquet.")]
    policy: Annotated[Path | None, typer.Option(help="Limit policy (TOML); the shipped one by default.")] = None
    state: Annotated[Path | None, typer.Option(help="JSON state of the account, for rows without their own.")] = None
    out: Annotated[Path | None, typer.Option(help="Decisions: .jsonl or .parquet; by default they are printed.")] = None
    steps: Annotated[bool, typer.Option("--steps/--no-steps", help="Find what would change each answer.")] = True
    on_error: Annotated[str, typer.Option(help="stop | skip, at a bad row; skipped ones are told of beside --out.")] = (
        "stop"
    )
    jobs: Annotated[int, typer.Option(min=1, max=64, help="Processes.")] = 1


@taking(DecideOptions)
def decide(asked: DecideOptions) -> None:
    """Decide on limits: how much, at what price, why, and what would change it.

    Example: fedscore decide demo/model --requests request.json
    """
    from server.batches import Batch, run  # late: it loads polars

    if asked.on_error not in ON_ERROR:
        raise InputError("fedscore decide", "--on-error", "must be " + " | ".join(ON_ERROR), asked.on_error)
    if asked.on_error == "skip" and asked.out is None:
        raise InputError("fedscore decide", "--on-error", "skip needs --out")
    skipped = asked.out.with_suffix(".errors.jsonl") if asked.out and asked.on_error == "skip" else None
    table = asked.out is not None and asked.out.suffix == ".parquet"
    batch = Batch(asked.model, asked.requests, asked.policy, asked.state, asked.steps, table)
    done = run(batch, asked.out, skipped, asked.jobs)
    if done.refused:
        typer.echo(f"{done.decided:,} decided, {done.refused:,} refused: see {skipped}", err=True)
