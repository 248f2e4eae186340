"""The plan of a run: it sums to epsilon however the shares fall, from public facts alone."""

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from model.federation import load_federation
from model.inputs import InputError
from model.terms import PrivacyTerms
from privacy.accounting import epsilon_of
from privacy.plan import HELD_OUT, TRAIN, BudgetExceeded, LabelResponse, digest, line_of
from server.planning import BINS_SHARE, FUSION_SHARE, line_name, make_plan
from server.roster import Member, Roster, Terms

SIZES = {"train": 5000, "held_out": 2000}
HOLDERS = ("lender", "pay-1", "shop-1", "shop-2", "tax-1")


def _roster(
    federation: Path, shares: Mapping[str, float] | None = None, epsilon: float = 1.0, delta: float = 1e-5, **more: Any
) -> Roster:
    loaded = load_federation(federation)
    members = {h.name: Member(h.name, i, h.domain, h.contract, "") for i, h in enumerate(loaded.holders)}
    names = tuple(p.name for p in loaded.partners)
    privacy = replace(loaded.privacy, epsilon=epsilon, delta=delta, shares=shares or loaded.privacy.shares, **more)
    terms = Terms("programme", loaded.name, privacy, epsilon, names, "continue", SIZES)
    return Roster(members, terms)


def _share(plan: Any, name: str) -> float:
    trained = [r for r in plan.plan.releases if r.persons == TRAIN]
    mu = sum(r.event.mu_squared for r in trained if r.name.endswith(f"/{name}") or r.name.startswith(f"{name}/"))
    return float(mu / sum(r.event.mu_squared for r in trained))


@pytest.mark.parametrize("epsilon", [0.01, 0.1, 0.5, 1.0, 3.0, 8.0, 20.0])
@pytest.mark.parametrize("engine", ["scorecard"])
def test_all_releases_together_spend_just_the_budget(small: Path, epsilon: float, engine: str) -> None:
    plan = make_plan(_roster(small, epsilon=epsilon), engine, 0)
    spent = epsilon_of([r.event for r in plan.plan.releases if r.persons == TRAIN], 1e-5)
    assert 0.99 * epsilon < spent <= epsilon
    assert plan.plan.spent() <= epsilon * (1 + 1e-9)


@pytest.mark.parametrize("delta", [1e-3, 1e-5, 1e-7, 1e-9])
def test_a_budget_is_kept_at_every_usual_delta(small: Path, delta: float) -> None:
    plan = make_plan(_roster(small, delta=delta), "scorecard", 0)
    assert 0.99 < plan.plan.spent() <= 1 + 1e-9


@pytest.mark.slow
def test_sampled_releases_spend_just_the_budget_too(small: Path) -> None:
    plan = make_plan(_roster(small, epsilon=3.0), "network", 0)
    assert {r.probability for r in plan.plan.releases if r.name in plan.schedules and "fusion" not in r.name} == {
        2048 / 5000
    }
    assert 0.97 * 3 < plan.plan.spent() <= 3.0


def test_by_default_fusion_gets_a_tenth_and_blocks_share_by_their_rows_norm(small: Path) -> None:
    roster = _roster(small)
    plan = make_plan(roster, "scorecard", 0)
    assert _share(plan, "fusion") == pytest.approx(FUSION_SHARE, rel=1e-6)
    weight = {m.name: m.encoding.row_norm**2 for m in roster.training()}
    for name in HOLDERS:
        expected = (1 - FUSION_SHARE) * weight[name] / sum(weight.values())
        assert _share(plan, name) == pytest.approx(expected, rel=1e-6)


SHARES = [{"pay-1": 5.0}, {"fusion": 3.0, "lender": 1.0}, dict.fromkeys((*HOLDERS, "fusion"), 7.0), {"tax-1": 1e-6}]


@pytest.mark.parametrize("shares", SHARES)
def test_given_shares_are_followed_and_still_sum_to_the_budget(small: Path, shares: dict[str, float]) -> None:
    plan = make_plan(_roster(small, shares), "scorecard", 0)
    default = make_plan(_roster(small), "scorecard", 0)
    whole = sum(shares.get(name, _share(default, name)) for name in (*HOLDERS, "fusion"))
    for name in (*HOLDERS, "fusion"):
        assert _share(plan, name) == pytest.approx(shares.get(name, _share(default, name)) / whole, rel=1e-6)
    assert 0.99 < plan.plan.spent() <= 1 + 1e-9


