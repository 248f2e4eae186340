"""What is said about a person can be closed for ever, and nobody opens it with another key."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event, insert, select, update

from model.inputs import InputError
from server.decisions import chain
from server.decisions.database import begin, scrub, snapshot
from server.decisions.store import Store
from server.decisions.tables import account, audit, batch, batch_row, decision, metadata, person_key, waiting
from server.decisions.vault import CannotUnseal, Forgotten, Vault, seal, unseal


@given(key=st.binary(min_size=32, max_size=32), text=st.binary(max_size=200), context=st.binary(max_size=50))
def test_what_was_sealed_opens_with_the_same_key_and_context_only(key: bytes, text: bytes, context: bytes) -> None:
    sealed = seal(key, text, context)
    assert unseal(key, sealed, context) == text
    assert seal(key, text, context) != sealed
    assert len(text) < 8 or text not in sealed
    for at in range(len(sealed)):
        with pytest.raises(CannotUnseal):
            unseal(key, sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :], context)
    for other in (bytes(32) if any(key) else b"1" * 32, key[::-1] if key != key[::-1] else b"2" * 32):
        with pytest.raises(CannotUnseal):
            unseal(other, sealed, context)
    with pytest.raises(CannotUnseal):
        unseal(key, sealed, context + b"x")


@pytest.mark.parametrize("sealed", [b"", b"\x01", b"\x01" + bytes(11), b"\x01" + bytes(12), b"{}", b"\x02" + bytes(60)])
def test_bytes_that_nobody_sealed_do_not_open(sealed: bytes) -> None:
    with pytest.raises(CannotUnseal):
        unseal(b"k" * 32, sealed, b"")


def test_a_vault_is_a_private_file_that_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "a.vault"
    made = Vault.create(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert Vault.open(path).fingerprint() == made.fingerprint()
    assert made.fingerprint() not in path.read_text()
    with pytest.raises(InputError, match=r"a\.vault: exists already"):
        Vault.create(path)
    with pytest.raises(InputError, match="cannot be written"):
        Vault.create(tmp_path / "nowhere" / "a.vault")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660])
def test_a_vault_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "a.vault"
    Vault.create(path)
    path.chmod(mode)
    with pytest.raises(InputError, match="may be read by others than its owner; run `chmod 600`"):
        Vault.open(path)


@pytest.mark.parametrize("text", ["", "fedscore vault 1\nabc\n", f"fedscore vault 2\n{'a' * 64}\n", "a" * 64])
def test_a_file_that_is_no_vault_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.vault"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(InputError, match="is no vault") as raised:
        Vault.open(path)
    assert "a" * 64 not in str(raised.value)
    with pytest.raises(InputError, match="does not exist"):
        Vault.open(tmp_path / "other")


def test_a_person_has_one_key_and_persons_have_different_ones(store: Store, person: Callable[[int], str]) -> None:
    with begin(store.engine) as connection:
        with pytest.raises(Forgotten):
            store.vault.key_of(connection, person(1))
        first = store.vault.key_of(connection, person(1), create=True)
        assert store.vault.key_of(connection, person(1), create=True) == first
        assert store.vault.key_of(connection, person(2), create=True) != first
        wrapped = connection.execute(select(person_key.c.wrapped)).scalars().all()
    assert len(first) == 32
    assert not any(first in row for row in wrapped)


def test_another_vault_opens_nothing_and_is_refused_at_the_start(store: Store, tmp_path: Path, person: Any) -> None:
    with begin(store.engine) as connection:
        chain.append(connection, store.vault, "event", person(1), {"n": 1})
    other = Vault.create(tmp_path / "other.vault")
    with snapshot(store.engine) as connection, pytest.raises(CannotUnseal):
        other.key_of(connection, person(1))
    with snapshot(store.engine) as connection, pytest.raises(chain.ChainBroken, match="record 2 does not open"):
        chain.verify(connection, other)
    url = store.engine.url.render_as_string(hide_password=False)
    for create in (True, False):
        with pytest.raises(InputError, match=r"other\.vault: is not the vault of this database"):
            Store.open(url, other.path, create=create)
    with pytest.raises(InputError, match=r"lost\.vault: does not exist; give the one"):
        Store.open(url, tmp_path / "lost.vault", create=True)
    assert not (tmp_path / "lost.vault").exists()


def test_wrapped_keys_cannot_be_exchanged_between_persons(store: Store, person: Callable[[int], str]) -> None:
    with begin(store.engine) as connection:
        store.vault.key_of(connection, person(1), create=True)
        store.vault.key_of(connection, person(2), create=True)
    with begin(store.engine) as connection:
        query = select(person_key.c.wrapped).where(person_key.c.subject_ref == person(1))
        stolen = connection.execute(query).scalar_one()
        connection.execute(update(person_key).where(person_key.c.subject_ref == person(2)).values(wrapped=stolen))
        with pytest.raises(CannotUnseal):
            store.vault.key_of(connection, person(2))


def test_a_key_is_read_once_in_a_transaction_and_gone_with_an_erasure_in_it(store: Store, person: Any) -> None:
    asked: list[str] = []
    event.listen(store.engine, "before_cursor_execute", lambda *told: asked.append(told[2]))
    with begin(store.engine) as connection:
        for number in range(5):
            chain.append(connection, store.vault, "event", person(1), {"n": number})
        before = store.vault.key_of(connection, person(1))
        chain.erase(connection, store.vault, person(1), "ann")
        with pytest.raises(Forgotten):
            store.vault.key_of(connection, person(1))
        assert store.vault.key_of(connection, person(1), create=True) != before
    assert sum(statement.startswith("SELECT person_key") for statement in asked) == 2


def test_an_erased_person_is_gone_from_every_table_and_the_chain_holds(
    store: Store, person: Callable[[int], str], decide: Any, verified: Any
) -> None:
    decide(store, 1)
    decide(store, 2)
    with begin(store.engine) as connection:
        seq = chain.append(connection, store.vault, "event", person(1), {"n": 1}).seq
        rows = {"batch_id": "b", "caller": "x", "state": "open", "rows": 2, "at": "", "seq": seq}
        connection.execute(insert(batch), rows)
        for number in (1, 2):
            connection.execute(insert(account), {"subject_ref": person(number), "state": b"\x01"})
            connection.execute(insert(waiting), {"subject_ref": person(number), "due_at": "x"})
            row = {"batch_id": "b", "line": number, "subject_ref": person(number), "body": b"\x01"}
            connection.execute(insert(batch_row), row)
    before = verified(store)
    with begin(store.engine) as connection:
        assert chain.erase(connection, store.vault, person(1), "ann") == 2
    assert scrub(store.engine)
    after = verified(store, since=before.head, expect_head=before.head)
    assert (after.count, verified(store).erased, verified(store).count) == (1, 2, before.count + 1)
    with snapshot(store.engine) as connection:
        for table in (t for t in metadata.sorted_tables if "subject_ref" in t.c):
            left = set(connection.execute(select(table.c.subject_ref)).scalars())
            assert person(1) not in left
        assert person(2) in left
        erased, other = chain.read(connection, store.vault, 2), chain.read(connection, store.vault, 3)
        assert connection.execute(select(decision.c.subject_ref).where(decision.c.seq == 2)).scalar_one() is None
        assert list(chain.records(connection, store.vault, subject_ref=person(1))) == []
    assert erased is not None
    assert (erased.text, erased.subject_ref, erased.kind) == (None, None, "decision")
    with pytest.raises(Forgotten):
        _ = erased.body
    assert other is not None
    assert other.body["request"]["note"] == "the plain words of person 2"


def test_nothing_of_an_erased_person_is_in_the_files(sqlite_store: Store, decide: Any, person: Any) -> None:
    store = sqlite_store
    for number in range(1, 120):
        decide(store, number)
    with snapshot(store.engine) as connection:
        rows = connection.execute(select(person_key.c.subject_ref, person_key.c.wrapped)).all()
    wrapped = {row.subject_ref: row.wrapped for row in rows}
    url = store.engine.url.database or ""
    assert person(7).encode() in _files(url)
    for number in range(1, 120, 2):
        with begin(store.engine) as connection:
            chain.erase(connection, store.vault, person(number), "ann")
    assert scrub(store.engine)
    found = _files(url)
    for number in range(1, 120):
        gone = number % 2 == 1
        assert (person(number).encode() not in found) == gone
        assert (wrapped[person(number)] not in found) == gone
    assert b"the plain words" not in found


def test_an_erasure_that_a_reader_holds_up_says_so_and_succeeds_later(sqlite_store: Store, person: Any) -> None:
    store = sqlite_store
    with begin(store.engine) as connection:
        chain.append(connection, store.vault, "event", person(1), {})
    with snapshot(store.engine) as reader:
        reader.execute(select(audit.c.seq)).all()
        with begin(store.engine) as connection:
            chain.erase(connection, store.vault, person(1), "ann")
        assert scrub(store.engine) is False
    assert scrub(store.engine) is True
    assert person(1).encode() not in _files(store.engine.url.database or "")


def test_another_process_that_knew_the_key_makes_a_new_one_after_an_erasure(
    store: Store, tmp_path: Path, person: Callable[[int], str], verified: Any
) -> None:
    """Two stores on one database, as two processes have them."""
    other = Store.open(store.engine.url.render_as_string(hide_password=False), tmp_path / "limits.vault")
    with begin(other.engine) as connection:
        chain.append(connection, other.vault, "event", person(1), {"n": 1})
        before = other.vault.key_of(connection, person(1))
    with begin(store.engine) as connection:
        chain.erase(connection, store.vault, person(1), "ann")
    with begin(other.engine) as connection:
        with pytest.raises(Forgotten):
            other.vault.key_of(connection, person(1))
        chain.append(connection, other.vault, "event", person(1), {"n": 2})
        assert other.vault.key_of(connection, person(1)) != before
        assert [r.seq for r in chain.records(connection, other.vault, subject_ref=person(1))] == [4]
    other.close()
    assert verified(store).erased == 1


def _files(database: str) -> bytes:
    return b"".join(Path(database + end).read_bytes() for end in ("", "-wal") if os.path.exists(database + end))
