"""Packets about persons between a partner and the lender: signed by who sends, sealed for who receives, for one plan.

The order that brings or asks for a packet tells the other party's announcement; the key it is pinned to decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from clients.config import Node
from clients.identity import peer, private_key, signing_key
from model.federation import LENDER
from privacy.signing import seal_signed, unseal_signed


@dataclass(frozen=True)
class Channel:
    """One holder's side of a plan's packets.

    Attributes:
        name: the holder that the node plays.
        plan: the plan's name.
    """

    node: Node
    name: str
    plan: str

    def seal(self, other: str, told: Mapping[str, Any], message: bytes, what: str) -> bytes:
        """A message for another holder; raises `SealBroken` where `told` is not the one known by that name.

        Args:
            told: its announcement.
            what: the purpose: a packet opens for no other.
        """
        keys = peer(self.node, self.name, other, told)
        return seal_signed(keys.seal, signing_key(self.node, self.name), message, self._context(other, what))

    def open(self, other: str, told: Mapping[str, Any], packet: bytes, what: str) -> bytes:
        """The message that another holder sealed for this one; raises `SealBroken` where it is another's."""
        keys = peer(self.node, self.name, other, told)
        own = private_key(self.node.durable(self.name))
        return unseal_signed(own, keys.verify, packet, self._context(other, what))

    def _context(self, other: str, what: str) -> str:
        """Of a pair of whom one is the lender."""
        partner = other if self.name == LENDER else self.name
        return f"{self.node.programme}|{self.plan}|{what}|{partner}"
