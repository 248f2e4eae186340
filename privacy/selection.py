"""Private selection: the best of a random number of runs, without paying for each of them.

Theorem 2 of Papernot & Steinke (2022), arXiv:2110.03620. Let Q satisfy (a, r)-RDP and (b, s)-RDP for some a in
(1, inf) and b in [1, inf); let its outputs be totally ordered; let K follow the truncated negative binomial
distribution with `shape` h in (-1, inf) and g in (0, 1), independent of the data. The best of K independent runs of Q
satisfies (a, r')-RDP with

    r' = r + (1 + h) (1 - 1/b) s + (1 + h) log(1/g) / b + log E[K] / (a - 1).

Theorem 6 there, for K ~ Poisson(m), where K = 0 gives an output that does not depend on the data: if Q satisfies
(a, r)-RDP and is (e, d)-private with exp(e) <= 1 + 1/(a - 1), the best of K runs satisfies (a, r')-RDP with

    r' = r + m d + log(m) / (a - 1).

Liu & Talwar (2019), arXiv:1811.07971, had the first such results, for pure privacy and geometric K.

What must hold, and why it does here: (1) Q releases, of any one person, what a full-batch Gaussian of sensitivity over
stddev `mu` would, in both directions: RDP a mu^2 / 2 at every a >= 1. Q may draw which of several candidates it runs,
each of at most `mu`: a mixture that tells its part diverges no more than its worst part. (2) All that ranks a run is
in its output: the noisy held-out histogram is a part of Q, not a look at persons beside it. A held-out person is in
the histogram alone and a training person in the model alone, so `mu` bounds each of them. (3) Ties go to the run that
came first, which for independent runs is a fair draw among them: as if each output bore an independent random number
that breaks ties. (4) K is drawn here, depends on nothing, and is told to nobody, nor is any run but the best.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from privacy.accounting import epsilon_of, gaussian_delta, gaussian_mu, smallest_scale
from privacy.noise import Csprng

POISSON = math.inf  # the shape of K's distribution by which Poisson goes
GEOMETRIC = 1.0
MOST_RUNS = 500.0  # of K on average: more takes too long to be of use
COVERED = 0.9  # probability with which a random number of runs tries any one candidate
WORTH = 1.1  # how much more mu a random number must leave each run to be preferred to one run of each candidate

_CUT = 2.0**-60  # of K's upper tail, which is never drawn
_WHOLE = 2**62  # weights of K's values sum to this, to within rounding


@dataclass(frozen=True)
class Repeats:
    """How many runs there are: K, of a truncated negative binomial distribution or Poisson.

    Attributes:
        mean: of K; greater than 1, at most `MOST_RUNS`.
        shape: >= 0; 0 is logarithmic, 1 geometric, `POISSON` Poisson. K is at least 1 but for Poisson.

    >>> Repeats(10.0, GEOMETRIC).pmf()[:3].round(4).tolist()
    [0.0, 0.1, 0.09]
    """

    mean: float
    shape: float

    def __post_init__(self) -> None:
        if not 1 < self.mean <= MOST_RUNS:
            raise ValueError(f"the mean number of runs must be above 1 and at most {MOST_RUNS:g}, got {self.mean}")
        if not self.shape >= 0:
            raise ValueError(f"shape must be >= 0, got {self.shape}")

    @classmethod
    def covering(cls, candidates: int, shape: float) -> Repeats:
        """The least that try each of `candidates`, drawn evenly for each run, with probability `COVERED`.

        Only for Poisson and geometric, where it has a closed form: the generating function at 1 - 1/candidates is
        1 - `COVERED`.

        >>> round(Repeats.covering(4, POISSON).mean, 3), round(Repeats.covering(4, GEOMETRIC).mean, 9)
        (9.21, 27.0)
        """
        if shape == POISSON:
            return cls(-math.log1p(-COVERED) * candidates, shape)
        if shape != GEOMETRIC:
            raise ValueError(f"shape must be {GEOMETRIC} or {POISSON}, got {shape}")
        return cls((candidates - 1) * COVERED / (1 - COVERED), shape)

    @cached_property
    def gamma(self) -> float:
        """The truncated negative binomial's second parameter, in (0, 1), found from the mean; 0 for Poisson."""
        if self.shape == POISSON:
            return 0.0

        def excess(x: float) -> float:  # of the mean at gamma = exp(-x)
            if self.shape == 0:
                return math.expm1(x) / x - self.mean
            return self.shape * math.expm1(x) / -math.expm1(-self.shape * x) - self.mean

        low, high = 1e-12, 1.0
        while excess(high) < 0:
            high *= 2
        return math.exp(-float(brentq(excess, low, high, xtol=1e-15, rtol=1e-14)))

    @property
    def steepness(self) -> float:
        """The most that the logarithm of the generating function's derivative grows by, a unit, on [0, 1]."""
        return self.mean if self.shape == POISSON else (1 + self.shape) * (1 - self.gamma) / self.gamma

    def pmf(self) -> NDArray[np.float64]:
        """P(K = k) for k = 0, 1, ...; what follows the last is less than 2^-60 together."""
        return np.array(_pmf(self))

    @property
    def drawing_error(self) -> float:
        """The total variation distance of `draw` from the distribution, at most: rounding, and the tail cut off."""
        return 1e-15 * (self.mean + 2) + len(_pmf(self)) / (2 * _WHOLE) + _CUT

    def __str__(self) -> str:
        name = {POISSON: "Poisson", GEOMETRIC: "geometric", 0.0: "logarithmic"}.get(self.shape, f"shape {self.shape:g}")
        return f"{self.mean:.4g} runs on average, {name}"

    def draw(self, rng: Csprng) -> int:
        """One K."""
        ends = np.cumsum(np.rint(self.pmf() * _WHOLE).astype(np.int64))
        return int(np.searchsorted(ends, rng.below(1, int(ends[-1]))[0], side="right"))


