"""Who plays what in a secure computation, and who must not collude with whom."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from privacy.plan import digest
from privacy.shares import Blocks, checked

COORDINATOR = "coordinator"  # always the first computing party
MOMENTS, REFINE = "moments/joint", "refine/joint"  # the lines of a plan that everybody computes together
COLLUSION = (
    "The two computing parties must not collude: together they know every mask and can read every person's row.\n"
    "The dealer must not collude with a computing party: the masked rows of one and the masks of the other give "
    "every person's row.\n"
    "Any other data holder that colludes with one of the three learns no row but its own; but two that pool their "
    "parts of the noise face less of it than is claimed.\n"
    "All follow the protocol and only look: a role that deviates from it can spoil the result or learn more."
)


@dataclass(frozen=True)
class Roles:
    """The two computing parties (first the coordinator, then the lender) and the dealer of masks, by name."""

    parties: tuple[str, str]
    dealer: str

    def to_dict(self) -> dict[str, object]:
        """Plain values; `from_dict` reads them back."""
        return {"parties": list(self.parties), "dealer": self.dealer}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Roles:
        """The roles that `to_dict` wrote."""
        first, second = data["parties"]
        return cls((str(first), str(second)), str(data["dealer"]))


@dataclass(frozen=True)
class Joint:
    """How the holders compute together; all of it public and part of the plan.

    Attributes:
        trust: `secure` (on shares, nobody sees a row) or `curator` (the coordinator sees all: simulations only).
        roles: who computes and who deals.
        blocks: name of each block, its owners and its number of columns, in order.
        chunk: persons whose rows travel at a time.
    """

    trust: str
    roles: Roles
    blocks: Blocks
    chunk: int

    @property
    def owners(self) -> tuple[str, ...]:
        """All holders that bring columns, in order."""
        return tuple(owner for owners, _ in self.blocks.values() for owner in owners)

    @property
    def noise_shares(self) -> int:
        """How many parts of noise make the whole: every owner and the coordinator add one, and one party knows its own.

        So a release keeps its full noise against each of them alone, at (n + 1) / n of its variance where two full
        parts of noise, one a computing party, would take 2. Two of them that pool what they know see less noise.
        """
        return len(self.owners)

    def chunks(self, persons: int) -> list[tuple[int, int]]:
        """First and last place of each chunk of so many persons."""
        return [(at, min(at + self.chunk, persons)) for at in range(0, persons, self.chunk)]

    def block_of(self, owner: str) -> str:
        """The block that an owner brings columns of; raises `ValueError` where it brings none."""
        for name, (owners, _) in self.blocks.items():
            if owner in owners:
                return name
        raise ValueError(f"{owner} brings no columns")

    def place(self, block: str) -> slice:
        """Which of all columns are a block's."""
        at = 0
        for name, (_, width) in self.blocks.items():
            if name == block:
                return slice(at, at + width)
            at += width
        raise ValueError(f"{block} is no block")

    @staticmethod
    def context(plan: str, contracts: Mapping[str, Any], what: str, sender: str, receiver: str) -> str:
        """Under which a packet is sealed and signed: it fits no other plan, contracts, purpose, sender or receiver."""
        return f"joint|{plan}|{digest(contracts)}|{what}|{sender}>{receiver}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values; `from_dict` reads them back."""
        blocks = [[name, list(owners), width] for name, (owners, width) in self.blocks.items()]
        return {"trust": self.trust, "roles": self.roles.to_dict(), "blocks": blocks, "chunk": self.chunk}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Joint:
        """The arrangement that `to_dict` wrote; raises `ValueError` where no computation could follow it."""
        blocks = {str(name): (tuple(map(str, owners)), int(width)) for name, owners, width in data["blocks"]}
        checked(blocks)
        if data["trust"] not in ("secure", "curator") or not 0 < int(data["chunk"]) <= 1 << 20:
            raise ValueError("a joint fit's trust or chunk is out of range")
        return cls(str(data["trust"]), Roles.from_dict(data["roles"]), blocks, int(data["chunk"]))


def assigned(told: Mapping[str, Any], holders: Sequence[str], programme: str) -> Roles:
    """The roles that a federation file names, the others by default: everybody who asks comes to the same.

    Args:
        told: `second-party`, `dealer`, and by name in `operators` who runs whose machine, where they are named.
        holders: all that bring columns, the lender first.
        programme: its name, by which the dealer is chosen.

    Raises:
        ValueError: where one operator would play two roles, or a role falls to nobody.
    """
    second, operators = str(told.get("second-party", holders[0])), told.get("operators", {})
    if "dealer" in told:
        dealer = str(told["dealer"])
    else:
        key = hashlib.sha256(programme.encode()).digest()
        dealer = choose_dealer([name for name in holders[1:] if name != second], key)
    roles = Roles((COORDINATOR, second), dealer)
    check(roles, {name: str(operators.get(name, name)) for name in (COORDINATOR, *holders)})
    return roles


def choose_dealer(partners: Sequence[str], key: bytes) -> str:
    """The partner with the smallest keyed hash: nobody's wish, and the same in whatever order they are named.

    Args:
        partners: names, at least one; never a computing party.
        key: what fixes the programme.

    >>> choose_dealer(["a", "b", "c"], b"run-1") == choose_dealer(["c", "b", "a"], b"run-1")
    True
    """
    if not partners:
        raise ValueError("a secure computation needs a partner as dealer, and there is none")
    key = hashlib.blake2b(key, digest_size=32).digest()
    return min(partners, key=lambda name: hashlib.blake2b(name.encode(), key=key, digest_size=32).digest())


def check(roles: Roles, operators: Mapping[str, str]) -> None:
    """Raises `ValueError` where one operator, or one name, plays two of the three roles, or has no known operator.

    Args:
        roles: who plays what.
        operators: for each name who runs its machine.
    """
    first, second = roles.parties
    for name in (first, second, roles.dealer):
        if name not in operators:
            raise ValueError(f"nobody is named as the operator of {name}: the roles cannot be told apart")
    if first == second or operators[first] == operators[second]:
        raise ValueError(f"{operators[first]} would run both computing parties and could read every row")
    for name in roles.parties:
        if name == roles.dealer or operators[name] == operators[roles.dealer]:
            raise ValueError(f"{operators[name]} would run a computing party and the dealer and could read every row")
