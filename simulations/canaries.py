"""Canaries through a run's own training code: the exact sums of every release, with one worst-case person and without.

No real person is read, let alone trained on again: a run's contracts, its releases and the number of its training
persons are enough. The canary (a row of the largest norm, a label against the prediction) stands at every holder, and
both worlds are followed along one noisy trajectory of the production gradients, schedules and mechanisms.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clients.training import gradient_of
from model import blocks, fusion
from model.blocks import Block
from model.contract import Contract
from model.descent import Schedule, descend
from model.encoding import Codes, Encoding
from model.federation import LENDER
from model.inputs import InputError, read_text
from privacy.accounting import gaussian_mu
from privacy.audit import Transcript
from privacy.noise import Csprng, poisson_batch
from privacy.plan import TRAIN, LabelResponse, Line, Release, line_of, on_one_person
from simulations.synthetic import Population, Traits, population

Floats = NDArray[np.float64]

PARTNER_SHARE = 0.6  # of the synthetic persons at each partner's domain
SAFEST = -10.0  # log-odds of a canary's sub-scores, farther from any centre than fusion looks
_CELLS = 6e8  # bins read in one audit's gradients: bounds its time
_FEWEST, _SAMPLED_STEPS = 10, 50
_FUSION = "fusion"  # what its lines' names begin with


@dataclass(frozen=True)
class Subject:
    """What of a run is audited, all of it public.

    Attributes:
        lines: the plan's, as they were run.
        engine: of the blocks.
        contracts: by domain.
        persons: training persons.
        epsilon: what is claimed for all lines together.
        delta: at which it is claimed.
        lender: the lender's own domain, where no line of its own tells it.
    """

    lines: tuple[Line, ...]
    engine: str
    contracts: Mapping[str, Contract]
    persons: int
    epsilon: float
    delta: float
    lender: str | None = None

    @classmethod
    def of_run(cls, folder: Path) -> Subject:
        """The subject of a finished run; raises `InputError` where the folder holds none."""
        report, bundle = _json(folder / "report.json"), _json(folder / "model" / "bundle.json")
        blocks.engine(str(report["engine"]))  # one of the researcher's own must be loaded, with its mechanism
        return cls(
            tuple(line_of(row) for row in report["releases"]),
            str(report["engine"]),
            {domain: Contract.from_dict(row["contract"]) for domain, row in bundle["blocks"].items()},
            int(report["persons"]["train"]),
            float(bundle["statement"]["epsilon"]),
            float(bundle["statement"]["delta"]),
            bundle["fusion"]["own"],
        )

    @property
    def blocks(self) -> dict[str, tuple[Release, str]]:
        """The lines of blocks, none where they are fitted together, with their domains; failed ones are left out."""
        if self.engine == "moments":
            return {}
        named = {r.name: (r, r.name.partition("/")[0]) for r in self.lines if isinstance(r, Release)}
        return {name: (r, domain) for name, (r, domain) in named.items() if domain in self.contracts}

    @property
    def own(self) -> str | None:
        """The lender's own domain, if it has one."""
        return next((domain for r, domain in self.blocks.values() if r.holder == LENDER), self.lender)

    def response(self, release: Release, domain: str) -> LabelResponse | None:
        """How a block's labels were flipped before its holder got them; the lender's and a partner's own are not."""
        told = release.holder != LENDER and not self.contracts[domain].outcome
        return next((line for line in self.lines if isinstance(line, LabelResponse) and told), None)

    def schedule(self, release: Release, domain: str) -> Schedule:
        """About a block line's schedule, from public numbers: noise and count are the plan's own."""
        whole = sum(r.share for r in on_one_person(self.lines)[TRAIN] if isinstance(r, Release))
        mu = gaussian_mu(self.epsilon, self.delta) * math.sqrt(release.share / whole)
        response, encoding = self.response(release, domain), Encoding.of(self.contracts[domain])
        stretch = response.stretch if response else 1.0
        spec = blocks.spec(self.engine, encoding, self.persons, mu, self.holders(domain), stretch)
        return replace(spec.schedule, steps=release.count)

    def holders(self, domain: str) -> int:
        """Partners that share a domain."""
        return sum(d == domain for _, d in self.blocks.values())


