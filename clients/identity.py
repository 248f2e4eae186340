"""Who a holder is to the others: its two keys, on its own disk only, and the keys it has come to know them by.

A name keeps the first verify key that was seen under it (trust on first use), as long as the ledger lies where it does:
a coordinator can introduce a false key at the first meeting of two holders, never later. Enrolment, which closes the
first meeting too, comes with the deployment. A simulation without a lasting ledger begins anew in every run.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from clients.config import Node
from privacy.envelope import SealBroken, new_key, public_key
from privacy.signing import Keys, announcement, keys_of, new_signing_key

PEERS = "peers.json"


def private_key(folder: Path) -> bytes:
    """This holder's key for sealed messages, made on first use and kept on its disk only."""
    return _made(folder / "seal.key", new_key)


def public_key_of(node: Node, name: str) -> bytes:
    """The public part of this holder's sealing key."""
    return public_key(private_key(node.durable(name)))


def signing_key(node: Node, name: str) -> bytes:
    """This holder's key for signatures, made on first use and kept beside its ledger: others know it by this key."""
    return _made(node.durable(name) / "sign.key", new_signing_key)


def introduction(node: Node, name: str) -> dict[str, str]:
    """What this holder tells about its keys: `key`, `verify` and `bound`, base64."""
    return announcement(name, private_key(node.durable(name)), signing_key(node, name))


def peer(node: Node, own_name: str, other_name: str, told: Mapping[str, Any]) -> Keys:
    """The keys of another party, from its announcement as an order relays it, if it is the party known so far.

    `other_name` is as in `pinned`.

    Raises:
        SealBroken: where the announcement does not hold together, or is signed by another key than the pinned one.
        KeyError: where a field is missing.
    """
    keys = keys_of(other_name, told)
    pinned(node, own_name, other_name, keys.verify)
    return keys


def pinned(node: Node, own_name: str, other_name: str, announced: bytes) -> bytes:
    """The verify key by which `own_name` knows `other_name`: the first that was ever announced to it, 32 bytes.

    Args:
        node: plays `own_name`.
        own_name: the holder that keeps the pins.
        other_name: a holder, or the coordinator as `coordinator_of` calls it: its keys are one run's.
        announced: the verify key told now, 32 bytes.

    Raises:
        SealBroken: where it is another one, or the pins cannot be read.
    """
    if len(announced) != 32:
        raise SealBroken(f"the verify key of {other_name} has the wrong length")
    path, told = node.durable(own_name) / PEERS, base64.b64encode(announced).decode()
    with _alone(path.parent):
        pins = _pins(path)
        if other_name not in pins:
            _write(path, json.dumps({**pins, other_name: told}, indent=1, sort_keys=True).encode())
        elif pins[other_name] != told:
            remedy = f"ask its holder, and only if it is right remove the line from {path}"
            raise SealBroken(f"the key of {other_name} changed: it is not the one first seen; {remedy}")
    return announced


def _pins(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    try:
        pins = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        pins = None
    if not isinstance(pins, dict):
        raise SealBroken(f"the pinned keys cannot be read: {path}")
    return pins


def _made(path: Path, make: Callable[[], bytes]) -> bytes:
    """The key in a file; a new one, whole and on disk, where there is no file yet."""
    if not path.exists():
        with _alone(path.parent):
            if not path.exists():
                _write(path, make())
    return path.read_bytes()


def _write(path: Path, content: bytes) -> None:
    """Puts a file in place as a whole; only its owner may read it."""
    part = path.with_name(f"{path.name}.part")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Nobody else writes in this folder meanwhile; what was put in place stays after a crash."""
    place = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(place, fcntl.LOCK_EX)
        yield
        os.fsync(place)
    finally:
        os.close(place)
