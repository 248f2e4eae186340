"""Secret sharing: any `threshold` of the shares give the secret back, fewer say nothing about it.

Source: Shamir (1979), "How to share a secret", CACM 22(11), over the integers modulo 2^521 - 1.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence

PRIME = 2**521 - 1
SECRET, SHARE = 32, 66  # bytes


def shared(secret: bytes, threshold: int, places: Sequence[int]) -> dict[int, bytes]:
    """One share of `secret` (32 bytes) for each place, 66 bytes each.

    Args:
        secret: 32 bytes.
        threshold: how many shares give it back, from 1 to the number of places.
        places: distinct whole numbers > 0.

    >>> shares = shared(bytes(range(32)), 2, [1, 2, 3])
    >>> joined({3: shares[3], 1: shares[1]}) == bytes(range(32))
    True
    """
    if len(secret) != SECRET or len(set(places)) != len(places) or min(places) < 1:
        raise ValueError("a secret of 32 bytes is shared among distinct places > 0")
    if not 1 <= threshold <= len(places):
        raise ValueError(f"threshold must be from 1 to {len(places)} (shares), got {threshold}")
    coefficients = [int.from_bytes(secret, "big"), *(secrets.randbelow(PRIME) for _ in range(threshold - 1))]
    found = {}
    for place in places:
        value = 0
        for coefficient in reversed(coefficients):
            value = (value * place + coefficient) % PRIME
        found[place] = value.to_bytes(SHARE, "big")
    return found


def joined(shares: Mapping[int, bytes]) -> bytes:
    """The secret behind exactly as many shares as its threshold, by their places.

    Raises:
        ValueError: where they are not shares of one secret of 32 bytes; too few or altered ones mostly show so.
    """
    total = 0
    for place, share in shares.items():
        above = below = 1
        for other in shares:
            if other != place:
                above = above * -other % PRIME
                below = below * (place - other) % PRIME
        total = (total + int.from_bytes(share, "big") * above * pow(below, -1, PRIME)) % PRIME
    if total >= 1 << (8 * SECRET):
        raise ValueError("these shares give no secret of 32 bytes: too few, altered, or of different secrets")
    return total.to_bytes(SECRET, "big")
