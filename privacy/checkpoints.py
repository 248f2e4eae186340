"""A log's checkpoint: how far it is and its root, signed by the coordinator and cosigned by holders as witnesses.

A holder keeps the last checkpoint that it accepted and takes another only with a proof that the log just grew. Two
holders that compare theirs see whether the coordinator shows each of them a log of its own.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from privacy.envelope import SealBroken
from privacy.signing import check, sign
from privacy.translog import EMPTY, verify_consistency

_SIGNED, _WITNESSED = "checkpoint-1", "witness-1|"
_ORIGIN = re.compile(r"fedscore-log-[0-9a-f]{32}")
_HASH = 32  # bytes
MOST = 64  # hashes of a proof: enough for 2^63 entries


class LogRefused(RuntimeError):
    """A checkpoint that does not continue the log that is known here.

    Attributes:
        held: the size of the checkpoint that is held, so that an honest coordinator can send the right proof.
    """

    def __init__(self, text: str, held: int = 0) -> None:
        super().__init__(text)
        self.held = held


@dataclass(frozen=True)
class Checkpoint:
    """Where a log stands.

    Attributes:
        origin: names the log, and no other.
        size: entries.
        root: of the Merkle tree over them, 32 bytes.
        signature: the coordinator's, 64 bytes.
    """

    origin: str
    size: int
    root: bytes
    signature: bytes = b""

    def signed(self, signing_key: bytes) -> Checkpoint:
        """This checkpoint under the coordinator's signature."""
        return Checkpoint(self.origin, self.size, self.root, sign(signing_key, self.text(), _SIGNED))

    def text(self) -> bytes:
        """What is signed: origin, size and root (base64), a line each.

        >>> Checkpoint("fedscore-log-0", 0, EMPTY).text().decode().splitlines()[:2]
        ['fedscore-log-0', '0']
        """
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n".encode()

    def check(self, verify: bytes) -> None:
        """Raises `SealBroken` where the checkpoint is not signed by the owner of this key."""
        check(verify, self.signature, self.text(), _SIGNED)

    def cosign(self, name: str, signing_key: bytes) -> str:
        """The signature of this checkpoint by the witness of that name, base64."""
        return base64.b64encode(sign(signing_key, self.text(), _WITNESSED + name)).decode()

    def check_witness(self, name: str, verify: bytes, cosigned: str) -> None:
        """Raises `SealBroken` where `cosigned` is not the signature of this checkpoint by the witness of that name."""
        check(verify, decoded(cosigned), self.text(), _WITNESSED + name)

    def to_dict(self) -> dict[str, Any]:
        """Plain values; `of` reads them."""
        root, signature = (base64.b64encode(part).decode() for part in (self.root, self.signature))
        return {"origin": self.origin, "size": self.size, "root": root, "signature": signature}

    @classmethod
    def of(cls, told: Any) -> Checkpoint:
        """A checkpoint from plain values; raises `SealBroken` where they are none. Its signature is not checked."""
        if not isinstance(told, Mapping) or set(told) != {"origin", "size", "root", "signature"}:
            raise SealBroken("is no checkpoint")
        origin, size, root = told["origin"], told["size"], decoded(told["root"])
        if not isinstance(origin, str) or not _ORIGIN.fullmatch(origin) or type(size) is not int or size < 0:
            raise SealBroken("is no checkpoint")
        if len(root) != _HASH or (size == 0 and root != EMPTY):
            raise SealBroken("is no checkpoint")
        return cls(origin, size, root, decoded(told["signature"]))

    @classmethod
    def read(cls, text: str) -> Checkpoint:
        """A checkpoint from the JSON that a witness keeps; raises `SealBroken` where it is none."""
        try:
            told = json.loads(text)
        except (ValueError, RecursionError):
            told = None
        return cls.of(told)

    def extends(self, held: Checkpoint | None, proof: Sequence[bytes]) -> None:
        """Raises `LogRefused` where this log is not the held one with entries added. Without one held, any is."""
        if held is None:
            return
        if held.origin != self.origin:
            raise LogRefused("is of another log than the one that is held here", held.size)
        if not verify_consistency((held.size, held.root), (self.size, self.root), proof):
            raise LogRefused("is not shown to continue the log that is held here", held.size)


def proof_to_list(proof: Sequence[bytes]) -> list[str]:
    """A proof as plain values, base64."""
    return [base64.b64encode(part).decode() for part in proof]


def proof_of(told: Any) -> list[bytes]:
    """A proof from plain values; raises `SealBroken` where it is none."""
    if not isinstance(told, list) or len(told) > 2 * MOST:
        raise SealBroken("is no proof")
    proof = [decoded(part) for part in told]
    if any(len(part) != _HASH for part in proof):
        raise SealBroken("is no proof")
    return proof


def decoded(text: Any) -> bytes:
    """Bytes of base64 in its one canonical form."""
    try:
        found = base64.b64decode(str(text), validate=True)
    except ValueError:
        found = b""
    if base64.b64encode(found).decode() != text:
        raise SealBroken("holds a text that is not base64")
    return found
