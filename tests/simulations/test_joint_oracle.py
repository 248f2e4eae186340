"""What a joint fit opens, against exact integers by plain numpy; and the noise around them, against what is stated."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import chi2

from server.fitting import noise_stddev
from tests.joint_world import CHUNK, LABEL, UNIT, Run, World, write_world

INF = float("inf")


@pytest.fixture(autouse=True)
def _small_chunks_same_homes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.joint_planning.CHUNK", CHUNK)
    monkeypatch.setattr("clients.homes._secret", lambda node: b"h" * 32)


@pytest.fixture(params=[True, False], ids=["own block", "no own block"])
def world(request: Any, tmp_path: Path) -> World:
    return write_world(tmp_path / "made", own=request.param)


def _gradient(rows: np.ndarray, world: World, link: Any, points: Any) -> np.ndarray:
    """X^T (p - y) without the label's column, in rows' units: parts rounded one by one, p from their sum."""
    widths = {"": 2 + 3 * world.own, "payments": 9, "shopping": 8}
    at, whole = 0, np.zeros(len(rows))
    for name, width in widths.items():
        block, at = rows[:, at : at + width], at + width
        here = np.ones(len(rows), bool) if name == "" else block[:, 0] > 0
        odds = _log_odds(block[:, 2 if name == "" else 1 :], points[name], name, world.own)
        steps = np.rint((odds - (0.0 if name else link.middle)) / link.step)
        low, high = link.limits[name]
        whole += np.where(here, np.clip(steps, low, high), 0)
    scale = 2**20
    probability = np.rint(scale / (1 + np.exp(-(link.middle + whole * link.step))))
    residual = probability - (rows[:, 1] > 0) * scale
    return np.delete(residual @ rows, 1) / (UNIT * scale)


def _log_odds(columns: np.ndarray, points: np.ndarray, name: str, own: bool) -> np.ndarray:
    """Of every person by which bin it is in: bins are found again from the columns."""
    odds = np.full(len(columns), float(points[0]))
    if name == "" and not own:
        return odds
    from model.moments import smooth

    bins = {"": 3, "payments": 4, "shopping": 3}[name]
    basis = np.rint(smooth(bins) * UNIT)
    ordered = basis.shape[1]
    for i, row in enumerate(columns):
        match = np.flatnonzero((basis == row[:ordered]).all(axis=1) & (row[ordered] == 0))
        odds[i] += points[1 + (int(match[0]) if len(match) else bins)]
        if name:
            flag = np.flatnonzero(row[ordered + 1 :])
            odds[i] += points[1 + bins + 1 + int(flag[0])] if len(flag) else 0.0
    return odds


def test_without_noise_the_matrix_and_every_gradient_are_the_exact_ones(world: World, tmp_path: Path) -> None:
    run = Run(world, tmp_path / "out", INF).go()
    rows = world.exact(run.homes)
    assert rows.max() == LABEL
    assert sum(h.sum() for h in run.homes.values()) == 300  # everybody has one home
    assert np.array_equal(np.rint(run.matrix * UNIT**2).astype(np.int64), rows.T @ rows)
    assert len(run.gradients) == 3
    for link, points, found in run.gradients:
        assert np.abs(found - _gradient(rows, world, link, points)).max() < 1e-9


def test_without_noise_both_trust_models_publish_the_same_bytes(world: World, tmp_path: Path) -> None:
    runs = {trust: Run(world, tmp_path / trust, INF, trust).go() for trust in ("secure", "curator")}
    arrays = {trust: (tmp_path / trust / "model" / "arrays.safetensors").read_bytes() for trust in runs}
    assert arrays["secure"] == arrays["curator"]
    tables = {trust: run.outcome.bundle.table.to_dict() for trust, run in runs.items()}
    assert tables["secure"] == tables["curator"]
    assert runs["secure"].outcome.facts["trust"] == "secure"


@pytest.mark.parametrize("trust", ["secure", "curator"])
def test_the_noise_has_the_stated_deviation_and_is_new_in_every_run(tmp_path: Path, trust: str) -> None:
    world = write_world(tmp_path / "made")
    found = []
    for name in ("one", "two"):
        run = Run(world, tmp_path / name, 1.0, trust).go()
        rows = world.exact(run.homes)
        plan = _plan(run)
        exact = rows.T @ rows / UNIT**2
        noise = (run.matrix - exact)[np.triu_indices(len(exact))]
        found.append(run.matrix)
        _fits(noise, noise_stddev(plan, "moments/joint"))
        errors = [g - _gradient(rows, world, link, points) for link, points, g in run.gradients]
        _fits(np.concatenate(errors), noise_stddev(plan, "refine/joint"))
        shares = plan.joint.noise_shares
        assert shares == 4
        factor = math.sqrt(5 / 4) if trust == "secure" else 1.0
        line = plan.line("moments/joint")
        assert noise_stddev(plan, "moments/joint") == pytest.approx(line.mechanism.noise_stddev * factor)
    assert np.abs(found[0] - found[1]).min() > 0


def _plan(run: Run) -> Any:
    """What `noise_stddev` asks of a table: the plan as it was told to the holders."""
    import json
    from types import SimpleNamespace

    from privacy.plan import line_of
    from privacy.roles import Joint

    message = next(m for m in run.messages if m[0] == "query.rows")[2]
    document = json.loads(str(message.content.config_records["config"]["json"]))["plan"]
    lines = {row["name"]: line_of(row) for row in document["lines"]}
    return SimpleNamespace(line=lines.__getitem__, joint=Joint.from_dict(document["joint"]))


def _fits(noise: np.ndarray, stddev: float) -> None:
    """Chi-square: fails a right program once in 500,000 times."""
    low, high = chi2.ppf([1e-6, 1 - 1e-6], len(noise)) / len(noise)
    assert low < float(np.mean(noise**2)) / stddev**2 < high
