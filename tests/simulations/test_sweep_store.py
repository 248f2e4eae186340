"""The folder of a sweep: the same question only, one writer, and tables that are the same bytes however often made."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from model.federation import load_federation
from model.inputs import InputError
from simulations.sweep.rows import CURVES, RESULTS
from simulations.sweep.sources import files_of, fingerprints
from simulations.sweep.store import SCHEMA, Store, plain

ASKED: dict[str, Any] = {
    "arms": ["joint"],
    "epsilons": [1.0, math.inf],
    "versions": {"fedscore": "1", "polars": "1"},
    "notes": ["a note is no question"],
    "sets": {"b": {"federation file": "0a"}, "a": {"federation file": "1b", "lender, data labels.parquet": "2c"}},
}


def _changed(name: str, files: dict[str, str]) -> dict[str, Any]:
    return {"sets": {**ASKED["sets"], name: {**ASKED["sets"][name], **files}}}


def _cell(epsilon: float, seed: int, **result: Any) -> dict[str, Any]:
    row = {"set": "s", "arm": "joint", "epsilon": epsilon, "seed": seed, "error": "", **result}
    points = [
        {"curve": "scores", "group": g, "at": at, "value": 0.1 + at} for g in ("good", "bad") for at in (375.0, 350)
    ]
    return {"result": row, "curves": points, "took": 1.5}


CELLS = {
    "s.joint.0.5.0": _cell(0.5, 0, auc=0.7, versions='{"a": "1"}', protected=False),
    "s.joint.0.5.1": _cell(0.5, 1, auc=math.nan, epsilon_spent=0.5),
    "s.joint.inf.0": _cell(math.inf, 0, auc=1, error="died, said a long text"),
    "s.joint.10.0": _cell(10, 0, holders=3, bytes=2**40),
}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "sweep")


def _written(store: Store, order: list[str]) -> dict[str, bytes]:
    with store.opened(ASKED, force=True):
        for key in order:
            store.write_cell(key, CELLS[key])
        store.write_tables(CELLS)
    return {path.name: path.read_bytes() for path in sorted(store.out.glob("*.*"))}


def test_the_same_cells_give_the_same_bytes_whatever_order_they_came_in(store: Store) -> None:
    order = list(CELLS)
    first = _written(store, order)
    assert sorted(first) == ["curves.csv", "curves.parquet", "results.csv", "results.parquet", "sweep.json"]
    for _ in range(3):
        random.shuffle(order)
        assert _written(store, order) == first


def test_made_again_from_the_cells_the_tables_are_the_same_bytes(store: Store) -> None:
    first = _written(store, list(CELLS))
    store.write_tables(CELLS)
    assert {path.name: path.read_bytes() for path in sorted(store.out.glob("*.*"))} == first


def test_tables_have_every_column_of_the_schema_sorted_by_key(store: Store) -> None:
    _written(store, list(CELLS))
    results, curves = (pl.read_parquet(store.out / f"{name}.parquet") for name in ("results", "curves"))
    assert dict(results.schema) == {name: kind() for name, kind in RESULTS.items()}
    assert dict(curves.schema) == {name: kind() for name, kind in CURVES.items()}
    assert results.select("epsilon", "seed").rows() == [(0.5, 0), (0.5, 1), (10.0, 0), (math.inf, 0)]
    assert results["auc"].to_list() == [0.7, None, None, 1.0]  # no number is no value
    assert results["error"].to_list() == ["", "", "", "died, said a long text"]
    assert curves.filter(pl.col("epsilon") == 10).select("group", "at").rows() == [
        ("bad", 350.0), ("bad", 375.0), ("good", 350.0), ("good", 375.0),
    ]  # fmt: skip
    assert results["bytes"][2] == 2**40


def test_csv_says_what_parquet_says(store: Store) -> None:
    _written(store, list(CELLS))
    for name, schema in (("results", RESULTS), ("curves", CURVES)):
        table = pl.read_parquet(store.out / f"{name}.parquet")
        text = pl.read_csv(store.out / f"{name}.csv", schema=dict(schema))
        strings = [column for column, kind in schema.items() if kind == pl.String]
        assert text.with_columns(pl.col(strings).fill_null("")).equals(
            table.with_columns(pl.col(strings).fill_null(""))
        )


def test_a_file_that_is_no_whole_cell_is_none(store: Store) -> None:
    _written(store, list(CELLS))
    result = CELLS["s.joint.0.5.0"]["result"]
    texts = ["", "{}", "[]", '{"result": {', '{"result": {"error": ""}, "curves": [], "took": 1}']
    for change in ({"error": None}, {"seed": 1}, {"epsilon": "half"}, {"auc": "high"}, {"auc": [1]}, {"set": "t"}):
        texts.append(json.dumps({"result": {**result, **change}, "curves": [], "took": 1}))
    for change in ({"took": -1}, {"took": "1"}, {"took": math.nan}, {"curves": 1}, {"curves": [{"at": "x"}]}):
        texts.append(json.dumps({"result": result, "curves": [], "took": 1, **change}))
    for text in texts:
        (store.cells / "s.joint.0.5.0.json").write_text(text)
        assert sorted(store.done(CELLS)) == sorted(set(CELLS) - {"s.joint.0.5.0"}), text
        store.write_tables(CELLS)
        assert pl.read_parquet(store.out / "results.parquet").height == len(CELLS) - 1


def test_what_nobody_asked_for_is_in_no_table(store: Store) -> None:
    first = _written(store, list(CELLS))
    (store.cells / "s.joint.0.5.0 copy.json").write_bytes((store.cells / "s.joint.0.5.0.json").read_bytes())
    store.write_cell("s.apart.0.5.0", {**CELLS["s.joint.0.5.0"]})
    store.write_tables(CELLS)
    assert {path.name: path.read_bytes() for path in sorted(store.out.glob("*.*"))} == first


@pytest.mark.parametrize(("place", "rule"), [("cells", "is no folder"), ("cells/s.joint.0.5.0.json", "is a folder")])
def test_what_stands_in_the_way_is_one_line(store: Store, place: str, rule: str) -> None:
    store.out.mkdir()
    (store.out / "sweep.json").write_text(json.dumps(plain({"schema": SCHEMA, **ASKED})))
    if place == "cells":
        (store.out / place).touch()
    else:
        (store.out / place).mkdir(parents=True)
    with pytest.raises(InputError, match=f"{place}: {rule}"), store.opened(ASKED, force=False):
        store.done(CELLS)


@pytest.mark.parametrize("force", [True, False])
@pytest.mark.parametrize("text", ["[]", "{}", "paid for", '{"schema": "fedscore-private-sweep/1"}'])
def test_a_sweep_of_another_kind_is_neither_gone_on_with_nor_replaced(store: Store, text: str, force: bool) -> None:
    """A private sweep's model cannot be bought again."""
    (store.out / "model").mkdir(parents=True)
    (store.out / "sweep.json").write_text(text)
    with pytest.raises(InputError, match="exists already; give another --out"), store.opened(ASKED, force):
        pytest.fail("it was opened")
    assert sorted(path.name for path in store.out.iterdir()) == ["model", "sweep.json"]


