"""The cohort: how the lender hands its ordered persons to the holders, and how each finds its own rows in it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clients.config import Node
from clients.identity import private_key
from clients.tables import Cohort, Table, load_cohort, load_table
from model.federation import LENDER
from model.inputs import InputError
from model.wire import TRAIN_ROWS, pack, unpack
from privacy.alignment import positions, tokens
from privacy.envelope import new_key, seal, unseal


@dataclass(frozen=True)
class Aligned:
    """The cohort as one holder sees it, in the lender's order.

    `rows` gives the holder's own row of each person, -1 where it has none; `labels` are -1 where not given. `home` says
    whose home this holder is among the partners of its domain, once the lender told it. `digest` is the same at all
    holders that were told the same persons, in the same order and groups.
    """

    rows: NDArray[np.int64]
    labels: NDArray[np.int8]
    group: NDArray[np.int8]
    home: NDArray[np.bool_] | None = None
    digest: str = ""

    @property
    def trainable(self) -> NDArray[np.int64]:
        """Places in the cohort of the training persons that this holder has."""
        return np.flatnonzero((self.group == TRAIN_ROWS) & (self.rows >= 0))


def sizes_of(node: Node) -> dict[str, int]:
    """How many persons the lender's cohort trains on and holds out: public numbers."""
    train = int((cohort_of(node).group == TRAIN_ROWS).sum())
    return {"train": train, "held_out": len(cohort_of(node).group) - train}


def hand_out(node: Node, receivers: Mapping[str, bytes], told: NDArray[np.int8]) -> dict[str, bytes]:
    """The cohort sealed for each receiver; the lender keeps its own copy on disk.

    A receiver learns the order, the tokens, the groups, and the labels of the training persons as they are `told`.
    """
    cohort = cohort_of(node)
    strangers = sorted(set(receivers) - {p.name for p in node.federation.partners})
    if strangers:
        raise InputError("order", "keys", "name a receiver that is no partner", strangers[0])
    key = new_key()
    held = tokens(cohort.ids.to_list(), key)

    def packet(labels: NDArray[np.int8]) -> bytes:
        shown = np.where(cohort.group == TRAIN_ROWS, labels, -1).astype(np.int8)
        return pack(key=np.frombuffer(key, np.uint8), tokens=held, labels=shown, group=cohort.group)

    _store(node, LENDER, packet(cohort.labels))
    others = packet(told)
    return {name: seal(receiver, others, f"{node.programme}|cohort|{name}") for name, receiver in receivers.items()}


def accept(node: Node, name: str, sealed: bytes) -> None:
    """Opens the lender's packet and keeps this holder's alignment on its disk."""
    _store(node, name, unseal(private_key(node.durable(name)), sealed, f"{node.programme}|cohort|{name}"))


def aligned(node: Node, name: str, plan: str = "") -> Aligned:
    """The alignment that `hand_out` or `accept` kept, with the homes that were told for this plan, if any were."""
    path = node.folder(name) / "cohort.npz"
    if not path.is_file():
        raise InputError("order", "cohort", "was never handed to this holder", name)
    with np.load(path) as kept:
        cohort = Aligned(kept["rows"], kept["labels"], kept["group"], digest=str(kept["digest"]))
    home = node.folder(name) / "home.npz"
    if not home.is_file():
        return cohort
    with np.load(home) as told:
        return replace(cohort, home=told["home"]) if str(told["plan"]) == plan else cohort


def _store(node: Node, name: str, packet: bytes) -> None:
    arrays = unpack(packet)
    table = table_of(node, name)
    own = tokens(table.ids.to_list(), arrays["key"].tobytes())
    rows = positions(arrays["tokens"].view(np.uint64), own)
    (node.folder(name) / "home.npz").unlink(missing_ok=True)  # homes are told anew in every run
    digest = hashlib.sha256(arrays["tokens"].tobytes() + arrays["group"].tobytes()).hexdigest()
    kept = pack(rows=rows, labels=arrays["labels"], group=arrays["group"], digest=np.array(digest))
    (node.folder(name) / "cohort.npz").write_bytes(kept)


def table_of(node: Node, name: str) -> Table:
    """The holder's table, loaded once a process as long as the files stay as they are."""
    holder = node.federation.holder(name)
    return _table(_Key(node, name, _stamps(holder.data + node.federation.lender.data)))


def cohort_of(node: Node) -> Cohort:
    """The lender's cohort, loaded once a process as long as the files stay as they are."""
    return _cohort(_Key(node, LENDER, _stamps(node.federation.lender.data)))


class _Key:
    """A cache key: equal for the same holder, seed and federation file over unchanged data files."""

    def __init__(self, node: Node, name: str, stamps: tuple[object, ...]) -> None:
        self.node, self.name = node, name
        contract = node.federation.holder(name).contract
        file = node.federation.path
        self.identity = (file, _stamps((file,)), name, contract and contract.sha256, node.seed, stamps)

    def __hash__(self) -> int:
        return hash(self.identity)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self.identity == other.identity


def _stamps(paths: tuple[Path, ...]) -> tuple[object, ...]:
    return tuple((p, (s := p.stat()).st_mtime_ns, s.st_size) if p.exists() else (p, 0, 0) for p in paths)


@lru_cache(maxsize=16)
def _table(key: _Key) -> Table:
    return load_table(key.node.federation, key.node.federation.holder(key.name))


@lru_cache(maxsize=4)
def _cohort(key: _Key) -> Cohort:
    return load_cohort(key.node.federation, key.node.seed)
