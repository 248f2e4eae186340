"""Partners who may send signed sub-scores: each for one domain, with one public key."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, select, update

from model.inputs import InputError
from model.limits.fields import Label, Name, Sha256, read
from server.decisions import chain
from server.decisions.tables import partner
from server.decisions.vault import Vault


@dataclass(frozen=True, slots=True)
class Partner:
    """A partner; `public_key` is Ed25519, in 64 hexadecimal digits."""

    name: Label
    domain: Name
    public_key: Sha256


def add(connection: Connection, vault: Vault, data: dict[str, str], by: str) -> Partner:
    """Registers a partner, or one that was revoked anew, with another key.

    Args:
        connection: writes.
        vault: of the chain.
        data: name, domain and public_key.
        by: who does it.

    Raises:
        InputError: names the field that is wrong, or a partner that is there.
    """
    new = read(Partner, data, "partner")
    known = connection.execute(select(partner).where(partner.c.name == new.name)).first()
    if known is not None and known.revoked_at is None:
        raise InputError("partner", "name", "is registered already", new.name, "revoke it first")
    record = chain.append(connection, vault, "partner_added", None, {**data, "by": by})
    row = {"added_at": record.at, "revoked_at": None, "seq": record.seq, **data}
    if known is None:
        connection.execute(partner.insert(), row)
    else:
        connection.execute(update(partner).where(partner.c.name == new.name).values(row))
    return new


def revoke(connection: Connection, vault: Vault, name: str, by: str) -> None:
    """Takes nothing more from a partner; raises `InputError` where there is none of that name."""
    active = (partner.c.name == name) & partner.c.revoked_at.is_(None)
    if connection.execute(select(partner.c.name).where(active)).first() is None:
        raise InputError("partner", "name", "is not registered", name, "see `fedscore partners list`")
    record = chain.append(connection, vault, "partner_revoked", None, {"by": by, "name": name})
    connection.execute(update(partner).where(active).values(revoked_at=record.at, seq=record.seq))


def active(connection: Connection) -> list[Partner]:
    """All partners that may send, by name."""
    query = select(partner.c.name, partner.c.domain, partner.c.public_key).where(partner.c.revoked_at.is_(None))
    return [Partner(*row) for row in connection.execute(query.order_by(partner.c.name))]
