"""Signatures: which holder sealed a packet, and which sealing key is whose, where the coordinator relays both.

Ed25519. Each message is signed with its context in front, whose length is told, so no signature fits another use. A
packet is signed, then sealed: the signature covers the receiver's key, so the receiver cannot pass it on as if it had
been for another, and nobody but the receiver sees it. A packet sent twice under one context is not noticed: a context
names its run and its purpose.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from privacy.envelope import SealBroken, new_key, public_key, seal, unseal

_RAW = (serialization.Encoding.Raw, serialization.PublicFormat.Raw)
_KEY, _SIGNATURE = 32, 64  # bytes
_PACKET, _BOUND = "fedscore-packet|", "fedscore-key|"


def coordinator_of(plan: str) -> str:
    """The coordinator's name towards holders in the run of one plan: its keys live no longer, and no pin may."""
    return f"coordinator|{plan}"


@dataclass(frozen=True)
class Keys:
    """One party's public keys, 32 bytes each: to seal for it, and to check what it signed."""

    seal: bytes
    verify: bytes


def new_signing_key() -> bytes:
    """A fresh private signing key, 32 bytes."""
    return new_key()


def verify_key(private: bytes) -> bytes:
    """The public key by which the signatures of `private` are checked, 32 bytes."""
    return Ed25519PrivateKey.from_private_bytes(private).public_key().public_bytes(*_RAW)


def seal_signed(receiver: bytes, signing_key: bytes, message: bytes, context: str) -> bytes:
    """`message` for the holder of `receiver`'s private key only, who can tell who sent it; 112 bytes longer.

    Args:
        receiver: its public sealing key, 32 bytes.
        signing_key: the sender's own, 32 bytes.
        message: of any length, which is all that the length of the result depends on.
        context: names run and purpose; must be the same on opening.

    >>> ours, theirs = new_signing_key(), new_key()
    >>> unseal_signed(theirs, verify_key(ours), seal_signed(public_key(theirs), ours, b"share", "run-1"), "run-1")
    b'share'
    """
    signature = sign(signing_key, _addressed(receiver, message), _PACKET + context)
    return seal(receiver, signature + message, context)


def unseal_signed(private: bytes, sender_verify_key: bytes, sealed: bytes, context: str) -> bytes:
    """The message inside `sealed`, as its sender signed it for us under this context.

    Raises:
        SealBroken: where it was altered, or is from another sender, for another receiver or under another context.
    """
    opened = unseal(private, sealed, context)
    signature, message = opened[:_SIGNATURE], opened[_SIGNATURE:]
    check(sender_verify_key, signature, _addressed(public_key(private), message), _PACKET + context)
    return message


def announcement(name: str, private: bytes, signing_key: bytes) -> dict[str, str]:
    """What a party tells about its keys, base64: `key` to seal for it, `verify`, and `bound`, which ties `key` to it.

    Args:
        name: the party's.
        private: its sealing key, 32 bytes.
        signing_key: its signing key, 32 bytes.
    """
    own = public_key(private)
    told = {"key": own, "verify": verify_key(signing_key), "bound": sign(signing_key, own, _BOUND + name)}
    return {field: base64.b64encode(value).decode() for field, value in told.items()}


def keys_of(name: str, told: Mapping[str, Any]) -> Keys:
    """The keys of an announcement, once its sealing key is seen to be signed for this name by its signing key.

    Whether that signing key is the party's own is for the caller to know.

    Raises:
        SealBroken: where it is not, or a field is no base64 of the right length.
        KeyError: where a field is missing.
    """
    try:
        key, verify, bound = (base64.b64decode(str(told[field]), validate=True) for field in ("key", "verify", "bound"))
    except ValueError:
        raise SealBroken(f"the keys of {name} are not base64") from None
    if len(key) != _KEY:
        raise SealBroken(f"the public key of {name} has the wrong length")
    check(verify, bound, key, _BOUND + name)
    return Keys(key, verify)


def _addressed(receiver: bytes, message: bytes) -> bytes:
    """What a packet's signature is over: the receiver's public key, of one length, and the message."""
    return receiver + message


def sign(signing_key: bytes, message: bytes, context: str) -> bytes:
    """The signature of a message under a context that names its use, 64 bytes."""
    return Ed25519PrivateKey.from_private_bytes(signing_key).sign(_in_context(message, context))


def check(verify: bytes, signature: bytes, message: bytes, context: str) -> None:
    """Raises `SealBroken` where a signature is not that of `verify` over this message under this context."""
    try:
        Ed25519PublicKey.from_public_bytes(verify).verify(signature, _in_context(message, context))
    except (InvalidSignature, ValueError):
        raise SealBroken("a signature does not fit: altered, or of another sender, receiver or use") from None


def _in_context(message: bytes, context: str) -> bytes:
    told = context.encode()
    return b"fedscore-sign-1|" + len(told).to_bytes(8, "big") + told + message
