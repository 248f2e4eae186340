"""A database and its vault, opened together and checked to belong together."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine

from model.inputs import InputError
from server.decisions import chain
from server.decisions.database import begin, file_of, open_database, require_current, snapshot, upgrade
from server.decisions.vault import Vault


@dataclass(frozen=True)
class Store:
    """Where decisions are kept: the database, and the keys to what it says about persons."""

    engine: Engine
    vault: Vault

    @classmethod
    def open(cls, url: str, vault: Path | None = None, *, create: bool = False) -> Store:
        """Opens both.

        Args:
            url: as for `open_database`.
            vault: the vault's file; `vault_beside(url)` by default.
            create: makes what is missing: a SQLite file with its schema, and the vault of a chain not yet begun.

        Raises:
            InputError: what is missing or unusable, a schema of another version, or a vault of another database.
        """
        path = vault or vault_beside(url)
        file = file_of(url)
        new = create and file is not None and not os.path.exists(file)
        engine = open_database(url, create=create)
        try:
            if new:
                upgrade(engine)
            require_current(engine)
            return cls(engine, _vault(engine, path, create))
        except InputError:
            engine.dispose()
            raise

    def close(self) -> None:
        """Closes the connections."""
        self.engine.dispose()


def vault_beside(url: str) -> Path:
    """The vault's default file: beside a SQLite file, `limits.vault` in the current folder for a server.

    >>> vault_beside("sqlite:///state/limits.db")
    PosixPath('state/limits.vault')
    """
    return (file_of(url) or Path("limits.db")).with_suffix(".vault")


def _vault(engine: Engine, path: Path, create: bool) -> Vault:
    with snapshot(engine) as connection:
        begun = chain.head(connection).seq > 0
        if begun:
            vault = _existing(path)
            chain.check_vault(connection, vault)
            return vault
    with begin(engine) as connection:
        chain.lock(connection)  # of two that begin a chain at once, the second opens the first one's vault
        vault = Vault.create(path) if create and not os.path.exists(path) else _existing(path)
        chain.bind(connection, vault)
        return vault


def _existing(path: Path) -> Vault:
    if not os.path.exists(path):
        remedy = "give the one the database was made with; for a new database, `fedscore keys add` makes it"
        raise InputError(path, "", "does not exist", remedy=remedy)
    return Vault.open(path)
