"""The audit: a correct run passes, each way to say less than is done is refused, and models give no member away."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from model import blocks, fusion, scorecard
from model.contract import Contract, Feature
from model.descent import Schedule, descend
from model.encoding import Encoding
from model.inputs import InputError
from privacy.accounting import gaussian_mu
from privacy.audit import Scores, area, ranks_bound, rate_limits
from privacy.mechanisms import GaussianSum
from privacy.noise import Csprng
from privacy.plan import HELD_OUT, LabelResponse, Line, Release, price
from simulations import canaries
from simulations.auditing import Audit, Subject, attack, audit
from simulations.synthetic import population

DELTA = 1e-5
STEPS = 20
Floats = NDArray[np.float64]


def contract(domain: str, features: int) -> Contract:
    names = [Feature(f"f{i}", "numeric", low=0.0, high=100.0) for i in range(features - 1)]
    return Contract(domain, 1, (*names, Feature("late", "flag", values=("0", "1"))))


CONTRACTS = {
    "payments": contract("payments", 3),
    "shops": contract("shops", 2),
    "lender_kyc": contract("lender_kyc", 2),
}
HOLDERS = {"payments": ["pay-1"], "shops": ["shop-1", "shop-2"], "lender_kyc": ["lender"]}


def subject(
    engine: str = "scorecard", home: str = "", response: LabelResponse | None = None, epsilon: float = 1.0
) -> Subject:
    """A run's public facts over three domains, one of which two partners share."""
    persons, lines = 600, [response] if response else []
    for domain, names in HOLDERS.items():
        for name in names:
            stretch = response.stretch if response and name != "lender" else 1.0
            spec = blocks.spec(engine, Encoding.of(CONTRACTS[domain]), persons, 0.1, len(names), stretch)
            count, own = (STEPS if engine == "scorecard" else 60), home if domain == home else ""
            sampled = spec.probability if engine == "scorecard" else 0.5
            line = Release(f"{domain}/{name}", name, spec.bound, spec.size, count, 0.2, sampled, home=own)
            lines.append(line)
    for part, (bound, size) in fusion.Layout(2, 3).bounds().items():
        lines.append(Release(f"fusion/{part}", "lender", bound, size, 1 if part == "centres" else STEPS, 0.03))
    lines.append(Release("evaluation/scores", "lender", 1.0, 40, 1, 1.0, persons=HELD_OUT))
    plan = price(lines, epsilon, DELTA)
    return Subject(plan.lines, engine, CONTRACTS, persons, epsilon, DELTA)


def changed(run: Subject, name: str, change: Callable[[Release], Line]) -> Subject:
    """The run with one line changed, under the claim it had."""
    return replace(run, lines=tuple(change(x) if isinstance(x, Release) and x.name == name else x for x in run.lines))


def finding(found: Audit, name: str) -> Any:
    return next(line for line in (*found.lines, *found.totals) if line.name == name)


@dataclass(frozen=True)
class Quieter(Release):
    """A line whose mechanism draws half of the noise that the line is accounted with."""

    @property
    def mechanism(self) -> GaussianSum:
        return GaussianSum(self.bound, self.size, self.noise_multiplier / 2)


@dataclass(frozen=True)
class Silent(Release):
    """A line whose mechanism draws no noise at all."""

    @property
    def mechanism(self) -> GaussianSum:
        return GaussianSum(self.bound, self.size, 0.0)


def made_of(kind: type[Release]) -> Callable[[Release], Release]:
    return lambda line: kind(**vars(line))


RUNS = {
    "plain": lambda: subject(),
    "home": lambda: subject(home="shops"),
    "labels": lambda: subject(response=LabelResponse("labels/lender", "lender", 2.0), epsilon=4.0),
    "much": lambda: subject(epsilon=8.0),
}


@pytest.mark.parametrize(
    "kind",
    ["plain", "home", "much", pytest.param("labels", marks=pytest.mark.statistical)],  # its price takes seconds
)
def test_a_correct_run_passes_with_a_bound_close_below_its_claim(kind: str) -> None:
    run = RUNS[kind]()
    found = audit(run)
    assert not found.exceeded
    assert {line.name for line in found.lines} == {line.name for line in run.lines if isinstance(line, Release)}
    assert all(0.6 < line.strength <= 1.0 for line in found.lines)
    assert all(line.epsilon > 0.5 * line.claim for line in found.lines)
    whole = finding(found, "all lines, train persons")
    assert whole.claim == found.claim == run.epsilon
    assert whole.epsilon > (0.35 if kind == "labels" else 0.6) * run.epsilon  # nobody's told label is scored
    assert found.recomputed == pytest.approx(run.epsilon, rel=2e-3)


