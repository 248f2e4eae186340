"""The book of the months: what must balance, what luck policies share, and what the worlds do to it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from model.descent import sigmoid
from model.limits.policy import load_policy
from simulations.months.accounts import TRIAL
from simulations.months.arrivals import draw_arrivals
from simulations.months.book import FIXED_FEN, LATE_LEVEL, LATE_SLOPE, Book, monthly
from simulations.months.engine import Engine
from simulations.months.evidence import fit_model
from simulations.months.policies import variants
from simulations.months.scenarios import SCENARIOS, Scenario, world_of

POLICY = load_policy()
VARIANTS = {variant.code: variant.policy for variant in variants(POLICY)}
MONTHS = 24


@pytest.fixture(scope="module")
def model():
    return fit_model(persons=30_000)


@pytest.fixture(scope="module")
def arrivals(model):
    return draw_arrivals(21, model, MONTHS, 1200)


@pytest.fixture(scope="module")
def books(arrivals, model):
    """Every policy in every scenario: the book as it ends, and its months by figure."""
    found = {}
    for code, policy in VARIANTS.items():
        for scenario in SCENARIOS.values():
            book = Book(arrivals, policy, model.bundle, world_of(scenario, POLICY))
            rows = book.run()
            found[code, scenario.code] = book, {name: np.array([row[name] for row in rows]) for name in rows[0]}
    return found


def test_profit_is_income_less_loss_and_costs(books) -> None:
    for _, months in books.values():
        parts = months["income"] - months["loss"] - months["fixed"] - months["queries"]
        assert months["profit"] == pytest.approx(parts)
        assert (months["fixed"] == FIXED_FEN * months["accounts"]).all()


def test_no_account_is_lost(books) -> None:
    """Whoever was ever approved is still there, or defaulted."""
    for _, months in books.values():
        places = [name for name in months if name.startswith("trial_r") and name[7:].isdigit()]
        here = sum(months[name] for name in (*places, "demoted", "seasoned", "standard", "frozen"))
        assert (here == np.cumsum(months["approved"]) - np.cumsum(months["defaults"])).all()
        assert (months["accounts"][1:] == here[:-1] + months["approved"][1:]).all()


def test_the_same_seed_gives_the_same_book(arrivals, model, books) -> None:
    again = Book(arrivals, POLICY, model.bundle, world_of(SCENARIOS["S3"], POLICY)).run()
    assert [row["profit"] for row in again] == books["E", "S3"][1]["profit"].tolist()


def test_declining_thin_files_approves_none_and_meets_no_fraud(books) -> None:
    for scenario in ("S0", "S3"):
        assert books["A", scenario][1]["thin_approved"].sum() == 0
    assert (books["A", "S0"][1]["profit"] == books["A", "S3"][1]["profit"]).all()


def test_before_anything_differs_two_worlds_have_the_same_luck(books) -> None:
    calm, shaken = books["E", "S0"][1], books["E", "S5"][1]
    assert (calm["defaults"][:18] == shaken["defaults"][:18]).all()
    assert shaken["defaults"][18:].sum() > 1.4 * calm["defaults"][18:].sum()


def test_where_scores_are_right_they_expect_the_loss(books) -> None:
    months = books["A", "S0"][1]
    assert months["expected_loss"].sum() / months["loss"].sum() == pytest.approx(1.0, abs=0.2)


def test_the_book_learns_how_much_thin_files_were_understated(books) -> None:
    right, understated = (books["E", code][0].shift for code in ("S0", "S1"))
    assert abs(right) < 0.2
    assert 0.4 < understated < 0.9
    assert (books["E", "S1"][1]["thin_shift"][:9] == 0).all()
    late = slice(12, None)
    approved = {code: books["E", code][1]["thin_approved"][late].sum() for code in ("S0", "S1")}
    assert approved["S1"] < 0.9 * approved["S0"]


def test_fraud_is_three_percent_of_thin_files_and_defaults_at_once(books) -> None:
    months = books["E", "S3"][1]
    more = months["thin_first_payment_defaults"].sum() - books["E", "S0"][1]["thin_first_payment_defaults"].sum()
    assert more / months["thin_approved"].sum() == pytest.approx(0.03, abs=0.01)


def test_a_small_limit_loses_less_to_fraud_than_a_full_one(books) -> None:
    lost = {code: books[code, "S3"][1]["loss"][:9].sum() - books[code, "S0"][1]["loss"][:9].sum() for code in "BCE"}
    assert lost["C"] < lost["E"] < lost["B"]


def test_trial_accounts_climb_rung_by_rung(books) -> None:
    """Two clean cycles a rung: nobody stands higher than that allows, and in the end many have left the ladder."""
    months = books["C", "S0"][1]
    for rung in range(1, 4):
        assert months[f"trial_r{rung}"][: 2 * rung - 1].sum() == 0
        assert months[f"trial_r{rung}"][2 * rung + 1] > 0
    assert months["graduated"][6] < 0.01 * months["trials_ever"][6]  # a few whose means allow no more than a rung
    assert 0.3 < months["graduated"][-1] / months["trials_ever"][-1] < 0.8


def test_no_trial_limit_is_above_the_top_rung(books) -> None:
    ladder = books["E", "S0"][0].ladder
    assert ladder.limit[ladder.stage == TRIAL].max() <= POLICY.trial.rungs_fen[-1]


@pytest.mark.parametrize(
    ("cycles", "clean", "one_late", "more"), [(3, 6.0, 12.0, 22.8), (6, 5.5, 10.4, 21.2), (12, 4.7, 8.3, 17.1)]
)
def test_repayment_tells_of_thin_files_what_it_should(model, cycles, clean, one_late, more) -> None:
    """The learning table of limit.md section 1.11: PD of the next year in %, by what the first cycles were like."""
    arrivals = draw_arrivals(3, model, 1, 100_000)
    scored = sigmoid(Engine(POLICY, model.bundle).z_e6(arrivals.cases) / 1e6)
    rows = arrivals.thin(2, 12) & (scored > 0.03) & (scored < 0.13)
    risk = arrivals.people.logit_pd[rows]
    pd, late = sigmoid(risk), sigmoid(LATE_LEVEL + LATE_SLOPE * risk)
    alive = (1 - monthly(pd)) ** cycles
    none, one = alive * (1 - late) ** cycles, alive * cycles * late * (1 - late) ** (cycles - 1)
    found = [100 * (pd * w).sum() / w.sum() for w in (none, one, alive - none - one)]
    assert found == pytest.approx([clean, one_late, more], rel=0.12)


def test_fewer_defaults_by_points_bring_more_profit(arrivals, model, books) -> None:
    world = world_of(SCENARIOS["S3"], POLICY, reward_logit=-0.2)
    months = Book(arrivals, POLICY, model.bundle, world).run()
    assert sum(row["profit"] for row in months) > books["E", "S3"][1]["profit"].sum()


def test_dearer_money_is_paid_by_every_policy_alike(arrivals, model) -> None:
    world = world_of(SCENARIOS["S0"], POLICY)
    dear = replace(world, economics=replace(world.economics, fund_cost_bp=800))
    cheap, costly = (Book(arrivals, POLICY, model.bundle, w).run() for w in (world, dear))
    assert [row["loss"] for row in cheap] == [row["loss"] for row in costly]
    gap = sum(a["income"] - b["income"] for a, b in zip(cheap, costly, strict=True))
    assert gap == pytest.approx(0.05 / 12 * sum(row["drawn"] for row in cheap), rel=0.05)


def test_a_world_of_fraud_alone_needs_no_other_cause(arrivals, model) -> None:
    everyone = Scenario("X", "", "", fraud_share=1.0)
    months = Book(arrivals, VARIANTS["B"], model.bundle, world_of(everyone, POLICY)).run()
    assert sum(row["thin_first_payment_defaults"] for row in months) == sum(row["thin_approved"] for row in months)
