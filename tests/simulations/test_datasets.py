"""Benchmark sets: every one has a federation file that loads, and `sba_milder` cuts the data of `sba_national` anew."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from model.federation import load_federation
from model.inputs import InputError
from simulations.datasets import FEDERATIONS, find

ROOT = Path(__file__).parents[3] / "shared" / "data"
SETS = sorted(path.parent.name for path in FEDERATIONS.glob("*/federation.toml"))


@pytest.mark.parametrize("name", SETS)
def test_every_set_loads(name: str) -> None:
    assert load_federation(FEDERATIONS / name / "federation.toml").partners


@pytest.mark.parametrize(("name", "folder"), [("sba_milder", "sba_national"), ("uci_default", "uci_default")])
def test_a_set_is_found_where_its_data_are(tmp_path: Path, name: str, folder: str) -> None:
    assert find(name, tmp_path) is None
    (tmp_path / folder).mkdir()
    (tmp_path / folder / "labels.parquet").touch()
    found = find(name, tmp_path)
    assert found is not None
    assert (found.name, found.federation.parent.name, found.data) == (name, name, tmp_path / folder)


def test_an_unknown_set_is_met_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="sba_milder, sba_national, uci_default"):
        find("sba", tmp_path)


def test_the_milder_set_has_the_contracts_of_the_whole_one_and_its_own_cut() -> None:
    milder, whole = (load_federation(FEDERATIONS / name / "federation.toml") for name in ("sba_milder", "sba_national"))
    assert [h.contract for h in milder.holders] == [h.contract for h in whole.holders]
    found = find("sba_milder", ROOT)
    if found is None or milder.cut is None or milder.cut.test_before is None:
        pytest.skip("sba_national is not under shared/data")
    day = pl.read_parquet(found.data / "labels.parquet", columns=[milder.cut.column])[milder.cut.column].cast(pl.Date)
    train, before = (day < milder.cut.train_before).sum(), (day < milder.cut.test_before).sum()
    assert (train, before - train) == (288_047, 68_195)
