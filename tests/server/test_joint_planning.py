"""The plan of a joint fit from public facts: who computes it, what `auto` takes, what is refused beforehand."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from model.federation import load_federation
from model.inputs import InputError
from model.link import SCALE, STEPS
from model.moments import UNIT
from privacy.plan import EVERYBODY, digest
from privacy.refining import SIZE
from privacy.ring import largest_persons
from privacy.roles import MOMENTS, REFINE
from server.planning import RunPlan, make_plan
from server.resuming import Standing
from server.roster import Member, Roster, Terms

SIZES = {"train": 5000, "held_out": 2000}


def _roster(federation: Path, epsilon: float = 1.0, train: int = 5000, **roles: Any) -> Roster:
    loaded = load_federation(federation)
    members = {h.name: Member(h.name, i, h.domain, h.contract, "") for i, h in enumerate(loaded.holders)}
    names = tuple(p.name for p in loaded.partners)
    privacy = replace(loaded.privacy, epsilon=epsilon)
    sizes = {**SIZES, "train": train}
    return Roster(members, Terms("programme", loaded.name, privacy, epsilon, names, "continue", sizes, roles))


def _lines(plan: RunPlan) -> list[str]:
    return [line.name for line in plan.plan.lines]


def test_everybody_together_pays_for_one_matrix_and_three_gradients(small: Path) -> None:
    plan = make_plan(_roster(small), "moments", 0)
    assert _lines(plan) == [MOMENTS, REFINE, "evaluation/scores"]
    assert [(line.holder, line.count) for line in plan.plan.releases[:2]] == [(EVERYBODY, 1), (EVERYBODY, 3)]
    assert 0.999 < plan.plan.spent([MOMENTS, REFINE]) <= 1.0
    assert plan.id == digest(plan.document)


@pytest.mark.parametrize(
    ("trust", "roles", "epsilon", "engine"),
    [
        ("secure", {}, 1.0, "moments"),
        ("curator", {}, 1.0, "moments"),
        ("local", {}, 1.0, "scorecard"),
        ("secure", {"operators": {"coordinator": "A", "lender": "A"}}, 1.0, "scorecard"),
        ("secure", {}, 0.01, "scorecard"),
    ],
    ids=["secure", "curator", "trust", "roles", "too wide"],
)
def test_auto_fits_jointly_where_trust_roles_and_width_allow_it(
    small: Path, trust: str, roles: Any, epsilon: float, engine: str
) -> None:
    plan = make_plan(_roster(small, epsilon, **roles), "auto", 0, trust)
    assert plan.engine == engine
    assert (plan.joint is None) == (engine == "scorecard")


def test_a_contract_too_wide_for_its_budget_is_refused_with_what_to_drop(small: Path) -> None:
    with pytest.raises(InputError, match=r"columns are too many .* drop or merge values of the widest features: \w+"):
        make_plan(_roster(small, epsilon=0.01), "moments", 0)


def test_a_cohort_beyond_the_ring_is_refused_with_the_largest_that_fits(small: Path) -> None:
    most = largest_persons(SCALE * UNIT)
    with pytest.raises(InputError, match=rf"overflow the ring .* train on at most {most} persons"):
        make_plan(_roster(small, train=most + 1), "moments", 0)
    assert make_plan(_roster(small, train=most), "moments", 0).joint


def test_a_hidden_table_has_a_row_for_every_step_of_the_link() -> None:
    assert STEPS == SIZE


def test_a_new_attempt_at_the_same_goes_on_and_one_at_something_else_keeps_its_own(small: Path, tmp_path: Path) -> None:
    first, standing = Standing.of(tmp_path, make_plan(_roster(small), "moments", 0))
    other, beside = Standing.of(tmp_path, make_plan(_roster(small, epsilon=2.0), "moments", 0))
    again, same = Standing.of(tmp_path, make_plan(_roster(small), "moments", 0))
    assert (again.id, same.keys) == (first.id, standing.keys)
    assert other.id != first.id
    assert beside.keys != standing.keys
    assert same.path is not None
    assert same.path.stat().st_mode & 0o777 == 0o600
    same.done()
    assert Standing.of(tmp_path, make_plan(_roster(small), "moments", 0))[0].id != first.id
    assert Standing.of(tmp_path, make_plan(_roster(small, epsilon=2.0), "moments", 0))[0].id == other.id
