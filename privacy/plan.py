"""The plan of a programme: every release listed and priced before anything starts, and refused as a whole."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from privacy.accounting import (
    Event,
    Response,
    adaptive_epsilon,
    epsilon_of,
    filter_order,
    gaussian_mu,
    shown,
    smallest_scale,
)
from privacy.mechanisms import GAUSSIAN_SUM, Floats, Mechanism, mechanism_of
from privacy.selection import Selection

EVERYBODY = "*"  # holder of a line to whose noise every holder adds its share: each of them charges it as its own
TRAIN, HELD_OUT = "train", "held-out"  # persons of a line: disjoint groups, so a person pays for one of them


class BudgetExceeded(ValueError):
    """A plan or a ledger would pass its budget; nothing of it may start."""


@dataclass(frozen=True)
class Release:
    """One line of a plan: `count` noisy sums that `holder` releases about each person it holds.

    Args:
        name: unique in the plan, e.g. `payments/pay-1`.
        holder: who draws the noise and is charged; `EVERYBODY` where all holders draw it together.
        bound: L2 norm of one person's vector, by construction.
        size: coordinates of the sum.
        count: how often it is released.
        share: part of the programme's mu^2, in (0, 1].
        probability: Poisson sampling probability of a person per release; 1 is full batch.
        noise_multiplier: noise standard deviation over sensitivity; 0 only without privacy.
        persons: the group that it touches, `TRAIN` or `HELD_OUT`.
        home: the domain among whose partners each person trains at one only; empty where a person may be at all.
        kind: name of the mechanism; real nodes know the shipped one only.
    """

    name: str
    holder: str
    bound: float
    size: int
    count: int
    share: float
    probability: float = 1.0
    noise_multiplier: float = 0.0
    persons: str = TRAIN
    home: str = ""
    kind: str = GAUSSIAN_SUM

    @property
    def event(self) -> Event:
        """What the accountant sees."""
        return Event(self.noise_multiplier, self.count, self.probability)

    @property
    def mechanism(self) -> Mechanism:
        """The mechanism, which knows its own sensitivity."""
        return mechanism_of(self.kind)(self.bound, self.size, self.noise_multiplier)

    @property
    def slack(self) -> tuple[float, float]:
        """How far all its releases are from what they are accounted as: (ratio, tail) of `Mechanism.slack`."""
        ratio, tail = self.mechanism.slack
        return self.count * ratio, self.count * tail

    def covers(self, other: Release) -> bool:
        """Whether paying for this line pays for `other`: the same but for a smaller bound or size."""
        same = replace(other, bound=self.bound, size=self.size) == self
        return same and other.bound <= self.bound and other.size <= self.size

    def to_dict(self) -> dict[str, Any]:
        """Plain values for reports and messages, with the mechanism's sensitivity."""
        plain = dict(vars(self))
        return plain | {"mechanism": plain.pop("kind"), "sensitivity": self.mechanism.sensitivity}