@lru_cache(maxsize=16)
def _pmf(repeats: Repeats) -> tuple[float, ...]:
    """By the ratio of neighbours, from the smallest value on."""
    poisson, keep, shape = repeats.shape == POISSON, 1 - repeats.gamma, repeats.shape
    if poisson:
        found = [math.exp(-repeats.mean)]
    else:
        x = -math.log(repeats.gamma)
        found = [0.0, keep / x if shape == 0 else shape * keep / math.expm1(shape * x)]
    while True:
        k = len(found) - 1
        ratio = repeats.mean / (k + 1) if poisson else keep * (k + shape) / (k + 1)
        largest = ratio if poisson else max(ratio, keep)  # of this ratio and all that follow
        if largest < 1 and found[-1] * ratio / (1 - largest) < _CUT:
            return tuple(found)
        found.append(found[-1] * ratio)


@dataclass(frozen=True)
class Repeated:
    """An event: the best of `repeats` runs, to any one person each a Gaussian of sensitivity/stddev `mu`."""

    mu: float
    repeats: Repeats

    def __post_init__(self) -> None:
        if not 0 < self.mu < math.inf:
            raise ValueError(f"mu must be finite and > 0, got {self.mu}")

    def renyi(self, order: float) -> float:
        """Its Renyi divergence at `order` > 1, at most: the theorem there, or at a higher order, which bounds it too.

        b of Theorem 2 is the best there is: sqrt(2 log(1/g)) / mu, but at least 1.
        """
        lowest = 1 + math.sqrt(2 * math.log(self.repeats.mean)) / self.mu  # where the terms in `order` are least
        return min(self._theorem(order), self._theorem(max(order, lowest)))

    def _theorem(self, order: float) -> float:
        mean, shape, signal = self.repeats.mean, self.repeats.shape, self.mu * self.mu / 2
        if shape == POISSON:
            extra = mean * gaussian_delta(self.mu, math.log1p(1 / (order - 1)))
        else:
            told = -math.log(self.repeats.gamma)
            other = max(1.0, math.sqrt(2 * told) / self.mu)
            extra = (1 + shape) * ((other - 1) * signal + told / other)
        return order * signal + extra + math.log(mean) / (order - 1)


