"""The cohort: how the lender hands its ordered persons to the holders, and how each finds its own rows in it."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from clients import matching
from clients.config import Node, programme_of
from clients.files import stamps
from clients.ids import persons
from clients.packets import Channel
from clients.tables import Cohort, Table, load_cohort, load_table
from model.federation import LENDER
from model.inputs import InputError
from model.wire import TRAIN_ROWS, pack, unpack
from privacy.envelope import SealBroken
from privacy.matching import POINT, Bytes, MatchRefused

Value = TypeVar("Value")

_log = logging.getLogger("fedscore.clients")


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


@dataclass(frozen=True)
class Handed:
    """The cohort sealed for each receiver, and why a receiver gets none: "seal", "input" or "protocol"."""

    packets: Mapping[str, bytes]
    refused: Mapping[str, str]


def commit(channel: Channel, told: Mapping[str, Any]) -> tuple[bytes, str]:
    """A partner's set of persons, hidden and sealed for the lender, and the digest that it is committed to.

    Args:
        channel: the partner's.
        told: the lender's announcement.

    Raises:
        InputError: where this holder has fewer persons than it wants in common.
    """
    node, name = channel.node, channel.name
    ids = persons_of(node, name)
    if len(ids) < max(1, node.limits.min_cohort):
        raise InputError(node.federation.holder(name).data[0], "", "has fewer persons than limits.min-cohort")
    offer = matching.offer(node, name, ids)
    return channel.seal(LENDER, told, pack(items=offer.items), "offer"), offer.digest


def hand_out(
    channel: Channel,
    receivers: Mapping[str, Mapping[str, Any]],
    labels: NDArray[np.int8],
    offers: Mapping[str, tuple[bytes, str]] = MappingProxyType({}),
) -> Handed:
    """The cohort for each receiver; the lender keeps its own copy on disk.

    A receiver learns the order, the groups, the `labels` of the training persons as they are told, and which of its own
    persons are where.

    Args:
        channel: the lender's.
        receivers: by partner, its announcement.
        offers: by partner, the set that it committed to, as it came, and its digest as the log has it.

    Raises:
        InputError: where a receiver is no partner, or the cohort is below this node's least.
    """
    node = channel.node
    cohort, ids = cohort_of(node), persons_of(node, LENDER)
    strangers = sorted(set(receivers) - {p.name for p in node.federation.partners})
    if strangers:
        raise InputError("order", "keys", "name a receiver that is no partner", strangers[0])
    if len(ids) < node.limits.min_cohort:
        raise InputError(node.federation.lender.data[0], "", "has fewer persons than limits.min-cohort")
    engine = matching.matcher(node, LENDER)
    hidden = matching.shown(node, ids, engine)
    own = {person: row for row, person in enumerate(table_of(node, LENDER).ids)}
    rows = np.array([own.get(person, -1) for person in cohort.ids], dtype=np.int64)
    common = {
        "form": np.array(node.federation.id_form),
        "shown": hidden,
        "labels": np.where(cohort.group == TRAIN_ROWS, labels, -1).astype(np.int8),
        "group": cohort.group,
    }
    kept = np.where(cohort.group == TRAIN_ROWS, cohort.labels, -1).astype(np.int8)
    _store(node, LENDER, rows, common | {"labels": kept})
    packets, refused = {}, {}
    for name, told in receivers.items():
        try:
            items = _offered(channel, name, told, offers.get(name))
            answer = matching.answered(node, name, ids, items, engine)
            told_of = {"answer": answer, "set": np.array(hashlib.sha256(items.tobytes()).hexdigest())}
            packets[name] = channel.seal(name, told, pack(**common, **told_of), "cohort")
        except (ValueError, KeyError, TypeError) as error:  # whatever one sent, the others get their answer
            refused[name] = {SealBroken: "seal", InputError: "input"}.get(type(error), "protocol")
            known = isinstance(error, SealBroken | InputError | MatchRefused)
            _log.error("no cohort for %s: %s", name, error if known else type(error).__name__)
    return Handed(packets, refused)


def _offered(channel: Channel, name: str, told: Mapping[str, Any], offer: tuple[bytes, str] | None) -> Bytes:
    """The set that a partner committed to; nothing where tokens are used."""
    if offer is None:
        return np.zeros((0, POINT), np.uint8)
    items = offered(channel.open(name, told, offer[0], "offer"))
    if hashlib.sha256(items.tobytes()).hexdigest() != offer[1]:
        raise MatchRefused("a set is not the one that was logged")
    return items


def offered(packet: bytes) -> Bytes:
    """The set of persons in a partner's packet; raises `MatchRefused` or another `ValueError` where it is none."""
    items = unpack(packet).get("items")
    if items is None or items.dtype != np.uint8 or items.ndim != 2 or items.shape[1] != POINT:
        raise MatchRefused("a set is no list of points")
    return items.astype(np.uint8)


