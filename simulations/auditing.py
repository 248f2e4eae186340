"""The audit of a run: what canaries show of epsilon beside what is claimed, for every line, for all, and for a model.

A bound above a claim refutes it, so such a bundle must not be published; bounds below prove nothing, but say how
little a worst-case person shows. A line that samples its batches is audited as if the canary were in each of them,
against the claim of the same releases without sampling: sampling itself is tested apart.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from clients.training import gradient_of
from model import blocks
from model.blocks import Gradient
from model.descent import descend
from privacy.audit import CONFIDENCE, Bound, Scores, Transcript, ranks_bound, spread_bound, tails_bound
from privacy.noise import Csprng
from privacy.plan import Line, Plan, Release, on_one_person
from simulations.canaries import Subject, synthetic, transcripts, with_canary
from simulations.joint_canaries import joint_transcripts

__all__ = ["AUDIT_TRAININGS", "AUDIT_TRIALS", "GATE_TRIALS", "Audit", "Finding", "Subject", "attack", "audit"]

Floats = NDArray[np.float64]
Audited = Mapping[str, tuple[Release, Transcript]]

GATE_TRIALS, AUDIT_TRIALS = 1000, 10_000  # scores on either side
AUDIT_TRAININGS = 150  # on either side
ATTACKED_PERSONS = 300  # of the trained models that are attacked: the fewer, the more a canary shows
UNATTACKED = "no attack on whole trained models: blocks that are fitted together are audited by their releases only"
SURE = 1 - 1e-9  # confidence at which a bundle is refused, on four times as many fresh trials


@dataclass(frozen=True)
class Finding:
    """A claim beside the bounds that canaries gave.

    Attributes:
        name: the plan's line, "all lines" or "model of" a line.
        claim: epsilon of the releases that were audited.
        bounds: by route.
        releases: how many noisy sums one canary's score is made of.
        strength: how far the canary moved the sums over their sensitivity (root mean square): what of mu it can
            show; NaN where that is not how it is scored.
    """

    name: str
    claim: float
    bounds: tuple[Bound, ...]
    releases: int
    strength: float = math.nan

    @property
    def epsilon(self) -> float:
        """The best lower bound."""
        return max(b.epsilon for b in self.bounds)

    @property
    def exceeded(self) -> bool:
        """Whether a lower bound is above the claim."""
        return self.epsilon > self.claim


@dataclass(frozen=True)
class Audit:
    """An audit's result.

    Attributes:
        lines: the plan's.
        totals: for each group of persons one whom every line of theirs touches, against the claim for all lines
            (without sampling, where lines sample).
        model: an attack on whole trained models, where asked for.
        claim: what the run states.
        recomputed: what the accountant makes of the run's releases now, which may not pass the claim either.
        trials: scores on either side.
        confidence: of each bound.
        note: what was asked for and left out, in plain words.
        seconds: how long it took.
    """

    lines: tuple[Finding, ...]
    totals: tuple[Finding, ...]
    model: Finding | None
    claim: float
    recomputed: float
    trials: int
    confidence: float
    note: str = ""
    seconds: float = field(default=0.0, compare=False)

    @property
    def exceeded(self) -> bool:
        """Whether anything is above its claim: such a bundle must not be published."""
        told = (*self.lines, *self.totals, *((self.model,) if self.model else ()))
        return self.recomputed > self.claim * 1.001 or any(finding.exceeded for finding in told)


def audit(subject: Subject, trials: int = GATE_TRIALS, trainings: int = 0, seed: int = 0) -> Audit:
    """Audits a run; what looks exceeded is looked at again with four times the trials, at the confidence `SURE`.

    So a correct run is refused once in hundreds of millions, while a wrong one keeps its distance: four times the
    trials halve the error. Without privacy (epsilon infinite) there is nothing to audit and nothing is exceeded.

    Args:
        subject: the run.
        trials: scores on either side, >= 2; noise is drawn afresh for each.
        trainings: whole trainings with, and as many without, the canary to attack a model with; 0 for none. Blocks
            that are fitted together are not attacked, which the result's `note` says.
        seed: of the synthetic population, never of noise.
    """
    began = time.monotonic()
    if math.isinf(subject.epsilon):
        return Audit((), (), None, math.inf, math.inf, 0, CONFIDENCE)
    drawn = synthetic(subject, subject.persons, seed)
    audited = transcripts(subject, drawn) | joint_transcripts(subject, drawn)
    found = _judged(subject, audited, trials, CONFIDENCE)
    if found.exceeded:
        found = _judged(subject, audited, 4 * trials, SURE)
    if trainings and not subject.blocks:
        found = replace(found, note=UNATTACKED)
    elif trainings:
        model = _attacked(subject, trainings, seed, CONFIDENCE)
        found = replace(found, model=_attacked(subject, 4 * trainings, seed, SURE) if model.exceeded else model)
    return replace(found, seconds=time.monotonic() - began)


def _judged(subject: Subject, audited: Audited, trials: int, confidence: float) -> Audit:
    rng = Csprng()
    scores = {name: transcript.scores(trials, rng) for name, (_, transcript) in audited.items()}
    lines = []
    for name, (release, transcript) in audited.items():
        claim, delta = _spent(subject, release), subject.delta
        bounds = tuple(route(scores[name], delta, confidence) for route in (ranks_bound, spread_bound))
        strength = float(np.sqrt((transcript.norms**2).mean())) / release.mechanism.sensitivity
        lines.append(Finding(name, claim, bounds, release.count, strength))
    totals = tuple(
        _total(
            subject,
            persons,
            {line.name: audited[line.name][0] for line in group if line.name in audited},
            scores,
            confidence,
        )
        for persons, group in on_one_person(subject.lines).items()
    )
    return Audit(tuple(lines), totals, None, subject.epsilon, _spent(subject, *subject.lines), trials, confidence)


def _total(
    subject: Subject, persons: str, audited: Mapping[str, Release], scores: Mapping[str, Scores], confidence: float
) -> Finding:
    """One person in all of these lines: against the run's own claim, unless sampled lines were audited unsampled."""
    planned = {line.name: line.event for line in subject.lines}
    whole = all(planned[name] == release.event for name, release in audited.items())
    claim = subject.epsilon if whole else _spent(subject, *audited.values())
    joined = Scores.joined([scores[name] for name in audited])
    bounds = tuple(route(joined, subject.delta, confidence) for route in (ranks_bound, spread_bound, tails_bound))
    return Finding(f"all lines, {persons} persons", claim, bounds, sum(r.count for r in audited.values()))