@dataclass(frozen=True)
class Selection:
    """The line of a plan for a whole private selection: only the best run leaves, and every holder charges for it.

    Attributes:
        mu: of one run to one person of `persons`, at most.
        run_slack: how far one run's noise is from what it is accounted as, (ratio, tail), all its lines together.
    """

    name: str
    holder: str
    mu: float
    repeats: Repeats
    run_slack: tuple[float, float]
    persons: str
    home: str = ""

    def __post_init__(self) -> None:
        if not all(0 <= slack < math.inf for slack in self.run_slack):
            raise ValueError(f"run_slack must be two numbers >= 0, got {self.run_slack}")

    @property
    def event(self) -> Repeated:
        """What the accountant sees."""
        return Repeated(self.mu, self.repeats)

    @property
    def slack(self) -> tuple[float, float]:
        """How far the selection is from what it is accounted as: (ratio, tail).

        Let f be K's generating function and F(y) the probability that a run is no better than y. The best is y with
        probability f(F(y)) - f(F(y-)): the probability that a run is y times f' between the two. If a run's
        probabilities are right within a factor e^r outside a tail of t, any F is right within d = e^r - 1 + t, hence
        log f' within `steepness` d. Some run is in the tail with probability E[K] t at most.
        """
        ratio, tail = self.run_slack
        away = math.expm1(ratio) + tail
        return ratio + self.repeats.steepness * away, self.repeats.mean * tail + self.repeats.drawing_error

    def to_dict(self) -> dict[str, Any]:
        """Plain values for ledgers and reports."""
        shape = "poisson" if self.repeats.shape == POISSON else self.repeats.shape
        own = {"name": self.name, "holder": self.holder, "persons": self.persons, "mu": self.mu}
        runs = {"mean": self.repeats.mean, "shape": shape, "run_slack": list(self.run_slack)}
        return own | runs | {"mechanism": "private selection"}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Selection:
        """The line that `to_dict` wrote."""
        shape = POISSON if data["shape"] == "poisson" else float(data["shape"])
        ratio, tail = data["run_slack"]
        repeats = Repeats(float(data["mean"]), shape)
        return cls(data["name"], data["holder"], float(data["mu"]), repeats, (ratio, tail), data["persons"])


def mu_of_a_run(candidates: int, repeats: Repeats | None, epsilon: float, delta: float) -> float:
    """The largest mu of each run with which the whole selection keeps to (epsilon, delta).

    Without `repeats` each candidate runs once: their Gaussians compose, mu^2 adds up, and everything may be shown.

    >>> [round(mu_of_a_run(3, repeats, 1.0, 1e-5), 3) for repeats in (None, Repeats.covering(3, POISSON))]
    [0.155, 0.156]
    """
    if repeats is None:
        return gaussian_mu(epsilon, delta) / math.sqrt(candidates)
    return 1 / smallest_scale(lambda scale: epsilon_of([Repeated(1 / scale, repeats)], delta), epsilon)


def cheapest(candidates: int, epsilon: float, delta: float) -> Repeats | None:
    """The number of runs that leaves each of them most: random where that is worth its secret, else each once (None).

    It depends on public numbers only. One run of each is preferred where it is nearly as good: then no number need be
    kept secret, every candidate is tried, and the ledger composes it exactly with what comes later.

    >>> cheapest(3, 1.0, 1e-5), str(cheapest(20, 1.0, 1e-5))
    (None, '171 runs on average, geometric')
    """
    mu: dict[Repeats | None, float] = {None: WORTH * mu_of_a_run(candidates, None, epsilon, delta)}
    for shape in (POISSON, GEOMETRIC):
        try:
            repeats = Repeats.covering(candidates, shape)
        except ValueError:  # so many candidates take too many runs
            continue
        mu[repeats] = mu_of_a_run(candidates, repeats, epsilon, delta)
    return max(mu, key=lambda repeats: mu[repeats])
