"""T1 for every model, with the noise off: how far one person moves an exact sum, and what a sum is divided by.

Rows are random or made to do harm; parameters are whatever a coordinator may send. Sums are compared with the person
and without, in float64 and as the mechanism rounds them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from clients import training
from clients.cohort import Aligned, table_of
from clients.config import Node
from clients.orders import Agreement
from model import averages, estimates, fusion, network, quantiles, scorecard
from model.blocks import CLIP_NORM, Block, network_size
from model.contract import Contract, Feature
from model.descent import Schedule
from model.encoding import Encoding
from model.fusion import PARTS, Layout, Subscores
from privacy import mechanisms
from privacy.mechanisms import GRID, GaussianSum
from privacy.noise import Csprng
from privacy.plan import Plan, Release

torch.set_num_threads(1)

Floats = NDArray[np.float64]
Sums = dict[str, Floats]
COLUMNS = 4
FEATURES = (
    Feature("income", "numeric", low=0.0, high=1e6, scale="log"),
    Feature("late", "numeric", low=-3.0, high=12.0, special=("-1",), group="repayment"),
    Feature("flow", "numeric", low=-1e9, high=1e9, scale="signed-log", group="money"),
    Feature("tiny", "numeric", low=-1e-300, high=1e-300),
)
ENCODING = Encoding.of(Contract("payments", 1, FEATURES))
FAMILIES = averages.families_of(ENCODING)
STRETCH = 1.6  # of a residual: randomised response at a label epsilon of about 1
SHAPE = network.Shape(COLUMNS, (5,))
LAYOUT = Layout(COLUMNS - 2, COLUMNS - 1)


def one_hot(rng: np.random.Generator) -> Callable[[Floats, Floats], Sums]:
    """The evaluation's histogram of scores, and the fine bins from which private edges are chosen."""
    features = [Feature(f.name, "numeric", low=f.low, high=f.high, special=f.special) for f in FEATURES]

    def sums(x: Floats, y: Floats) -> Sums:
        scores = 650 + 100 * np.clip(np.nan_to_num(x[:, 0]), -9.0, 9.0)
        return {"scores": estimates.histogram(scores, y == 1), "bins": quantiles.counts(features, list(x.T))}

    return sums


def scorecards(rng: np.random.Generator) -> Callable[[Floats, Floats], Sums]:
    """The gradient, and the averages behind the reasons; labels stretched as randomised response may ask."""
    weights = rng.choice([0.0, 0.3, 10.0, 1e6]) * rng.standard_normal(ENCODING.columns)
    constant, bins = ENCODING.points(weights)
    points = np.append(constant, bins)

    def sums(x: Floats, y: Floats) -> Sums:
        codes = np.array([p.codes_of_numbers(column) for p, column in zip(ENCODING.parts, x.T, strict=True)])
        labels = np.where(np.nan_to_num(y) > 0.5, STRETCH, 1.0 - STRETCH)
        parts = Block("scorecard", ENCODING, points).by_group(codes)
        return {
            "gradient": scorecard.gradient_sum(ENCODING, codes, labels)(weights),
            "reasons": averages.sums(parts, FAMILIES, len(x)),
        }

    return sums


def networks(engine: Callable[..., Floats]) -> Callable[[np.random.Generator], Callable[[Floats, Floats], Sums]]:
    """Its targets may be anything: one that is not finite counts as an absent person."""

    def draw(rng: np.random.Generator) -> Callable[[Floats, Floats], Sums]:
        scale = rng.choice([0.0, 0.5, 10.0, 1e4, 3e5])
        theta = np.clip(network.init(SHAPE, rng) + scale * rng.standard_normal(SHAPE.size), -1e6, 1e6)
        return lambda x, y: {"gradient": engine(theta, x, y, SHAPE, CLIP_NORM)}

    return draw


def fusions(rng: np.random.Generator) -> Callable[[Floats, Floats], Sums]:
    """All three releases, at parameters that the trial draws: in a fit they follow from what was released before."""
    sizes = {name: size for name, (_, size) in LAYOUT.bounds().items()}
    theta = {size: rng.choice([0.0, 1.0, 30.0]) * rng.uniform(-1, 1, size) for size in sizes.values()}
    told = {name: 10 * rng.standard_normal(size) for name, size in sizes.items()}

    def sums(x: Floats, y: Floats) -> Sums:
        seen: Sums = {}
        releases = {name: lambda total, n=name: (seen.setdefault(n, total), told[n])[1] for name in PARTS}

        def once(start: Floats, gradient: Callable[[Floats], Floats], release: fusion.Release, *_: object) -> object:
            release(gradient(theta[len(start)]))
            return start, theta[len(start)]

        scores = Subscores(("a", "b"), "own", x[:, :3])
        with mock.patch.multiple(fusion, descend=once, _table=lambda *_: None), np.errstate(over="ignore"):
            fusion.fit(scores, (np.nan_to_num(y) > 0.5).astype(np.float64), releases, dict.fromkeys(PARTS))
        return seen

    return sums


