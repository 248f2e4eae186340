"""What releases cost: exact for full-batch Gaussians, numerical (PLD) where batches are sampled or labels flipped.

Unit: the person over all partners. Neighbours: one person's rows become null rows (zero-out). `epsilon_of` is for a
list that is fixed beforehand. What is added after looking at results needs a filter: mu^2 where all are full-batch
Gaussians, Renyi divergence at one order chosen beforehand otherwise (`adaptive_epsilon`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Protocol

from scipy.optimize import brentq
from scipy.special import log_ndtr, ndtr

INFINITY = math.inf
ORDERS = tuple(1 + 1.05**k / 50 for k in range(380))  # of Renyi divergences, where the best is looked for
BEYOND = 1000.0  # more is not worth computing, and could take all memory: it counts as without any noise


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


@dataclass(frozen=True)
class Response:
    """One label told by randomised response, which flips it with probability `flip`; a null row's is a fair coin."""

    flip: float

    def __post_init__(self) -> None:
        if not 0 < self.flip < 0.5:
            raise ValueError(f"flip must be in (0, 0.5), got {self.flip}")


class Divergent(Protocol):
    """An event that knows its Renyi divergence, such as a private selection's; any other event has a closed form."""

    def renyi(self, order: float) -> float:
        """At most, at an order > 1, in either direction."""


AnyEvent = Event | Response | Divergent


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
    if mu * mu > 1e12 * BEYOND:  # far beyond, where floating point would overflow
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


def epsilon_of(events: Sequence[AnyEvent], delta: float) -> float:
    """Epsilon at `delta` of all `events` together on one person: closed form, or PLD, or Renyi at the best order."""
    mu_squared = _mu_squared(events)
    if mu_squared is not None:
        return gaussian_epsilon(math.sqrt(mu_squared), delta)
    _check_delta(delta)
    if _hopeless(events):
        return INFINITY
    if _divergent(events):
        return _at_best_order(tuple(sorted(events, key=repr)), delta)
    return _by_pld(tuple(sorted(_merged(events).items(), key=repr)), delta)


def adaptive_epsilon(plans: Sequence[Sequence[AnyEvent]], delta: float, order: float) -> float:
    """Epsilon at `delta` of plans of which each may have been made after looking at what the earlier ones released.

    One plan alone, or full-batch Gaussians only: `epsilon_of`. Else a Renyi filter at `order`, fixed before the first.

    Sources: Feldman & Zrnic (2021), arXiv:2008.11193, Theorem 3.1; Canonne, Kamath & Steinke (2020), arXiv:2004.00010,
    Proposition 12, for the conversion.
    """
    plans = [plan for plan in plans if plan]
    events = [event for plan in plans for event in plan]
    if len(plans) <= 1 or _mu_squared(events) is not None:
        return epsilon_of(events, delta)
    _check_delta(delta)
    return INFINITY if _hopeless(events) else _by_renyi(events, delta, order)


@lru_cache(maxsize=64)
def filter_order(epsilon: float, delta: float) -> float:
    """The Renyi order at which a filter for (epsilon, delta) admits the most Gaussian noise-free signal.

    >>> 1 < filter_order(8.0, 1e-5) < filter_order(1.0, 1e-5)
    True
    """

    def admitted(order: float) -> float:
        conversion = math.log1p(-1 / order) - math.log(delta * order) / (order - 1)
        return (epsilon - conversion) / order  # mu^2 / 2

    grid = [1 + 1.02**k / 50 for k in range(700)]
    return max(grid, key=admitted)


def smallest_scale(epsilon_at: Callable[[float], float], epsilon: float) -> float:
    """The least s, to 0.1 %, at which `epsilon_at(s)` is at most `epsilon`; it must fall as s grows.

    Raises:
        ValueError: where no s reaches it, however much noise.
    """
    high = 1.0
    while epsilon_at(high) > epsilon:
        high *= 2
        if high > 1e9:
            raise ValueError(f"epsilon={epsilon:g} is out of reach, got {epsilon_at(high):.4g} with any noise")
    low = high / 2
    while epsilon_at(low) <= epsilon:
        high, low = low, low / 2
    while high / low > 1.001:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if epsilon_at(middle) <= epsilon else (middle, high)
    return high


def shown(epsilon: float) -> str:
    """`epsilon` rounded up to three decimals, as it may be shown to people.

    >>> shown(0.99991), shown(INFINITY)
    ('1.000', 'inf')
    """
    return "inf" if math.isinf(epsilon) else f"{math.ceil(epsilon * 1000 - 1e-9) / 1000:.3f}"


