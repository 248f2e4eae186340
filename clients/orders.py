"""What a holder makes of the plan that it is sent: checked as a whole, charged as a whole, then drawn line by line."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clients.config import Node
from model.blocks import ENGINES, known
from model.descent import MAX_RATE, Schedule
from model.descent import Release as Releasing
from model.federation import LENDER
from model.inputs import InputError, whole
from privacy.ledger import Ledger, Terms
from privacy.mechanisms import GAUSSIAN_SUM
from privacy.noise import Csprng
from privacy.plan import EVERYBODY, TRAIN, LabelResponse, Plan, Release, digest, line_of
from privacy.roles import Joint, assigned

Floats = NDArray[np.float64]

MAX_COUNT = 10_000  # releases of a line: far above any schedule, and quick to account for


@dataclass(frozen=True)
class Agreement:
    """The plan of a run as every holder is sent it, whole; all of it public.

    Attributes:
        id: the hash of all that it says: its name in the ledgers.
        sizes: persons of the cohort, `train` and `held_out`.
        joint: how the joint fit is computed, where that is the engine.
        summed: the blocks whose holders' updates are only ever shown as a sum.
    """

    id: str
    plan: Plan
    schedules: Mapping[str, Schedule]
    engine: str
    rounds: int
    sizes: Mapping[str, int]
    joint: Joint | None = None
    summed: tuple[str, ...] = ()

    @classmethod
    def of(cls, document: Mapping[str, Any], node: Node) -> Agreement:
        """The agreement of a plan's document.

        Raises:
            InputError: where it is of another programme or delta, or asks for what no plan may.
            BudgetExceeded: where its lines cost more than it says.
        """
        if document["programme"] != node.programme or document["delta"] != node.delta:
            raise InputError("order", "plan", "is of another programme or delta")
        name, plan = digest(document), _plan_of(json.dumps([document[key] for key in ("lines", "epsilon", "delta")]))
        if not all(isinstance(line, Release | LabelResponse) for line in plan.lines):
            raise InputError("order", "plan", "has a line that no run releases")
        own = {name: node.federation.holder(name).domain for name in node.holders}
        if any(line.home not in ("", own.get(line.holder, line.home)) for line in plan.releases):
            raise InputError("order", "home", "is not this holder's domain")
        if any(line.count > MAX_COUNT for line in plan.releases):
            raise InputError("order", "count", f"must be at most {MAX_COUNT}")
        if not plan.epsilon > 0 or math.isinf(plan.epsilon) != noiseless(node):
            raise InputError("order", "epsilon", "is not what this node runs under", plan.epsilon)
        if document["engine"] not in (known() if node.simulated else ENGINES):
            raise InputError("order", "engine", "must be " + " | ".join(ENGINES), document["engine"])
        if not node.simulated and any(line.kind != GAUSSIAN_SUM for line in plan.releases):
            raise InputError("order", "mechanism", f"must be {GAUSSIAN_SUM}")
        _check(plan)
        schedules = {name: schedule_of(line) for name, line in document["schedules"].items()}
        sizes = {name: whole("order", name, document["sizes"][name]) for name in ("train", "held_out")}
        rounds = whole("order", "rounds", document["rounds"])
        joint = _joint(document, node) if document["engine"] == "moments" else None
        summed = tuple(map(str, document.get("summed", ())))
        return cls(name, plan, schedules, document["engine"], rounds, sizes, joint, summed)

    def line(self, name: str, holder: str, persons: str = TRAIN) -> Release:
        """The noisy sum of that name, which must be the holder's and charged to the persons whom it will touch."""
        for line in self.plan.releases:
            if (line.name, line.persons) == (name, persons) and line.holder in (holder, EVERYBODY):
                return line
        raise InputError("order", "line", "is not in the plan", name)

    def has(self, name: str) -> bool:
        """Whether the plan has a noisy sum of that name."""
        return any(line.name == name for line in self.plan.releases)

    def holders(self, block: str) -> int:
        """How many holders share a block."""
        return sum(line.name.startswith(f"{block}/") for line in self.plan.releases)

    @property
    def response(self) -> LabelResponse | None:
        """The line of the labels, where they are told by randomised response."""
        return next((line for line in self.plan.lines if isinstance(line, LabelResponse)), None)


@lru_cache(maxsize=4)
def _plan_of(text: str) -> Plan:
    """The plan of a document's [lines, epsilon, delta] as JSON: every message of a run brings the same one."""
    rows, epsilon, delta = json.loads(text)
    lines = tuple(line_of(row) for row in rows)
    if len({line.name for line in lines}) < len(lines):
        raise InputError("order", "plan", "names a line twice")
    return Plan(lines, float(epsilon), float(delta))


