"""The commands `fedscore bench quality|speed|decisions`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from model.inputs import InputError
from simulations.datasets import DataSet, find

bench = typer.Typer(no_args_is_help=True, help="Benchmarks on public credit data.")

Data = Annotated[Path, typer.Option(help="Folder with one folder a data set.")]
SETS = ("uci_default", "gmsc", "lending_club_2007_2011")


@bench.command()
def quality(
    data: Data = Path("../shared/data"),
    sets: Annotated[str, typer.Option(help="Data sets, by comma.")] = ",".join(SETS),
    epsilons: Annotated[str, typer.Option(help="Budgets, by comma; inf for none.")] = "1,8,inf",
    seeds: Annotated[int, typer.Option(min=1, help="Runs of fresh noise a cell.")] = 5,
    engine: Annotated[str, typer.Option(help="scorecard | network | opacus")] = "scorecard",
) -> None:
    """Held-out AUC and KS of the whole chain at each budget, beside scikit-learn without privacy.

    Example: fedscore bench quality --sets uci_default --epsilons 1 --seeds 5
    """
    from simulations.bench import quality as measure
    from simulations.bench import reference

    budgets = [_budget(text) for text in epsilons.split(",")]
    table = Table("set", "epsilon", "AUC", "+-", "KS", "lender alone", "s a run", box=None)
    for found in _found(sets, data):
        for cell in measure(found, budgets, seeds, engine):
            alone = "-" if cell.lender_only is None else f"{cell.lender_only:.4f}"
            table.add_row(
                *(cell.name, f"{cell.epsilon:g}", f"{cell.auc:.4f}", f"{cell.spread:.4f}"),
                *(f"{cell.ks:.3f}", alone, f"{cell.seconds:.1f}"),
            )
        free = reference(found)
        table.add_row(found.name, "scikit-learn, apart and fused", f"{free.apart:.4f}")
        table.add_row(found.name, "scikit-learn, pooled", f"{free.pooled:.4f}")
    Console(width=120).print(table)


@bench.command()
def speed(
    data: Data = Path("../shared/data"),
    sets: Annotated[str, typer.Option(help="Data sets, by comma.")] = "uci_default,sba_national",
    scaling: Annotated[bool, typer.Option(help="Also 50k to 400k rows of sba_national.")] = True,
    network: Annotated[bool, typer.Option(help="Also one step of the network block, where torch is.")] = True,
) -> None:
    """Wall seconds and memory of whole runs at epsilon 1, and how time grows with rows.

    Example: fedscore bench speed --sets uci_default --no-scaling
    """
    from simulations.bench import ROWS, network_steps
    from simulations.bench import speed as measure

    table = Table("run", "training rows", "s", "GiB", "AUC", "s per 100k rows", box=None)
    for found in _found(sets, data):
        timings = measure(found)
        if scaling and found.name == "sba_national":
            timings += measure(found, ROWS)
        for t in timings:
            auc = "-" if t.auc is None else f"{t.auc:.4f}"
            per = f"{t.seconds / t.train_rows * 1e5:.2f}"
            table.add_row(t.name, f"{t.train_rows:,}", f"{t.seconds:.1f}", f"{t.memory_gib:.2f}", auc, per)
    Console(width=120).print(table)
    if network:
        for batch in (512, 2048):
            steps = network_steps(batch)
            ratios = ", ".join(f"{k} {v:.2f} ms ({v / steps['plain']:.2f} x plain)" for k, v in steps.items())
            typer.echo(f"network step, {batch} persons, 100 columns: {ratios}")


@bench.command()
def decisions(
    model: Annotated[Path | None, typer.Argument(help="Model folder: also put `fedscore serve` under load.")] = None,
    rate: Annotated[
        int, typer.Option(min=1, help="Requests a second, whether or not earlier ones are answered.")
    ] = 300,
    seconds: Annotated[int, typer.Option(min=1, help="For how long.")] = 20,
) -> None:
    """Latency and throughput of limit decisions on one core, and of the service with its durable audit.

    Example: fedscore bench decisions demo/model
    """
    from simulations.bench_limits import core_latency
    from simulations.bench_serve import load

    core = core_latency()
    table = Table("what", "p50 ms", "p90 ms", "p99 ms", "worst ms", "", box=None)
    for name, title in (("plain", "core"), ("explained", "core with next steps")):
        p50, p99, worst = (f"{core[name][mark] / 1000:.3f}" for mark in ("p50", "p99", "max"))
        table.add_row(title, p50, "", p99, worst, "")
    table.add_row("JSON to JSON, one core", "", "", "", "", f"{core['per_second']:,.0f} a second")
    if model is not None:
        told = load(model, rate, seconds)
        statuses = ", ".join(f"{count} x {status}" for status, count in sorted(told.statuses.items()))
        row = [f"{value:.1f}" for value in (told.p50, told.p90, told.p99, told.worst)]
        table.add_row(f"service, {rate} requests/s", *row, f"{statuses}; {told.cpu_ms:.2f} ms CPU a request")
    Console(width=120).print(table)


def _budget(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not value > 0:
        raise InputError("command line", "--epsilons", "must be numbers > 0, by comma", text)
    return value


def _found(names: str, root: Path) -> list[DataSet]:
    """The sets whose data are here; others are named and skipped."""
    found = []
    for name in names.split(","):
        data = find(name, root)
        if data is None:
            typer.echo(f"skipped {name}: no data of it under {root}", err=True)
        else:
            found.append(data)
    if not found:
        raise InputError("command line", "--data", "holds none of these sets", str(root))
    return found