NETWORK = {"gradient": (CLIP_NORM, SHAPE.size)}
MODELS = {
    "one-hot": (one_hot, {"scores": (1.0, 2 * estimates.BINS), "bins": (2.0, COLUMNS * quantiles.FINE)}),
    "scorecard": (
        scorecards,
        {"gradient": (ENCODING.row_norm * STRETCH, ENCODING.columns), "reasons": (averages.BOUND, len(FAMILIES) + 1)},
    ),
    "network": (networks(network.clipped_sum), NETWORK),
    "opacus": (networks(network.clipped_sum_opacus), NETWORK),
    "fusion": (fusions, LAYOUT.bounds()),
}
SUMS = [(model, name) for model, (_, limits) in MODELS.items() for name in limits]
every_sum = pytest.mark.parametrize(("model", "name"), SUMS, ids=["-".join(pair) for pair in SUMS])


def neighbours(rng: np.random.Generator) -> tuple[Floats, Floats, int]:
    """A batch and the place of one person in it."""
    rows = 2000 if rng.random() < 0.01 else int(rng.choice([1, 2, 3, 8, 33, 150]))
    x = rng.standard_normal((rows, COLUMNS)) * rng.choice([0.3, 3.0, 30.0])
    y = rng.integers(0, 2, rows).astype(np.float64)
    i = int(rng.integers(rows))
    x[i] *= rng.choice([1e-3, 1.0, 1e3, 1e30, 1e150, 1e200, 5e-324, 1e-310, 0.0])
    match int(rng.integers(8)):
        case 0:
            x[i, rng.integers(COLUMNS)] = rng.choice([np.inf, -np.inf, np.nan, 1.7e308, 1e3, -1.0, -0.0])
        case 1:
            x[:] = x[i]
        case 2:
            y[i] = rng.choice([np.nan, np.inf, -1.0, 127.0, 1e300, 0.5])
        case 3:
            x[:] = rng.choice([np.nan, 0.0, 1e3, 1e200, np.inf])
        case 4:
            x[i], y[i] = x[0], 1.0 - y[0]
        case 5:
            x[i] = rng.choice([np.inf, -np.inf, np.nan, 5e-324])
    return x, y, i


@dataclass(frozen=True)
class Moves:
    """Over all trials of one sum, shape (trials,) each."""

    exact: Floats  # distance over bound
    rounded: Floats  # distance after rounding over the mechanism's sensitivity
    others: Floats  # how far anybody else's part moved, in grid steps, at its worst coordinate


@cache
def moves(model: str, trials: int) -> dict[str, Moves]:
    draw, limits = MODELS[model]
    rng, found, stream = np.random.default_rng(20240229), {name: [] for name in limits}, Csprng()
    with mock.patch.object(mechanisms, "discrete_gaussian", lambda rng, stddev, count: np.zeros(count, np.int64)):
        for _ in range(trials):
            sums, (x, y, i) = draw(rng), neighbours(rng)
            everybody, alone = sums(x, y), sums(x[i : i + 1], y[i : i + 1])
            rest = sums(np.delete(x, i, 0), np.delete(y, i))
            for name, (bound, size) in limits.items():
                mechanism = GaussianSum(bound, size, 1.0)
                less = mechanism.release(rest[name], stream)
                step = mechanism.release(everybody[name], stream) - less
                kept = mechanism.release(everybody[name] - alone[name], stream) - less
                exact = np.linalg.norm(everybody[name] - rest[name]) / bound
                found[name].append((exact, np.linalg.norm(step) / mechanism.sensitivity, np.abs(kept).max() * GRID))
    return {name: Moves(*np.array(rows).T) for name, rows in found.items()}


def moves_of(model: str, name: str) -> Moves:
    return moves(model, 20 if model == "opacus" else 1000)[name]


@every_sum
def test_t1_one_person_moves_no_exact_sum_by_more_than_its_bound(model: str, name: str) -> None:
    assert moves_of(model, name).exact.max() <= 1 + 1e-9


@every_sum
def test_t1_one_person_moves_no_rounded_sum_by_more_than_the_mechanisms_sensitivity(model: str, name: str) -> None:
    assert moves_of(model, name).rounded.max() <= 1.0


@every_sum
def test_t1_nobody_elses_part_moves_by_more_than_a_grid_step(model: str, name: str) -> None:
    assert moves_of(model, name).others.max() <= 1.0


