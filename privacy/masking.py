"""Sums of which nobody sees the parts: partners mask what they send, and only the masks' sum comes off.

Each pair of members agrees on a mask that one adds and the other subtracts; each adds a mask of its own besides. The
seeds of both are shared among all members, so a sum opens though some of them drop out: for those that sent, their own
masks are opened; for those that did not, the pairs'. Never both of one member: that would show what it sent.

Against a coordinator that deviates: keys are signed by the members and bound to session and roster; a member shows
shares for one list of survivors only, and only once a threshold of members signed that they were told the same list.
It holds while 2 * threshold > members + colluders: with `least_threshold`, against fewer than a third of the members.
It is a second line of defence: what is summed is noised already, and no epsilon rests on this.

A session has its keys for many rounds: opening one says nothing of another. Sums are exact, modulo 2^64.

Source: Bonawitz et al. (2017), "Practical secure aggregation", CCS '17, with its consistency check.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from functools import reduce
from itertools import combinations, islice
from typing import Any, Self

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from privacy.envelope import new_key, public_key
from privacy.groups import KEY, Group, SumRefused, mask_key, seed_digest
from privacy.ring import Integers, Words, to_ring
from privacy.shamir import SHARE, joined, shared

NONCE = 12  # bytes
_TRIES = 100  # choices of shares until those of a partner that lies are left out


class Seat:
    """One member in one session; its steps are `advert`, `share`, `receive`, then `mask`, `agree`, `reveal` a round.

    Whatever is asked twice alike is answered alike; whatever is asked twice otherwise is refused. The caller keeps
    `state` on disk before an answer leaves.

    Args:
        group: the session.
        name: the member's own.
        signing_key: its signing key, 32 bytes; never part of the state.
    """

    def __init__(self, group: Group, name: str, signing_key: bytes) -> None:
        self.group, self.name, self._signing = group, name, Ed25519PrivateKey.from_private_bytes(signing_key)
        if group.members.get(name) != self._signing.public_key().public_bytes_raw():
            raise SumRefused("this member is not in the group under its own key")
        self._box_key = new_key()
        self._pairs = [new_key() for _ in range(group.rounds)]
        self._seeds = [os.urandom(KEY) for _ in range(group.rounds)]
        self._adverts: dict[str, bytes] = {}  # of all that advertised, this member's own included
        self._made: dict[str, bytes] = {}  # boxes for the others, and the own shares under the own name
        self._held: dict[str, bytes] = {}  # shares of all in the sum: by owner, two a round
        self._sent: dict[str, str] = {}  # by round, the digest of what was masked
        self._agreed: dict[str, list[str]] = {}  # by round, the survivors

    def _sign(self, purpose: bytes, body: bytes) -> bytes:
        return self._signing.sign(self.group.signed(purpose, body))

    def advert(self) -> bytes:
        """The session's public keys and the digests of its seeds, signed; the same however often it is asked."""
        body = public_key(self._box_key)
        for pair, seed in zip(self._pairs, self._seeds, strict=True):
            body += public_key(pair) + hashlib.sha256(seed).digest()
        return body + self._sign(b"advert", body)

    def share(self, adverts: Mapping[str, bytes]) -> dict[str, bytes]:
        """By receiver, a box with this member's shares that only the receiver can open."""
        if self._made:
            if adverts != self._adverts:
                raise SumRefused("shares were made for other adverts")
            return {name: box for name, box in self._made.items() if name != self.name}
        if len(adverts) < self.group.threshold or adverts.get(self.name) != self.advert():
            raise SumRefused("too few adverts, or another one in this member's name")
        for name, advert in adverts.items():
            self.group.check_advert(name, advert)
        if len({advert[:KEY] for advert in adverts.values()}) < len(adverts):
            raise SumRefused("a key is advertised twice")
        self._adverts = dict(adverts)
        places = [self.group.places[name] for name in adverts]
        secrets = [secret for both in zip(self._seeds, self._pairs, strict=True) for secret in both]
        shares = [shared(secret, self.group.threshold, places) for secret in secrets]
        for name in adverts:
            plain = b"".join(share[self.group.places[name]] for share in shares)
            self._made[name] = plain if name == self.name else self._boxed(name, plain)
        return self.share(adverts)

    def _boxed(self, name: str, plain: bytes) -> bytes:
        nonce = os.urandom(NONCE)
        return nonce + self._cipher(name).encrypt(nonce, plain, self._way(self.name, name))

    def _cipher(self, name: str) -> ChaCha20Poly1305:
        return ChaCha20Poly1305(self.group.pair_key(self._box_key, self._adverts[name][:KEY], b"box"))

    def _way(self, sender: str, receiver: str) -> bytes:
        places = self.group.places
        return self.group.context + places[sender].to_bytes(4, "big") + places[receiver].to_bytes(4, "big")

    def receive(self, boxes: Mapping[str, bytes]) -> None:
        """Opens the others' boxes: who sent one is in the sum, in all rounds."""
        held = {self.name: self._made[self.name]} if self._made else {}
        for name, box in boxes.items():
            if name == self.name or name not in self._adverts:
                raise SumRefused("a box is of nobody who advertised")
            try:
                held[name] = self._cipher(name).decrypt(box[:NONCE], box[NONCE:], self._way(name, self.name))
            except (InvalidTag, ValueError):
                raise SumRefused("a box cannot be opened: altered, or for another session or receiver") from None
            if len(held[name]) != 2 * SHARE * self.group.rounds:
                raise SumRefused("a box holds the wrong number of shares")
        if len(held) < self.group.threshold:
            raise SumRefused("too few members shared")
        if self._held and self._held != held:
            raise SumRefused("other boxes were received before")
        self._held = held

    def mask(self, number: int, values: Integers) -> Words:
        """One round's vector, masked: uniform to whoever lacks the masks.

        Args:
            number: of the round.
            values: int64, shape (n,), each of magnitude at most 2^62 / members.
        """
        if not self._held or not 1 <= number <= self.group.rounds:
            raise SumRefused("no boxes were received, or the session has no such round")
        room = 2**62 // len(self.group.members)
        if values.dtype != np.int64 or values.ndim != 1 or (values > room).any() or (values < -room).any():
            raise SumRefused("what is summed must be int64 and leave room for all members' parts")
        digest = hashlib.sha256(values.tobytes()).hexdigest()
        if self._sent.setdefault(str(number), digest) != digest:
            raise SumRefused("another vector was sent in this round")
        count, own = len(values), self.group.places[self.name]
        words = to_ring(values) + self.group.own_mask(number, self._seeds[number - 1], count)
        for name in self._held:
            if name != self.name:
                other = mask_key(self._adverts[name], number)
                mask = self.group.pair_mask(number, self._pairs[number - 1], other, count)
                words = words + mask if own < self.group.places[name] else words - mask
        return words

    def agree(self, number: int, survivors: Iterable[str]) -> bytes:
        """The signature that these sent their vectors, given for one list in a round and no other."""
        names = sorted(set(survivors))
        if str(number) not in self._sent or self.name not in names or not set(names) <= set(self._held):
            raise SumRefused("the survivors are not members in the sum, or this one sent nothing")
        if len(names) < self.group.threshold:
            raise SumRefused("too few survivors")
        if self._agreed.setdefault(str(number), names) != names:
            raise SumRefused("other survivors were agreed on in this round")
        return self._sign(b"survivors", self.group.survivors(number, names))

    def agreed(self, number: int) -> list[str]:
        """The survivors agreed on in a round; none yet: empty."""
        return list(self._agreed.get(str(number), []))

    def reveal(self, number: int, signatures: Mapping[str, bytes]) -> dict[str, bytes]:
        """By member, the share that opens its own mask if it survived, and the pairs' if it did not."""
        names = self._agreed.get(str(number), [])
        if not names or len(signatures) < self.group.threshold or not set(signatures) <= set(names):
            raise SumRefused("too few survivors signed the list, or others did")
        for name, signature in signatures.items():
            self.group.check(name, b"survivors", self.group.survivors(number, names), signature)
        shown = {}
        for name, shares in self._held.items():
            at = 2 * SHARE * (number - 1) + (0 if name in names else SHARE)
            shown[name] = shares[at : at + SHARE]
        return shown

    def state(self) -> dict[str, Any]:
        """What `from_state` goes on with, in another process too, as plain values; secret."""
        secret = {name: _text(getattr(self, name)) for name in _BYTES}
        return {**secret, "_sent": dict(self._sent), "_agreed": {n: list(v) for n, v in self._agreed.items()}}

    @classmethod
    def from_state(cls, group: Group, name: str, signing_key: bytes, state: Mapping[str, Any]) -> Self:
        """The seat that `state` was taken of."""
        seat = cls(group, name, signing_key)
        for field in _BYTES:
            setattr(seat, field, _bytes(state[field]))
        seat._sent, seat._agreed = dict(state["_sent"]), {n: list(v) for n, v in state["_agreed"].items()}
        return seat


