"""How a coordinator stands: its programs, certificates, disk and holders, as lines that say what needs doing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass

from model.inputs import InputError
from server.coordinator.authority import days_left
from server.coordinator.folder import Coordinator
from server.coordinator.processes import answers
from server.coordinator.roster import Roster
from server.coordinator.running import nodes
from server.coordinator.supervising import state

SOON_DAYS = 30


@dataclass(frozen=True)
class Finding:
    """One line: whether it is as it should be (None: worth knowing), and what it is."""

    ok: bool | None
    what: str


def examine(coordinator: Coordinator) -> list[Finding]:
    """Everything that an operator looks at first."""
    return [*_programs(coordinator), *_certificates(coordinator), _disk(coordinator), *_holders(coordinator)]


def _programs(coordinator: Coordinator) -> Iterator[Finding]:
    told = state(coordinator)
    services = told.get("services")
    if not isinstance(services, dict):
        yield Finding(False, f"not up: fedscore coordinator up {coordinator.path} --background")
        return
    yield Finding(True, f"up as process {told['pid']}: " + ", ".join(f"{k} {v}" for k, v in services.items()))
    for what, host, port in (
        ("partners' listener", _reachable(coordinator.listen), coordinator.partner_port),
        ("SuperLink", "127.0.0.1", coordinator.link_port),
    ):
        yield Finding(answers(host, port), f"{what} on {host}:{port}")


def _certificates(coordinator: Coordinator) -> Iterator[Finding]:
    for name, what in (("ca.crt", "authority"), ("server.crt", "coordinator")):
        try:
            left = days_left(coordinator.path / "certs" / name)
        except InputError as error:
            yield Finding(False, str(error))
            continue
        renew = "" if left > SOON_DAYS or name == "ca.crt" else f": fedscore coordinator renew {coordinator.path}"
        good = True if left > SOON_DAYS else None if left > 0 else False
        yield Finding(good, f"certificate of the {what}: {left:.0f} days left{renew}")


def _disk(coordinator: Coordinator) -> Finding:
    free = shutil.disk_usage(coordinator.path).free >> 20
    return Finding(free >= coordinator.min_free_mib, f"{free:,} MiB free in {coordinator.path}")


def _holders(coordinator: Coordinator) -> Iterator[Finding]:
    roster = Roster.load(coordinator.path)
    if not roster.holders:
        yield Finding(None, f"nobody is enrolled: fedscore coordinator enrol {coordinator.path} REQUEST.json")
        return
    try:
        online = nodes(coordinator) if state(coordinator) else {}
    except RuntimeError as error:
        yield Finding(False, str(error))
        return
    for row in roster.holders:
        status = online.get(row.node, "unknown")
        yield Finding(True if status == "online" else None, f"{row.name} ({row.domain}): {status}")


def _reachable(listen: str) -> str:
    return "127.0.0.1" if listen == "0.0.0.0" else listen