@pytest.mark.parametrize("force", [True, False])
def test_a_sweep_whose_question_is_spoilt_can_only_be_replaced(store: Store, force: bool) -> None:
    _written(store, list(CELLS))
    (store.out / "sweep.json").write_text('{"sche')
    if force:
        with store.opened(ASKED, force):
            assert store.done(CELLS) == {}
    else:
        with pytest.raises(InputError, match=r"cannot be read as JSON; .* --force"), store.opened(ASKED, force):
            pytest.fail("it was opened")


def test_what_a_kill_leaves_of_its_first_file_does_not_stand_in_the_way(store: Store) -> None:
    store.out.mkdir()
    (store.out / ".sweep.json.x1_y.part").write_text('{"sche')
    with store.opened(ASKED, force=False):
        assert [path.name for path in store.out.iterdir() if path.is_file()] == ["sweep.json"]


def test_the_same_question_goes_on_where_it_was(store: Store) -> None:
    _written(store, list(CELLS))
    with store.opened({**ASKED, "sets": dict(reversed(ASKED["sets"].items())), "notes": []}, force=False):
        assert sorted(store.done(CELLS)) == sorted(CELLS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epsilons": [1.0]}, r"sweep\.json: epsilons differs from .* before, got \[1.0\]; ask for \[1.0, 'inf'\]"),
        ({"arms": ["joint", "apart"]}, r"arms differs from what was asked here before"),
        ({"sets": {"a": {}}}, r"sets differs from what was asked here before, got \['a'\]"),
        (_changed("a", {"lender, data labels.parquet": "33"}), "sets.a: lender, data labels.parquet has changed since"),
        (_changed("a", {"federation file": "33"}), "sets.a: federation file has changed since this sweep began"),
        ({"versions": {"polars": "2", "fedscore": "1"}}, "versions: polars has changed since this sweep began"),
        (_changed("b", {"policy": "1"}), "sets.b: policy has changed since this sweep began"),
    ],
)
def test_another_question_is_refused_and_names_what_differs(store: Store, change: dict[str, Any], message: str) -> None:
    before = _written(store, list(CELLS))
    with pytest.raises(InputError, match=message), store.opened({**ASKED, **change}, force=False):
        pytest.fail("it was opened")
    assert {path.name: path.read_bytes() for path in sorted(store.out.glob("*.*"))} == before


