"""Mechanisms that release persons' data, of which one is shipped: a bounded sum plus discrete Gaussian noise on a grid.

Simulations may add others: each is priced as the Gaussian of its own `noise_multiplier`, and audited as it releases.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from privacy.noise import SAMPLER_ERROR, Csprng, coins, discrete_gaussian

GRID = 2**20
TAIL = 10.0

GAUSSIAN_SUM = "discrete gaussian sum"  # the name of `GaussianSum` in plans

Floats = NDArray[np.float64]


@runtime_checkable
class Mechanism(Protocol):
    """Releases a sum of one vector a person; a frozen dataclass of `bound`, `size` and `noise_multiplier`.

    Promise: when one person's vector, of L2 norm at most `bound`, becomes zero, the value before noise moves by at most
    `sensitivity` in L2. The release is that value plus noise which knows nothing of it, each coordinate by itself,
    within `slack` of a Gaussian of deviation `noise_stddev` = `noise_multiplier` * `sensitivity`; `noise_multiplier` 0
    releases the sum itself.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def bound(self) -> float:
        """L2 norm of one person's vector, > 0."""
        ...

    @property
    def size(self) -> int:
        """Coordinates of the sum, >= 1."""
        ...

    @property
    def noise_multiplier(self) -> float:
        """Noise standard deviation over sensitivity, >= 0: all that the accountant sees, with `slack`."""
        ...

    @property
    def sensitivity(self) -> float:
        """L2, in the units of the sum, its rounding included: never below `bound`."""
        ...

    @property
    def noise_stddev(self) -> float:
        """Standard deviation of the noise on each coordinate, in the units of the sum."""
        ...

    @property
    def slack(self) -> tuple[float, float]:
        """How far one release is from the Gaussian that it is accounted as: (ratio, tail), as `discreteness` says."""
        ...

    def release(self, total: Floats, rng: Csprng) -> Floats:
        """The noisy sum; `total` has shape (size,). Never fails because of a value: one not finite counts as zero."""
        ...


@dataclass(frozen=True)
class GaussianSum:
    """Releases a sum of one vector a person, each of L2 norm at most `bound`, with Gaussian noise.

    Promise: when one person's vector becomes zero, the value before noise moves by at most `sensitivity` in L2, the
    rounding of every coordinate to the grid of 1/`GRID` included; noise of standard deviation `noise_stddev` =
    `noise_multiplier` * `sensitivity` is added to each of the `size` coordinates. `noise_multiplier` 0 releases the
    sum itself and is for simulations without privacy only.
    """

    bound: float
    size: int
    noise_multiplier: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.bound) and self.bound > 0):
            raise ValueError(f"bound must be finite and > 0 (L2 norm of one person's vector), got {self.bound}")
        if self.size < 1:
            raise ValueError(f"size must be >= 1 (coordinates), got {self.size}")
        if not (math.isfinite(self.noise_multiplier) and self.noise_multiplier >= 0):
            raise ValueError(f"noise_multiplier must be finite and >= 0, got {self.noise_multiplier}")

    @property
    def sensitivity(self) -> float:
        """L2, in the units of the sum. Rounding moves each coordinate of either sum by at most half a grid step.

        >>> GaussianSum(bound=2.0, size=4, noise_multiplier=1.0).sensitivity == 2.0 + 2.0 / GRID
        True
        """
        return self.bound + math.sqrt(self.size) / GRID

    @property
    def noise_stddev(self) -> float:
        """Standard deviation of the noise on each coordinate, in the units of the sum."""
        return self.noise_multiplier * self.sensitivity

    @property
    def slack(self) -> tuple[float, float]:
        """How far one release is from the rounded continuous Gaussian that it is accounted as: (ratio, tail)."""
        return discreteness(self.size, self.noise_stddev * GRID)

    def release(self, total: Floats, rng: Csprng) -> Floats:
        """The noisy sum; `total` has shape (size,). Raises `ValueError` on another shape only.

        A coordinate that is not finite counts as zero: a failure that depends on persons would be a release itself.
        """
        if total.shape != (self.size,):
            raise ValueError("the sum has the wrong shape: nothing is released")
        total = np.where(np.isfinite(total), total, 0.0)
        if self.noise_multiplier == 0:
            return total
        noise = discrete_gaussian(rng, self.noise_stddev * GRID, self.size)
        return (np.rint(total * GRID) + noise) / GRID


def discreteness(size: int, steps: float) -> tuple[float, float]:
    """How far discrete Gaussian noise of `steps` grid steps is from the rounded continuous one: (ratio, tail).

    Within `TAIL` standard deviations the logarithms of both probabilities differ by at most `ratio` in all: the
    sampler's error, and the density's curvature within a grid cell, |x^2/s^2 - 1| / (24 s^2) to first order at s
    grid steps, doubled for the rest. Beyond them lies at most the probability `tail`. Without noise both are 0.
    """
    if steps == 0:
        return 0.0, 0.0
    ratio = size * (SAMPLER_ERROR + (TAIL**2 + 1.0) / (12.0 * steps * steps))
    return ratio, 2.0 * size * float(ndtr(-TAIL))


_MECHANISMS: dict[str, Callable[[float, int, float], Mechanism]] = {GAUSSIAN_SUM: GaussianSum}
_Kind = TypeVar("_Kind", bound=Callable[[float, int, float], Mechanism])
_TRIED = ((2.0, 4, 3.0), (0.5, 1, 0.0), (1.0, 300, 100.0))  # bound, size and noise multiplier
_READ: ContextVar[tuple[str, str]] = ContextVar("read", default=("", ""))


