"""The command `fedscore`, put together from the groups of the three doors."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from clients.cli import contract
from clients.ledger_cli import ledger as ledgers
from clients.partner.cli import partner
from model.inputs import InputError, taking
from server.cli import decide
from server.coordinator.cli import coordinator
from server.coordinator.log_cli import log
from server.decisions.serve_cli import serve
from server.decisions.store_cli import audit_log, database, keys, partners
from server.policy_cli import policy
from simulations.audit_cli import audit
from simulations.bench_cli import bench
from simulations.bundle_cli import bundle
from simulations.months_cli import simulate as simulate_months
from simulations.plan_cli import plan
from simulations.population_cli import population
from simulations.score_cli import score
from simulations.settings import Settings
from simulations.sweep.report_cli import report
from simulations.sweep.sweep_cli import sweep

app = typer.Typer(
    name="fedscore",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Privacy-preserving federated credit scoring, from partners' files to a limit decision.",
)
app.add_typer(contract, name="contract")
app.add_typer(bench, name="bench")
app.add_typer(ledgers, name="ledger")
app.add_typer(coordinator, name="coordinator")
app.add_typer(partner, name="partner")
app.add_typer(log, name="log")
app.add_typer(policy, name="policy")
app.add_typer(keys, name="keys")
app.add_typer(partners, name="partners")
app.add_typer(database, name="database")
app.add_typer(audit_log, name="audit-log")
app.command("serve")(serve)
policy.command("simulate")(simulate_months)
app.command("decide")(decide)
app.command("score")(score)
app.command("bundle")(bundle)
app.command("plan")(plan)
app.command("audit")(audit)
app.command("population")(population)
app.command("sweep")(sweep)
app.command("report")(report)

Epsilon = Annotated[float | None, typer.Option(help="Privacy budget, a person over all partners; inf for none.")]
Delta = Annotated[float | None, typer.Option(help="Probability with which epsilon may not hold.")]
Seed = Annotated[int, typer.Option(help="Of split and initialisation; never of noise.")]
Rounds = Annotated[int, typer.Option(help="Rounds of block training; 0 chooses.")]
Engine = Annotated[str, typer.Option(help="scorecard | moments | auto | network | opacus | FILE.py:NAME")]
Trust = Annotated[str, typer.Option(help="Who may see what of the joint fit: secure | curator | local.")]
Backend = Annotated[str, typer.Option(help="inprocess | flower | ray")]
Out = Annotated[Path, typer.Option(help="Folder to write; it must not exist yet.")]
Force = Annotated[bool, typer.Option("--force", help="Replace the output folder.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")]


@app.command()
def demo(
    out: Out = Path("demo"),
    epsilon: Epsilon = None,
    backend: Backend = "inprocess",
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Run the whole chain on an embedded synthetic federation: a lender, four partners, 12,000 persons.

    Example: fedscore demo --out demo
    """
    _simulate(Settings(None, out, epsilon=epsilon, backend=backend, force=force), quiet)


@dataclass(frozen=True)
class SimulateOptions:
    """Options of `fedscore simulate`: those of `Settings`, and whether to be quiet."""

    federation: Annotated[Path, typer.Argument(help="The federation file (TOML).")]
    data: Annotated[Path | None, typer.Option(help="Folder that data paths are relative to.")] = None
    epsilon: Epsilon = None
    delta: Delta = None
    seed: Seed = 0
    rounds: Rounds = 0
    engine: Engine = "scorecard"
    trust: Trust = "secure"
    secure_sum: Annotated[str, typer.Option(help="Of a domain's updates: off | auto (of 3 or more) | on.")] = "off"
    alignment: Annotated[str, typer.Option(help="How shared persons are found: tokens | psi.")] = "tokens"
    backend: Backend = "inprocess"
    address: Annotated[str, typer.Option(help="Of a Ray cluster: auto, host:port, ray://…; else one of its own.")] = ""
    on_failure: Annotated[str, typer.Option(help="continue | stop, when a partner fails.")] = ""
    policy: Annotated[Path | None, typer.Option(help="Limit policy (TOML); the shipped one by default.")] = None
    ledger: Annotated[
        Path | None, typer.Option(help="Folder of ledgers that span runs; by default each run's own.")
    ] = None
    out: Out = Path("out")
    force: Force = False
    quiet: Quiet = False


