"""Metrics in closed form, against scikit-learn, and unchanged by what must not matter."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, roc_auc_score, roc_curve

from model.metrics import auc, brier, calibration, ks

DERANDOMIZED = settings(derandomize=True, deadline=None, max_examples=100, database=None)
Floats = NDArray[np.float64]


@st.composite
def scored(draw: st.DrawFn) -> tuple[Floats, Floats]:
    """Labels of both classes, and risks with many ties."""
    n = draw(st.integers(2, 80))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    labels = (rng.random(n) < draw(st.sampled_from([0.05, 0.5, 0.9]))).astype(np.float64)
    labels[:2] = 0.0, 1.0
    return labels, rng.integers(0, draw(st.sampled_from([1, 3, 20, 10**6])), n) / 7.0


def test_perfect_separation_gives_one_and_the_reverse_zero() -> None:
    labels, risk = np.array([0.0, 0.0, 1.0, 1.0]), np.array([0.1, 0.2, 0.7, 0.9])
    assert (auc(labels, risk), ks(labels, risk)) == (1.0, 1.0)
    assert (auc(labels, -risk), ks(labels, -risk)) == (0.0, 1.0)
    assert (auc(labels, np.zeros(4)), ks(labels, np.zeros(4))) == (0.5, 0.0)


@DERANDOMIZED
@given(data=scored())
def test_auc_is_scikit_learns_and_the_share_of_pairs_in_order(data: tuple[Floats, Floats]) -> None:
    labels, risk = data
    bad, good = risk[labels == 1][:, None], risk[labels == 0][None, :]
    assert auc(labels, risk) == pytest.approx(roc_auc_score(labels, risk), abs=1e-12)
    assert auc(labels, risk) == pytest.approx(((bad > good) + 0.5 * (bad == good)).mean(), abs=1e-12)


@DERANDOMIZED
@given(data=scored())
def test_ks_is_the_widest_gap_of_the_distributions_and_the_height_of_the_roc_curve(data: tuple[Floats, Floats]) -> None:
    labels, risk = data
    bad, good = np.sort(risk[labels == 1]), np.sort(risk[labels == 0])
    gaps = [np.searchsorted(bad, r, "right") / len(bad) - np.searchsorted(good, r, "right") / len(good) for r in risk]
    assert ks(labels, risk) == pytest.approx(np.abs(gaps).max(), abs=1e-12)
    false, true, _ = roc_curve(labels, risk)
    assert ks(labels, risk) == pytest.approx(np.abs(true - false).max(), abs=1e-12)


def test_ks_is_scipys_two_sample_statistic() -> None:
    rng = np.random.default_rng(0)
    labels, risk = np.repeat([0.0, 1.0], [300, 100]), np.concatenate([rng.normal(0, 1, 300), rng.normal(0.7, 1, 100)])
    assert ks(labels, risk) == pytest.approx(stats.ks_2samp(risk[300:], risk[:300]).statistic, abs=1e-12)


@DERANDOMIZED
@given(data=scored(), order=st.randoms(use_true_random=False))
def test_neither_order_nor_a_rising_scale_matters(data: tuple[Floats, Floats], order: np.random.Generator) -> None:
    labels, risk = data
    places = list(range(len(labels)))
    order.shuffle(places)
    for metric in (auc, ks):
        assert metric(labels[places], np.exp(risk[places] / risk.max() if risk.any() else risk)) == pytest.approx(
            metric(labels, risk), abs=1e-12
        )


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_one_class_alone_has_no_auc_and_no_ks(label: float) -> None:
    labels, risk = np.full(3, label), np.array([1.0, 2.0, 3.0])
    assert auc(labels, risk) is None
    assert ks(labels, risk) is None


@DERANDOMIZED
@given(data=scored())
def test_brier_is_scikit_learns(data: tuple[Floats, Floats]) -> None:
    labels, risk = data
    pd = risk / (1.0 + risk.max())
    assert brier(labels, pd) == pytest.approx(brier_score_loss(labels, pd), abs=1e-12)


def test_calibration_is_scikit_learns_curve_of_equal_bands() -> None:
    rng = np.random.default_rng(4)
    pd = rng.permutation(np.linspace(0.01, 0.6, 1000))
    labels = (rng.random(1000) < pd).astype(np.float64)
    bands = calibration(labels, pd)
    observed, predicted = calibration_curve(labels, pd, n_bins=10, strategy="quantile")
    assert [b["persons"] for b in bands] == [100] * 10
    assert [b["observed"] for b in bands] == pytest.approx(observed, abs=1e-6)
    assert [b["predicted"] for b in bands] == pytest.approx(predicted, abs=1e-6)


def test_calibration_covers_everybody_safest_first_even_with_few_persons() -> None:
    bands = calibration(np.array([1.0, 0.0, 0.0]), np.array([0.9, 0.1, 0.5]), bands=10)
    assert [(b["persons"], b["predicted"], b["observed"]) for b in bands] == [(1, 0.1, 0), (1, 0.5, 0), (1, 0.9, 1)]
    assert sum(b["persons"] for b in calibration(np.zeros(23), np.linspace(0, 1, 23), bands=4)) == 23
