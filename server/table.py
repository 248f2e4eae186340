"""What a joint fit's messages are made of: whom to ask, with which orders, what the coordinator seals and opens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from model import wire
from model.federation import LENDER
from privacy.plan import Release
from privacy.roles import COORDINATOR, Joint
from privacy.signing import keys_of, seal_signed, unseal_signed
from server.budget import Book
from server.exchange import Answer, Exchange, Post
from server.failures import RunFailed
from server.identity import Coordinator
from server.planning import RunPlan
from server.roster import Roster
from server.strategy import Head, Parcels, note_head


@dataclass
class Table:
    """Everything a joint fit's messages are made of.

    Attributes:
        cohort: the digest that every holder's cohort must have.
        parcels: what is still to be brought to each holder, sealed; sent with its first rows.
        heads: where each holder's ledger was last seen; kept up to date.
    """

    exchange: Exchange
    roster: Roster
    plan: RunPlan
    keys: Coordinator
    book: Book
    cohort: str
    parcels: Parcels
    heads: dict[str, Head]
    announced: dict[str, Any] = field(default_factory=dict)
    contracts: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        contracts = {"" if n == LENDER else m.domain: m.contract for n, m in self.roster.members.items()}
        self.contracts = {name: c.to_dict() if c else None for name, c in contracts.items()}
        self.announced = {COORDINATOR: self.keys.public(self.plan.id)}
        self.announced |= {name: m.public for name, m in self.roster.members.items()}

    @property
    def joint(self) -> Joint:
        """How the plan computes; only for plans that have it."""
        if self.plan.joint is None:
            raise RunFailed("the plan is no joint fit")
        return self.plan.joint

    @property
    def chunks(self) -> list[tuple[int, int]]:
        """First and last place of each chunk of the cohort."""
        return self.joint.chunks(self.plan.sizes["train"])

    def line(self, name: str) -> Release:
        """A line of the plan that must be there."""
        line = self.plan.line(name)
        if line is None:
            raise RunFailed(f"the plan has no line {name}")
        return line

    def ask(
        self, kind: str, names: Iterable[str], data: Mapping[str, Any], sealed: Mapping[str, Mapping[str, bytes]]
    ) -> dict[str, Answer]:
        """Asks holders and wants an answer of each: without one of them there is no joint fit.

        Args:
            sealed: ciphertexts by holder; `arrays` may stand in `data` by holder.
        """
        posts = self._posts(names, data, sealed)
        answers = self.exchange.ask(kind, posts)
        lost = sorted({post.label for post in posts} - set(answers))
        if lost:
            told = ", ".join(f"{name} ({self.exchange.failures.get(name, 'silent')})" for name in lost)
            raise RunFailed(f"the joint fit needs every holder, and lost {told}")
        for name, answer in answers.items():
            note_head(self.heads, name, answer.data)
        return answers

    def forget(self) -> None:
        """Has everybody delete what the joint fit kept. Whoever is silent keeps masks of a plan that is over."""
        self.exchange.ask(wire.FORGET, self._posts(self.joint.owners, {}, {}))

    def _posts(
        self, names: Iterable[str], data: Mapping[str, Any], sealed: Mapping[str, Mapping[str, bytes]]
    ) -> list[Post]:
        arrays = data.get("arrays", {})
        posts = []
        for name in names:
            member = self.roster.members[name]
            order = {k: v for k, v in data.items() if k != "arrays"}
            order |= {"plan": self.plan.document, "holder": name, "keys": self.announced, "contracts": self.contracts}
            order |= {"witness": self.heads.get(name), "block": member.domain, "edges": member.edges}
            posts.append(Post(name, member.node, order, arrays.get(name), sealed.get(name, {})))
        return posts

    def packet(self, answers: Mapping[str, Answer], name: str, key: str) -> bytes:
        """A ciphertext that an answer must hold."""
        packet = answers[name].sealed(key)
        if packet is None:
            raise RunFailed(f"the joint fit failed: {name} (protocol)")
        return packet

    def _context(self, what: str, sender: str, receiver: str) -> str:
        return Joint.context(self.plan.id, self.contracts, what, sender, receiver)

    def open(self, sender: str, packet: bytes, what: str) -> bytes:
        """What a holder sealed for the coordinator."""
        verify = keys_of(sender, self.announced[sender]).verify
        return unseal_signed(self.keys.seal_key, verify, packet, self._context(what, sender, COORDINATOR))

    def seal(self, receiver: str, message: bytes, what: str) -> bytes:
        """A message for one holder, signed by the coordinator."""
        keys = keys_of(receiver, self.announced[receiver])
        return seal_signed(keys.seal, self.keys.sign_key, message, self._context(what, COORDINATOR, receiver))