@app.command()
@taking(SimulateOptions)
def simulate(asked: SimulateOptions) -> None:
    """Take partners' files through private federated training to scores, decisions and a report.

    Example: fedscore simulate federation.toml --epsilon 1 --out out
    """
    settings = {name: value for name, value in vars(asked).items() if name != "quiet"}
    _simulate(Settings(**settings), asked.quiet)


@app.command()
def sample(
    folder: Annotated[Path, typer.Argument(help="Folder to write.")],
    persons: Annotated[int, typer.Option(min=100, help="How many persons.")] = 12_000,
    seed: Annotated[int, typer.Option(min=0, help="Of the population.")] = 7,
) -> None:
    """Write the embedded synthetic federation: files, contracts and federation.toml, to read and to edit.

    Example: fedscore sample my-federation
    """
    from clients.sample import write_sample

    typer.echo(write_sample(folder, persons, seed))


@app.command()
def doctor() -> None:
    """Look at this machine: what is installed and what will not work.

    Example: fedscore doctor
    """
    from simulations.doctor import examine

    findings = examine(Path.cwd())
    for finding in findings:
        mark = {True: "ok  ", False: "FAIL", None: "-   "}[finding.ok]
        typer.echo(f"{mark} {finding.what}")
    if any(finding.ok is False for finding in findings):
        raise typer.Exit(1)


def _simulate(settings: Settings, quiet: bool) -> None:
    from simulations.run import simulate as run  # late: it loads flwr

    with _telling(quiet) as say:
        result = run(settings, say)
    console = Console(stderr=True)
    for note in () if quiet else result.notes:
        console.print(f"note: {note}", highlight=False, markup=False, soft_wrap=True)
    if not quiet:
        _summary(result.report, result.out)


@contextmanager
def _telling(quiet: bool) -> Iterator[Callable[[str], None]]:
    """A function that tells progress: a spinner on a terminal, plain lines elsewhere, nothing if quiet."""
    console = Console(stderr=True)
    if quiet:
        yield lambda text: None
    elif not console.is_terminal:
        yield lambda text: print(text, file=sys.stderr, flush=True)
    else:
        with console.status("starting") as status:

            def say(text: str) -> None:
                console.print(f"[dim]{text}[/dim]", highlight=False)
                status.update(text)

            yield say


def _summary(report: dict[str, object], out: Path) -> None:
    """The figures that a reader looks for first."""
    table = Table(show_header=False, box=None, pad_edge=False)
    persons, decisions = report["persons"], report["decisions"]
    rows = [
        ("persons", ", ".join(f"{v:,} {k}" for k, v in persons.items()) if isinstance(persons, dict) else ""),
        ("epsilon", f"{report['epsilon']} (delta {report['delta']}, {report['unit']})"),
        ("AUC held out", f"{report['auc']}   the lender's own part {report['auc_lender_only']}"),
        ("KS, Brier", f"{report['ks']}, {report['brier']}"),
        ("decisions", ", ".join(f"{k} {v:,}" for k, v in decisions.items()) if isinstance(decisions, dict) else ""),
        ("written", f"{out}{os.sep}report.json, scores.parquet, decisions.parquet, model{os.sep}"),
    ]
    for name, value in rows:
        table.add_row(name, value)
    Console(width=None if sys.stdout.isatty() else 120).print(table, highlight=False)


def main() -> None:
    """Runs the command; bad input is one line and exit code 2, a run that stopped is one line and exit code 1."""
    from model.limits.policy import NotInForce
    from privacy.ledger import LedgerCorrupt, LedgerMismatch
    from privacy.mechanisms import UnknownMechanism
    from privacy.plan import BudgetExceeded
    from server.failures import RunFailed

    try:
        app()
    except (InputError, BudgetExceeded, LedgerMismatch, NotInForce, UnknownMechanism) as error:
        _end(str(error), 2)
    except (LedgerCorrupt, RunFailed) as error:
        _end(str(error), 1)
    except KeyboardInterrupt:
        _end("interrupted: nothing was written", 130)


def _end(text: str, code: int) -> None:
    print(f"fedscore: {text}", file=sys.stderr)
    sys.exit(code)
