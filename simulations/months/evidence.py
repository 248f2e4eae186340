"""What partners and lender make of applicants: one scorecard a domain, and the fusion table over them.

Fitted on persons of its own, drawn from the same generator, as a real federation would: the scorecards on one part, the
table on another. Entries for late data come from complete cases with the block taken away, so no outage had to happen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from model.descent import sigmoid
from model.limits.fields import digest
from model.limits.table import MICRO, DecisionBundle, Entry, FusionTable
from model.points import score_thresholds
from simulations.months.applicants import DOMAINS, OWN, Applicants, Floats, Ints, draw_applicants

BLOCKS = (*DOMAINS, OWN)
_STEP_E6 = 10_000  # a sub-score travels in hundredths of a log-odd
_REFERENCE = (550, 570)  # scores at or slightly above the line
_MIN_DEFAULTS = 20  # fewer in a pattern: its entry is that of all who have as many blocks


@dataclass(frozen=True)
class Scorecard:
    """A logistic model of one block's features; what it gives is centred, so that fusion weights are near one."""

    centre: Floats
    weights: Floats

    def logit_e6(self, features: Floats) -> Ints:
        """Sub-scores in micro-logit, in whole hundredths of a logit."""
        steps = np.rint((features - self.centre) @ self.weights * (MICRO / _STEP_E6))
        return steps.astype(np.int64) * _STEP_E6


@dataclass(frozen=True)
class Model:
    """The scorecards by block, and the bundle that decisions are made with."""

    cards: Mapping[str, Scorecard]
    bundle: DecisionBundle

    def logits_e6(self, people: Applicants) -> Ints:
        """Sub-scores, shape (n, 4), in the order of `BLOCKS`; those of a domain without a relationship mean nothing."""
        return np.stack([self.cards[block].logit_e6(people.features[block]) for block in BLOCKS], axis=1)


def fit_model(seed: int = 0, persons: int = 80_000) -> Model:
    """Fits scorecards on `persons`, and the fusion table on twice as many others.

    >>> model = fit_model(persons=4000)
    >>> len(model.bundle.table.entries), model.bundle.table.blocks
    (27, ('ecommerce', 'payments', 'tax_business', 'lender_kyc'))
    """
    rng = np.random.default_rng([seed, 1])
    people = draw_applicants(rng, persons)
    labels = _defaults(rng, people)
    seen = {domain: people.covered[:, at] for at, domain in enumerate(DOMAINS)} | {OWN: np.ones(persons, dtype=bool)}
    cards = {block: _fit_card(people.features[block][seen[block]], labels[seen[block]]) for block in BLOCKS}
    others = draw_applicants(rng, 2 * persons)
    logits = np.stack([cards[block].logit_e6(others.features[block]) for block in BLOCKS], axis=1)
    table = _fit_table(others, logits, _defaults(rng, others))
    bundle = DecisionBundle(f"months-{seed}", digest(table), table, "subscores", _reference(table, others, logits))
    return Model(cards, bundle)


def recalibrated(bundle: DecisionBundle, shift: float, fewer_than: int) -> DecisionBundle:
    """The bundle with `shift` logits added for all patterns of fewer available blocks.

    >>> bundle = DecisionBundle("a", "0" * 64, FusionTable((), None, {"|": Entry(-3_000_000, {})}), "subscores", {})
    >>> recalibrated(bundle, 0.5, fewer_than=2).table.entries["|"].intercept_e6
    -2500000
    """
    table, move = bundle.table, round(shift * MICRO)
    entries = {
        key: Entry(entry.intercept_e6 + move * (_size(key) < fewer_than), entry.weights_e6)
        for key, entry in table.entries.items()
    }
    moved = FusionTable(table.optional, table.own, entries)
    return DecisionBundle(bundle.bundle_id, digest(moved), moved, "subscores", bundle.reference_e6)


