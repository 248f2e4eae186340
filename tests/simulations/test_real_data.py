"""Quality on the public credit data, where they are: floors below the measured figures (docs/learner.md)."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from simulations.bench import quality, reference
from simulations.datasets import DataSet, find

ROOT = Path(__file__).parents[3] / "shared" / "data"
FLOORS = [("uci_default", 0.75), ("lending_club_2007_2011", 0.67)]


def _found(name: str) -> DataSet:
    data = find(name, ROOT)
    if data is None:
        pytest.skip(f"{name} is not under shared/data")
    return data


@pytest.mark.slow
@pytest.mark.parametrize(("name", "floor"), FLOORS)
def test_the_whole_chain_at_epsilon_one_stays_above_its_floor(name: str, floor: float) -> None:
    (cell,) = quality(_found(name), [1.0], seeds=3)
    assert cell.auc > floor
    assert cell.lender_only is not None
    assert cell.auc > cell.lender_only


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, _ in FLOORS])
def test_without_noise_the_chain_is_within_three_thousandths_of_scikit_learn_on_the_same_blocks(name: str) -> None:
    data = _found(name)
    (cell,) = quality(data, [math.inf], seeds=1)
    assert cell.auc > reference(data).apart - 0.003
