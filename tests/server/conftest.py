"""What the tests of the decision service share: a store on SQLite and on a PostgreSQL server that they start."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, create_engine, text

from server.decisions import chain
from server.decisions.database import begin, open_database, snapshot, upgrade
from server.decisions.store import Store
from server.decisions.tables import bundle, policy

SERVER = "postgresql:///{}?host={}&user=postgres"
_numbers = count()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """A PostgreSQL server of this test session on a Unix socket: the socket's folder. It ends with the session."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        pytest.skip("PostgreSQL is not installed: only SQLite was tested")
    folder = Path(tempfile.mkdtemp(prefix="fedscore-pg-"))
    account: dict[str, Any] = {}
    if os.geteuid() == 0:  # the server refuses to run as root
        who = pwd.getpwnam("postgres")
        os.chown(folder, who.pw_uid, who.pw_gid)
        account = {"user": who.pw_uid, "group": who.pw_gid, "extra_groups": [], "cwd": folder}

    def run(name: str, *arguments: str) -> None:
        command = [str(found[-1].with_name(name)), "-D", str(folder / "data"), *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=300, **account)

    run("initdb", "--username=postgres", "--encoding=UTF8", "--locale=C", "--auth=trust", "--no-sync")
    options = f"-k {folder} -c listen_addresses='' -c fsync=off -c max_connections=100"
    run("pg_ctl", "-w", "-t", "300", "-l", str(folder / "log"), "-o", options, "start")
    try:
        yield str(folder)
    finally:
        run("pg_ctl", "-w", "-m", "immediate", "stop")
        shutil.rmtree(folder)


@pytest.fixture
def new_postgresql(postgresql: str) -> Iterator[Callable[..., str]]:
    """Makes an empty database on that server, and gives its URL."""
    engine = create_engine(
        SERVER.format("postgres", postgresql).replace(":", "+psycopg:", 1), isolation_level="AUTOCOMMIT"
    )
    made = []

    def make(options: str = "") -> str:
        made.append(f"t{os.getpid()}_{next(_numbers)}")
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {made[-1]} {options}"))
        return SERVER.format(made[-1], postgresql)

    yield make
    with engine.connect() as connection:
        for name in made:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database that is empty, or not there yet; every test that takes it runs on both kinds."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'limits.db'}"
    make: Callable[[], str] = request.getfixturevalue("new_postgresql")
    return make()


def _opened(url: str, folder: Path) -> Store:
    engine = open_database(url, create=True)
    upgrade(engine)
    engine.dispose()
    return Store.open(url, folder / "limits.vault", create=True)


@pytest.fixture
def new_store(url: str, tmp_path: Path) -> Store:
    """An empty store on SQLite and on PostgreSQL that its taker closes."""
    return _opened(url, tmp_path)


@pytest.fixture
def store(url: str, tmp_path: Path) -> Iterator[Store]:
    """An empty store on SQLite and on PostgreSQL: its chain has one record, which names the vault."""
    opened = _opened(url, tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def sqlite_store(tmp_path: Path) -> Iterator[Store]:
    """An empty store on SQLite, for what only a file can show."""
    opened = _opened(f"sqlite:///{tmp_path / 'limits.db'}", tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def person() -> Callable[[int], str]:
    """The pseudonym of person number n."""
    return lambda number: sha256(b"%d" % number).hexdigest()


@pytest.fixture
def decide(person: Callable[[int], str]) -> Callable[..., chain.Record]:
    """Stores a made-up decision about person number n, with the policy and the model that it names."""

    def make(store: Store, number: int, amount_fen: int = 50_000) -> chain.Record:
        with begin(store.engine) as connection:
            version, seq = "a" * 64, chain.lock(connection).seq
            if not connection.execute(policy.select()).first():
                rule = {"id": "p", "version": 1, "uploaded_by": "x", "approved_by": "[]", "state": "active"}
                connection.execute(policy.insert(), {"sha256": version, "at": "", "seq": seq, **rule})
                connection.execute(bundle.insert(), {"sha256": version, "bundle_id": "b", "at": "", "seq": seq})
            row = {
                "decision_id": f"decision-{seq}",
                "subject_ref": person(number),
                "as_of": "2026-11-23T01:00:00.000000Z",
                "decided_at": "2026-11-23T01:00:01.000000Z",
                "outcome": "TRIAL",
                "kind": "TRIAL",
                "amount_fen": amount_fen,
                "policy_sha256": version,
                "bundle_sha256": version,
                "parent_id": None,
                "reason": "request",
            }
            body = {"request": {"note": f"the plain words of person {number}"}}
            return chain.append_decision(connection, store.vault, row, body)

    return make


@pytest.fixture
def verified() -> Callable[..., chain.Verified]:
    """Verifies a store's chain with its vault, in a transaction of its own."""

    def verify(store: Store, **options: Any) -> chain.Verified:
        with snapshot(store.engine) as connection:
            return chain.verify(connection, store.vault, **options)

    return verify


@pytest.fixture
def changed() -> Callable[..., str]:
    """Runs SQL on a store's tables, verifies with the vault (or without), undoes it, and gives what `verify` said."""

    def attempt(store: Store, *statements: Any, vault: bool = True, **options: Any) -> str:
        with store.engine.connect() as connection, connection.begin() as transaction:
            _unchecked(connection)
            for statement in statements:
                connection.execute(text(statement) if isinstance(statement, str) else statement)
            try:
                chain.verify(connection, store.vault if vault else None, **options)
            except chain.ChainBroken as error:
                return str(error)
            finally:
                transaction.rollback()
        return ""

    return attempt


def _unchecked(connection: Connection) -> None:
    """Lets a test break references, as somebody with the file or the server in hand can."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SET LOCAL session_replication_role = replica"))
    else:
        connection.execute(text("PRAGMA defer_foreign_keys = ON"))
