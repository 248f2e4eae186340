"""Sub-scores at decision time of which the lender sees the sum only: each pair of partners adds and subtracts a mask.

Who contributes is fixed for a model, at least `LEAST` partners; every pair of them has one key for it, and a mask for
each request. There is no way to do without a partner: a sum over fewer of them, or over others, would show one
partner's part by its difference. A partner that is missing is a sum that does not open; another model, declared
beforehand, answers then.

Masks hide one version's parts. Over many versions a lender that knows all weights still solves for features: each
version is one equation over all columns of all partners. `most_versions` says after how many that tells too much.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, reduce

import numpy as np
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from privacy.envelope import public_key
from privacy.groups import SumRefused
from privacy.ring import Integers, Words, from_ring, to_ring

LEAST = 3  # partners in a sum: of two, each knows the other's part
WIDEST = 4  # numbers of one answer: what one HMAC gives


def most_versions(columns: Iterable[int], recovered: float = 0.15) -> int:
    """After how many versions of a model a lender that knows their weights explains that share of the features.

    The best linear estimate from v sums over c columns in all explains v/c of their variance.

    Args:
        columns: of each contributing block.
        recovered: share of the features' variance, in (0, 1].

    >>> most_versions([20, 20, 20]), most_versions([85, 60, 71])
    (9, 32)
    """
    if not 0 < recovered <= 1:
        raise ValueError(f"recovered must be in (0, 1] (share of variance), got {recovered}")
    return int(recovered * sum(columns))


@dataclass(frozen=True)
class ScoreRoster:
    """Who contributes to the sums of one model version, for good.

    Attributes:
        model: names the version, e.g. the hash of its bundle.
        members: each partner's public sealing key by name, 32 bytes, as the others know it.
    """

    model: str
    members: Mapping[str, bytes]

    def __post_init__(self) -> None:
        count = len(self.members)
        if count < LEAST or not all(self.members) or len(set(self.members.values())) < count:
            raise SumRefused(f"a sum of sub-scores needs at least {LEAST} partners with names and keys of their own")
        if not self.model:
            raise SumRefused("a sum of sub-scores needs the name of a model version")

    @cached_property
    def digest(self) -> bytes:
        """What every mask is bound to, 32 bytes."""
        told = hashlib.sha256(b"fedscore-score-sum-1|" + _sized(self.model))
        for name in sorted(self.members):
            told.update(_sized(name) + self.members[name])
        return told.digest()


class Masker:
    """One partner's side of a roster's sums.

    Args:
        roster: who contributes.
        name: this partner.
        private: its sealing key, 32 bytes.
    """

    def __init__(self, roster: ScoreRoster, name: str, private: bytes) -> None:
        if roster.members.get(name) != public_key(private):
            raise SumRefused("this partner is not in the roster under its own key")
        self._keys: dict[str, bytes] = {}
        for other, public in roster.members.items():
            if other != name:
                self._keys[other] = _pair_key(private, public, roster.digest)
        self._name = name

    def masked(self, request: str, values: Integers) -> Words:
        """The answer to one request: uniform to whoever lacks one of the others' answers.

        The same request must never be answered with other values: their difference would show.

        Args:
            request: names the person's one request for this version; the same at all partners.
            values: at most `WIDEST` int64, e.g. the sub-score in micro-logit.
        """
        if values.dtype != np.int64 or values.ndim != 1 or not 1 <= len(values) <= WIDEST:
            raise SumRefused(f"an answer has from 1 to {WIDEST} int64 numbers")
        words = to_ring(values).copy()
        for other, key in self._keys.items():
            drawn = np.frombuffer(hmac.digest(key, request.encode(), "sha256"), dtype="<u8")[: len(words)]
            words = words + drawn if self._name < other else words - drawn
        return words


def summed(roster: ScoreRoster, answers: Mapping[str, Words]) -> Integers:
    """What all partners' values add up to; raises `SumRefused` where one is missing or a stranger is among them."""
    if set(answers) != set(roster.members):
        raise SumRefused("the sum needs the answer of every partner of the roster and of nobody else")
    if len({answer.shape for answer in answers.values()}) > 1:
        raise SumRefused("the answers are of different lengths")
    return from_ring(reduce(np.add, answers.values()))


def _pair_key(private: bytes, public: bytes, digest: bytes) -> bytes:
    try:
        common = X25519PrivateKey.from_private_bytes(private).exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        raise SumRefused("a key in the roster is none") from None
    return HKDF(hashes.SHA256(), 32, salt=digest, info=b"fedscore-score-mask-1").derive(common)


def _sized(text: str) -> bytes:
    told = text.encode()
    return len(told).to_bytes(4, "big") + told
