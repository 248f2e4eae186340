"""Baselines: the budget reaches the libraries, noise is never seeded, and nothing is learnt where nothing can be."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model import metrics
from privacy.accounting import Event, epsilon_of, gaussian_mu
from simulations.baselines import BASELINES, Pooled, alone, boosting, opacus_pooled, pooled, regression
from simulations.preflight import node_of
from simulations.settings import Settings
from simulations.sweep.arms import ARMS

DELTA = 1e-5
NAMES = sorted(BASELINES)


@pytest.fixture(scope="module")
def rows(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Pooled:
    folder = tmp_path_factory.mktemp("pooled")
    return pooled(node_of(Settings(small, folder), folder))


@pytest.fixture(autouse=True)
def _shorter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boosting, "ROUNDS", 15)
    monkeypatch.setattr(boosting, "RATE", 0.2)
    monkeypatch.setattr(opacus_pooled, "STEPS", 20)
    monkeypatch.setattr(opacus_pooled, "AVERAGED", 10)


def _needs(name: str) -> None:
    pytest.importorskip(ARMS[name].needs or "numpy")


def _auc(name: str, rows: Pooled, epsilon: float) -> float:
    _needs(name)
    fitted = BASELINES[name](rows, epsilon, DELTA, 0)
    assert fitted.pd.shape == (int(rows.held.sum()),)
    assert ((fitted.pd > 0) & (fitted.pd < 1)).all()
    assert fitted.epsilon_spent <= epsilon
    return metrics.auc(rows.labels[rows.held], fitted.pd) or math.nan


def test_every_arm_that_is_not_ours_has_its_baseline() -> None:
    assert {arm.learner for arm in ARMS.values() if not arm.ours} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_learnt_from_true_labels_is_not_learnt_from_shuffled_ones(name: str, rows: Pooled) -> None:
    """Held-out labels never reach a model: those would still be told apart after the training ones are shuffled."""
    labels = rows.labels.copy()
    labels[rows.train] = np.random.default_rng(5).permutation(labels[rows.train])
    assert _auc(name, rows, math.inf) > (0.55 if name == "own-block" else 0.68)
    assert abs(_auc(name, replace(rows, labels=labels), math.inf) - 0.5) < 0.13


@pytest.mark.parametrize("name", ["dp-ebm", "own-block", "response-only"])
def test_no_seed_repeats_the_noise(name: str, rows: Pooled) -> None:
    _needs(name)
    first = BASELINES[name](rows, 1.0, DELTA, 0).pd
    assert not np.array_equal(first, BASELINES[name](rows, 1.0, DELTA, 0).pd)


def test_no_seed_of_torch_repeats_the_noise_or_the_batches_of_opacus(
    rows: Pooled, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a fresh process torch's own generator is always at the same seed."""
    _needs("pooled-opacus")
    import torch

    monkeypatch.setattr(opacus_pooled, "STEPS", 2)

    def weights(noise: float, probability: float) -> np.ndarray:
        torch.manual_seed(0)
        return opacus_pooled.descended(rows, noise, probability)[0]

    assert np.array_equal(weights(0.0, 1.0), weights(0.0, 1.0))
    assert not np.array_equal(weights(1.0, 1.0), weights(1.0, 1.0))
    assert not np.array_equal(weights(0.0, 0.5), weights(0.0, 0.5))


def test_epsilon_and_delta_reach_dp_ebm_and_what_it_spends_is_less(
    rows: Pooled, monkeypatch: pytest.MonkeyPatch
) -> None:
    privacy = pytest.importorskip("interpret.privacy")
    made: list[Any] = []

    class Watched(privacy.DPExplainableBoostingClassifier):  # type: ignore[misc, name-defined]
        def __init__(self, **given: Any) -> None:
            super().__init__(**given)
            made.append(self)

    monkeypatch.setattr(privacy, "DPExplainableBoostingClassifier", Watched)
    fitted = BASELINES["dp-ebm"](rows, 0.7, 3e-6, 5)
    (model,) = made
    assert (model.epsilon, model.delta, model.random_state) == (0.7, 3e-6, None)
    bounds = model.feature_bounds_
    for i, part in enumerate(rows.features):  # public: from the contract, not from the data
        assert np.isnan(bounds[i]).all() if not part.ordered else tuple(bounds[i]) == (-0.5, len(part.labels) - 0.5)
    mu = gaussian_mu(0.7 * 0.9, 1.5e-6)  # of the boosting, by an accountant of our own
    expected = math.sqrt(boosting.ROUNDS * len(rows.features)) / mu * boosting.RATE
    assert model.noise_scale_boosting_ == pytest.approx(expected, rel=1e-6)
    assert 0.7 * 0.8 < fitted.epsilon_spent < 0.7