def test_a_share_of_an_unknown_name_is_refused_when_the_file_is_read(files: Any) -> None:
    files.toml("delta = 1e-5", "delta = 1e-5\nshares = { pay-2 = 0.5 }")
    with pytest.raises(InputError, match=r"privacy.shares.pay-2 is not a known key; did you mean 'pay-1'"):
        load_federation(files.federation)


def test_every_holder_has_a_block_and_its_reasons_and_the_lender_fusion_and_evaluation(small: Path) -> None:
    plan = make_plan(_roster(small), "scorecard", 0)
    names = [r.name for r in plan.plan.releases]
    blocks = ["lender_kyc/lender", "payments/pay-1", "ecommerce/shop-1", "ecommerce/shop-2", "tax_business/tax-1"]
    with_reasons = [name for block in blocks for name in (block, f"reasons/{block.partition('/')[2]}")]
    assert names == [*with_reasons, "fusion/centres", "fusion/weights", "fusion/calibration", "evaluation/scores"]
    assert {r.holder for r in plan.plan.releases if r.name.startswith(("fusion", "evaluation"))} == {"lender"}
    assert all(plan.schedules[r.name].steps == r.count for r in plan.plan.releases if r.name in plan.schedules)


def test_reasons_cost_a_hundredth_of_their_block(small: Path) -> None:
    mu = {r.name: r.event.mu_squared for r in make_plan(_roster(small), "scorecard", 0).plan.releases}
    assert mu["reasons/pay-1"] / (mu["reasons/pay-1"] + mu["payments/pay-1"]) == pytest.approx(0.01)
    assert not [
        r for r in make_plan(_roster(small, epsilon=math.inf), "network", 0).plan.releases if "reasons" in r.name
    ]


def test_held_out_persons_pay_the_whole_budget_for_the_evaluation_alone(small: Path) -> None:
    plan = make_plan(_roster(small), "scorecard", 0).plan
    assert [r.name for r in plan.releases if r.persons == HELD_OUT] == ["evaluation/scores"]
    assert 0.999 < plan.spent(["evaluation/scores"]) <= 1.0
    assert plan.spent() == pytest.approx(plan.spent([r.name for r in plan.releases if r.persons == TRAIN]))


def test_without_held_out_persons_nothing_is_evaluated(small: Path) -> None:
    roster = _roster(small)
    nobody = replace(roster, terms=replace(roster.terms, sizes={"train": 5000, "held_out": 0}))
    assert {r.persons for r in make_plan(nobody, "scorecard", 0).plan.releases} == {TRAIN}


def test_home_partners_are_charged_alike_and_a_person_pays_one_of_them(small: Path) -> None:
    overlap = make_plan(_roster(small), "scorecard", 0)
    home = make_plan(_roster(small, within_domain="home"), "scorecard", 0)
    shops = [r for r in home.plan.releases if r.home]
    assert {r.name for r in shops} == {f"{kind}/shop-{i}" for kind in ("ecommerce", "reasons") for i in (1, 2)}
    assert len({(r.count, r.noise_multiplier) for r in shops if r.name.startswith("ecommerce")}) == 1
    assert 0.999 < home.plan.spent() <= 1.0
    for name in ("payments/pay-1", "ecommerce/shop-1"):
        assert home.line(name).noise_multiplier < overlap.line(name).noise_multiplier  # type: ignore[union-attr]


def test_a_given_share_of_a_home_partner_is_its_domains(small: Path) -> None:
    given = make_plan(_roster(small, {"shop-1": 3.0}, within_domain="home"), "scorecard", 0)
    assert given.line("ecommerce/shop-1").noise_multiplier == given.line("ecommerce/shop-2").noise_multiplier  # type: ignore[union-attr]
    assert 0.999 < given.plan.spent() <= 1.0


