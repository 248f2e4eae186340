"""How a run ends when it cannot go on."""

from __future__ import annotations


class RunFailed(RuntimeError):
    """A run that cannot go on; its text is for people and holds nothing that a node said but a generic code."""
