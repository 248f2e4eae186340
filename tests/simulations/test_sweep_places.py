"""What a sweep writes names no folder of its machine, and its cells can be repeated wherever all of it was moved."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from model.federation import load_federation
from model.limits.policy import SHIPPED
from simulations.datasets import FEDERATIONS, FETCHED, DataSet
from simulations.settings import Settings
from simulations.sweep import grid, running
from simulations.sweep.arms import ARMS
from simulations.sweep.cells import Task, again, repeat
from simulations.sweep.grid import Sweep
from simulations.sweep.places import found, plainly, told
from simulations.sweep.planning import plan

PARENTS = ("a-folder-of-anna", "a folder of bert")  # no picture holds such text by chance
ENGINE = b"from model.blocks import Scorecard\n\nclass Mine(Scorecard):\n    pass\n"


def _here(function: Callable[[Task], Any], tasks: Iterable[Task], *given: object) -> Iterator[tuple[Task, Any]]:
    """Cells trained in this process: starting others takes longer than they do."""
    for task in tasks:
        yield task, function(task)


def _asked(parent: Path, **given: Any) -> Sweep:
    terms = {"epsilons": (0.5,), "seeds": 1, "arms": ("joint", "logistic"), "jobs": 1, "report": False, **given}
    return Sweep((str(parent / "people" / "federation.toml"),), parent / "sweep", **terms)


def _texts(out: Path) -> str:
    """Everything that a sweep left, tables uncompressed, names of files too."""
    tables = [pl.read_parquet(path).write_csv() for path in sorted(out.rglob("*.parquet"))]
    others = [path.read_text() for path in sorted(out.rglob("*")) if path.is_file() and path.suffix != ".parquet"]
    return "\n".join([*tables, *others, *(str(path.relative_to(out)) for path in sorted(out.rglob("*")))])


@pytest.fixture
def parents(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Two folders, each with a copy of the sample, a policy and an engine."""
    monkeypatch.setattr(running, "spread", _here)
    for parent in (tmp_path / name for name in PARENTS):
        shutil.copytree(small.parent, parent / "people")
        (parent / "mine.py").write_bytes(ENGINE)
        shutil.copy(SHIPPED, parent / "policy.toml")
    return [tmp_path / name for name in PARENTS]


def test_sweeps_in_two_places_tell_the_same_and_name_neither(parents: list[Path], tmp_path: Path) -> None:
    rows = []
    for parent in parents:
        assert list(running.sweep(_asked(parent)).failed) == ["sample.joint.0.5.0"]
        rows.append({row["arm"]: row for row in pl.read_parquet(parent / "sweep" / "results.parquet").to_dicts()})
        left = _texts(parent / "sweep")
        assert not [name for name in (*PARENTS, str(tmp_path), tmp_path.name) if name in left]
    for name in ("repeat", "error"):
        assert {arm: row[name] for arm, row in rows[0].items()} == {arm: row[name] for arm, row in rows[1].items()}
    assert json.loads(rows[0]["logistic"]["repeat"])["federation"] == "../people/federation.toml"
    moved = parents[0].rename(tmp_path / "elsewhere")
    row = pl.read_parquet(moved / "sweep" / "results.parquet").filter(pl.col("arm") == "logistic").row(0, named=True)
    assert again(row, moved / "sweep", tmp_path / "again")[0]["auc"] == row["auc"]


def test_files_made_for_an_arm_and_files_of_ones_own_are_found_from_the_sweeps_folder(parents: list[Path]) -> None:
    plans = []
    for parent in parents:
        arms = ("apart-equal", "own-block", f"{parent / 'mine.py'}:Mine")
        plans.append(plan(_asked(parent, arms=arms, policy=parent / "policy.toml")))
    assert plans[0].made == plans[1].made
    first, second = ({key: task.row["repeat"] for key, task in p.tasks.items()} for p in plans)
    assert first == second
    ((name, text),) = plans[1].made.items()
    out = parents[1] / "sweep"
    (out / "federations").mkdir(parents=True)
    (out / "federations" / name).write_text(text)
    for key, ways in second.items():
        assert PARENTS[1] not in ways
        given = found(json.loads(ways), out)
        assert given["policy"].samefile(parents[1] / "policy.toml")
        federation = load_federation(given["federation"], given["data"])
        assert [path.resolve().parent for path in federation.lender.data] == [parents[1] / "people"] * 2
        if key.startswith("sample.Mine"):
            assert Path(given["engine"].removesuffix(":Mine")).samefile(parents[1] / "mine.py")
    assert {given.count("federations/sample.apart-equal.toml") for given in second.values()} == {0, 1}


