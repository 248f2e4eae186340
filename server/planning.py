"""The plan of a run from public facts: contracts, the cohort's size, epsilon, delta and shares."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from model import blocks, fusion
from model.descent import Schedule
from model.federation import LENDER
from privacy.accounting import gaussian_mu
from privacy.plan import Plan, Release, price
from server.roster import Member, Roster

FUSION = "fusion"
FUSION_SHARE = 0.1
ROUNDS_OF_SHARED_DOMAINS = 4


@dataclass(frozen=True)
class RunPlan:
    """The priced plan, and the schedule of each of its lines by name."""

    plan: Plan
    schedules: Mapping[str, Schedule]
    persons: int
    rounds: int
    engine: str

    def release(self, name: str) -> Release:
        """The line of that name."""
        return next(r for r in self.plan.releases if r.name == name)

    def fusion(self, layout: fusion.Layout) -> dict[str, Release]:
        """Fusion's lines by part, bounded for the blocks that are left; noise multipliers stay as priced."""
        return {
            part: replace(self.release(f"{FUSION}/{part}"), bound=bound, size=size)
            for part, (bound, size) in layout.bounds().items()
        }


def line_name(member: Member) -> str:
    """The name of a member's line: its block and itself."""
    return f"{member.domain}/{member.name}"


def layout_of(domains: set[str], own: str | None) -> fusion.Layout:
    """The fusion's layout over these domains, the lender's own among them if it has one."""
    return fusion.Layout(len(domains - {own}), len(domains))


def make_plan(roster: Roster, sizes: Mapping[str, int], engine: str, rounds: int) -> RunPlan:
    """Every release of the run, priced to sum to the programme's epsilon over all holders.

    Shares are parts of mu^2. By default fusion gets a tenth, and the rest goes to holders by the square of their rows'
    norm (features + 1): then every column of every block bears the same noise, as in one joint gradient.
    """
    members, terms = roster.training(), roster.terms
    mu = gaussian_mu(terms.epsilon, terms.delta)
    share = _shares(members, terms.shares)
    persons = sizes["train"]
    lines: list[Release] = []
    schedules: dict[str, Schedule] = {}
    for member in members:
        part = share[member.name]
        holders = len(roster.of_domain(member.domain))
        spec = blocks.spec(engine, member.encoding, persons, mu * math.sqrt(part), holders)
        name = line_name(member)
        schedules[name] = spec.schedule
        lines.append(Release(name, member.name, spec.bound, spec.size, spec.schedule.steps, part, spec.probability))
    own = roster.lender.domain if roster.lender.contract else None
    layout = layout_of({m.domain for m in members}, own)
    for part_name, (bound, size) in layout.bounds().items():
        part = share[FUSION] * fusion.PARTS[part_name]
        name = f"{FUSION}/{part_name}"
        schedules[name] = layout.schedule(part_name, persons, mu * math.sqrt(part))
        lines.append(Release(name, LENDER, bound, size, schedules[name].steps, part))
    shared = any(len(roster.of_domain(m.domain)) > 1 for m in members)
    rounds = rounds or (ROUNDS_OF_SHARED_DOMAINS if shared else 1)
    return RunPlan(price(lines, terms.epsilon, terms.delta), schedules, persons, rounds, engine)


def _shares(members: tuple[Member, ...], given: Mapping[str, float]) -> dict[str, float]:
    weight = {m.name: m.encoding.row_norm**2 for m in members}
    total = sum(weight.values())
    share = {name: (1 - FUSION_SHARE) * w / total for name, w in weight.items()} | {FUSION: FUSION_SHARE}
    share |= {name: value for name, value in given.items() if name in share}
    whole = sum(share.values())
    return {name: value / whole for name, value in share.items()}


def order_of(plan: RunPlan, member: Member, round_number: int, holders: int) -> dict[str, Any]:
    """What a member is told about its training: its line, schedule and place; all of it public."""
    name = line_name(member)
    return {
        "holder": member.name,
        "block": member.domain,
        "release": plan.release(name).to_dict(),
        "schedule": asdict(plan.schedules[name]),
        "engine": plan.engine,
        "round": round_number,
        "rounds": plan.rounds,
        "persons": plan.persons,
        "holders": holders,
    }
