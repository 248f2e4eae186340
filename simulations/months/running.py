"""Running many books: every task on the arrivals of every seed, in one process or several."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from model.limits.schema import Policy
from simulations.months.applicants import Floats
from simulations.months.arrivals import draw_arrivals
from simulations.months.book import Book
from simulations.months.evidence import Model
from simulations.months.scenarios import World

Key = tuple[str, str, str]  # section, policy or variation, scenario
Months = dict[str, Floats]  # by figure, shape (seeds, months)


@dataclass(frozen=True)
class Task:
    """One policy in one world, under the key its figures are found by."""

    key: Key
    policy: Policy
    world: World


@dataclass(frozen=True)
class Plan:
    """What every seed runs."""

    model: Model
    tasks: tuple[Task, ...]
    months: int
    per_month: int

    def run(self, seed: int) -> list[Months]:
        """Each task's figures on the arrivals of this seed, shape (1, months)."""
        arrivals = draw_arrivals(seed, self.model, self.months, self.per_month)
        found = []
        for task in self.tasks:
            rows = Book(arrivals, task.policy, self.model.bundle, task.world).run()
            found.append({name: np.array([[row[name] for row in rows]]) for name in rows[0]})
        return found


def run_all(plan: Plan, seeds: range, jobs: int, done: Callable[[int], None] = lambda count: None) -> dict[Key, Months]:
    """The figures of all tasks, seeds stacked in their order whatever `jobs` is.

    Args:
        plan: what to run.
        seeds: of the arrivals; every task sees the same.
        jobs: processes; 1 runs in this one.
        done: is told how many seeds are finished.
    """
    found: list[list[Months]] = []
    with _mapper(min(jobs, len(seeds))) as each:
        for result in each(plan.run, seeds):
            found.append(result)
            done(len(found))
    return {
        task.key: {name: np.concatenate([runs[at][name] for runs in found]) for name in found[0][at]}
        for at, task in enumerate(plan.tasks)
    }


@contextmanager
def _mapper(jobs: int) -> Iterator[Callable[..., Iterator[list[Months]]]]:
    if jobs <= 1:
        yield map
    else:
        with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
            yield pool.map
