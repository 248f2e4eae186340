"""What the joint fit may cost and reach, told beforehand: by the production classes, on rows of nobody."""

import json
from pathlib import Path

import pytest

from model.federation import load_federation
from server.planning import make_plan
from server.roster import planned
from simulations import bench_joint
from simulations.expectation import expect


def test_every_role_is_timed_and_the_shares_open_to_the_exact_products(capsys: pytest.CaptureFixture[str]) -> None:
    bench_joint.child(9000, 12, 3)  # more than one chunk
    cost = bench_joint.Cost(**json.loads(capsys.readouterr().out))
    assert (cost.persons, cost.columns) == (9000, 12)
    for seconds in (cost.seconds, cost.step_seconds):
        assert set(seconds) == {"dealer", "holders", "party 0", "party 1"}
        assert all(s > 0 for s in seconds.values())
    assert cost.bytes_a_person == 2 * 8 * 12


def test_shares_that_open_to_something_else_are_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_joint, "from_ring", lambda words: words.astype("int64") + 1)
    with pytest.raises(RuntimeError, match="exact products"):
        bench_joint.child(100, 6, 2)


@pytest.mark.parametrize("trust", ["secure", "curator"])
def test_less_noise_is_expected_to_reach_more(small: Path, trust: str) -> None:
    federation = load_federation(small)
    contracts = {h.domain: h.contract for h in federation.holders if h.contract}
    plan = make_plan(planned(federation, {"train": 8000, "held_out": 1000}), "moments", 0, trust)
    found = expect(plan, contracts, federation.lender.domain)
    assert 0.5 < found.noisy < found.exact < 0.75
