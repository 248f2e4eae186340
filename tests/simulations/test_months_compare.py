"""Figures of the months: intervals, metrics, variations of a policy, scenarios by name, and the slow comparison."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from model.inputs import InputError
from model.limits.lint import findings
from model.limits.policy import load_policy
from simulations.estimates import Estimate
from simulations.months.compare import METRICS, band, metrics
from simulations.months.evidence import fit_model
from simulations.months.policies import APR_CAPS, break_even_bp, capped, variants, without_points
from simulations.months.running import run_all
from simulations.months.scenarios import ALIASES, SCENARIOS, scenarios_of
from simulations.months.study import CAPS, Study, _crossing

POLICY = load_policy()
GUIDE = Path(__file__).parents[2] / "docs" / "policy.md"


def test_an_estimate_is_that_of_scipy() -> None:
    values = np.array([1.3, 0.2, 2.2, 1.9, 0.7])
    found, test = Estimate.of(values), stats.ttest_1samp(values, 0)
    interval = test.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert (found.t, found.se) == pytest.approx((test.statistic, stats.sem(values)))


def test_a_single_seed_has_no_interval_and_equal_seeds_no_t() -> None:
    assert Estimate.of(np.array([2.0])) == Estimate(2.0)
    assert Estimate.of(np.array([2.0, 2.0])).t is None
    mean, low, high = band(np.array([[1.0, 2.0]]))
    assert mean.tolist() == low.tolist() == high.tolist() == [1.0, 2.0]


def test_metrics_of_two_months_worked_by_hand() -> None:
    names = (
        "profit", "loss", "expected_loss", "drawn", "approved", "applicants", "thin_approved", "thin_applicants",
        "graduated", "trials_ever", "first_payment_defaults", "thin_first_payment_defaults", "trial_result", "labels",
        "points_cost",
    )  # fmt: skip
    months = {name: np.array([[0.0, 0.0]]) for name in names}
    months |= {
        "profit": np.array([[100.0, 300.0]]),
        "loss": np.array([[50.0, 70.0]]),
        "drawn": np.array([[6000.0, 6000.0]]),
        "approved": np.array([[6.0, 2.0]]),
        "applicants": np.array([[10.0, 10.0]]),
        "trials_ever": np.array([[3.0, 4.0]]),
        "graduated": np.array([[0.0, 1.0]]),
        "trial_result": np.array([[-900.0, 100.0]]),
        "labels": np.array([[1.0, 1.0]]),
    }
    found = {name: float(values[0]) for name, values in metrics(months).items()}
    assert set(found) == {name for name, *_ in METRICS}
    assert (found["profit"], found["approval"], found["graduation"], found["cost_per_label"]) == (4, 0.4, 0.25, 4)
    assert found["loss_rate"] == pytest.approx(0.12)
    assert found["thin_approval"] == 0


def test_every_variation_is_a_policy_that_could_be_loaded() -> None:
    policies = [variant.policy for variant in variants(POLICY)] + [capped(POLICY, cap) for cap in range(900, 2500, 50)]
    for policy in (*policies, without_points(POLICY)):
        assert findings(policy, "variation") == []
    assert len({policy.sha256 for policy in policies[:4]}) == 4


def test_break_even_is_where_income_meets_loss() -> None:
    """Of limit.md section 1.9: 13.6, 10.9, 9.5, 7.5 and 5.45 % at 24, 20, 18, 15 and 12 %."""
    found = [break_even_bp(POLICY.economics, cap) / 100 for cap in APR_CAPS]
    assert found == pytest.approx([13.6, 10.9, 9.5, 7.5, 5.45], abs=0.05)


@pytest.mark.parametrize("cap", [2000, 1900, 1800, 1500, 1200, 900])
def test_no_price_passes_a_cap_and_nobody_is_served_at_a_loss(cap) -> None:
    policy = capped(POLICY, cap)
    assert max(tier.apr_bp for tier in policy.pricing) <= cap
    if cap < POLICY.pricing[-1].apr_bp:
        assert policy.classes.trial_pd_max_bp <= break_even_bp(POLICY.economics, cap)


def test_scenarios_are_found_by_code_and_by_the_names_one_would_guess() -> None:
    assert scenarios_of("all") == tuple(SCENARIOS.values())
    assert [scenario.code for scenario in scenarios_of("fraud, s3,Recession")] == ["S3", "S5"]
    assert set(ALIASES.values()) <= set(SCENARIOS)
    for names in ("S9", "", "S0,nothing"):
        with pytest.raises(InputError, match="--scenario"):
            scenarios_of(names)


def test_the_effect_that_pays_for_points_lies_between_its_neighbours() -> None:
    assert _crossing([0.0, 50.0, 100.0], [0.0, 0.03, 0.06], 75.0) == pytest.approx(0.045)
    assert _crossing([0.0, 50.0, 100.0], [0.0, 0.03, 0.06], 101.0) is None


@pytest.fixture(scope="module")
def full() -> tuple[Study, dict]:
    """The comparison at full size, on ten seeds."""
    study = Study(POLICY, (), scenarios_of("S0,S2,S3"), 36, 1500, range(10))
    return study, study.summary(run_all(study.plan(fit_model()), study.seeds, jobs=2))


@pytest.mark.slow
def test_a_graded_start_beats_full_limits_under_fraud_and_pays_a_premium_without(full) -> None:
    rows = {(row["scenario"], row["against"]): row["profit"] for row in full[1]["differences"]}
    assert rows["S2", "B"]["t"] > 2
    assert rows["S3", "B"]["t"] > 2
    assert rows["S0", "B"]["t"] < -2
    assert all(rows[scenario, "A"]["t"] > 2 for scenario in ("S0", "S2", "S3"))
    told = re.findall(r"^\| (S[023]) .*\| ([−+][\d.]+) \((\.\d+)\) \|$", GUIDE.read_text(encoding="utf-8"), re.M)
    found = {scenario: rows[scenario, "B"] for scenario, *_ in told}
    assert set(found) == {"S0", "S2", "S3"}
    for scenario, mean, error in told:  # of the guide's table, in millions
        assert found[scenario]["mean"] / 1e6 == pytest.approx(float(mean.replace("−", "-")), abs=0.005)
        assert found[scenario]["se"] / 1e6 == pytest.approx(float(error), abs=0.005)


@pytest.mark.slow
def test_points_pay_only_by_fewer_defaults(full) -> None:
    points = full[1]["points"]
    table = {(row["cost_fen"], row["effect"]): row["profit"]["mean"] for row in points["table"]}
    assert all(table[cost, 0.0] < 0 for cost in (50, 150, 300))
    assert table[50, -0.10] > 0 > table[150, -0.10]
    assert table[150, -0.20] > 0 > table[300, -0.20]
    assert 0.02 < points["break_even"]["50"] < 0.06 < points["break_even"]["150"] < 0.16


@pytest.mark.slow
def test_a_twelve_percent_cap_serves_a_third_of_the_thin_files(full) -> None:
    rows = {row["cap_bp"]: row for row in full[1]["apr_caps"]["table"]}
    share = {cap: row["thin_approval"]["mean"] for cap, row in rows.items()}
    assert share[2400] == share[2000] > share[1800] > share[1500] > share[1200]
    assert share[1200] / share[2000] == pytest.approx(26 / 76, abs=0.12)
    assert rows[1200]["profit"]["mean"] < 0.8 * rows[2000]["profit"]["mean"]


@pytest.mark.slow
def test_processes_change_nothing() -> None:
    study = Study(POLICY, (), scenarios_of("S3"), 3, 60, range(3))
    plan = study.plan(fit_model(persons=3000))
    one, two = (run_all(plan, study.seeds, jobs) for jobs in (1, 2))
    assert one.keys() == two.keys()
    assert (CAPS, "1200", "S3") in one
    for key, months in one.items():
        assert all(np.array_equal(values, two[key][name]) for name, values in months.items())
