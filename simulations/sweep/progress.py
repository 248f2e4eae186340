"""How far a sweep is, and how long it will still take, as far as anybody can know."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from statistics import median
from typing import Protocol

from simulations.sweep.grid import Cell


class Progress(Protocol):
    """Who is told how far a sweep is."""

    def note(self, text: str) -> None:
        """Something that a reader should know."""

    def step(self, done: int, total: int, remaining: float | None) -> None:
        """So many cells are finished; so many seconds remain, or None where nobody can know yet."""


class Silent:
    """Tells nobody."""

    def note(self, text: str) -> None:
        """Says nothing."""

    def step(self, done: int, total: int, remaining: float | None) -> None:
        """Says nothing."""


@dataclass
class Clock:
    """The time that remains, from the times that finished cells took.

    >>> clock = Clock(2, [Cell("s", "joint", 1.0, seed) for seed in range(3)])
    >>> clock.remaining()
    >>> clock.finish(Cell("s", "joint", 1.0, 0), 4.0)
    >>> clock.remaining()
    4.0

    Attributes:
        workers: cells at a time.
        left: cells that are not finished.
        took: by set and arm, seconds of cells that are.
    """

    workers: int
    left: list[Cell]
    took: dict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(list))

    def finish(self, cell: Cell, seconds: float) -> None:
        """A cell is finished after so many seconds."""
        self.took[cell.set, cell.arm].append(seconds)
        if cell in self.left:
            self.left.remove(cell)

    def remaining(self) -> float | None:
        """Seconds: each cell left takes the median of its set and arm; None while one of them is not known."""
        left = Counter((cell.set, cell.arm) for cell in self.left)
        if any(not self.took[lane] for lane in left):
            return None
        work = sum(count * median(self.took[lane]) for lane, count in left.items())
        return work / max(1, min(self.workers, len(self.left)))


def told(done: int, total: int, remaining: float | None) -> str:
    """One line of progress.

    >>> told(3, 70, None), told(60, 70, 95.0)
    ('3 of 70 cells', '60 of 70 cells, about 2 min to go')
    """
    line = f"{done} of {total} cells"
    if remaining is None or done == total:
        return line
    return f"{line}, about {_time(remaining)} to go"


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
