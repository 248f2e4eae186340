"""A whole run, its audit and a synthetic population where contracts declare products."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from model.bundle import Bundle
from model.contract import Contract, Feature
from model.encoding import Encoding
from model.products import Product
from simulations import canaries
from simulations.auditing import Subject, audit
from simulations.run import Settings, simulate
from simulations.synthetic import population

CONTRACT = Contract(
    "payments",
    1,
    (
        Feature("amount", "numeric", low=0.0, high=100.0, special=("-1",)),
        Feature("grade", "ordinal", values=("a", "b", "c")),
        Feature("home", "categorical", values=("own", "rent")),
    ),
    products=(Product(("grade", "amount"), 2), Product(("amount", "home"))),
)


def test_a_synthetic_population_has_the_pairs_of_its_bins_and_effects_of_them() -> None:
    found = population({"payments": CONTRACT}, 5000, np.random.default_rng(1))
    encoding, codes = found.encodings["payments"], found.codes["payments"]
    assert np.array_equal(codes, encoding.with_products(codes[:3]))
    assert found.effects["payments"].shape == (int(encoding.offsets[-1]),)
    for part, row, first in zip(encoding.parts[3:], codes[3:], encoding.offsets[3:], strict=False):
        effects = found.effects["payments"][first : first + len(part.labels)]
        assert np.ptp(effects) > 0
        assert effects[row].mean() == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_the_canary_has_the_longest_row_of_all_persons_and_no_safer_one_is_near(seed: int) -> None:
    encoding = Encoding.of(CONTRACT)
    effects = np.random.default_rng(seed).standard_normal(int(encoding.offsets[-1]))
    everybody = itertools.product(*(range(len(part.labels)) for part in encoding.features))
    codes = encoding.with_products(np.array(list(everybody), dtype=np.uint16).T)
    norms = np.linalg.norm(encoding.matrix(codes), axis=1)
    canary = canaries.worst_canary(encoding, effects)
    assert np.array_equal(canary, encoding.with_products(canary[:3]))
    assert np.linalg.norm(encoding.matrix(canary)) == pytest.approx(norms.max())
    near = (norms >= norms.max() - 1e-9) & ((codes[:3] != canary[:3]).sum(axis=0) == 1)
    curve = encoding.gather(encoding.packed(codes), 0.0, effects)
    assert (curve[near] >= encoding.gather(encoding.packed(canary), 0.0, effects)[0] - 1e-9).all()


@pytest.mark.usefixtures("quick")
def test_a_simulation_with_products_trains_scores_publishes_and_passes_its_audit(files: Any, tmp_path: Path) -> None:
    path = files.folder / "payments.contract.toml"
    path.write_text(path.read_text() + '\n[[product]]\nof = ["tenure_months", "failed_debits_90d"]\ngroup = "tenure"\n')
    run = simulate(Settings(files.federation, tmp_path / "out"))
    block = Bundle.load(run.out / "model").blocks["payments"]
    assert [p.name for p in block.encoding.contract.products] == ["tenure_months x failed_debits_90d"]
    lines = {row["name"]: row for row in run.report["releases"]}
    assert math.sqrt(10 + 1) < lines["payments/pay-1"]["bound"] <= math.sqrt(10 + 1 + 1)
    assert lines["payments/pay-1"]["bound"] == block.encoding.row_norm
    assert lines["payments/pay-1"]["size"] == block.encoding.columns
    assert np.ptp(block.weights[1 + block.encoding.offsets[-2] :]) > 0
    assert pl.read_parquet(run.out / "scores.parquet")["score"].is_between(350, 950).all()
    assert not audit(Subject.of_run(run.out)).exceeded
