"""What releases cost: the closed form against high precision and integration, sampling against two accountants."""

from __future__ import annotations

import math
from collections.abc import Callable

import mpmath
import numpy as np
import pytest
from dp_accounting import dp_event, pld
from dp_accounting.privacy_accountant import NeighboringRelation
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from privacy.accounting import (
    Event,
    epsilon_of,
    gaussian_delta,
    gaussian_epsilon,
    gaussian_mu,
    shown,
    smallest_scale,
)

DERANDOMIZED = settings(derandomize=True, deadline=None, max_examples=60, database=None)
MUS = st.floats(0.01, 8.0)
DELTAS = st.sampled_from([1e-3, 1e-5, 1e-6, 1e-9])
# reference/privacy.md section 2.2: n=10,000, q=0.0512, T=391, delta=1e-6, PLD at an interval of 1e-4
GOLDEN_EPSILON = [(0.7, 16.8001), (1.0, 7.7017), (1.5, 3.8679), (2.0, 2.5919), (4.0, 1.1219)]
GOLDEN_NOISE = [(1.0, 4.4265), (4.0, 1.4677)]


def precise_delta(mu: float, epsilon: float) -> float:
    """Balle & Wang's formula with fifty digits, so that nothing cancels."""
    with mpmath.workdps(50):
        m, e = mpmath.mpf(mu), mpmath.mpf(epsilon)
        return float(mpmath.ncdf(m / 2 - e / m) - mpmath.exp(e) * mpmath.ncdf(-m / 2 - e / m))


def hockey_stick(mu: float, epsilon: float) -> float:
    """The definition: the integral of max(0, p - e^epsilon q) for p = N(mu, 1) and q = N(0, 1), by the trapezium."""
    x = np.linspace(-12.0, 12.0 + mu, 400_001)
    return float(np.trapezoid(np.maximum(stats.norm.pdf(x, mu) - math.exp(epsilon) * stats.norm.pdf(x), 0.0), x))


def by_pld(noise_multiplier: float, count: int, delta: float) -> float:
    accountant = pld.PLDAccountant(NeighboringRelation.REPLACE_SPECIAL, value_discretization_interval=1e-4)
    accountant.compose(dp_event.SelfComposedDpEvent(dp_event.GaussianDpEvent(noise_multiplier), count))
    return float(accountant.get_epsilon(delta))


@DERANDOMIZED
@given(mu=MUS, epsilon=st.floats(0.0, 30.0))
def test_the_closed_form_has_no_cancellation(mu: float, epsilon: float) -> None:
    assert gaussian_delta(mu, epsilon) == pytest.approx(precise_delta(mu, epsilon), rel=1e-8, abs=1e-14)


@pytest.mark.parametrize(("mu", "epsilon"), [(0.3, 0.0), (0.5, 1.0), (1.0, 0.2), (2.0, 4.0), (3.5, 10.0)])
def test_the_closed_form_is_the_hockey_stick_divergence(mu: float, epsilon: float) -> None:
    assert gaussian_delta(mu, epsilon) == pytest.approx(hockey_stick(mu, epsilon), rel=1e-6)


@DERANDOMIZED
@given(mu=MUS, delta=DELTAS)
def test_epsilon_and_mu_are_each_others_inverse(mu: float, delta: float) -> None:
    epsilon = gaussian_epsilon(mu, delta)
    assert precise_delta(mu, epsilon) <= delta * (1 + 1e-6)
    if epsilon > 1e-6:  # below, every mu up to some size costs nothing
        assert precise_delta(mu, epsilon) == pytest.approx(delta, rel=1e-6)
        assert gaussian_mu(epsilon, delta) == pytest.approx(mu, rel=1e-6)


@DERANDOMIZED
@given(mu=MUS, delta=DELTAS, more=st.floats(1.01, 3.0))
def test_more_signal_or_a_smaller_delta_costs_more(mu: float, delta: float, more: float) -> None:
    if gaussian_epsilon(mu, delta) > 0:
        assert gaussian_epsilon(mu * more, delta) > gaussian_epsilon(mu, delta)
        assert gaussian_epsilon(mu, delta / more) > gaussian_epsilon(mu, delta)


def test_a_signal_below_delta_costs_nothing_and_an_infinite_one_everything() -> None:
    assert gaussian_epsilon(1e-6, 1e-3) == 0.0
    assert gaussian_epsilon(math.inf, 1e-5) == math.inf
    assert gaussian_mu(math.inf, 1e-5) == math.inf
    assert gaussian_delta(0.0, 1.0) == 0.0


@DERANDOMIZED
@given(
    parts=st.lists(st.tuples(st.floats(2.0, 80.0), st.integers(1, 300)), min_size=1, max_size=6),
    delta=DELTAS,
)
def test_mu_squared_adds_up_over_all_releases(parts: list[tuple[float, int]], delta: float) -> None:
    events = [Event(z, count) for z, count in parts]
    mu = math.sqrt(sum(count / z**2 for z, count in parts))
    assert epsilon_of(events, delta) == pytest.approx(gaussian_epsilon(mu, delta), rel=1e-12)
    assert epsilon_of(events[::-1], delta) == pytest.approx(epsilon_of(events, delta), rel=1e-12)
    assert epsilon_of([*events, Event(5.0)], delta) > epsilon_of(events, delta)


