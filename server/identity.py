"""Who the coordinator is to the holders: its signing key, the numbers of its orders, and its keys of one fit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from privacy.durable import alone, made, write
from privacy.envelope import new_key
from privacy.signing import announcement, coordinator_of, new_signing_key
from server.failures import RunFailed

SIGN_KEY = Path("keys") / "sign.key"
NUMBERS = Path("keys") / "orders.json"
_BLOCK = 1000  # numbers that are set aside at once: a restart skips the rest of them


@dataclass(frozen=True)
class Coordinator:
    """The coordinator's private keys, 32 bytes each, fresh in every run unless it joined others under a lasting one.

    >>> Coordinator.fresh() == Coordinator.fresh()
    False
    """

    seal_key: bytes = field(repr=False)
    sign_key: bytes = field(repr=False)

    @classmethod
    def fresh(cls, sign_key: bytes = b"") -> Coordinator:
        """New keys, for one run; its signing key is `sign_key` where that is given."""
        return cls(new_key(), sign_key or new_signing_key())

    def public(self, plan: str) -> dict[str, str]:
        """What the orders of a plan tell about it: `key`, `verify` and `bound`, base64, as a holder tells of itself."""
        return announcement(coordinator_of(plan), self.seal_key, self.sign_key)


def lasting_key(home: Path | None) -> bytes:
    """The signing key in the coordinator's folder, made on first use; a fresh one where there is no folder.

    Raises:
        RunFailed: where it cannot be kept, or is no key.
    """
    if home is None:
        return new_signing_key()
    try:
        key = made(home / SIGN_KEY, new_signing_key)
    except OSError as error:
        raise RunFailed(f"the coordinator's key cannot be kept ({error.strerror})") from None
    if len(key) != 32:
        raise RunFailed(f"{home / SIGN_KEY} is not a key of 32 bytes: restore it from a backup")
    return key


def numbers(home: Path | None) -> Iterator[int]:
    """The numbers of orders, from 1: each higher than all before, over runs and restarts where there is a folder."""
    if home is None:
        yield from count(1)
        return
    while True:
        first = _set_aside(home / NUMBERS)
        yield from range(first, first + _BLOCK)


def _set_aside(path: Path) -> int:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with alone(path.parent):
            first = int(json.loads(path.read_text(encoding="utf-8"))["next"]) if path.exists() else 1
            write(path, json.dumps({"next": first + _BLOCK}).encode())
    except OSError as error:
        raise RunFailed(f"the numbers of orders cannot be kept ({error.strerror})") from None
    except (ValueError, KeyError, TypeError):
        raise RunFailed(f"{path} cannot be read: restore it from a backup") from None
    return first
