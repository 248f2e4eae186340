"""Links for applicants: a token that shows one person's decision, for half an hour, without an account or a key."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from server.decisions.vault import CannotUnseal, Vault, seal, unseal

PREFIX = "fa_"
VALID = timedelta(minutes=30)
_PURPOSE = "applicant link"


@dataclass(frozen=True, slots=True)
class Link:
    """What a token shows: one decision of one person, until `expires_at`."""

    decision_id: str
    subject_ref: str
    expires_at: datetime


def issue(vault: Vault, decision_id: str, subject_ref: str, now: datetime) -> tuple[str, Link]:
    """A token for the decision's person; nothing is stored, the vault's key vouches for it."""
    link = Link(decision_id, subject_ref, (now + VALID).replace(microsecond=0).astimezone(UTC))
    text = f"{link.decision_id}|{link.subject_ref}|{int(link.expires_at.timestamp())}".encode()
    sealed = seal(vault.derived(_PURPOSE), text, _PURPOSE.encode())
    return PREFIX + urlsafe_b64encode(sealed).decode().rstrip("="), link


def opened(vault: Vault, token: str, now: datetime) -> Link | None:
    """What a token shows; None for one that was not issued here, was changed, or has expired."""
    raw = token.removeprefix(PREFIX)
    try:
        sealed = urlsafe_b64decode(raw + "=" * (-len(raw) % 4))
        text = unseal(vault.derived(_PURPOSE), sealed, _PURPOSE.encode())
    except (ValueError, CannotUnseal):
        return None
    decision_id, subject_ref, until = text.decode().split("|")
    link = Link(decision_id, subject_ref, datetime.fromtimestamp(int(until), UTC))
    return link if now < link.expires_at else None
