"""Sealing for one receiver, so that the coordinator relays only ciphertext.

X25519 (an ephemeral key a message), HKDF-SHA256 bound to both public keys and the context, ChaCha20-Poly1305. The
receiver's key is announced through the coordinator: a coordinator that deviates from the protocol could swap it. By
itself this holds against a coordinator that only looks; `privacy.signing` adds who sent a packet and whose a key is.
"""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_RAW = (serialization.Encoding.Raw, serialization.PublicFormat.Raw)


class SealBroken(ValueError):
    """A sealed message that was altered, or is for another receiver or context; a signature or a key that is wrong."""


def new_key() -> bytes:
    """A fresh private key, 32 bytes."""
    return os.urandom(32)


def public_key(private: bytes) -> bytes:
    """The public key of `private`, 32 bytes."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes(*_RAW)


def seal(receiver: bytes, message: bytes, context: str) -> bytes:
    """`message` for the holder of `receiver`'s private key only; `context` must be the same on opening.

    >>> key = new_key()
    >>> unseal(key, seal(public_key(key), b"sub-scores", "run-1"), "run-1")
    b'sub-scores'
    """
    ephemeral = X25519PrivateKey.generate()
    own = ephemeral.public_key().public_bytes(*_RAW)
    shared = ephemeral.exchange(X25519PublicKey.from_public_bytes(receiver))
    return own + ChaCha20Poly1305(_derive(shared, own, receiver, context)).encrypt(bytes(12), message, own)


def unseal(private: bytes, sealed: bytes, context: str) -> bytes:
    """The message inside `sealed`; raises `SealBroken` where it is not for us, or was altered."""
    if len(sealed) < 48:
        raise SealBroken("a sealed message is too short")
    sender, body = sealed[:32], sealed[32:]
    try:
        shared = X25519PrivateKey.from_private_bytes(private).exchange(X25519PublicKey.from_public_bytes(sender))
        key = _derive(shared, sender, public_key(private), context)
        return ChaCha20Poly1305(key).decrypt(bytes(12), body, sender)
    except (InvalidTag, ValueError):
        raise SealBroken("a sealed message cannot be opened: altered, or for another receiver") from None


def _derive(shared: bytes, sender: bytes, receiver: bytes, context: str) -> bytes:
    info = b"fedscore-seal-1|" + sender + receiver + context.encode()
    return HKDF(hashes.SHA256(), 32, salt=None, info=info).derive(shared)
