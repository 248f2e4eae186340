"""Private set intersection: a partner finds its own persons in the lender's cohort; nobody sees another's ids.

Diffie-Hellman on P-256. An id is hashed to a point of the curve under the programme's name, so that points of two
programmes do not link. Only x-coordinates travel: a point and its negative share one, and so do their multiples, and
the group has prime order, so that no bit of a point outlives its blinding, as one does on a twisted curve.

1. The partner sends its ids' points times a secret `b`, sorted, and filled up to a public size with random points.
2. The lender sends its cohort's points times a secret `a`, in order, and a token of each of the partner's points times
   `a`. The partner multiplies the former by `b` and compares.

The lender learns the public size, the partner which of its persons are in the cohort, and where. Secrets are derived
from one of the holder's and from the set itself: the same set gives the same bytes again, another set does not link.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from privacy.alignment import positions, tokens

Bytes = NDArray[np.uint8]  # one row of bytes an item
Integers = NDArray[np.int64]

POINT, TOKEN = 32, 16  # bytes
SMALLEST = 1024  # of public sizes
ALONE = 4000  # items that are not worth another process
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_CURVE, _LABEL = ec.SECP256R1(), b"fedscore-match-1|"
_REFUSED = 3  # a worker's exit code


class MatchRefused(ValueError):
    """What another party sent is no set of points, or not an answer to ours."""


@dataclass(frozen=True)
class Offer:
    """A partner's set as it leaves, and what stays: the row behind each of its items, -1 where there is nobody."""

    items: Bytes
    rows: Integers

    @property
    def digest(self) -> str:
        """What the partner is committed to by sending the set: its SHA-256."""
        return hashlib.sha256(self.items.tobytes()).hexdigest()


class Matcher(Protocol):
    """How two parties find the persons that they share. A faster engine than ours takes its place here."""

    def offer(self, ids: Sequence[str]) -> Offer:
        """The partner's first word."""

    def shown(self, cohort: Sequence[str]) -> Bytes:
        """The lender's cohort, hidden, in order: one item a person, the same for all partners."""

    def answered(self, cohort: Sequence[str], items: Bytes) -> Bytes:
        """The lender's answer to one partner's items."""

    def rows(self, ids: Sequence[str], offer: Offer, shown: Bytes, answered: Bytes) -> Integers:
        """The partner's row of each person of the cohort, -1 where it has none; no row twice."""


@dataclass(frozen=True)
class Psi:
    """The protocol above, played by either party.

    Attributes:
        secret: the holder's own, kept as long as the programme.
        programme: whose name separates its points from another's.
    """

    secret: bytes = field(repr=False)
    programme: str

    def offer(self, ids: Sequence[str]) -> Offer:
        """The set's points times `b` and random points up to the public size, sorted: their order says nothing."""
        own = _points(ids, self._domain, self._exponent("set", ids))
        numbers = [str(i) for i in range(public_size(len(ids)) - len(ids))]
        items = np.concatenate([own, _points(numbers, self._derived("fill", ids, 32), None)])
        order = np.argsort(_words(items, POINT))
        return Offer(items[order], np.where(order < len(ids), order, -1))

    def shown(self, cohort: Sequence[str]) -> Bytes:
        """The cohort's points times `a`, in order."""
        return _points(cohort, self._domain, self._exponent("cohort", cohort))

    def answered(self, cohort: Sequence[str], items: Bytes) -> Bytes:
        """A token of each item times `a`, in the partner's order.

        Raises:
            MatchRefused: where an item is no point, stands twice, or their number is no public size.
        """
        if len(items) != public_size(len(items)):
            raise MatchRefused("a set has no public size")
        return _tokens(self._domain, _raised(_checked(items), self._exponent("cohort", cohort)))

    def rows(self, ids: Sequence[str], offer: Offer, shown: Bytes, answered: Bytes) -> Integers:
        """The partner's row of each person of the cohort, -1 where it has none; no row twice.

        Raises:
            MatchRefused: where the cohort's items are no points or stand twice, or the answer is not one to `offer`.
        """
        if answered.shape != (len(offer.items), TOKEN) or answered.dtype != np.uint8:
            raise MatchRefused("an answer is not one to this set")
        own = dict(zip(_listed(answered), offer.rows.tolist(), strict=True))
        if len(own) < len(answered):
            raise MatchRefused("an answer holds one token twice")
        hidden = _tokens(self._domain, _raised(_checked(shown), self._exponent("set", ids)))
        return np.array([own.get(token, -1) for token in _listed(hidden)], dtype=np.int64)

    @property
    def _domain(self) -> bytes:
        return self.programme.encode()

    def _exponent(self, what: str, ids: Sequence[str]) -> int:
        return int.from_bytes(self._derived(what, ids, 48)) % (_ORDER - 1) + 1

    def _derived(self, what: str, ids: Sequence[str], length: int) -> bytes:
        salt = hashlib.sha256(json.dumps(sorted(ids)).encode()).digest()
        info = _LABEL + what.encode() + b"|" + self._domain
        return HKDF(hashes.SHA256(), length, salt, info).derive(self.secret)


