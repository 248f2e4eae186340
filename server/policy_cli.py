"""The commands of whoever writes a limit policy: draft, lint, compare two, backtest one."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from model.inputs import InputError, read_text, read_toml, taking, write_text
from model.limits import policy as shipped
from model.limits.fields import read
from model.limits.lint import findings
from model.limits.policy import load_policy
from model.limits.schema import Policy

policy = typer.Typer(no_args_is_help=True, help="Limit policies: draft, lint, compare, backtest.")

Book = Annotated[Path | None, typer.Option(help="Requests to decide: .json, .jsonl or .parquet.")]
Model = Annotated[Path | None, typer.Option(help="Model folder of a run, e.g. demo/model.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@policy.command("draft")
def draft(file: Annotated[Path, typer.Argument(help="TOML file to write; it must not exist yet.")]) -> None:
    """Write the shipped example policy, with its comments, to edit.

    Example: fedscore policy draft mine.toml
    """
    if file.exists():
        raise InputError(file, "", "exists already", remedy="give another name")
    write_text(file, read_text(Path(shipped.__file__).with_name("policy.toml")))


@policy.command("lint")
def lint(
    file: Annotated[Path, typer.Argument(help="The policy (TOML).")],
    every: Annotated[bool, typer.Option("--all", help="Name every broken rule, not only the first.")] = False,
) -> None:
    """Check a policy: that each field is in range and that all of them go together; exit code 2 if not.

    Example: fedscore policy lint mine.toml --all
    """
    if every:
        found = findings(read(Policy, read_toml(file), file), file)
        for finding in found:
            typer.echo(f"fedscore: {finding}", err=True)
        if found:
            raise typer.Exit(2)
    rules = load_policy(file)
    dates = f"effective {rules.effective_from.isoformat()} expires {rules.expires_at.isoformat()}"
    typer.echo(f"{rules.id} {rules.version} {dates} sha256 {rules.sha256}")


@dataclass(frozen=True)
class DiffOptions:
    """Options of `fedscore policy diff`."""

    old: Annotated[Path, typer.Argument(help="The policy now (TOML).")]
    new: Annotated[Path, typer.Argument(help="The policy to be (TOML).")]
    requests: Book = None
    model: Model = None
    out: Annotated[Path | None, typer.Option(help="JSON Lines to write: each request that moved.")] = None
    cases: Annotated[int, typer.Option(min=0, max=1000, help="How many refused ones to name.")] = 10
    as_json: AsJson = False


@policy.command("diff")
@taking(DiffOptions)
def diff(asked: DiffOptions) -> None:
    """Show which fields differ and, on a book of requests, who moves from what to what.

    Each policy decides as if it were in force at every request's instant.

    Example: fedscore policy diff old.toml new.toml --requests book.jsonl --model demo/model
    """
    from model.bundle import decision_bundle
    from server.comparing import changes, compare  # late: it loads polars

    before, after = load_policy(asked.old), load_policy(asked.new)
    rows = changes(before, after)
    flow = None
    if asked.requests is not None and asked.model is not None:
        flow = compare((before, after), decision_bundle(asked.model), asked.requests, asked.cases, asked.out).to_dict()
    elif asked.requests is not None or asked.model is not None or asked.out is not None:
        raise InputError("fedscore policy diff", "--requests", "and --model must be given together, --out with both")
    if asked.as_json:
        told = [{"path": row.path, "old": row.old, "new": row.new} for row in rows]
        _print_json({"changes": told, **({"flow": flow} if flow else {})})
        return
    _show("changed fields", ("field", "old", "new"), [(r.path, _value(r.old), _value(r.new)) for r in rows])
    if flow:
        _show_flow(flow)


@policy.command("backtest")
def backtest(
    file: Annotated[Path, typer.Argument(help="The policy (TOML).")],
    requests: Annotated[Path, typer.Option(help="Requests to decide: .json, .jsonl or .parquet.")],
    model: Annotated[Path, typer.Option(help="Model folder of a run, e.g. demo/model.")],
    outcomes: Annotated[Path | None, typer.Option(help="CSV or Parquet: request_id, defaulted (0 or 1).")] = None,
    as_if_in_force: Annotated[
        bool, typer.Option("--as-if-in-force", help="Decide also where the policy's dates do not hold.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Decide a book of requests under a policy: outcomes, amounts, expected loss and profit, and what came true.

    Example: fedscore policy backtest mine.toml --requests book.jsonl --model demo/model
    """
    from model.bundle import decision_bundle
    from server.backtesting import backtest as run  # late: it loads polars
    from server.backtesting import read_outcomes

    rules, known = load_policy(file), read_outcomes(outcomes) if outcomes else {}
    report = run(rules, decision_bundle(model), requests, known, anywhen=as_if_in_force).to_dict()
    if outcomes is not None and "realised" not in report["all"]:
        raise InputError(outcomes, "request_id", f"must name some of the requests in {requests}")
    if as_json:
        _print_json(report)
        return
    _show_backtest(report, rules)


