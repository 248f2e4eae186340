"""A synthetic population drawn from contracts alone: bins, relationships and labels that no real person stands behind.

It has the size and the encoding of a run, so that training code can be audited and plans tried out before data is
touched. The generator may be seeded: nothing here is privacy noise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import ndtri

from model.contract import Contract
from model.descent import sigmoid
from model.encoding import Codes, Encoding, FeatureBins

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_TUNED_ON = 20_000  # persons: enough to set the strength of the effects
_MISSING, _SPECIAL, _OTHER = 0.15, 0.1, 0.02  # largest share of persons in such a bin


@dataclass(frozen=True)
class Traits:
    """What the population shall look like.

    Args:
        auc: of the true log-odds over all domains, in (0.5, 0.99].
        base_rate: share of defaults, in (0, 1).
        correlation: of any two features' ranks through one common factor, in [0, 1).
        shares: by domain the share of persons with a relationship; a domain that is not named has everybody.
    """

    auc: float = 0.75
    base_rate: float = 0.12
    correlation: float = 0.15
    shares: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0.5 < self.auc <= 0.99:
            raise ValueError(f"auc must be in (0.5, 0.99], got {self.auc}")
        if not 0 < self.base_rate < 1:
            raise ValueError(f"base_rate must be in (0, 1), got {self.base_rate}")
        if not 0 <= self.correlation < 1:
            raise ValueError(f"correlation must be in [0, 1), got {self.correlation}")
        if any(not 0 < share <= 1 for share in self.shares.values()):
            raise ValueError(f"shares must be in (0, 1], got {dict(self.shares)}")


@dataclass(frozen=True)
class Population:
    """Persons in one order over all domains.

    Attributes:
        encodings: by domain.
        codes: by domain the bins of all persons, shape (parts, n), those of absent persons meaningless.
        present: by domain who has a relationship, shape (n,).
        effects: by domain the true log-odds of every bin, flat as in `Encoding.points`.
        log_odds: the true ones over each person's domains, shape (n,).
        labels: 1 where the person defaulted, shape (n,).
    """

    encodings: Mapping[str, Encoding]
    codes: Mapping[str, Codes]
    present: Mapping[str, Bools]
    effects: Mapping[str, Floats]
    log_odds: Floats
    labels: Floats

    def block(self, domain: str) -> tuple[Codes, Floats]:
        """What the holder of a domain trains on: the bins and the labels of the persons it has."""
        here = self.present[domain]
        return self.codes[domain][:, here], self.labels[here]


def population(
    contracts: Mapping[str, Contract], persons: int, rng: np.random.Generator, traits: Traits | None = None
) -> Population:
    """Draws a population.

    Args:
        contracts: by domain.
        persons: how many, >= 1.
        rng: seeded or not.

    >>> from model.contract import Feature
    >>> contracts = {"payments": Contract("payments", 1, (Feature("late", "flag", values=("0", "1")),))}
    >>> population(contracts, 5, np.random.default_rng(1)).codes["payments"].shape
    (1, 5)
    """
    if persons < 1 or not contracts:
        raise ValueError(f"need persons >= 1 and a contract, got {persons} and {sorted(contracts)}")
    traits = traits or Traits()
    encodings = {domain: Encoding.of(contract) for domain, contract in contracts.items()}
    factor = rng.standard_normal(persons)
    codes, present, effects = {}, {}, {}
    raw = np.zeros(persons)
    for domain, encoding in encodings.items():
        columns, curves = zip(
            *(_feature(part, factor, traits.correlation, rng) for part in encoding.features), strict=True
        )
        codes[domain] = encoding.with_products(np.stack(columns))
        pairs = zip(encoding.parts[len(columns) :], codes[domain][len(columns) :], strict=True)
        effects[domain] = np.concatenate([*curves, *(_product(part, row, rng) for part, row in pairs)])
        present[domain] = rng.random(persons) < traits.shares.get(domain, 1.0)
        raw += present[domain] * encoding.gather(encoding.packed(codes[domain]), 0.0, effects[domain])
    strength, constant = _tuned(raw[:_TUNED_ON], traits)
    log_odds = constant + strength * raw
    labels = (rng.random(persons) < sigmoid(log_odds)).astype(np.float64)
    scaled = {domain: strength * curve for domain, curve in effects.items()}
    return Population(encodings, codes, present, scaled, log_odds, labels)


def _feature(part: FeatureBins, factor: Floats, correlation: float, rng: np.random.Generator) -> tuple[Codes, Floats]:
    """The bins of one feature, shape (n,), and the effect of each, centred: a smooth curve, a number a category."""
    chances = _chances(part, rng)
    cuts = ndtri(np.cumsum(chances)[:-1])
    drawn = np.sqrt(1 - correlation) * rng.standard_normal(len(factor))
    drawn += np.sqrt(correlation) * rng.choice([-1.0, 1.0]) * factor
    curve = part.basis @ rng.standard_normal(part.basis.shape[1]) * rng.lognormal()  # a few features matter most
    return np.searchsorted(cuts, drawn).astype(np.uint16), curve - chances @ curve


def _product(part: FeatureBins, row: Codes, rng: np.random.Generator) -> Floats:
    """The effect of each pair of bins of a product, centred on the persons whose pairs are `row`."""
    curve = part.basis @ rng.standard_normal(part.basis.shape[1]) * rng.lognormal()
    return np.asarray(curve - curve[row].mean())


def _chances(part: FeatureBins, rng: np.random.Generator) -> Floats:
    """Skewed marginal probabilities of a feature's bins, shape (bins,)."""
    extra = len(part.labels) - part.ordered
    if part.ordered:
        at = (np.arange(part.ordered) + 0.5) / part.ordered
        body = at ** rng.uniform(-0.5, 2.0) * (1 - at) ** rng.uniform(0.0, 5.0)
        rest = _SPECIAL * rng.random(extra)
    else:  # categories, then other and missing
        body = np.zeros(0)
        rest = rng.permutation(1.0 / np.arange(1, extra + 1))
        rest *= 1 / rest[:-2].sum() if extra > 2 else 1.0
    if part.feature.kind != "numeric":
        rest[-2] = _OTHER * rng.random()
    rest[-1] = _MISSING * rng.random()
    if part.ordered:
        body *= (1 - rest.sum()) / body.sum() if rest.sum() < 0.9 else 0.1 / body.sum()
    chances = np.concatenate([body, rest])
    return np.asarray(chances / chances.sum())


def _tuned(raw: Floats, traits: Traits) -> tuple[float, float]:
    """Strength and constant at which the expected area under the curve and base rate are those asked for."""
    ordered = np.sort(raw - raw.mean())
    deviation = float(ordered.std())
    if deviation == 0:
        return 1.0, float(np.log(traits.base_rate / (1 - traits.base_rate))) - float(raw.mean())
    ordered /= deviation

    def constant(strength: float) -> float:
        reach = 50.0 + strength * float(np.abs(ordered).max())
        return float(brentq(lambda c: sigmoid(c + strength * ordered).mean() - traits.base_rate, -reach, reach))

    def short(strength: float) -> float:
        return _expected_auc(sigmoid(constant(strength) + strength * ordered)) - traits.auc

    strength = float(brentq(short, 0.0, 30.0, xtol=1e-3)) if short(30.0) > 0 else 30.0
    return strength / deviation, constant(strength) - strength / deviation * float(raw.mean())


def _expected_auc(ordered: Floats) -> float:
    """The area under the curve of increasing probabilities, expected over labels drawn from them."""
    good = 1 - ordered
    below = np.cumsum(good) - 0.5 * good
    return float(ordered @ below / (ordered.sum() * good.sum()))
