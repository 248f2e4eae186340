"""The synthetic population: within its contracts, as predictable and as rare as asked for, and the same for a seed."""

from __future__ import annotations

import numpy as np
import pytest

from model import metrics, scorecard
from model.contract import Contract, Feature
from model.descent import Schedule, descend, sigmoid
from simulations.synthetic import Population, Traits, population

CONTRACTS = {
    "payments": Contract(
        "payments",
        1,
        (
            Feature("turnover", "numeric", low=0.0, high=1e6, scale="log", special=("-1",)),
            Feature("late", "flag", values=("0", "1")),
            Feature("tenure", "numeric", low=0.0, high=240.0),
        ),
    ),
    "lender_kyc": Contract(
        "lender_kyc",
        1,
        (
            Feature("grade", "ordinal", values=("a", "b", "c", "d")),
            Feature("region", "categorical", values=("n", "s", "w")),
        ),
    ),
}


def drawn(persons: int = 20_000, seed: int = 7, traits: Traits | None = None) -> Population:
    return population(CONTRACTS, persons, np.random.default_rng(seed), traits)


def test_every_person_falls_into_a_bin_of_every_feature() -> None:
    found = drawn()
    for domain, encoding in found.encodings.items():
        assert found.codes[domain].dtype == np.uint16
        assert found.codes[domain].shape == (len(encoding.parts), 20_000)
        for part, row in zip(encoding.parts, found.codes[domain], strict=True):
            assert row.max() < len(part.labels)
            assert len(np.unique(row)) > len(part.labels) / 2
            assert np.bincount(row).max() < 20_000


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize(("auc", "base_rate"), [(0.75, 0.12), (0.65, 0.2), (0.85, 0.05)])
def test_labels_are_as_predictable_and_as_rare_as_asked(auc: float, base_rate: float, seed: int) -> None:
    found = drawn(seed=seed, traits=Traits(auc, base_rate, shares={"payments": 0.6}))
    assert found.labels.mean() == pytest.approx(base_rate, abs=0.012)
    assert metrics.auc(found.labels, found.log_odds) == pytest.approx(auc, abs=0.03)
    assert sigmoid(found.log_odds).mean() == pytest.approx(base_rate, abs=0.005)


def test_the_true_log_odds_are_a_constant_and_the_effects_of_the_domains_that_a_person_has() -> None:
    found = drawn(traits=Traits(shares={"payments": 0.4}))
    rest = found.log_odds.copy()
    for domain, encoding in found.encodings.items():
        scored = encoding.gather(encoding.packed(found.codes[domain]), 0.0, found.effects[domain])
        rest -= found.present[domain] * scored
    assert np.ptp(rest) < 1e-9
    assert found.present["payments"].mean() == pytest.approx(0.4, abs=0.02)
    assert found.present["lender_kyc"].all()


def test_a_holder_trains_on_its_own_persons_only() -> None:
    found = drawn(traits=Traits(shares={"payments": 0.4}))
    codes, labels = found.block("payments")
    assert codes.shape[1] == len(labels) == found.present["payments"].sum()


def test_features_share_a_common_factor_as_strongly_as_asked() -> None:
    def related(correlation: float) -> float:
        rows = drawn(traits=Traits(correlation=correlation)).codes["payments"]
        return abs(float(np.corrcoef(rows[0], rows[2])[0, 1]))

    assert related(0.0) < 0.03
    assert related(0.5) > 0.2


def test_a_seed_gives_the_same_population_and_another_seed_another() -> None:
    one, same, other = drawn(500), drawn(500), drawn(500, seed=8)
    assert np.array_equal(one.labels, same.labels)
    assert np.array_equal(one.codes["payments"], same.codes["payments"])
    assert not np.array_equal(one.codes["payments"], other.codes["payments"])


def test_a_scorecard_learns_it_so_that_a_plan_can_be_tried_out_on_it() -> None:
    found = population({"payments": CONTRACTS["payments"]}, 20_000, np.random.default_rng(1))
    encoding, (codes, labels) = found.encodings["payments"], found.block("payments")
    gradient = scorecard.gradient_sum(encoding, codes, labels)
    schedule = Schedule.of(300.0, encoding.row_norm)
    _, weights = descend(scorecard.start(encoding), gradient, lambda total: total, len(labels), schedule)
    constant, points = encoding.points(weights)
    scored = encoding.gather(encoding.packed(codes), constant, points)
    assert metrics.auc(labels, scored) > metrics.auc(labels, found.log_odds) - 0.02


@pytest.mark.parametrize("persons", [1, 2, 40])
def test_few_persons_are_enough(persons: int) -> None:
    found = drawn(persons)
    assert len(found.labels) == persons
    assert np.isfinite(found.log_odds).all()


@pytest.mark.parametrize(
    ("traits", "named"),
    [
        ({"auc": 0.5}, "auc"),
        ({"auc": 1.0}, "auc"),
        ({"base_rate": 0.0}, "base_rate"),
        ({"correlation": 1.0}, "correlation"),
        ({"shares": {"payments": 0.0}}, "shares"),
    ],
)
def test_traits_that_nobody_has_are_refused_by_name(traits: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        Traits(**traits)  # type: ignore[arg-type]


def test_nobody_and_no_contract_are_refused() -> None:
    for contracts, persons in (({}, 5), (CONTRACTS, 0)):
        with pytest.raises(ValueError, match="persons >= 1"):
            population(contracts, persons, np.random.default_rng(1))
