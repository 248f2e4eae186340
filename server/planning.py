"""The plan of a run from public facts: contracts, the cohort's size, epsilon, delta and shares."""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

from model import averages, blocks, estimates, fusion, quantiles
from model.blocks import AUTO
from model.descent import Schedule
from model.federation import LENDER
from model.inputs import InputError
from model.terms import PrivacyTerms
from privacy.accounting import epsilon_of, gaussian_mu
from privacy.mechanisms import GAUSSIAN_SUM
from privacy.plan import HELD_OUT, BudgetExceeded, LabelResponse, Line, Plan, Release, digest, price
from privacy.roles import MOMENTS, Joint
from server.joint_planning import arrange, check_budget, check_terms, joint_layout, joint_lines
from server.roster import Member, Roster

FUSION_SHARE = 0.1
BINS_SHARE = 0.05  # of the budget, where any contract asks for private bins
REASONS_SHARE = 0.01  # of a block's own share: the averages that reasons are measured against
ROUNDS_OF_SHARED_DOMAINS = 4


@dataclass(frozen=True)
class RunPlan:
    """The priced plan of a run, with all that a holder must know of it.

    Attributes:
        programme: under whose budget it is charged.
        run: a random name, so that an equal plan later is another plan.
        schedules: of each line that descends, by its name.
        sizes: persons of the cohort, `train` and `held_out`; public.
        joint: how the joint fit is computed, where that is the engine.
        summed: the domains whose partners' updates are only ever shown as a sum.
    """

    plan: Plan
    schedules: Mapping[str, Schedule]
    programme: str
    engine: str
    rounds: int
    sizes: Mapping[str, int]
    joint: Joint | None = None
    summed: tuple[str, ...] = ()
    run: str = field(default_factory=lambda: secrets.token_hex(8))

    @cached_property
    def document(self) -> dict[str, Any]:
        """The whole plan as plain data: what every holder is sent, reserves and checks for itself."""
        return {
            "programme": self.programme,
            "run": self.run,
            "epsilon": "inf" if math.isinf(self.plan.epsilon) else self.plan.epsilon,
            "delta": self.plan.delta,
            "engine": self.engine,
            "rounds": self.rounds,
            "sizes": dict(self.sizes),
            "lines": [line.to_dict() for line in self.plan.lines],
            "schedules": {name: asdict(schedule) for name, schedule in self.schedules.items()},
            **({"joint": self.joint.to_dict()} if self.joint else {}),
            **({"summed": list(self.summed)} if self.summed else {}),
        }

    @property
    def id(self) -> str:
        """The name under which ledgers charge it."""
        return digest(self.document)

    def line(self, name: str) -> Release | None:
        """The noisy sum of that name, if the plan has one."""
        return next((r for r in self.plan.releases if r.name == name), None)


def make_plan(roster: Roster, engine: str, rounds: int, trust: str = "secure") -> RunPlan:
    """Every release of the run, priced to sum to the programme's epsilon over all holders.

    Shares are parts of mu^2. By default fusion gets a tenth, and the rest goes to holders by the square of their rows'
    norm (features + 1): then every column of every block bears the same noise, as in one joint gradient. The held-out
    persons, whom nothing else touches, pay for the evaluation.
    """
    if engine == AUTO:
        try:
            return make_plan(roster, "moments" if trust != "local" else "scorecard", rounds, trust)
        except InputError:  # roles that nobody can play, or contracts too wide
            engine = "scorecard"
    if engine == "moments":
        return _joint_plan(roster, trust)
    members, terms, sizes = roster.training(), roster.terms.privacy, roster.terms.sizes
    response = _response(roster)
    maker = _Maker(roster, engine, sizes["train"], _shares(members, terms), _gaussian_mu(terms, response), response)
    for member in members:
        maker.block(member)
    maker.fusion()
    lines = [*([response] if response else []), *maker.lines, *_evaluation(sizes)]
    shared = any(len(roster.of_domain(m.domain)) > 1 for m in members)
    rounds = rounds or (ROUNDS_OF_SHARED_DOMAINS if shared else 1)
    plan = price(lines, terms.epsilon, terms.delta)
    return RunPlan(plan, maker.schedules, roster.terms.programme, engine, rounds, sizes)


def _joint_plan(roster: Roster, trust: str) -> RunPlan:
    """The plan of a joint fit: private bins, a matrix, a few gradients, the evaluation. No label leaves the lender."""
    check_terms(roster)
    layout, sizes, terms = joint_layout(roster), roster.terms.sizes, roster.terms.privacy
    shares = _shares(roster.training(), replace(terms, within_domain="home"))
    maker = _Maker(roster, "moments", sizes["train"], shares, math.inf, None)
    for member in roster.training():
        maker.bins(member)
    lines = [*maker.lines, *joint_lines(layout, 1.0 - shares["bins"] * _private_features(roster)), *_evaluation(sizes)]
    plan = price(lines, terms.epsilon, terms.delta)
    run = RunPlan(plan, {}, roster.terms.programme, "moments", 1, sizes, arrange(roster, trust, layout))
    matrix = run.line(MOMENTS)
    if matrix:
        check_budget(layout, sizes["train"], matrix)
    return run


def _private_features(roster: Roster) -> int:
    """How many private features one person pays for: those of each domain once, since it has one home there."""
    domains = {m.domain: m.encoding.contract.features for m in roster.training()}
    return sum(f.private for features in domains.values() for f in features)


