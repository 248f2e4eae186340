"""Opening a database by URL, bringing its schema up to date, and transactions that write.

SQLite: WAL and `synchronous=FULL`, so that a commit is on disk when it returns; `secure_delete`, so that what is
deleted is overwritten. PostgreSQL: `synchronous_commit` is never off. Every error here is an `InputError` of one line
that shows neither user nor password.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from model.inputs import InputError

DEFAULT = "sqlite:///limits.db"
_FORMS = "write sqlite:///limits.db or postgresql://user@host/name"
_SHORTEST = 512  # bytes of a database; SQLite takes a shorter file for a new one
_MIGRATIONS = 7_243_921  # PostgreSQL's advisory lock of whoever migrates; any number, the same in all processes
_PATIENCE_S = 30  # for which SQLite waits for another process's write
# each of the 40 threads that answer may read; beside them write the writer and read sweeper, batches and checkpoints
_POOL = {"pool_size": 20, "max_overflow": 40, "pool_timeout": 5}
_PRAGMAS = ("foreign_keys=ON", "synchronous=FULL", "secure_delete=ON", "wal_autocheckpoint=0", "cache_size=-16384")


def open_database(url: str, *, create: bool = False) -> Engine:
    """An engine whose database answers; its schema is not looked at.

    Args:
        url: `sqlite:///FILE` or `postgresql://USER@HOST/NAME`.
        create: whether a SQLite file that is missing is made, with mode 0600.

    Raises:
        InputError: a URL of another kind, no such file, no database, or a server that does not answer.
    """
    parsed = _parse(url)
    if parsed.drivername == "sqlite":
        _prepare_file(Path(parsed.database or ""), create)
        engine = create_engine(parsed, hide_parameters=True, connect_args={"timeout": _PATIENCE_S}, **_POOL)
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    else:
        ours = {"connect_timeout": 10, "client_encoding": "UTF8"}
        options = {name: value for name, value in ours.items() if name not in parsed.query}
        engine = create_engine(parsed, hide_parameters=True, pool_pre_ping=True, connect_args=options, **_POOL)
        event.listen(engine, "connect", _set_up_postgresql)
    try:
        with _told(engine), engine.connect() as connection:
            _check_encoding(connection)
    except InputError:
        engine.dispose()
        raise
    return engine


def file_of(url: str) -> Path | None:
    """The file of a SQLite URL; None for a server.

    >>> file_of("sqlite:///limits.db")
    PosixPath('limits.db')
    """
    parsed = _parse(url)
    return Path(parsed.database or "") if parsed.drivername == "sqlite" else None


def shown(url: URL) -> str:
    """A URL without user, password and options.

    >>> shown(make_url("postgresql+psycopg://ann:secret@db.example:5432/limits?sslmode=require"))
    'postgresql://db.example:5432/limits'
    """
    bare = URL.create(url.get_backend_name(), host=url.host, port=url.port, database=url.database)
    return bare.render_as_string()


def upgrade(engine: Engine) -> None:
    """Brings the schema to this program's version; of several processes one does it and the others wait.

    Raises:
        InputError: tables of another program, or a schema that this program does not know.
    """
    with _told(engine), begin(engine) as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATIONS})
        version = _version(connection)
        if version is None and inspect(connection).get_table_names():
            raise InputError(shown(engine.url), "", "holds tables of another program", remedy="give an empty database")
        if version is not None:
            _refuse_foreign(engine, version)
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def require_current(engine: Engine) -> None:
    """Raises `InputError` with the command to run, where the schema is not this program's."""
    with _told(engine), engine.connect() as connection:
        version = _version(connection)
    if version is not None:
        _refuse_foreign(engine, version)
    if version != ScriptDirectory.from_config(_config()).get_current_head():
        rule = "has no schema yet" if version is None else f"has the older schema {version}"
        raise InputError(shown(engine.url), "", rule, remedy="run `fedscore database upgrade` with its URL")


@contextmanager
def begin(engine: Engine) -> Iterator[Connection]:
    """A transaction that may write: it takes SQLite's write lock at once, commits at the end, or rolls back."""
    with engine.connect() as connection:
        connection.execution_options(writes=True)
        with connection.begin():
            yield connection


