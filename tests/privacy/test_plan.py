"""The plan: shares in closed form, a budget that is spent and never passed, and refusal as a whole."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.accounting import epsilon_of, gaussian_epsilon
from privacy.noise import SAMPLER_ERROR
from privacy.plan import BudgetExceeded, Plan, Release, price

DERANDOMIZED = settings(derandomize=True, deadline=None, max_examples=60, database=None)
BLOCK = Release("payments/pay-1", "pay-1", bound=4.0, size=60, count=200, share=0.6)
SHOP = Release("ecommerce/ec-1", "ec-1", bound=3.0, size=30, count=100, share=0.3)
FUSION = Release("fusion/weights", "lender", bound=1.5, size=20, count=300, share=0.1)
LINES = (BLOCK, SHOP, FUSION)
SAMPLED = replace(BLOCK, name="payments/net", probability=0.05, size=500)


def mu_squared(release: Release) -> float:
    return release.count / release.noise_multiplier**2


@st.composite
def lines(draw: st.DrawFn) -> list[Release]:
    count = draw(st.integers(1, 6))
    return [
        Release(f"line-{i}", f"holder-{i}", draw(st.floats(0.5, 9.0)), 10, draw(st.integers(1, 400)), share)
        for i, share in enumerate(draw(st.lists(st.floats(0.01, 5.0), min_size=count, max_size=count)))
    ]


@DERANDOMIZED
@given(asked=lines(), epsilon=st.floats(0.05, 1.5), delta=st.sampled_from([1e-4, 1e-5]))
def test_each_line_gets_its_share_of_mu_squared_and_together_they_spend_the_budget(
    asked: list[Release], epsilon: float, delta: float
) -> None:
    plan = price(asked, epsilon, delta)
    total = sum(mu_squared(r) for r in plan.releases)
    shares = sum(r.share for r in asked)
    for before, after in zip(asked, plan.releases, strict=True):
        assert mu_squared(after) / total == pytest.approx(before.share / shares, rel=1e-9)
        assert replace(after, noise_multiplier=0.0) == before
    assert 0.999 * epsilon < plan.spent() <= epsilon * (1 + 1e-9)


def test_the_total_is_the_closed_form_of_the_sum_of_mu_squared() -> None:
    plan = price(LINES, 1.0, 1e-5)
    mu = math.sqrt(sum(mu_squared(r) for r in plan.releases))
    assert plan.spent() == pytest.approx(gaussian_epsilon(mu, 1e-5 - plan.slack[1]) + plan.slack[0], abs=1e-9)
    assert gaussian_epsilon(mu, 1e-5) <= 1.0


def test_some_lines_alone_spend_what_they_would_alone() -> None:
    plan = price(LINES, 1.0, 1e-5)
    alone = plan.spent(["fusion/weights"])
    assert alone == pytest.approx(epsilon_of([plan.releases[2].event], 1e-5), abs=1e-5)
    assert 0 < alone < plan.spent(["payments/pay-1"]) < plan.spent(["payments/pay-1", "fusion/weights"]) < plan.spent()
    assert plan.spent([]) < 1e-6  # only the slack


def test_the_order_of_the_lines_changes_nothing() -> None:
    forward, back = price(LINES, 1.0, 1e-5), price(LINES[::-1], 1.0, 1e-5)
    noise = [{r.name: r.noise_multiplier for r in plan.releases} for plan in (forward, back)]
    assert noise[0] == pytest.approx(noise[1], rel=1e-12)


def test_the_slack_adds_up_over_all_releases() -> None:
    plan = price(LINES, 1.0, 1e-5)
    ratio, tail = (sum(r.count * r.mechanism.slack[i] for r in plan.releases) for i in (0, 1))
    assert ratio > (200 * 60 + 100 * 30 + 300 * 20) * SAMPLER_ERROR
    assert plan.slack == pytest.approx((2 * ratio, 1e-5 * math.expm1(ratio) + tail * (1 + math.e)), rel=1e-9)


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 3.0, 4.0, 8.0, 16.0])
@pytest.mark.parametrize("delta", [1e-5, 1e-6])
def test_a_usual_programme_can_be_priced(epsilon: float, delta: float) -> None:
    blocks = [Release(f"block-{i}", f"partner-{i}", 4.0, 200, 400, 0.3) for i in range(3)]
    plan = price([*blocks, FUSION], epsilon, delta)
    assert 0.999 * epsilon < plan.spent() <= epsilon * (1 + 1e-9)


@pytest.mark.parametrize(
    ("partners", "size", "epsilon"), [(3, 200, 0.01), (10, 900, 0.1), (10, 900, 0.3), (10, 5000, 1.0)]
)
def test_a_wide_programme_can_be_priced_at_a_small_epsilon(partners: int, size: int, epsilon: float) -> None:
    blocks = [Release(f"block-{i}", f"partner-{i}", 4.0, size, 400, 0.9 / partners) for i in range(partners)]
    plan = price([*blocks, FUSION], epsilon, 1e-5)
    assert 0.999 * epsilon < plan.spent() <= epsilon * (1 + 1e-9)


@pytest.mark.parametrize("epsilon", [0.5, 1.0, 2.0])
def test_sampled_plans_keep_to_the_budget_and_to_their_proportions(epsilon: float) -> None:
    asked = (SAMPLED, replace(SAMPLED, name="ecommerce/net", count=100, share=0.3, probability=0.1), FUSION)
    plan = price(asked, epsilon, 1e-5)
    scales = [r.noise_multiplier / (r.probability * math.sqrt(r.count / r.share)) for r in plan.releases]
    assert scales == pytest.approx([scales[0]] * 3)
    assert 0.99 * epsilon < plan.spent() <= epsilon * (1 + 1e-9)


def test_sampling_needs_less_noise_than_full_batches() -> None:
    sampled, full = (price([line], 1.0, 1e-5).releases[0] for line in (SAMPLED, BLOCK))
    assert sampled.noise_multiplier < 0.3 * full.noise_multiplier


def test_a_plan_over_budget_is_refused_as_a_whole_and_every_line_is_named() -> None:
    fitting = price(LINES, 1.0, 1e-5)
    louder = Plan(tuple(replace(r, noise_multiplier=r.noise_multiplier / 2) for r in fitting.releases), 1.0, 1e-5)
    with pytest.raises(BudgetExceeded) as refused:
        louder.check()
    for line in LINES:
        assert line.name in str(refused.value)
    assert "budget is 1" in str(refused.value)
    assert f"epsilon={louder.spent():.2f}"[:-1] in str(refused.value)
    fitting.check()


def test_one_line_too_many_is_over_budget() -> None:
    plan = price(LINES, 1.0, 1e-5)
    with pytest.raises(BudgetExceeded, match="one-more"):
        replace(plan, releases=(*plan.releases, replace(plan.releases[0], name="one-more"))).check()


def test_a_delta_below_the_noises_own_slack_is_refused() -> None:
    releases = price(LINES, 1.0, 1e-5).releases
    with pytest.raises(BudgetExceeded, match="slack"):
        Plan(releases, 100.0, 1e-20).check()


def test_a_line_without_noise_is_over_any_finite_budget() -> None:
    with pytest.raises(BudgetExceeded, match="inf"):
        Plan((BLOCK,), 50.0, 1e-5).check()


def test_an_infinite_epsilon_asks_for_no_noise_at_all() -> None:
    plan = price([BLOCK, SAMPLED], math.inf, 1e-5)
    assert [r.noise_multiplier for r in plan.releases] == [0.0, 0.0]
    assert plan.spent() == math.inf
    assert plan.slack == (0.0, 0.0)
    plan.check()


@pytest.mark.parametrize(("epsilon", "delta"), [(0.0, 1e-5), (-1.0, 1e-5), (math.nan, 1e-5), (1.0, 0.0), (1.0, 2.0)])
def test_a_budget_without_meaning_is_refused(epsilon: float, delta: float) -> None:
    with pytest.raises(ValueError, match="must be"):
        price(LINES, epsilon, delta)


@pytest.mark.parametrize("release", [price([BLOCK], 1.0, 1e-5).releases[0], SAMPLED])
def test_a_release_survives_json(release: Release) -> None:
    told = json.loads(json.dumps(release.to_dict()))
    assert Release.from_dict(told) == release
    assert told["sensitivity"] == release.mechanism.sensitivity
    assert told["mechanism"] == "discrete gaussian sum"


def test_a_release_is_accounted_and_drawn_with_one_noise_multiplier() -> None:
    release = replace(SAMPLED, noise_multiplier=3.0)
    assert (release.event.noise_multiplier, release.event.count, release.event.probability) == (3.0, 200, 0.05)
    mechanism = release.mechanism
    assert (mechanism.bound, mechanism.size, mechanism.noise_stddev) == (4.0, 500, 3.0 * mechanism.sensitivity)
