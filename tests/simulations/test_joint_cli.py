"""The joint fit from the command line: bad input is one line and exit 2; and Flower's own processes, slowly."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from simulations import flower
from simulations.run import Settings, simulate
from tests.joint_world import World, write_world


@pytest.fixture
def world(tmp_path: Path) -> World:
    return write_world(tmp_path / "made", epsilon="8.0")


def _federation(old: str, new: str) -> Any:
    def change(world: World) -> None:
        text = world.federation.read_text()
        assert old in text
        world.federation.write_text(text.replace(old, new, 1))

    return change


def _roles(text: str) -> Any:
    return _federation("[lender]", f"[roles]\n{text}\n[lender]")


def _outcome(world: World) -> None:
    table = pl.read_parquet(world.folder / "shop.parquet")
    table.with_columns(late=1 - pl.col("card")).write_parquet(world.folder / "shop.parquet")
    path = world.folder / "shopping.contract.toml"
    path.write_text(path.read_text().replace("version = 1", 'version = 1\noutcome = "late"', 1))


def _nothing(world: World) -> None:
    pass


BAD = {
    "trust local": (("--trust", "local"), _nothing, ["--trust", "apart", "scorecard"]),
    "unknown trust": (("--trust", "nobody"), _nothing, ["--trust", "secure | curator"]),
    "labels told": (
        (),
        _federation("epsilon = 8.0", "epsilon = 8.0\nlabel-epsilon = 1.0"),
        ["label-epsilon", "not need"],
    ),
    "own outcome": ((), _outcome, ["shop.contract: outcome", "scorecard"]),
    "typo in roles": ((), _roles('deler = "shop"'), ["roles", "deler"]),
    "unknown dealer": ((), _roles('dealer = "shop-9"'), ["roles.dealer", "shop-9"]),
    "dealer is the lender": ((), _roles('dealer = "lender"'), ["roles.dealer"]),
    "dealer is a party": ((), _roles('dealer = "shop"\nsecond-party = "shop"'), ["roles", "shop"]),
    "one operator, two roles": (
        (),
        _roles('dealer = "shop"\noperators = { shop = "A", lender = "A" }'),
        ["roles", "A"],
    ),
    "one operator, both parties": ((), _roles('operators = { coordinator = "A", lender = "A" }'), ["roles", "both"]),
    "operators no table": ((), _roles('operators = "A"'), ["roles.operators"]),
    "unknown operator": ((), _roles('operators = { shap = "A" }'), ["roles.operators", "shap"]),
}


@pytest.mark.parametrize(("arguments", "change", "words"), BAD.values(), ids=BAD.keys())
def test_bad_input_is_one_line_and_nothing_is_written(
    world: World, run_cli: Any, tmp_path: Path, arguments: tuple[str, ...], change: Any, words: list[str]
) -> None:
    change(world)
    command = ("simulate", world.federation, "--engine", "moments", "--out", tmp_path / "out", "--quiet", *arguments)
    ended = run_cli(*command, "--ledger", tmp_path / "ledger")
    assert (ended.code, len(ended.lines), ended.out) == (2, 1, "")
    assert not [word for word in words if word not in ended.err], ended.err
    assert not (tmp_path / "out").exists()
    assert not list((tmp_path / "ledger").rglob("ledger.db"))


def test_another_second_party_and_dealer_may_be_named(world: World, tmp_path: Path) -> None:
    _roles('second-party = "pay-1"\ndealer = "lender"'.replace('"lender"', '"pay-2"'))(world)
    report = simulate(Settings(world.federation, tmp_path / "out", engine="moments")).report
    assert report["failures"] == {}


@pytest.mark.slow
def test_flowers_own_processes_fit_the_same(files: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without noise and without homes to draw nothing is left to chance: both publish the same model."""
    monkeypatch.setattr(flower, "RUN_SECONDS", 420.0)
    federation = files.federation
    head, *partners = federation.read_text().split("[[partner]]")
    federation.write_text("[[partner]]".join([head, *(p for p in partners if '"shop-2"' not in p)]))
    models = {}
    for backend in ("inprocess", "flower"):
        out = tmp_path / backend
        report = simulate(Settings(federation, out, engine="moments", backend=backend, epsilon=float("inf"))).report
        assert report["failures"] == {}
        bundle = json.loads((out / "model" / "bundle.json").read_text())
        models[backend] = (bundle["arrays_sha256"], bundle["fusion"], report["auc"])
    assert models["flower"] == models["inprocess"]
