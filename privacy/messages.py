"""The signed envelope of every message: who sends what to whom, in which run, as which of its messages.

A header names the protocol's version, the run, the round, the stage, sender and receiver, the sender's sequence number
and the SHA-256 of all content. Its canonical JSON is signed with the sender's Ed25519 key. A reply's header names the
digest of the order that it answers, so no reply fits another order. The receiver keeps the highest number that it
accepted: no clock is needed to refuse what comes twice, late, or out of order.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from privacy.envelope import SealBroken
from privacy.signing import check, sign

VERSION = 1
COORDINATOR = "coordinator"  # its name as sender and receiver
LONGEST = 1_000_000  # characters of a header; a longer one is not read
_CONTEXT = f"message-{VERSION}"


@dataclass(frozen=True)
class Header:
    """What is signed of a message.

    Attributes:
        run: the transport's name of the run.
        stage: the kind of message.
        sequence: the sender's own count, over all runs; a reply has that of its order.
        content: SHA-256 of everything else in the message, hexadecimal.
        answers: SHA-256 of the header of the order that a reply answers; empty in an order.
        log: where the transparency log stands: an order's checkpoint and proofs, a reply's cosignature.
    """

    run: str
    round: int
    stage: str
    sender: str
    receiver: str
    sequence: int
    content: str
    answers: str = ""
    log: Mapping[str, Any] = field(default_factory=dict)

    def text(self) -> str:
        """The canonical JSON: the bytes that are signed."""
        return json.dumps({"version": VERSION, **vars(self)}, sort_keys=True, separators=(",", ":"))

    @classmethod
    def of(cls, text: str) -> Header:
        """The header of exactly such a text; raises `SealBroken` where it is none."""
        if len(text) > LONGEST:
            raise SealBroken(f"a header has more than {LONGEST:,} characters")
        try:
            told = json.loads(text)
        except (ValueError, RecursionError):
            told = None
        if not isinstance(told, dict) or told.pop("version", None) != VERSION or set(told) != _FIELDS:
            raise SealBroken("a message has no header of this version")
        if any(type(told[name]) is not kind for name, kind in _KINDS.items()):
            raise SealBroken("a header has a field of another type")
        made = cls(**told)
        if made.text() != text:
            raise SealBroken("a header is not in canonical form")
        return made


_KINDS = {"run": str, "round": int, "stage": str, "sender": str, "receiver": str, "sequence": int}
_KINDS |= {"content": str, "answers": str, "log": dict}
_FIELDS = {f.name for f in fields(Header)}


def digest(text: str) -> str:
    """SHA-256 of a header, 64 hexadecimal digits: what its answer names."""
    return hashlib.sha256(text.encode()).hexdigest()


def signed(header: Header, signing_key: bytes) -> bytes:
    """The signature of a header, 64 bytes.

    >>> from privacy.signing import new_signing_key, verify_key
    >>> key = new_signing_key()
    >>> header = Header("1", 0, "query.describe", "coordinator", "pay-1", 1, "0" * 64)
    >>> opened(header.text(), signed(header, key), verify_key(key)) == header
    True
    """
    return sign(signing_key, header.text().encode(), _CONTEXT)


def opened(text: str, signature: bytes, verify: bytes) -> Header:
    """The header that the owner of `verify` signed; its signature is checked before it is read.

    Raises:
        SealBroken: where it is longer than `LONGEST`, signed by another key, changed, or no header.
    """
    if len(text) > LONGEST:
        raise SealBroken(f"a header has more than {LONGEST:,} characters")
    try:
        told = text.encode()
    except UnicodeEncodeError:
        raise SealBroken("a header is not valid text") from None
    check(verify, signature, told, _CONTEXT)
    return Header.of(text)
