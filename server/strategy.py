"""The Flower strategy: every domain's block trained by its own holders, all blocks in the same rounds."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, TypeVar

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy
from numpy.typing import NDArray

from model.descent import averaged
from model.wire import LAST, MEAN, TRAIN, key
from privacy.ring import Words
from server.exchange import Answer, Exchange, Post
from server.failures import RunFailed
from server.masked import MaskedSums, vector_of
from server.planning import RunPlan
from server.roster import Member, Roster

Floats = NDArray[np.float64]
Parcels = dict[str, dict[str, bytes]]  # by holder and key, ciphertext
Head = tuple[int, str]  # of a ledger: rows and the last hash
_T = TypeVar("_T")

_log = logging.getLogger("fedscore.server")
_HASH = 64  # hexadecimal digits, at most


class BlockStrategy(Strategy):
    """Trains the blocks of one global `ArrayRecord` with keys `<block>/<parameter>`.

    Each holder is sent its own block only, and within a domain all holders count alike: constant public weights, never
    row counts. A holder that fails is left out from then on, with its block if nobody else has it.

    Args:
        exchange: matches replies and counts bytes.
        roster: who trains what.
        plan: releases and schedules.
        parcels: what is still to be brought to each holder, sealed; sent with its first round.
        heads: where each holder's ledger was last seen; kept up to date.

    Attributes:
        sums: of the domains whose updates the plan has summed in secret.
    """

    def __init__(
        self, exchange: Exchange, roster: Roster, plan: RunPlan, parcels: Parcels, heads: dict[str, Head]
    ) -> None:
        self.exchange, self.roster, self.plan = exchange, roster, plan
        self.parcels, self.heads = parcels, heads
        self.failed: set[str] = set()
        self.sums = MaskedSums(exchange, roster, plan)
        self._sent: list[tuple[Message, str]] = []
        self._current = ArrayRecord()
        self._averages: dict[str, list[Floats]] = {}

    def summary(self) -> None:
        """Logs what will be trained."""
        _log.info("blocks: %s", ", ".join(sorted({m.domain for m in self.roster.training()})))

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """One message for each holder that is still with us, carrying its own block."""
        del config, grid
        self._current = arrays
        self._prepare()
        posts = [self._post(m, server_round) for m in self._asked()]
        self._sent = self.exchange.messages(TRAIN, posts)
        return [message for message, _ in self._sent]

    def _asked(self) -> list[Member]:
        return [m for m in self.roster.training() if m.name not in self.failed]

    def _prepare(self) -> None:
        """Exchanges the keys of secure sums, where they are not yet."""
        self.sums.prepare(self._asked())
        self.failed |= self.sums.lost

    def _post(self, member: Member, server_round: int) -> Post:
        session, boxes = self.sums.order(member)
        order = {
            "plan": self.plan.document,
            "holder": member.name,
            "block": member.domain,
            "round": server_round,
            "edges": member.edges,
            "witness": self.heads.get(member.name),
            **session,
        }
        name = key(member.domain, LAST)
        arrays = ArrayRecord({name: self._current[name]})
        return Post(member.name, member.node, order, arrays, {**self.parcels.pop(member.name, {}), **boxes})

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """The plain mean of each block's good replies; raises `RunFailed` where the terms say to stop on failure."""
        answers = self.exchange.match(self._sent, replies)
        arrays = dict(self._current.items())
        for domain, (last, mean) in self._means(server_round, answers).items():
            arrays[key(domain, LAST)] = Array(last)
            if averaged(server_round, self.plan.rounds):
                self._averages.setdefault(domain, []).append(mean)
        if self.failed and self.roster.terms.on_failure == "stop":
            raise RunFailed("stopped, as configured: " + _told(self.exchange, self.failed))
        return ArrayRecord(arrays), None

    def _means(self, server_round: int, answers: Mapping[str, Answer]) -> dict[str, tuple[Floats, Floats]]:
        """The mean last iterate and average of every block that somebody trained in this round."""
        asked, found = self._asked(), {}
        hidden: dict[str, dict[str, Words]] = {}
        for domain in dict.fromkeys(m.domain for m in asked):
            names, size = {m.name for m in asked if m.domain == domain}, self._size(domain)
            if domain in self.plan.summed:
                hidden[domain] = self._good(answers, names, partial(vector_of, size=2 * size))
                continue
            updates = self._good(answers, names, partial(_update, domain=domain, shape=(size,)))
            if updates:
                last, mean = (np.mean([update[p] for update in updates.values()], axis=0) for p in (LAST, MEAN))
                found[domain] = last, mean
        return found | self._summed(server_round, hidden)

    def _summed(self, number: int, hidden: Mapping[str, Mapping[str, Words]]) -> dict[str, tuple[Floats, Floats]]:
        """The same of the blocks whose updates are summed; a sum of too few is repeated among those that are left."""
        found: dict[str, Floats] = {}
        while hidden:
            means, few = self.sums.means(number, hidden)
            found |= means
            self.failed |= self.sums.lost
            self._prepare()
            posts = [self._post(m, number) for m in self._asked() if m.domain in few]
            answers = self.exchange.ask(TRAIN, posts)
            hidden = {}
            for domain in dict.fromkeys(self.roster.members[p.label].domain for p in posts):
                names = {p.label for p in posts if self.roster.members[p.label].domain == domain}
                size = self._size(domain)
                hidden[domain] = self._good(answers, names, partial(vector_of, size=2 * size))
        return {domain: (both[: len(both) // 2], both[len(both) // 2 :]) for domain, both in found.items()}

    def _size(self, domain: str) -> int:
        return len(self._current[key(domain, LAST)].numpy())

    def _good(
        self, answers: Mapping[str, Answer], names: set[str], read: Callable[[Answer], _T | None]
    ) -> dict[str, _T]:
        """What can be read in the answers of these holders; who gave nothing readable failed."""
        good = {}
        for name in sorted(names):
            answer = answers.get(name)
            if answer is not None:
                note_head(self.heads, name, answer.data)
            value = None if answer is None else read(answer)
            if value is None:
                self.exchange.failures.setdefault(name, "protocol")
                self.failed.add(name)
            else:
                good[name] = value
        return good

    def weights(self) -> dict[str, Floats]:
        """The published weights of each block that somebody trained to the end."""
        left = {m.domain for m in self.roster.training() if m.name not in self.failed}
        return {d: np.asarray(np.mean(v, axis=0)) for d, v in self._averages.items() if d in left}

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """No evaluation messages: a metric would be a release of its own."""
        del server_round, arrays, config, grid
        return []

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Nothing to aggregate."""
        del server_round, replies
        return None


def note_head(heads: dict[str, Head], name: str, data: Mapping[str, Any]) -> None:
    """Keeps where a holder says that its ledger stands; a run without privacy has no ledgers.

    What is no such place is as if it had not been told.
    """
    head = data.get("head") if isinstance(data, Mapping) else None
    if not isinstance(head, list) or len(head) != 2:
        return
    rows, last = head
    if type(rows) is int and 0 <= rows < 1 << 63 and isinstance(last, str) and len(last) <= _HASH:
        heads[name] = (rows, last)


def _update(answer: Answer, domain: str, shape: tuple[int, ...]) -> dict[str, Floats] | None:
    """The two arrays of a reply, or None where one is missing, misshapen or not finite."""
    update = {parameter: answer.array(key(domain, parameter), shape) for parameter in (LAST, MEAN)}
    good = {parameter: value for parameter, value in update.items() if value is not None}
    return good if len(good) == len(update) else None


def _told(exchange: Exchange, names: Iterable[str]) -> str:
    return ", ".join(f"{n} ({exchange.failures.get(n, 'silent')})" for n in sorted(names))