@pytest.mark.parametrize("epsilon", [1.0, 4.0])
def test_told_labels_are_inside_epsilon_and_lengthen_partners_residuals(small: Path, epsilon: float) -> None:
    roster = _roster(small, epsilon=epsilon, label_epsilon=1.0)
    plan = make_plan(roster, "scorecard", 0)
    response = plan.plan.lines[0]
    assert isinstance(response, LabelResponse)
    assert 0.99 * epsilon < plan.plan.spent() <= epsilon
    assert plan.plan.spent(["labels/lender"]) == pytest.approx(math.log((1 + math.e) / 2), abs=2e-3)
    for member in roster.training():
        line = plan.line(line_name(member))
        stretch = 1.0 if member.name == "lender" else response.stretch
        assert line is not None
        assert line.bound == pytest.approx(member.encoding.row_norm * stretch)
    assert response.stretch == pytest.approx((math.e / (1 + math.e)) / (1 - 2 / (1 + math.e)))


def test_labels_that_cost_more_than_the_budget_are_refused(small: Path) -> None:
    with pytest.raises(BudgetExceeded, match="lower label-epsilon"):
        make_plan(_roster(small, epsilon=1.0, label_epsilon=3.0), "scorecard", 0)


def test_private_bins_are_priced_by_feature(files: Any) -> None:
    files.text("payments.contract.toml", 'kind = "numeric"', 'kind = "numeric"\nedges = "private"')
    plan = make_plan(_roster(files.federation), "scorecard", 0)
    line = plan.line("bins/pay-1")
    assert line is not None
    assert (line.size, line.bound, line.count) == (64, 1.0, 1)
    assert _share(plan, "bins") == pytest.approx(BINS_SHARE, rel=1e-6)
    wider = make_plan(_roster(files.federation, {"bins": 0.5}), "scorecard", 0)
    assert _share(wider, "bins") == pytest.approx(0.5, rel=1e-6)


def test_the_bound_of_a_line_is_the_row_norm_of_its_block(small: Path) -> None:
    roster = _roster(small)
    plan = make_plan(roster, "scorecard", 0)
    for member in roster.training():
        assert plan.line(line_name(member)).bound == math.sqrt(len(member.encoding.parts) + 1)


def test_without_privacy_no_line_has_noise(small: Path) -> None:
    plan = make_plan(_roster(small, epsilon=math.inf), "scorecard", 0)
    assert {r.noise_multiplier for r in plan.plan.releases} == {0.0}


@pytest.mark.parametrize(("asked", "rounds"), [(0, 4), (1, 1), (7, 7)])
def test_partners_that_share_a_domain_get_four_rounds_unless_told(small: Path, asked: int, rounds: int) -> None:
    assert make_plan(_roster(small), "scorecard", asked).rounds == rounds


def test_domains_with_one_partner_each_need_one_round(small: Path) -> None:
    roster = _roster(small).without({"shop-2"})
    assert make_plan(roster, "scorecard", 0).rounds == 1


def test_the_document_is_plain_data_and_rounds_divide_the_steps(small: Path) -> None:
    from clients.training import Order

    plan = make_plan(_roster(small), "scorecard", 3)
    document = json.loads(json.dumps(plan.document))
    assert digest(document) == plan.id
    assert [line_of(line) for line in document["lines"]] == list(plan.plan.lines)
    line = plan.line("ecommerce/shop-1")
    assert line is not None
    steps = sum(Order(plan, "ecommerce", number).steps(line.count) for number in (1, 2, 3))  # type: ignore[arg-type]
    assert steps == plan.schedules["ecommerce/shop-1"].steps == line.count


def test_two_equal_plans_are_two_plans(small: Path) -> None:
    first, second = (make_plan(_roster(small), "scorecard", 0) for _ in range(2))
    assert first.plan == second.plan
    assert first.id != second.id


def test_ten_domains_can_be_planned(small: Path) -> None:
    roster = _roster(small)
    one = roster.members["pay-1"]
    names = tuple(f"p{i}" for i in range(10))
    members = {n: Member(n, i, f"domain_{i}", one.contract, "") for i, n in enumerate(names)}
    terms = Terms("p", "f", PrivacyTerms(), 1.0, names, "continue", SIZES)
    plan = make_plan(Roster({**members, "lender": roster.lender}, terms), "scorecard", 0)
    assert 0.99 < plan.plan.spent() <= 1 + 1e-9
