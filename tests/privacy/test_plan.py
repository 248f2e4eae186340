"""The plan: shares in closed form, a budget that is spent and never passed, and refusal as a whole."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from dp_accounting import dp_event, pld
from dp_accounting.privacy_accountant import NeighboringRelation
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.accounting import epsilon_of, filter_order, gaussian_epsilon
from privacy.ledger import Ledger, Terms
from privacy.noise import SAMPLER_ERROR
from privacy.plan import (
    HELD_OUT,
    BudgetExceeded,
    LabelResponse,
    Plan,
    Release,
    digest,
    line_of,
    on_one_person,
    price,
    spent_by,
)

DERANDOMIZED = settings(derandomize=True, deadline=None, max_examples=60, database=None)
BLOCK = Release("payments/pay-1", "pay-1", bound=4.0, size=60, count=200, share=0.6)
SHOP = Release("ecommerce/ec-1", "ec-1", bound=3.0, size=30, count=100, share=0.3)
FUSION = Release("fusion/weights", "lender", bound=1.5, size=20, count=300, share=0.1)
LINES = (BLOCK, SHOP, FUSION)
LABELS = LabelResponse("labels", "lender", 1.0)
HOME = tuple(replace(BLOCK, name=f"payments/pay-{i}", holder=f"pay-{i}", home="payments") for i in (1, 2, 3))
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


@pytest.mark.parametrize("epsilon", [1.0, pytest.param(2.0, marks=pytest.mark.statistical)])
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
        replace(plan, lines=(*plan.lines, replace(plan.releases[0], name="one-more"))).check()


def test_a_delta_below_the_noises_own_slack_is_refused() -> None:
    releases = price(LINES, 1.0, 1e-5).releases
    with pytest.raises(BudgetExceeded, match="slack"):
        Plan(releases, 100.0, 1e-20).check()


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


@pytest.mark.parametrize("release", [price([BLOCK], 1.0, 1e-5).releases[0], SAMPLED, HOME[0]])
def test_a_release_survives_json(release: Release) -> None:
    told = json.loads(json.dumps(release.to_dict()))
    assert line_of(told) == release
    assert told["sensitivity"] == release.mechanism.sensitivity
    assert told["mechanism"] == "discrete gaussian sum"


def test_a_label_response_survives_json() -> None:
    told = json.loads(json.dumps(LABELS.to_dict()))
    assert line_of(told) == LABELS
    assert told["flip"] == pytest.approx(1 / (1 + math.e))


def test_a_release_is_accounted_and_drawn_with_one_noise_multiplier() -> None:
    release = replace(SAMPLED, noise_multiplier=3.0)
    assert (release.event.noise_multiplier, release.event.count, release.event.probability) == (3.0, 200, 0.05)
    mechanism = release.mechanism
    assert (mechanism.bound, mechanism.size, mechanism.noise_stddev) == (4.0, 500, 3.0 * mechanism.sensitivity)


def by_pld(events: list[tuple[float, float, int]], delta: float) -> float:
    """An independent figure: dp_accounting itself, at a finer interval than ours, of (noise, probability, count)."""
    accountant = pld.PLDAccountant(NeighboringRelation.REPLACE_SPECIAL, value_discretization_interval=1e-4)
    for noise, probability, count in events:
        single = dp_event.PoissonSampledDpEvent(probability, dp_event.GaussianDpEvent(noise))
        accountant.compose(dp_event.SelfComposedDpEvent(single, count))
    return float(accountant.get_epsilon(delta))


@pytest.mark.parametrize("partners", [1, 2, 3])
@pytest.mark.parametrize("home", ["", "payments"])
@pytest.mark.parametrize("probability", [1.0, 0.0512])
def test_t10_a_person_at_several_partners_costs_what_pld_says(partners: int, home: str, probability: float) -> None:
    """With the home rule a person trains at one of them; without, at all."""
    noise = 30.0 if probability == 1.0 else 1.4677
    line = replace(BLOCK, size=5, count=391, probability=probability, noise_multiplier=noise, home=home)
    lines = [replace(line, name=f"payments/{i}", holder=f"pay-{i}") for i in range(partners)]
    touching = 1 if home else partners
    expected = by_pld([(noise, probability, 391 * touching)], 1e-6)
    assert spent_by([lines], 8.0, 1e-6) == pytest.approx(expected, rel=5e-3)
    if probability < 1:
        assert expected == pytest.approx({1: 3.996, 2: 5.76, 3: 7.18}[touching], abs=6e-3)  # reference, section 2.4


@pytest.mark.parametrize("home", ["", "payments"])
def test_t10_so_does_the_ledger_over_several_plans(tmp_path: Path, home: str) -> None:
    line = replace(BLOCK, size=5, count=10, noise_multiplier=20.0, home=home)
    lines = [replace(line, name=f"payments/{i}", holder=f"pay-{i}") for i in range(3)]
    with Ledger(tmp_path / "ledger.db", Terms("p", "pay-0", 8.0, 8.0, 1e-6)) as book:
        for plan in ("first", "second"):
            book.reserve(plan, [*lines, replace(FUSION, count=9, noise_multiplier=30.0)])
        touching = 1 if home else 3
        assert book.spent() == pytest.approx(by_pld([(20.0, 1.0, 20 * touching), (30.0, 1.0, 18)], 1e-6), rel=5e-3)
        assert book.spent(own=True) == pytest.approx(by_pld([(20.0, 1.0, 20)], 1e-6), rel=5e-3)


def test_home_partners_share_one_charge_so_each_needs_less_noise() -> None:
    apart = [replace(line, home="") for line in HOME]
    homed, all_over = (price([*lines, FUSION], 1.0, 1e-5).releases[0] for lines in (HOME, apart))
    assert homed.noise_multiplier < 0.7 * all_over.noise_multiplier
    assert price([*HOME, FUSION], 1.0, 1e-5).spent() == pytest.approx(1.0, rel=1e-3)


def test_where_it_mattered_which_partner_is_home_the_plan_is_refused() -> None:
    with pytest.raises(ValueError, match="home partners of payments must be charged alike"):
        on_one_person([*HOME[:2], replace(HOME[2], count=201)])


def test_each_group_of_persons_has_the_whole_budget() -> None:
    other = replace(FUSION, name="evaluation", persons=HELD_OUT)
    plan = price([BLOCK, other], 1.0, 1e-5)
    for line in plan.releases:
        assert plan.spent([line.name]) == pytest.approx(1.0, rel=1e-3)
    assert plan.spent() == pytest.approx(1.0, rel=1e-3)
    assert {group: len(lines) for group, lines in on_one_person(plan.lines).items()} == {"train": 1, "held-out": 1}


def test_labels_are_paid_for_inside_epsilon() -> None:
    plan = price([LABELS, BLOCK, FUSION], 1.0, 1e-5)
    assert 0.99 < plan.spent() <= 1.0
    assert plan.spent(["labels"]) == pytest.approx(math.log((1 + math.e) / 2), abs=2e-3)
    bare = price([BLOCK, FUSION], 1.0, 1e-5).releases
    assert all(r.noise_multiplier > b.noise_multiplier for r, b in zip(plan.releases, bare, strict=True))
    assert LABELS.stretch == pytest.approx((1 - LABELS.flip) / (1 - 2 * LABELS.flip))


@pytest.mark.parametrize("epsilon", [3.0, 30.0])
def test_labels_that_alone_cost_more_than_the_budget_are_refused(epsilon: float) -> None:
    with pytest.raises(BudgetExceeded, match="the labels alone cost"):
        price([replace(LABELS, epsilon=epsilon), BLOCK], 1.0, 1e-5)


def test_labels_told_almost_in_the_clear_cost_almost_everything() -> None:
    assert spent_by([[replace(LABELS, epsilon=800.0)]], 1.0, 1e-5) > 600


@pytest.mark.parametrize("epsilon", [0.0, -1.0, math.nan, math.inf])
def test_a_response_without_meaning_is_refused(epsilon: float) -> None:
    with pytest.raises(ValueError, match="flip must be"):
        spent_by([[replace(LABELS, epsilon=epsilon)]], 1.0, 1e-5)


@pytest.mark.parametrize("field", ["noise_multiplier", "bound", "probability", "count", "size"])
@pytest.mark.parametrize("value", [math.nan, -1, math.inf, 0])
def test_a_line_without_meaning_is_refused_or_costs_everything(field: str, value: float) -> None:
    line = replace(SAMPLED, **{"noise_multiplier": 3.0, field: value})
    if (field, value) in {("noise_multiplier", 0), ("count", math.inf), ("size", math.inf)}:
        assert spent_by([[line]], 1.0, 1e-5) == math.inf
        return
    with pytest.raises(ValueError, match=r"must be|need"):
        spent_by([[line]], 1.0, 1e-5)


def test_the_order_of_the_filter_can_be_fixed_under_an_earlier_budget() -> None:
    plans = [[replace(SAMPLED, size=5, noise_multiplier=2.0)], [replace(FUSION, size=5, noise_multiplier=200.0)]]
    assert spent_by(plans, 8.0, 1e-5) == spent_by(plans, 8.0, 1e-5, filter_order(8.0, 1e-5))
    assert spent_by(plans, 8.0, 1e-5) != spent_by(plans, 8.0, 1e-5, filter_order(1.0, 1e-5))
    assert spent_by([], 1.0, 1e-5) == 0.0


def test_a_plans_name_is_the_hash_of_all_that_it_says_in_any_order() -> None:
    assert digest({"a": 1, "b": [1.5]}) == digest({"b": [1.5], "a": 1})
    assert len({digest({"a": value}) for value in (1, 1.5, "1", None, [1])}) == 5


def test_a_line_pays_for_a_smaller_sum_and_nothing_else() -> None:
    paid = replace(BLOCK, noise_multiplier=9.0)
    assert paid.covers(paid)
    assert paid.covers(replace(paid, bound=3.0, size=59))
    changes = [{"bound": 4.1}, {"size": 61}, {"count": 201}, {"noise_multiplier": 8.9}, {"probability": 0.5}]
    for change in [*changes, {"holder": "x"}, {"name": "x"}, {"persons": HELD_OUT}, {"home": "payments"}]:
        assert not paid.covers(replace(paid, **change)), change
