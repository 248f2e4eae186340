"""The model versions that a holder knows, and what it keeps to score new persons with each.

A holder answers for weights that it scored in a run, or that its own people allowed, and for no others: weights made up
to fit would read its features out of sub-scores. A version is named by the hash of contract and weights, so whoever
asks cannot give other weights an old name.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clients.config import Node
from model.blocks import Block
from model.inputs import InputError
from model.wire import pack, unpack
from privacy.durable import write

Floats = NDArray[np.float64]
_FOLDER = "models"


@dataclass(frozen=True)
class Known:
    """What a holder keeps of a version.

    Attributes:
        average: the families' averages that reasons are measured against; None: reasons are not told.
        covariance: how sure the block is; None: not known.
    """

    average: Floats | None = None
    covariance: Floats | None = None


def version_of(block: Block) -> str:
    """The name of a block's version, 64 hexadecimal digits."""
    told = json.dumps([block.engine, block.encoding.contract.sha256, len(block.weights)])
    weights = np.ascontiguousarray(block.weights, dtype="<f8").tobytes()
    return hashlib.sha256(b"fedscore-block-1|" + told.encode() + b"|" + weights).hexdigest()


def remember(node: Node, name: str, block: Block, known: Known) -> None:
    """Keeps a version that this holder scored in a run."""
    parts = {"average": known.average, "covariance": known.covariance}
    _write(node.durable(name), version_of(block), pack(**{k: v for k, v in parts.items() if v is not None}))


def allow(durable: Path, version: str) -> None:
    """Has the holder of a folder (`Node.durable`) answer for a version that it never trained, once its people agree.

    Raises:
        InputError: where that is no name of a version.
    """
    if len(version) != 64 or set(version) - set("0123456789abcdef"):
        raise InputError("command line", "VERSION", "must be 64 hexadecimal digits", version)
    if not _path(durable, version).exists():
        _write(durable, version, pack())


def recalled(node: Node, name: str, block: Block) -> Known:
    """What this holder keeps of a version; raises `InputError` where it does not know it."""
    path = _path(node.durable(name), version_of(block))
    if not path.is_file():
        remedy = "its people may allow it: `fedscore partner allow`"
        raise InputError("order", "model", "is no version that this holder knows", path.stem[:16], remedy)
    found = unpack(path.read_bytes())
    given = {part: found[part].astype(np.float64) for part in ("average", "covariance") if part in found}
    return Known(given.get("average"), given.get("covariance"))


def _path(durable: Path, version: str) -> Path:
    return durable / _FOLDER / f"{version}.npz"


def _write(durable: Path, version: str, content: bytes) -> None:
    path = _path(durable, version)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write(path, content)
