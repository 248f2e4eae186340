"""Keys of callers: who may ask what. Of a token only its hash is stored."""

from __future__ import annotations

import hmac
import secrets
import time
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal, get_args

from sqlalchemy import Connection, Engine, select, update

from model.inputs import InputError
from model.limits.fields import Label, read
from server.decisions import chain, partners
from server.decisions.database import snapshot
from server.decisions.tables import api_key
from server.decisions.vault import Vault

Role = Literal["applicant", "service", "officer", "reviewer", "auditor", "admin", "partner"]
ROLES: tuple[str, ...] = get_args(Role)
FRESH = 1.0  # seconds for which the keys are remembered: a revoked one works no longer than that


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: a key's name and role; `partner` is whose sub-scores a caller of that role may send."""

    name: Label
    role: Role
    partner: Label | None = None


@dataclass(frozen=True, slots=True)
class Key:
    """A key as it is listed."""

    caller: Caller
    created_at: str
    revoked_at: str | None


class ApiKeys:
    """The keys in force, read from the database at most once in `FRESH` seconds; for any number of threads."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._read_at, self._known = float("-inf"), list[tuple[str, Caller]]()

    def authenticate(self, token: str) -> Caller | None:
        """Who sent the token; None for an unknown or revoked one. The time it takes does not tell how near it was."""
        if time.monotonic() - self._read_at > FRESH:
            self._refresh()
        digest, found = _digest(token), None
        for known, caller in self._known:
            if hmac.compare_digest(known, digest):
                found = caller
        return found

    def _refresh(self) -> None:
        query = select(api_key.c.token_sha256, api_key.c.name, api_key.c.role, api_key.c.partner)
        began = time.monotonic()
        with snapshot(self._engine) as connection:
            rows = connection.execute(query.where(api_key.c.revoked_at.is_(None))).all()
        self._known = [(digest, Caller(*caller)) for digest, *caller in rows]
        self._read_at = began


def create(connection: Connection, vault: Vault, data: dict[str, str | None], by: str) -> str:
    """Makes a key.

    Args:
        connection: writes.
        vault: of the chain.
        data: name, role and, for that role, partner.
        by: who does it.

    Returns:
        The token, which is stored nowhere.

    Raises:
        InputError: names the field that is wrong; a name is never used twice, so that records stay clear.
    """
    caller = read(Caller, data, "key")
    if caller.role == "applicant":  # a key would show everybody
        remedy = "ask POST /v1/decisions/ID/link for a link"
        raise InputError("key", "role", "must not be applicant: an applicant has a link, never a key", remedy=remedy)
    if (caller.role == "partner") != (caller.partner is not None):
        raise InputError("key", "partner", "must be given for the role partner, and only for it", caller.partner)
    known = [row.name for row in partners.active(connection)]
    if caller.partner is not None and caller.partner not in known:
        raise InputError("key", "partner", "is not registered", caller.partner, "run `fedscore partners add` first")
    if connection.execute(select(api_key.c.name).where(api_key.c.name == caller.name)).first():
        raise InputError("key", "name", "was used already", caller.name, "give another name")
    token = "fs_" + secrets.token_urlsafe(32)
    said = {"name": caller.name, "partner": caller.partner, "role": caller.role}
    record = chain.append(connection, vault, "key_added", None, {**said, "by": by})
    row = {**said, "token_sha256": _digest(token), "created_at": record.at, "revoked_at": None, "seq": record.seq}
    connection.execute(api_key.insert(), row)
    return token


def revoke(connection: Connection, vault: Vault, name: str, by: str) -> None:
    """Ends a key; raises `InputError` where none of that name is in force."""
    active = (api_key.c.name == name) & api_key.c.revoked_at.is_(None)
    if connection.execute(select(api_key.c.name).where(active)).first() is None:
        raise InputError("key", "name", "is not in force", name, "see `fedscore keys list`")
    record = chain.append(connection, vault, "key_revoked", None, {"by": by, "name": name})
    connection.execute(update(api_key).where(active).values(revoked_at=record.at, seq=record.seq))


def listed(connection: Connection) -> list[Key]:
    """All keys, revoked ones too, by name."""
    columns = (api_key.c.name, api_key.c.role, api_key.c.partner, api_key.c.created_at, api_key.c.revoked_at)
    rows = connection.execute(select(*columns).order_by(api_key.c.name))
    return [Key(Caller(name, role, partner), created, revoked) for name, role, partner, created, revoked in rows]


def _digest(token: str) -> str:
    return sha256(token.encode()).hexdigest()