def _spent(subject: Subject, *lines: Line) -> float:
    return Plan(lines, subject.epsilon, subject.delta).spent()


def _attacked(subject: Subject, trainings: int, seed: int, confidence: float) -> Finding:
    """The block line with the largest budget, attacked through whole trainings on a population small enough."""
    release, domain = max(subject.blocks.values(), key=lambda line: line[0].share)
    drawn = synthetic(subject, min(subject.persons, ATTACKED_PERSONS), seed)
    encoding, (codes, labels) = drawn.encodings[domain], with_canary(drawn, domain, subject.response(release, domain))
    start = blocks.start(subject.engine, encoding, np.random.default_rng(seed))
    schedule, persons = subject.schedule(release, domain), len(labels) / subject.holders(domain)
    mechanism, rng = release.mechanism, Csprng()

    def model(inside: bool, noisy: bool) -> Floats:
        shown = slice(None) if inside else slice(-1)
        probability = release.probability if noisy else 1.0
        sums = gradient_of(subject.engine, encoding, codes[:, shown], labels[shown], probability)
        add: Gradient = (lambda total: mechanism.release(total, rng)) if noisy else (lambda total: total)
        return descend(start, sums, add, persons * probability, schedule)[1]

    scores = attack(model, trainings)
    bounds = tuple(route(scores, subject.delta, confidence) for route in (ranks_bound, tails_bound))
    return Finding(f"model of {release.name}", _spent(subject, release), bounds, release.count)


def attack(model: Callable[[bool, bool], Floats], trainings: int) -> Scores:
    """Scores published weights by how far they went the way that the canary alone would push them.

    Args:
        model: weights, shape (size,), trained (with the canary, with noise).
        trainings: on either side, each with fresh noise.
    """
    push = model(True, False) - model(False, False)
    inside, outside = (np.array([model(side, True) @ push for _ in range(trainings)]) for side in (True, False))
    return Scores(inside, outside, float(push @ push))
