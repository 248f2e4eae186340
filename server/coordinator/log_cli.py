"""The commands of whoever checks a coordinator's log: verify it, look at it, prove one entry of it."""

from __future__ import annotations

import base64
import json
import re
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from model.inputs import InputError, read_text, shown, write_text
from privacy.checkpoints import Checkpoint
from privacy.enrolment import fingerprint
from privacy.envelope import SealBroken
from privacy.logfile import ENTRIES, Kept, LogBroken, read_log
from privacy.logproof import prove as proof_in
from privacy.logproof import proven

log = typer.Typer(no_args_is_help=True, help="A coordinator's transparency log: verify it, show it, prove an entry.")

Folder = Annotated[Path, typer.Argument(help="A coordinator's folder, or its log/; it is only read.")]
Key = Annotated[str, typer.Option(help="The coordinator's verify key (base64), or its fingerprint.")]


@log.command("verify")
def verify(
    path: Annotated[Path, typer.Argument(help="A coordinator's folder, its log/, or a proof that `log prove` wrote.")],
    key: Key = "",
    witness: Annotated[Path | None, typer.Option(help="The checkpoint.json that a partner holds.")] = None,
) -> None:
    """Check every entry, signature and cosignature, and that nothing which a witness saw is missing or other.

    Example: fedscore log verify hub --witness pay-1/state/pay-1/checkpoint.json
    """
    if path.is_file():
        _verify_proof(path, key)
        return
    kept = _kept(path)
    _check_key(kept.keys[-1], key)
    if witness is not None:
        kept.holds(_checkpoint(witness), str(witness))
    typer.echo(f"{path}: sound, {len(kept.entries)} entries, root {kept.checkpoint.root.hex()}")
    _say_key(kept.keys[-1], key)
    _say_witnesses(kept.witnesses)
    if witness is not None:
        typer.echo(f"it has all that {witness} has")
    else:
        typer.echo("an end that was cut off shows only against a --witness")


@log.command("show")
def show(path: Folder, kind: Annotated[str, typer.Option(help="Only entries of this kind.")] = "") -> None:
    """Show the entries: number, time, kind and what each says.

    Example: fedscore log show hub --kind published
    """
    table = Table("number", "time", "kind", "says")
    for entry in _kept(path).entries:
        if kind in ("", entry.kind):
            table.add_row(str(entry.number), _plain(entry.time), _plain(entry.kind), _brief(entry.body))
    Console(width=None if sys.stdout.isatty() else 160).print(table, highlight=False, markup=False)


@log.command("prove")
def prove(
    path: Folder,
    number: Annotated[int, typer.Argument(help="The entry's number, as `log show` tells it.")],
    out: Annotated[Path | None, typer.Option(help="File to write; without it the proof is printed.")] = None,
) -> None:
    """Make the proof that an entry is in the log, for somebody who does not have the log.

    Example: fedscore log prove hub 12 --out proof.json
    """
    try:
        text = json.dumps(proof_in(_kept(path), number), indent=1) + "\n"
    except ValueError as error:
        raise InputError("command line", "NUMBER", str(error), number, "look at `fedscore log show`") from None
    if out is None:
        typer.echo(text, nl=False)
    elif out.exists():
        raise InputError(out, "", "exists already", remedy="give another --out")
    else:
        write_text(out, text)
        typer.echo(f"{out}: proof of entry {number}; check it with `fedscore log verify {out}`")


def _verify_proof(path: Path, key: str) -> None:
    try:
        told = json.loads(read_text(path))
    except (ValueError, RecursionError):
        raise InputError(path, "", "is no proof", remedy="give what `fedscore log prove` wrote") from None
    found = proven(told)
    _check_key(found.key, key)
    typer.echo(
        f"{path}: entry {found.entry.number} is in the log: {_plain(found.entry.kind)}, {_brief(found.entry.body)}"
    )
    _say_key(found.key, key)
    _say_witnesses(found.witnesses)


def _kept(path: Path) -> Kept:
    folder = path / "log" if (path / "log").is_dir() else path
    if not (folder / ENTRIES).is_file():
        raise InputError(path, "", f"holds no {ENTRIES}", remedy="give a coordinator's folder, or its log/")
    try:
        return read_log(folder)
    except LogBroken as error:
        raise LogBroken(f"{path}: {error}") from None


def _checkpoint(path: Path) -> Checkpoint:
    try:
        return Checkpoint.read(read_text(path))
    except SealBroken as error:
        raise InputError(path, "", str(error), remedy="give a partner's checkpoint.json") from None


def _check_key(key: bytes, given: str) -> None:
    """Refuses a log of another key than the one that was given."""
    told = base64.b64encode(key).decode()
    plain = given.strip()
    if plain and plain != told and plain.replace(" ", "").lower() != fingerprint(told).replace(" ", ""):
        raise LogBroken(f"the log is signed by another key than the one given: its fingerprint is {fingerprint(told)}")


def _say_key(key: bytes, given: str) -> None:
    told = fingerprint(base64.b64encode(key).decode())
    typer.echo(f"signed by the key with fingerprint {told}" + ("" if given else ": compare it, or give --key"))


def _say_witnesses(witnesses: Any) -> None:
    told = ", ".join(f"{_word(name)} at {w.checkpoint.size} ({fingerprint(w.verify)})" for name, w in witnesses.items())
    typer.echo(f"cosigned by {told or 'nobody'}")


def _brief(body: Any) -> str:
    """What an entry says, hashes cut to what tells them apart."""
    parts = []
    for name, value in sorted(body.items()):
        inner = f"{{{_brief(value)}}}" if isinstance(value, dict) else _plain(str(value))
        short = inner[:12] if len(inner) >= 64 and not isinstance(value, dict) else inner
        parts.append(f"{_plain(name)} {short}")
    return ", ".join(parts)


def _plain(text: str) -> str:
    """A text of somebody else's, without what a terminal takes as an order."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _word(name: str) -> str:
    """Who cosigned: a name as holders have them, or else in quotes, so that it passes for nothing more."""
    return name if re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", name) else shown(name)
