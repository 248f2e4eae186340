"""The audit of a joint fit: a correct run passes close below its claim, and less noise than claimed is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from model.contract import Contract, Feature
from model.encoding import Encoding
from model.inputs import InputError
from model.moments import UNIT, Layout, upper
from model.products import Product
from privacy import mechanisms
from privacy.mechanisms import GaussianSum
from privacy.noise import Csprng
from privacy.plan import HELD_OUT, Release, price
from server.failures import RunFailed
from server.joint_planning import joint_lines
from simulations.auditing import Audit, Subject, audit
from simulations.canaries import synthetic, transcripts
from simulations.joint_canaries import DRAWS, Persons, joint_transcripts
from simulations.run import simulate
from simulations.settings import Settings

NAMES = ["moments/joint", "refine/joint", "evaluation/scores"]
AMOUNT = Feature("amt", "numeric", high=100.0, special=("-1",))
GRADE = Feature("grade", "ordinal", values=("a", "b", "c"))
CONTRACTS = {
    "payments": Contract("payments", 1, (AMOUNT, GRADE), products=(Product(("amt", "grade"), 2),)),
    "shops": Contract("shops", 1, (AMOUNT, replace(GRADE, weight=0.5))),
    "lender_kyc": Contract("lender_kyc", 1, (AMOUNT,)),
}


def subject(own: str | None = "lender_kyc", epsilon: float = 1.0) -> Subject:
    """A run's public facts, with or without columns of the lender's own."""
    contracts = {domain: c for domain, c in CONTRACTS.items() if domain != "lender_kyc" or own}
    encodings = {domain: Encoding.of(c) for domain, c in contracts.items()}
    layout = Layout(encodings.pop(own) if own else None, encodings)
    lines = [*joint_lines(layout, 1.0), Release("evaluation/scores", "lender", 1.0, 40, 1, 1.0, persons=HELD_OUT)]
    return Subject(price(lines, epsilon, 1e-5).lines, "moments", contracts, 600, epsilon, 1e-5, own)


class Quieter(Release):
    """A line whose mechanism draws half of the noise that the line is accounted with."""

    @property
    def mechanism(self) -> GaussianSum:
        return GaussianSum(self.bound, self.size, self.noise_multiplier / 2)


def changed(run: Subject, name: str, change: Callable[[Release], Release]) -> Subject:
    lines = (change(x) if isinstance(x, Release) and x.name == name else x for x in run.lines)
    return replace(run, lines=tuple(lines))


def halved(run: Subject, name: str) -> Subject:
    return changed(run, name, lambda line: Quieter(**vars(line)))


def exceeded(found: Audit) -> list[str]:
    return [line.name for line in found.lines if line.exceeded]


@pytest.mark.parametrize(("own", "epsilon"), [("lender_kyc", 1.0), (None, 8.0)])
def test_a_correct_joint_fit_passes_with_a_bound_close_below_its_claim(own: str | None, epsilon: float) -> None:
    found = audit(subject(own, epsilon), trainings=3)
    assert not found.exceeded
    assert [line.name for line in found.lines] == NAMES
    assert [line.releases for line in found.lines] == [1, 3, 1]
    strengths = {line.name: line.strength for line in found.lines}
    assert 0.98 < strengths["moments/joint"] <= 1.0
    assert 0.6 < strengths["refine/joint"] <= 1.0
    assert all(line.epsilon > 0.5 * line.claim for line in found.lines)
    assert found.totals[0].epsilon > 0.6 * epsilon
    assert found.model is None
    assert found.note.startswith("no attack on whole trained models")
    assert audit(subject(own, epsilon)).note == ""


@pytest.mark.parametrize("name", NAMES)
def test_half_of_the_noise_is_refused_by_name(name: str) -> None:
    assert exceeded(audit(halved(subject(), name))) == [name]


@pytest.mark.parametrize("name", NAMES[:2])
def test_a_person_that_moves_sums_twice_as_far_as_told_is_refused(name: str) -> None:
    found = audit(changed(subject(), name, lambda line: replace(line, bound=line.bound / 2)))
    assert exceeded(found) == [name]


def test_noise_on_half_of_the_numbers_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = mechanisms.noise_share

    def half(mechanism: GaussianSum, *others: Any) -> NDArray[np.int64]:
        return honest(mechanism, *others) * (np.arange(mechanism.size) * 2 < mechanism.size)

    monkeypatch.setattr("privacy.audit.noise_share", half)
    assert {"moments/joint", "refine/joint"} <= set(exceeded(audit(subject())))


def test_lines_that_are_not_those_of_the_contracts_are_refused() -> None:
    with pytest.raises(InputError, match="not those of the bundle's contracts"):
        audit(changed(subject(), "moments/joint", lambda line: replace(line, size=line.size - 1)))


def test_the_canarys_row_is_the_longest_and_its_matrix_is_all_that_it_adds() -> None:
    run = subject()
    persons = Persons.of(synthetic(run, run.persons, 0), run.own)
    layout, last = persons.layout, run.persons
    row = persons.rows(layout, last, last + 1)
    inside, outside = persons.moments()
    assert np.array_equal(inside - outside, upper(row.T @ row))
    rows = persons.rows(layout, 0, last)
    assert np.array_equal(outside, upper(rows.T @ rows))
    assert 0.98 * layout.sensitivity < np.linalg.norm((inside - outside) / UNIT**2) <= layout.sensitivity
    assert 0 < (~rows[:, layout.slices["shops"]].any(axis=1)).mean() < 1  # some are not there


def test_every_draw_of_the_matrix_serves_the_person_and_some_directions_across_it() -> None:
    run = subject()
    _, found = joint_transcripts(run, synthetic(run, run.persons, 0))["moments/joint"]
    assert (found.unit, found.draws) == (UNIT * UNIT, DRAWS)
    scores = found.scores(200, Csprng())
    assert len(scores.inside) == len(scores.outside) == 200
    assert scores.inside.mean() - scores.outside.mean() == pytest.approx(
        scores.shift, abs=6 * math.sqrt(scores.shift / 100)
    )


def test_a_wide_fit_is_followed_for_one_step_and_all_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simulations.joint_canaries._FITS", 1.0)
    run = subject()
    _, found = joint_transcripts(run, synthetic(run, run.persons, 0))["refine/joint"]
    assert (len(found.inside), found.count) == (1, 3)
    assert set(transcripts(run, synthetic(run, run.persons, 0))) == set(NAMES)


def quietly(scale: float) -> Callable[..., NDArray[np.int64]]:
    honest = mechanisms.discrete_gaussian
    return lambda rng, stddev, count: honest(rng, stddev * scale, count)


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_a_run_passes_the_gate_with_all_of_its_noise_only(
    scale: float,
    write_federation: Callable[..., Any],
    persons: Callable[..., Any],
    party: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    labels, risk = persons(600)
    table = pl.DataFrame({"id": labels["id"], "a": risk})
    files = write_federation(labels, party("pay-1", table, [{"name": "a", "kind": "numeric", "range": [-4, 4]}]))
    monkeypatch.setattr("privacy.mechanisms.discrete_gaussian", quietly(scale))
    monkeypatch.setattr("server.planning.check_budget", lambda *given: None)
    settings = Settings(files.federation, tmp_path / "out", engine="moments", trust="curator", epsilon=4.0)
    if scale < 1:
        with pytest.raises(RunFailed, match="moments/joint: epsilon is at least"):
            simulate(settings)
        assert not settings.out.exists()
        return
    told = json.loads((simulate(settings).out / "report.json").read_text())["audit"]
    assert not told["exceeded"]
    assert set(NAMES) <= {finding["name"] for finding in told["findings"]}
    assert all(f["at_least"] > 0.5 * f["claim"] for f in told["findings"])


@pytest.mark.statistical
@pytest.mark.parametrize("name", NAMES[:2])
def test_correct_joint_fits_are_never_refused_and_half_the_noise_always(name: str) -> None:
    run = subject()
    assert not any(audit(run, seed=i).exceeded for i in range(12))
    assert sum(audit(halved(run, name), seed=i).exceeded for i in range(12)) >= 10