@pytest.mark.parametrize("name", ["payments/pay-1", "fusion/weights", "evaluation/scores"])
@pytest.mark.parametrize("kind", [Quieter, Silent])
def test_a_mechanism_with_too_little_noise_is_refused_by_name(kind: type[Release], name: str) -> None:
    found = audit(changed(subject(), name, made_of(kind)))
    assert found.exceeded
    assert [line.name for line in found.lines if line.exceeded] == [name]
    assert found.confidence > 0.999999  # it was looked at twice


@pytest.mark.parametrize("name", ["payments/pay-1", "fusion/weights"])
def test_a_person_twice_as_long_as_the_line_says_is_refused(name: str) -> None:
    """The sum's bound, and with it the noise, is half of what the training code lets a person reach."""
    found = audit(changed(subject(), name, lambda line: replace(line, bound=line.bound / 2)))
    assert found.exceeded
    assert finding(found, name).exceeded
    assert finding(found, name).strength > 1.2


def test_a_claim_below_what_the_lines_cost_is_refused() -> None:
    run = subject(epsilon=2.0)
    assert audit(replace(run, epsilon=1.0)).exceeded
    cheaper = changed(run, "payments/pay-1", lambda line: replace(line, noise_multiplier=line.noise_multiplier * 0.9))
    found = audit(cheaper)
    assert found.exceeded
    assert found.recomputed > 2.02


@pytest.mark.statistical
def test_labels_that_are_unbiased_need_the_noise_of_their_stretch() -> None:
    response = LabelResponse("labels/lender", "lender", 1.0)
    run = subject(response=response, epsilon=4.0)
    forgot = changed(run, "payments/pay-1", lambda line: replace(line, bound=line.bound / response.stretch))
    found = audit(forgot)
    assert [line.name for line in found.lines if line.exceeded] == ["payments/pay-1"]


def test_without_privacy_there_is_nothing_to_audit() -> None:
    run = replace(subject(), epsilon=math.inf)
    found = audit(run)
    assert (found.lines, found.totals, found.exceeded) == ((), (), False)


def test_a_home_partners_person_is_at_one_of_them() -> None:
    alone, both = audit(subject(home="shops")), audit(subject())
    names = "all lines, train persons"
    assert finding(both, names).releases - finding(alone, names).releases == STEPS


def test_the_canary_has_the_longest_row_that_the_encoding_knows() -> None:
    drawn = population(CONTRACTS, 50, np.random.default_rng(1))
    for domain, encoding in drawn.encodings.items():
        codes = canaries.worst_canary(encoding, drawn.effects[domain])
        assert np.linalg.norm(encoding.matrix(codes)) == pytest.approx(encoding.row_norm)


def test_a_large_population_is_walked_in_fewer_strides_and_all_releases_are_still_drawn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(canaries, "_CELLS", 1.0)
    run = subject()
    found = canaries.transcripts(run, canaries.synthetic(run, run.persons, 0))
    assert {len(t.inside) for _, t in found.values()} == {1, 10}
    assert [t.count for _, t in found.values()] == [r.count for r in run.lines if isinstance(r, Release)]


@pytest.mark.parametrize("name", ["fusion/weights", "fusion/calibration"])
def test_fusion_without_the_canary_walks_the_very_same_way(name: str) -> None:
    """Else the population itself would differ between the worlds, by far more than one person may move it."""
    run = subject()
    release, found = canaries.transcripts(run, canaries.synthetic(run, run.persons, 0))[name]
    assert found.norms.max() <= release.bound * (1 + 1e-9)
    assert found.norms.min() > 0.5 * release.bound


@pytest.mark.statistical
@pytest.mark.parametrize("engine", ["network", "opacus"])
def test_sampled_lines_are_audited_as_if_the_canary_were_in_every_batch(engine: str) -> None:
    pytest.importorskip("torch")
    run = subject(engine, epsilon=8.0)
    found = audit(run)
    assert not found.exceeded
    line, whole = finding(found, "payments/pay-1"), finding(found, "all lines, train persons")
    assert line.releases == 50
    assert line.strength > 0.6
    assert whole.claim > run.epsilon > 0
    assert audit(changed(run, "payments/pay-1", made_of(Quieter))).exceeded


