"""The plan of a joint fit from public facts: its columns, its two kinds of release, and who computes them."""

from __future__ import annotations

from model.encoding import BINS, Encoding
from model.federation import LENDER
from model.inputs import InputError
from model.link import SCALE
from model.moments import UNIT, Layout
from model.width import check_width
from privacy.plan import EVERYBODY, Line, Release
from privacy.ring import largest_persons
from privacy.roles import MOMENTS, REFINE, Joint, Roles, assigned
from server.roster import Roster

MOMENTS_SHARE = 0.4  # of the joint fit's budget for the matrix, the rest for the steps: measured, docs/joint.md
STEPS = 3  # of refinement
CHUNK = 1 << 15  # persons whose rows travel at a time, where so many owners' rows are no more than
ROOM = 1 << 29  # bytes in one message: half of what a node reads


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


def check_terms(roster: Roster) -> None:
    """Refuses what a joint fit has no use for: its one label is the lender's, and never leaves it.

    Raises:
        InputError: where labels would be told with noise, or a partner trains on an outcome of its own.
    """
    if roster.terms.privacy.label_epsilon is not None:
        rule, remedy = "is not needed: a joint fit tells nobody a label", "drop it, or take --engine scorecard"
        raise InputError("federation", "privacy.label-epsilon", rule, roster.terms.privacy.label_epsilon, remedy)
    for member in roster.partners:
        if member.contract and member.contract.outcome:
            rule, remedy = "cannot be fitted jointly with the lender's", "drop it, or take --engine scorecard"
            raise InputError(f"{member.name}.contract", "outcome", rule, member.contract.outcome, remedy)


def arrange(roster: Roster, trust: str, layout: Layout) -> Joint:
    """Who computes what.

    Raises:
        InputError: where the roles or the ring do not allow it.
    """
    owners: dict[str, list[str]] = {"": [roster.lender.name]}
    for name in layout.domains:
        owners[name] = [m.name for m in roster.partners if m.domain == name]
    blocks = {name: (tuple(owners[name]), rows.width) for name, rows in layout.blocks.items()}
    row = 8 * sum(len(names) * width for names, width in blocks.values())  # of all owners' masked words, in bytes
    joint = Joint(trust, _roles(roster), blocks, max(1, min(CHUNK, ROOM // row)))
    persons = roster.terms.sizes["train"]
    most = largest_persons(max(layout.largest_square, SCALE * UNIT))
    if persons > most:
        remedy = f"train on at most {most} persons"
        raise InputError("plan", "sizes.train", "would overflow the ring of the secure products", persons, remedy)
    return joint


def _roles(roster: Roster) -> Roles:
    """The roles that the federation file names, the others by default; refused where one operator plays two."""
    holders = (LENDER, *(m.name for m in roster.partners))
    try:
        return assigned(roster.terms.roles, holders, roster.terms.programme)
    except ValueError as error:
        remedy = "name another second-party or dealer under [roles]"
        raise InputError("federation", "roles", str(error), remedy=remedy) from None


def check_budget(layout: Layout, persons: int, line: Release) -> None:
    """Raises `InputError` where the contracts are too wide for the noise that the plan gives the matrix."""
    if line.noise_multiplier:
        check_width(layout, persons, line.mechanism.noise_stddev)
