"""The scorecard block: exact gradients, one person's bound, a stable schedule, and curves like scikit-learn's."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from model import scorecard
from model.blocks import Block, spec
from model.contract import Contract, Feature
from model.descent import MAX_STEPS, MIN_STEPS, MOMENTUM, Schedule, descend, noise_variance, sigmoid
from model.encoding import Codes, Encoding

DERANDOMIZED = settings(derandomize=True, deadline=None, max_examples=60, database=None)
Floats = NDArray[np.float64]
PARTS = (
    Feature("income", "numeric", low=0.0, high=1e6, scale="log", direction="safer", group="money"),
    Feature("late", "numeric", low=0.0, high=12.0, special=("-1",), direction="riskier", group="repayment"),
    Feature("age", "numeric", low=18.0, high=80.0, group="person"),
    Feature("home", "categorical", values=("own", "rent"), group="money"),
    Feature("owner", "flag", values=("0", "1"), group="person"),
)
ENCODING = Encoding.of(Contract("payments", 1, PARTS))
BOUND = Encoding.of(Contract("payments", 1, PARTS, monotone=True))


def some_persons(encoding: Encoding, persons: int, seed: int = 0) -> tuple[Codes, Floats]:
    """Random bins, and labels whose log-odds are a smooth function of them."""
    rng = np.random.default_rng(seed)
    rows = np.array([rng.integers(0, len(p.labels), persons) for p in encoding.parts], dtype=np.uint16)
    waves = [np.sin(row / len(p.labels) * 3 + i) for i, (row, p) in enumerate(zip(rows, encoding.parts, strict=True))]
    return rows, (rng.random(persons) < sigmoid(np.sum(waves, axis=0) - 2.5)).astype(np.float64)


def released_exactly(total: Floats) -> Floats:
    return total


# --- the gradient


@DERANDOMIZED
@given(seed=st.integers(0, 10_000), scale=st.sampled_from([0.0, 0.3, 3.0, 100.0]), persons=st.sampled_from([1, 2, 30]))
def test_the_gradient_is_the_dense_log_loss_gradient(seed: int, scale: float, persons: int) -> None:
    codes, labels = some_persons(ENCODING, persons, seed)
    weights = scale * np.random.default_rng(seed).standard_normal(ENCODING.columns)
    matrix = ENCODING.matrix(codes)
    dense = matrix.T @ (1 / (1 + np.exp(-np.clip(matrix @ weights, -700, 700))) - labels)
    assert scorecard.gradient_sum(ENCODING, codes, labels)(weights) == pytest.approx(dense, abs=1e-9)


@pytest.mark.parametrize("persons", [1, 2, 33, 300])
@pytest.mark.parametrize("scale", [0.0, 0.3, 3.0])
def test_t2_the_gradient_is_the_sum_of_autograds_for_one_person_at_a_time(persons: int, scale: float) -> None:
    torch = pytest.importorskip("torch")
    codes, labels = some_persons(ENCODING, persons, seed=persons)
    weights = scale * np.random.default_rng(1).standard_normal(ENCODING.columns)
    expected = np.zeros(ENCODING.columns)
    for row, label in zip(ENCODING.matrix(codes), labels, strict=True):
        at = torch.tensor(weights, requires_grad=True)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(torch.tensor(row) @ at, torch.tensor(label))
        expected += torch.autograd.grad(loss, at)[0].numpy()
    got = scorecard.gradient_sum(ENCODING, codes, labels)(weights)
    assert np.linalg.norm(got - expected) <= 1e-10 * np.linalg.norm(expected)


def test_the_gradient_is_the_numeric_derivative() -> None:
    codes, labels = some_persons(ENCODING, 50)
    matrix = ENCODING.matrix(codes)
    weights = np.random.default_rng(1).standard_normal(ENCODING.columns)

    def loss(at: Floats) -> float:
        z = matrix @ at
        return float((np.logaddexp(0.0, z) - labels * z).sum())

    numeric = np.array([(loss(weights + s) - loss(weights - s)) / 2e-5 for s in 1e-5 * np.eye(len(weights))])
    assert scorecard.gradient_sum(ENCODING, codes, labels)(weights) == pytest.approx(numeric, abs=1e-6)


@DERANDOMIZED
@given(seed=st.integers(0, 10_000), scale=st.sampled_from([0.0, 1.0, 1e3, 1e8]), who=st.integers(0, 19))
def test_leaving_out_one_person_moves_the_gradient_by_at_most_the_row_norm(seed: int, scale: float, who: int) -> None:
    codes, labels = some_persons(ENCODING, 20, seed)
    weights = scale * np.random.default_rng(seed).standard_normal(ENCODING.columns)
    kept = np.arange(20) != who
    everybody = scorecard.gradient_sum(ENCODING, codes, labels)(weights)
    without = scorecard.gradient_sum(ENCODING, codes[:, kept], labels[kept])(weights)
    assert np.linalg.norm(everybody - without) <= ENCODING.row_norm * (1 + 1e-9)


def test_the_bound_is_reached_by_a_person_who_surprises_the_model() -> None:
    missing = np.array([[p.missing] for p in ENCODING.parts], dtype=np.uint16)
    weights = np.zeros(ENCODING.columns)
    weights[0] = -50.0
    gradient = scorecard.gradient_sum(ENCODING, missing, np.array([1.0]))(weights)
    assert np.linalg.norm(gradient) == pytest.approx(ENCODING.row_norm)
    assert spec("scorecard", ENCODING, 1000, 0.2).bound == ENCODING.row_norm


def test_an_absent_person_contributes_exactly_zero() -> None:
    nobody = np.zeros((len(PARTS), 0), dtype=np.uint16)
    gradient = scorecard.gradient_sum(ENCODING, nobody, np.zeros(0))
    assert gradient(scorecard.start(ENCODING)).tolist() == [0.0] * ENCODING.columns


# --- the fit


def test_without_noise_a_fit_ranks_like_a_logistic_regression() -> None:
    codes, labels = some_persons(ENCODING, 8000)
    plan = scorecard.schedule(ENCODING.row_norm, 8000, math.inf)
    gradient = scorecard.gradient_sum(ENCODING, codes, labels)
    _, mean = descend(scorecard.start(ENCODING), gradient, released_exactly, 8000.0, plan)
    fresh, outcomes = some_persons(ENCODING, 8000, seed=1)
    train, test = ENCODING.matrix(codes)[:, 1:], ENCODING.matrix(fresh)
    oracle = roc_auc_score(
        outcomes, LogisticRegression(max_iter=2000).fit(train, labels).predict_proba(test[:, 1:])[:, 1]
    )
    ours = roc_auc_score(outcomes, test @ mean)
    assert oracle > 0.7
    assert abs(ours - oracle) < 0.003
    assert sigmoid(test @ mean).mean() == pytest.approx(outcomes.mean(), rel=0.05)


def test_the_start_is_the_prior_rate_for_everybody() -> None:
    codes, _ = some_persons(ENCODING, 9)
    assert sigmoid(ENCODING.matrix(codes) @ scorecard.start(ENCODING)) == pytest.approx(np.full(9, 0.15))


# --- the schedule


@DERANDOMIZED
@given(
    row_norm=st.floats(1.0, 25.0),
    persons=st.integers(10, 10**6),
    mu=st.one_of(st.just(math.inf), st.floats(1e-3, 10.0)),
    holders=st.integers(1, 10),
)
def test_the_schedule_stays_below_the_stable_rate(row_norm: float, persons: int, mu: float, holders: int) -> None:
    plan = scorecard.schedule(row_norm, persons, mu, holders)
    assert MIN_STEPS <= plan.steps <= MAX_STEPS
    assert 0 < plan.rate < 2 * (1 + MOMENTUM) / (row_norm**2 / 4 * holders)


def test_less_noise_travels_further() -> None:
    travelled = [p.steps * p.rate for p in (scorecard.schedule(4.0, 5000, mu) for mu in (0.05, 0.2, 1.0, math.inf))]
    assert travelled == sorted(set(travelled))
    assert noise_variance(3.0, 100, 0.5) == pytest.approx((3.0 / 50.0) ** 2)
    assert noise_variance(3.0, 100, math.inf) == 0.0


def unsettled(defaulted: float, faster: float = 1.0) -> float:
    """The mean gradient's norm where a fit ends if all rows are alike and three holders hold everybody.

    That is the worst case of the curvature's bound, row_norm^2 / 4 times holders, and the longest travelled time.
    """
    encoding = Encoding.of(Contract("d", 1, tuple(Feature(f"f{i}", "flag", values=("0", "1")) for i in range(20))))
    alike = np.full((20, 200), 3, dtype=np.uint16)
    gradient = scorecard.gradient_sum(encoding, alike, (np.arange(200) < 200 * defaulted).astype(np.float64))
    plan = Schedule.of(math.inf, encoding.row_norm, holders=3)
    plan = Schedule(plan.steps, plan.rate * faster)
    last, _ = descend(scorecard.start(encoding), gradient, released_exactly, 200 / 3, plan)
    return float(np.linalg.norm(gradient(last)) / 200)


@pytest.mark.parametrize("defaulted", [0.05, 0.2])
def test_a_fit_settles_although_all_rows_are_alike_and_several_holders_hold_everybody(defaulted: float) -> None:
    assert unsettled(defaulted) < 1e-5


def test_past_the_stable_rate_a_fit_never_settles() -> None:
    assert unsettled(0.5, faster=1.25) > 0.1


@pytest.mark.parametrize("defaulted", [0.3, 0.5])
def test_a_fit_settles_for_any_labels(defaulted: float) -> None:
    assert unsettled(defaulted) < 1e-5


def test_descent_releases_once_a_step_and_averages_after_the_burn_in() -> None:
    asked: list[Floats] = []

    def release(total: Floats) -> Floats:
        asked.append(total)
        return np.ones(2)

    last, mean = descend(np.zeros(2), lambda theta: theta, release, 4.0, Schedule(8, 0.4, 0.5))
    assert len(asked) == 8
    velocity = -0.1 * np.cumsum(0.9 ** np.arange(8))
    path = np.cumsum(velocity)
    assert last == pytest.approx(np.full(2, path[-1]))
    assert mean == pytest.approx(np.full(2, path[4:].mean()))


def test_descent_keeps_to_its_limit() -> None:
    last, mean = descend(np.zeros(1), lambda t: t - 9.0, released_exactly, 1.0, Schedule(100, 0.3), 2.0)
    assert (float(last[0]), float(mean[0])) == (2.0, 2.0)


@pytest.mark.parametrize("rate", [1.0, 1e3])
def test_descent_stays_finite_at_any_rate(rate: float) -> None:
    last, mean = descend(np.ones(2), lambda t: t * 1e9, released_exactly, 1.0, Schedule(50, rate))
    assert np.isfinite(last).all()
    assert np.isfinite(mean).all()


def test_sigmoid_neither_overflows_nor_loses_its_ends() -> None:
    assert sigmoid(np.array([-1e4, -30.0, 0.0, 30.0, 1e4])) == pytest.approx(
        [0, 9.3576e-14, 0.5, 1 - 9.3576e-14, 1], abs=1e-16
    )


# --- the finished curves


@DERANDOMIZED
@given(seed=st.integers(0, 10_000))
def test_directed_curves_are_the_isotonic_regression_and_the_rest_stays(seed: int) -> None:
    weights = np.random.default_rng(seed).standard_normal(BOUND.columns)
    constant, raw = BOUND.points(weights)
    kept, made = scorecard.curves(BOUND, weights)
    assert kept == constant
    expected = raw.copy()
    for part, first in zip(BOUND.parts, BOUND.offsets, strict=False):
        if part.feature.direction:
            ordered = slice(int(first), int(first) + part.ordered)
            rising = IsotonicRegression(increasing=part.feature.direction == "riskier")
            expected[ordered] = rising.fit_transform(np.arange(part.ordered), raw[ordered])
    assert made == pytest.approx(expected, abs=1e-12)


def test_curves_stay_as_trained_unless_the_contract_binds_them() -> None:
    weights = np.random.default_rng(3).standard_normal(ENCODING.columns)
    assert scorecard.curves(ENCODING, weights)[1].tolist() == ENCODING.points(weights)[1].tolist()


def test_a_curve_that_is_monotone_already_stays_and_one_that_runs_against_it_becomes_flat() -> None:
    feature = Feature("x", "numeric", high=1.0, direction="safer")
    encoding = Encoding.of(Contract("d", 1, (feature,), monotone=True))
    weights = np.zeros(encoding.columns)
    weights[1] = 2.0  # the slowest cosine falls
    assert scorecard.curves(encoding, weights)[1].tolist() == encoding.points(weights)[1].tolist()
    assert scorecard.curves(encoding, -weights)[1] == pytest.approx(np.zeros(25), abs=1e-12)


@pytest.mark.parametrize("encoding", [ENCODING, BOUND], ids=["free", "monotone"])
def test_a_blocks_sub_score_is_the_constant_and_its_families_parts(encoding: Encoding) -> None:
    codes, _ = some_persons(encoding, 25)
    weights = np.random.default_rng(2).standard_normal(encoding.columns)
    block = Block.finished("scorecard", encoding, weights)
    constant, points = scorecard.curves(encoding, weights)
    rows = [constant + sum(points[encoding.offsets[f] + codes[f, i]] for f in range(len(PARTS))) for i in range(25)]
    assert block.subscores(codes) == pytest.approx(np.array(rows))
    families = block.by_group(codes)
    assert set(families) == {"money", "repayment", "person"}
    assert constant + sum(families.values()) == pytest.approx(np.array(rows))