def worst_canary(encoding: Encoding, effects: Floats, squares: Floats | None = None) -> Codes:
    """The bins of a person whose encoded row has the largest norm and whose prediction is as safe as that allows.

    Sought feature by feature, the others' bins kept, twice over: products tie features to each other. `squares` are
    the squared norms of all bins where rows are not the encoding's own. The result has the shape (parts, 1).
    """
    if squares is None:
        squares = np.concatenate([np.square(part.basis).sum(axis=1) for part in encoding.parts])
    canary = np.zeros((len(encoding.features), 1), dtype=np.uint16)
    for i, part in [*enumerate(encoding.features)] * 2:
        trials = np.repeat(canary, len(part.labels), axis=1)
        trials[i] = np.arange(len(part.labels))
        bins = encoding.with_products(trials) + encoding.offsets[:-1, None]
        norms, curve = squares[bins].sum(axis=0), effects[bins].sum(axis=0)
        canary = trials[:, [int(np.where(norms >= norms.max() - 1e-9, curve, np.inf).argmin())]]
    return encoding.with_products(canary)


def with_canary(drawn: Population, domain: str, response: LabelResponse | None = None) -> tuple[Codes, Floats]:
    """A domain's bins, shape (parts, n + 1), and labels as its holder has them, the canary last.

    Where labels come by randomised response they are flipped and unbiased; the canary's is the farthest from any
    prediction either way.
    """
    codes, labels = drawn.block(domain)
    canary = worst_canary(drawn.encodings[domain], drawn.effects[domain])
    if response:
        labels = np.abs(labels - (Csprng().uniform(len(labels)) <= response.flip))
    labels = np.append(labels, 1.0)
    return np.concatenate([codes, canary], axis=1), response.unbiased(labels) if response else labels


def synthetic(subject: Subject, persons: int, seed: int) -> Population:
    """A population for the subject's contracts; the lender's own domain has everybody."""
    shares = {domain: PARTNER_SHARE for domain in subject.contracts if domain != subject.own}
    return population(subject.contracts, persons, np.random.default_rng(seed), Traits(shares=shares))


def transcripts(subject: Subject, drawn: Population) -> dict[str, tuple[Release, Transcript]]:
    """Of every line that releases sums what was audited of it, and its transcript.

    A line whose training is neither a block's nor fusion's has its mechanism audited on a person at the bound.
    """
    cells = sum(drawn.present[domain].sum() * len(drawn.codes[domain]) for _, domain in subject.blocks.values())
    most = max(_FEWEST, int(_CELLS / max(2 * cells, 1)))
    found, trained = {}, {}
    for release in (line for line in subject.lines if isinstance(line, Release)):
        person = np.zeros((1, release.size))
        person[0, 0] = release.bound
        found[release.name] = release, Transcript(release.mechanism, person, 0 * person, release.count)
    for name, (release, domain) in subject.blocks.items():
        schedule = subject.schedule(release, domain)
        count = release.count if release.probability == 1.0 else min(release.count, _SAMPLED_STEPS)
        walked = replace(schedule, steps=min(count, most))
        pair = _Pair.of(subject, drawn, release, domain)
        trained[domain] = pair.descend(release, walked, subject.persons / subject.holders(domain))
        audited = replace(release, count=count, probability=1.0)
        found[name] = audited, Transcript(release.mechanism, *pair.sums(), count)
    return found | _fusion_transcripts(subject, drawn, trained, most)


