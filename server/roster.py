"""Who takes part in a run: the holders behind the nodes, as they describe themselves, and their contracts."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from flwr.serverapp import Grid

from model.contract import Contract
from model.encoding import Encoding
from model.federation import LENDER, Federation
from model.inputs import InputError
from model.terms import PrivacyTerms
from model.wire import DESCRIBE
from privacy.enrolment import Enrolled
from privacy.envelope import SealBroken
from privacy.signing import keys_of
from server.exchange import Answer, Exchange, Post
from server.failures import RunFailed


@dataclass(frozen=True)
class Member:
    """One data holder: its node, its domain, its public contract, and what it announced of its keys (base64).

    A member that is only planned with has no `verify` and `bound`, which no holder would take for an announcement.
    """

    name: str
    node: int
    domain: str
    contract: Contract | None
    key: str
    verify: str = ""
    bound: str = ""

    @property
    def public(self) -> dict[str, str]:
        """What an order tells the others about its keys."""
        return {"key": self.key, "verify": self.verify, "bound": self.bound}

    @property
    def edges(self) -> dict[str, tuple[float, ...]]:
        """The edges of its private features, once they are cut."""
        features = self.contract.features if self.contract else ()
        return {f.name: f.edges for f in features if f.private and f.edges}

    @property
    def encoding(self) -> Encoding:
        """The public encoding of its contract; only for members that have one."""
        if self.contract is None:
            raise ValueError(f"{self.name} has no contract")
        return Encoding.of(self.contract)


@dataclass(frozen=True)
class Terms:
    """The programme's public terms, as the lender's federation file states them.

    `privacy` holds what this run may spend; `total` is what the programme may, over all its runs; `sizes` are the
    persons of the cohort, `train` and `held_out`; `alignment` is how the lender finds whom it shares.
    """

    programme: str
    federation: str
    privacy: PrivacyTerms
    total: float
    partners: tuple[str, ...]
    on_failure: str
    sizes: Mapping[str, int]
    roles: Mapping[str, Any] = field(default_factory=dict)
    alignment: str = "psi"


@dataclass(frozen=True)
class Roster:
    """The members of a run by name; partners that were expected and never appeared are `missing`."""

    members: Mapping[str, Member]
    terms: Terms
    missing: tuple[str, ...] = ()

    @property
    def lender(self) -> Member:
        """The lender's member."""
        return self.members[LENDER]

    @property
    def partners(self) -> tuple[Member, ...]:
        """The partners present, in the federation file's order."""
        return tuple(self.members[n] for n in self.terms.partners if n in self.members)

    @property
    def digest(self) -> str:
        """SHA-256 of who takes part: names, domains, keys and contracts, 64 hexadecimal digits."""
        members = sorted(self.members.values(), key=lambda m: m.name)
        rows = [[m.name, m.domain, m.public, m.contract.to_dict() if m.contract else None] for m in members]
        return hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()

    def training(self) -> tuple[Member, ...]:
        """All members with a block to train: the lender's own first."""
        own = (self.lender,) if self.lender.contract else ()
        return (*own, *self.partners)

    def of_domain(self, domain: str) -> tuple[Member, ...]:
        """The members that share a domain's block."""
        return tuple(m for m in self.training() if m.domain == domain)

    def with_edges(self, domain: str, edges: Mapping[str, Sequence[float]]) -> Roster:
        """The roster with a domain's private bins cut."""
        cut = {
            name: replace(m, contract=m.contract.with_edges(edges)) if m.domain == domain and m.contract else m
            for name, m in self.members.items()
        }
        return replace(self, members=cut)

    def without(self, names: set[str]) -> Roster:
        """The roster after these members failed; the lender stays, but without a block of its own."""
        left = {n: m for n, m in self.members.items() if n not in names or n == LENDER}
        if LENDER in names:
            left[LENDER] = replace(self.lender, contract=None)
        return Roster(left, self.terms, self.missing)


