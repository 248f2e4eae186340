"""The synthetic applicants of the months: how well they can be told apart, how many are thin, and the same by seed."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from model import metrics
from model.descent import sigmoid
from model.limits.table import MICRO
from simulations.months.applicants import DOMAINS, OWN, Applicants, draw_applicants
from simulations.months.arrivals import cases_of
from simulations.months.engine import Engine
from simulations.months.evidence import BLOCKS, Model, fit_model, logistic, recalibrated

PERSONS = 60_000


@pytest.fixture(scope="module")
def model() -> Model:
    return fit_model()


@pytest.fixture(scope="module")
def people() -> Applicants:
    return draw_applicants(np.random.default_rng(2024), PERSONS)


@pytest.fixture(scope="module")
def labels(people):
    return (np.random.default_rng(2025).random(PERSONS) < sigmoid(people.logit_pd)).astype(float)


@pytest.fixture(scope="module")
def z(people, model, shipped):
    return Engine(shipped, model.bundle).z_e6(cases_of(people, model.logits_e6(people))) / MICRO


@pytest.fixture(scope="module")
def shipped():
    from model.limits.policy import load_policy

    return load_policy()


@pytest.mark.parametrize(
    ("block", "auc"), [("ecommerce", 0.71), ("payments", 0.76), ("tax_business", 0.71), (OWN, 0.665)]
)
def test_each_block_tells_risk_apart_as_well_as_such_data_does(people, labels, model, block, auc) -> None:
    seen = people.covered[:, DOMAINS.index(block)] if block in DOMAINS else np.ones(PERSONS, dtype=bool)
    logits = model.logits_e6(people)[seen, BLOCKS.index(block)].astype(float)
    assert metrics.auc(labels[seen], logits) == pytest.approx(auc, abs=0.015)


def test_all_blocks_together_are_worth_more_than_any_and_less_than_the_truth(people, labels, z) -> None:
    assert metrics.auc(labels, z) == pytest.approx(0.7755, abs=0.015)
    assert metrics.auc(labels, people.logit_pd) == pytest.approx(0.85, abs=0.015)


@pytest.mark.parametrize(("blocks", "auc"), [(1, 0.74), (2, 0.76), (3, 0.78)])
def test_more_blocks_tell_more(blocks, auc, model, shipped) -> None:
    """On 240,000 persons, since few have just one block; without any it is the lender's own."""
    many = draw_applicants(np.random.default_rng(7), 240_000)
    bad = (np.random.default_rng(8).random(len(many)) < sigmoid(many.logit_pd)).astype(float)
    rows = many.covered.sum(axis=1) == blocks
    score = Engine(shipped, model.bundle).z_e6(cases_of(many, model.logits_e6(many)))
    assert metrics.auc(bad[rows], score[rows].astype(float)) == pytest.approx(auc, abs=0.025)


def test_the_fused_score_is_calibrated_for_thin_files_and_for_others(people, labels, z) -> None:
    thin = people.covered.sum(axis=1) < 2
    for rows in (thin, ~thin):
        assert sigmoid(z[rows]).mean() / labels[rows].mean() == pytest.approx(1.0, abs=0.10)


def test_a_quarter_is_thin_and_riskier(people) -> None:
    thin = (people.covered.sum(axis=1) < 2) | (people.tenure_months.sum(axis=1) < 12)
    pd = sigmoid(people.logit_pd)
    assert 0.22 <= thin.mean() <= 0.28
    assert pd[thin].mean() / pd[~thin].mean() > 1.6


def test_the_base_rate_is_as_asked(people, labels) -> None:
    assert labels.mean() == pytest.approx(0.045, abs=0.003)
    rare = draw_applicants(np.random.default_rng(1), 20_000, base_rate=0.02)
    assert sigmoid(rare.logit_pd).mean() == pytest.approx(0.02, abs=1e-6)


def test_income_has_the_quartiles_it_should(people) -> None:
    assert np.percentile(people.income_fen, [25, 50, 75]) / 100 == pytest.approx([3600, 5100, 7400], rel=0.03)


def test_the_same_seed_gives_the_same_people_and_another_others() -> None:
    one, same, other = (draw_applicants(np.random.default_rng(seed), 500) for seed in (3, 3, 4))
    for field in fields(Applicants):
        if field.name != "features":
            assert np.array_equal(getattr(one, field.name), getattr(same, field.name)), field.name
    assert all(np.array_equal(one.features[block], same.features[block]) for block in BLOCKS)
    assert not np.array_equal(one.logit_pd, other.logit_pd)


def test_the_same_seed_gives_the_same_model() -> None:
    assert fit_model(5, 3000).bundle == fit_model(5, 3000).bundle
    assert fit_model(5, 3000).bundle != fit_model(6, 3000).bundle


def test_no_weight_of_the_table_is_negative_and_all_27_pairs_are_there(model) -> None:
    entries = model.bundle.table.entries
    assert len(entries) == 27
    assert min(weight for entry in entries.values() for weight in entry.weights_e6.values()) >= 0


def test_logistic_agrees_with_scikit_learn() -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2000, 3))
    y = (rng.random(2000) < sigmoid(x @ np.array([1.0, -0.5, 0.0]) - 1)).astype(float)
    fitted = linear.LogisticRegression(C=1.0, tol=1e-10, max_iter=1000).fit(x, y)
    expected = np.concatenate([fitted.intercept_, fitted.coef_[0]])
    assert logistic(x, y, ridge=1.0) == pytest.approx(expected, abs=1e-5)


def test_recalibration_moves_only_files_with_few_blocks(model) -> None:
    moved = recalibrated(model.bundle, 0.25, fewer_than=2).table
    for key, entry in model.bundle.table.entries.items():
        few = key.split("|")[1].count("+") + bool(key.split("|")[1]) < 2
        assert moved.entries[key].intercept_e6 - entry.intercept_e6 == 250_000 * few
        assert moved.entries[key].weights_e6 == entry.weights_e6
