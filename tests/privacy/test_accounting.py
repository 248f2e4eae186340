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
    Response,
    adaptive_epsilon,
    epsilon_of,
    filter_order,
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
    found = smallest_scale(lambda s: epsilon_of([Event(s, 391, 0.0512)], 1e-6), epsilon)
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
    def at(scale: float) -> float:
        return epsilon_of([Event(scale, 7), Event(2 * scale, 30)], 1e-5)

    scale = smallest_scale(at, epsilon)
    assert at(scale) <= epsilon < at(scale / 1.0011)


def test_a_scale_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(ValueError, match="out of reach, got 2 with any noise"):
        smallest_scale(lambda s: 2.0 + 1.0 / s, 2.0)


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
        lambda: Response(0.0),
        lambda: Response(0.5),
        lambda: Response(-0.1),
        lambda: Response(math.nan),
        lambda: adaptive_epsilon([[Event(1.0, 1, 0.5)], [Event(1.0)]], 2.0, 5.0),
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


def told(epsilon: float) -> Response:
    return Response(1 / (1 + math.exp(epsilon)))


@pytest.mark.parametrize("epsilon", [0.2, 1.0, 3.0, 8.0])
def test_a_label_against_a_fair_coin_costs_the_logarithm_of_twice_its_truth(epsilon: float) -> None:
    """The null row answers with a fair coin, so that the ratios are 2 (1 - flip) and 2 flip, at delta near 0."""
    response = told(epsilon)
    pure = max(math.log(2 * (1 - response.flip)), -math.log(2 * response.flip))
    assert epsilon_of([response], 1e-12) == pytest.approx(pure, abs=2e-3)
    delta = 1e-2  # the hockey-stick divergence itself, larger of both directions
    found = epsilon_of([response], delta)
    pairs = [(1 - response.flip, 0.5), (response.flip, 0.5)]
    worst = max(sum(max(0.0, p - math.exp(found) * q) for p, q in way) for way in (pairs, [(q, p) for p, q in pairs]))
    assert worst <= delta * (1 + 1e-9)


@pytest.mark.parametrize("count", [2, 10])
def test_many_labels_cost_what_a_loop_costs_though_dp_accounting_ignores_their_count(count: int) -> None:
    """F7: dp_accounting 0.6.0 composes a response once, whatever its count. If this fails, it was mended: our loop
    in `_by_pld` may go then."""
    response, relation = told(1.0), NeighboringRelation.REPLACE_SPECIAL
    event = dp_event.RandomizedResponseDpEvent(2 * response.flip, 2)
    looped, once, counted = (pld.PLDAccountant(relation, value_discretization_interval=1e-3) for _ in range(3))
    for _ in range(count):
        looped.compose(event)
    once.compose(event)
    counted.compose(dp_event.SelfComposedDpEvent(event, count))
    assert counted.get_epsilon(1e-6) == pytest.approx(once.get_epsilon(1e-6), abs=1e-9)
    ours = epsilon_of([response] * count, 1e-6)
    assert ours == pytest.approx(looped.get_epsilon(1e-6), abs=1e-9)
    assert ours > 1.5 * once.get_epsilon(1e-6)
    mixed = epsilon_of([response, Event(20.0)] * count, 1e-6)
    assert ours < mixed < ours + epsilon_of([Event(20.0, count)], 1e-6) + 1e-2


SAMPLED, FULL, LABEL = Event(2.0, 100, 0.05), Event(20.0, 30), told(0.5)


def test_what_is_fixed_beforehand_or_gaussian_needs_no_filter() -> None:
    assert adaptive_epsilon([], 1e-5, 5.0) == 0.0
    assert adaptive_epsilon([[SAMPLED, FULL, LABEL], []], 1e-5, 5.0) == epsilon_of([SAMPLED, FULL, LABEL], 1e-5)
    assert adaptive_epsilon([[FULL], [Event(9.0)]], 1e-5, 5.0) == epsilon_of([FULL, Event(9.0)], 1e-5)


@pytest.mark.parametrize("plans", [[[SAMPLED], [FULL]], [[SAMPLED, FULL], [SAMPLED]], [[LABEL], [FULL]], [[LABEL]] * 3])
@pytest.mark.parametrize("budget", [0.5, 1.0, 8.0])
def test_looking_before_going_on_costs_more(plans: list[list[Event | Response]], budget: float) -> None:
    events = [event for plan in plans for event in plan]
    assert adaptive_epsilon(plans, 1e-5, filter_order(budget, 1e-5)) >= epsilon_of(events, 1e-5)


@pytest.mark.parametrize("budget", [0.5, 1.0, 4.0, 8.0])
def test_the_filters_order_is_the_best_for_full_batches(budget: float) -> None:
    """A mu that just fits at that order fits at no other (Renyi divergence order * mu^2 / 2)."""

    def admitted(order: float) -> float:
        return (budget - math.log1p(-1 / order) + math.log(1e-5 * order) / (order - 1)) / order

    best = filter_order(budget, 1e-5)
    assert admitted(best) >= max(admitted(1 + 10**k) for k in np.linspace(-1.5, 3, 4000)) * (1 - 1e-3)


@pytest.mark.parametrize("budget", [1.0, 4.0])
@pytest.mark.parametrize("plan", [[SAMPLED], [SAMPLED, FULL], [Event(3.0, 50, 0.02), told(0.1)]])
def test_plans_charged_one_after_the_other_never_pass_the_budget(plan: list[Event], budget: float) -> None:
    order, charged = filter_order(budget, 1e-5), []
    while adaptive_epsilon([*charged, plan], 1e-5, order) <= budget:
        charged.append(plan)
        assert len(charged) < 1000
    everything = [event for one in charged for event in one]
    assert epsilon_of(everything, 1e-5) <= budget
    smaller = [Event(60.0)]
    if adaptive_epsilon([*charged, smaller], 1e-5, order) <= budget:
        assert epsilon_of([*everything, *smaller], 1e-5) <= budget


@pytest.mark.parametrize(
    "event",
    [Event(1e-200, 1, 0.05), Event(1e-5, 1, 0.5), Event(1e-3, 3, 0.01), Event(1.0, 10**9, 0.5), Event(1e-100)],
)
def test_absurd_noise_costs_everything_at_once_instead_of_all_memory(event: Event) -> None:
    assert epsilon_of([event], 1e-5) == math.inf
    assert adaptive_epsilon([[Event(9.0)], [event]], 1e-5, 5.0) == math.inf


@pytest.mark.parametrize("event", [Event(0.5, 391, 0.0512), Event(0.7, 391, 0.0512), Event(0.5, 5, 0.9)])
def test_what_can_be_computed_is_not_called_absurd(event: Event) -> None:
    assert 10 < epsilon_of([event], 1e-5) < 200
