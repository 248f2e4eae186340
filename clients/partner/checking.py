"""`fedscore partner check`: the data, this machine and the way to the coordinator, one line each."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping

from clients.nodefile import MIB
from clients.partner import datacheck, linkcheck
from clients.partner.folder import Folder
from clients.partner.joining import matches_keys, public_node_key, request_of
from clients.partner.running import free
from clients.partner.standing import holder_of
from clients.partner.words import Finding
from model.federation import Federation
from privacy import custody
from privacy.accounting import shown
from privacy.chain import LedgerCorrupt


def examine(folder: Folder, online: bool = True) -> Mapping[str, list[Finding]]:
    """Findings by section.

    Raises:
        InputError: where the node file or the federation file itself is wrong.
    """
    federation = folder.node.read_federation()
    return {
        "sections.data": [*datacheck.examine(folder.node, federation, folder.root / "profile.json")],
        "sections.machine": [*_keys(folder), *_disk(folder), *_port(folder), *_ledger(folder)],
        "sections.federation": [*_contract(folder, federation), *_joined(folder, online)],
    }


def _keys(folder: Folder) -> Iterator[Finding]:
    keys = (folder.node_key, folder.node.durable / "seal.key", folder.node.durable / "sign.key")
    loose = [path for path in keys if path.exists() and path.stat().st_mode & 0o077]
    for path in loose:
        yield Finding(False, "keys.open", {"file": path})
    if not loose:
        yield Finding(True, "keys.good")
    if folder.request.exists():
        told = request_of(folder)
        if not matches_keys(folder, told.holder) or told.node_key != public_node_key(folder):
            yield Finding(False, "keys.other")


def _disk(folder: Folder) -> Iterator[Finding]:
    free_mib, least = shutil.disk_usage(folder.root).free // MIB, folder.node.limits.min_free_disk
    good = free_mib >= least
    yield Finding(good, "disk.good" if good else "disk.full", {"free": free_mib, "least": least})


def _port(folder: Folder) -> Iterator[Finding]:
    port = folder.node.port
    if holder_of(folder):
        yield Finding(True, "port.own")
    elif not port:
        yield Finding(True, "port.any")
    else:
        good = free(port)
        yield Finding(good, "port.free" if good else "port.taken", {"port": port})


def _ledger(folder: Folder) -> Iterator[Finding]:
    if not folder.ledger.exists():
        yield Finding(True, "ledger.none")
        return
    try:
        contents = custody.Contents.of(custody.read(folder.ledger))
    except LedgerCorrupt as error:
        yield Finding(False, "ledger.bad", {"error": error})
        return
    left = contents.remaining()
    told = {"own": shown(contents.spent(own=True)), "all": shown(contents.spent()), "left": left}
    told |= {"total": float(contents.opened["total"])}
    yield Finding(True, "ledger.good", told) if left > 0 else Finding(None, "ledger.spent", told)


def _contract(folder: Folder, federation: Federation) -> Iterator[Finding]:
    contract = federation.holder(folder.node.holder).contract
    if contract is None or not folder.request.exists():
        return
    same = request_of(folder).contract == contract.sha256
    yield Finding(same or None, "contract.same" if same else "contract.other", {"digest": contract.sha256[:16]})


def _joined(folder: Folder, online: bool) -> Iterator[Finding]:
    welcome = folder.joined()
    if welcome is None:
        yield Finding(None, "joined.none")
        return
    yield Finding(True, "joined.good", {"name": welcome.federation, "number": welcome.number})
    bundles = folder.bundles()
    known = welcome.bundle in bundles
    told = {"count": len(bundles), "digest": welcome.bundle[:16]}
    yield Finding(known, "bundle.good" if known else "bundle.missing", told)
    if online:
        address = folder.superlink(welcome)
        yield from linkcheck.examine(folder.node.path, address, folder.authority, folder.certificate)