def _mu_squared(events: Sequence[AnyEvent]) -> float | None:
    """Their mu^2 if the closed form applies to all: full-batch Gaussians, or something without any noise."""
    gaussians = [e for e in events if isinstance(e, Event)]
    if any(e.noise_multiplier == 0 for e in gaussians):
        return INFINITY
    if len(gaussians) < len(events) or any(e.probability != 1.0 for e in gaussians):
        return None
    return math.fsum(e.mu_squared for e in gaussians)


def _hopeless(events: Sequence[AnyEvent]) -> bool:
    """Whether their Renyi divergence of order 2 passes `BEYOND`, as with a mistyped noise multiplier of 1e-5.

    Source: Mironov, Talwar & Zhang (2019), arXiv:1908.10530, section 3.3, whose sum has a closed form at order 2.
    """

    def divergence(event: AnyEvent) -> float:
        if isinstance(event, Response):
            return -math.log(2 * event.flip)
        if not isinstance(event, Event):
            return event.renyi(2.0)
        signal = 1 / event.noise_multiplier / event.noise_multiplier
        if signal > 700.0:
            return max(0.0, signal + 2 * math.log(event.probability)) * event.count
        return math.log1p(event.probability**2 * math.expm1(signal)) * event.count

    return sum(divergence(event) for event in events) > BEYOND


def _merged(events: Sequence[AnyEvent]) -> Counter[Event | Response]:
    """How often each distinct single release of a closed form occurs."""
    counts: Counter[Event | Response] = Counter()
    for e in events:
        if isinstance(e, Event):
            counts[replace(e, count=1)] += e.count
        elif isinstance(e, Response):
            counts[e] += 1
    return counts


def _divergent(events: Sequence[AnyEvent]) -> list[Divergent]:
    return [event for event in events if not isinstance(event, Event | Response)]


@lru_cache(maxsize=512)
def _at_best_order(events: tuple[AnyEvent, ...], delta: float) -> float:
    return min(_by_renyi(events, delta, order) for order in ORDERS)


def _by_renyi(events: Sequence[AnyEvent], delta: float, order: float) -> float:
    """From the sum of their Renyi divergences at `order`."""
    from dp_accounting import dp_event, rdp
    from dp_accounting.privacy_accountant import NeighboringRelation

    accountant = rdp.RdpAccountant([order], NeighboringRelation.REPLACE_SPECIAL)
    divergent = _divergent(events)
    if divergent:  # at this one order a constant is all there is to know of them
        accountant.compose(dp_event.ZCDpEvent(rho=0.0, xi=math.fsum(event.renyi(order) for event in divergent)))
    for event, count in _merged(events).items():
        accountant.compose(_dp_event(event, count))  # randomised response alone needs no loop here, as with PLD
    return float(accountant.get_epsilon(delta))


@lru_cache(maxsize=512)
def _by_pld(merged: tuple[tuple[Event | Response, int], ...], delta: float) -> float:
    """Never too little; too much by the interval's rounding, which shows in small epsilons of many steps only."""
    epsilon = _pld_epsilon(merged, delta, 1e-3)
    return _pld_epsilon(merged, delta, 1e-4) if 0 < epsilon < 0.1 else epsilon


def _pld_epsilon(merged: tuple[tuple[Event | Response, int], ...], delta: float, interval: float) -> float:
    from dp_accounting import pld
    from dp_accounting.privacy_accountant import NeighboringRelation

    accountant = pld.PLDAccountant(NeighboringRelation.REPLACE_SPECIAL, value_discretization_interval=interval)
    for event, count in merged:
        if isinstance(event, Response):  # composed one by one: dp_accounting 0.6.0 ignores a response's count
            for _ in range(count):
                accountant.compose(_dp_event(event, 1))
        else:
            accountant.compose(_dp_event(event, count))
    return float(accountant.get_epsilon(delta))


def _dp_event(event: Event | Response, count: int) -> Any:
    from dp_accounting import dp_event

    if isinstance(event, Response):  # theirs draws a fair coin with this probability
        single = dp_event.RandomizedResponseDpEvent(2 * event.flip, 2)
    else:
        single = dp_event.GaussianDpEvent(event.noise_multiplier)
        if event.probability != 1.0:
            single = dp_event.PoissonSampledDpEvent(event.probability, single)
    return dp_event.SelfComposedDpEvent(single, count)


def _check_delta(delta: float) -> None:
    if not 0 < delta < 1:
        raise ValueError(f"delta must be in (0, 1), got {delta}")