@every_sum
def test_t1_some_neighbour_comes_near_every_bound(model: str, name: str) -> None:
    """Else the tests above could not tell a bound from twice the bound."""
    assert moves_of(model, name).exact.max() > 0.95


@pytest.mark.statistical
def test_t1_a_thousand_neighbours_keep_to_the_bound_of_opacus() -> None:
    of = moves("opacus", 1000)["gradient"]
    assert of.exact.max() <= 1 + 1e-9
    assert of.rounded.max() <= 1.0
    assert of.others.max() <= 1.0


def cancelling(rng: np.random.Generator, limit: float) -> tuple[Floats, Floats, network.Shape]:
    """A row, and parameters under which its hidden sums and its logit all but cancel: last bits become thousandths."""
    shape = network.Shape(49, (32,))
    row = rng.uniform(-0.2, 0.2, (1, shape.columns))
    first = rng.uniform(-limit, limit, (32, shape.columns))
    theta = np.concatenate([first.ravel(), -first @ row[0], limit * rng.choice([-1.0, 1.0], 32), [0.0]])
    theta = np.clip(theta, -limit, limit)
    for _ in range(30):
        theta[-1] = np.clip(theta[-1] - network.predict(theta, row, shape, "cpu")[0] - 16.0, -limit, limit)
    return theta, row, shape


@pytest.mark.parametrize("engine", [network.clipped_sum, network.clipped_sum_opacus])
def test_t1_parameters_chosen_to_magnify_the_last_bits_move_nobody_elses_part(engine: Callable[..., Floats]) -> None:
    """In a product as long as the batch, one more row moved the others' sum by up to .0014 clip norms."""
    rng = np.random.default_rng(1)
    for others in (1, 3, 31, 255, 511, 512, 513):
        for _ in range(2):
            theta, row, shape = cancelling(rng, 1e6)
            x, y = np.repeat(row, others + 1, axis=0), np.zeros(others + 1)
            y[-1] = 1.0
            rest = engine(theta, x[:-1], y[:-1], shape, CLIP_NORM, "cpu")
            absent = engine(theta, x, np.where(y == 1, np.nan, y), shape, CLIP_NORM, "cpu")
            assert np.linalg.norm(absent - rest) <= CLIP_NORM * 1e-9
            assert np.linalg.norm(engine(theta, x, y, shape, CLIP_NORM, "cpu") - rest) <= CLIP_NORM * (1 + 1e-9)


# --- what a step is divided by


@pytest.fixture
def trained(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Floats]:
    """Where two steps of training end when all that is released is ones, by who is in the batch and who exists."""
    node = Node.of({"num-partitions": 1}, {"federation": str(small), "out": str(tmp_path), "epsilon": "inf"}, 1)
    encoding = table_of(node, "pay-1").encoding
    assert encoding is not None
    size = network_size(encoding)
    monkeypatch.setattr(training, "once", lambda node, agreement, line, part, draw: draw(np.ones_like))

    def train(batch: int, present: int = 200, persons: int = 1000, holders: int = 2) -> Floats:
        cohort = Aligned(np.arange(present), np.zeros(present, np.int8), np.zeros(present, np.int8))
        monkeypatch.setattr(training, "aligned", lambda node, name, plan: cohort)
        monkeypatch.setattr(training, "poisson_batch", lambda rng, n, q: np.arange(batch))
        names = [f"payments/pay-{i + 1}" for i in range(holders)]
        lines = tuple(Release(n, n[9:], CLIP_NORM * (1 + 1e-9), size, 2, 1.0, probability=0.1) for n in names)
        schedules = dict.fromkeys(names, Schedule(2, 0.5))
        sizes = {"train": persons, "held_out": 0}
        agreement = Agreement("", Plan(lines, math.inf, 1e-5), schedules, "network", 1, sizes)
        return training.train(node, "pay-1", training.Order(agreement, "payments", 1), np.zeros(size))["last"]

    return train


def test_t1_training_divides_by_the_expected_batch_whoever_is_in_it(trained: Callable[..., Floats]) -> None:
    """Velocity -.5 / (1000 / 2 * .1), then .9 of it and as much again."""
    empty, full = trained(batch=0), trained(batch=200)
    assert np.array_equal(empty, full)
    assert empty == pytest.approx(np.full(len(empty), -0.01 * (1 + 1.9)), rel=1e-12)


def test_t1_training_divides_by_the_public_cohort_whoever_is_present(trained: Callable[..., Floats]) -> None:
    assert np.array_equal(trained(batch=0, present=0), trained(batch=50, present=1000))
    assert trained(batch=0, persons=2000) == pytest.approx(trained(batch=0) / 2)
    assert trained(batch=0, holders=1) == pytest.approx(trained(batch=0) / 2)