def planned(federation: Federation, sizes: Mapping[str, int]) -> Roster:
    """The roster of a federation file's holders, to plan with: nobody was asked, and nobody has announced keys."""
    members = {h.name: Member(h.name, i, h.domain, h.contract, "") for i, h in enumerate(federation.holders)}
    names, terms, name = tuple(p.name for p in federation.partners), federation.privacy, federation.name
    told = Terms(name, name, terms, terms.epsilon, names, federation.on_failure, sizes, federation.roles)
    return Roster(members, told)


def discover(exchange: Exchange, grid: Grid, wait: float) -> Roster:
    """Asks all nodes who they are, until the lender and its partners are there or `wait` seconds are over.

    Where holders are enrolled, a node speaks for the one holder that signs for it, and what else it says counts for
    nothing: no partner can end a run by it.

    Raises:
        RunFailed: where no lender appears; where nobody is enrolled, also where two nodes claim one name.
    """
    members: dict[str, Member] = {}
    terms: Terms | None = None
    asked: set[int] = set()
    deadline = time.monotonic() + wait
    while True:
        new = [n for n in grid.get_node_ids() if n not in asked]
        asked.update(new)
        for reply in exchange.ask(DESCRIBE, [Post(f"node-{n}", n, {}) for n in new]).values():
            try:
                described = [_member(row, reply) for row in reply.data["holders"]]
                told = _terms(reply.data["programme"]) if LENDER in {m.name for m in described} else None
                if exchange.outbox.closed and [m.name for m in described] != [reply.sender]:
                    raise ValueError("a node describes others than who signed")
                for member in described:
                    _meet(exchange, member)
            except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError):
                continue  # what is no description describes nobody: its holders stay missing
            terms = terms or told
            for member in described:
                if member.name in members and exchange.outbox.closed:
                    continue  # who came first under the enrolled key
                if member.name in members:
                    raise RunFailed(f"two nodes claim to be {member.name}")
                members[member.name] = member
        if terms is not None and all(name in members for name in terms.partners):
            return Roster(members, terms)
        if time.monotonic() > deadline:
            break
        time.sleep(min(0.5, wait))
    if terms is None:
        raise RunFailed(f"no lender appeared within {wait:g} s; its files may have failed to load")
    return Roster(members, terms, tuple(n for n in terms.partners if n not in members))


def _member(row: Mapping[str, Any], reply: Answer) -> Member:
    """A holder that a node told of; raises `ValueError` where its keys do not hold, or are not those it signed with."""
    contract = Contract.from_dict(row["contract"]) if row["contract"] else None
    name, told = str(row["name"]), {field: str(row[field]) for field in ("key", "verify", "bound")}
    if keys_of(name, told).verify != reply.verify and name == reply.sender:
        raise ValueError("a holder signed with another key than it tells of")
    return Member(name, reply.node, str(row["domain"]), contract, **told)


def _meet(exchange: Exchange, member: Member) -> None:
    """Has a holder's answers count from now on; raises `SealBroken` where it is not enrolled as it shows itself."""
    try:
        exchange.outbox.meet(member.name, member.domain, keys_of(member.name, member.public).verify)
    except SealBroken:
        if member.name not in exchange.outbox.known:  # else somebody else speaks under its name
            exchange.failures[member.name] = "seal"
        raise
    exchange.failures.pop(member.name, None)


def enrolled_in(folder: Path) -> dict[str, Enrolled]:
    """By name all holders that are enrolled with the coordinator of a folder; raises `InputError` where none can be."""
    path = folder / "roster.json"
    names = [f.name for f in fields(Enrolled)]
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["holders"]
        return {row["name"]: Enrolled(**{name: str(row[name]) for name in names}) for row in rows}
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(path, "", "is no roster of enrolled holders", remedy="restore it from a backup") from None


def _terms(data: Mapping[str, Any]) -> Terms:
    return Terms(
        programme=str(data["name"]),
        federation=str(data["federation"]),
        privacy=PrivacyTerms.from_dict(data["privacy"]),
        total=float(data["total"]),
        partners=tuple(data["partners"]),
        on_failure=str(data["on_failure"]),
        sizes={name: int(data["sizes"][name]) for name in ("train", "held_out")},
        roles=data.get("roles", {}),
        alignment=str(data["alignment"]),
    )