def test_a_sweep_that_moved_away_from_its_files_goes_on_and_tells_where_they_are(parents: list[Path]) -> None:
    parent, other = parents
    running.sweep(_asked(parent, arms=("logistic",)))
    (parent / "sweep").rename(other / "deeper")
    before = pl.read_parquet(other / "deeper" / "results.parquet")
    asked = Sweep((str(parent / "people" / "federation.toml"),), other / "deeper", epsilons=(0.5,), seeds=1,
                  arms=("logistic",), report=False)  # fmt: skip
    running.sweep(asked)
    after = pl.read_parquet(other / "deeper" / "results.parquet")
    assert json.loads(after["repeat"][0])["federation"] == f"../../{parent.name}/people/federation.toml"
    assert after.drop("repeat").equals(before.drop("repeat"))  # seconds too: nothing was trained


def test_a_benchmark_set_is_told_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    federation = FEDERATIONS / "gmsc" / "federation.toml"
    fetched = DataSet("gmsc", federation, FETCHED)
    monkeypatch.setattr(grid, "find", lambda name, root: fetched if name == "gmsc" else None)
    for data, way in ((FETCHED, None), (tmp_path / "data" / "gmsc", "../data/gmsc")):
        ways = json.loads(repeat(ARMS["joint"], Settings(federation, Path("out"), data, epsilon=1.0), tmp_path / "out"))
        assert (ways["federation"], ways["data"]) == ("gmsc", way)
        given = found(ways, tmp_path / "out")
        assert (given["federation"], given["data"].resolve()) == (federation, data.resolve())


def test_links_are_followed_only_where_the_way_needs_it(tmp_path: Path) -> None:
    far, near = tmp_path / "far" / "deep" / "disk", tmp_path / "near"
    far.mkdir(parents=True)
    (near / "sweep").mkdir(parents=True)
    (near / "data").symlink_to(far)
    (far / "sweep").mkdir()
    (near / "linked").symlink_to(far / "sweep")
    assert told(near / "data" / "x.csv", near / "sweep") == "../data/x.csv"
    assert told(far / "x.csv", near / "linked") == "../x.csv"  # from a link, `..` leads out of what it points to
    assert (near / "linked" / told(near / "x.csv", near / "linked")).resolve() == near / "x.csv"
    assert told(near / "linked" / "federations" / "x", far / "sweep") == "federations/x"


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("/home/jo x/data/pay.csv: has changed", "../data/pay.csv: has changed"),
        ("the disk of /home/jo x/out, /home/jo x/out/.work/k.1/out", "the disk of ., ./.work/k.1/out"),
        ("No such file: '/home/jo x/else/where.csv'", "No such file: '…/where.csv'"),
        ("in '/home/anna.schmidt': file:///home/jo x/data/a.csv", "in '…': ../data/a.csv"),
        ("no file:///home/anna/b.csv", "no …/b.csv"),
        ("in /home/jo: https://example.org/a/b and and/or 3 / 4", "in …: https://example.org/a/b and and/or 3 / 4"),
        ("/home/jo/site/package/x.py:\n 3 fails", "…/x.py: 3 fails"),
        ("/root.csv: 3 / 4", "/root.csv: 3 / 4"),
        ("SHIPPED: loan.x must be", "…/policy.toml: loan.x must be"),
    ],
)  # fmt: skip
def test_an_error_keeps_what_helps_and_names_no_folder_of_the_machine(text: str, plain: str) -> None:
    out, files = Path("/home/jo x/out"), [Path("/home/jo x/data/pay.csv"), Path("/root.csv"), SHIPPED]
    assert plainly(text.replace("SHIPPED", str(SHIPPED)), out, files) == plain


@pytest.mark.slow
def test_a_whole_tree_that_was_moved_repeats_every_cell(parents: list[Path], run_cli: Any, tmp_path: Path) -> None:
    parent = parents[0]
    asked = ["--epsilons", "inf", "--seeds", "1", "--arms", "apart-equal,own-block,logistic", "--quiet"]
    asked += ["--out", parent / "sweep", "--policy", parent / "policy.toml"]
    assert run_cli("sweep", parent / "people" / "federation.toml", *asked).code == 0
    assert "report.html" in (left := _texts_with_figures(parent / "sweep"))
    assert not [name for name in (*PARENTS, tmp_path.name) if name in left]
    moved = parent.rename(tmp_path / "elsewhere") / "sweep"
    for row in pl.read_parquet(moved / "results.parquet").to_dicts():
        figures, _ = again(row, moved, tmp_path / row["arm"])
        assert figures["auc"] == pytest.approx(row["auc"], abs=1e-6)


def _texts_with_figures(out: Path) -> str:
    for path in (out / "figures").glob("*.png"):
        path.unlink()  # pictures hold no text
    return _texts(out)