def test_a_finished_run_is_audited_from_its_folder(private_run: Any, exact_run: Any) -> None:
    run = Subject.of_run(private_run.out)
    assert run.persons == private_run.report["persons"]["train"]
    found = audit(run, trials=200, trainings=3)
    assert not found.exceeded
    assert found.claim == 1.0
    assert found.model is not None
    assert found.model.name.startswith("model of ")
    assert audit(Subject.of_run(exact_run.out)).lines == ()


def test_a_folder_without_a_run_is_refused_with_its_name(tmp_path: Any) -> None:
    with pytest.raises(InputError, match=r"report\.json"):
        Subject.of_run(tmp_path)
    (tmp_path / "report.json").write_text("{")
    with pytest.raises(InputError, match="is not JSON"):
        Subject.of_run(tmp_path)


def noisy(scale: float) -> Callable[[bool, bool], Floats]:
    rng = np.random.default_rng(1)
    return lambda inside, noise: np.array([float(inside), 0.0]) + noise * scale * rng.standard_normal(2)


def test_an_attack_on_models_finds_a_push_that_noise_does_not_hide_and_none_that_it_does() -> None:
    told, hidden = (ranks_bound(attack(noisy(scale), 200), DELTA).epsilon for scale in (0.1, 20.0))
    assert told > 10
    assert hidden == 0.0


def shadows(noise_multiplier: float, schedule: Schedule, persons: int = 200, models: int = 64) -> Scores:
    """LiRA: each of `models` scorecards trained on half of the persons, every person's margin likened to the others'.

    Source: Carlini et al. (2022), arXiv:2112.03570.
    """
    rng = np.random.default_rng(3)
    drawn = population({"payments": contract("payments", 16)}, persons, rng)
    encoding, (codes, labels) = drawn.encodings["payments"], drawn.block("payments")
    mechanism, noise = GaussianSum(encoding.row_norm, encoding.columns, noise_multiplier), Csprng()
    member = np.stack([rng.permutation(models) < models // 2 for _ in range(persons)], axis=1)
    margin = np.zeros(member.shape)
    for row, here in zip(margin, member, strict=True):
        gradient = scorecard.gradient_sum(encoding, codes[:, here], labels[here])
        start, expected = scorecard.start(encoding), persons / 2
        _, mean = descend(start, gradient, lambda total: mechanism.release(total, noise), expected, schedule)
        row[:] = np.where(labels == 1, 1.0, -1.0) * encoding.gather(encoding.packed(codes), *encoding.points(mean))
    scores = np.zeros(member.shape)
    for k in range(models):
        for sign, side in ((1, member), (-1, ~member)):
            others = np.where((side & (np.arange(models) != k)[:, None]), margin, np.nan)
            mean, deviation = np.nanmean(others, axis=0), np.nanstd(others, axis=0)
            scores[k] -= sign * (np.log(deviation) + ((margin[k] - mean) / deviation) ** 2 / 2)
    return Scores(scores[member], scores[~member], math.nan)


@pytest.mark.statistical
def test_members_cannot_be_told_from_a_private_model_while_without_noise_they_can() -> None:
    """T9: the true positive rate at a false positive rate of 0.1 %, of 6400 members and as many others."""
    epsilon, rate, schedule = 2.0, 0.001, Schedule.of(1500.0, contract_norm())
    allowed = math.exp(epsilon) * rate + DELTA

    def caught(scores: Scores) -> int:
        return int((scores.inside > np.sort(scores.outside)[-1 - int(rate * len(scores.outside))]).sum())

    private = shadows(math.sqrt(schedule.steps) / gaussian_mu(epsilon, DELTA), schedule)
    assert rate_limits(caught(private), len(private.inside))[1] <= allowed
    bare = shadows(0.0, schedule)
    assert caught(bare) / len(bare.inside) > 5 * allowed
    assert area(bare.inside, bare.outside) > 0.6 > area(private.inside, private.outside)


def contract_norm() -> float:
    return Encoding.of(contract("payments", 16)).row_norm


@pytest.mark.statistical
@pytest.mark.parametrize("attempt", range(4))
def test_correct_runs_are_never_refused_and_half_the_noise_always(attempt: int) -> None:
    run = subject()
    assert not any(audit(run, seed=10 * attempt + i).exceeded for i in range(5))
    spoilt = changed(run, "shops/shop-1", made_of(Quieter))
    assert all(audit(spoilt, seed=10 * attempt + i).exceeded for i in range(5))
