"""Standard errors of AUC, KS and Brier: against brute force, resampling and libraries."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import sem
from sklearn import metrics as sk

from model import metrics

CLASSES = [np.zeros(4), np.ones(4)]


def _scored(persons: int, seed: int, step: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Labels and risks; with a step the risks are rounded to it, which makes ties."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(persons) < 0.3).astype(np.float64)
    risk = rng.normal(size=persons) + labels
    return labels, np.round(risk / step) * step if step else risk


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("step", [0.0, 0.25, 2.0])
def test_the_error_of_auc_is_delongs_over_all_pairs(seed: int, step: float) -> None:
    labels, risk = _scored(70, seed, step)
    bad, good = risk[labels == 1], risk[labels == 0]
    wins = (bad[:, None] > good).astype(float) + 0.5 * (bad[:, None] == good)
    expected = np.sqrt(wins.mean(axis=1).var(ddof=1) / len(bad) + wins.mean(axis=0).var(ddof=1) / len(good))
    assert metrics.auc_error(labels, risk) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("value", "error"), [(metrics.auc, metrics.auc_error), (metrics.ks, metrics.ks_error)], ids=["auc", "ks"]
)
def test_an_error_is_the_spread_over_resampled_persons(
    value: Callable[..., float], error: Callable[..., float]
) -> None:
    labels, risk = _scored(1500, 1)
    rng = np.random.default_rng(2)
    draws = (rng.integers(0, len(labels), len(labels)) for _ in range(400))
    spread = np.std([value(labels[rows], risk[rows]) for rows in draws])
    assert error(labels, risk) == pytest.approx(spread, rel=0.15)


@pytest.mark.parametrize("step", [0.0, 0.5])
def test_the_error_of_ks_is_that_of_both_shares_where_they_are_farthest_apart(step: float) -> None:
    labels, risk = _scored(300, 6, step)
    bad, good = risk[labels == 1], risk[labels == 0]
    cut = max(risk, key=lambda c: abs((bad <= c).mean() - (good <= c).mean()))
    shares = (bad <= cut).var() / len(bad) + (good <= cut).var() / len(good)
    assert metrics.ks_error(labels, risk) == pytest.approx(np.sqrt(shares))


@pytest.mark.parametrize("step", [0.0, 0.25, 2.0])
def test_a_weighted_auc_is_that_of_as_many_copies_of_each_person(step: float) -> None:
    labels, risk = _scored(90, 7, step)
    weights = np.random.default_rng(8).integers(0, 4, (5, 90))
    copies = [metrics.auc(np.repeat(labels, often), np.repeat(risk, often)) for often in weights]
    given = [*weights.astype(float), np.full(90, 0.7)]  # what came before leaves nothing behind
    assert list(metrics.weighted_aucs(labels, risk, given)) == pytest.approx([*copies, metrics.auc(labels, risk)])


def test_a_class_of_no_weight_has_no_auc() -> None:
    labels, risk = np.array([0.0, 1.0, 1.0]), np.arange(3.0)
    assert list(metrics.weighted_aucs(labels, risk, [np.array([0.0, 1, 1]), np.array([1.0, 0, 0])])) == [None, None]
    for one in CLASSES:
        assert list(metrics.weighted_aucs(one, np.arange(4.0), [np.ones(4)])) == [None]


def test_an_error_falls_with_the_root_of_the_persons() -> None:
    labels, risk = _scored(400, 3)
    for error in (metrics.auc_error, metrics.ks_error, metrics.brier_error):
        one, four = (
            error(labels, np.tanh(risk) / 2 + 0.5),
            error(np.tile(labels, 4), np.tile(np.tanh(risk) / 2 + 0.5, 4)),
        )
        assert one is not None
        assert four == pytest.approx(one / 2, rel=0.01)


def test_brier_and_log_loss_are_those_of_the_libraries() -> None:
    labels, risk = _scored(300, 4)
    pd = 1 / (1 + np.exp(-risk))
    assert metrics.brier_error(labels, pd) == pytest.approx(float(sem((pd - labels) ** 2)), rel=1e-12)
    assert metrics.log_loss(labels, pd) == pytest.approx(sk.log_loss(labels, pd), rel=1e-12)


def test_a_certain_and_wrong_pd_costs_much_but_not_without_end() -> None:
    assert metrics.log_loss(np.array([1.0, 0.0]), np.array([0.0, 1.0])) == pytest.approx(12 * np.log(10))


@pytest.mark.parametrize("labels", CLASSES, ids=["all good", "all bad"])
def test_one_class_has_no_error(labels: np.ndarray) -> None:
    risk = np.arange(4.0)
    assert metrics.auc_error(labels, risk) is None
    assert metrics.ks_error(labels, risk) is None


def test_one_person_of_a_class_has_no_error_of_auc_and_one_person_none_of_brier() -> None:
    assert metrics.auc_error(np.array([0.0, 0.0, 1.0]), np.arange(3.0)) is None
    assert metrics.brier_error(np.array([1.0]), np.array([0.5])) is None
