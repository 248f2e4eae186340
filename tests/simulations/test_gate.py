"""The audit as a gate: a run whose noise does not hold what it claims publishes nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from privacy.mechanisms import GaussianSum
from privacy.noise import Csprng
from server.failures import RunFailed
from simulations.gate import pass_gate
from simulations.run import simulate
from simulations.settings import Settings


@pytest.fixture(scope="module")
def run(small: Path, tmp_path_factory: pytest.TempPathFactory, few_steps: Any) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        few_steps(patch)
        return simulate(Settings(small, tmp_path_factory.mktemp("gate") / "run", epsilon=4.0)).out


def test_a_correct_run_passes_and_its_report_says_what_canaries_showed(run: Path) -> None:
    report = json.loads((run / "report.json").read_text())
    audit = report["audit"]
    assert not audit["exceeded"]
    names = [f["name"] for f in audit["findings"]]
    assert {line["name"] for line in report["releases"]} <= set(names)
    total = next(f for f in audit["findings"] if f["name"] == "all lines, train persons")
    assert 1.0 < total["at_least"] <= total["claim"] <= 4.0


def test_a_claim_below_what_the_releases_cost_is_refuted(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    path = tmp_path / "run" / "model" / "bundle.json"
    head = json.loads(path.read_text())
    head["statement"]["epsilon"] = 1.0
    path.write_text(json.dumps(head))
    with pytest.raises(RunFailed, match="not published"):
        pass_gate(tmp_path / "run")


@pytest.mark.usefixtures("quick")
def test_a_run_with_half_its_noise_publishes_nothing(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = GaussianSum.release

    def half(self: GaussianSum, total: np.ndarray[Any, Any], rng: Csprng) -> np.ndarray[Any, Any]:
        return total + (honest(self, total, rng) - total) / 2

    monkeypatch.setattr(GaussianSum, "release", half)
    with pytest.raises(RunFailed, match=r"epsilon is at least [0-9.]+, claimed"):
        simulate(Settings(small, tmp_path / "out", epsilon=4.0))
    assert list(tmp_path.iterdir()) == []


def test_without_privacy_there_is_nothing_to_audit(small: Path, tmp_path: Path) -> None:
    report = simulate(Settings(small, tmp_path / "out", epsilon=float("inf"))).report
    assert report["audit"]["findings"] == []
