"""The commands `fedscore bench speed|joint|align|sum|scale|decisions`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from model.inputs import InputError
from simulations.datasets import DataSet, find

bench = typer.Typer(no_args_is_help=True, help="Benchmarks on public credit data.")

Data = Annotated[Path, typer.Option(help="Folder with one folder a data set.")]


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
def joint(
    persons: Annotated[str, typer.Option(help="Persons, by comma.")] = "30000,433200",
    columns: Annotated[str, typer.Option(help="Encoded columns beside each, by comma.")] = "170,150",
) -> None:
    """What the secure products of the joint fit cost: seconds of every role, peak memory, bytes a person.

    Example: fedscore bench joint --persons 30000 --columns 170
    """
    from simulations.bench_joint import measure

    table = Table("persons x columns", "what", "dealer s", "holders s", "party 0 s", "party 1 s", "all s", box=None)
    notes = []
    for rows, width in zip(_counts("--persons", persons), _counts("--columns", columns), strict=False):
        cost = measure(rows, width)
        for what, seconds in (("products", cost.seconds), ("one step", cost.step_seconds)):
            shown = [f"{seconds[role]:.1f}" for role in ("dealer", "holders", "party 0", "party 1")]
            table.add_row(f"{rows:,} x {width}", what, *shown, f"{sum(seconds.values()):.1f}")
        notes.append(
            f"{rows:,} x {width}: {cost.memory_gib:.2f} GiB at most in one process with all roles; bytes a person: "
            f"{cost.bytes_a_person} to both parties, {cost.step_bytes_a_person} a step"
        )
    Console(width=120).print(table)
    for note in notes:
        typer.echo(note)


@bench.command()
def align(
    persons: Annotated[str, typer.Option(help="Persons at the lender and at the partner, by comma.")] = "30000,300000",
) -> None:
    """What aligning a lender's and a partner's persons costs, by private set intersection on all cores.

    Example: fedscore bench align --persons 30000
    """
    from simulations.bench_align import measure

    table = Table("persons", "step", "s", "ids/s", "", box=None)
    for count in _counts("--persons", persons):
        found = measure(count)
        for step, seconds in found.seconds.items():
            table.add_row(f"{count:,} x {count:,}", step, f"{seconds:.1f}", f"{count / seconds:,.0f}", "")
        sent = " + ".join(f"{size / 1e6:.1f}" for size in found.bytes_sent)
        told = f"{'exact' if found.exact else 'NOT EXACT'}, {sent} MB"
        table.add_row(f"{count:,} x {count:,}", "all", f"{found.total:.1f}", f"{2 * count / found.total:,.0f}", told)
    Console(width=120).print(table)


def _counts(name: str, text: str) -> list[int]:
    parts = text.split(",")
    if not all(part.isdigit() and int(part) > 0 for part in parts):
        raise InputError("command line", name, "must be whole numbers > 0, by comma", text)
    return [int(part) for part in parts]


@bench.command("sum")
def sums(
    partners: Annotated[str, typer.Option(help="Partners of a domain, by comma.")] = "3,10,10,100",
    sizes: Annotated[str, typer.Option(help="Numbers each sends, by comma.")] = "1000,100000,1000000,10000",
    dropped: Annotated[int, typer.Option(min=0, help="Partners that send nothing, where a threshold stays.")] = 1,
) -> None:
    """What a secure sum costs: milliseconds of every stage at one client, and at the coordinator.

    Example: fedscore bench sum --partners 10 --sizes 100000
    """
    from privacy.groups import least_threshold
    from simulations.bench_sum import STAGES
    from simulations.bench_sum import measure as cost_of

    table = Table("partners x numbers", "dropped", *STAGES, "client ms", "coordinator ms", box=None)
    for count, size in zip(_counts("--partners", partners), _counts("--sizes", sizes), strict=False):
        cost = cost_of(count, size, min(dropped, count - least_threshold(count)))
        row = [f"{cost.client[stage] * 1000:.2f}" for stage in STAGES]
        whole = (f"{cost.whole * 1000:.1f}", f"{cost.coordinator * 1000:.1f}")
        table.add_row(f"{count} x {size:,}", str(cost.dropped), *row, *whole)
    Console(width=120).print(table)


@bench.command()
def scale(
    partners: Annotated[str, typer.Option(help="Partners, by comma.")] = "10,50,200",
    persons: Annotated[int, typer.Option(min=100, help="Persons of the sample.")] = 12_000,
    backends: Annotated[str, typer.Option(help="Of the simulation, by comma.")] = "inprocess,ray",
    engine: Annotated[str, typer.Option(help="scorecard | moments")] = "scorecard",
) -> None:
    """Seconds and bytes of whole runs at epsilon 1 by the number of partners, each person with one home a domain.

    Example: fedscore bench scale --partners 10,50
    """
    from simulations.bench_scale import measure

    phases = ("describe", "plan", "align", "train", "fuse", "audit")
    table = Table("partners", "backend", "s", *phases, "MB sent", "MB a partner", "AUC", box=None)
    for run in measure(_counts("--partners", partners), backends.split(","), persons, engine=engine):
        seconds, sent = sum(run.seconds.values()), sum(run.sent.values()) / 1e6
        by_phase = [f"{run.seconds.get(phase, 0.0):.1f}" for phase in phases]
        auc = "-" if run.auc is None else f"{run.auc:.4f}"
        figures = (f"{seconds:.1f}", *by_phase, f"{sent:.1f}", f"{sent / run.partners:.2f}", auc)
        table.add_row(str(run.partners), run.backend, *figures)
    Console(width=120).print(table)


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
