"""The command `fedscore population`."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from model.inputs import taking


@dataclass(frozen=True)
class PopulationOptions:
    """Options of `fedscore population`."""

    out: Annotated[Path, typer.Argument(help="Folder to write; it must not exist yet.")]
    persons: Annotated[int, typer.Option(help="How many, from 1,000 to 10,000,000.")] = 20_000
    seed: Annotated[int, typer.Option(help="Of everything drawn.")] = 7
    base_rate: Annotated[float, typer.Option(help="Share that defaults within 12 months.")] = 0.045
    months: Annotated[int, typer.Option(help="Over which persons apply; the last 30 % are held out.")] = 24
    partners_a_domain: Annotated[int, typer.Option(help="1 to 3; of payments at most two.")] = 1
    split_partners: Annotated[int, typer.Option(help="How many shops share the e-commerce customers; 0: as above.")] = 0
    shifts: Annotated[
        str,
        typer.Option(
            help="How partners of a domain differ: none, all, or by comma of sizes, covariate, features, definition, "
            "duplicates, prevalence, label-noise."
        ),
    ] = "sizes,covariate,features,definition,duplicates"
    drift: Annotated[
        str,
        typer.Option(
            help="What changes over the months: none, all, or by comma of inflation, mix, recession, concept, gaming, "
            "definition, fraud, feedback."
        ),
    ] = "none"
    outages: Annotated[float, typer.Option(help="Chance a day that a partner's delivery fails for hours.")] = 0.005
    name: Annotated[str, typer.Option(help="Of the federation; two in one sweep need two names.")] = "population"
    force: Annotated[bool, typer.Option("--force", help="Replace the folder.")] = False
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")] = False


@taking(PopulationOptions)
def population(asked: PopulationOptions) -> None:
    """Write an invented population of any size: files of a lender and three domains' partners, and the truth apart.

    Example: fedscore population people --persons 20000 --seed 7
    """
    from simulations.population.world import DRIFTS, SHIFTS, World, words
    from simulations.population.writing import write_population

    given = {name: value for name, value in vars(asked).items() if name not in ("out", "force", "quiet")}
    given["shifts"] = words("--shifts", asked.shifts, SHIFTS)
    given["drift"] = words("--drift", asked.drift, DRIFTS)
    began, say = time.monotonic(), Console(stderr=True, quiet=asked.quiet)
    told = write_population(World(**given), asked.out, asked.force, lambda text: say.print(text, highlight=False))
    if not asked.quiet:
        seen = ", ".join(f"{name} {share:.0%}" for name, share in told["covered"].items())
        typer.echo(
            f"{asked.persons:,} persons: default rate {told['default_rate']:.2%}, thin {told['thin']:.0%}, {seen}"
        )
        typer.echo(
            f"written: {asked.out}{os.sep}federation.toml, columns.md and tables ({time.monotonic() - began:.0f} s)"
        )
