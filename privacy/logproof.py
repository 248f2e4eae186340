"""Proof that one entry is in the log: a small file that anybody can check without the log.

It holds the entry, and for the latest checkpoint and every checkpoint that a witness cosigned the hashes that lead from
the entry to its root.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from privacy.checkpoints import Checkpoint, decoded, proof_of, proof_to_list
from privacy.envelope import SealBroken
from privacy.logfile import Entry, Kept, LogBroken, Witness, signed_by
from privacy.translog import verify_inclusion

KIND, VERSION = "fedscore-log-proof", 1


@dataclass(frozen=True)
class Proven:
    """What a proof shows: the entry, the key that signed the checkpoints, and who cosigned one that has the entry."""

    entry: Entry
    key: bytes
    witnesses: Mapping[str, Witness]


def prove(kept: Kept, number: int) -> dict[str, Any]:
    """The proof of an entry as plain values; raises `ValueError` where the log has no such entry."""
    if not 0 <= number < len(kept.entries):
        raise ValueError(f"the log has entries 0 to {len(kept.entries) - 1}")
    seen = {name: w for name, w in kept.witnesses.items() if w.checkpoint.size > number}
    checkpoints = {c.size: c for c in (kept.checkpoint, *(w.checkpoint for w in seen.values())) if c.size > number}
    return {
        "kind": KIND,
        "version": VERSION,
        "entry": kept.entries[number].line().decode(),
        "number": number,
        "keys": [base64.b64encode(key).decode() for key in kept.keys],
        "checkpoints": [
            {"checkpoint": c.to_dict(), "proof": proof_to_list(kept.tree.inclusion(number, size))}
            for size, c in sorted(checkpoints.items())
        ],
        "witnesses": {name: witness.to_dict() for name, witness in sorted(seen.items())},
    }


def proven(told: Any, key: bytes | None = None) -> Proven:
    """What a proof shows, wholly checked.

    Args:
        told: the proof as plain values.
        key: the coordinator's verify key, which must be the log's latest; without it the proof vouches for its own.

    Raises:
        LogBroken: where it shows nothing, naming why.
    """
    try:
        fields = (told["kind"], told["version"], len(told))
        keys = [decoded(text) for text in told["keys"]]
        parts = [(Checkpoint.of(row["checkpoint"]), proof_of(row["proof"])) for row in told["checkpoints"]]
        witnesses = {str(name): Witness.of(row) for name, row in told["witnesses"].items()}
        number, line = told["number"], str(told["entry"]).encode()
    except (KeyError, TypeError, ValueError, AttributeError):
        raise LogBroken("this is no proof of a log entry") from None
    if fields != (KIND, VERSION, 7) or type(number) is not int or not keys or not parts:
        raise LogBroken("this is no proof of a log entry")
    if key is not None and keys[-1] != key:
        raise LogBroken("the proof is signed by another key than the one given")
    entry = Entry.of(line, number)
    for checkpoint, proof in parts:
        signed_by(checkpoint, keys, "a checkpoint")
        if checkpoint.origin != entry.log or not verify_inclusion(
            line, (number, checkpoint.size), proof, checkpoint.root
        ):
            raise LogBroken(f"entry {number} is not shown to be in the log")
    for name, witness in witnesses.items():
        try:
            witness.check(name)
        except SealBroken:
            raise LogBroken(f"the cosignature of {name} does not fit its checkpoint") from None
        if witness.checkpoint not in {checkpoint for checkpoint, _ in parts}:
            raise LogBroken(f"{name} cosigned a checkpoint that the proof does not lead to")
    return Proven(entry, keys[-1], witnesses)
