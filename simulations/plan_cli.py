"""The command `fedscore plan`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from model.blocks import AUTO, POINTS, TRUSTS, known
from model.descent import check_rounds
from model.federation import LENDER, Federation, load_federation
from model.inputs import InputError, taking
from model.terms import check_delta, check_epsilon
from privacy.accounting import shown
from privacy.plan import EVERYBODY, LabelResponse, Plan, Release
from server.planning import make_plan
from server.roster import planned

_WHERE = "command line"


@dataclass(frozen=True)
class PlanOptions:
    """Options of `fedscore plan`."""

    federation: Annotated[Path, typer.Argument(help="The federation file (TOML).")]
    epsilon: Annotated[float | None, typer.Option(help="Privacy budget, a person over all partners.")] = None
    delta: Annotated[float | None, typer.Option(help="Probability with which epsilon may not hold.")] = None
    persons: Annotated[int, typer.Option(min=1, help="Training persons, a public number.")] = 10_000
    held_out: Annotated[int, typer.Option(min=0, help="Held-out persons, a public number.")] = 4_000
    rounds: Annotated[int, typer.Option(help="Rounds of block training; 0 chooses.")] = 0
    engine: Annotated[str, typer.Option(help="scorecard | moments | auto | network | opacus | FILE.py:NAME")] = (
        "scorecard"
    )
    trust: Annotated[str, typer.Option(help="Of the joint fit: secure | curator | local.")] = "secure"
    accuracy: Annotated[bool, typer.Option(help="Also what accuracy to expect, on synthetic persons.")] = True


@taking(PlanOptions)
def plan(asked: PlanOptions) -> None:
    """List and price every release of a run, and the accuracy to expect, before any data is touched.

    Example: fedscore plan federation.toml --epsilon 1 --persons 20000
    """
    from simulations.expectation import expect
    from simulations.extending import named

    engine = named(asked.engine)
    for name, value, allowed in (("--engine", engine, (AUTO, *known())), ("--trust", asked.trust, TRUSTS)):
        if value not in allowed:
            raise InputError(_WHERE, name, "must be " + " | ".join(allowed), value)
    check_rounds(_WHERE, "--rounds", asked.rounds)
    loaded = _priced_at(load_federation(asked.federation), asked.epsilon, asked.delta)
    roster = planned(loaded, {"train": asked.persons, "held_out": asked.held_out})
    run = make_plan(roster, engine, asked.rounds, asked.trust)
    _show(run.plan, asked.persons)
    if asked.accuracy and run.engine in POINTS:
        contracts = {h.domain: h.contract for h in loaded.holders if h.contract}
        found = expect(run, contracts, loaded.lender.domain if loaded.lender.contract else None)
        typer.echo(
            f"expect: AUC {found.noisy:.3f} +- {found.spread:.3f} where the same model without noise reaches "
            f"{found.exact:.3f}, on {found.persons:,} synthetic training persons drawn from the contracts alone"
        )


def _priced_at(federation: Federation, epsilon: float | None, delta: float | None) -> Federation:
    terms = federation.privacy
    if epsilon is not None:
        terms = replace(terms, epsilon=check_epsilon(_WHERE, "--epsilon", epsilon))
    if delta is not None:
        terms = replace(terms, delta=check_delta(_WHERE, "--delta", delta))
    return replace(federation, privacy=terms)


def _show(plan: Plan, persons: int) -> None:
    """Every line with its price, then the sums: by holder, and on one person."""
    table = Table("line", "holder", "persons", "noise multiplier", "releases", "batch", "epsilon alone", box=None)
    for line in plan.lines:
        if isinstance(line, Release):
            told = (f"{line.noise_multiplier:.4g}", f"{line.count}", f"{line.probability:.3g}")
        elif isinstance(line, LabelResponse):
            told = (f"flips {line.flip:.3g}", "1", "1")
        else:
            continue  # a private selection, which no run's plan has
        table.add_row(line.name, line.holder, line.persons, *told, shown(plan.spent([line.name])))
    Console(width=120).print(table)
    for holder in sorted({line.holder for line in plan.lines}, key=lambda h: (h != LENDER, h)):
        own = [line.name for line in plan.lines if line.holder == holder]
        who = "all holders together" if holder == EVERYBODY else holder
        typer.echo(f"{who}: epsilon {shown(plan.spent(own))}")
    typer.echo(
        f"a person, over all partners (zero-out), for {persons:,} training persons: epsilon {shown(plan.spent())}, "
        f"delta {plan.delta:g} (persons x delta = {persons * plan.delta:.3g})"
    )
