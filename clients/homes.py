"""Home partners: each person trains at exactly one of a domain's partners, whom the lender chooses by keyed hash.

Presence goes to the lender sealed, homes come back sealed. The choice is the smallest keyed hash over the partners
that hold the person (rendezvous hashing): it stays as it is when another partner leaves. A partner learns by it that a
person whose home it is not is held by another partner of its domain; the statement says so.

Homes are told once a plan, by the lender's own list of partners and domains, and hold for that plan only: else a
coordinator that asked for them by parts could make one person everybody's, who pays but one.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from clients.cohort import aligned, cohort_of
from clients.config import Node
from clients.identity import private_key
from model.federation import LENDER
from model.inputs import InputError
from privacy.alignment import homes
from privacy.envelope import new_key, seal, unseal

Flags = NDArray[np.bool_]


def presence(node: Node, name: str, lender: bytes) -> bytes:
    """Whom of the cohort this holder has, sealed for the lender; its length depends on the cohort's size alone."""
    present = np.packbits(aligned(node, name).rows >= 0)
    return seal(lender, present.tobytes(), f"{node.programme}|presence|{name}")


def assign(node: Node, plan: str, sealed: Mapping[str, bytes], keys: Mapping[str, bytes]) -> dict[str, bytes]:
    """The lender's answer to presences: for each partner whose home it is, sealed.

    Args:
        plan: the name of the plan that charges by homes.
        sealed: by partner, what `presence` gave.
        keys: by partner, its public key.

    Raises:
        InputError: where homes were told for this plan with other presences.
    """
    ids = cohort_of(node).ids.to_list()
    domains = {p.name: p.domain for p in node.federation.partners}
    present = {name: _opened(node, name, packet, len(ids)) for name, packet in sealed.items()}
    _once_a_plan(node, plan, present)
    told = {}
    for domain in sorted({domains[name] for name in present}):
        names = sorted(name for name in present if domains[name] == domain)
        home = homes(ids, names, np.stack([present[n] for n in names]), _secret(node) + domain.encode())
        for i, name in enumerate(names):
            packet = np.packbits(home == i).tobytes()
            told[name] = seal(keys[name], packet, f"{node.programme}|home|{plan}|{name}")
    return told


def learn(node: Node, name: str, plan: str, sealed: bytes) -> None:
    """Keeps what the lender told this holder for a plan: whose home it is."""
    packet = unseal(private_key(node.durable(name)), sealed, f"{node.programme}|home|{plan}|{name}")
    flags = _flags(packet, len(aligned(node, name, plan).rows))
    np.savez(node.folder(name) / "home.npz", home=flags, plan=np.array(plan))


def _once_a_plan(node: Node, plan: str, present: Mapping[str, Flags]) -> None:
    """Keeps, before anything is told, for which presences this plan's homes are; other ones are refused later."""
    seen = hashlib.sha256()
    for name in sorted(present):
        seen.update(name.encode() + b"\0" + np.packbits(present[name]).tobytes())
    path = node.durable(LENDER) / f"homes-{hashlib.sha256(plan.encode()).hexdigest()}"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        if path.read_text() != seen.hexdigest():
            raise InputError("order", "homes", "were told for this plan with other presences") from None
        return
    with os.fdopen(descriptor, "w") as file:
        file.write(seen.hexdigest())
        file.flush()
        os.fsync(file.fileno())


def _opened(node: Node, name: str, packet: bytes, persons: int) -> Flags:
    message = unseal(private_key(node.durable(LENDER)), packet, f"{node.programme}|presence|{name}")
    return _flags(message, persons)


def _flags(packet: bytes, persons: int) -> Flags:
    if len(packet) != (persons + 7) // 8:
        raise InputError("order", "home", "does not fit the cohort", len(packet))
    return np.unpackbits(np.frombuffer(packet, np.uint8), count=persons).astype(bool)


def _secret(node: Node) -> bytes:
    """The lender's key of the choice, kept as long as the ledger: homes are frozen for the programme."""
    path = node.durable(LENDER) / "home.key"
    if not path.exists():
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(new_key())
    return path.read_bytes()
