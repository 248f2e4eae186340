"""What the secure products of a joint fit cost: every role's seconds, memory and bytes, on rows of a given shape.

All roles run in this process, one after another, through the production classes; only transport and sealing are left
out. A process of its own measures the peak of memory, whoever holds most.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from model.link import SCALE
from model.moments import UNIT
from privacy.refining import SIZE, StepDealer, StepParty, masked_sums
from privacy.ring import Integers, from_ring
from privacy.shares import Blocks, Dealer, Party, Roots, masked

CHUNK = 1 << 13


@dataclass(frozen=True)
class Cost:
    """Seconds by role for the products and for one step of refinement, the process's peak, and bytes a person."""

    persons: int
    columns: int
    seconds: dict[str, float]
    step_seconds: dict[str, float]
    memory_gib: float
    bytes_a_person: int
    step_bytes_a_person: int


def measure(persons: int, columns: int, partners: int = 3) -> Cost:
    """The cost of one matrix and one step, in a fresh process."""
    code = "import sys; from simulations.bench_joint import child; child(*map(int, sys.argv[1:]))"
    command = [sys.executable, "-c", code, str(persons), str(columns), str(partners)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1])
    return Cost(**json.loads(done.stdout.splitlines()[-1]))


class _Clock:
    """Adds up seconds by role."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, role: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds[role] = self.seconds.get(role, 0.0) + time.perf_counter() - began


class _Run:
    """All roles of one matrix and one step."""

    def __init__(self, blocks: Blocks, sizes: Sequence[int]) -> None:
        self.products, self.steps, self._roots, self._blocks = _Clock(), _Clock(), Roots(), blocks
        both = self._roots.both
        with self.products("dealer"):
            correction = Dealer(self._roots, blocks).deal(sizes)
        self._dealer = StepDealer(self._roots, blocks, 0, np.arange(SIZE, dtype=np.int64) * (SCALE // SIZE))
        with self.steps("dealer"):
            product = self._dealer.correction(sizes)
        self._parties = (Party(0, both[0], blocks), Party(1, both[1], blocks, correction))
        self._stepping = (StepParty(0, both[0], blocks, 0), StepParty(1, both[1], blocks, 0, product))
        width = sum(width for _, width in blocks.values())
        self._exact = np.zeros((width, width))

    def chunk(self, number: int, own: Mapping[str, Integers]) -> None:
        """One chunk through every role; each holder's first column stands for its part of the log-odds."""
        joined = np.concatenate(list(own.values()), axis=1).astype(np.float64)
        self._exact += joined.T @ joined
        parts = {o: np.clip(rows[:, 0] // UNIT, -1, 1) for o, rows in own.items()}
        with self.products("holders"):
            shown = {o: masked(rows, self._roots.mask_seeds(o), number) for o, rows in own.items()}
        for i, party in enumerate(self._parties):
            with self.products(f"party {i}"):
                party.add(number, shown)
        with self.steps("holders"):
            sums = {o: masked_sums(u, self._roots.mask_seeds(o), 0, number) for o, u in parts.items()}
        with self.steps("dealer"):
            tables = self._dealer.tables(number, len(joined))
        with self.steps("party 0"):
            first = self._stepping[0].opening(number, sums)
        with self.steps("party 1"):
            second = self._stepping[1].opening(number, sums, tables)
        for i, stepping in enumerate(self._stepping):
            with self.steps(f"party {i}"):
                stepping.add(number, shown, first + second)

    def check(self) -> None:
        """The shares open to the exact products, or the figures are worth nothing."""
        opened, width = from_ring(self._parties[0].share() + self._parties[1].share()), self._blocks["b0"][1]
        if (opened[:width, width:] != self._exact[:width, width:]).any():
            raise RuntimeError("the shares do not open to the exact products")


def child(persons: int, columns: int, partners: int) -> None:
    """Runs every role once and prints the cost; checks that the shares open to the exact products."""
    widths = [columns // partners + (i < columns % partners) for i in range(partners)]
    blocks: Blocks = {f"b{i}": ((f"p{i}",), width) for i, width in enumerate(widths)}
    sizes = [min(CHUNK, persons - at) for at in range(0, persons, CHUNK)]
    run = _Run(blocks, sizes)
    rng = np.random.default_rng(0)
    for number, rows in enumerate(sizes):
        run.chunk(number, {o: rng.integers(-UNIT, UNIT, (rows, w), endpoint=True) for (o,), w in blocks.values()})
    run.check()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    cost = Cost(
        *(persons, columns, run.products.seconds, run.steps.seconds, round(peak, 3)),
        bytes_a_person=2 * 8 * columns,
        step_bytes_a_person=2 * partners + 8 * SIZE + 2 * 8,
    )
    print(json.dumps(asdict(cost)))
