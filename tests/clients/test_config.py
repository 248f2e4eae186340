"""A node's own configuration: whom it plays, where its state lies, and that a run cannot raise its ceiling."""

import math
from pathlib import Path
from typing import Any

import pytest

from clients.config import Node, run_budget, run_federation
from model.federation import load_federation
from model.inputs import InputError

NAMES = ("lender", "pay-1", "shop-1", "shop-2", "tax-1")


@pytest.mark.parametrize("nodes", [1, 2, 3, 5, 9])
def test_every_holder_is_played_by_exactly_one_node_of_a_simulation(small: Path, nodes: int) -> None:
    config = {"federation": str(small)}
    played = [Node.of({"partition-id": i, "num-partitions": nodes}, config, 1).holders for i in range(nodes)]
    assert sorted(name for names in played for name in names) == sorted(NAMES)


def test_a_real_node_plays_just_the_holder_it_is_told(small: Path, tmp_path: Path) -> None:
    node = Node.of({"federation": str(small), "holder": "pay-1", "state": str(tmp_path)}, {}, 1)
    assert (node.holders, node.simulated, node.epsilon, node.programme) == (("pay-1",), False, 1.0, "sample")


@pytest.mark.parametrize("name", ["lender", "shop-1", "nobody"])
def test_a_node_never_plays_a_holder_that_it_is_not(small: Path, tmp_path: Path, name: str) -> None:
    node = Node.of({"federation": str(small), "holder": "pay-1", "state": str(tmp_path)}, {}, 1)
    with pytest.raises(InputError, match="is not played by this node"):
        node.holder(name)


def test_a_real_node_that_names_nobody_of_the_federation_is_refused(small: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not in this federation"):
        Node.of({"federation": str(small), "holder": "pay-9", "state": str(tmp_path)}, {}, 1)


@pytest.mark.parametrize("run", [{"epsilon": "inf"}, {"epsilon": "100"}, {"epsilon": 100.0, "delta": "0.5"}])
def test_a_runs_budget_never_reaches_a_real_node(small: Path, tmp_path: Path, run: dict[str, Any]) -> None:
    own = {"federation": str(small), "holder": "pay-1", "state": str(tmp_path), "epsilon": 0.3}
    node = Node.of(own, run, 1)
    assert (node.epsilon, node.delta) == (0.3, 1e-5)


@pytest.mark.parametrize("epsilon", ["inf", math.inf, 0, -1.0, "nan", "much", True])
def test_a_real_nodes_ceiling_must_be_finite_and_positive(small: Path, tmp_path: Path, epsilon: Any) -> None:
    own = {"federation": str(small), "holder": "pay-1", "state": str(tmp_path), "epsilon": epsilon}
    with pytest.raises(InputError, match="node configuration: epsilon must be"):
        Node.of(own, {}, 1)


def test_a_federation_without_privacy_runs_on_no_real_node(files: Any, tmp_path: Path) -> None:
    files.toml("epsilon = 1.0", "epsilon = inf")
    with pytest.raises(InputError, match="must be finite outside a simulation"):
        Node.of({"federation": str(files.federation), "holder": "pay-1", "state": str(tmp_path)}, {}, 1)


@pytest.mark.parametrize("missing", ["federation", "state"])
def test_a_real_node_without_a_needed_key_is_refused(small: Path, tmp_path: Path, missing: str) -> None:
    own = {"federation": str(small), "holder": "pay-1", "state": str(tmp_path)}
    del own[missing]
    with pytest.raises((InputError, KeyError)):
        Node.of(own, {}, 1)


@pytest.mark.parametrize(("key", "value"), [("seed", -1), ("seed", "x"), ("seed", True), ("epsilon", "-1")])
def test_a_wrong_run_configuration_is_refused_by_key(small: Path, key: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"run configuration: {key} must be"):
        Node.of({"num-partitions": 1}, {"federation": str(small), key: value}, 1)


@pytest.mark.parametrize(("given", "epsilon"), [("", 1.0), ("2.5", 2.5), (2, 2.0), ("inf", math.inf)])
def test_a_simulations_budget_is_the_runs_or_else_the_files(small: Path, given: Any, epsilon: float) -> None:
    assert run_budget(load_federation(small), {"epsilon": given})[0] == epsilon


def test_state_lies_in_the_output_folder_one_folder_a_holder(small: Path, tmp_path: Path) -> None:
    node = Node.of({"num-partitions": 1}, {"federation": str(small), "out": str(tmp_path)}, 1)
    assert node.folder("pay-1") == tmp_path / "nodes" / "pay-1"
    assert node.folder("pay-1").is_dir()


def test_without_an_output_folder_two_runs_have_states_of_their_own(small: Path) -> None:
    one, two = (Node.of({"num-partitions": 1}, {"federation": str(small)}, run) for run in (11, 12))
    assert one.state != two.state
    assert one.programme != two.programme


def test_without_a_federation_the_embedded_sample_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    federation = run_federation({})
    assert federation.name == "sample"
    assert federation.path.parent.parent == tmp_path


def test_data_may_lie_in_another_folder_than_the_federation_file(small: Path, tmp_path: Path) -> None:
    federation = run_federation({"federation": str(small), "data": str(tmp_path)})
    assert {path.parent for holder in federation.holders for path in holder.data} == {tmp_path}
    assert federation.path == small


def test_a_node_without_a_holder_is_never_taken_for_a_simulation(small: Path) -> None:
    """A misspelt key must not let a run choose the files, the budget and even no noise at all."""
    with pytest.raises(InputError, match="holder is missing"):
        Node.of({"holdr": "pay-1"}, {"federation": str(small), "epsilon": "inf"}, 1)


def test_a_real_nodes_split_is_not_the_runs_to_choose(small: Path, tmp_path: Path) -> None:
    own = {"federation": str(small), "holder": "lender", "state": str(tmp_path), "seed": 3}
    assert Node.of(own, {"seed": 77}, 1).seed == 3