def test_force_replaces_a_sweep_and_nothing_else(store: Store, tmp_path: Path) -> None:
    _written(store, list(CELLS))
    with store.opened({**ASKED, "arms": ["apart"]}, force=True):
        assert store.done(CELLS) == {}
        assert not (store.out / "results.csv").exists()
    other = tmp_path / "thesis"
    other.mkdir()
    (other / "chapter.md").write_text("years of work")
    for force in (True, False):
        with pytest.raises(InputError, match="thesis: exists already"), Store(other).opened(ASKED, force):
            pytest.fail("it was opened")
    assert (other / "chapter.md").read_text() == "years of work"


def test_two_sweeps_never_write_in_one_folder(store: Store) -> None:
    with store.opened(ASKED, force=False):
        (store.work / "in-hand").write_text("x")
        with pytest.raises(InputError, match="is being written by another sweep"), store.opened(ASKED, force=True):
            pytest.fail("it was opened")
        assert (store.work / "in-hand").exists()
    with store.opened(ASKED, force=False):
        assert not (store.work / "in-hand").exists()
    assert not store.work.exists()


def test_fingerprints_tell_rows_from_terms_and_not_where_files_lie(small: Path, files: Any, tmp_path: Path) -> None:
    def of(path: Path, policy: Path | None = None) -> dict[str, str]:
        return fingerprints(files_of(load_federation(path), policy))

    first = of(small)
    assert of(files.federation) == first
    policy = tmp_path / "policy.toml"
    policy.write_text("x = 1")
    terms, rows = "federation_sha256", "data_sha256"
    changed = of(files.federation, policy)
    assert (changed[terms] != first[terms], changed[rows] == first[rows]) == (True, True)
    files.text("payments.contract.toml", "version = 1", "version = 2")
    changed = of(files.federation)
    assert (changed[terms] != first[terms], changed[rows] == first[rows]) == (True, True)
    files.text("payments.contract.toml", "version = 2", "version = 1")
    files.table("payments.parquet", lambda frame: frame.reverse())
    changed = of(files.federation)
    assert (changed[terms] == first[terms], changed[rows] != first[rows]) == (True, True)
    files.table("payments.parquet", lambda frame: frame.reverse())
    files.table("labels.parquet", lambda frame: frame)
    (files.folder / "fairness.parquet").write_bytes(b"attributes that no contract may have")
    changed = of(files.federation)
    assert (changed[terms] == first[terms], changed[rows] != first[rows]) == (True, True)


def test_what_is_kept_of_a_cell_is_json_without_infinities(store: Store) -> None:
    _written(store, list(CELLS))
    refuse: Callable[[str], None] = lambda text: pytest.fail(f"{text} is no JSON")  # noqa: E731
    text = (store.cells / "s.joint.inf.0.json").read_text()
    assert json.loads(text, parse_constant=refuse)["result"]["epsilon"] == "inf"
    assert json.loads((store.out / "sweep.json").read_text(), parse_constant=refuse)["epsilons"] == [1.0, "inf"]


def test_two_files_of_one_name_are_two(files: Any) -> None:
    (files.folder / "more").mkdir()
    (files.folder / "more" / "labels.parquet").write_bytes((files.folder / "lender_kyc.parquet").read_bytes())
    files.toml('["labels.parquet", "lender_kyc.parquet"]', '["labels.parquet", "more/labels.parquet"]')
    before = files_of(load_federation(files.federation), None)
    files.raw("labels.parquet", b"other")
    after = files_of(load_federation(files.federation), None)
    assert {name for name in before if before[name] != after[name]} == {"lender, data 1 labels.parquet"}