@dataclass(frozen=True)
class Tokens:
    """Keyed tokens, a hundred times faster: whoever holds the key can test a guess. For simulations only."""

    key: bytes = field(repr=False)

    def offer(self, ids: Sequence[str]) -> Offer:
        """Nothing."""
        del ids
        return Offer(np.zeros((0, POINT), np.uint8), np.zeros(0, np.int64))

    def shown(self, cohort: Sequence[str]) -> Bytes:
        """The cohort's tokens."""
        return tokens(cohort, self.key).view(np.uint8).reshape(-1, 8)

    def answered(self, cohort: Sequence[str], items: Bytes) -> Bytes:
        """The key, with which the partner makes its own tokens."""
        del cohort, items
        return np.frombuffer(self.key, np.uint8).reshape(1, -1)

    def rows(self, ids: Sequence[str], offer: Offer, shown: Bytes, answered: Bytes) -> Integers:
        """The partner's row of each person of the cohort, -1 where it has none; no row twice."""
        del offer
        return positions(np.ascontiguousarray(shown).view(np.uint64).ravel(), tokens(ids, answered.tobytes()))


def public_size(count: int) -> int:
    """The size that a set of `count` persons is filled up to: a power of two, or one and a half of one.

    >>> [public_size(n) for n in (0, 1025, 30_000, 300_000, 393_217)]
    [1024, 1536, 32768, 393216, 524288]
    """
    size = SMALLEST
    while size < count:
        if size + size // 2 >= count:
            return size + size // 2
        size *= 2
    return size


def _checked(items: Bytes) -> Bytes:
    if items.ndim != 2 or items.shape[1] != POINT or items.dtype != np.uint8:
        raise MatchRefused("a set is no list of points")
    if len(set(_listed(items))) < len(items):
        raise MatchRefused("a set holds one point twice")
    return items


def _words(items: Bytes, length: int) -> NDArray[np.bytes_]:
    """Each item as one value that sorts by its bytes; all are of one length, so zeros at an end change nothing."""
    return np.ascontiguousarray(items).view(f"S{length}").ravel()


def _listed(items: Bytes) -> list[bytes]:
    width, data = items.shape[1], items.tobytes()
    return [data[i : i + width] for i in range(0, len(data), width)]


def _tokens(domain: bytes, points: Bytes) -> Bytes:
    start = hashlib.sha256(_LABEL + b"token|" + len(domain).to_bytes(4) + domain)
    out = bytearray()
    for point in _listed(points):
        told = start.copy()
        told.update(point)
        out += told.digest()[:TOKEN]
    return np.frombuffer(bytes(out), np.uint8).reshape(-1, TOKEN)


