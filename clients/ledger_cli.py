"""The commands of whoever keeps a ledger file: look at it, verify, export, back up, restore."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from model.inputs import InputError, read_text, write_text
from privacy import custody
from privacy.accounting import shown
from privacy.chain import Entry, LedgerCorrupt
from privacy.ledger import LedgerMismatch
from privacy.plan import LabelResponse, Line
from privacy.selection import Selection

ledger = typer.Typer(no_args_is_help=True, help="Privacy ledgers: what was spent; verify, export, back up, restore.")

Ledger = Annotated[Path, typer.Argument(help="A holder's or the coordinator's ledger.db; it is only read.")]
Witness = Annotated[Path | None, typer.Option(help="What `ledger export` wrote, of this or a fellow holder's ledger.")]
UNIT = "one person over all partners (zero-out), delta={:g}"


@ledger.command("show")
def show(path: Ledger) -> None:
    """Show plans, what each line costs by itself, what is spent and what remains; epsilon is rounded up.

    Example: fedscore ledger show state/payments/ledger.db
    """
    rows = _read(path)
    contents = custody.Contents.of(rows)
    opened, delta = contents.opened, float(contents.opened["delta"])
    holder = opened["holder"] or "the coordinator"
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(f"programme {opened['programme']}, ledger of {holder}, {_head(rows)}", highlight=False, markup=False)
    for name, lines in contents.plans.items():
        console.print(_table(contents, name, lines), highlight=False)
    if contents.restored:
        console.print(f"restored {contents.restored} times: earlier plans may release nothing more", highlight=False)
    if contents.unknown:
        console.print("one restore had no witness: what it missed is unknown, so all counts as spent", highlight=False)
    left = math.floor(contents.remaining() * 1000) / 1000
    sums = [f"spent, all lines: epsilon {shown(contents.spent())}"]
    if opened["holder"]:
        sums.insert(0, f"spent, lines of {opened['holder']}: epsilon {shown(contents.spent(own=True))}")
    sums.append(f"total when it was opened: epsilon {opened['total']:g}")
    sums.append(f"remaining, as one Gaussian release: epsilon {left:.3f}")
    for text in sums:
        console.print(f"{text} of {UNIT.format(delta)}", highlight=False, markup=False)


@ledger.command("verify")
def verify(path: Ledger, witness: Witness = None) -> None:
    """Check every row and reply, and that nothing which a witness saw is missing.

    Example: fedscore ledger verify ledger.db --witness ledger.jsonl
    """
    rows = _read(path)
    if witness is None:
        typer.echo(f"{path}: sound, {_head(rows)}; rows cut off at its end show only against a --witness")
        return
    with _told(witness):
        lost = custody.missing(rows, _witness(witness))
    if lost:
        raise LedgerCorrupt(f"{path}: lacks {len(lost)} rows that {witness} has, first {lost[0].key}: a rollback")
    typer.echo(f"{path}: sound, {_head(rows)}; it has all that {witness} has")


@ledger.command("export")
def export(path: Ledger, out: Annotated[Path, typer.Option(help="File to write; it must not exist yet.")]) -> None:
    """Write all rows as JSON Lines, for somebody else to keep as a witness.

    Example: fedscore ledger export ledger.db --out ledger.jsonl
    """
    rows = _read(path)
    if out.exists():
        raise InputError(out, "", "exists already", remedy="give another --out")
    write_text(out, custody.export(path))
    typer.echo(f"{out}: {_head(rows)}")


@ledger.command("backup")
def backup(path: Ledger, out: Annotated[Path, typer.Option(help="File to write; it must not exist yet.")]) -> None:
    """Copy a ledger, in use or not, as it is at one moment.

    Example: fedscore ledger backup ledger.db --out ledger.backup
    """
    _read(path)
    with _told(out):
        custody.backup(path, out)
    typer.echo(
        f"{out}: {_head(_read(out))}; put it back with `fedscore ledger restore` only: a bare copy is a rollback"
    )


@ledger.command("restore")
def restore(
    copy: Annotated[Path, typer.Argument(help="A backup; it is only read.")],
    to: Annotated[Path, typer.Option(help="Where the ledger shall be; nothing may be there.")],
    witness: Witness = None,
) -> None:
    """Put a backup back, advanced past everything that it may have missed; without a witness all counts as spent.

    Example: fedscore ledger restore ledger.backup --to ledger.db --witness ledger.jsonl
    """
    _read(copy)
    with _told(witness or to):
        seen = None if witness is None else _witness(witness)
    with _told(to, witness):
        added = custody.restore(copy, to, seen)
    typer.echo(
        f"{to}: {len(added)} rows added; earlier plans may release nothing more, stored replies may be sent again"
    )
    if witness is None:
        typer.echo(f"{to}: no witness: what the copy missed is unknown, so all counts as spent", err=True)


def _read(path: Path) -> list[Entry]:
    if not path.is_file():
        rule = "must be a file" if path.exists() else "does not exist"
        raise InputError(path, "", rule, remedy="check the path")
    with _told(path):
        return custody.read(path)


def _witness(path: Path) -> list[Entry]:
    try:
        return custody.exported(read_text(path))
    except LedgerCorrupt as error:
        raise LedgerCorrupt(f"{path}: {error}") from None


def _head(rows: Sequence[Entry]) -> str:
    count, digest = custody.head(rows)
    return f"{count} rows, head {digest}"


def _table(contents: custody.Contents, plan: str, lines: Sequence[Line]) -> Table:
    table = Table("line", "holder", "persons", title=f"plan {plan}", title_justify="left")
    for name in ("noise multiplier", "count", "sampled", "epsilon alone", "claimed"):
        table.add_column(name, justify="right")
    for line in lines:
        if isinstance(line, LabelResponse):
            kind = [f"flip {line.flip:.4g}", "1", "-"]
        elif isinstance(line, Selection):
            kind = [f"{1 / line.mu:.4g} a run", str(line.repeats), "-"]
        else:
            kind = [f"{line.noise_multiplier:.4g}", str(line.count), f"{line.probability:.4g}"]
        own = line.holder == contents.opened["holder"]
        claimed = str(contents.claims.get((plan, line.name), 0)) if own else "-"
        table.add_row(line.name, line.holder, line.persons, *kind, shown(contents.alone(line)), claimed)
    return table


@contextmanager
def _told(path: Path, other: Path | None = None) -> Iterator[None]:
    """Turns what is wrong with a file that was given into one line."""
    try:
        yield
    except InputError:
        raise
    except LedgerMismatch as error:
        raise InputError(other or path, "", str(error), remedy="give an export of the same programme") from None
    except FileExistsError as error:
        raise InputError(
            error.filename or path, "", "exists already", remedy="give another path or move it away"
        ) from None
    except OSError as error:
        raise InputError(path, "", f"cannot be read or written ({error.strerror})", remedy="check the folder") from None
    except ValueError as error:
        raise InputError(path, "", str(error), remedy="give what `fedscore ledger export` wrote") from None