@lru_cache(maxsize=4)
def _check(plan: Plan) -> None:
    """Raises `BudgetExceeded` where a plan costs more than it says; a plan that was checked is not checked again."""
    plan.check()


def _joint(document: Mapping[str, Any], node: Node) -> Joint:
    """How a joint fit is computed: by this holder's own file, not by whom the coordinator would like to have."""
    joint, federation = Joint.from_dict(document["joint"]), node.federation
    if joint.trust == "curator" and not node.simulated:
        raise InputError("order", "trust", "lets the coordinator see rows: only a simulation may", joint.trust)
    domains = {p.name: p.domain for p in federation.partners} | {LENDER: ""}
    owners = {owner: name for name, (owners, _) in joint.blocks.items() for owner in owners}
    if joint.owners[0] != LENDER or any(domains.get(owner) != name for owner, name in owners.items()):
        raise InputError("order", "blocks", "are not those of this federation")
    if joint.roles != assigned(federation.roles, joint.owners, node.programme):
        raise InputError("order", "roles", "are not those of this federation", joint.roles.to_dict())
    return joint


def agreed(node: Node, name: str, config: Mapping[str, Any]) -> Agreement:
    """The plan that an order carries; this holder's ledger must be where the order's witness saw it."""
    seen = config.get("witness")
    if seen is not None:
        with ledger(node, name, (whole("order", "witness", seen[0]), str(seen[1]))):
            pass
    return Agreement.of(config["plan"], node)


def schedule_of(line: Mapping[str, Any]) -> Schedule:
    """A schedule from plain values; raises `InputError` where no descent could follow it."""
    schedule = Schedule(whole("order", "steps", line["steps"]), float(line["rate"]), float(line["burn_in"]))
    if not 0 < schedule.rate <= MAX_RATE or not 0 <= schedule.burn_in < 1:
        raise InputError("order", "schedule", "is out of range", [schedule.rate, schedule.burn_in])
    return schedule


def noiseless(node: Node) -> bool:
    """Whether this is a simulation without privacy."""
    return node.simulated and math.isinf(node.epsilon)


@contextmanager
def ledger(node: Node, name: str, witness: tuple[int, str] | None = None) -> Iterator[Ledger | None]:
    """The holder's ledger; None in a simulation without privacy, which must never touch a durable one.

    `witness` is what the coordinator last saw of it: (rows, hash).
    """
    if noiseless(node):
        yield None
        return
    terms = Terms(node.programme, name, node.epsilon, node.total, node.delta)
    with Ledger(node.durable(name) / "ledger.db", terms, witness) as book:
        yield book


def reserve(node: Node, name: str, agreement: Agreement) -> None:
    """Charges the whole plan, unless it was charged before; raises `BudgetExceeded` where it does not fit."""
    with ledger(node, name) as book:
        if book:
            book.reserve(agreement.id, agreement.plan.lines)


def once(
    node: Node, agreement: Agreement, line: Release, part: str, draw: Callable[[Releasing], bytes], holder: str = ""
) -> bytes:
    """The bytes of a reply whose noise is drawn once: those stored, where it was asked for before.

    Args:
        line: a line of the plan, perhaps with a smaller bound or size.
        part: which of the line's replies.
        draw: makes the reply with the line's noise; called at most once for each part, ever.
        holder: in whose ledger, where the line is everybody's.

    Raises:
        BudgetExceeded: where the line is not paid for, or where an earlier attempt died after it was claimed.
    """
    return once_all(node, agreement, [line], lambda releases: draw(releases[0]), part, holder)


def once_all(
    node: Node,
    agreement: Agreement,
    lines: Sequence[Release],
    draw: Callable[[Sequence[Releasing]], bytes],
    part: str = "",
    holder: str = "",
) -> bytes:
    """`once` for a reply that several lines of one holder pay for together."""
    releases = [_releasing(line, noiseless(node)) for line in lines]
    with ledger(node, holder or lines[0].holder) as book:
        if book is None:
            return draw(releases)
        book.reserve(agreement.id, agreement.plan.lines)
        stored = book.stored(book.key(agreement.id, lines[0].name, part))
        if stored is not None:
            return stored
        keys = [book.claim(agreement.id, line, part) for line in lines]
        reply = draw(releases)
        book.store(keys[0], reply)
        return reply


def _releasing(line: Release, exact: bool) -> Releasing:
    """The function that adds the line's noise; without noise only in a simulation without privacy."""
    if line.noise_multiplier == 0 and not exact:
        raise InputError("order", "noise_multiplier", "must be > 0", 0)
    mechanism, rng = line.mechanism, Csprng()
    return lambda total: mechanism.release(total, rng)
