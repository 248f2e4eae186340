"""T6: our figures on a grid of 200 settings, against Opacus' PRV accountant and dp_accounting's Renyi accountant."""

from __future__ import annotations

import itertools
import math
import warnings
from functools import cache

import numpy as np
import pytest
from dp_accounting import dp_event, rdp
from dp_accounting.privacy_accountant import NeighboringRelation

from privacy.accounting import Event, Response, adaptive_epsilon, epsilon_of, filter_order, gaussian_epsilon

pytestmark = pytest.mark.statistical
DELTA = 1e-6
NOISE, PROBABILITIES, COUNTS = (
    (0.8, 1.2, 2.0, 4.0, 10.0),
    (1e-3, 0.01, 0.0512, 0.2, 0.6),
    (1, 5, 20, 60, 150, 300, 600, 1000),
)
GRID = list(itertools.product(NOISE, PROBABILITIES, COUNTS))
MOST = 20.0  # beyond, Opacus' PRV takes too long
ORDERS = [2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 96, 128, 256, 512]
# reference/privacy.md section 2.2 (z at a budget; n=10,000, q=0.0512, T=391) and 2.4 (k runs of epsilon 1 or 4)
GOLDEN = [(4.4265, 1, 1.0), (2.4524, 1, 2.0), (1.4677, 1, 4.0), (0.9808, 1, 8.0)]
GOLDEN += [(1.4677, 2, 5.76), (1.4677, 3, 7.18), (4.4265, 6, 2.62), (4.4265, 20, 5.12)]


@cache
def ours(z: float, q: float, count: int) -> float:
    return epsilon_of([Event(z, count, q)], DELTA)


@cache
def by_renyi(z: float, q: float, count: int) -> float:
    accountant = rdp.RdpAccountant(ORDERS, NeighboringRelation.REPLACE_SPECIAL)
    single = dp_event.PoissonSampledDpEvent(q, dp_event.GaussianDpEvent(z))
    accountant.compose(dp_event.SelfComposedDpEvent(single, count))
    return float(accountant.get_epsilon(DELTA))


def by_prv(z: float, q: float, count: int) -> float:
    from opacus.accountants import PRVAccountant

    accountant = PRVAccountant()
    accountant.history = [(z, q, count)]
    with warnings.catch_warnings():  # it looks at Renyi orders of its own first
        warnings.filterwarnings("ignore", message="Optimal order")
        return float(accountant.get_epsilon(DELTA))


def test_the_grid_has_200_settings() -> None:
    assert len(GRID) == 200


@pytest.mark.parametrize("z", NOISE)
@pytest.mark.parametrize("q", PROBABILITIES)
def test_three_accountants_agree_and_ours_is_never_above_renyi(z: float, q: float) -> None:
    before = 0.0
    for count in COUNTS:
        epsilon, renyi = ours(z, q, count), by_renyi(z, q, count)
        assert epsilon <= renyi * (1 + 1e-3), (z, q, count)
        assert epsilon >= before - 1e-9
        before = epsilon
        if renyi < MOST:
            assert abs(epsilon - by_prv(z, q, count)) <= 0.011 * max(1.0, epsilon / 5), (z, q, count)


@pytest.mark.parametrize("count", COUNTS[::3])
def test_more_noise_and_smaller_samples_cost_less(count: int) -> None:
    costs = np.array([[ours(z, q, count) for q in PROBABILITIES] for z in NOISE])
    assert (np.diff(costs, axis=0) <= 1e-9).all()
    assert (np.diff(costs, axis=1) >= -1e-9).all()


@pytest.mark.parametrize(("z", "runs", "epsilon"), GOLDEN)
def test_the_references_figures_come_back(z: float, runs: int, epsilon: float) -> None:
    rounded = 0.005 if runs > 1 else 0.0  # the table of runs has two decimals, that of z five digits
    assert ours(z, 0.0512, 391 * runs) == pytest.approx(epsilon, rel=1e-3, abs=rounded)


def test_a_whole_programme_costs_what_the_reference_says() -> None:
    for z, epsilon in ((7.28, 2.0), (3.46, 4.0), (1.94, 8.0)):
        events = [Event(z, 7 * 391, 0.0512), Event(15.0, 12), Event(25.0, 6)]
        assert epsilon_of(events, DELTA) == pytest.approx(epsilon, rel=1e-2)  # its z has three digits


@pytest.mark.parametrize("z", NOISE)
@pytest.mark.parametrize("count", [1, 20, 300])
def test_the_closed_form_is_the_limit_of_all_three(z: float, count: int) -> None:
    exact = gaussian_epsilon(math.sqrt(count) / z, DELTA)
    assert ours(z, 1.0, count) == pytest.approx(exact, rel=1e-12)
    if exact < MOST:
        assert ours(z, 1 - 1e-12, count) == pytest.approx(exact, abs=2e-3, rel=1e-3)
        renyi = rdp.RdpAccountant(ORDERS, NeighboringRelation.REPLACE_SPECIAL)
        renyi.compose(dp_event.SelfComposedDpEvent(dp_event.GaussianDpEvent(z), count))
        assert exact <= renyi.get_epsilon(DELTA)
        assert adaptive_epsilon([[Event(z, count)]], DELTA, 3.0) == ours(z, 1.0, count)


@pytest.mark.parametrize("seed", range(25))
def test_a_filter_never_says_less_than_what_it_let_through_costs(seed: int) -> None:
    """Random programmes of plans, each added as long as the filter admits it."""
    rng = np.random.default_rng(seed)
    budget = float(rng.choice([0.5, 1.0, 3.0, 8.0]))
    order, charged = filter_order(budget, DELTA), []
    for _ in range(12):
        plan: list[Event | Response] = [
            Event(rng.uniform(2, 60) / budget, int(rng.integers(1, 200)), float(rng.choice([0.01, 0.1, 1.0])))
            for _ in range(int(rng.integers(1, 3)))
        ]
        if rng.random() < 0.3:
            plan.append(Response(1 / (1 + math.exp(rng.uniform(0.05, 0.5) * budget))))
        cost = adaptive_epsilon([*charged, plan], DELTA, order)
        everything = [event for one in [*charged, plan] for event in one]
        if cost <= 4 * budget:
            assert cost >= epsilon_of(everything, DELTA) - 1e-9
        if cost <= budget:
            charged.append(plan)
    assert epsilon_of([event for one in charged for event in one], DELTA) <= budget