@dataclass(frozen=True)
class LabelResponse:
    """The line of the labels that `holder` tells its partners: each flipped by randomised response, drawn once.

    Args:
        epsilon: of the response itself, between a label and its opposite; a null row's label is a fair coin, so that a
            person's absence costs less: log((1 + e^epsilon) / 2).
    """

    name: str
    holder: str
    epsilon: float
    persons: str = TRAIN
    home: str = ""
    slack: tuple[float, float] = field(default=(0.0, 0.0), init=False, repr=False, compare=False)

    @property
    def flip(self) -> float:
        """The probability with which a label is flipped, in (0, 0.5)."""
        return 1.0 / (1.0 + math.exp(min(self.epsilon, 700.0))) if self.epsilon < math.inf else 0.0

    @property
    def stretch(self) -> float:
        """How much longer than 1 a residual p - y may become once its label is unbiased."""
        return (1.0 - self.flip) / (1.0 - 2.0 * self.flip)

    def unbiased(self, labels: Floats) -> Floats:
        """Told labels so that they are right on average: in (1 - stretch, stretch)."""
        return (labels - self.flip) / (1.0 - 2.0 * self.flip)

    @property
    def event(self) -> Response:
        """What the accountant sees."""
        return Response(self.flip)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for reports and messages."""
        own = {"name": self.name, "holder": self.holder, "epsilon": self.epsilon, "persons": self.persons}
        return own | {"mechanism": "randomised response", "flip": self.flip}


Line = Release | LabelResponse | Selection


def line_of(data: Mapping[str, Any]) -> Line:
    """The line that `to_dict` wrote."""
    if data["mechanism"] == "private selection":
        return Selection.from_dict(data)
    given = {k: v for k, v in data.items() if k not in ("mechanism", "sensitivity", "flip")}
    if data["mechanism"] == "randomised response":
        return LabelResponse(**given)
    return Release(**given, kind=data["mechanism"])


def on_one_person(lines: Sequence[Line]) -> dict[str, list[Line]]:
    """For each group of persons the lines that may touch one of them: of a home domain, only one partner's.

    Raises:
        ValueError: where partners of a home domain would not all charge the same, so that it mattered which is home.
    """
    touching: dict[str, list[Line]] = {}
    for persons in dict.fromkeys(line.persons for line in lines):
        homes: dict[str, dict[str, list[Line]]] = {}
        for line in lines:
            if line.persons == persons:
                homes.setdefault(line.home, {}).setdefault(line.holder if line.home else "", []).append(line)
        touching[persons] = []
        for domain, partners in homes.items():
            charges = {tuple(sorted(repr(line.event) for line in own)) for own in partners.values() if domain}
            if len(charges) > 1:
                raise ValueError(f"home partners of {domain} must be charged alike")
            touching[persons] += next(iter(partners.values()))
    return touching


def slack_of(lines: Sequence[Line], epsilon: float, delta: float) -> tuple[float, float]:
    """What the discrete noise's distance from the continuous Gaussian costs: (of epsilon, of delta).

    If all probabilities agree within a factor e^r outside a tail of probability t, an (epsilon, delta) claim for the
    one is an (epsilon + 2 r, delta e^r + (1 + e^epsilon) t) claim for the other.
    """
    if math.isinf(epsilon):
        return 0.0, 0.0
    ratio, tail = (sum(column) for column in zip((0.0, 0.0), *(line.slack for line in lines), strict=True))
    return 2 * ratio, delta * math.expm1(min(ratio, 700.0)) + tail * (1.0 + math.exp(min(epsilon, 700.0)))


def spent_by(plans: Sequence[Sequence[Line]], epsilon: float, delta: float, order: float | None = None) -> float:
    """Epsilon at `delta` on the person whom these plans cost most, each perhaps made after seeing the earlier ones.

    Args:
        epsilon: the budget, at which the discrete noise's slack is taken and the filter's order chosen.
        order: of the filter, where it was fixed under another budget.
    """
    of_epsilon, of_delta = slack_of([line for plan in plans for line in plan], epsilon, delta)
    if of_delta >= delta:
        return math.inf
    by_plan = [on_one_person(plan) for plan in _labels_once(plans)]
    order = order or (filter_order(epsilon, delta) if math.isfinite(epsilon) else 2.0)
    spent = 0.0
    for persons in dict.fromkeys(group for plan in by_plan for group in plan):
        events = [[line.event for line in plan.get(persons, ())] for plan in by_plan]
        spent = max(spent, adaptive_epsilon(events, delta - of_delta, order))
    return spent + of_epsilon


def _labels_once(plans: Sequence[Sequence[Line]]) -> list[list[Line]]:
    """The plans without labels that an earlier one told: they are drawn once a programme, so that tells nothing new."""
    told: set[Line] = set()
    kept = []
    for plan in plans:
        kept.append([line for line in plan if line not in told])
        told |= {line for line in plan if isinstance(line, LabelResponse)}
    return kept


@dataclass(frozen=True)
class Plan:
    """All lines of a programme with the (epsilon, delta) they may spend on any one person."""

    lines: tuple[Line, ...]
    epsilon: float
    delta: float

    @property
    def releases(self) -> tuple[Release, ...]:
        """The lines that release noisy sums."""
        return tuple(line for line in self.lines if isinstance(line, Release))

    @property
    def slack(self) -> tuple[float, float]:
        """What the noise being discrete costs: (of epsilon, of delta)."""
        return slack_of(self.lines, self.epsilon, self.delta)

    def spent(self, names: Sequence[str] | None = None) -> float:
        """Epsilon of the named lines (all by default) on a person whom they cost most."""
        chosen = [line for line in self.lines if names is None or line.name in names]
        return spent_by([chosen], self.epsilon, self.delta)

    def check(self) -> None:
        """Raises `BudgetExceeded`, naming every line, where the whole plan would pass its budget."""
        if self.slack[1] >= self.delta:
            raise BudgetExceeded(f"delta={self.delta:g} is below the discrete noise's own slack {self.slack[1]:.1e}")
        total = self.spent()
        if total > self.epsilon:
            lines = ", ".join(f"{r.name} {shown(epsilon_of([r.event], self.delta))}" for r in self.lines)
            raise BudgetExceeded(
                f"the plan needs epsilon={shown(total)} (delta={self.delta:g}, a person over all partners), "
                f"the budget is {self.epsilon:g}; each line alone: {lines}"
            )


def digest(document: Mapping[str, Any]) -> str:
    """The name of a plan: the hash of everything that it says, so that no two holders can be told different ones."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def price(lines: Sequence[Line], epsilon: float, delta: float) -> Plan:
    """The plan that gives each noisy sum its `share` of the budget; shares are scaled to sum to 1 on one person.

    Full-batch plans are exact: line i gets mu_i^2 = share_i * mu^2, so its noise multiplier is sqrt(count) / mu_i.
    With sampled lines or label responses the multipliers keep those proportions and PLD finds their common scale.
    Each group of persons has the whole budget for itself.

    >>> plan = price([Release("a", "p", 1.0, 3, 4, 0.5), Release("b", "q", 1.0, 3, 9, 0.5)], 1.0, 1e-5)
    >>> [round(r.noise_multiplier, 2) for r in plan.releases], shown(plan.spent())
    ([10.55, 15.83], '1.000')
    """
    if math.isinf(epsilon):
        return Plan(tuple(_scaled(line, 0.0) for line in lines), epsilon, delta)
    first = Plan(_priced(lines, epsilon, delta), epsilon, delta)
    of_epsilon, of_delta = first.slack  # slack falls as noise grows, so this one is enough
    if of_epsilon >= epsilon or of_delta >= delta:
        raise BudgetExceeded(f"epsilon={epsilon:g}, delta={delta:g} is below the discrete noise's own slack")
    less = epsilon - of_epsilon - 1e-12 * epsilon, delta - of_delta - 1e-12 * delta
    plan = Plan(_priced(lines, *less), epsilon, delta)
    plan.check()
    return plan