class UnknownMechanism(ValueError):
    """A line is released by a mechanism that this process does not know, or that cannot be priced."""


def mechanism_of(name: str) -> Callable[[float, int, float], Mechanism]:
    """The mechanism of that name, to be made of bound, size and noise multiplier; one that is not shipped is checked.

    A name that ends in @ and the digest of a text is that text's own mechanism, or one that it imported.

    Raises:
        UnknownMechanism: where this process knows none, or, once it is made, where it is not what it must be.
    """
    kind = _MECHANISMS.get(name) or _MECHANISMS.get(name.rpartition("@")[0])
    if kind is None:
        raise UnknownMechanism(f"no mechanism is known here as {name!r}: only a run with its own file has it")
    return kind if kind is GaussianSum else lambda *given: _checked(name, kind, *given)


def mechanism(name: str) -> Callable[[_Kind], _Kind]:
    """Decorator that makes a mechanism known to this process by `name`, for simulations: real nodes take the shipped.

    Raises:
        ValueError: where it is no `Mechanism`, its noise is not what its `noise_multiplier` is priced at, or another is
            known by that name: lines are priced, released and audited by it.
    """

    def known(kind: _Kind) -> _Kind:
        module, digest = _READ.get()
        key = f"{name}@{digest}" if digest and kind.__module__ == module else name
        if "@" in name or key in _MECHANISMS:
            raise ValueError(f"a mechanism is known as {name!r} already: give this one a name of its own, without @")
        for given in _TRIED:
            _checked(name, kind, *given)
        _MECHANISMS[key] = kind
        return kind

    return known


@contextmanager
def reading(module: str, digest: str) -> Iterator[None]:
    """While a module is loaded from a file: its own mechanisms are known by name, @ and the digest of the file's text.

    So another text is another mechanism. The same text may be read again; of one that fails nothing stays known.
    """
    before = dict(_MECHANISMS)
    for name in [name for name in before if name.endswith(f"@{digest}")]:
        del _MECHANISMS[name]
    token = _READ.set((module, digest))
    try:
        yield
    except Exception:
        _MECHANISMS.clear()
        _MECHANISMS.update(before)
        raise
    finally:
        _READ.reset(token)


def _checked(
    name: str, kind: Callable[[float, int, float], Mechanism], bound: float, size: int, multiplier: float
) -> Mechanism:
    """A mechanism made; raises `UnknownMechanism` where its price could not be that of what it releases."""
    made = kind(bound, size, multiplier)
    frozen = getattr(getattr(type(made), "__dataclass_params__", None), "frozen", False)
    if not (frozen and isinstance(made, Mechanism)):
        raise UnknownMechanism(f"{name} must be a frozen dataclass that meets Mechanism")
    if (made.bound, made.size, made.noise_multiplier) != (bound, size, multiplier):
        raise UnknownMechanism(f"{name} must keep the bound, size and noise_multiplier that it is made of")
    if not made.sensitivity >= bound or not math.isclose(made.noise_stddev, multiplier * made.sensitivity):
        raise UnknownMechanism(f"{name}: sensitivity must be >= bound, noise_stddev noise_multiplier * sensitivity")
    ratio, tail = made.slack
    if not (0.0 <= ratio < math.inf and 0.0 <= tail < math.inf):
        raise UnknownMechanism(f"{name}: slack must be two finite numbers >= 0, got {(ratio, tail)}")
    return made


def noise_share(mechanism: Mechanism, unit: int, shares: int, rng: Csprng) -> NDArray[np.int64]:
    """One of several parties' part of a mechanism's noise, in whole steps of 1/`unit`, shape (size,).

    Promise: any `shares` of the parts together are the mechanism's noise, `noise_stddev` on each coordinate: with one
    part more than that, the sum keeps it against each party, which knows its own part. The sum of discrete Gaussians
    is within a factor 1 + 10 (shares - 1) exp(-pi^2 s^2) of a discrete Gaussian, s each part's steps: nothing here, as
    s is never below a thousand.

    Args:
        shares: how many parts make the whole noise; one party alone draws with 1.

    Source: Kairouz, Liu & Steinke (2021), arXiv:2102.06387, Theorem 1.
    """
    if mechanism.noise_multiplier == 0:
        return np.zeros(mechanism.size, dtype=np.int64)
    stddev = mechanism.noise_stddev * unit / math.sqrt(shares)
    if stddev < 1000.0:
        raise ValueError("the noise is too small for the grid: its parts would not add up to a discrete Gaussian")
    return discrete_gaussian(rng, stddev, mechanism.size)


def respond(labels: NDArray[np.int8], flip: float, rng: Csprng) -> NDArray[np.int8]:
    """Randomised response: each label (0 or 1) flipped with probability `flip`; any other value becomes a fair coin.

    Promise: log((1 - flip) / flip) between a label and its opposite; a null row's label tells nothing.

    Source: Warner (1965), J. Am. Stat. Assoc. 60(309).
    """
    if not 0 < flip < 0.5:
        raise ValueError(f"flip must be in (0, 0.5), got {flip}")
    known = np.isin(labels, (0, 1))
    probability = np.where(known, np.where(labels == 1, 1.0 - flip, flip), 0.5)
    return coins(rng, probability).astype(np.int8)
