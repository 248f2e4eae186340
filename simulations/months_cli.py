"""The command `fedscore policy simulate`."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from model.inputs import InputError, taking, whole

if TYPE_CHECKING:
    from model.limits.schema import Policy
    from simulations.months.study import Study

_WHERE = "command line"
_RANGES = {"--months": (1, 120), "--applicants": (10, 100_000), "--seeds": (2, 1000), "--jobs": (0, 256)}
_TAKEN = ("A", "B", "C", "E")  # the names of the built-in variations


@dataclass(frozen=True)
class MonthsOptions:
    """Options of `fedscore policy simulate`."""

    policy: Annotated[Path | None, typer.Option(help="Limit policy (TOML); the shipped one by default.")] = None
    against: Annotated[list[Path] | None, typer.Option(help="Another policy to compare with; may be repeated.")] = None
    scenario: Annotated[
        str, typer.Option(help="all, or by comma of S0 to S5, base, understated, fraud, worst, recession.")
    ] = "all"
    months: Annotated[int, typer.Option(help="How long the book runs.")] = 36
    applicants: Annotated[int, typer.Option(help="New applicants a month.")] = 1500
    seeds: Annotated[int, typer.Option(help="Books of different luck, the same for every policy.")] = 8
    seed: Annotated[int, typer.Option(help="The first of the seeds.")] = 0
    jobs: Annotated[int, typer.Option(help="Processes; 0 takes one a core.")] = 0
    out: Annotated[Path, typer.Option(help="Folder to write; it must not exist yet.")] = Path("months")
    force: Annotated[bool, typer.Option("--force", help="Replace the output folder.")] = False
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")] = False


@taking(MonthsOptions)
def simulate(asked: MonthsOptions) -> None:
    """Run a policy on a synthetic book, month by month, beside other ways to treat thin files.

    Example: fedscore policy simulate --scenario fraud --seeds 4 --out months
    """
    _check({"--months": asked.months, "--applicants": asked.applicants, "--seeds": asked.seeds, "--jobs": asked.jobs})
    whole(_WHERE, "--seed", asked.seed)

    from model.limits.policy import load_policy
    from simulations.months.scenarios import scenarios_of
    from simulations.months.study import Study

    others = _others(asked.against or [])
    scenarios, seeds = scenarios_of(asked.scenario), range(asked.seed, asked.seed + asked.seeds)
    study = Study(load_policy(asked.policy), others, scenarios, asked.months, asked.applicants, seeds)
    began = time.monotonic()
    say = Console(stderr=True, quiet=asked.quiet)
    summary = _written(study, asked.out, asked.force, asked.jobs or os.cpu_count() or 1, say)
    if not asked.quiet:
        _show(summary)
        typer.echo(
            f"written: {asked.out}{os.sep}report.html, summary.json, months.csv ({time.monotonic() - began:.0f} s)"
        )


def _check(sizes: dict[str, int]) -> None:
    """Refuses sizes out of range."""
    for option, value in sizes.items():
        low, high = _RANGES[option]
        if not low <= value <= high:
            raise InputError(_WHERE, option, f"must be from {low} to {high}", value)


def _written(study: Study, out: Path, force: bool, jobs: int, say: Console) -> dict[str, Any]:
    """Runs all books and writes the folder, whole or not at all."""
    from simulations.folders import new_folder
    from simulations.months.evidence import fit_model
    from simulations.months.report import write_study
    from simulations.months.running import run_all

    seeds = len(study.seeds)
    if out.exists() and not force:
        raise InputError(out, "", "exists already", remedy="give another --out, or --force to replace it")
    if out.exists() and not out.is_dir():
        raise InputError(out, "", "is no folder", remedy="give another --out")
    with new_folder(out) as part:
        plan = study.plan(fit_model())
        say.print(f"{len(plan.tasks)} books of {study.months} months on each of {seeds} seeds", highlight=False)
        found = run_all(plan, study.seeds, jobs, lambda n: say.print(f"seed {n} of {seeds}", highlight=False))
        return write_study(part, study, found)


def _others(paths: list[Path]) -> tuple[tuple[str, Policy], ...]:
    """The policies of `--against`, by the names of their files."""
    from model.limits.policy import load_policy

    found: dict[str, Policy] = {}
    for path in paths:
        if path.stem in found or path.stem in _TAKEN:
            raise InputError(_WHERE, "--against", "must have a name of its own", path.name, "rename the file")
        found[path.stem] = load_policy(path)
    return tuple(found.items())


def _show(summary: dict[str, Any]) -> None:
    """One line a scenario and policy: approvals, loss, profit, and the paired difference."""
    table = Table("scenario", "policy", "approved", "thin", "loss", "profit", "given less this", "t", box=None)
    rows = {(row["scenario"], row["against"]): row["profit"] for row in summary["differences"]}
    names = {policy["code"]: policy["en"] for policy in summary["policies"]}
    for row in summary["results"]:
        difference = rows.get((row["scenario"], row["policy"]))
        told = ("", "")
        if difference:
            t = difference["t"]
            told = (f"{difference['mean'] / 1e6:+.2f} ({difference['se'] / 1e6:.2f})", "" if t is None else f"{t:+.1f}")
        shares = (f"{row[name]['mean']:.0%}" for name in ("approval", "thin_approval"))
        money = (f"{row[name]['mean'] / 1e6:.2f}" for name in ("loss", "profit"))
        table.add_row(row["scenario"], f"{row['policy']} {names[row['policy']]}", *shares, *money, *told)
    console = Console(width=120)
    console.print(table, highlight=False)
    console.print("CNY million over all months; standard errors over paired seeds", highlight=False)
