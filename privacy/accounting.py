"""What releases cost: exact for full-batch Gaussians, numerical (PLD) where batches are sampled.

Unit: the person over all partners. Neighbours: one person's rows become null rows (zero-out). All figures are for
mechanisms whose list is fixed beforehand; a Gaussian programme may also be extended adaptively, since mu^2 adds up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from scipy.optimize import brentq
from scipy.special import log_ndtr, ndtr

INFINITY = math.inf


@dataclass(frozen=True)
class Event:
    """`count` Gaussian releases of one `noise_multiplier`, each over a Poisson sample of `probability` of persons."""

    noise_multiplier: float
    count: int = 1
    probability: float = 1.0

    def __post_init__(self) -> None:
        if not self.noise_multiplier >= 0 or math.isinf(self.noise_multiplier):
            raise ValueError(f"noise_multiplier must be finite and >= 0, got {self.noise_multiplier}")
        if self.count < 1 or not 0 < self.probability <= 1:
            raise ValueError(f"need count >= 1 and probability in (0, 1], got {self.count}, {self.probability}")

    @property
    def mu_squared(self) -> float:
        """The event's part of mu^2 if every person is in every batch: count / noise_multiplier^2."""
        return self.count / self.noise_multiplier / self.noise_multiplier if self.noise_multiplier else INFINITY


def gaussian_delta(mu: float, epsilon: float) -> float:
    """The smallest delta at which a Gaussian of sensitivity/stddev `mu` is (epsilon, delta)-private.

    Source: Balle & Wang (2018), arXiv:1805.06530, Theorem 8.

    >>> round(gaussian_delta(1.0, 1.0), 6)
    0.126937
    """
    if mu == 0:
        return 0.0
    first = float(ndtr(mu / 2 - epsilon / mu))
    return max(0.0, first - math.exp(epsilon + float(log_ndtr(-mu / 2 - epsilon / mu))))


def gaussian_epsilon(mu: float, delta: float) -> float:
    """The smallest epsilon for `mu` at `delta`: the inverse of `gaussian_delta`."""
    _check_delta(delta)
    if math.isinf(mu):
        return INFINITY
    if gaussian_delta(mu, 0.0) <= delta:
        return 0.0
    high = 1.0
    while gaussian_delta(mu, high) > delta:
        high *= 2
    return float(brentq(lambda e: gaussian_delta(mu, e) - delta, 0.0, high, xtol=1e-12, rtol=1e-12))


def gaussian_mu(epsilon: float, delta: float) -> float:
    """The largest mu that keeps to (epsilon, delta).

    >>> abs(gaussian_epsilon(gaussian_mu(1.0, 1e-5), 1e-5) - 1.0) < 1e-9
    True
    """
    _check_delta(delta)
    if math.isinf(epsilon):
        return INFINITY
    if not epsilon > 0:
        raise ValueError(f"epsilon must be > 0, got {epsilon}")
    high = 1.0
    while gaussian_delta(high, epsilon) < delta:
        high *= 2
    return float(brentq(lambda m: gaussian_delta(m, epsilon) - delta, 0.0, high, xtol=1e-13, rtol=1e-12))


def epsilon_of(events: Sequence[Event], delta: float) -> float:
    """Epsilon at `delta` of all `events` together on one person: closed form, or PLD where batches are sampled."""
    if not events:
        return 0.0
    if any(e.noise_multiplier == 0 for e in events):
        return INFINITY
    if all(e.probability == 1.0 for e in events):
        return gaussian_epsilon(math.sqrt(sum(e.mu_squared for e in events)), delta)
    _check_delta(delta)
    from dp_accounting import dp_event, pld
    from dp_accounting.privacy_accountant import NeighboringRelation

    accountant = pld.PLDAccountant(NeighboringRelation.REPLACE_SPECIAL, value_discretization_interval=1e-3)
    for noise_multiplier, probability, count in _merged(events):
        gaussian = dp_event.GaussianDpEvent(noise_multiplier)
        sampled = gaussian if probability == 1.0 else dp_event.PoissonSampledDpEvent(probability, gaussian)
        accountant.compose(dp_event.SelfComposedDpEvent(sampled, count))
    return float(accountant.get_epsilon(delta))


def smallest_scale(events_at: Callable[[float], Sequence[Event]], epsilon: float, delta: float) -> float:
    """The least s, to 0.1 %, at which `events_at(s)` keeps to (epsilon, delta); noise must grow with s."""
    high = 1.0
    while epsilon_of(events_at(high), delta) > epsilon:
        high *= 2
    low = high / 2
    while epsilon_of(events_at(low), delta) <= epsilon:
        high, low = low, low / 2
    while high / low > 1.001:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if epsilon_of(events_at(middle), delta) <= epsilon else (middle, high)
    return high


def shown(epsilon: float) -> str:
    """`epsilon` rounded up to three decimals, as it may be shown to people.

    >>> shown(0.99991), shown(INFINITY)
    ('1.000', 'inf')
    """
    return "inf" if math.isinf(epsilon) else f"{math.ceil(epsilon * 1000 - 1e-9) / 1000:.3f}"


def _merged(events: Iterable[Event]) -> list[tuple[float, float, int]]:
    counts: dict[tuple[float, float], int] = {}
    for e in events:
        counts[e.noise_multiplier, e.probability] = counts.get((e.noise_multiplier, e.probability), 0) + e.count
    return [(z, q, n) for (z, q), n in counts.items()]


def _check_delta(delta: float) -> None:
    if not 0 < delta < 1:
        raise ValueError(f"delta must be in (0, 1), got {delta}")