@contextmanager
def snapshot(engine: Engine) -> Iterator[Connection]:
    """A transaction that reads: all of it sees the database at one moment."""
    with engine.connect() as connection:
        if connection.dialect.name == "postgresql":
            connection.execution_options(isolation_level="REPEATABLE READ")
        with connection.begin():
            yield connection


def checkpoint(engine: Engine) -> None:
    """Moves what SQLite's log has into its file, beside the writer and not in its way; nothing to do on a server.

    The commits themselves never do it: whoever made the log full would wait for the file. The last connection that
    closes does.
    """
    if engine.dialect.name == "sqlite":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("PRAGMA wal_checkpoint(PASSIVE)"))


def scrub(engine: Engine) -> bool:
    """Removes what was deleted from the files too, after an erasure; False where a reader is in the way: try again.

    On SQLite writers wait meanwhile, a second at most. PostgreSQL frees the space of the destroyed key; its write-ahead
    log, and archives and backups of either database, have a wrapped key for as long as they are kept.
    """
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("VACUUM person_key"))
            return True
        connection.exec_driver_sql("PRAGMA busy_timeout = 1000")
        busy: int = connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").scalar_one()
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {_PATIENCE_S * 1000}")
        return not busy


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise InputError("database", "", "is not a database URL", remedy=_FORMS) from None
    if parsed.drivername in ("postgresql", "postgresql+psycopg"):
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername != "sqlite":
        raise InputError("database", "", "must be SQLite or PostgreSQL", parsed.drivername, _FORMS)
    if parsed.database in (None, "", ":memory:") or parsed.query or parsed.host:
        raise InputError("database", "", "must name a SQLite file and nothing else", remedy=_FORMS)
    return parsed


def _prepare_file(path: Path, create: bool) -> None:
    try:
        if not path.exists():
            if not create:
                raise InputError(path, "", "does not exist", remedy="run `fedscore database upgrade` with its URL")
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        elif not path.is_file():
            raise InputError(path, "", "must be a file")
        elif 0 < path.stat().st_size < _SHORTEST:
            raise InputError(path, "", "is no database", remedy="restore a good copy")
    except OSError as error:
        raise InputError(path, "", f"cannot be opened ({error.strerror})", remedy="check the folder") from None


def _set_up_sqlite(connection: Any, _: object) -> None:
    connection.isolation_level = None  # `_begin_sqlite` says when a transaction begins, not the driver
    connection.text_factory = lambda raw: raw.decode(errors="surrogateescape")  # bytes that are no text: hashes tell
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")
    if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        connection.execute("PRAGMA journal_mode=WAL")


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _set_up_postgresql(connection: Any, _: object) -> None:
    if connection.execute("SHOW synchronous_commit").fetchone()[0] == "off":
        connection.execute("SET synchronous_commit TO on")
    connection.commit()


def _check_encoding(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        encoding = connection.execute(text("SHOW server_encoding")).scalar_one()
        if encoding != "UTF8":
            rule = "must be a database in UTF8"
            raise InputError(shown(connection.engine.url), "", rule, encoding, "createdb --encoding UTF8 -T template0")


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", "server.decisions:migrations")
    return config


def _version(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _refuse_foreign(engine: Engine, version: str) -> None:
    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    if version not in known:
        rule = f"has the schema {version}, which this version does not know"
        raise InputError(shown(engine.url), "", rule, remedy="install the fedscore that upgraded it")


@contextmanager
def _told(engine: Engine) -> Iterator[None]:
    """Turns what the driver says into one line; secrets of the URL are not repeated."""
    try:
        yield
    except SQLAlchemyError as error:
        cause = str(getattr(error, "orig", None) or type(error).__name__).strip()
        line = cause.splitlines()[0] if cause else type(error).__name__
        secrets = [engine.url.password, *(v for v in engine.url.query.values() if isinstance(v, str))]
        for secret in filter(None, secrets):
            line = line.replace(str(secret), "***")
        raise InputError(
            shown(engine.url), "", f"cannot be used ({line})", remedy="check URL, rights and server"
        ) from None
