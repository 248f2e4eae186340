"""What no private sweep is made of: refused in one line, before anything is charged or written."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from model.inputs import InputError
from simulations.sweep.private import PrivateSweep, private_sweep

SHOP_2 = """[[partner]]
name = "shop-2"
domain = "ecommerce"
data = "ecommerce-2.csv"
contract = "ecommerce.contract.toml"
"""


def _asked(federation: Path, place: Path, **changes: Any) -> PrivateSweep:
    given = {"out": place / "out", "ledger": place / "ledger", "epsilon": 0.6, "arms": ("apart", "apart-equal")}
    return PrivateSweep(str(federation), **{**given, **changes})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"epsilon": math.inf}, "--epsilon must be finite in a private sweep"),
        ({"select": "best"}, "--select must be auto | once | poisson | geometric"),
        ({"arms": ("apart",)}, "--arms leaves nothing to select from"),
        ({"arms": ("apart", "apart")}, "--arms leaves nothing to select from"),
        ({"arms": ("apart", "own-block")}, "--arms is no private run of ours"),
        ({"arms": ("apart", "trees")}, "--arms"),
        ({"arms": ("apart", "joint")}, "joint at epsilon 0.4"),
    ],
)
def test_what_cannot_be_swept_privately_is_refused_before_anything_is_charged(
    small: Path, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError) as refused:
        private_sweep(_asked(small, tmp_path, **changes))
    assert words in str(refused.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("old", "new", "arm", "words"),
    [
        ("[federation]", "[federation]\nuse-protected = true", "joint-protected", "--arms cannot be run"),
        ("delta = 1e-5", "delta = 1e-5\nlabel-epsilon = 0.3", "home", "takes Gaussian noise on full batches only"),
        (SHOP_2, "", "home", "--arms divides one partner among two that nobody can charge"),
    ],
)
def test_federations_that_an_arm_is_nothing_for_are_refused(
    files: Any, tmp_path: Path, old: str, new: str, arm: str, words: str
) -> None:
    files.toml(old, new)
    with pytest.raises(InputError) as refused:
        private_sweep(PrivateSweep(str(files.federation), tmp_path / "out", tmp_path / "ledger", 0.6, ("apart", arm)))
    assert words in str(refused.value)
    assert {path.name for path in tmp_path.iterdir()} == {"sample"}


def test_ledgers_in_the_output_and_an_older_output_are_refused(small: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must not lie in --out"):
        _asked(small, tmp_path, ledger=tmp_path / "out" / "ledger")
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match="exists already"):
        _asked(small, tmp_path)
