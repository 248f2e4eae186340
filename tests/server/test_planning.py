"""The plan of a run: it sums to epsilon however the shares fall, from public facts alone."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from model.federation import load_federation
from model.inputs import InputError
from privacy.accounting import epsilon_of
from server.planning import FUSION_SHARE, layout_of, line_name, make_plan, order_of
from server.roster import Member, Roster, Terms

SIZES = {"train": 5000, "held_out": 2000}
HOLDERS = ("lender", "pay-1", "shop-1", "shop-2", "tax-1")


def _roster(
    federation: Path, shares: Mapping[str, float] | None = None, epsilon: float = 1.0, delta: float = 1e-5
) -> Roster:
    loaded = load_federation(federation)
    members = {h.name: Member(h.name, i, h.domain, h.contract, "") for i, h in enumerate(loaded.holders)}
    names = tuple(p.name for p in loaded.partners)
    terms = Terms("programme", loaded.name, epsilon, delta, shares or loaded.shares, names, "continue")
    return Roster(members, terms)


def _share(plan: Any, name: str) -> float:
    releases = [r for r in plan.plan.releases if r.name.endswith(f"/{name}") or r.name.startswith(f"{name}/")]
    mu = sum(r.event.mu_squared for r in releases)
    return float(mu / sum(r.event.mu_squared for r in plan.plan.releases))


@pytest.mark.parametrize("epsilon", [0.01, 0.1, 0.5, 1.0, 3.0, 8.0, 20.0])
@pytest.mark.parametrize("engine", ["scorecard"])
def test_all_releases_together_spend_just_the_budget(small: Path, epsilon: float, engine: str) -> None:
    plan = make_plan(_roster(small, epsilon=epsilon), SIZES, engine, 0)
    spent = epsilon_of([r.event for r in plan.plan.releases], 1e-5)
    assert 0.99 * epsilon < spent <= epsilon
    assert plan.plan.spent() <= epsilon * (1 + 1e-9)


@pytest.mark.parametrize("delta", [1e-3, 1e-5, 1e-7, 1e-9])
def test_a_budget_is_kept_at_every_usual_delta(small: Path, delta: float) -> None:
    plan = make_plan(_roster(small, delta=delta), SIZES, "scorecard", 0)
    assert 0.99 < plan.plan.spent() <= 1 + 1e-9


@pytest.mark.slow
def test_sampled_releases_spend_just_the_budget_too(small: Path) -> None:
    plan = make_plan(_roster(small, epsilon=3.0), SIZES, "network", 0)
    assert {r.probability for r in plan.plan.releases if not r.name.startswith("fusion")} == {2048 / 5000}
    assert 0.97 * 3 < plan.plan.spent() <= 3.0


def test_by_default_fusion_gets_a_tenth_and_blocks_share_by_their_rows_norm(small: Path) -> None:
    roster = _roster(small)
    plan = make_plan(roster, SIZES, "scorecard", 0)
    assert _share(plan, "fusion") == pytest.approx(FUSION_SHARE, rel=1e-6)
    weight = {m.name: m.encoding.row_norm**2 for m in roster.training()}
    for name in HOLDERS:
        expected = (1 - FUSION_SHARE) * weight[name] / sum(weight.values())
        assert _share(plan, name) == pytest.approx(expected, rel=1e-6)


SHARES = [{"pay-1": 5.0}, {"fusion": 3.0, "lender": 1.0}, dict.fromkeys((*HOLDERS, "fusion"), 7.0), {"tax-1": 1e-6}]


@pytest.mark.parametrize("shares", SHARES)
def test_given_shares_are_followed_and_still_sum_to_the_budget(small: Path, shares: dict[str, float]) -> None:
    plan = make_plan(_roster(small, shares), SIZES, "scorecard", 0)
    default = make_plan(_roster(small), SIZES, "scorecard", 0)
    whole = sum(shares.get(name, _share(default, name)) for name in (*HOLDERS, "fusion"))
    for name in (*HOLDERS, "fusion"):
        assert _share(plan, name) == pytest.approx(shares.get(name, _share(default, name)) / whole, rel=1e-6)
    assert 0.99 < plan.plan.spent() <= 1 + 1e-9


def test_a_share_of_an_unknown_name_is_refused_when_the_file_is_read(files: Any) -> None:
    files.toml("delta = 1e-5", "delta = 1e-5\nshares = { pay-2 = 0.5 }")
    with pytest.raises(InputError, match=r"privacy.shares.pay-2 is not a known key; did you mean 'pay-1'"):
        load_federation(files.federation)


def test_every_holder_has_one_line_and_the_lender_three_more_for_fusion(small: Path) -> None:
    plan = make_plan(_roster(small), SIZES, "scorecard", 0)
    names = [r.name for r in plan.plan.releases]
    blocks = ["lender_kyc/lender", "payments/pay-1", "ecommerce/shop-1", "ecommerce/shop-2", "tax_business/tax-1"]
    assert names == [*blocks, "fusion/centres", "fusion/weights", "fusion/calibration"]
    assert {r.holder for r in plan.plan.releases if r.name.startswith("fusion")} == {"lender"}
    assert all(plan.schedules[r.name].steps == r.count for r in plan.plan.releases)


def test_the_bound_of_a_line_is_the_row_norm_of_its_block(small: Path) -> None:
    roster = _roster(small)
    plan = make_plan(roster, SIZES, "scorecard", 0)
    for member in roster.training():
        assert plan.release(line_name(member)).bound == math.sqrt(len(member.encoding.parts) + 1)


def test_without_privacy_no_line_has_noise(small: Path) -> None:
    plan = make_plan(_roster(small, epsilon=math.inf), SIZES, "scorecard", 0)
    assert {r.noise_multiplier for r in plan.plan.releases} == {0.0}


@pytest.mark.parametrize(("asked", "rounds"), [(0, 4), (1, 1), (7, 7)])
def test_partners_that_share_a_domain_get_four_rounds_unless_told(small: Path, asked: int, rounds: int) -> None:
    assert make_plan(_roster(small), SIZES, "scorecard", asked).rounds == rounds


def test_domains_with_one_partner_each_need_one_round(small: Path) -> None:
    roster = _roster(small).without({"shop-2"})
    assert make_plan(roster, SIZES, "scorecard", 0).rounds == 1


def test_an_order_is_plain_data_and_divides_the_steps_over_its_rounds(small: Path) -> None:
    from clients.training import Order
    from model.descent import Schedule
    from privacy.plan import Release

    roster = _roster(small)
    plan = make_plan(roster, SIZES, "scorecard", 3)
    member = roster.members["shop-1"]
    steps = 0
    for number in (1, 2, 3):
        told = json.loads(json.dumps(order_of(plan, member, number, 2)))
        assert set(told) == {
            *("holder", "block", "release", "schedule", "engine", "round", "rounds", "persons", "holders"),
        }
        release, schedule = Release.from_dict(told["release"]), Schedule(**told["schedule"])
        steps += Order(release, schedule, "scorecard", number, 3, told["persons"], 2).steps
    assert steps == plan.schedules["ecommerce/shop-1"].steps == plan.release("ecommerce/shop-1").count


def test_fusion_without_a_lost_block_keeps_its_price(small: Path) -> None:
    plan = make_plan(_roster(small), SIZES, "scorecard", 0)
    fewer = plan.fusion(layout_of({"payments", "lender_kyc"}, "lender_kyc"))
    assert set(fewer) == {"centres", "weights", "calibration"}
    for part, line in fewer.items():
        before = plan.release(f"fusion/{part}")
        assert (line.noise_multiplier, line.count, line.name) == (before.noise_multiplier, before.count, before.name)
        assert line.size < before.size


def test_ten_domains_can_be_planned(small: Path) -> None:
    roster = _roster(small)
    one = roster.members["pay-1"]
    names = tuple(f"p{i}" for i in range(10))
    members = {n: Member(n, i, f"domain_{i}", one.contract, "") for i, n in enumerate(names)}
    terms = Terms("p", "f", 1.0, 1e-5, {}, names, "continue")
    plan = make_plan(Roster({**members, "lender": roster.lender}, terms), SIZES, "scorecard", 0)
    assert 0.99 < plan.plan.spent() <= 1 + 1e-9
