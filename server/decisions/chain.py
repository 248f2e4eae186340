"""The audit chain: every write appends a record whose hash covers the record before it.

A record about a person is sealed under that person's key. After an erasure it stays, unreadable, and the chain still
holds. What is on the chain shows every later change; records cut off at its end show only against a head that somebody
else keeps (`expect_head`). With the vault, `verify` also opens every record and compares `decision` with it.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, Table, bindparam, func, select, type_coerce, update
from sqlalchemy.exc import DatabaseError
from sqlalchemy.types import NullType

from model.inputs import InputError
from model.limits.fields import canonical, joined
from server.decisions.records import INDEX, ChainBroken, Head, Record, Verified, continued, hash_of, opened, sealed
from server.decisions.tables import audit, chain_head, decision, person_key, stamp
from server.decisions.vault import SEALED, Vault, forget, innermost

__all__ = [
    "ChainBroken",
    "Head",
    "Record",
    "Verified",
    "append",
    "append_decision",
    "bind",
    "check_vault",
    "erase",
    "head",
    "lock",
    "read",
    "records",
    "verify",
]

OPENED, DECIDED, ERASED = "opened", "decision", "erased"
_HELD = "head of the chain"  # of connection.info: the transaction, and the head as it is in it
_STREAM = {"yield_per": 2000}
_COLUMNS = [type_coerce(column, NullType()) for column in audit.c]  # as the driver gives them: a changed type shows
_SEARCHED = [column.name for column in decision.c if column.name != "seq"]
_NAMES = audit.c.keys()
_INSERT, _DECIDE = audit.insert(), decision.insert()  # statements that every write needs are made once
_MOVE = (
    update(chain_head)
    .where(chain_head.c.seq == bindparam("before"))
    .values(seq=bindparam("after"), record_sha256=bindparam("digest"))
)
_HEAD = select(chain_head.c.seq, chain_head.c.record_sha256)
_LOCK = _HEAD.with_for_update()


def bind(connection: Connection, vault: Vault) -> None:
    """Begins an empty chain with a record that names the vault; raises `InputError` where it names another one."""
    if lock(connection).seq == 0:
        append(connection, vault, OPENED, None, {"vault": vault.fingerprint()})
    check_vault(connection, vault)


def check_vault(connection: Connection, vault: Vault) -> None:
    """Raises `InputError` where the chain was begun with another vault."""
    first = read(connection, vault, 1)
    if first is not None and first.kind == OPENED and first.body["vault"] != vault.fingerprint():
        raise InputError(vault.path, "", "is not the vault of this database", remedy="give the one it was made with")


def head(connection: Connection) -> Head:
    """The last record, for who only reads."""
    return _head(connection.execute(_HEAD).first())


def lock(connection: Connection) -> Head:
    """The last record, for who writes: nobody else appends before this transaction ends. Read once a transaction."""
    transaction, held = connection.info.get(_HELD, (None, None))
    if isinstance(held, Head) and transaction is innermost(connection):
        return held
    found = _head(connection.execute(_LOCK).first())
    connection.info[_HELD] = innermost(connection), found
    return found


def append(
    connection: Connection,
    vault: Vault,
    kind: str,
    subject_ref: str | None,
    body: Mapping[str, Any],
    at: datetime | None = None,
) -> Record:
    """Adds a record, in a transaction of `database.begin` or of the writer.

    Args:
        connection: whose transaction keeps it, or not.
        vault: has the person's key, or makes it.
        kind: what is recorded, for example `decision`.
        subject_ref: whom it is about; None leaves the body in clear.
        body: has a canonical form (`model.limits.fields.canonical`).
        at: now, by default.
    """
    parts = {name: canonical(value) for name, value in body.items()}
    last, text, time = lock(connection), joined(parts), stamp(at)
    seq, stored = last.seq + 1, text
    if subject_ref is not None:
        key = vault.key_of(connection, subject_ref, create=True)
        stored = sealed(key, text, (seq, kind, time, subject_ref))
    digest = hash_of(last.record_sha256, seq, kind, time, stored)
    row = (seq, kind, time, subject_ref, stored, last.record_sha256, digest)
    connection.execute(_INSERT, dict(zip(_NAMES, row, strict=True)))
    if connection.execute(_MOVE, {"before": last.seq, "after": seq, "digest": digest}).rowcount != 1:
        raise RuntimeError("the chain was continued by somebody else within this transaction")
    connection.info[_HELD] = innermost(connection), Head(seq, digest)
    return Record(seq, kind, time, subject_ref, text, last.record_sha256, digest, parts)


def append_decision(connection: Connection, vault: Vault, row: Mapping[str, Any], body: Mapping[str, Any]) -> Record:
    """Adds a decision's record and its row in `decision`; the record repeats the row under `index`.

    Args:
        connection: as for `append`.
        vault: as for `append`.
        row: all columns of `decision` but `seq`.
        body: the decision's request, state, output and whatever a replay needs.
    """
    record = append(connection, vault, DECIDED, row["subject_ref"], {**body, INDEX: row})
    connection.execute(_DECIDE, {**row, "seq": record.seq})
    return record


def erase(connection: Connection, vault: Vault, subject_ref: str, by: str) -> int:
    """Destroys the person's key, clears the person from every table, and records how many records that closed.

    Call `database.scrub` after the commit. Raises `Forgotten` where there is no such person.
    """
    lock(connection)
    vault.key_of(connection, subject_ref)
    count = _count(connection, audit, audit.c.subject_ref == subject_ref)
    forget(connection, subject_ref)
    append(connection, vault, ERASED, None, {"by": by, "records": count})
    return count


def read(connection: Connection, vault: Vault, seq: int) -> Record | None:
    """One record, if there is one; raises `ChainBroken` where it does not fit its own hash or key."""
    row = connection.execute(_joined().where(audit.c.seq == seq)).first()
    return None if row is None else opened(row, vault)


def records(connection: Connection, vault: Vault, subject_ref: str | None = None, after: int = 0) -> Iterator[Record]:
    """All records after number `after`, or those about one person, oldest first; each is checked as by `read`."""
    query = _joined().where(audit.c.seq > after).order_by(audit.c.seq)
    if subject_ref is not None:
        query = query.where(audit.c.subject_ref == subject_ref)
    with connection.execute(query, execution_options=_STREAM) as found:
        for row in found:
            yield opened(row, vault)


def verify(
    connection: Connection, vault: Vault | None = None, since: Head | None = None, expect_head: Head | None = None
) -> Verified:
    """Checks the chain in one pass and bounded memory; `database.snapshot` gives a connection to do it with.

    Args:
        connection: only reads.
        vault: opens every record, and compares each row of `decision` with its record.
        since: a head up to which the chain was verified before.
        expect_head: a head kept elsewhere, which must be on the chain.

    Raises:
        ChainBroken: names the first record that does not fit.
    """
    last = since or Head()
    _must_be_on(connection, last)
    count = erased = declared = decided = 0
    with closing(_rows(connection, last, vault)) as rows:
        for row in rows:
            last = continued(row, last)
            kind, _, subject_ref, body = row[1:5]
            count += 1
            erased += body[:1] == SEALED and subject_ref is None
            declared += json.loads(body)["records"] if kind == ERASED else 0
            decided += vault is not None and _agrees(row, vault)
    _must_be_on(connection, expect_head or last)
    if head(connection) != last:
        raise ChainBroken(last.seq + 1, f"is where the chain ends, but its head is record {head(connection).seq}")
    if since is None and erased != declared:
        raise ChainBroken(last.seq, f"ends a chain where {declared} records were erased but {erased} have no person")
    if since is None and vault is not None and decided != _count(connection, decision):
        raise ChainBroken(last.seq, "ends a chain that lacks some of the stored decisions")
    return Verified(count, erased, last)


def _head(row: Row[int, str] | None) -> Head:
    if row is None:
        raise ChainBroken(1, "begins a chain whose head is missing")
    return Head(*row)


def _rows(connection: Connection, after: Head, vault: Vault | None) -> Generator[Sequence[Any], None, None]:
    """The rows after a record: columns of the chain; with the vault also the wrapped key and the row of `decision`."""
    query = select(*_COLUMNS) if vault is None else _joined(*(decision.c[name] for name in _SEARCHED))
    query = query.where(audit.c.seq > after.seq).order_by(audit.c.seq)
    seq = after.seq
    try:
        with connection.execute(query, execution_options=_STREAM) as found:
            for row in found:
                seq = row[0]
                yield row
    except DatabaseError:
        if connection.dialect.name != "sqlite":
            raise  # a server that went away says nothing about the chain
        raise ChainBroken(seq + 1, "cannot be read") from None


def _joined(*more: Any) -> Select[Any]:
    """Records with their person's wrapped key; with columns of `decision`, also that record's row there."""
    source = audit.outerjoin(person_key, audit.c.subject_ref == person_key.c.subject_ref)
    if more:
        source = source.outerjoin(decision, audit.c.seq == decision.c.seq)
    columns: list[Any] = [*_COLUMNS, person_key.c.wrapped, *more]
    return select(*columns).select_from(source)


def _agrees(row: Sequence[Any], vault: Vault) -> bool:
    """Whether a record is a decision; its row in `decision` must say what it says, an erased one's name nobody."""
    record, found = opened(row, vault), dict(zip(_SEARCHED, row[8:], strict=True))
    decided = record.kind == DECIDED
    told = dict.fromkeys(found)
    if decided:
        told = {**found, "subject_ref": None} if record.text is None else record.body[INDEX]
    if told != found or decided != (found["decision_id"] is not None):
        raise ChainBroken(record.seq, "disagrees with its row in the table decision")
    return decided


def _must_be_on(connection: Connection, kept: Head) -> None:
    """Raises `ChainBroken` where a head that was kept is not on the chain."""
    digest = connection.scalar(select(audit.c.record_sha256).where(audit.c.seq == kept.seq))
    if digest != kept.record_sha256 and kept != Head():
        raise ChainBroken(kept.seq, "is missing" if digest is None else "is not the one that was kept")


def _count(connection: Connection, table: Table, *where: Any) -> int:
    return connection.execute(select(func.count()).select_from(table).where(*where)).scalar_one()