def accept(channel: Channel, told: Mapping[str, Any], packet: bytes) -> None:
    """Opens the lender's packet and keeps this holder's alignment on its disk.

    Args:
        channel: the partner's.
        told: the lender's announcement.

    Raises:
        SealBroken: where the packet is not the lender's, for this holder and plan.
        InputError: where the lender writes ids in another form, the cohort is larger than this node's most, or fewer
            persons are in common than its least. How many they are is told to nobody.
        MatchRefused: where the packet holds no answer to this holder's set.
    """
    node, name = channel.node, channel.name
    arrays = unpack(channel.open(LENDER, told, packet, "cohort"))
    federation, file = node.federation, node.federation.holder(name).data[0]
    if str(arrays["form"]) != federation.id_form:
        raise InputError(federation.path, "federation.id-form", "is not the lender's", federation.id_form)
    size = len(arrays["group"])
    if size > node.limits.max_cohort or not size == len(arrays["labels"]) == len(arrays["shown"]):
        raise InputError("order", "cohort", "is larger than limits.max-cohort, or does not hold together")
    hidden, answer = (arrays[part].astype(np.uint8, casting="safe") for part in ("shown", "answer"))
    rows = matching.rows(node, name, persons_of(node, name), (str(arrays["set"]), hidden, answer))
    common = int((rows >= 0).sum())
    if common == 0:
        rule, remedy = "shares no person with the lender's cohort", "check that both write ids alike (id-form)"
        raise InputError(file, federation.id, rule, remedy=remedy)
    if common < node.limits.min_cohort:
        raise InputError(file, federation.id, "shares fewer persons with the lender's cohort than limits.min-cohort")
    _store(node, name, rows, arrays)


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


def _store(node: Node, name: str, rows: NDArray[np.int64], told: Mapping[str, NDArray[np.generic]]) -> None:
    """Keeps whose row is where, with the groups and labels that were told."""
    (node.folder(name) / "home.npz").unlink(missing_ok=True)  # homes are told anew in every run
    group = told["group"].astype(np.int8)
    digest = hashlib.sha256(told["shown"].tobytes() + group.tobytes()).hexdigest()
    kept = pack(rows=rows, labels=told["labels"].astype(np.int8), group=group, digest=np.array(digest))
    (node.folder(name) / "cohort.npz").write_bytes(kept)


def table_of(node: Node, name: str) -> Table:
    """The holder's table, loaded once a process as long as the files stay as they are."""
    holder = node.federation.holder(name)
    return _table(_Key(node, name, stamps(holder.data + node.federation.lender.data)))


def cohort_of(node: Node) -> Cohort:
    """The lender's cohort, loaded once a process as long as the files stay as they are.

    A real lender has it in an order of its own making; a simulation in that of the file.
    """
    return _cohort(_Key(node, LENDER, stamps(node.federation.lender.data)))


def persons_of(node: Node, name: str) -> list[str]:
    """A holder's ids, written as the federation compares them; those of the lender in the cohort's order."""
    data = node.federation.holder(name).data + node.federation.lender.data
    return _persons(_Key(node, name, stamps(data)))


class _Key:
    """A cache key: equal where a holder's persons and bins are the same, whatever else federation files say."""

    def __init__(self, node: Node, name: str, seen: tuple[object, ...]) -> None:
        self.node, self.name = node, name
        federation, holder = node.federation, node.federation.holder(name)
        self.identity = (
            *(name == LENDER, holder.contract and holder.contract.sha256, tuple(sorted(holder.only.items())), seen),
            *(federation.id, federation.id_form, federation.outcome, federation.split, federation.cut),
            programme_of(federation, node.seed),
            "" if node.simulated else str(node.ledgers),
        )

    def __hash__(self) -> int:
        return hash(self.identity)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self.identity == other.identity


class _Lately(Generic[Value]):
    """What was loaded last: of two federations of the size of that in use."""

    def __init__(self, load: Callable[[_Key], Value]) -> None:
        self._load, self._kept = load, dict[_Key, Value]()

    def __call__(self, key: _Key) -> Value:
        value = self._kept.pop(key) if key in self._kept else self._load(key)
        self._kept[key] = value  # the last to go
        for oldest in list(self._kept)[: -2 * len(key.node.federation.holders)]:
            del self._kept[oldest]
        return value


@_Lately
def _table(key: _Key) -> Table:
    return load_table(key.node.federation, key.node.federation.holder(key.name))


@_Lately
def _persons(key: _Key) -> list[str]:
    federation = key.node.federation
    ids = cohort_of(key.node).ids if key.name == LENDER else table_of(key.node, key.name).ids
    return persons(federation.holder(key.name).data[0], federation.id, ids, federation.id_form)


@lru_cache(maxsize=4)
def _cohort(key: _Key) -> Cohort:
    cohort = load_cohort(key.node.federation, key.node.seed)
    if key.node.simulated:
        return cohort
    order = matching.order_of(key.node, cohort.ids.to_list())
    return Cohort(cohort.ids.gather(order), cohort.labels[order], cohort.group[order])
