"""A holder's part in the secure sums of its domain's updates: its seat in a session, kept on its disk between messages.

A session is named by plan, block and roster. In each round a holder opens at most one session: where too few stayed to
open a sum, the round is summed anew with fewer members, but never by somebody who helped to open the first sum. So two
opened sums of one round never differ by a single holder's update. What is masked is the reply that the ledger paid for
and stores: a sum that is repeated draws no new noise.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from clients.config import Node
from clients.identity import peer, signing_key
from clients.orders import Agreement
from model.inputs import InputError
from model.wire import LAST, MEAN
from privacy.durable import alone, write
from privacy.groups import Group, least_threshold, on_grid
from privacy.masking import Seat

Floats = NDArray[np.float64]
_ROUNDS, _OVER = "rounds.json", "over"
_LEAST = 3  # members whose sum hides each from any other
_T = TypeVar("_T")


@dataclass(frozen=True)
class Place:
    """A holder's place in the secure sums of one block under one plan, with the members that an order names."""

    node: Node
    name: str
    agreement: Agreement
    block: str
    group: Group

    @classmethod
    def of(cls, node: Node, name: str, agreement: Agreement, config: Mapping[str, Any]) -> Place:
        """The place that an order asks for.

        Members are more than half of the holders that the plan names, and all of this holder's domain by its own
        federation file: nobody is left alone among a few that collude. With `limits.summed_only` they are three at
        least: of two, each can subtract its own.

        Raises:
            InputError: where the plan does not sum this block, or the members are not all holders of it, or too few.
            SealBroken: where a member is announced with another key than the one known.
            SumRefused: where this is no group for a sum.
        """
        block, told = str(config["block"]), config["members"]
        if block not in agreement.summed:
            raise InputError("order", "block", "is not summed under this plan", block)
        holders = {line.holder for line in agreement.plan.releases if line.name == f"{block}/{line.holder}"}
        if not set(told) <= holders or name not in told or 2 * len(told) <= len(holders):
            raise InputError("order", "members", "are not more than half of this block's holders, and this one")
        if block != node.federation.holder(name).domain:
            raise InputError("order", "block", "is not this holder's", name)
        if not set(told) <= {holder.name for holder in node.federation.holders if holder.domain == block}:
            raise InputError("order", "members", "are not all of this domain by this holder's federation file")
        if node.limits.summed_only and len(told) < _LEAST:
            raise InputError("order", "members", f"are fewer than {_LEAST}: limits.summed-only refuses their sum")
        members = {other: peer(node, name, other, told[other]).verify for other in told}
        session = f"{node.programme}|{agreement.id}|{block}"
        return cls(node, name, agreement, block, Group(session, members, agreement.rounds, least_threshold(len(told))))

    @cached_property
    def folder(self) -> Path:
        """Where the seats under this plan lie."""
        plan = hashlib.sha256(f"{self.agreement.id}|{self.block}".encode()).hexdigest()[:32]
        folder = self.node.durable(self.name) / "sums" / plan
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder

    @property
    def _path(self) -> Path:
        return self.folder / f"{self.group.context.hex()}.json"

    def _seat(self, act: Callable[[Seat], _T]) -> _T:
        """What the seat answers; its state is on disk before the answer leaves. Only one process acts at a time."""
        key = signing_key(self.node, self.name)
        with alone(self.folder):
            if (self.folder / _OVER).exists():  # what was opened is known no longer: nothing may be opened again
                raise InputError("order", "plan", "is over at this holder", self.name)
            if self._path.exists():
                kept = json.loads(self._path.read_text(encoding="utf-8"))
                seat = Seat.from_state(self.group, self.name, key, kept)
            else:
                seat = Seat(self.group, self.name, key)
            answer = act(seat)
            write(self._path, json.dumps(seat.state()).encode())
            return answer

    def advert(self) -> bytes:
        """This holder's keys of the session; the seats of earlier plans are given up, for good."""
        for folder in self.folder.parent.iterdir():
            if folder != self.folder and not (folder / _OVER).exists():
                with alone(folder):
                    write(folder / _OVER, b"")
                    for path in folder.glob("*.json"):
                        path.unlink()
        return self._seat(Seat.advert)

    def share(self, adverts: Mapping[str, bytes]) -> dict[str, bytes]:
        """The boxes for the others."""
        return self._seat(lambda seat: seat.share(adverts))

    def mask(self, number: int, update: Mapping[str, Floats], boxes: Mapping[str, bytes]) -> bytes:
        """The masked update of a round: last iterate and average, in this order."""
        values = on_grid(np.concatenate([update[LAST], update[MEAN]]))

        def act(seat: Seat) -> bytes:
            if boxes:
                seat.receive(boxes)
            words = seat.mask(number, values)
            self._join(number, opens=False)
            return words.astype("<u8").tobytes()

        return self._seat(act)

    def agree(self, number: int, survivors: Iterable[str]) -> tuple[list[str], bytes]:
        """The survivors that this holder agrees on in a round, and its signature: those it agreed on first, if any."""

        def act(seat: Seat) -> tuple[list[str], bytes]:
            names = seat.agreed(number) or sorted(survivors)
            signature = seat.agree(number, names)
            self._join(number, opens=True)
            return names, signature

        return self._seat(act)

    def reveal(self, number: int, signatures: Mapping[str, bytes]) -> dict[str, bytes]:
        """By member, the share that helps to open the sum of a round."""
        return self._seat(lambda seat: seat.reveal(number, signatures))

    def _join(self, number: int, opens: bool) -> None:
        """Notes the one session in which this holder is in a round; raises `InputError` once it opened another one."""
        path, own = self.folder / _ROUNDS, self.group.context.hex()
        rounds = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        session, opened = rounds.get(str(number), [own, False])
        if session != own and (opened or opens):
            raise InputError("order", "members", "are not those whose sum of this round this holder helps to open")
        if [own, opened or opens] != rounds.get(str(number)):
            write(path, json.dumps({**rounds, str(number): [own, opened or opens]}).encode())