def logistic(x: Floats, labels: Floats, ridge: float = 1.0) -> Floats:
    """Weights of a logistic regression by Newton's method, the intercept first and not shrunk.

    >>> logistic(np.array([[1.0], [1.0], [-1.0], [-1.0]]), np.array([1.0, 0.0, 0.0, 0.0])).round(2)
    array([-1.18,  0.58])
    """
    x = np.column_stack([np.ones(len(x)), x])
    penalty = ridge * np.diag([0.0] + [1.0] * (x.shape[1] - 1))
    weights = np.zeros(x.shape[1])
    for _ in range(25):
        p = sigmoid(x @ weights)
        curvature = (x * (p * (1 - p))[:, None]).T @ x + penalty
        step = np.linalg.solve(curvature, x.T @ (labels - p) - penalty @ weights)
        weights = weights + step
        if np.abs(step).max() < 1e-9:
            break
    return weights


def _defaults(rng: np.random.Generator, people: Applicants) -> Floats:
    return (rng.random(len(people)) < sigmoid(people.logit_pd)).astype(np.float64)


def _fit_card(features: Floats, labels: Floats) -> Scorecard:
    centre, spread = features.mean(axis=0), features.std(axis=0)
    return Scorecard(centre, logistic((features - centre) / spread, labels)[1:] / spread)


def _fit_table(people: Applicants, logits_e6: Ints, labels: Floats) -> FusionTable:
    """An entry for each (relationship, availability) from those who have just these relationships."""
    x, covered = logits_e6 / MICRO, people.covered
    entries = {}
    for related in product((False, True), repeat=len(DOMAINS)):
        rows = (covered == related).all(axis=1)
        if labels[rows].sum() < _MIN_DEFAULTS:
            rows = covered.sum(axis=1) == sum(related)
        for available in product((False, True), repeat=len(DOMAINS)):
            if all(r or not a for r, a in zip(related, available, strict=True)):
                names = [d for d, here in zip(BLOCKS, (*available, True), strict=True) if here]
                places = [BLOCKS.index(name) for name in names]
                intercept, *weights = _positive(x[np.ix_(rows, places)], labels[rows])
                entries[_key(related, available)] = Entry(
                    _e6(intercept), dict(zip(names, map(_e6, weights), strict=True))
                )
    return FusionTable(DOMAINS, OWN, entries)


def _positive(x: Floats, labels: Floats) -> Floats:
    """Logistic weights, none negative: a block that would count the wrong way round is left out."""
    kept = np.ones(x.shape[1], dtype=bool)
    while True:
        found = logistic(x[:, kept], labels)
        if (found[1:] >= 0).all():
            weights = np.zeros(x.shape[1] + 1)
            weights[0], weights[1:][kept] = found[0], found[1:]
            return weights
        kept[np.flatnonzero(kept)[found[1:] < 0]] = False


def _reference(table: FusionTable, people: Applicants, logits_e6: Ints) -> dict[str, int]:
    """Mean sub-scores of those whose data is complete and whose score is just above the line."""
    entry = table.entry(DOMAINS, DOMAINS)
    weights = np.array([entry.weights_e6[block] for block in BLOCKS])
    z = entry.intercept_e6 + logits_e6 @ weights // MICRO
    thresholds = score_thresholds()
    near = (z >= thresholds[950 - _REFERENCE[1] - 1]) & (z < thresholds[950 - _REFERENCE[0]])
    near &= people.covered.all(axis=1)
    means = logits_e6[near].mean(axis=0) if near.any() else np.zeros(len(BLOCKS))
    return {block: round(float(mean)) for block, mean in zip(BLOCKS, means, strict=True)}


def _key(related: tuple[bool, ...], available: tuple[bool, ...]) -> str:
    names = ["+".join(d for d, here in zip(DOMAINS, flags, strict=True) if here) for flags in (related, available)]
    return "|".join(names)


def _size(key: str) -> int:
    available = key.split("|")[1]
    return len(available.split("+")) if available else 0


def _e6(value: float | NDArray[np.float64]) -> int:
    return round(float(value) * MICRO)
