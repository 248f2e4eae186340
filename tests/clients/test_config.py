"""A node's own configuration: whom it plays, where its state lies, and that a run cannot raise its ceiling."""

import math
from dataclasses import replace
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


@pytest.mark.parametrize("name", ["lender", "shop-1", "nobody"])
def test_a_node_never_plays_a_holder_that_it_is_not(small: Path, name: str) -> None:
    node = replace(Node.of({"num-partitions": 1}, {"federation": str(small)}, 1), holders=("pay-1",))
    with pytest.raises(InputError, match="is not played by this node"):
        node.holder(name)


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
    with pytest.raises(InputError, match="node is missing"):
        Node.of({"nod": "pay-1/node.toml"}, {"federation": str(small), "epsilon": "inf"}, 1)
