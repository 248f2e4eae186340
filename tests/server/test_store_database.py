"""Databases are opened by URL, migrated once, and refused in one line where they are not ours."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, select, text
from sqlalchemy.exc import IntegrityError

from model.inputs import InputError
from server.decisions.database import begin, file_of, open_database, require_current, shown, snapshot, upgrade
from server.decisions.store import Store, vault_beside
from server.decisions.tables import audit, chain_head, metadata
from server.decisions.vault import Vault

ROOT = Path(__file__).resolve().parents[2]


def test_the_migrated_schema_is_that_of_the_tables(url: str) -> None:
    engine = open_database(url, create=True)
    upgrade(engine)
    upgrade(engine)
    require_current(engine)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        assert {*inspect(connection).get_table_names()} == {*metadata.tables, "alembic_version"}
        assert connection.execute(select(chain_head)).all() == [(1, 0, "0" * 64)]
    with pytest.raises(IntegrityError), begin(engine) as connection:
        connection.execute(chain_head.insert(), {"id": 2, "seq": 0, "record_sha256": ""})
    engine.dispose()


def test_processes_that_upgrade_at_once_make_one_schema(url: str) -> None:
    code = "import sys; from server.decisions import database as d; e = d.open_database(sys.argv[1], create=True); "
    command = [sys.executable, "-c", code + "d.upgrade(e); d.require_current(e)", url]
    started = [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    ended = [(process.communicate(timeout=300)[1], process.returncode) for process in started]
    assert ended == [("", 0)] * 4
    engine = open_database(url)
    with engine.connect() as connection:
        assert connection.execute(select(chain_head)).all() == [(1, 0, "0" * 64)]
    engine.dispose()


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("DELETE FROM alembic_version", "has no schema yet; run `fedscore database upgrade`"),
        ("UPDATE alembic_version SET version_num = '9999'", "has the schema 9999, which this version does not know"),
    ],
)
def test_a_schema_of_another_version_is_refused(store: Store, statement: str, told: str) -> None:
    with begin(store.engine) as connection:
        connection.execute(text(statement))
    with pytest.raises(InputError, match=told):
        require_current(store.engine)
    with pytest.raises(InputError, match=r"another program|does not know"):
        upgrade(store.engine)


def test_an_empty_database_is_told_to_be_upgraded_and_foreign_tables_are_left_alone(url: str) -> None:
    engine = open_database(url, create=True)
    with pytest.raises(InputError, match="has no schema yet; run `fedscore database upgrade`"):
        require_current(engine)
    with begin(engine) as connection:
        connection.execute(text("CREATE TABLE other (a INTEGER)"))
    with pytest.raises(InputError, match="holds tables of another program; give an empty database"):
        upgrade(engine)
    with engine.connect() as connection:
        assert inspect(connection).get_table_names() == ["other"]
    engine.dispose()


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("", "is not a database URL"),
        ("limits.db", "is not a database URL"),
        ("postgresql://ann:geheim@h:port/x", "is not a database URL"),
        ("mysql://ann:geheim@h/x", "must be SQLite or PostgreSQL, got 'mysql'"),
        ("postgresql+asyncpg://ann:geheim@h/x", "must be SQLite or PostgreSQL"),
        ("sqlite://", "must name a SQLite file"),
        ("sqlite:///:memory:", "must name a SQLite file"),
        ("sqlite:///a.db?mode=ro", "must name a SQLite file"),
        ("sqlite:////nowhere/limits.db", "/nowhere/limits.db: cannot be opened (No such file or directory)"),
        ("sqlite:////tmp", "/tmp: must be a file"),
        ("postgresql://ann:geheim@127.0.0.1:1/x", "postgresql://127.0.0.1:1/x: cannot be used"),
        ("postgresql://ann@127.0.0.1:1/x?password=geheim", "postgresql://127.0.0.1:1/x: cannot be used"),
        ("postgresql://ann:geheim@/x?host=/nowhere", "cannot be used"),
        ("postgresql://127.0.0.1:1/x?colour=1", "cannot be used"),
    ],
)
def test_a_url_that_does_not_work_is_one_line_without_its_secrets(url: str, told: str) -> None:
    with pytest.raises(InputError) as raised:
        open_database(url, create=True)
    line = str(raised.value)
    assert told in line
    assert "\n" not in line
    assert "geheim" not in line


@pytest.mark.parametrize("content", [b"x", b"not a database" * 100, b"SQLite format 3\x00" + b"\xff" * 2000])
def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "limits.db"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"limits\.db"):
        Store.open(f"sqlite:///{path}", create=True)
    assert path.read_bytes() == content
    assert not (tmp_path / "limits.vault").exists()


def test_a_missing_file_is_made_only_where_asked_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / "limits.db"
    with pytest.raises(InputError, match="does not exist; run `fedscore database upgrade`"):
        open_database(f"sqlite:///{path}")
    assert not path.exists()
    before = os.umask(0)
    try:
        store = Store.open(f"sqlite:///{path}", create=True)
        with begin(store.engine) as connection:
            connection.execute(select(audit.c.seq)).all()
        files = list(tmp_path.iterdir())
        assert {p.name for p in files} >= {"limits.db", "limits.db-wal", "limits.vault"}
        assert {p.stat().st_mode & 0o777 for p in files} == {0o600}
    finally:
        os.umask(before)
    store.close()


def test_every_connection_is_durable_and_overwrites_what_it_deletes(sqlite_store: Store) -> None:
    with sqlite_store.engine.connect() as one, sqlite_store.engine.connect() as two:
        for connection in (one, two):
            asked = {
                name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
                for name in ("journal_mode", "synchronous", "secure_delete", "foreign_keys", "busy_timeout")
            }
            assert asked == {
                "journal_mode": "wal",
                "synchronous": 2,
                "secure_delete": 1,
                "foreign_keys": 1,
                "busy_timeout": 30_000,
            }


def test_postgresql_is_durable_even_where_its_default_is_not(new_postgresql: Callable[..., str]) -> None:
    url = new_postgresql()
    engine = open_database(url)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        name = connection.execute(text("SELECT current_database()")).scalar_one()
        connection.execute(text(f"ALTER DATABASE {name} SET synchronous_commit = off"))
    engine.dispose()
    with engine.connect() as connection:
        assert connection.execute(text("SHOW synchronous_commit")).scalar_one() == "on"
    engine.dispose()


def test_postgresql_in_another_encoding_is_refused(new_postgresql: Callable[..., str]) -> None:
    url = new_postgresql("ENCODING 'SQL_ASCII' TEMPLATE template0")
    with pytest.raises(InputError, match="must be a database in UTF8, got 'SQL_ASCII'"):
        open_database(url)


def test_errors_of_the_database_do_not_show_what_was_written(store: Store, person: Callable[[int], str]) -> None:
    row = {"seq": 1, "kind": "k", "at": "a", "body": b"b", "prev_sha256": "p", "record_sha256": "r"}
    with pytest.raises(IntegrityError) as raised, begin(store.engine) as connection:
        connection.execute(audit.insert(), {**row, "subject_ref": person(1)})
    assert person(1) not in str(raised.value)


def test_a_snapshot_does_not_see_what_is_written_after_it(store: Store) -> None:
    with snapshot(store.engine) as reader:
        assert reader.execute(select(chain_head.c.seq)).scalar_one() == 1
        with begin(store.engine) as writer:
            writer.execute(chain_head.update().values(seq=7))
        assert reader.execute(select(chain_head.c.seq)).scalar_one() == 1
    with snapshot(store.engine) as reader:
        assert reader.execute(select(chain_head.c.seq)).scalar_one() == 7


def test_a_url_is_shown_without_secrets_and_a_vault_lies_beside_its_file() -> None:
    from sqlalchemy import make_url

    assert shown(make_url("postgresql+psycopg://a:b@h:1/x?password=c")) == "postgresql://h:1/x"
    assert vault_beside("sqlite:///state/limits.db") == Path("state/limits.vault")
    assert vault_beside("postgresql://h/x") == Path("limits.vault")
    assert file_of("postgresql://h/x") is None


def test_a_store_begins_once_and_is_opened_again(store: Store, tmp_path: Path) -> None:
    url = store.engine.url.render_as_string(hide_password=False)
    for create in (False, True):
        again = Store.open(url, tmp_path / "limits.vault", create=create)
        with snapshot(again.engine) as connection:
            assert connection.execute(select(audit.c.kind)).scalars().all() == ["opened"]
        assert again.vault.fingerprint() == store.vault.fingerprint()
        again.close()


def test_a_chain_of_somebody_elses_database_is_not_begun_without_being_asked(url: str, tmp_path: Path) -> None:
    engine = open_database(url, create=True)
    upgrade(engine)
    with pytest.raises(InputError, match=r"limits\.vault: does not exist"):
        Store.open(url, tmp_path / "limits.vault")
    with engine.connect() as connection:
        assert connection.execute(select(audit.c.seq)).all() == []
    engine.dispose()


@pytest.fixture
def powerless(tmp_path: Path) -> Iterator[None]:
    """Root writes anywhere, so as root this test acts as nobody."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    yield
    if root:
        os.seteuid(0)


@pytest.fixture
def read_only() -> Iterator[Path]:
    """A folder with an empty store, both of which may only be read."""
    folder = Path(tempfile.mkdtemp(prefix="fedscore-"))
    Store.open(f"sqlite:///{folder / 'limits.db'}", create=True).close()
    (folder / "limits.db").chmod(0o444)
    folder.chmod(0o555)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


def test_what_may_not_be_written_or_read_is_one_line(read_only: Path, powerless: None) -> None:
    for name, told in (("limits.db", "cannot be used"), ("new.db", "cannot be opened (Permission denied)")):
        with pytest.raises(InputError, match=re.escape(f"{name}: {told}")) as raised:
            Store.open(f"sqlite:///{read_only / name}", create=True)
        assert "\n" not in str(raised.value)
    with pytest.raises(InputError, match=r"limits\.vault: cannot be read"):
        Vault.open(read_only / "limits.vault")
