"""Who plays what in a secure computation, and who must not collude with whom."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

COLLUSION = (
    "The two computing parties must not collude: together they know every mask and can read every person's row.\n"
    "The dealer must not collude with a computing party: the masked rows of one and the masks of the other give "
    "every person's row.\n"
    "Any other data holder may collude with one of the three and learns only what both know anyway.\n"
    "All follow the protocol and only look: a role that deviates from it can spoil the result or learn more."
)


@dataclass(frozen=True)
class Roles:
    """The two computing parties (first the coordinator, then the lender) and the dealer of masks, by name."""

    parties: tuple[str, str]
    dealer: str


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
