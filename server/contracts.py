"""Contracts before anything is planned: partners of one domain train one block, so they must describe one contract."""

from __future__ import annotations

from server.failures import RunFailed
from server.roster import Roster


def check_contracts(roster: Roster) -> None:
    """Raises `RunFailed`, naming both versions, where two partners of a domain have different contracts."""
    first: dict[str, tuple[str, int, str]] = {}
    for member in roster.training():
        contract = member.encoding.contract
        own = (member.name, contract.version, contract.sha256)
        name, version, sha256 = first.setdefault(member.domain, own)
        if sha256 != contract.sha256:
            raise RunFailed(
                f"{name} and {member.name} share the domain {member.domain} and have different contracts: version "
                f"{version} ({sha256[:8]}) and version {contract.version} ({contract.sha256[:8]}); give both one file"
            )
