"""A holder's part in finding the persons it shares with the lender: its set committed first, its limits kept.

What takes minutes is kept on the holder's disk and taken from there as long as it is for the same persons, so that a
retry or another run with unchanged files costs nothing, and the other side sees the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clients.config import Node
from model.federation import LENDER
from model.inputs import InputError
from model.wire import pack, unpack
from privacy.alignment import tokens
from privacy.durable import alone, made, write
from privacy.envelope import new_key
from privacy.matching import Bytes, Integers, Matcher, Offer, Psi, Tokens

Arrays = dict[str, NDArray[np.generic]]

COUNTED = "alignments.json"  # by programme and party, the sets that were aligned


def matcher(node: Node, name: str) -> Matcher:
    """How this holder finds whom it shares; raises `InputError` where a real node is to do it by tokens."""
    if node.alignment == "tokens":
        if not node.simulated:
            raise InputError("node configuration", "alignment", "must be psi outside a simulation", node.alignment)
        return Tokens(new_key())
    return Psi(_secret(node, name), node.programme)


def offer(node: Node, name: str, ids: Sequence[str]) -> Offer:
    """The partner's set, hidden: the first thing that it sends, before it was shown anything."""

    def make() -> Arrays:
        made = matcher(node, name).offer(ids)
        return {"items": made.items, "rows": made.rows}

    kept = _kept(node, name, "offer", [_digest(ids)], make)
    return Offer(kept["items"].astype(np.uint8), kept["rows"].astype(np.int64))


def shown(node: Node, cohort: Sequence[str], engine: Matcher) -> Bytes:
    """The lender's cohort, hidden, in order."""
    kept = _kept(node, LENDER, "shown", [_digest(cohort)], lambda: {"items": engine.shown(cohort)})
    return kept["items"].astype(np.uint8)


def answered(node: Node, partner: str, cohort: Sequence[str], items: Bytes, engine: Matcher) -> Bytes:
    """The lender's answer to one partner's set, which it counts first.

    Raises:
        InputError: where the partner had as many different sets answered as this node allows, or this one is too large.
        MatchRefused: where it is no set.
    """
    if node.alignment == "tokens":
        return engine.answered(cohort, items)
    if len(items) > 2 * node.limits.max_cohort:
        raise InputError("order", "set", "is larger than this holder's limit", partner)
    digest = hashlib.sha256(items.tobytes()).hexdigest()
    _count(node, LENDER, partner, digest)
    key = [_digest(cohort), digest]
    kept = _kept(node, LENDER, f"answer-{partner}", key, lambda: {"items": engine.answered(cohort, items)})
    return kept["items"].astype(np.uint8)


def rows(node: Node, name: str, ids: Sequence[str], told: tuple[str, Bytes, Bytes]) -> Integers:
    """The partner's row of each person of the cohort, -1 where it has none.

    Args:
        told: the digest of the set that the lender answers to, its cohort, hidden, and its answer.

    Raises:
        InputError: where it is the answer to another set, or the cohort is one too many for this node.
        MatchRefused: where it is no answer.
    """
    digest, hidden, answer = told
    if node.alignment == "tokens":
        return matcher(node, name).rows(ids, _nothing(), hidden, answer)
    own = offer(node, name, ids)
    if digest != own.digest:
        raise InputError("order", "cohort", "answers another set than this holder's", name)
    _count(node, name, LENDER, hashlib.sha256(hidden.tobytes()).hexdigest())
    key = [_digest(ids), *(hashlib.sha256(part.tobytes()).hexdigest() for part in (hidden, answer))]
    kept = _kept(node, name, "rows", key, lambda: {"rows": matcher(node, name).rows(ids, own, hidden, answer)})
    return kept["rows"].astype(np.int64)


def order_of(node: Node, ids: Sequence[str]) -> Integers:
    """The order in which a real lender shows its cohort: of its own making, so that its file's tells nothing."""
    key = hashlib.blake2b(_secret(node, LENDER), person=b"order", digest_size=32).digest()
    return np.argsort(tokens(ids, key), kind="stable")


def _nothing() -> Offer:
    return Offer(np.zeros((0, 0), np.uint8), np.zeros(0, np.int64))


def _secret(node: Node, name: str) -> bytes:
    """The holder's key of all its sets, kept as long as the ledger."""
    return made(node.durable(name) / "match.key", new_key)


def _count(node: Node, name: str, other: str, digest: str) -> None:
    """Keeps, on disk and before anything is answered, which sets of another party were; refuses one too many."""
    folder, who = node.durable(name), f"{node.programme}|{other}"
    path = folder / COUNTED
    with alone(folder):
        counted: dict[str, list[str]] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        before = counted.setdefault(who, [])
        if digest in before:
            return
        if len(before) >= node.limits.max_alignments:
            remedy = "raise limits.max-alignments only if its people can say why their persons changed so often"
            raise InputError("order", "set", "is one more than may be aligned in this programme", other, remedy)
        before.append(digest)
        write(path, json.dumps(counted, indent=1, sort_keys=True).encode())


def _kept(node: Node, name: str, slot: str, key: Sequence[str], make: Callable[[], Arrays]) -> Arrays:
    """What was made before for this key, from the holder's disk; the slot holds the last only."""
    if node.alignment == "tokens":
        return make()
    path, wanted = node.durable(name) / f"match-{slot}.npz", "|".join([node.programme, *key])
    found = _read(path)
    if found.get("key", np.array("")).item() == wanted:
        return found
    arrays = make()
    write(path, pack(key=np.array(wanted), **arrays))
    return arrays


def _read(path: Path) -> Arrays:
    """A slot's arrays; none where it is empty or was spoilt, for it can be made again."""
    try:
        return unpack(path.read_bytes())
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return {}


def _digest(ids: Sequence[str]) -> str:
    """Of persons in order."""
    return hashlib.sha256(json.dumps(list(ids)).encode()).hexdigest()
