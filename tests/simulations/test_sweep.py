"""A sweep end to end: every cell a row, failures told and survived, finished cells never trained again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from model.inputs import InputError
from model.limits.policy import SHIPPED
from simulations.sweep.grid import Sweep
from simulations.sweep.rows import CURVE_MEANINGS, CURVES, RESULTS

# At so few persons the joint fit refuses such a budget, and blocks apart do not: one cell fails, one does not.
ASKED = ("--epsilons", "0.5", "--seeds", "1", "--arms", "joint,apart,logistic", "--jobs", "1", "--no-report")
ENGINE = b"from model.blocks import Scorecard\n\nclass Mine(Scorecard):\n    pass\n"


@pytest.fixture(scope="module")
def finished(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from simulations.sweep.running import sweep

    out = tmp_path_factory.mktemp("swept") / "sweep"
    asked = Sweep(
        (str(small),), out, epsilons=(0.5,), seeds=1, arms=("joint", "apart", "logistic"), jobs=1, report=False
    )
    outcome = sweep(asked)
    assert outcome.cells == 3
    assert list(outcome.failed) == ["sample.joint.0.5.0"]
    return out


def _stamps(out: Path) -> dict[str, int]:
    return {path.stem: path.stat().st_mtime_ns for path in (out / "cells").iterdir()}


def test_every_cell_is_a_row_and_one_that_failed_says_why(finished: Path) -> None:
    rows = {row["arm"]: row for row in pl.read_parquet(finished / "results.parquet").to_dicts()}
    assert sorted(rows) == ["apart", "joint", "logistic"]
    apart, joint, logistic = rows["apart"], rows["joint"], rows["logistic"]
    known = [name for name in RESULTS if name not in ("allocation", "within_domain", "error")]
    assert [name for name in known if apart[name] is None] == []
    assert apart["error"] == logistic["error"] == ""
    assert "columns are too many for 1019 persons at this budget" in joint["error"]
    assert joint["auc"] is None
    assert (apart["learner"], apart["trust"], apart["allocation"]) == ("scorecard", "local", "norm")
    assert (apart["within_domain"], apart["protected"], apart["private"]) == ("overlap", False, "person")
    assert (apart["epsilon"], apart["delta"], apart["seed"], apart["holders"]) == (0.5, 1e-5, 0, 5)
    assert apart["epsilon_spent"] <= 0.5
    assert apart["audit_at_least"] <= 0.5
    assert (logistic["private"], logistic["epsilon"], logistic["trust"]) == ("nothing", float("inf"), "pooled")
    assert logistic["auc"] > 0.7


def test_both_learners_are_measured_on_the_same_persons(finished: Path) -> None:
    rows = pl.read_parquet(finished / "results.parquet").filter(pl.col("error") == "")
    for name in ("persons", "train", "held_out", "base_rate", "data_sha256", "federation_sha256"):
        assert rows[name].n_unique() == 1, name


def test_a_row_says_enough_to_run_its_cell_again(
    finished: Path, small: Path, exact_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from simulations.settings import Settings
    from simulations.sweep.arms import ARMS
    from simulations.sweep.cells import again, repeat

    monkeypatch.chdir(tmp_path)  # a row holds no path that hangs on the folder where the command was given
    rows = {row["arm"]: row for row in pl.read_parquet(finished / "results.parquet").to_dicts()}
    assert json.loads(rows["logistic"]["versions"])["polars"] == pl.__version__
    assert again(rows["logistic"], finished, tmp_path / "logistic")[0]["auc"] == rows["logistic"]["auc"]
    settings = Settings(small, Path("any"), small.parent, epsilon=float("inf"))
    row = {"learner": "scorecard", "repeat": repeat(ARMS["apart"], settings, finished)}
    assert again(row, finished, tmp_path / "apart")[0]["auc"] == pytest.approx(exact_run.report["auc"], abs=1e-6)
    with pytest.raises(InputError, match=r"is not the text of mine.py:Mine@12"):
        again({**row, "learner": "mine.py:Mine@12"}, finished, tmp_path / "other")


def test_every_path_of_a_cell_is_whole_wherever_the_command_was_given(
    files: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from simulations.sweep.planning import plan

    files.raw("mine.py", ENGINE)
    files.raw("policy.toml", SHIPPED.read_bytes())
    monkeypatch.chdir(files.folder)
    arms = ("apart-equal", "own-block", "mine.py:Mine")
    tasks = plan(Sweep(("federation.toml",), Path("out"), arms=arms, policy=Path("policy.toml"), seeds=1)).tasks
    for task in tasks.values():
        given = {name: value if value is None else str(value) for name, value in vars(task.settings).items()}
        assert all(Path(given[name]).is_absolute() for name in ("federation", "policy", "engine") if "/" in given[name])
        assert given["data"] is None or Path(given["data"]).is_absolute()
        assert (given["engine"] == f"{files.folder / 'mine.py'}:Mine") == task.cell.arm.startswith("Mine@")


@pytest.mark.parametrize("name", ["mine.py", "payments.parquet", "labels.parquet", "payments.contract.toml"])
@pytest.mark.parametrize("trains", [False, True])
def test_what_is_edited_while_a_sweep_runs_trains_nothing_under_its_old_name(
    files: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, trains: bool
) -> None:
    from simulations.sweep import cells
    from simulations.sweep.planning import plan
    from simulations.sweep.store import Store

    def edit() -> None:
        with (files.folder / name).open("ab") as file:
            file.write(b"\n# another text")

    def figures(settings: Any, baseline: str) -> Any:
        if not trains:
            pytest.fail("it was trained")
        edit()
        return {}, []

    files.raw("mine.py", ENGINE)
    monkeypatch.setattr(cells, "_figures", figures)
    asked = Sweep(
        (str(files.federation),), tmp_path / "out", epsilons=(1.0,), seeds=1, arms=(f"{files.folder}/mine.py:Mine",)
    )
    planned = plan(asked)
    [(key, task)] = planned.tasks.items()
    if not trains:
        edit()
    with Store(asked.out).opened(planned.question, force=False):
        told = cells.run_cell(task).error
        assert (
            f"{name}{':Mine: is not the text of mine.py:Mine@' if name == 'mine.py' else ': has changed since'}" in told
        )
        assert told.startswith(f"../sample/{name}:")
        assert Store(asked.out).done([key])[key]["result"]["error"] == told


def test_curves_are_those_that_the_tables_explain(finished: Path) -> None:
    curves = pl.read_parquet(finished / "curves.parquet")
    assert dict(curves.schema) == {name: kind() for name, kind in CURVES.items()}
    apart = set(curves.filter(pl.col("arm") == "apart")["curve"])
    assert {"calibration", "scores", "decisions", "releases", "audit", "shapley", "seconds"} <= apart
    assert set(curves["curve"]) <= set(CURVE_MEANINGS)
    assert curves.filter(pl.col("arm") == "joint").is_empty()


def test_the_same_command_keeps_what_is_finished_and_tries_again_what_failed(
    finished: Path, small: Path, run_cli: Callable[..., Any]
) -> None:
    before, table = _stamps(finished), (finished / "curves.parquet").read_bytes()
    ended = run_cli("sweep", small, *ASKED, "--out", finished)
    assert (ended.code, ended.out.split(":")[0]) == (0, "written")
    assert "sample.joint.0.5.0 failed: contract: columns are too many" in ended.err
    assert "1 of 3 cells failed: see `error` in the tables" in ended.err
    after = _stamps(finished)
    assert {key for key in before if before[key] != after[key]} == {"sample.joint.0.5.0"}
    assert (finished / "curves.parquet").read_bytes() == table
    assert not (finished / ".work").exists()


def test_where_every_cell_fails_the_command_fails(small: Path, tmp_path: Path, run_cli: Callable[..., Any]) -> None:
    asked = [*ASKED[:5], "joint", *ASKED[6:]]
    ended = run_cli("sweep", small, *asked, "--out", tmp_path / "sweep", "--quiet")
    assert (ended.code, ended.out, len(ended.lines)) == (1, "", 1)
    assert "every cell failed; sample.joint.0.5.0: contract: columns are too many" in ended.err
    assert pl.read_csv(tmp_path / "sweep" / "results.csv")["error"][0].startswith("contract: columns")


@pytest.mark.parametrize(
    ("spoil", "options", "message"),
    [
        (lambda f: (f.folder / "payments.parquet").unlink(), [], "payments.parquet: does not exist"),
        (lambda f: f.toml('split = "split" ', 'splt = "split" '), [], "federation.splt is not a known key"),
        (lambda f: None, ["--arms", "joint,apartt"], "--arms is not an arm, got 'apartt'"),
        (lambda f: None, ["--epsilons", "1,two"], "--epsilons must be a number > 0, got 'two'"),
        (lambda f: None, ["--seeds", "0"], "--seeds must be a whole number >= 1, got 0"),
        (lambda f: f.text("federation.toml", "delta", "delt"), [], "privacy.delt is not a known key"),
        (
            lambda f: f.table("labels.parquet", lambda t: t.with_columns(split=pl.lit("train"))),
            [],
            "federation.split holds nobody out to compare on",
        ),
        (
            lambda f: f.table(
                "labels.parquet", lambda t: t.filter((pl.col("split") == "train") | (pl.col("label") == 0))
            ),
            [],
            "federation.split holds out persons of one outcome only",
        ),
        (
            lambda f: f.raw("mine.py", ENGINE.replace(b"pass", b"def start(self, *given):\n        return 1 / 0")),
            ["--arms", "mine.py:Mine"],
            "mine.py: line 5 fails on the contract of lender_kyc (ZeroDivisionError",
        ),
        (lambda f: f.raw("policy.toml", b"x = 1"), ["--policy", "policy.toml"], "policy.toml"),
    ],
)
def test_bad_input_is_one_line_before_anything_is_written(
    files: Any, run_cli: Callable[..., Any], spoil: Callable[[Any], Any], options: list[str], message: str
) -> None:
    spoil(files)
    options = [str(files.folder / option) if option.endswith((".toml", ":Mine")) else option for option in options]
    before = sorted(files.folder.parent.rglob("*"))
    ended = run_cli("sweep", files.federation, "--seeds", "1", *options, "--out", files.folder.parent / "sweep")
    assert (ended.code, ended.out, len(ended.lines)) == (2, "", 1)
    assert message in ended.err
    assert sorted(files.folder.parent.rglob("*")) == before


def test_a_sweep_never_replaces_the_files_it_reads(files: Any, run_cli: Callable[..., Any]) -> None:
    before = {path: path.read_bytes() for path in files.folder.iterdir()}
    ended = run_cli("sweep", files.federation, *ASKED, "--out", files.folder, "--force")
    assert (ended.code, len(ended.lines)) == (2, 1)
    assert {path: path.read_bytes() for path in files.folder.iterdir()} == before