_BYTES = ("_box_key", "_pairs", "_seeds", "_adverts", "_made", "_held")


def _text(value: Any) -> Any:
    """Bytes as base64, in lists and dictionaries too."""
    if isinstance(value, dict):
        return {name: _text(inner) for name, inner in value.items()}
    return [_text(inner) for inner in value] if isinstance(value, list) else base64.b64encode(value).decode()


def _bytes(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _bytes(inner) for name, inner in value.items()}
    return [_bytes(inner) for inner in value] if isinstance(value, list) else base64.b64decode(value)


class Opening:
    """The coordinator's side of one session: takes a round's masks off once enough survivors showed their shares.

    Args:
        group: the session.
        adverts: of all members that shared, by name.
    """

    def __init__(self, group: Group, adverts: Mapping[str, bytes]) -> None:
        for name, advert in adverts.items():
            group.check_advert(name, advert)
        self.group, self._adverts = group, adverts

    def opened(self, number: int, vectors: Mapping[str, Words], shown: Mapping[str, Mapping[str, bytes]]) -> Words:
        """The sum of what the survivors sent, modulo 2^64.

        Args:
            number: of the round.
            vectors: by survivor, what it sent, all of one shape.
            shown: by survivor, what it revealed.

        Raises:
            SumRefused: where the shares do not open it: too few, or altered.
        """
        total: Words = reduce(np.add, vectors.values())
        for name, advert in self._adverts.items():
            shares = {self.group.places[n]: told[name] for n, told in shown.items() if name in told}
            if name in vectors:
                seed = self._secret(shares, seed_digest(advert, number), lambda s: hashlib.sha256(s).digest())
                total = total - self.group.own_mask(number, seed, len(total))
                continue
            private = self._secret(shares, mask_key(advert, number), public_key)
            for other in vectors:
                mask = self.group.pair_mask(number, private, mask_key(self._adverts[other], number), len(total))
                total = total + mask if self.group.places[name] < self.group.places[other] else total - mask
        return total

    def _secret(self, shares: Mapping[int, bytes], known: bytes, image: Callable[[bytes], bytes]) -> bytes:
        """The secret of which `image` is known; shares that do not belong to it are left out."""
        for places in islice(combinations(sorted(shares), self.group.threshold), _TRIES):
            try:
                secret = joined({place: shares[place] for place in places})
            except ValueError:
                continue
            if image(secret) == known:
                return secret
        raise SumRefused("the shares do not open the sum: too few, or altered")
