"""What the coordinator's commands write into its transparency log, beside what its runs write."""

from __future__ import annotations

from collections.abc import Mapping

from server.coordinator.folder import Coordinator
from server.log import append


def log(coordinator: Coordinator, kind: str, body: Mapping[str, str]) -> None:
    """Appends an entry, signed and on disk before anything follows from it; raises `RunFailed` where it cannot."""
    append(coordinator.path / "log", coordinator.signing_key(), kind, body)
