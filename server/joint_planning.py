"""The plan of a joint fit from public facts: its columns, its two kinds of release, and who computes them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from model.width import check_width

from model.encoding import BINS, Encoding
from model.inputs import InputError
from model.moments import Layout
from privacy.plan import EVERYBODY, Line, Release
from privacy.ring import largest_persons
from privacy.roles import Joint, Roles, check, choose_dealer
from server.roster import Roster

MOMENTS_SHARE = 0.4  # of the joint fit's budget for the matrix, the rest for the steps: measured, docs/joint.md
STEPS = 3  # of refinement
CHUNK = 1 << 15
COORDINATOR = "coordinator"
MOMENTS, REFINE = "moments/joint", "refine/joint"


def joint_layout(roster: Roster) -> Layout:
    """The joint columns of everybody's contracts; of a private feature as many bins as it will have."""
    own = _planned(roster.lender.encoding) if roster.lender.contract else None
    return Layout(own, {m.domain: _planned(m.encoding) for m in roster.partners})


def _planned(encoding: Encoding) -> Encoding:
    contract = encoding.contract
    evenly = {f.name: tuple(float(i) for i in range(1, BINS)) for f in contract.features if f.private and not f.edges}
    return Encoding.of(contract.with_edges(evenly)) if evenly else encoding


def joint_lines(layout: Layout, share: float) -> list[Line]:
    """The matrix and the gradients of the steps, charged to everybody together."""
    matrix, steps = share * MOMENTS_SHARE, share * (1 - MOMENTS_SHARE)
    return [
        Release(MOMENTS, EVERYBODY, layout.sensitivity, layout.size, 1, matrix),
        Release(REFINE, EVERYBODY, layout.row_norm, layout.width - 1, STEPS, steps),
    ]


def arrange(roster: Roster, trust: str, layout: Layout) -> Joint:
    """Who computes what.

    Raises:
        InputError: where the roles or the ring do not allow it.
    """
    owners: dict[str, list[str]] = {"": [roster.lender.name]}
    for name in layout.domains:
        owners[name] = [m.name for m in roster.partners if m.domain == name]
    blocks = {name: (tuple(owners[name]), rows.width) for name, rows in layout.blocks.items()}
    joint = Joint(trust, _roles(roster), blocks, CHUNK)
    persons = roster.terms.sizes["train"]
    most = largest_persons(layout.largest_square)
    if persons > most:
        remedy = f"train on at most {most} persons"
        raise InputError("plan", "sizes.train", "would overflow the ring of the secure products", persons, remedy)
    return joint


def _roles(roster: Roster) -> Roles:
    """The roles that the federation file names, the others by default; refused where one operator plays two."""
    told: Mapping[str, object] = roster.terms.roles
    second = str(told.get("second-party", roster.lender.name))
    partners = [m.name for m in roster.partners if m.name != second]
    if "dealer" not in told and not partners:
        raise InputError("federation", "roles.dealer", "needs a partner that is no computing party")
    key = hashlib.sha256(roster.terms.programme.encode()).digest()
    dealer = str(told["dealer"]) if "dealer" in told else choose_dealer(partners, key)
    roles = Roles((COORDINATOR, second), dealer)
    names = (COORDINATOR, *roster.members)
    named = told.get("operators", {})
    operators = {name: str(named.get(name, name)) if isinstance(named, dict) else name for name in names}
    try:
        check(roles, operators)
    except ValueError as error:
        remedy = "name another second-party or dealer under [roles]"
        raise InputError("federation", "roles", str(error), remedy=remedy) from None
    return roles


def check_budget(layout: Layout, persons: int, line: Release) -> None:
    """Raises `InputError` where the contracts are too wide for the noise that the plan gives the matrix."""
    if line.noise_multiplier:
        check_width(layout, persons, line.mechanism.noise_stddev)