def _show_flow(flow: dict[str, Any]) -> None:
    moves, requests, lost = flow["moves"], flow["requests"], flow["approved_then_refused"]
    _show(f"decisions on {requests:,} requests, old down, new across", ("", *moves), [
        (old, *(f"{count:,}" for count in row.values())) for old, row in moves.items()
    ])  # fmt: skip
    told = ", ".join(f"{count:,} {name}" for name, count in flow["amount"].items())
    _say(f"amounts: {told}; mean change {_money(flow['mean_change_fen'])}")
    for name, count in flow["outside"].items():
        if count:
            _say(f"note: {count:,} of {requests:,} requests lie outside the dates of the {name} policy")
    if lost:
        rows = [(c["request_id"], _money(c["old"]["amount_fen"]), " ".join(c["new"]["reasons"])) for c in lost]
        _show("approved before, refused now", ("request", "amount", "reasons"), rows)


def _show_backtest(report: dict[str, Any], rules: Policy) -> None:
    total = report["all"]["requests"]
    _say(f"policy {rules.id} {rules.version} on {total:,} requests; amounts in {rules.currency}, a year's")
    if report["outside"]:
        dates = f"{rules.effective_from.isoformat()} to {rules.expires_at.isoformat()}"
        _say(f"note: decided as if in force: {report['outside']:,} requests lie outside {dates}")
    parts = {"all": report["all"], **report["by_file"], **report["by_band"], **report["by_decision"]}
    shown = {name: part for name, part in parts.items() if part["requests"]}
    decisions = tuple(report["all"]["decisions"])
    _show("decisions", ("", "requests", *decisions, "mean offer"), [
        (name, f"{p['requests']:,}", *(f"{p['decisions'][d] / p['requests']:.1%}" for d in decisions),
         _money(p["mean_amount_fen"]))
        for name, p in shown.items()
    ])  # fmt: skip
    columns = ("amount", "expected_loss", "expected_loss_upper", "income", "profit", "profit_upper")
    _show("expected, upper: at the upper PD", ("", *(name.replace("_", " ") for name in columns)), [
        (name, *(_money(part[f"{column}_fen"]) for column in columns)) for name, part in shown.items()
    ])  # fmt: skip
    known = {name: part["realised"] for name, part in shown.items() if "realised" in part}
    if known:
        header = ("", "known", "bad", "bad rate", "predicted", "observed/predicted", "95 % interval")
        _show("what came true", header, [
            (name, f"{r['known']:,}", f"{r['bad']:,}", f"{r['bad_rate']:.2%}", f"{r['predicted']:,.1f}",
             *_ratio(r["observed_to_predicted"]))
            for name, r in known.items()
        ])  # fmt: skip
    rows = [(code, f"{count:,}", f"{count / total:.1%}") for code, count in report["reasons"].items()]
    _show("reasons", ("code", "requests", "share"), rows)


def _ratio(values: Sequence[float | None]) -> tuple[str, str]:
    ratio, low, high = ("-" if value is None else f"{value:.3f}" for value in values)
    return ratio, f"{low} to {high}"


def _show(title: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table: on a terminal with lines and as wide as it is, elsewhere plain and uncut."""
    terminal = sys.stdout.isatty()
    table = Table(box=SIMPLE_HEAD if terminal else None, pad_edge=False)
    for at, name in enumerate(header):
        table.add_column(name, justify="left" if at == 0 else "right", no_wrap=not terminal)
    for row in rows:
        table.add_row(*map(Text, row))
    _say("")
    _say(title)
    Console(width=None if terminal else 240).print(table if table.rows else "none", highlight=False)


def _say(text: str) -> None:
    typer.echo(text)


def _print_json(value: object) -> None:
    typer.echo(json.dumps(value, ensure_ascii=False, indent=1))


def _value(value: object) -> str:
    return "-" if value is None else str(value)


def _money(fen: int | None) -> str:
    """An amount in whole currency units, with its cents."""
    return "-" if fen is None else f"{'-' if fen < 0 else ''}{abs(fen) // 100:,}.{abs(fen) % 100:02}"
