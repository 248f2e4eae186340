"""The cells of a sweep: every set of persons under every arm, epsilon and seed, and what each needs to be trained."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from model.federation import Federation, load_federation
from model.inputs import InputError
from model.terms import check_delta, check_epsilon
from simulations.datasets import DataSet, find
from simulations.extending import named
from simulations.settings import Settings
from simulations.spread import BACKENDS
from simulations.sweep.arms import Arm, Skipped, derived

EPSILONS = (0.1, 0.5, 1.0, 2.0, 4.0, 8.0, math.inf)
ROOT = Path("../shared/data")  # of the benchmark sets
DECIDE = 20_000  # held-out persons of a cell that are decided for: enough for its shares and sums
_WHERE = "command line"


@dataclass(frozen=True)
class Sweep:
    """What is compared, and where it is written.

    Attributes:
        federations: federation files, or names of benchmark sets.
        out: folder to write; one that holds the same sweep, unfinished, is gone on with.
        data: for a federation file, the folder that its data paths are relative to; for a benchmark set, the folder of
            all sets. None is the file's own, and `ROOT`.
        epsilons: of every arm that has privacy.
        seeds: how many; they count from 0.
        arms: names of arms or groups of them.
        delta: None takes each federation's.
        policy: the limit policy; None is the shipped one.
        decide: how many held-out persons of each cell to decide for; 0 is all.
        jobs: cells at a time; 0 is one a core.
        backend: `process` or `ray`.
        address: of a Ray cluster; empty starts one on this machine.
        report: whether to draw the report.
        force: whether another sweep in `out` is replaced.
    """

    federations: tuple[str, ...]
    out: Path
    data: Path | None = None
    epsilons: tuple[float, ...] = EPSILONS
    seeds: int = 10
    arms: tuple[str, ...] = ("joint", "own-block")
    delta: float | None = None
    policy: Path | None = None
    decide: int = DECIDE
    jobs: int = 0
    backend: str = "process"
    address: str = ""
    report: bool = True
    force: bool = False

    def __post_init__(self) -> None:
        if not self.federations or not self.epsilons:
            raise InputError(_WHERE, "--epsilons" if self.federations else "FEDERATION", "is empty")
        if self.backend not in BACKENDS:
            raise InputError(_WHERE, "--backend", "must be " + " | ".join(BACKENDS), self.backend)
        if self.address and self.backend != "ray":
            raise InputError(_WHERE, "--address", "is of the backend ray alone", self.address, "add --backend ray")
        for epsilon in self.epsilons:
            check_epsilon(_WHERE, "--epsilons", epsilon)
        if self.delta is not None:
            check_delta(_WHERE, "--delta", self.delta)
        for name, value, least in (("--seeds", self.seeds, 1), ("--jobs", self.jobs, 0), ("--decide", self.decide, 0)):
            if value < least:
                raise InputError(_WHERE, name, f"must be a whole number >= {least}", value)


@dataclass(frozen=True)
class Cell:
    """One training."""

    set: str
    arm: str
    epsilon: float
    seed: int

    @property
    def key(self) -> str:
        """Its name on the disk.

        >>> Cell("uci-default", "joint", 0.5, 3).key
        'uci-default.joint.0.5.3'
        """
        return f"{slug(self.set)}.{self.arm}.{self.epsilon:.12g}.{self.seed}"


@dataclass(frozen=True)
class Lane:
    """One arm on one set: the federation file that it runs on, and its cells' budgets.

    `text` is what the file must hold where it is made for the arm.
    """

    data: DataSet
    arm: Arm
    text: str | None

    @property
    def file(self) -> str:
        """The name of the federation file that is made for the arm."""
        return f"{slug(self.data.name)}.{self.arm.name}.toml"


def slug(name: str) -> str:
    """A set's name as a part of file names.

    >>> slug("uci_default"), slug("../贷款 2024")
    ('uci_default', '贷款-2024')
    """
    return re.sub(r"[^\w-]+", "-", name).strip("-")[:60] or "set"


def sets_of(asked: Sweep) -> dict[str, DataSet]:
    """The sets by their federations' names.

    Raises:
        InputError: a file that cannot be used, a set whose data are not there, or two of one name.
    """
    found: dict[str, DataSet] = {}
    for text in asked.federations:
        data = set_of(text, asked.data)
        name = load_federation(data.federation, data.data).name
        if slug(name) in {slug(other) for other in found}:
            rule = "is the name of another federation of this sweep"
            raise InputError(data.federation, "federation.name", rule, name, "give each a name of its own")
        found[name] = replace(data, name=name)
    return found


def set_of(text: str, root: Path | None) -> DataSet:
    """The set of a federation file, or the benchmark set of a name; `root` is as `Sweep.data`.

    Raises:
        InputError: neither, or its data are not there.
    """
    path = Path(text)
    if len(path.parts) > 1 and path.is_dir():
        raise InputError(path, "", "is a folder", remedy="give the federation file in it")
    if path.suffix == ".toml" or path.is_file() or len(path.parts) > 1:
        return DataSet(text, path.absolute(), (root or path.parent).absolute())
    try:
        data = find(text, (root or ROOT).absolute())
    except InputError as none:
        raise InputError(_WHERE, "FEDERATION", "is neither a file nor a benchmark set", text, none.remedy) from None
    if data is None:
        raise InputError(_WHERE, "--data", f"holds no data of {text}", str(root or ROOT))
    return data


def lanes_of(data: DataSet, arms: Iterable[Arm]) -> tuple[list[Lane], list[str]]:
    """The arms that a set has something for, and why it has nothing for the others."""
    federation, lanes, notes = load_federation(data.federation, data.data), [], []
    for arm in arms:
        try:
            if arm.learner == "own-block" and federation.lender.contract is None:
                raise Skipped("the lender has no contract")
            lanes.append(Lane(data, arm, derived(federation, data.data, arm) if arm.ours else None))
        except Skipped as why:
            notes.append(f"{data.name}: {arm.name} is left out: {why}")
    return lanes, notes


def cells_of(lanes: Iterable[Lane], asked: Sweep) -> dict[Cell, Lane]:
    """Every cell, in the order of training: one of each lane first, so that the time that remains is soon known.

    After those, sets one after another and seeds within them: a worker keeps the tables of a set.
    """
    cells = {
        Cell(lane.data.name, lane.arm.name, epsilon, seed): lane
        for lane in lanes
        for seed in range(asked.seeds)
        for epsilon in lane.arm.epsilons(sorted(set(asked.epsilons)))
    }
    first: dict[tuple[str, str], Cell] = {}
    for cell in cells:
        first.setdefault((cell.set, cell.arm), cell)
    pilots = set(first.values())
    sets = list(dict.fromkeys(cell.set for cell in cells))
    order = sorted(cells, key=lambda c: (c not in pilots, sets.index(c.set), c.seed))
    return {cell: cells[cell] for cell in order}


def settings_of(cell: Cell, lane: Lane, asked: Sweep, folder: Path) -> Settings:
    """The simulation of a cell; of a baseline, the simulation whose rows and split it takes.

    Args:
        cell: which one.
        lane: its own.
        asked: the sweep.
        folder: where federation files lie that were made for an arm.
    """
    ours = lane.arm.ours
    made = lane.text is not None
    return Settings(
        federation=folder / lane.file if made else lane.data.federation,
        out=Path("out"),
        data=None if made else lane.data.data,
        epsilon=cell.epsilon,
        delta=asked.delta,
        seed=cell.seed,
        engine=lane.arm.learner if ours else "scorecard",
        trust=lane.arm.trust if ours else "local",
        policy=asked.policy.absolute() if asked.policy else None,
        decide=asked.decide,
    )


def terms_of(federation: Federation, arm: Arm, asked: Sweep) -> dict[str, object]:
    """What a cell's row says of how it was trained, beside its key."""
    several = len({p.domain for p in federation.partners}) < len(federation.partners)
    return {
        "learner": named(arm.learner) if arm.ours else arm.learner,
        "trust": arm.trust,
        "allocation": ("given" if federation.privacy.shares and arm.allocation == "norm" else arm.allocation),
        "within_domain": federation.privacy.within_domain if arm.ours and several else "",
        "split": "pinned" if federation.split or federation.cut else "seeded",
        "protected": any(f.protected for h in federation.holders if h.contract for f in h.contract.features),
        "private": arm.private,
        "delta": federation.privacy.delta if asked.delta is None else asked.delta,
        "holders": len(federation.holders),
    }
