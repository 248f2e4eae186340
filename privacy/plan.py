"""The plan of a programme: every release listed and priced before anything starts, and refused as a whole."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from privacy.accounting import Event, epsilon_of, gaussian_mu, shown, smallest_scale
from privacy.mechanisms import GaussianSum


class BudgetExceeded(ValueError):
    """A plan or a ledger would pass its budget; nothing of it may start."""


@dataclass(frozen=True)
class Release:
    """One line of a plan: `count` noisy sums that `holder` releases about each person it holds.

    Args:
        name: unique in the plan, e.g. `payments/pay-1`.
        holder: who draws the noise and is charged.
        bound: L2 norm of one person's vector, by construction.
        size: coordinates of the sum.
        count: how often it is released.
        share: part of the programme's mu^2, in (0, 1].
        probability: Poisson sampling probability of a person per release; 1 is full batch.
        noise_multiplier: noise standard deviation over sensitivity; 0 only without privacy.
    """

    name: str
    holder: str
    bound: float
    size: int
    count: int
    share: float
    probability: float = 1.0
    noise_multiplier: float = 0.0

    @property
    def event(self) -> Event:
        """What the accountant sees."""
        return Event(self.noise_multiplier, self.count, self.probability)

    @property
    def mechanism(self) -> GaussianSum:
        """The mechanism, which knows its own sensitivity."""
        return GaussianSum(self.bound, self.size, self.noise_multiplier)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for reports and messages, with the mechanism's sensitivity."""
        return asdict(self) | {"mechanism": "discrete gaussian sum", "sensitivity": self.mechanism.sensitivity}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Release:
        """The release that `to_dict` wrote."""
        return cls(**{k: v for k, v in data.items() if k not in ("mechanism", "sensitivity")})


@dataclass(frozen=True)
class Plan:
    """All releases of a programme with the (epsilon, delta) they may spend on any one person."""

    releases: tuple[Release, ...]
    epsilon: float
    delta: float

    @property
    def slack(self) -> tuple[float, float]:
        """What the discrete noise's distance from the continuous Gaussian costs: (of epsilon, of delta).

        If all probabilities agree within a factor e^r outside a tail of probability t, an (epsilon, delta) claim for
        the one is an (epsilon + 2 r, delta e^r + (1 + e^epsilon) t) claim for the other.
        """
        slacks = [(r.count, *r.mechanism.slack) for r in self.releases]
        ratio, tail = sum(n * r for n, r, _ in slacks), sum(n * t for n, _, t in slacks)
        if math.isinf(self.epsilon):
            return 0.0, 0.0
        return 2 * ratio, self.delta * math.expm1(min(ratio, 700.0)) + tail * (1.0 + math.exp(min(self.epsilon, 700.0)))

    def spent(self, names: Sequence[str] | None = None) -> float:
        """Epsilon of the named releases (all by default) on a person whom every one of them touches.

        Partners add up, also those of one domain: a person may be at all of them.
        """
        chosen = [r for r in self.releases if names is None or r.name in names]
        of_epsilon, of_delta = self.slack
        return epsilon_of([r.event for r in chosen], self.delta - of_delta) + of_epsilon

    def check(self) -> None:
        """Raises `BudgetExceeded`, naming every line, where the whole plan would pass its budget."""
        if self.slack[1] >= self.delta:
            raise BudgetExceeded(f"delta={self.delta:g} is below the discrete noise's own slack {self.slack[1]:.1e}")
        total = self.spent()
        if total > self.epsilon:
            lines = ", ".join(f"{r.name} {shown(epsilon_of([r.event], self.delta))}" for r in self.releases)
            raise BudgetExceeded(
                f"the plan needs epsilon={shown(total)} (delta={self.delta:g}, a person over all partners), "
                f"the budget is {self.epsilon:g}; each line alone: {lines}"
            )


def price(lines: Sequence[Release], epsilon: float, delta: float) -> Plan:
    """The plan that gives each line its `share` of the budget; shares are scaled to sum to 1.

    Full-batch plans are exact: line i gets mu_i^2 = share_i * mu^2, so its noise multiplier is sqrt(count) / mu_i.
    With sampled lines the multipliers keep those proportions and PLD finds their common scale.

    >>> plan = price([Release("a", "p", 1.0, 3, 4, 0.5), Release("b", "q", 1.0, 3, 9, 0.5)], 1.0, 1e-5)
    >>> [round(r.noise_multiplier, 2) for r in plan.releases], shown(plan.spent())
    ([10.55, 15.83], '1.000')
    """
    if math.isinf(epsilon):
        return Plan(tuple(replace(r, noise_multiplier=0.0) for r in lines), epsilon, delta)
    total = sum(r.share for r in lines)

    def at(scale: float) -> tuple[Release, ...]:
        return tuple(
            replace(r, noise_multiplier=scale * r.probability * math.sqrt(r.count * total / r.share)) for r in lines
        )

    def within(of_epsilon: float, of_delta: float) -> Plan:
        if all(r.probability == 1.0 for r in lines):
            scale = 1.0 / gaussian_mu(epsilon - of_epsilon, delta - of_delta)
        else:
            scale = smallest_scale(lambda s: [r.event for r in at(s)], epsilon - of_epsilon, delta - of_delta)
        return Plan(at(scale), epsilon, delta)

    of_epsilon, of_delta = within(0.0, 0.0).slack  # slack falls as noise grows, so this one is enough
    if of_epsilon >= epsilon or of_delta >= delta:
        raise BudgetExceeded(f"epsilon={epsilon:g}, delta={delta:g} is below the discrete noise's own slack")
    plan = within(of_epsilon + 1e-12 * epsilon, of_delta + 1e-12 * delta)
    plan.check()
    return plan
