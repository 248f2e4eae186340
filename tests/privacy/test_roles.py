"""Roles: the dealer is fixed by a keyed hash, and no operator plays two of the three roles."""

from __future__ import annotations

from collections import Counter
from itertools import permutations

import pytest

from privacy.roles import COLLUSION, Roles, check, choose_dealer

ROLES = Roles(("coordinator", "lender"), "shop")
OPERATORS = {"coordinator": "bureau", "lender": "bank", "shop": "shop ltd"}


def test_three_operators_may_play() -> None:
    check(ROLES, OPERATORS)
    check(ROLES, {**OPERATORS, "tax": "bank"})  # who plays no role may share a machine


@pytest.mark.parametrize(
    ("roles", "operators", "named"),
    [
        (ROLES, {**OPERATORS, "lender": "bureau"}, "bureau would run both computing parties"),
        (ROLES, {**OPERATORS, "shop": "bureau"}, "bureau would run a computing party and the dealer"),
        (ROLES, {**OPERATORS, "shop": "bank"}, "bank would run a computing party and the dealer"),
        (Roles(("lender", "lender"), "shop"), OPERATORS, "both computing parties"),
        (Roles(("coordinator", "lender"), "lender"), OPERATORS, "a computing party and the dealer"),
        (Roles(("coordinator", "lender"), "coordinator"), OPERATORS, "a computing party and the dealer"),
        (ROLES, {"coordinator": "bureau", "lender": "bank"}, "operator of shop"),
    ],
)
def test_who_would_play_two_roles_is_refused_in_one_line(roles: Roles, operators: dict[str, str], named: str) -> None:
    with pytest.raises(ValueError, match=named) as refused:
        check(roles, operators)
    assert "\n" not in str(refused.value)


def test_the_dealer_is_the_same_in_any_order_and_falls_evenly_by_key() -> None:
    partners = ["shop", "tax", "wallet"]
    assert len({choose_dealer(order, b"run-1") for order in permutations(partners)}) == 1
    chosen = Counter(choose_dealer(partners, str(run).encode()) for run in range(3000))
    assert min(chosen[name] for name in partners) > 850  # 1000 expected, stddev 26


def test_a_dealer_stays_when_another_partner_leaves() -> None:
    for run in range(50):
        dealer = choose_dealer(["shop", "tax", "wallet"], bytes([run]))
        assert choose_dealer([dealer, "tax" if dealer != "tax" else "shop"], bytes([run])) == dealer


def test_without_partners_there_is_no_dealer() -> None:
    with pytest.raises(ValueError, match="needs a partner as dealer"):
        choose_dealer([], b"run-1")


def test_the_warning_names_both_collusions_and_the_attacker_it_does_not_stop() -> None:
    lines = COLLUSION.splitlines()
    assert len(lines) == 4
    assert all(line.endswith(".") for line in lines)
    assert "two computing parties must not collude" in lines[0]
    assert "dealer must not collude with a computing party" in lines[1]
    assert "deviates" in lines[3]