def _evaluation(sizes: Mapping[str, int]) -> list[Line]:
    """The line of the held-out persons' histogram, if there are any."""
    if not sizes["held_out"]:
        return []
    return [Release("evaluation/scores", LENDER, 1.0, 2 * estimates.BINS, 1, 1.0, persons=HELD_OUT)]


def _response(roster: Roster) -> LabelResponse | None:
    """The line of the labels that leave the lender, where the terms protect them and a partner trains on them."""
    label_epsilon = roster.terms.privacy.label_epsilon
    told = any(m.name != LENDER and m.contract and not m.contract.outcome for m in roster.training())
    return LabelResponse("labels/lender", LENDER, label_epsilon) if label_epsilon is not None and told else None


def _gaussian_mu(terms: PrivacyTerms, response: LabelResponse | None) -> float:
    """About what the labels leave to the noisy sums: for schedules only; `price` finds the noise itself."""
    labels = epsilon_of([response.event], terms.delta) if response and math.isfinite(terms.epsilon) else 0.0
    if labels >= terms.epsilon:
        raise BudgetExceeded(f"the labels alone cost {labels:.3f} of epsilon={terms.epsilon:g}: lower label-epsilon")
    return gaussian_mu(terms.epsilon - labels, terms.delta)


@dataclass
class _Maker:
    """Collects lines and schedules, from shares and mu."""

    roster: Roster
    engine: str
    persons: int
    share: Mapping[str, float]
    mu: float
    response: LabelResponse | None
    lines: list[Line] = field(default_factory=list)
    schedules: dict[str, Schedule] = field(default_factory=dict)

    def _home(self, member: Member) -> str:
        """The domain among whose partners each person has one home; the joint fit always needs that."""
        shared = len(self.roster.of_domain(member.domain)) > 1
        home = self.roster.terms.privacy.within_domain == "home" or self.engine == "moments"
        return member.domain if home and shared and member.name != LENDER else ""

    def bins(self, member: Member) -> None:
        """A holder's line of private bins, if its contract asks for them."""
        private = [f for f in member.encoding.contract.features if f.private]
        if private:
            size, bound = quantiles.FINE * len(private), quantiles.bound(len(private))
            share, home = self.share["bins"] * len(private), self._home(member)
            self.lines.append(Release(f"bins/{member.name}", member.name, bound, size, 1, share, home=home))

    def block(self, member: Member) -> None:
        """A holder's lines: its private bins, its block, and the averages behind its reasons."""
        contract, encoding = member.encoding.contract, member.encoding
        holders, home = len(self.roster.of_domain(member.domain)), self._home(member)
        families = averages.families_of(encoding) if blocks.engine(self.engine).points else ()
        whole = self.share[member.name]
        reasons = REASONS_SHARE * whole if families else 0.0
        told = self.response is not None and member.name != LENDER and not contract.outcome
        stretch = self.response.stretch if self.response and told else 1.0
        spec = blocks.spec(self.engine, encoding, self.persons, self.mu * math.sqrt(whole - reasons), holders, stretch)
        name = line_name(member)
        self.schedules[name] = spec.schedule
        self.bins(member)
        self.lines.append(
            Release(
                *(name, member.name, spec.bound, spec.size, spec.schedule.steps, whole - reasons, spec.probability),
                home=home,
                kind=spec.mechanism or GAUSSIAN_SUM,
            )
        )
        if families:
            size, bound = len(families) + 1, averages.BOUND
            self.lines.append(Release(f"reasons/{member.name}", member.name, bound, size, 1, reasons, home=home))

    def fusion(self) -> None:
        """The lender's lines of the fusion."""
        own = self.roster.lender.domain if self.roster.lender.contract else None
        layout = layout_of({m.domain for m in self.roster.training()}, own)
        for part, (bound, size) in layout.bounds().items():
            share = self.share["fusion"] * fusion.PARTS[part]
            name = f"fusion/{part}"
            self.schedules[name] = layout.schedule(part, self.persons, self.mu * math.sqrt(share))
            self.lines.append(Release(name, LENDER, bound, size, self.schedules[name].steps, share))


def line_name(member: Member) -> str:
    """The name of the line of a member's block."""
    return f"{member.domain}/{member.name}"


def layout_of(domains: set[str], own: str | None) -> fusion.Layout:
    """The fusion's layout over these domains, the lender's own among them if it has one."""
    return fusion.Layout(len(domains - {own}), len(domains))


def _shares(members: tuple[Member, ...], terms: PrivacyTerms) -> dict[str, float]:
    """Parts of mu^2 that sum to 1 on one person: by holder, of the fusion, and of one private feature's bins.

    Home partners of a domain share one part: a person trains at one of them.
    """
    home = terms.within_domain == "home"
    group = {m.name: m.domain if home and m.name != LENDER else m.name for m in members}
    private = {group[m.name]: sum(f.private for f in m.encoding.contract.features) for m in members}
    weight = {group[m.name]: m.encoding.row_norm**2 for m in members}
    bins = terms.shares.get("bins", BINS_SHARE) if any(private.values()) else 0.0
    rest = 1 - FUSION_SHARE - bins
    part = {name: rest * w / sum(weight.values()) for name, w in weight.items()} | {"fusion": FUSION_SHARE}
    part |= {group.get(name, name): value for name, value in terms.shares.items() if name in (*group, "fusion")}
    whole = sum(part.values()) + bins
    features = sum(private.values())
    scaled = {name: value / whole for name, value in part.items()}
    named = {m.name: scaled[group[m.name]] for m in members}
    return {**named, "fusion": scaled["fusion"], "bins": bins / whole / features if features else 0.0}
