"""A sweep on real persons: the best of several arms, under one budget, charged to every holder before the first run.

Each run releases its model and a noisy histogram of held-out scores, ranks by the AUC read off that histogram, and
costs a person at most what `privacy.selection` allows for one run. Either each arm runs once, and all of them compose;
or an arm is drawn for each of a random number of runs, which stays secret. Only the best run's model is written.

A sweep that dies has been charged and has released nothing. It is not gone on with: a second draw under the first
charge would be a second sweep for which nobody paid. The next call charges anew. What its runs wrote, exact figures
among it, is deleted when the process dies, by another one; after a power cut the next private sweep on these ledgers
does that first, and until then LEDGER/.candidates-* must not be read.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from subprocess import PIPE, Popen
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

from clients.config import Node
from model.bundle import Bundle
from model.federation import load_federation
from model.inputs import InputError
from model.terms import check_epsilon
from privacy.accounting import shown
from privacy.durable import alone
from privacy.noise import Csprng
from privacy.plan import BudgetExceeded, line_of
from privacy.statement import selected
from server.failures import RunFailed
from server.outcomes import MODEL_FOLDER
from simulations import preflight
from simulations.folders import new_folder
from simulations.run import Result, Say, simulate
from simulations.settings import Settings
from simulations.sweep.arms import arms_of
from simulations.sweep.grid import Cell, Sweep, lanes_of, sets_of, settings_of
from simulations.sweep.pricing import SELECTS, Candidate, Priced, charge, priced

SCHEMA = "fedscore-private-sweep/1"
WORK = ".candidates-"  # begins the name of a folder beside the ledgers, where runs write until they have lost
_CLEAN = "import shutil, sys; sys.stdin.read(); shutil.rmtree(sys.argv[1], ignore_errors=True)"
_WHERE = "command line"


@dataclass(frozen=True)
class PrivateSweep:
    """What is selected from, and under which budget.

    Attributes:
        federation: a federation file, or the name of a benchmark set.
        out: folder to write, which must not exist unless `force`.
        ledger: folder of the ledgers that the programme's runs share.
        epsilon: of the whole sweep on one person.
        arms: of `simulations.sweep.arms`, two or more, each a whole run that trains on full batches.
        data: as of `Sweep`.
        delta: None is the federation's.
        seed: of the split where the federation gives none, and of initialisation.
        select: `once` runs each arm once; `poisson` and `geometric` draw how many runs there are; `auto` takes what
            leaves each run most budget, `once` where that is nearly as good.
    """

    federation: str
    out: Path
    ledger: Path
    epsilon: float
    arms: tuple[str, ...]
    data: Path | None = None
    delta: float | None = None
    seed: int = 0
    select: str = "auto"
    force: bool = False

    def __post_init__(self) -> None:
        check_epsilon(_WHERE, "--epsilon", self.epsilon)
        if math.isinf(self.epsilon):
            raise InputError(_WHERE, "--epsilon", "must be finite in a private sweep", "inf")
        if self.select not in SELECTS:
            raise InputError(_WHERE, "--select", "must be " + " | ".join(SELECTS), self.select)
        if self.out.exists() and not self.force:
            raise InputError(self.out, "", "exists already", remedy="give another --out, or --force to replace it")
        if self.ledger.resolve().is_relative_to(self.out.resolve()):
            raise InputError(_WHERE, "--ledger", "must not lie in --out, which a sweep replaces", self.ledger)


def private_sweep(asked: PrivateSweep, say: Say = lambda text: None) -> dict[str, Any]:
    """Charges the whole sweep to every holder's ledger, runs it, and writes the best run's model and statement.

    Args:
        asked: what to select from.
        say: is told what is going on, but nothing of how many runs there are.

    Returns:
        What `out`/sweep.json says.

    Raises:
        InputError: bad input, found before anything is charged.
        BudgetExceeded: a ledger does not hold the sweep; nothing was charged.
        RunFailed: no run was drawn, or none of them went well. The charge stands, as it does whatever happens later.
    """
    _clear(asked.ledger)
    say("reading the holders' files")
    with TemporaryDirectory(prefix="fedscore-") as made, new_folder(asked.out) as part:
        candidates, given = _candidates(asked, Path(made))
        lasting = replace(given, ledger=asked.ledger, delta=asked.delta)
        node = preflight.node_of(lasting, part)
        say("pricing every release")
        ready = priced(candidates, asked.select, asked.epsilon, node)
        asked.ledger.mkdir(mode=0o700, parents=True, exist_ok=True)
        with alone(asked.ledger), _work(asked.ledger) as work:
            charge(node, ready.charge)
            charged = work.stat().st_mtime
            say(f"charged epsilon {shown(ready.charge.plan.spent())} to every holder for the whole sweep; running it")
            told = _written(part, ready, node, _best(ready, work / "run"))
        for path in (*part.rglob("*"), part, asked.ledger):  # when a sweep ended would tell how many runs it had
            os.utime(path, (charged, charged))
    return told


@contextmanager
def _work(ledger: Path) -> Iterator[Path]:
    """A folder for what runs write, deleted when this process is done with it or dies: another one waits for that."""
    folder = Path(mkdtemp(prefix=WORK, dir=ledger))  # for its owner only
    command = [sys.executable, "-I", "-S", "-c", _CLEAN, str(folder)]
    try:
        with Popen(command, stdin=PIPE, start_new_session=True):  # its input ends with us
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _clear(ledger: Path) -> None:
    """Deletes what runs left there when the machine stopped; waits for a sweep that is running."""
    if ledger.is_dir():
        with alone(ledger):
            for folder in ledger.glob(f"{WORK}*"):
                shutil.rmtree(folder, ignore_errors=True)


def _candidates(asked: PrivateSweep, made: Path) -> tuple[list[Candidate], Settings]:
    """The arms, each with its holders' files looked at, and the federation as it was given, whose holders are charged.

    Raises:
        InputError: for an arm that is no private run of these holders.
    """
    sweep = Sweep((asked.federation,), asked.out, asked.data, (asked.epsilon,), 1, asked.arms, asked.delta, decide=1)
    arms = arms_of(asked.arms)
    for arm in arms:
        if not arm.ours or ":" in arm.learner or arm.private != "person":
            raise InputError(_WHERE, "--arms", "is no private run of ours, as a private sweep needs", arm.name)
    if len(arms) < 2:
        remedy = "name another, or take `fedscore simulate --ledger`"
        raise InputError(_WHERE, "--arms", "leaves nothing to select from", arms[0].name, remedy)
    [(name, data)] = sets_of(sweep).items()
    lanes, left_out = lanes_of(data, arms)
    if left_out:
        raise InputError(_WHERE, "--arms", f"cannot be run: {left_out[0]}")
    found, holders = [], [h.name for h in load_federation(data.federation, data.data).holders]
    for lane in lanes:
        if lane.text is not None:
            (made / lane.file).write_text(lane.text, encoding="utf-8")
        settings = settings_of(Cell(name, lane.arm.name, asked.epsilon, asked.seed), lane, sweep, made)
        settings = replace(settings, out=asked.out, on_failure="stop")
        node = preflight.node_of(settings, made)
        if [h.name for h in node.federation.holders] != holders:
            rule = "divides one partner among two that nobody can charge: it is for open sweeps"
            raise InputError(_WHERE, "--arms", rule, lane.arm.name, "leave it out")
        preflight.check(node, settings)
        found.append(Candidate(lane.arm.name, settings, node))
    return found, replace(found[0].settings, federation=data.federation, data=data.data)


def _best(ready: Priced, place: Path) -> tuple[Candidate, Bundle]:
    """The run of the largest noisy AUC, the first of equals; each run's files are deleted before the next.

    Raises:
        RunFailed: where there is none, or one released what was not charged.
    """
    best: tuple[float, Candidate, Bundle] | None = None
    for candidate in _drawn(ready):
        try:
            result = _ran(candidate, place)
            if result is None:
                continue
            bundle = Bundle.load(place / MODEL_FOLDER)
        finally:
            shutil.rmtree(place, ignore_errors=True)
        if tuple(line_of(row) for row in result.report["releases"]) != candidate.lines:
            raise RunFailed(f"{candidate.name} released other than what was charged: nothing is selected")
        auc = (bundle.quality or {})["auc"]["value"]
        score = -math.inf if auc is None else auc
        if best is None or score > best[0]:
            best = score, candidate, bundle
    if best is None:
        raise RunFailed("no run of this sweep went well: nothing is selected, and its charge stands")
    return best[1:]


def _drawn(ready: Priced) -> Iterator[Candidate]:
    """The candidates to run, one after another: how many and which is told by noise that nobody can repeat."""
    if ready.repeats is None:
        yield from ready.candidates
        return
    rng = Csprng()
    for chosen in rng.below(ready.repeats.draw(rng), len(ready.candidates)):
        yield ready.candidates[chosen]


def _ran(candidate: Candidate, place: Path) -> Result | None:
    """One run under ledgers of its own, which are thrown away; None where it stopped, which loses against any other.

    The sweep's charge pays for what it releases.
    """
    try:
        return simulate(replace(candidate.settings, out=place))
    except (RunFailed, BudgetExceeded):
        return None


def _written(part: Path, ready: Priced, node: Node, best: tuple[Candidate, Bundle]) -> dict[str, Any]:
    """Writes the model under the sweep's own statement, and sweep.json; returns what that says."""
    candidate, bundle = best
    names = [c.name for c in ready.candidates]
    statement = selected(bundle.statement, ready.charge.plan, names, ready.repeats)
    sha256 = replace(bundle, name=node.programme, statement=statement).save(part / MODEL_FOLDER)
    told = {
        "schema": SCHEMA,
        "federation": node.federation.name,
        "programme": node.programme,
        "candidates": names,
        "selected": candidate.name,
        "epsilon_of_a_run": candidate.settings.epsilon,
        "bundle_sha256": sha256,
        "plan": ready.charge.id,
        "quality": bundle.quality,
        "privacy": statement,
    }
    (part / "sweep.json").write_text(json.dumps(told, indent=1, ensure_ascii=False), encoding="utf-8")
    return told