def test_what_opacus_says_it_spent_is_what_our_accountant_says_and_below_the_budget(
    rows: Pooled, monkeypatch: pytest.MonkeyPatch
) -> None:
    _needs("pooled-opacus")
    persons = int(rows.train.sum())
    monkeypatch.setattr(opacus_pooled, "BATCH", persons // 4)
    spent = BASELINES["pooled-opacus"](rows, 1.0, DELTA, 0).epsilon_spent
    probability = opacus_pooled.BATCH / persons
    noise = opacus_pooled.noise_multiplier(1.0, DELTA, probability)
    _, accountant = opacus_pooled.descended(rows, noise, probability)
    assert accountant.history == [(noise, probability, opacus_pooled.STEPS)]
    assert 0.97 < epsilon_of([Event(noise, opacus_pooled.STEPS, probability)], DELTA) < spent <= 1.0


def test_one_step_of_opacus_clips_each_person_and_adds_noise_of_the_claimed_scale(
    rows: Pooled, monkeypatch: pytest.MonkeyPatch
) -> None:
    _needs("pooled-opacus")
    monkeypatch.setattr(opacus_pooled, "STEPS", 1)
    persons = int(rows.train.sum())
    unit = opacus_pooled.RATE / persons  # of a weight for one of a summed gradient
    exact = opacus_pooled.descended(rows, 0.0, 1.0)[0]
    # A step that leaves out one person differs by at most the clip norm.
    first = np.flatnonzero(rows.train)[0]
    fewer = replace(rows, train=rows.train & (np.arange(len(rows.train)) != first))
    without = opacus_pooled.descended(fewer, 0.0, 1.0)[0]
    moved = exact - without * (persons - 1) / persons
    moved[-1] = (exact[-1] - _start()) - (without[-1] - _start()) * (persons - 1) / persons
    assert 0.5 < np.linalg.norm(moved) / unit <= opacus_pooled.CLIP * (1 + 1e-3)
    drawn = [opacus_pooled.descended(rows, 50.0, 1.0)[0] - exact for _ in range(8)]
    scale = np.std(np.concatenate(drawn)) / unit
    assert scale == pytest.approx(50.0 * opacus_pooled.CLIP, rel=0.08)


def _start() -> float:
    from model.scorecard import PRIOR_RATE

    return math.log(PRIOR_RATE / (1 - PRIOR_RATE))


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 8.0])
def test_the_lender_alone_spends_all_of_its_budget_and_no_more(epsilon: float, rows: Pooled) -> None:
    assert rows.own
    encoding = rows.own.encoding
    plan, schedule = alone.planned(encoding, 1000, epsilon, DELTA)
    (line,) = plan.releases
    assert (line.count, line.bound, line.size) == (schedule.steps, encoding.row_norm, encoding.columns)
    assert epsilon * 0.999 < plan.spent() <= epsilon
    assert line.noise_multiplier == pytest.approx(math.sqrt(line.count) / gaussian_mu(epsilon, DELTA), rel=1e-3)


def test_what_the_lender_alone_descends_on_bears_the_planned_noise(
    rows: Pooled, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert rows.own
    plan, _ = alone.planned(rows.own.encoding, int(rows.train.sum()), 1.0, DELTA)
    noise: list[np.ndarray] = []
    real: Callable[..., Any] = alone.descend

    def watched(start: Any, gradient: Any, release: Any, *rest: Any) -> Any:
        def seen(total: Any) -> Any:
            noise.append(release(total) - total)
            return noise[-1] + total

        return real(start, gradient, seen, *rest)

    monkeypatch.setattr(alone, "descend", watched)
    for _ in range(2):
        BASELINES["own-block"](rows, 1.0, DELTA, 0)
    assert len(noise) == 2 * plan.releases[0].count
    assert np.std(noise) == pytest.approx(plan.releases[0].mechanism.noise_stddev, rel=0.04)  # 5.7 standard errors


def test_without_noise_the_lender_alone_is_about_its_block_of_the_federation(rows: Pooled, exact_run: Any) -> None:
    alone = metrics.auc(rows.labels[rows.held], BASELINES["own-block"](rows, math.inf, DELTA, 0).pd)
    assert alone == pytest.approx(exact_run.report["auc_lender_only"], abs=0.01)


def test_labels_are_told_once_by_randomised_response_and_training_sees_no_others(
    rows: Pooled, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[np.ndarray] = []
    real = regression.respond

    def watched(labels: np.ndarray, flip: float, rng: Any) -> np.ndarray:
        assert flip == pytest.approx(1 / (1 + math.e))  # Warner's, at epsilon 1
        told.append((real(labels, flip, rng), labels))
        return told[-1][0]

    monkeypatch.setattr(regression, "respond", watched)
    mean = BASELINES["response-only"](rows, 1.0, DELTA, 0).pd.mean()
    ((labels, true),) = told
    assert len(true) == rows.train.sum()
    assert np.mean(labels != true) == pytest.approx(1 / (1 + math.e), abs=0.07)  # five standard errors
    flip = 1 / (1 + math.e)
    assert mean == pytest.approx((labels.mean() - flip) / (1 - 2 * flip), abs=0.06)