def _priced(lines: Sequence[Line], epsilon: float, delta: float) -> tuple[Line, ...]:
    """The lines with the least noise that keeps each group of persons to (epsilon, delta)."""
    scales = {}
    for persons, group in on_one_person(lines).items():
        total = sum(line.share for line in group if isinstance(line, Release))

        def cost(scale: float, group: list[Line] = group, total: float = total) -> float:
            return epsilon_of([_scaled(line, scale * math.sqrt(total)).event for line in group], delta)

        if all(isinstance(line, Release) and line.probability == 1.0 for line in group):
            scale = 1.0 / gaussian_mu(epsilon, delta)
        else:
            try:
                scale = smallest_scale(cost, epsilon)
            except ValueError:
                alone = shown(epsilon_of([line.event for line in group if isinstance(line, LabelResponse)], delta))
                raise BudgetExceeded(
                    f"the labels alone cost {alone} of epsilon={epsilon:g}: lower label-epsilon"
                ) from None
        scales[persons] = scale * math.sqrt(total)
    return tuple(_scaled(line, scales[line.persons]) for line in lines)


def _scaled(line: Line, scale: float) -> Line:
    if not isinstance(line, Release):
        return line
    return replace(line, noise_multiplier=scale * line.probability * math.sqrt(line.count / line.share))
