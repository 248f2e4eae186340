"""What accuracy a plan may expect, before any data is touched: the plan itself, run on synthetic persons."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from model import fusion, metrics, scorecard
from model.blocks import Block
from model.contract import Contract
from model.descent import Release as Releasing
from model.descent import descend
from model.federation import LENDER
from model.fusion import Subscores
from privacy.mechanisms import respond
from privacy.noise import Csprng
from privacy.plan import LabelResponse, Release
from server.planning import RunPlan
from simulations.joint_expectation import joint_auc
from simulations.synthetic import Population, Traits, population

Floats = NDArray[np.float64]

HELD_OUT = 20_000
NOISY_RUNS = 3
WITHOUT_PRIVACY = 0.75  # AUC of the true log-odds of the synthetic persons
MOST_PERSONS = 200_000  # beyond it noise costs next to nothing


@dataclass(frozen=True)
class Expectation:
    """Held-out AUC of a plan on synthetic persons, beside the same model without noise."""

    persons: int
    exact: float
    noisy: float
    spread: float


def expect(plan: RunPlan, contracts: dict[str, Contract], own: str | None, seed: int = 0) -> Expectation:
    """Runs a plan of scorecards or of a joint fit on a synthetic population made from the contracts.

    Args:
        contracts: by domain; the lender's own among them.
        own: the lender's domain, if it has a block.
        seed: of the population, never of noise.
    """
    persons = min(plan.sizes["train"], MOST_PERSONS)
    rng = np.random.default_rng(seed)
    shares = dict.fromkeys((d for d in contracts if d != own), 0.6)
    drawn = population(contracts, persons + HELD_OUT, rng, Traits(auc=WITHOUT_PRIVACY, shares=shares))
    exact = _held_out(plan, drawn, own, noisy=False)
    noisy = [_held_out(plan, drawn, own, noisy=True) for _ in range(NOISY_RUNS)]
    return Expectation(persons, exact, float(np.mean(noisy)), float(np.std(noisy)))


def _held_out(plan: RunPlan, drawn: Population, own: str | None, noisy: bool) -> float:
    if plan.joint is not None:
        return joint_auc(plan, drawn, own, len(drawn.labels) - HELD_OUT, noisy)
    return _auc(plan, drawn, own, noisy)


def _auc(plan: RunPlan, drawn: Population, own: str | None, noisy: bool) -> float:
    """Held-out AUC of one run: blocks trained apart on the first persons, fused, scored on the last ones."""
    train = len(drawn.labels) - HELD_OUT
    optional = tuple(sorted(d for d in drawn.encodings if d != own))
    columns = [*optional, *([own] if own else [])]
    values = np.stack([_subscores(plan, drawn, domain, noisy) for domain in columns], axis=1)
    parts = {part: plan.line(f"fusion/{part}") for part in fusion.PARTS}
    releases = {part: _adder(line, noisy) for part, line in parts.items() if line}
    schedules = {part: plan.schedules[f"fusion/{part}"] for part in releases}
    fit = fusion.fit(Subscores(optional, own, values[:train]), drawn.labels[:train], releases, schedules)
    z = fusion.z_e6(fit.table, Subscores(optional, own, values[train:]))
    return metrics.auc(drawn.labels[train:], z.astype(np.float64)) or 0.5


def _subscores(plan: RunPlan, drawn: Population, domain: str, noisy: bool) -> Floats:
    """Sub-scores of all persons in log-odds, NaN where absent; several holders divide the persons by chance."""
    encoding, codes = drawn.encodings[domain], drawn.codes[domain]
    train = len(drawn.labels) - HELD_OUT
    lines = [line for line in plan.plan.releases if line.name.startswith(f"{domain}/")]
    holder = np.random.default_rng(1).integers(len(lines), size=train)
    means = []
    for i, line in enumerate(lines):
        rows = np.flatnonzero(drawn.present[domain][:train] & (holder == i))
        labels = _labels(plan, line, drawn.labels[rows], noisy)
        gradient = scorecard.gradient_sum(encoding, codes[:, rows], labels)
        schedule = plan.schedules[line.name]
        start = scorecard.start(encoding)
        means.append(descend(start, gradient, _adder(line, noisy), train / len(lines), schedule)[1])
    block = Block.finished("scorecard", encoding, np.mean(means, axis=0))
    return np.where(drawn.present[domain], block.subscores(codes), np.nan)


def _labels(plan: RunPlan, line: Release, labels: Floats, noisy: bool) -> Floats:
    response = next((r for r in plan.plan.lines if isinstance(r, LabelResponse)), None)
    if response is None or line.holder == LENDER or not noisy:
        return labels
    return response.unbiased(respond(labels.astype(np.int8), response.flip, Csprng()).astype(np.float64))


def _adder(line: Release, noisy: bool) -> Releasing:
    mechanism, rng = (line if noisy else replace(line, noise_multiplier=0.0)).mechanism, Csprng()
    return lambda total: mechanism.release(total, rng)
