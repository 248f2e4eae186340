"""Who adds up what in a sum that hides its parts (`privacy.masking`), and what its members' signatures are bound to."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from privacy.ring import Integers, Words
from privacy.shares import expand

KEY, SIGNATURE = 32, 64  # bytes
ROUND = 2 * KEY  # bytes of an advert a round: the key of the pairs' masks, and a digest of the own mask's seed
GRID = 2.0**-32  # step on which numbers are summed
MAX_MEMBERS, MAX_ROUNDS = 1000, 1000


class SumRefused(ValueError):
    """A member will not do what it was asked in a sum: the request does not hold together, or would show its part."""


def least_threshold(members: int) -> int:
    """The least threshold that holds against the coordinator with fewer than a third of the members.

    >>> [least_threshold(n) for n in (2, 3, 4, 5, 10)]
    [2, 3, 3, 4, 7]
    """
    return 2 * members // 3 + 1


def on_grid(values: NDArray[np.float64]) -> Integers:
    """Numbers in steps of `GRID`; refuses what is not finite, or beyond 2^20: a sum of `MAX_MEMBERS` has no more room.

    >>> on_grid(np.array([-1.5, 2.0**-32])).tolist()
    [-6442450944, 1]
    """
    if not (np.abs(values) <= 2.0**20).all():
        raise SumRefused("numbers must be finite and at most 2^20 to be summed")
    return np.rint(values / GRID).astype(np.int64)


@dataclass(frozen=True)
class Group:
    """Who adds up what: the public facts of a session, the same for all its members or nothing opens.

    Attributes:
        session: names what is summed; never used again.
        members: their verify keys by name, as the member itself knows them.
        rounds: how many vectors each member may send, numbered from 1.
        threshold: how many members it takes to open a sum; more than half.
    """

    session: str
    members: Mapping[str, bytes]
    rounds: int
    threshold: int

    def __post_init__(self) -> None:
        count = len(self.members)
        if not 2 <= count <= MAX_MEMBERS or not all(self.members) or len(set(self.members.values())) < count:
            raise SumRefused(f"a sum needs 2 to {MAX_MEMBERS} members with names and keys of their own")
        if not count < 2 * self.threshold <= 2 * count:
            raise SumRefused(f"threshold must be more than half of {count} members, got {self.threshold}")
        if not 1 <= self.rounds <= MAX_ROUNDS:
            raise SumRefused(f"rounds must be from 1 to {MAX_ROUNDS}, got {self.rounds}")

    @cached_property
    def places(self) -> dict[str, int]:
        """Each member's place, from 1, by name."""
        return {name: place for place, name in enumerate(sorted(self.members), 1)}

    @cached_property
    def context(self) -> bytes:
        """The digest that everything said in the session is bound to, 32 bytes."""
        told = hashlib.sha256(b"fedscore-sum-1|")
        for part in (self.session, self.rounds, self.threshold):
            told.update(_sized(str(part).encode()))
        for name in self.places:
            told.update(_sized(name.encode()) + self.members[name])
        return told.digest()

    def advert_size(self) -> int:
        """Bytes of an advert, its signature included."""
        return KEY + self.rounds * ROUND + SIGNATURE

    def check(self, name: str, purpose: bytes, body: bytes, signature: bytes) -> None:
        """Raises `SumRefused` unless this member signed this in this session."""
        try:
            Ed25519PublicKey.from_public_bytes(self.members[name]).verify(signature, self.signed(purpose, body))
        except (InvalidSignature, KeyError, ValueError):
            raise SumRefused("a signature is not that member's in this session") from None

    def signed(self, purpose: bytes, body: bytes) -> bytes:
        """What a signature for a purpose is over."""
        return b"fedscore-sum-1|" + purpose + b"|" + self.context + body

    def check_advert(self, name: str, advert: bytes) -> None:
        """Raises `SumRefused` unless this is the member's advert in this session."""
        if len(advert) != self.advert_size():
            raise SumRefused("an advert has the wrong length")
        self.check(name, b"advert", advert[:-SIGNATURE], advert[-SIGNATURE:])

    def survivors(self, number: int, names: Iterable[str]) -> bytes:
        """A list of survivors as members sign it."""
        return number.to_bytes(4, "big") + b"".join(self.places[name].to_bytes(4, "big") for name in sorted(names))

    def pair_key(self, private: bytes, other: bytes, purpose: bytes) -> bytes:
        """What two members have in common for a purpose."""
        try:
            common = X25519PrivateKey.from_private_bytes(private).exchange(X25519PublicKey.from_public_bytes(other))
        except ValueError:
            raise SumRefused("a key that was advertised is none") from None
        return HKDF(hashes.SHA256(), KEY, self.context, b"fedscore-sum-1|" + purpose).derive(common)

    def pair_mask(self, number: int, private: bytes, other: bytes, count: int) -> Words:
        """The mask of two members in a round; the one of the lower place adds it, the other subtracts it."""
        return expand(self.pair_key(private, other, b"mask|" + number.to_bytes(4, "big")), "pair", count)

    def own_mask(self, number: int, root: bytes, count: int) -> Words:
        """The mask that one member adds by itself in a round."""
        return expand(root, f"own|{self.context.hex()}|{number}", count)


def mask_key(advert: bytes, number: int) -> bytes:
    """The public key of the pairs' masks of a round."""
    return advert[KEY + (number - 1) * ROUND :][:KEY]


def seed_digest(advert: bytes, number: int) -> bytes:
    """The digest of the own mask's seed of a round."""
    return advert[KEY + (number - 1) * ROUND + KEY :][:KEY]


def _sized(part: bytes) -> bytes:
    return len(part).to_bytes(4, "big") + part
