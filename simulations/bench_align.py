"""What aligning two sets of persons by private set intersection costs, and whether it finds exactly the shared ones."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from privacy.matching import Psi

_Found = TypeVar("_Found")


@dataclass(frozen=True)
class Alignment:
    """One alignment of equally many persons at the lender and at a partner, half of them shared.

    Attributes:
        seconds: wall time of each step, in order.
        bytes_sent: by the partner, and to it.
        exact: whether every shared person was found in its row, and nobody else.
    """

    persons: int
    seconds: dict[str, float]
    bytes_sent: tuple[int, int]
    exact: bool

    @property
    def total(self) -> float:
        """Seconds of all steps, one after another on one machine."""
        return sum(self.seconds.values())


def measure(persons: int) -> Alignment:
    """Aligns made-up telephone numbers on all cores of this machine; both parties take turns."""
    seconds: dict[str, float] = {}

    def timed(step: str, act: Callable[[], _Found]) -> _Found:
        began = time.monotonic()
        found = act()
        seconds[step] = time.monotonic() - began
        return found

    own = [f"+8613{i:09d}" for i in range(persons)]
    cohort = [f"+8613{i:09d}" for i in range(persons // 2, persons // 2 + persons)]
    partner, lender = (Psi(secrets.token_bytes(32), "bench") for _ in range(2))
    offer = timed("partner offers", lambda: partner.offer(own))
    shown = timed("lender shows", lambda: lender.shown(cohort))
    answered = timed("lender answers", lambda: lender.answered(cohort, offer.items))
    rows = timed("partner compares", lambda: partner.rows(own, offer, shown, answered))
    places = {person: row for row, person in enumerate(own)}
    exact = rows.tolist() == [places.get(person, -1) for person in cohort]
    return Alignment(persons, seconds, (offer.items.nbytes, shown.nbytes + answered.nbytes), exact)
