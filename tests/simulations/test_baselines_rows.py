"""The pooled rows of baselines: a run's persons, split and features, and no other."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from model.inputs import InputError
from simulations.baselines import BASELINES, Pooled, pooled
from simulations.baselines.regression import Persons
from simulations.preflight import node_of
from simulations.settings import Settings


def _rows(federation: Path, tmp_path: Path) -> Pooled:
    return pooled(node_of(Settings(federation, tmp_path), tmp_path))


def test_persons_and_split_are_those_of_a_run(small: Path, tmp_path: Path, exact_run: Any) -> None:
    rows, persons = _rows(small, tmp_path), exact_run.report["persons"]
    assert (int(rows.train.sum()), len(rows.train)) == (persons["train"], persons["all"])
    table = pl.read_parquet(small.parent / "labels.parquet").filter(pl.col("split") != "drop")
    assert rows.labels.tolist() == table["label"].to_list()
    assert rows.train.tolist() == (table["split"] == "train").to_list()
    assert (rows.train ^ rows.held).all()


def test_no_protected_feature_is_seen_unless_the_federation_uses_them(files: Any, tmp_path: Path) -> None:
    before = _rows(files.federation, tmp_path)
    files.toml('split = "split"', 'use-protected = true\nsplit = "split"')
    after = _rows(files.federation, tmp_path)
    names = [part.feature.name for part in before.features]
    assert "age_years" not in names
    assert sorted([*names, "age_years"]) == sorted(part.feature.name for part in after.features)
    for rows in (before, after):
        assert rows.bins().shape[1] == rows.values().shape[1] == len(rows.features)
    assert after.matrix(np.arange(3)).shape[1] > before.matrix(np.arange(3)).shape[1]


def test_values_are_those_of_the_files_and_of_the_first_partner_that_has_a_person(small: Path, tmp_path: Path) -> None:
    rows, folder = _rows(small, tmp_path), small.parent
    cohort = pl.read_parquet(folder / "labels.parquet").filter(pl.col("split") != "drop").select("id")
    first = pl.read_parquet(folder / "ecommerce-1.parquet").select("id", pl.col("gmv_12m_cny").cast(pl.Float64))
    second = pl.read_csv(folder / "ecommerce-2.csv").select("id", pl.col("gmv_12m_cny").cast(pl.Float64))
    both = pl.concat([first, second]).unique("id", keep="first", maintain_order=True)
    expected = cohort.join(both, on="id", how="left", maintain_order="left")["gmv_12m_cny"]
    place = [part.feature.name for part in rows.features].index("gmv_12m_cny")
    np.testing.assert_array_equal(rows.values()[:, place], expected.fill_null(math.nan).to_numpy())
    assert len(both) < len(first) + len(second)  # some persons are at both
    part, bins = rows.features[place], rows.bins()[:, place]
    here = np.isfinite(expected.fill_null(math.nan).to_numpy())
    np.testing.assert_array_equal(bins[here], part.codes_of_numbers(expected.to_numpy()[here]))
    assert (bins[~here] == part.missing).all()


def test_a_person_whom_a_domain_does_not_know_has_a_row_of_zeros_there(small: Path, tmp_path: Path) -> None:
    rows, at = _rows(small, tmp_path), 0
    everybody = np.arange(len(rows.labels))
    matrix = rows.matrix(everybody)
    np.testing.assert_array_equal(matrix, np.concatenate(list(rows.chunks(everybody >= 0, 100))))
    for block in rows.blocks:
        width = block.encoding.columns - 1
        part = matrix[:, at : at + width]
        assert (part[~block.here] == 0).all()
        exact = block.encoding.matrix(block.codes[:, block.here])[:, 1:]
        np.testing.assert_allclose(part[block.here], exact, atol=1e-6)
        at += width
    assert matrix.shape[1] == at


def test_a_gradient_over_bins_is_that_over_rows(small: Path, tmp_path: Path) -> None:
    rows, rng = _rows(small, tmp_path), np.random.default_rng(2)
    persons = Persons(rows, rows.train)
    matrix = rows.matrix(np.flatnonzero(rows.train)).astype(np.float64)
    weights, labels = rng.normal(size=persons.columns), rng.normal(size=len(matrix))
    odds = weights[0] + matrix @ weights[1:]
    np.testing.assert_allclose(persons.odds(weights), odds, atol=1e-5)
    residuals = 1 / (1 + np.exp(-odds)) - labels
    expected = np.concatenate([[residuals.sum()], matrix.T @ residuals])
    np.testing.assert_allclose(persons.gradient_sum(weights, labels), expected, atol=1e-3)


def test_a_lender_without_a_contract_has_no_block_of_its_own(
    write_federation: Callable[..., Any], persons: Callable[..., Any], party: Any, tmp_path: Path
) -> None:
    labels, risk = persons()
    table = pl.DataFrame({"id": labels["id"], "x": risk})
    feature = {"name": "x", "kind": "numeric", "range": [-4, 4]}
    rows = _rows(write_federation(labels, party("pay-1", table, [feature])).federation, tmp_path)
    assert rows.own is None
    with pytest.raises(InputError, match="the lender alone has nothing to train on"):
        BASELINES["own-block"](rows, 1.0, 1e-5, 0)
