"""A holder as witness of the coordinator's log: it keeps the last checkpoint, and takes only what extends it.

A node that joined keeps one checkpoint, whatever key signs the log later: a log that begins anew is refused. In a
simulation every coordinator's key has a log of its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clients.config import Node
from privacy.checkpoints import Checkpoint, proof_of
from privacy.durable import alone, write
from privacy.envelope import SealBroken

HELD = "checkpoint.json"


def held_at(node: Node, name: str, verify: bytes) -> Path:
    """Where the checkpoint lies that a holder keeps of the log of this key's owner."""
    if node.coordinator:
        return node.durable(name) / HELD
    return node.folder(name) / f"checkpoint-{verify.hex()[:16]}.json"


def accept(path: Path, verify: bytes, told: Mapping[str, Any], sync: bool = True) -> Checkpoint:
    """The checkpoint that an order carries, kept on disk once it is seen to continue the one that lies at `path`.

    Args:
        verify: the coordinator's key, 32 bytes.
        told: `checkpoint`, and `proofs` by the size that they start from.

    Raises:
        LogRefused: where it does not continue it.
        SealBroken: where it is no checkpoint of that key, or the one that lies there cannot be read.
    """
    checkpoint, proofs = Checkpoint.of(told.get("checkpoint")), told.get("proofs")
    checkpoint.check(verify)
    with alone(path.parent, sync):
        kept = held(path)
        if kept is not None and kept.text() == checkpoint.text():
            return checkpoint
        found = proofs.get(str(kept.size)) if kept is not None and isinstance(proofs, dict) else None
        checkpoint.extends(kept, proof_of(found or []))
        write(path, (json.dumps(checkpoint.to_dict(), indent=1) + "\n").encode(), sync)
    return checkpoint


def held(path: Path) -> Checkpoint | None:
    """The checkpoint that lies at `path`; raises `SealBroken` where it cannot be read."""
    if not path.exists():
        return None
    try:
        return Checkpoint.read(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SealBroken(f"{path}: cannot be read ({error.strerror})") from None
