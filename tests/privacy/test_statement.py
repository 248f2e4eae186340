"""The privacy statement: what it must name, and that it never shows less than was spent."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.plan import EVERYBODY, Plan, Release, price
from privacy.roles import COORDINATOR, MOMENTS, REFINE, Joint, Roles
from privacy.statement import statement

DERANDOMIZED = settings(derandomize=True, deadline=None, max_examples=60, database=None)
LINES = (
    Release("payments/pay-1", "pay-1", 4.0, 60, 200, 0.6),
    Release("fusion/centres", "lender", 1.5, 6, 1, 0.1),
    Release("fusion/weights", "lender", 1.5, 20, 300, 0.3),
)


@pytest.fixture(scope="module")
def plan() -> Plan:
    return price(LINES, 1.0, 1e-5)


def test_it_names_unit_relation_and_delta(plan: Plan) -> None:
    told = statement(plan, 20_000)
    assert "person, over all partners and all releases" in told["unit"]
    assert "zero-out" in told["relation"]
    assert "null rows" in told["relation"]
    assert told["delta"] == 1e-5
    assert told["persons_times_delta"] == pytest.approx(0.2)
    assert told["discrete_noise_slack"] == {"epsilon": plan.slack[0], "delta": plan.slack[1]}
    assert min(plan.slack) > 0


PAIRS = ["coordinator + a partner", "coordinator + lender", "lender + a partner", "two partners"]


def test_every_observer_has_what_it_sees_and_the_whole_epsilon(plan: Plan) -> None:
    rows = statement(plan, 100)["observers"]
    assert [r["observer"] for r in rows] == ["coordinator", "partners", "lender", "outsiders", *PAIRS]
    assert {r["epsilon"] for r in rows} == {"1.000"}
    sees = {r["observer"]: r["sees"] for r in rows}
    assert all("not covered" in sees[who] for who in ("partners", "lender"))
    assert "ciphertexts" in sees["coordinator"]
    assert "published model" in sees["outsiders"]


@pytest.mark.parametrize(
    "left_out",
    ["labels", "sub-scores", "presence in the alignment", "coordinator that deviates", "pooling"],
)
def test_it_says_what_is_not_covered(plan: Plan, left_out: str) -> None:
    assert [line for line in statement(plan, 100)["not_covered"] if left_out in line]


@DERANDOMIZED
@given(noise=st.lists(st.floats(1.0, 500.0), min_size=1, max_size=4), delta=st.sampled_from([1e-4, 1e-6]))
def test_the_epsilon_shown_is_never_below_what_the_plan_spends(noise: list[float], delta: float) -> None:
    lines = tuple(Release(f"l{i}", f"h{i}", 2.0, 5, 7, 1.0, noise_multiplier=z) for i, z in enumerate(noise))
    plan = Plan(lines, 1.0, delta)
    told = statement(plan, 100)
    spent = plan.spent()
    for shown, coarse in ((float(told["epsilon_shown"]), 1e-3), (told["epsilon"], 1e-6)):
        assert spent - 1e-11 <= shown < spent + coarse + 1e-9  # 1e-12 of float's own rounding is let pass
    assert {float(row["epsilon"]) for row in told["observers"]} == {float(told["epsilon_shown"])}
    for i, line in enumerate(lines):
        assert float(told["by_holder"][f"h{i}"]) >= plan.spent([line.name]) - 1e-11


def test_each_holders_lines_are_added_up(plan: Plan) -> None:
    told = statement(plan, 100)["by_holder"]
    assert sorted(told) == ["lender", "pay-1"]
    assert float(told["lender"]) == pytest.approx(plan.spent(["fusion/centres", "fusion/weights"]), abs=1e-3)
    assert float(told["lender"]) > plan.spent(["fusion/weights"]) + 0.02


def test_it_tells_the_accountant(plan: Plan) -> None:
    assert "closed form" in statement(plan, 100)["accounting"]
    sampled = price([Release("net", "pay-1", 3.0, 50, 100, 1.0, probability=0.1)], 1.0, 1e-5)
    assert "PLD" in statement(sampled, 100)["accounting"]


def test_without_privacy_it_says_inf_in_text_everywhere() -> None:
    told = statement(price(LINES, math.inf, 1e-5), 100)
    assert (told["epsilon"], told["epsilon_shown"]) == ("inf", "inf")
    assert {row["epsilon"] for row in told["observers"]} == {"inf"}
    json.dumps(told, allow_nan=False)


def test_it_is_plain_data(plan: Plan) -> None:
    told = statement(plan, 100)
    assert json.loads(json.dumps(told, allow_nan=False)) == told


@pytest.mark.parametrize("trust", ["secure", "curator"])
def test_a_joint_fit_names_its_roles_and_every_pair_that_must_not_collude(trust: str) -> None:
    blocks = {"": (("lender",), 5), "payments": (("pay-1",), 9), "ecommerce": (("shop-1", "shop-2"), 7)}
    joint = Joint(trust, Roles((COORDINATOR, "lender"), "shop-1"), blocks, 1000)
    lines = (Release(MOMENTS, EVERYBODY, 9.0, 231, 1, 0.4), Release(REFINE, EVERYBODY, 4.0, 20, 3, 0.6))
    told = statement(price(lines, 1.0, 1e-5), 20_000, joint)
    seen = {row["observer"]: row["sees"] for row in told["observers"]}
    assert told["by_holder"] == {"all together": told["epsilon_shown"]}
    assert told["roles"] == {"parties": [COORDINATOR, "lender"], "dealer": "shop-1"}
    assert any("home" in text for text in told["not_covered"])  # two shops: their rows are added up
    if trust == "curator":
        assert seen[COORDINATOR].startswith("every row (not covered)")
        return
    assert told["labels"].startswith("never leave the lender")
    pairs = ("coordinator + lender", "shop-1 + coordinator, shop-1 + lender")
    assert all(seen[pair].startswith("every person's row (not covered)") for pair in pairs)
    assert "less noise than claimed" in seen["two other holders"]
    assert any("less of it than is claimed" in text for text in told["collusion"])
    assert any("falsifies its opening" in text for text in told["not_covered"])
