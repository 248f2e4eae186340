"""Random numbers that protect: an AES-256-CTR stream, discrete Gaussian noise and Poisson batches.

No function here takes a seed: noise that can be repeated can be subtracted. Tests inject noise values, never seeds.
"""

from __future__ import annotations

import math
import os

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

SAMPLER_ERROR = 5e-14


class Csprng:
    """A cryptographic stream of random numbers, keyed by the operating system, never by us.

    It refuses to work in a forked child, where it would repeat its parent's noise.
    """

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._stream = Cipher(algorithms.AES(os.urandom(32)), modes.CTR(bytes(16))).encryptor()

    def words(self, count: int) -> NDArray[np.uint64]:
        """`count` uniform 64-bit words. Raises `RuntimeError` in a forked child."""
        if os.getpid() != self._pid:
            raise RuntimeError("this random stream belongs to another process; make a new Csprng after fork")
        return np.frombuffer(self._stream.update(bytes(8 * count)), dtype=np.uint64)

    def uniform(self, count: int) -> NDArray[np.float64]:
        """`count` uniform numbers in (0, 1], 53 bits each."""
        return ((self.words(count) >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53

    def below(self, count: int, bound: int) -> NDArray[np.int64]:
        """`count` unbiased integers in [0, bound), by rejection."""
        limit = np.uint64(2**64 // bound * bound - 1)
        words = self.words(count).copy()
        while (bad := words > limit).any():
            words[bad] = self.words(int(bad.sum()))
        return (words % np.uint64(bound)).astype(np.int64)


def discrete_gaussian(rng: Csprng, stddev: float, count: int) -> NDArray[np.int64]:
    """`count` draws from the discrete Gaussian, P(x) proportional to exp(-x^2 / (2 stddev^2)) on the integers.

    Rejection from a discrete Laplace. Coins fall exactly with the double-precision probability given, so a draw's
    probability is right up to the rounding of `exp`: a relative error below `SAMPLER_ERROR` within 10 `stddev`.

    Source: Canonne, Kamath & Steinke (2020), arXiv:2004.00010, Algorithms 2 and 3.

    >>> discrete_gaussian(Csprng(), 5.0, 3).shape
    (3,)
    """
    if not (math.isfinite(stddev) and stddev > 0):
        raise ValueError(f"stddev must be finite and > 0, got {stddev}")
    scale = math.floor(stddev) + 1
    kept: list[NDArray[np.int64]] = []
    have = 0
    while have < count:
        laplace = _discrete_laplace(rng, scale, int((count - have) * 2.0) + 32)
        excess = (np.abs(laplace) - stddev * stddev / scale) / stddev
        accepted = laplace[coins(rng, np.exp(-0.5 * excess * excess))]
        kept.append(accepted)
        have += len(accepted)
    return np.concatenate(kept)[:count]


def _discrete_laplace(rng: Csprng, scale: int, count: int) -> NDArray[np.int64]:
    """About `count` draws with P(x) proportional to exp(-|x| / scale)."""
    low = rng.below(int(count * 1.7) + 16, scale)
    low = low[coins(rng, np.exp(-low / scale))]
    high = np.zeros(len(low), dtype=np.int64)  # geometric: P(high >= k) = exp(-k)
    going = np.arange(len(low))
    while len(going := going[coins(rng, np.full(len(going), math.exp(-1.0)))]):
        high[going] += 1
    negative = (rng.words(len(low)) >> np.uint64(63)).astype(bool)
    size = low + scale * high
    once = ~(negative & (size == 0))  # zero must not count twice
    signed: NDArray[np.int64] = np.where(negative, -size, size)[once]
    return signed


def coins(rng: Csprng, probability: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Independent coins that are true with exactly `probability`, doubles in [0, 1]."""
    scaled = probability * 2.0**53
    whole = np.floor(scaled)
    first = (rng.words(len(scaled)) >> np.uint64(11)).astype(np.float64)
    heads = first < whole
    if (tie := first == whole).any():
        heads[tie] = rng.uniform(int(tie.sum())) < (scaled - whole)[tie]
    return heads


def poisson_batch(rng: Csprng, persons: int, probability: float) -> NDArray[np.int64]:
    """Indices of a batch in which each of `persons` stands independently with `probability`; it may be empty."""
    if not 0 < probability <= 1:
        raise ValueError(f"probability must be in (0, 1], got {probability}")
    threshold = min(int(probability * 2.0**64), 2**64 - 1)
    return np.flatnonzero(rng.words(persons) <= np.uint64(threshold))