def _points(ids: Iterable[str], domain: bytes, exponent: int | None) -> Bytes:
    """The ids' points times the exponent."""
    return _spread(list(ids), domain, exponent)


def _raised(items: Bytes, exponent: int) -> Bytes:
    """The points times the exponent; raises `MatchRefused` where an item is no point of the curve."""
    return _spread(_listed(items), None, exponent)


def _spread(items: Sequence[str] | Sequence[bytes], domain: bytes | None, exponent: int | None) -> Bytes:
    """Works on all cores; threads would wait for each other, so every core gets a process of its own."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if cores == 1 or len(items) <= ALONE:
        found = _work(items, domain, exponent)
    else:
        size = max(ALONE, -(-len(items) // (2 * cores)))  # twice as many pieces: a core may be busy with other things
        pieces = [items[i : i + size] for i in range(0, len(items), size)]
        with ThreadPoolExecutor(cores) as pool:
            found = b"".join(pool.map(lambda piece: _elsewhere(piece, domain, exponent), pieces))
    return np.frombuffer(found, np.uint8).reshape(-1, POINT)


def _work(items: Sequence[str] | Sequence[bytes], domain: bytes | None, exponent: int | None) -> bytes:
    """Texts hashed to the curve, or points as they are, times the exponent: the x-coordinates, one after another."""
    read, key, how = ec.EllipticCurvePublicKey.from_encoded_point, None, ec.ECDH()
    if exponent is not None:
        key = ec.derive_private_key(exponent, _CURVE)
    out = bytearray()
    for item in items:
        if isinstance(item, str):
            x, point = _hashed(item, domain or b"")
        else:
            try:
                x, point = item, read(_CURVE, b"\2" + item)
            except ValueError:
                raise MatchRefused("a set holds what is no point of the curve") from None
        out += x if key is None else key.exchange(how, point)
    return bytes(out)


def _hashed(text: str, domain: bytes) -> tuple[bytes, ec.EllipticCurvePublicKey]:
    """A text's point: the first of a row of hashes that is an x-coordinate of the curve, as every other one is."""
    start = hashlib.sha256(_LABEL + len(domain).to_bytes(4) + domain + text.encode())
    tries = 0
    while True:
        told = start.copy()
        told.update(b"|%d" % tries)
        x = told.digest()
        try:
            return x, ec.EllipticCurvePublicKey.from_encoded_point(_CURVE, b"\2" + x)
        except ValueError:
            tries += 1


def _elsewhere(items: Sequence[str] | Sequence[bytes], domain: bytes | None, exponent: int | None) -> bytes:
    """`_work` in a process of its own; its secrets go through a pipe, never onto its command line."""
    texts = bool(items) and isinstance(items[0], str)
    told = [i if isinstance(i, str) else i.hex() for i in items]
    job = {"texts": texts, "items": told, "domain": None if domain is None else domain.hex(), "exponent": exponent}
    root = str(Path(__file__).resolve().parents[1])
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    command = [sys.executable, "-P", "-m", "privacy.matching"]  # -P: nothing from the working folder
    done = subprocess.run(
        command, input=json.dumps(job).encode(), capture_output=True, env={**os.environ, "PYTHONPATH": path}
    )
    if done.returncode == _REFUSED:
        raise MatchRefused("a set holds what is no point of the curve")
    if done.returncode or len(done.stdout) != POINT * len(items):
        raise RuntimeError(f"a process that matches ids ended with code {done.returncode}")
    return done.stdout


def _serve() -> int:
    """One job from standard input to standard output."""
    job = json.load(sys.stdin.buffer)
    items = job["items"] if job["texts"] else [bytes.fromhex(item) for item in job["items"]]
    try:
        found = _work(items, None if job["domain"] is None else bytes.fromhex(job["domain"]), job["exponent"])
    except MatchRefused:
        return _REFUSED
    sys.stdout.buffer.write(found)
    return 0


if __name__ == "__main__":
    sys.exit(_serve())
