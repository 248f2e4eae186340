"""Home partners: each person trains at exactly one of a domain's partners, whom the lender chooses by keyed hash.

Presence goes to the lender and homes come back, signed and sealed. The choice is the smallest keyed hash over the
partners that hold the person (rendezvous hashing): it stays as it is when another partner leaves. A partner learns by
it that a person whose home it is not is held by another partner of its domain; the statement says so.

Homes are told once a plan, by the lender's own list of partners and domains, and hold for that plan only: else a
coordinator that asked for them by parts could make one person everybody's, who pays but one.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clients.cohort import aligned, cohort_of
from clients.config import Node
from clients.packets import Channel
from model.federation import LENDER
from model.inputs import InputError
from privacy.alignment import homes
from privacy.durable import made
from privacy.envelope import new_key

Flags = NDArray[np.bool_]
KEY = 32  # bytes
_log = logging.getLogger("fedscore.clients")


def presence(channel: Channel, lender: Mapping[str, Any]) -> bytes:
    """Whom of the cohort this holder has, sealed for the lender; its length depends on the cohort's size alone.

    Args:
        channel: the partner's.
        lender: the lender's announcement.
    """
    present = np.packbits(aligned(channel.node, channel.name).rows >= 0)
    return channel.seal(LENDER, lender, present.tobytes(), "presence")


def assign(channel: Channel, sealed: Mapping[str, bytes], keys: Mapping[str, Mapping[str, Any]]) -> dict[str, bytes]:
    """The lender's answer to presences: for each partner whose home it is, sealed.

    A partner whose presence cannot be opened is nobody's home.

    Args:
        channel: the lender's, of the plan that charges by homes.
        sealed: by partner, what `presence` gave.
        keys: by partner, its announcement.

    Raises:
        InputError: where homes were told for this plan with other presences.
        KeyError: where a partner with a presence has no announcement, or the reverse.
    """
    node = channel.node
    ids = cohort_of(node).ids.to_list()
    domains = {p.name: p.domain for p in node.federation.partners}
    present = {}
    for name in sorted({*sealed, *keys}):
        told_by, packet = keys[name], sealed[name]
        try:
            present[name] = _flags(channel.open(name, told_by, packet, "presence"), len(ids))
        except ValueError as error:  # whatever one sent, the others get their homes
            _log.error("no homes for %s: %s", name, type(error).__name__)
    _once_a_plan(node, channel.plan, present)
    told = {}
    for domain in sorted({domains[name] for name in present}):
        names = sorted(name for name in present if domains[name] == domain)
        home = homes(ids, names, np.stack([present[n] for n in names]), _secret(node) + domain.encode())
        for i, name in enumerate(names):
            packet = np.packbits(home == i).tobytes()
            told[name] = channel.seal(name, keys[name], packet, "home")
    return told


def learn(channel: Channel, lender: Mapping[str, Any], sealed: bytes) -> None:
    """Keeps what the lender told this holder for a plan: whose home it is."""
    node, name, plan = channel.node, channel.name, channel.plan
    flags = _flags(channel.open(LENDER, lender, sealed, "home"), len(aligned(node, name, plan).rows))
    np.savez(node.folder(name) / "home.npz", home=flags, plan=np.array(plan))


def _once_a_plan(node: Node, plan: str, present: Mapping[str, Flags]) -> None:
    """Keeps, before anything is told, for which presences this plan's homes are; other ones are refused later."""
    seen = hashlib.sha256()
    for name in sorted(present):
        seen.update(name.encode() + b"\0" + np.packbits(present[name]).tobytes())
    path = node.durable(LENDER) / f"homes-{hashlib.sha256(plan.encode()).hexdigest()}"
    told = seen.hexdigest().encode()
    if made(path, lambda: told) != told:
        raise InputError("order", "homes", "were told for this plan with other presences")


def _flags(packet: bytes, persons: int) -> Flags:
    if len(packet) != (persons + 7) // 8:
        raise InputError("order", "home", "does not fit the cohort", len(packet))
    return np.unpackbits(np.frombuffer(packet, np.uint8), count=persons).astype(bool)


def _secret(node: Node) -> bytes:
    """The lender's key of the choice, kept as long as the ledger: homes are frozen for the programme."""
    path = node.durable(LENDER) / "home.key"
    key = made(path, new_key)
    if len(key) != KEY:  # a choice by another key would make persons pay at two homes
        raise InputError(path, "", f"is not {KEY} bytes long", remedy="restore it from a backup")
    return key
