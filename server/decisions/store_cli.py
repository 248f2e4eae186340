"""The commands of whoever runs the decision service: its database, callers, partners and audit chain."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from server.decisions.store import Store

database = typer.Typer(no_args_is_help=True, help="The decision service's database.")
keys = typer.Typer(no_args_is_help=True, help="API keys: who may ask the decision service what.")
partners = typer.Typer(no_args_is_help=True, help="Partners who may send signed sub-scores.")
audit_log = typer.Typer(no_args_is_help=True, help="The chain of everything that was decided and done.")

_URL = "sqlite:///limits.db"
_BY = "command line"
Url = Annotated[str, typer.Argument(help="sqlite:///FILE or postgresql://USER@HOST/NAME.")]
Database = Annotated[str, typer.Option(help="sqlite:///FILE or postgresql://USER@HOST/NAME.")]
VaultFile = Annotated[Path | None, typer.Option("--vault", help="File of the master key; limits.vault beside it.")]
Name = Annotated[str, typer.Argument(help="Its name.")]


@database.command("upgrade")
def upgrade(url: Url = _URL) -> None:
    """Make the tables, or bring them up to date; a SQLite file that is missing is made.

    Example: fedscore database upgrade sqlite:///limits.db
    """
    from server.decisions.database import open_database, require_current, shown
    from server.decisions.database import upgrade as upgrade_schema

    engine = open_database(url, create=True)
    upgrade_schema(engine)
    require_current(engine)
    typer.echo(f"{shown(engine.url)}: up to date")
    engine.dispose()


@keys.command("add")
def add_key(
    name: Name,
    role: Annotated[str, typer.Option(help="service, officer, reviewer, auditor, admin or partner.")],
    partner: Annotated[str | None, typer.Option(help="Whose sub-scores it may send; for the role partner.")] = None,
    database: Database = _URL,
    vault: VaultFile = None,
) -> None:
    """Make a key and print its token, this once; a new database gets its tables and its vault.

    Example: fedscore keys add front-end --role service
    """
    from server.decisions import api_keys
    from server.decisions.database import begin

    with _store(database, vault, create=True) as store, begin(store.engine) as connection:
        data = {"name": name, "role": role, "partner": partner}
        token = api_keys.create(connection, store.vault, data, _BY)
    typer.echo("the token is shown this once; only its hash is kept", err=True)
    typer.echo(token)


@keys.command("list")
def list_keys(database: Database = _URL, vault: VaultFile = None) -> None:
    """Show all keys, revoked ones too; tokens are stored nowhere.

    Example: fedscore keys list
    """
    from server.decisions import api_keys
    from server.decisions.database import snapshot

    table = Table("name", "role", "partner", "created", "revoked")
    with _store(database, vault) as store, snapshot(store.engine) as connection:
        for key in api_keys.listed(connection):
            caller = key.caller
            table.add_row(caller.name, caller.role, caller.partner or "-", key.created_at, key.revoked_at or "-")
    _print(table)


@keys.command("revoke")
def revoke_key(name: Name, database: Database = _URL, vault: VaultFile = None) -> None:
    """End a key: a running service refuses it within seconds.

    Example: fedscore keys revoke front-end
    """
    from server.decisions import api_keys
    from server.decisions.database import begin

    with _store(database, vault) as store, begin(store.engine) as connection:
        api_keys.revoke(connection, store.vault, name, _BY)
    typer.echo(f"{name}: revoked")


@partners.command("add")
def add_partner(
    name: Name,
    domain: Annotated[str, typer.Option(help="The domain whose sub-scores it sends.")],
    public_key: Annotated[str, typer.Option(help="Ed25519 public key, 64 hexadecimal digits.")],
    database: Database = _URL,
    vault: VaultFile = None,
) -> None:
    """Register a partner: from then on its domain's sub-scores come signed only.

    Example: fedscore partners add pay-1 --domain payments --public-key HEX
    """
    from server.decisions import partners as registered
    from server.decisions.database import begin

    with _store(database, vault, create=True) as store, begin(store.engine) as connection:
        data = {"name": name, "domain": domain, "public_key": public_key}
        registered.add(connection, store.vault, data, _BY)
    typer.echo(f"{name}: registered for {domain}")


@partners.command("list")
def list_partners(database: Database = _URL, vault: VaultFile = None) -> None:
    """Show the partners that may send.

    Example: fedscore partners list
    """
    from server.decisions import partners as registered
    from server.decisions.database import snapshot

    table = Table("name", "domain", "public key")
    with _store(database, vault) as store, snapshot(store.engine) as connection:
        for row in registered.active(connection):
            table.add_row(row.name, row.domain, row.public_key)
    _print(table)


@partners.command("revoke")
def revoke_partner(name: Name, database: Database = _URL, vault: VaultFile = None) -> None:
    """Take nothing more from a partner; `add` registers it anew, with another key.

    Example: fedscore partners revoke pay-1
    """
    from server.decisions import partners as registered
    from server.decisions.database import begin

    with _store(database, vault) as store, begin(store.engine) as connection:
        registered.revoke(connection, store.vault, name, _BY)
    typer.echo(f"{name}: revoked")


@audit_log.command("verify")
def verify(
    url: Url = _URL,
    expect: Annotated[str | None, typer.Option(help="A head kept elsewhere, SEQ:SHA, that must be on it.")] = None,
    vault: VaultFile = None,
) -> None:
    """Check every record; with the vault also that each opens and that the index of decisions is theirs.

    Example: fedscore audit-log verify sqlite:///limits.db --expect 12:5f3c...
    """
    from server.decisions import chain
    from server.decisions.database import open_database, require_current, shown, snapshot
    from server.decisions.store import vault_beside
    from server.decisions.vault import Vault

    kept = None if expect is None else chain.Head.parse(expect)
    path = vault or vault_beside(url)
    engine = open_database(url)
    require_current(engine)
    opened = Vault.open(path) if vault or os.path.exists(path) else None
    with _broken(), snapshot(engine) as connection:
        if opened is not None:
            chain.check_vault(connection, opened)
        found = chain.verify(connection, opened, expect_head=kept)
    typer.echo(
        f"{shown(engine.url)}: sound, {found.count} records, {found.erased} of erased persons, head {found.head}"
    )
    if opened is None:
        typer.echo(f"{path} is not there: hashes were checked, but no record was opened", err=True)
    if kept is None:
        typer.echo("records cut off at its end show only against a head kept elsewhere (--expect)", err=True)
    engine.dispose()


@audit_log.command("head")
def head(url: Url = _URL) -> None:
    """Print the last record's number and hash, for somebody else to keep.

    Example: fedscore audit-log head sqlite:///limits.db
    """
    from server.decisions import chain
    from server.decisions.database import open_database, require_current, snapshot

    engine = open_database(url)
    require_current(engine)
    with _broken(), snapshot(engine) as connection:
        typer.echo(chain.head(connection))
    engine.dispose()


@contextmanager
def _store(url: str, vault: Path | None, create: bool = False) -> Iterator[Store]:
    from server.decisions.store import Store

    with _broken():
        store = Store.open(url, vault, create=create)
        try:
            yield store
        finally:
            store.close()


@contextmanager
def _broken() -> Iterator[None]:
    """A chain that does not hold is one line and exit code 1."""
    from server.decisions.chain import ChainBroken

    try:
        yield
    except ChainBroken as error:
        typer.echo(f"fedscore: {error}", err=True)
        raise typer.Exit(1) from None


def _print(table: Table) -> None:
    Console(width=None if sys.stdout.isatty() else 160).print(table, highlight=False)
