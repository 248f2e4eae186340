"""What a secure sum costs: seconds of every stage at a client and at the coordinator, by the production classes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from privacy.groups import Group, least_threshold
from privacy.masking import Opening, Seat
from privacy.noise import Csprng
from privacy.ring import from_ring
from privacy.signing import new_signing_key, verify_key

STAGES = ("advert", "share", "receive", "mask", "agree", "reveal")


@dataclass
class Cost:
    """CPU seconds of one client, by stage, and of the coordinator for opening one sum."""

    partners: int
    size: int
    dropped: int
    client: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    coordinator: float = 0.0

    @property
    def whole(self) -> float:
        """Of one client over all stages."""
        return sum(self.client.values())


def measure(partners: int, size: int, dropped: int = 0, rounds: int = 1) -> Cost:
    """One session with one vector of `size` numbers, of which `dropped` partners send none.

    Raises:
        RuntimeError: where the sum is not exact: then the figures are worth nothing.
    """
    cost = Cost(partners, size, dropped)
    keys = {f"partner-{i:04d}": new_signing_key() for i in range(partners)}
    verify = {name: verify_key(key) for name, key in keys.items()}
    group = Group("bench", verify, rounds, least_threshold(partners))
    with _timed(cost, "advert"):
        seats = {name: Seat(group, name, key) for name, key in keys.items()}
        adverts = {name: seat.advert() for name, seat in seats.items()}
    with _timed(cost, "share"):
        boxes = {name: seat.share(adverts) for name, seat in seats.items()}
    with _timed(cost, "receive"):
        for name, seat in seats.items():
            seat.receive({other: box[name] for other, box in boxes.items() if other != name})
    there = sorted(keys)[dropped:]
    values = {n: Csprng().below(size, 2**40) - 2**39 for n in there}
    with _timed(cost, "mask"):
        sent = {name: seats[name].mask(1, values[name]) for name in there}
    with _timed(cost, "agree"):
        signed = {name: seats[name].agree(1, there) for name in there}
    with _timed(cost, "reveal"):
        told = {name: seats[name].reveal(1, signed) for name in there}
    for stage in STAGES:
        cost.client[stage] /= partners if stage in STAGES[:3] else len(there)
    began = time.process_time()
    total = Opening(group, adverts).opened(1, sent, told)
    cost.coordinator = time.process_time() - began
    if not np.array_equal(from_ring(total), np.sum(list(values.values()), axis=0)):
        raise RuntimeError("the sum is not exact")
    return cost


@contextmanager
def _timed(cost: Cost, stage: str) -> Iterator[None]:
    """Adds the CPU seconds of all clients together."""
    began = time.process_time()
    yield
    cost.client[stage] += time.process_time() - began