@pytest.mark.parametrize(("noise_multiplier", "count"), [(1.0, 1), (20.0, 400), (5.0, 10), (3.0, 1)])
@pytest.mark.parametrize("delta", [1e-5, 1e-6])
def test_closed_form_and_pld_agree_where_both_apply(noise_multiplier: float, count: int, delta: float) -> None:
    exact = epsilon_of([Event(noise_multiplier, count)], delta)
    assert exact == pytest.approx(by_pld(noise_multiplier, count, delta), abs=1e-3)


@pytest.mark.parametrize(("noise_multiplier", "epsilon"), GOLDEN_EPSILON)
def test_sampled_batches_cost_what_the_reference_measured(noise_multiplier: float, epsilon: float) -> None:
    assert epsilon_of([Event(noise_multiplier, 391, 0.0512)], 1e-6) == pytest.approx(epsilon, rel=1e-3)


@pytest.mark.parametrize(("epsilon", "noise_multiplier"), GOLDEN_NOISE)
def test_the_calibrated_noise_is_the_references(epsilon: float, noise_multiplier: float) -> None:
    found = smallest_scale(lambda s: [Event(s, 391, 0.0512)], epsilon, 1e-6)
    assert found == pytest.approx(noise_multiplier, rel=2e-3)


@pytest.mark.parametrize(("noise_multiplier", "probability", "count"), [(1.0, 0.0512, 391), (2.0, 0.01, 1000)])
def test_pld_agrees_with_opacus(noise_multiplier: float, probability: float, count: int) -> None:
    from opacus.accountants import PRVAccountant

    theirs = PRVAccountant()
    theirs.history = [(noise_multiplier, probability, count)]
    ours = epsilon_of([Event(noise_multiplier, count, probability)], 1e-6)
    assert abs(ours - theirs.get_epsilon(1e-6)) <= 0.011 * max(1.0, ours / 5)


def test_sampling_lies_between_nothing_and_full_batches() -> None:
    costs = [epsilon_of([Event(2.0, 20, q)], 1e-5) for q in (0.01, 0.1, 0.5, 1.0)]
    assert costs == sorted(set(costs))
    assert costs[0] > 0
    nearly_full = epsilon_of([Event(2.0, 20, 1 - 1e-9)], 1e-5)
    assert nearly_full == pytest.approx(costs[-1], abs=2e-3)


def test_a_mixed_programme_costs_more_than_either_part_and_less_than_their_sum() -> None:
    sampled, full = Event(1.5, 100, 0.05), Event(30.0, 100)
    both = epsilon_of([sampled, full], 1e-5)
    apart = [epsilon_of([sampled], 1e-5), epsilon_of([full], 1e-5)]
    assert max(apart) < both < sum(apart)
    halves = [Event(1.5, 40, 0.05), full, Event(1.5, 60, 0.05)]
    assert epsilon_of(halves, 1e-5) == pytest.approx(both, abs=1e-9)


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 8.0])
def test_the_smallest_scale_keeps_to_epsilon_and_is_tight(epsilon: float) -> None:
    def at(scale: float) -> list[Event]:
        return [Event(scale, 7), Event(2 * scale, 30)]

    scale = smallest_scale(at, epsilon, 1e-5)
    assert epsilon_of(at(scale), 1e-5) <= epsilon < epsilon_of(at(scale / 1.0011), 1e-5)


def test_no_release_costs_nothing_and_one_without_noise_everything() -> None:
    assert epsilon_of([], 1e-5) == 0.0
    assert epsilon_of([Event(5.0), Event(0.0)], 1e-5) == math.inf
    assert Event(0.0).mu_squared == math.inf


@DERANDOMIZED
@given(epsilon=st.floats(0.0, 1000.0))
def test_what_is_shown_is_rounded_up_by_less_than_a_thousandth(epsilon: float) -> None:
    assert epsilon - 1e-9 <= float(shown(epsilon)) < epsilon + 0.001 + 1e-9


def test_what_is_shown_has_three_decimals() -> None:
    assert [shown(e) for e in (1.0, 1.0000001, 0.0004, 2.9999, math.inf)] == ["1.000", "1.001", "0.001", "3.000", "inf"]


@pytest.mark.parametrize(
    "attempt",
    [
        lambda: Event(-1.0),
        lambda: Event(math.nan),
        lambda: Event(math.inf),
        lambda: Event(1.0, 0),
        lambda: Event(1.0, 1, 0.0),
        lambda: Event(1.0, 1, 1.5),
        lambda: Event(1.0, 1, math.nan),
        lambda: gaussian_epsilon(1.0, 0.0),
        lambda: gaussian_epsilon(1.0, 1.0),
        lambda: gaussian_epsilon(1.0, math.nan),
        lambda: gaussian_mu(0.0, 1e-5),
        lambda: gaussian_mu(-1.0, 1e-5),
        lambda: gaussian_mu(math.nan, 1e-5),
        lambda: gaussian_mu(1.0, -1e-5),
        lambda: epsilon_of([Event(1.0, 1, 0.5)], 2.0),
        lambda: epsilon_of([Event(1.0)], 0.0),
    ],
)
def test_numbers_without_meaning_are_refused(attempt: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match="got"):
        attempt()
