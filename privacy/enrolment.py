"""What two parties exchange before they meet: a holder's request to join, and the coordinator's welcome.

Both are JSON files that people carry (mail, a shared folder), signed with the sender's own Ed25519 key. A signature
ties a file together; whose key it is, people confirm by its fingerprint over another channel.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from privacy.envelope import SealBroken
from privacy.signing import Keys, keys_of, verify_key

VERSION = 1
LONGEST = 1_000_000  # characters of a file; larger ones are not read


class EnrolmentError(ValueError):
    """A request or a welcome that cannot be used: what is wrong with it, in words."""


@dataclass(frozen=True)
class Enrolled:
    """One holder that is enrolled, as all others may know it: its name, its domain and its announced keys (base64)."""

    name: str
    domain: str
    key: str
    verify: str
    bound: str

    @property
    def keys(self) -> Keys:
        """Its keys; raises `SealBroken` where they do not hold together."""
        return keys_of(self.name, {"key": self.key, "verify": self.verify, "bound": self.bound})


@dataclass(frozen=True)
class Request:
    """A holder asks to join.

    Attributes:
        holder: who asks, with its announced keys.
        node_key: public key of its node in OpenSSH form, for the transport.
        contract: SHA-256 of its contract, 64 hexadecimal digits; empty where it has none.
        csr: certificate signing request (PEM), which proves that it has the node's private key.
    """

    holder: Enrolled
    node_key: str
    contract: str
    csr: str

    def to_json(self, signing_key: bytes) -> str:
        """The file, signed by the holder's key, of 32 bytes.

        Raises:
            EnrolmentError: where that key is not the one that `holder` announces.
        """
        return _written("request", asdict(self), signing_key, self.holder.verify)

    @classmethod
    def of(cls, text: str) -> Request:
        """The request that a file holds, as its holder signed it; raises `EnrolmentError` where it does not hold."""
        body = _read("request", text, lambda told: told["holder"]["verify"])
        holder = _made(Enrolled, body["holder"])
        try:
            _ = holder.keys
        except SealBroken as error:
            raise EnrolmentError(str(error)) from None
        made: Request = _made(cls, {**body, "holder": holder})
        return made


@dataclass(frozen=True)
class Welcome:
    """The coordinator's answer: how to reach it, by which keys to know it and the others, and what code will run.

    Attributes:
        federation: its name.
        number: counts up; a later welcome replaces an earlier one.
        superlink: where to connect, host:port.
        authority: certificate of the authority that signed the coordinator's (PEM).
        certificate: the holder's own, signed by that authority (PEM); empty where it asked for none.
        coordinator: verify key of the coordinator's orders and log, base64.
        bundle: SHA-256 of the app bundle that runs will send, 64 hexadecimal digits.
        roster: everybody enrolled so far.
    """

    federation: str
    number: int
    superlink: str
    authority: str
    certificate: str
    coordinator: str
    bundle: str
    roster: tuple[Enrolled, ...]

    def to_json(self, signing_key: bytes) -> str:
        """The file, signed by the coordinator's key, of 32 bytes; raises `EnrolmentError` where that is another key."""
        return _written("welcome", asdict(self), signing_key, self.coordinator)

    @classmethod
    def of(cls, text: str) -> Welcome:
        """The welcome that a file holds, as its coordinator signed it; raises `EnrolmentError` where it does not."""
        body = _read("welcome", text, lambda told: told["coordinator"])
        rows = body["roster"]
        if not isinstance(rows, list) or not isinstance(body["number"], int):
            raise EnrolmentError("is not a welcome of this version")
        made: Welcome = _made(cls, {**body, "roster": tuple(_made(Enrolled, row) for row in rows)})
        return made


def fingerprint(verify: str) -> str:
    """What people compare of a verify key (base64): 32 hexadecimal digits of its SHA-256, in groups of four.

    >>> fingerprint("AAAA")
    '709e 80c8 8487 a241 1e1e e4df b9f2 2a86'
    """
    digits = hashlib.sha256(base64.b64decode(verify)).hexdigest()[:32]
    return " ".join(digits[i : i + 4] for i in range(0, 32, 4))


def _written(kind: str, body: Mapping[str, Any], signing_key: bytes, announced: str) -> str:
    if base64.b64encode(verify_key(signing_key)).decode() != announced:
        raise EnrolmentError("is to be signed by another key than it announces")
    signature = Ed25519PrivateKey.from_private_bytes(signing_key).sign(_bytes(kind, body))
    told = {"kind": f"fedscore-{kind}", "version": VERSION, **body}
    return json.dumps({**told, "signature": base64.b64encode(signature).decode()}, indent=1) + "\n"


def _read(kind: str, text: str, signer: Any) -> dict[str, Any]:
    if len(text) > LONGEST:
        raise EnrolmentError(f"is larger than {LONGEST:,} characters")
    try:
        body = json.loads(text)
        told, version = body.pop("kind"), body.pop("version")
        sealed = body.pop("signature")
        signature = base64.b64decode(sealed, validate=True)
        verify = base64.b64decode(signer(body), validate=True)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise EnrolmentError(f"is not a {kind}: it holds no signed JSON object of that kind") from None
    if (told, version) != (f"fedscore-{kind}", VERSION):
        raise EnrolmentError(f"is not a {kind} of version {VERSION}, but {told!r} of version {version!r}")
    try:
        if base64.b64encode(signature).decode() != sealed:  # one signature has one spelling
            raise InvalidSignature
        Ed25519PublicKey.from_public_bytes(verify).verify(signature, _bytes(kind, body))
    except (InvalidSignature, ValueError):
        raise EnrolmentError("was changed after it was signed, or signed by another key") from None
    return dict(body)


def _bytes(kind: str, body: Mapping[str, Any]) -> bytes:
    """What is signed: the canonical JSON of the document, told apart by its kind."""
    return f"fedscore-{kind}-{VERSION}|".encode() + json.dumps(body, sort_keys=True, separators=(",", ":")).encode()


def _made(kind: Any, row: Any) -> Any:
    """A dataclass of texts from plain values, with exactly its fields."""
    names = {f.name for f in fields(kind)}
    if not isinstance(row, Mapping) or set(row) != names:
        raise EnrolmentError(f"must have exactly the fields {', '.join(sorted(names))}")
    for f in fields(kind):
        if f.type == "str" and not isinstance(row[f.name], str):
            raise EnrolmentError(f"has a field {f.name} that is no text")
    return kind(**row)
