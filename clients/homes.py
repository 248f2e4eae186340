"""Home partners: each person trains at exactly one of a domain's partners, whom the lender chooses by keyed hash.

Presence goes to the lender sealed, homes come back sealed. The choice is the smallest keyed hash over the partners
that hold the person (rendezvous hashing): it stays as it is when another partner leaves. A partner learns by it that a
person whose home it is not is held by another partner of its domain; the statement says so.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from clients.cohort import aligned, cohort_of, private_key
from clients.config import Node
from model.federation import LENDER
from model.inputs import InputError
from privacy.alignment import homes
from privacy.envelope import new_key, seal, unseal

Flags = NDArray[np.bool_]


def presence(node: Node, name: str, lender: bytes) -> bytes:
    """Whom of the cohort this holder has, sealed for the lender; its length depends on the cohort's size alone."""
    present = np.packbits(aligned(node, name).rows >= 0)
    return seal(lender, present.tobytes(), f"{node.programme}|presence|{name}")


def assign(
    node: Node, sealed: Mapping[str, bytes], domains: Mapping[str, str], keys: Mapping[str, bytes]
) -> dict[str, bytes]:
    """The lender's answer to presences: for each partner whose home it is, sealed.

    Args:
        sealed: by partner, what `presence` gave.
        domains: by partner.
        keys: by partner, its public key.
    """
    ids = cohort_of(node).ids.to_list()
    present = {name: _opened(node, name, packet, len(ids)) for name, packet in sealed.items()}
    told = {}
    for domain in sorted({domains[name] for name in present}):
        names = sorted(name for name in present if domains[name] == domain)
        home = homes(ids, names, np.stack([present[n] for n in names]), _secret(node) + domain.encode())
        for i, name in enumerate(names):
            packet = np.packbits(home == i).tobytes()
            told[name] = seal(keys[name], packet, f"{node.programme}|home|{name}")
    return told


def learn(node: Node, name: str, sealed: bytes) -> None:
    """Keeps what the lender told this holder: whose home it is."""
    packet = unseal(private_key(node.folder(name)), sealed, f"{node.programme}|home|{name}")
    np.save(node.folder(name) / "home.npy", _flags(packet, len(aligned(node, name).rows)))


def _opened(node: Node, name: str, packet: bytes, persons: int) -> Flags:
    message = unseal(private_key(node.folder(LENDER)), packet, f"{node.programme}|presence|{name}")
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
