"""`fedscore partner score`: signed sub-scores of persons who applied, for the lender's decision service."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from clients.partner.folder import Folder
from model.inputs import InputError, read_text, taking
from privacy.durable import write

Dir = Annotated[Path, typer.Argument(metavar="DIR", help="The holder's folder, made by `partner init`.")]


@dataclass(frozen=True)
class ScoreOptions:
    """Options of `partner score`."""

    folder: Dir
    asked: Annotated[Path, typer.Argument(help="CSV: person, subject_ref, as_of, tenure_months, consent_until.")]
    model: Annotated[Path, typer.Option(help="Folder of a published model that this holder answers for.")]
    out: Annotated[Path | None, typer.Option(help="File to write the messages to, one a line.")] = None
    url: Annotated[str, typer.Option(help="Root of the lender's decision service, to send them to.")] = ""
    key_file: Annotated[Path | None, typer.Option(help="File with the service's key of the role partner.")] = None
    authority: Annotated[Path | None, typer.Option(help="Certificate of who signed the service's.")] = None


@taking(ScoreOptions)
def score(asked: ScoreOptions) -> None:
    """Sign sub-scores of persons who applied at the lender and agreed, and send them to its decision service.

    Example: fedscore partner score pay-1 asked.csv --model model --url https://limits.bank.example --key-file key.txt
    """
    from clients.config import Node
    from clients.partner import scoring

    if not asked.out and not asked.url:
        raise InputError("command line", "--out", "is missing, and so is --url", remedy="give one of them, or both")
    if asked.url and not asked.key_file:
        raise InputError("command line", "--key-file", "is missing", remedy="the lender makes one: `fedscore keys add`")
    if asked.out and asked.out.exists():
        raise InputError(asked.out, "", "exists already", remedy="give another --out")
    key = read_text(asked.key_file).strip() if asked.key_file else ""
    service = scoring.Service(asked.url, key, asked.authority) if asked.url else None
    persons = scoring.asked_of(asked.asked)
    made = list(scoring.messages(Node.own(Folder.open(asked.folder).node), asked.model, persons))
    typer.echo(f"{len(made)} of {len(persons)} persons are known here")
    if asked.out:
        _keep(asked.out, b"".join(message + b"\n" for message in made))
        typer.echo(f"{asked.out}: one message a line, for `POST /v1/subscores`")
    told = service.send(made) if service else {}
    for what, count in sorted(told.items()):
        typer.echo(f"{what}: {count}")
    if any(what != "taken" for what in told):
        raise typer.Exit(1)


def _keep(path: Path, content: bytes) -> None:
    """Writes what says something of each person, for its owner's eyes only."""
    try:
        write(path, content)
    except OSError as error:
        raise InputError(path, "", f"cannot be written ({error.strerror})", remedy="check the folder") from None
