"""`fedscore score`: applicants of a finished simulation, and what is said where something is missing."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from simulations.run import Settings, simulate


@pytest.fixture
def applicants(small: Path, private_run: Any, tmp_path: Path) -> Path:
    """Some held-out persons of the small sample, beside a copy of its run."""
    shutil.copytree(private_run.out, tmp_path / "out")
    held = pl.read_parquet(private_run.out / "nodes" / "lender" / "evidence.parquet")["id"].to_list()
    table = pl.read_parquet(small.parent / "lender_kyc.parquet").filter(pl.col("id").is_in(held)).head(20)
    table.write_parquet(tmp_path / "applicants.parquet")
    return tmp_path / "applicants.parquet"


def test_it_says_where_the_scores_are(small: Path, applicants: Path, run_cli: Callable[..., Any]) -> None:
    ended = run_cli("score", small, "--run", applicants.parent / "out", "--applicants", applicants)
    assert (ended.code, ended.err) == (0, "")
    [path] = ended.out.splitlines()
    scores = pl.read_parquet(path)
    assert len(scores) == 20
    assert scores["score"].is_between(350, 950).all()


def test_a_run_under_another_budget_and_a_lasting_ledger_is_scored_all_the_same(
    small: Path, applicants: Path, run_cli: Callable[..., Any], tmp_path: Path, quick: None
) -> None:
    del quick
    simulate(Settings(small, tmp_path / "other", ledger=tmp_path / "ledger", epsilon=0.5))
    asked = ("score", small, "--run", tmp_path / "other", "--applicants", applicants, "--ledger", tmp_path / "ledger")
    ended = run_cli(*asked)
    assert (ended.code, ended.err) == (0, "")


@pytest.mark.parametrize(
    ("missing", "code", "said"),
    [("run", 2, "give the folder of a finished run"), ("applicants", 1, "cannot be shown: input")],
)
def test_what_is_missing_is_said_in_one_line(
    missing: str, code: int, said: str, small: Path, applicants: Path, run_cli: Callable[..., Any]
) -> None:
    given = {"run": applicants.parent / "out", "applicants": applicants} | {missing: Path("nowhere")}
    ended = run_cli("score", small, "--run", given["run"], "--applicants", given["applicants"])
    assert ended.code == code
    assert said in ended.lines[-1]
