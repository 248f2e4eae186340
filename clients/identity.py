"""Who a holder is to the others: its two keys, on its own disk only, and the keys it has come to know them by.

A node that joined a federation knows the others by the keys that its people confirmed (`trust`), and nobody else. In a
simulation a name keeps the first verify key that was seen under it (trust on first use), as long as the ledger lies
where it does: there the coordinator could introduce a false key at the first meeting of two holders, never later.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clients.config import Node
from privacy.durable import alone, made, write
from privacy.envelope import SealBroken, new_key
from privacy.signing import Keys, announcement, coordinator_of, keys_of, new_signing_key

PEERS = "peers.json"


def private_key(folder: Path) -> bytes:
    """This holder's key for sealed messages, made on first use and kept on its disk only."""
    return made(folder / "seal.key", new_key)


def signing_key(node: Node, name: str) -> bytes:
    """This holder's key for signatures, made on first use and kept beside its ledger: others know it by this key."""
    return made(node.durable(name) / "sign.key", new_signing_key)


def introduction(node: Node, name: str) -> dict[str, str]:
    """What this holder tells about its keys: `key`, `verify` and `bound`, base64."""
    return announcement(name, private_key(node.durable(name)), signing_key(node, name))


def peer(node: Node, own_name: str, other_name: str, told: Mapping[str, Any]) -> Keys:
    """The keys of another party, from its announcement as an order relays it, if it is the party known so far.

    `other_name` is as in `pinned`.

    Raises:
        SealBroken: where the announcement does not hold together, or is signed by another key than the pinned one; at
            a node that joined, also where its sealing key is not the one of the welcome that was accepted last.
        KeyError: where a field is missing.
    """
    keys = keys_of(other_name, told)
    pinned(node, own_name, other_name, keys.verify)
    lasting = node.coordinator and not other_name.startswith(coordinator_of(""))
    if lasting and node.seals.get(other_name) != keys.seal:  # an old one may have leaked since its holder replaced it
        raise SealBroken(f"the sealing key of {other_name} is not the welcome's: join with the newest welcome")
    return keys


def pinned(node: Node, own_name: str, other_name: str, announced: bytes) -> bytes:
    """The verify key by which `own_name` knows `other_name`: the first that was ever announced to it, 32 bytes.

    Args:
        node: plays `own_name`.
        own_name: the holder that keeps the pins.
        other_name: a holder, or the coordinator as `coordinator_of` calls it: its keys are one run's.
        announced: the verify key told now, 32 bytes.

    Raises:
        SealBroken: where it is another one, or the pins cannot be read; at a node that joined, also where it has none.
    """
    if len(announced) != 32:
        raise SealBroken(f"the verify key of {other_name} has the wrong length")
    if node.coordinator and other_name.startswith(coordinator_of("")):
        if announced != node.coordinator:
            raise SealBroken("the coordinator's key is not the one that this node joined")
        return announced
    path, told = node.durable(own_name) / PEERS, base64.b64encode(announced).decode()
    with alone(path.parent):
        pins = _pins(path)
        if other_name not in pins:
            if node.coordinator:
                raise SealBroken(f"nobody vouched for the key of {other_name}: join with the next welcome")
            _write_pins(path, {**pins, other_name: told})
        elif pins[other_name] != told:
            remedy = f"ask its holder, and only if it is right remove the line from {path}"
            raise SealBroken(f"the key of {other_name} changed: it is not the one first seen; {remedy}")
    return announced


def trust(folder: Path, other_name: str, verify: bytes) -> None:
    """Has the holder of a folder know another by this verify key from now on, once a person confirmed that it is right.

    Args:
        folder: as `Node.durable` gives it.
        other_name: another holder.
        verify: its key, 32 bytes; it replaces an earlier one.

    Raises:
        SealBroken: where the key has another length, or the pins cannot be read.
    """
    if len(verify) != 32:
        raise SealBroken(f"the verify key of {other_name} has the wrong length")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with alone(folder):
        path = folder / PEERS
        _write_pins(path, {**_pins(path), other_name: base64.b64encode(verify).decode()})


def _write_pins(path: Path, pins: Mapping[str, str]) -> None:
    write(path, json.dumps(pins, indent=1, sort_keys=True).encode())


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
