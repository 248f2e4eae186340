"""The command `fedscore sweep`: its options, what it tells meanwhile, and the private sweep behind `--private`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simulations.sweep import sweep_cli
from simulations.sweep.sweep_cli import _Lines

Run = Callable[..., Any]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--ledger", "l"], "--ledger is of a private sweep alone, got 'l'; add --private"),
        (["--epsilon", "1"], "--epsilon is of a private sweep alone, got '1.0'; add --private"),
        (["--select", "once"], "--select is of a private sweep alone, got 'once'; add --private"),
        (["--private", "--epsilon", "1"], "--ledger is missing: a private sweep needs it"),
        (["--private", "--ledger", "l"], "--epsilon is missing: a private sweep needs it"),
        (["--private", "--seeds", "3"], "--seeds has no place in a private sweep, whose arms share one --epsilon"),
        (["--private", "--epsilons", "1,2"], "--epsilons has no place in a private sweep"),
        (["--private", "--no-report"], "--no-report has no place in a private sweep"),
        (["--private", "--epsilon", "1", "--ledger", "l", "other.toml"], "FEDERATION must be one in a private sweep"),
        (["--private", "--epsilon", "inf", "--ledger", "l"], "--epsilon must be finite in a private sweep"),
    ],
)
def test_options_that_do_not_belong_together_are_refused(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_cli: Run, options: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = run_cli("sweep", small, *options)
    assert (ended.code, ended.out, len(ended.lines)) == (2, "", 1)
    assert message in ended.err
    assert list(tmp_path.iterdir()) == []


def test_a_private_sweep_tells_what_was_selected_and_writes_the_best_model_only(
    small: Path, tmp_path: Path, quick: None, run_cli: Run
) -> None:
    asked = ["--private", "--epsilon", "1", "--arms", "apart,apart-equal", "--select", "once"]
    ended = run_cli("sweep", small, *asked, "--ledger", tmp_path / "ledger", "--out", tmp_path / "out")
    assert (ended.code, len(ended.out.splitlines())) == (0, 2)
    told = json.loads((tmp_path / "out" / "sweep.json").read_text())
    assert ended.out.startswith(f"selected: {told['selected']}; the whole sweep is charged at epsilon 1 a person")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["model", "sweep.json"]


def test_where_there_is_no_terminal_progress_is_lines_and_not_too_many(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(sweep_cli.time, "monotonic", lambda: now[0])
    lines = _Lines()
    lines.note("a set is small")
    for done in range(1, 41):
        now[0] += 1.0
        lines.step(done, 40, None if done < 5 else 40.0 - done)
    assert capsys.readouterr().err.splitlines() == [
        "note: a set is small",
        "1 of 40 cells",
        "11 of 40 cells, about 29 s to go",
        "21 of 40 cells, about 19 s to go",
        "31 of 40 cells, about 9 s to go",
        "40 of 40 cells",
    ]


def test_on_a_terminal_there_is_a_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    with sweep_cli._telling(quiet=False) as tell:
        tell.note("read [this]")
        tell.step(2, 4, 30.0)
    told = capsys.readouterr().err
    assert "note: read [this]" in told
    assert "2 of 4 cells, about 30 s to go" in told


def test_quiet_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    with sweep_cli._telling(quiet=True) as tell:
        tell.note("anything")
        tell.step(1, 1, None)
    assert capsys.readouterr() == ("", "")


def test_an_interrupt_ends_in_one_line_that_says_what_is_kept(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_cli: Run
) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("simulations.sweep.running.plan", interrupted)
    ended = run_cli("sweep", small, "--out", tmp_path / "sweep")
    assert (ended.code, ended.out, len(ended.lines)) == (130, "", 1)
    assert "finished cells are kept" in ended.err
