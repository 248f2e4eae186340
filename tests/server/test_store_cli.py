"""The commands of the operator, and the keys and partners that they make."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from sqlalchemy import select, text
from typer.testing import CliRunner

from model.inputs import InputError
from server.decisions import api_keys, chain, partners, store_cli
from server.decisions.api_keys import ApiKeys, Caller
from server.decisions.database import begin, snapshot
from server.decisions.store import Store
from server.decisions.tables import api_key

KEY = "ab" * 32


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    """Runs a command in an empty folder: exit code, stdout, stderr; bad input is code 2, as in `fedscore`."""
    app = typer.Typer()
    groups = {"database": store_cli.database, "keys": store_cli.keys, "partners": store_cli.partners}
    for name, group in {**groups, "audit-log": store_cli.audit_log}.items():
        app.add_typer(group, name=name)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str, str]:
        ended = CliRunner().invoke(app, [*map(str, arguments)])
        if isinstance(ended.exception, InputError):
            return 2, ended.stdout, str(ended.exception)
        assert ended.exception is None or isinstance(ended.exception, SystemExit), ended.exception
        return ended.exit_code, ended.stdout, ended.stderr

    return run


def opened(tmp_path: Path) -> Store:
    return Store.open(f"sqlite:///{tmp_path / 'limits.db'}")


def test_the_first_key_makes_database_and_vault_and_its_token_works(command: Any, tmp_path: Path) -> None:
    code, out, err = command("keys", "add", "front-end", "--role", "service")
    assert (code, err) == (0, "the token is shown this once; only its hash is kept\n")
    token = out.strip()
    assert re.fullmatch(r"fs_[A-Za-z0-9_-]{43}", token)
    assert {p.name for p in tmp_path.iterdir()} >= {"limits.db", "limits.vault"}
    store = opened(tmp_path)
    assert ApiKeys(store.engine).authenticate(token) == Caller("front-end", "service")
    store.close()
    everything = b"".join(p.read_bytes() for p in tmp_path.iterdir())
    assert token.encode() not in everything
    code, out, _ = command("keys", "list")
    assert code == 0
    assert "front-end" in out
    assert token not in out


def test_every_administrative_act_is_a_record(command: Any, tmp_path: Path) -> None:
    command("keys", "add", "ann", "--role", "officer")
    command("partners", "add", "pay-1", "--domain", "payments", "--public-key", KEY)
    command("keys", "add", "feed", "--role", "partner", "--partner", "pay-1")
    assert command("keys", "revoke", "ann")[:2] == (0, "ann: revoked\n")
    assert command("partners", "revoke", "pay-1")[:2] == (0, "pay-1: revoked\n")
    store = opened(tmp_path)
    with snapshot(store.engine) as connection:
        records = list(chain.records(connection, store.vault, after=1))
    store.close()
    assert [r.kind for r in records] == ["key_added", "partner_added", "key_added", "key_revoked", "partner_revoked"]
    assert all(record.body["by"] == "command line" for record in records)
    assert records[2].body == {"by": "command line", "name": "feed", "partner": "pay-1", "role": "partner"}
    code, out, _ = command("audit-log", "verify")
    assert (code, "6 records, 0 of erased persons" in out) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("keys", "add", "x", "--role", "boss"), "key: role must be one of applicant, service, officer"),
        (("keys", "add", "x", "--role", "applicant"), "key: role must not be applicant: an applicant has a link"),
        (("keys", "add", "a b", "--role", "admin"), "key: name must be 1 to 100 of"),
        (("keys", "add", "x", "--role", "partner"), "key: partner must be given for the role partner"),
        (("keys", "add", "x", "--role", "admin", "--partner", "p"), "key: partner must be given for the role partner"),
        (("keys", "add", "x", "--role", "partner", "--partner", "nobody"), "key: partner is not registered"),
        (("keys", "add", "ann", "--role", "admin"), "key: name was used already, got 'ann'"),
        (("keys", "revoke", "nobody"), "key: name is not in force"),
        (("partners", "add", "p", "--domain", "Pay", "--public-key", KEY), "partner: domain must be a lower_snake"),
        (("partners", "add", "p", "--domain", "pay", "--public-key", "abc"), "partner: public_key must be 64 lower"),
        (("partners", "revoke", "nobody"), "partner: name is not registered"),
        (("audit-log", "verify", "--expect", "x"), "head: must be a record's number"),
        (("audit-log", "verify", "sqlite:///other.db"), "other.db: does not exist"),
        (("audit-log", "verify", "--vault", "other.vault"), "other.vault: does not exist"),
        (("keys", "list", "--database", "sqlite:///other.db"), "other.db: does not exist"),
        (("database", "upgrade", "mysql://h/x"), "must be SQLite or PostgreSQL"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(command: Any, tmp_path: Path, arguments: Any, told: str) -> None:
    command("keys", "add", "ann", "--role", "officer")
    before = command("audit-log", "head")[1]
    code, _, err = command(*arguments)
    assert (code, told in err, "\n" in err.strip()) == (2, True, False), err
    assert command("audit-log", "head")[1] == before
    assert not (tmp_path / "other.db").exists()


def test_verify_names_the_broken_record_and_ends_with_one(command: Any, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        command("keys", "add", name, "--role", "auditor")
    head = command("audit-log", "head")[1].strip()
    code, out, err = command("audit-log", "verify", "--expect", head)
    assert (code, err) == (0, "")
    assert f"sound, 4 records, 0 of erased persons, head {head}" in out
    (tmp_path / "limits.vault").rename(tmp_path / "away")
    code, _, err = command("audit-log", "verify")
    assert (code, "no record was opened" in err) == (0, True)
    later = f"5:{'a' * 64}"
    assert command("audit-log", "verify", "--expect", later)[0::2] == (
        1,
        "fedscore: record 5 is missing; restore a good copy\n",
    )
    (tmp_path / "away").rename(tmp_path / "limits.vault")
    store = opened(tmp_path)
    with begin(store.engine) as connection:
        connection.execute(text("UPDATE audit SET kind = 'key_addad' WHERE seq = 3"))
    store.close()
    code, out, err = command("audit-log", "verify")
    assert (code, out, err) == (1, "", "fedscore: record 3 was changed; restore a good copy\n")


def test_upgrade_makes_an_empty_database_on_either_kind(command: Any, url: str) -> None:
    for _ in range(2):
        code, out, _ = command("database", "upgrade", url)
        assert (code, "up to date" in out) == (0, True)
    code, out, _ = command("audit-log", "verify", url)
    assert (code, "sound, 0 records" in out) == (0, True)
    assert command("keys", "add", "ann", "--role", "admin", "--database", url)[0] == 0
    assert command("audit-log", "head", url)[1].startswith("2:")


def test_a_revoked_key_stops_working_within_a_second(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("server.decisions.api_keys.time.monotonic", lambda: clock[0])
    with begin(store.engine) as connection:
        token = api_keys.create(connection, store.vault, {"name": "ann", "role": "officer"}, "test")
    keys = ApiKeys(store.engine)
    assert keys.authenticate(token) == Caller("ann", "officer")
    with begin(store.engine) as connection:
        api_keys.revoke(connection, store.vault, "ann", "test")
    clock[0] += api_keys.FRESH + 0.01
    assert keys.authenticate(token) is None
    with snapshot(store.engine) as connection:
        listed = api_keys.listed(connection)
    assert [(key.caller.name, key.revoked_at is not None) for key in listed] == [("ann", True)]
    with begin(store.engine) as connection, pytest.raises(InputError, match="is not in force"):
        api_keys.revoke(connection, store.vault, "ann", "test")


def test_only_the_whole_token_authenticates(store: Store) -> None:
    roles = [role for role in api_keys.ROLES if role not in ("applicant", "partner")]
    with begin(store.engine) as connection:
        tokens = [api_keys.create(connection, store.vault, {"name": role, "role": role}, "test") for role in roles]
        hashes = connection.execute(select(api_key.c.token_sha256)).scalars().all()
    keys = ApiKeys(store.engine)
    for role, token in zip(roles, tokens, strict=True):
        assert keys.authenticate(token) == Caller(role, role)  # type: ignore[arg-type]
        for wrong in (token[:-1], token + "x", token.upper(), "", "分", token.removeprefix("fs_")):
            assert keys.authenticate(wrong) is None
    assert all(keys.authenticate(digest) is None for digest in hashes)


def test_a_partner_is_registered_anew_with_another_key_only_after_it_was_revoked(store: Store) -> None:
    first = {"name": "pay-1", "domain": "payments", "public_key": KEY}
    with begin(store.engine) as connection:
        assert partners.add(connection, store.vault, first, "test").public_key == KEY
        with pytest.raises(InputError, match="is registered already"):
            partners.add(connection, store.vault, {**first, "public_key": "cd" * 32}, "test")
        partners.revoke(connection, store.vault, "pay-1", "test")
        assert partners.active(connection) == []
        partners.add(connection, store.vault, {**first, "public_key": "cd" * 32}, "test")
        assert [row.public_key for row in partners.active(connection)] == ["cd" * 32]


def test_the_commands_module_loads_nothing_heavy() -> None:
    heavy = "[m for m in ('sqlalchemy', 'alembic', 'cryptography') if m in sys.modules]"
    code = f"import sys, server.decisions.store_cli; print({heavy})"
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
