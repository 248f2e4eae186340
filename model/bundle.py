"""The published model: blocks as safetensors, contracts, fusion table and privacy statement, under one hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from model.blocks import Block
from model.contract import Contract
from model.encoding import Encoding
from model.inputs import InputError
from model.limits.table import MICRO, DecisionBundle, FusionTable

SCHEMA = "fedscore-bundle/1"
_ARRAYS, _HEAD = "arrays.safetensors", "bundle.json"


@dataclass(frozen=True)
class Bundle:
    """A model as it is published and decided with.

    Attributes:
        name: the programme's name.
        blocks: by domain.
        table: the fusion table, calibration folded in.
        centres: each block's average log-odds (noisy): what reasons are measured against.
        statement: the privacy statement.
        quality: estimates on held-out persons from their noisy histogram; None where nobody was held out.
    """

    name: str
    blocks: Mapping[str, Block]
    table: FusionTable
    centres: Mapping[str, float]
    statement: Mapping[str, Any]
    quality: Mapping[str, Any] | None = None

    def save(self, folder: Path) -> str:
        """Writes the bundle into a folder that must not exist yet; returns its sha256."""
        folder.mkdir(parents=True)
        arrays = {f"{domain}/weights": np.ascontiguousarray(b.weights) for domain, b in self.blocks.items()}
        save_file(arrays, folder / _ARRAYS)
        head = {
            "schema": SCHEMA,
            "name": self.name,
            "kind": "subscores",
            "blocks": {
                domain: {
                    "engine": b.engine,
                    "contract_sha256": b.encoding.contract.sha256,
                    "contract": b.encoding.contract.to_dict(),
                }
                for domain, b in self.blocks.items()
            },
            "fusion": self.table.to_dict(),
            "centres": dict(self.centres),
            "statement": dict(self.statement),
            "quality": self.quality,
            "arrays_sha256": hashlib.sha256((folder / _ARRAYS).read_bytes()).hexdigest(),
        }
        text = json.dumps(head, indent=1, sort_keys=True, ensure_ascii=False)
        (folder / _HEAD).write_text(text, encoding="utf-8")
        return hashlib.sha256(text.encode()).hexdigest()

    @classmethod
    def load(cls, folder: Path) -> Bundle:
        """Reads a bundle; raises `InputError` where a file is missing or was changed."""
        head, _ = _head(folder)
        path = folder / _ARRAYS
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != head["arrays_sha256"]:
            raise InputError(path, "", "is missing or does not fit bundle.json", remedy="restore the bundle")
        arrays = load_file(folder / _ARRAYS)
        blocks = {}
        for domain, row in head["blocks"].items():
            encoding = Encoding.of(Contract.from_dict(row["contract"]))
            blocks[domain] = Block(row["engine"], encoding, arrays[f"{domain}/weights"])
        table = FusionTable.from_dict(head["fusion"], folder / _HEAD)
        return cls(head["name"], blocks, table, head["centres"], head["statement"], head.get("quality"))


def decision_bundle(folder: Path) -> DecisionBundle:
    """What the limit decision needs of a published model: its table, its reference and its hash."""
    head, sha256 = _head(folder)
    table = FusionTable.from_dict(head["fusion"], folder / _HEAD)
    reference = {block: round(value * MICRO) for block, value in head["centres"].items()}
    return DecisionBundle(head["name"], sha256, table, "subscores", reference)


def _head(folder: Path) -> tuple[dict[str, Any], str]:
    path = folder / _HEAD
    try:
        text = path.read_text(encoding="utf-8")
        head = json.loads(text)
    except FileNotFoundError:
        raise InputError(path, "", "does not exist", remedy="give the model folder of a run") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError):
        raise InputError(path, "", "is not a model bundle", remedy="give the model folder of a run") from None
    if not isinstance(head, dict) or head.get("schema") != SCHEMA:
        got = head.get("schema") if isinstance(head, dict) else None
        raise InputError(path, "schema", f"must be {SCHEMA}", got, "this file is of another kind or version")
    for key in ("name", "blocks", "fusion", "centres", "statement", "arrays_sha256"):
        if key not in head:
            raise InputError(path, key, "is missing", remedy="restore the bundle")
    return head, hashlib.sha256(text.encode()).hexdigest()
