"""The lender's commands."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from model.inputs import InputError, read_text, write_text


def decide(
    model: Annotated[Path, typer.Argument(help="Model folder of a run, e.g. demo/model.")],
    requests: Annotated[Path, typer.Option(help="A JSON request, or JSON Lines with one request a line.")],
    policy: Annotated[Path | None, typer.Option(help="Limit policy (TOML); the shipped one by default.")] = None,
    state: Annotated[Path | None, typer.Option(help="JSON state of the account, for all requests.")] = None,
    out: Annotated[Path | None, typer.Option(help="JSON Lines of decisions; by default they are printed.")] = None,
) -> None:
    """Decide on limits: how much, at what price, why, and what would change it.

    Example: fedscore decide demo/model --requests request.json
    """
    from model.bundle import decision_bundle
    from model.limits.decide import decide as decide_one
    from model.limits.policy import load_policy
    from model.limits.request import parse_request, parse_state

    bundle, rules = decision_bundle(model), load_policy(policy)
    account = parse_state(_json(read_text(state), str(state)) if state else {}, state or "state")
    if out is not None and out.exists():
        raise InputError(out, "", "exists already", remedy="give another --out")
    lines = []
    for source, text in _texts(requests):
        request = parse_request(_json(text, source), source)
        lines.append(decide_one(request, rules, bundle, account, request.as_of).to_json())
    if out is None:
        for line in lines:
            typer.echo(line)
        return
    write_text(out, "".join(line.decode() + "\n" for line in lines))


def _texts(path: Path) -> Iterator[tuple[str, str]]:
    """(source, JSON text) of each request of a JSON or JSON Lines file."""
    text = read_text(path)
    if not text.strip():
        raise InputError(path, "", "is empty", remedy="give a request")
    if path.suffix != ".jsonl":
        yield str(path), text
        return
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            yield f"{path} line {number}", line


def _json(text: str, source: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        rule = f"is not valid JSON ({error.msg}, line {error.lineno})"
        raise InputError(source, "", rule, remedy="mend it") from None
