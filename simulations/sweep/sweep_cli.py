"""The command `fedscore sweep`."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from model.inputs import InputError, taking
from model.terms import check_epsilon

if TYPE_CHECKING:
    from simulations.sweep.grid import Sweep
    from simulations.sweep.progress import Progress
    from simulations.sweep.running import Outcome

_WHERE = "command line"
_EVERY = 10.0  # seconds between lines of progress where there is no terminal
_PRIVATE = ("private", "epsilon", "ledger", "select")
_SHARED = ("federations", "data", "arms", "delta", "out", "force", "quiet")  # a private sweep has no other options


@dataclass(frozen=True)
class SweepOptions:
    """Options of `fedscore sweep`."""

    federations: Annotated[list[str], typer.Argument(help="Federation files (TOML), or names of benchmark sets.")]
    data: Annotated[
        Path | None, typer.Option(help="Folder that data paths are relative to; of benchmark sets, that of all sets.")
    ] = None
    epsilons: Annotated[str, typer.Option(help="Budgets, by comma; inf for none.")] = "0.1,0.5,1,2,4,8,inf"
    seeds: Annotated[int, typer.Option(help="Trainings of every arm at every epsilon, each with fresh noise.")] = 10
    arms: Annotated[str, typer.Option(help="What to compare, by comma: ours, baselines, all, or names.")] = (
        "joint,own-block"
    )
    delta: Annotated[float | None, typer.Option(help="Probability with which epsilon may not hold.")] = None
    policy: Annotated[Path | None, typer.Option(help="Limit policy (TOML); the shipped one by default.")] = None
    decide: Annotated[int, typer.Option(help="Held-out persons a cell to decide for; 0 is all.")] = 20_000
    jobs: Annotated[int, typer.Option(help="Cells at a time; 0 takes one a core.")] = 0
    backend: Annotated[str, typer.Option(help="process | ray")] = "process"
    address: Annotated[str, typer.Option(help="Of a Ray cluster; empty starts one on this machine.")] = ""
    out: Annotated[Path, typer.Option(help="Folder to write; an unfinished sweep there goes on.")] = Path("sweep")
    no_report: Annotated[bool, typer.Option("--no-report", help="Write the tables only.")] = False
    force: Annotated[bool, typer.Option("--force", help="Replace another sweep in the output folder.")] = False
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")] = False
    private: Annotated[
        bool, typer.Option("--private", help="On real persons: pay for the whole sweep, and write only its best model.")
    ] = False
    epsilon: Annotated[float | None, typer.Option(help="Of a whole private sweep, a person.")] = None
    ledger: Annotated[Path | None, typer.Option(help="Folder of the ledgers that pay for a private sweep.")] = None
    select: Annotated[str, typer.Option(help="Runs of a private sweep: auto | once | poisson | geometric.")] = "auto"


@taking(SweepOptions)
def sweep(asked: SweepOptions) -> None:
    """Compare privacy budgets, learners and trust models on the same persons: tables, figures and a report.

    Every cell is trained once: what was interrupted goes on with the same command.

    Example: fedscore sweep federation.toml --epsilons 0.5,1,inf --seeds 3 --out sweep
    """
    if asked.private:
        _privately(asked)
        return
    _refuse_others(asked, _PRIVATE, "is of a private sweep alone", "add --private")
    from simulations.sweep.running import sweep as run  # late: it loads flwr

    question, began = _question(asked), time.monotonic()
    try:
        with _telling(asked.quiet) as tell:
            outcome = run(question, tell)
    except KeyboardInterrupt:
        _say(f"fedscore: interrupted: finished cells are kept in {asked.out}, the same command goes on")
        raise typer.Exit(130) from None
    if not asked.quiet:
        _show(outcome, question.report, time.monotonic() - began)


def _question(asked: SweepOptions) -> Sweep:
    from simulations.sweep.grid import Sweep

    left_out = (*_PRIVATE, "no_report", "quiet")
    kept: dict[str, Any] = {name: value for name, value in vars(asked).items() if name not in left_out}
    kept["federations"], kept["arms"] = tuple(asked.federations), tuple(_parts(asked.arms))
    kept["epsilons"] = tuple(check_epsilon(_WHERE, "--epsilons", part) for part in _parts(asked.epsilons))
    return Sweep(**kept, report=not asked.no_report)


def _privately(asked: SweepOptions) -> None:
    """Selects the best of several arms under one budget."""
    others = [field.name for field in fields(asked) if field.name not in (*_PRIVATE, *_SHARED)]
    _refuse_others(asked, others, "has no place in a private sweep, whose arms share one --epsilon", "leave it out")
    for name, value in (("--epsilon", asked.epsilon), ("--ledger", asked.ledger)):
        if value is None:
            raise InputError(_WHERE, name, "is missing: a private sweep needs it")
    if len(asked.federations) != 1:
        rule = "must be one in a private sweep"
        raise InputError(_WHERE, "FEDERATION", rule, asked.federations, "give each federation a sweep of its own")
    from simulations.sweep.private import PrivateSweep, private_sweep

    kept = {name: getattr(asked, name) for name in ("out", "ledger", "epsilon", "data", "delta", "select", "force")}
    question = PrivateSweep(asked.federations[0], arms=tuple(_parts(asked.arms)), **kept)
    told = private_sweep(question, _quiet if asked.quiet else _say)
    if not asked.quiet:
        typer.echo(f"selected: {told['selected']}; the whole sweep is charged at epsilon {asked.epsilon:g} a person")
        typer.echo(f"written: {asked.out}{os.sep}sweep.json, model{os.sep}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _quiet(text: str) -> None:
    del text


def _refuse_others(asked: SweepOptions, names: Iterable[str], rule: str, remedy: str) -> None:
    """Raises `InputError` for the first of these options that was given."""
    for field in fields(asked):
        value = getattr(asked, field.name)
        if field.name in names and value != field.default:
            raise InputError(_WHERE, f"--{field.name.replace('_', '-')}", rule, str(value), remedy)


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _show(outcome: Outcome, report: bool, seconds: float) -> None:
    if outcome.failed:
        _say(f"{len(outcome.failed)} of {outcome.cells} cells failed: see `error` in the tables")
    names = "results.parquet, results.csv, curves.parquet, curves.csv" + (", report.html" if report else "")
    typer.echo(f"written: {outcome.out}{os.sep}{names} ({outcome.cells} cells, {seconds:.0f} s)")


@contextmanager
def _telling(quiet: bool) -> Iterator[Progress]:
    """A bar on a terminal, plain lines elsewhere, nothing if quiet."""
    from simulations.sweep.progress import Silent

    console = Console(stderr=True)
    if quiet:
        yield Silent()
    elif not console.is_terminal:
        yield _Lines()
    else:
        with _bar(console) as bar:
            yield bar


class _Lines:
    """Plain lines, not more often than anybody reads them."""

    def __init__(self) -> None:
        self._last = -_EVERY

    def note(self, text: str) -> None:
        _say(f"note: {text}")

    def step(self, done: int, total: int, remaining: float | None) -> None:
        from simulations.sweep.progress import told

        now = time.monotonic()
        if now - self._last >= _EVERY or done == total:
            self._last = now
            _say(told(done, total, remaining))


@contextmanager
def _bar(console: Console) -> Iterator[Progress]:
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bars

    from simulations.sweep.progress import told

    with Bars(BarColumn(), TextColumn("{task.description}"), console=console, transient=True) as bars:
        task = bars.add_task("reading the holders' files", total=None)

        class Bar:
            def note(self, text: str) -> None:
                console.print(f"note: {text}", highlight=False, markup=False, soft_wrap=True)

            def step(self, done: int, total: int, remaining: float | None) -> None:
                bars.update(task, total=total, completed=done, description=told(done, total, remaining))

        yield Bar()