@dataclass
class _Pair:
    """The production gradients of one block with and without the canary, and the sums they gave."""

    engine: str
    encoding: Encoding
    both: Callable[[Floats], tuple[Floats, Floats]]
    seen: list[tuple[Floats, Floats]] = field(default_factory=list)

    @classmethod
    def of(cls, subject: Subject, drawn: Population, release: Release, domain: str) -> _Pair:
        """The pair of a line; where it samples, the canary is in every batch."""
        engine, encoding = subject.engine, drawn.encodings[domain]
        codes, labels = with_canary(drawn, domain, subject.response(release, domain))
        if release.probability == 1.0:
            inside = gradient_of(engine, encoding, codes, labels)
            outside = gradient_of(engine, encoding, codes[:, :-1], labels[:-1])
            return cls(engine, encoding, lambda theta: (inside(theta), outside(theta)))
        rng, canary = Csprng(), len(labels) - 1

        def both(theta: Floats) -> tuple[Floats, Floats]:
            batch = np.append(poisson_batch(rng, canary, release.probability), canary)
            rows = codes[:, batch], labels[batch]
            inside = gradient_of(engine, encoding, *rows)(theta)
            return inside, gradient_of(engine, encoding, rows[0][:, :-1], rows[1][:-1])(theta)

        return cls(engine, encoding, both)

    def descend(self, release: Release, schedule: Schedule, persons: float) -> Block:
        """Trains with the canary and the release's own noise, keeping the sums of both worlds at each step."""
        mechanism, rng = release.mechanism, Csprng()

        def inside(theta: Floats) -> Floats:
            self.seen.append(self.both(theta))
            return self.seen[-1][0]

        start = blocks.start(self.engine, self.encoding, np.random.default_rng(0))
        expected = persons * release.probability
        _, mean = descend(start, inside, lambda total: mechanism.release(total, rng), expected, schedule)
        return Block.finished(self.engine, self.encoding, mean)

    def sums(self) -> tuple[Floats, Floats]:
        """The sums of both worlds, shape (steps, size) each."""
        inside, outside = zip(*self.seen, strict=True)
        return np.stack(inside), np.stack(outside)


@dataclass
class _Tape:
    """A release that keeps the sums it is given and draws its noise, or plays another tape's answers again."""

    release: Release
    rng: Csprng
    sums: list[Floats] = field(default_factory=list)
    answers: list[Floats] = field(default_factory=list)
    played: list[Floats] | None = None
    scale: float = 1.0

    def __call__(self, total: Floats) -> Floats:
        self.sums.append(total)
        if self.played is not None:
            return self.played[len(self.sums) - 1] * self.scale
        self.answers.append(self.release.mechanism.release(total, self.rng))
        return self.answers[-1]


def _fusion_transcripts(
    subject: Subject, drawn: Population, trained: Mapping[str, Block], most: int
) -> dict[str, tuple[Release, Transcript]]:
    """The fusion's lines: fitted with the canary, then without it along the very same noisy trajectory."""
    optional = tuple(sorted(set(trained) - {subject.own}))
    columns = [*optional, *([subject.own] if subject.own else [])]
    layout = fusion.Layout(len(optional), len(columns))
    bounds, named = layout.bounds(), {r.name: r for r in subject.lines if isinstance(r, Release)}
    if not trained or any(f"{_FUSION}/{part}" not in named for part in bounds):
        return {}
    lines, schedules = {}, {}
    for part, (bound, size) in bounds.items():
        line = named[f"{_FUSION}/{part}"]
        lines[part] = line if line.size == size else replace(line, bound=bound, size=size)
        schedule = layout.schedule(part, subject.persons, math.sqrt(line.event.mu_squared))
        schedules[part] = replace(schedule, steps=min(line.count, most))
    values = [np.where(drawn.present[d], trained[d].subscores(drawn.codes[d]), np.nan) for d in columns]
    rows = np.concatenate([np.stack(values, axis=1), np.full((1, len(columns)), SAFEST)])
    labels = np.append(drawn.labels, 1.0)
    first = {part: _Tape(line, Csprng()) for part, line in lines.items()}
    fusion.fit(fusion.Subscores(optional, subject.own, rows), labels, dict(first), schedules)
    # The absent canary is a null row: the size that sums are divided by stays, so its answers are scaled back.
    scale = {part: 1.0 if part == "centres" else (len(labels) - 1) / len(labels) for part in lines}
    second = {
        part: _Tape(line, Csprng(), played=first[part].answers, scale=scale[part]) for part, line in lines.items()
    }
    fusion.fit(fusion.Subscores(optional, subject.own, rows[:-1]), labels[:-1], dict(second), schedules)
    return {
        f"{_FUSION}/{part}": (
            line,
            Transcript(line.mechanism, np.stack(first[part].sums), np.stack(second[part].sums), line.count),
        )
        for part, line in lines.items()
    }


def _json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(read_text(path))
    except json.JSONDecodeError:
        raise InputError(path, "", "is not JSON", remedy="give the folder of a finished run") from None
    if not isinstance(data, dict):
        raise InputError(path, "", "is not a table", remedy="give the folder of a finished run")
    return data
