"""The Flower strategy: every domain's block trained by its own holders, all blocks in the same rounds."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy
from numpy.typing import NDArray

from model.wire import LAST, MEAN, TRAIN, key
from server.exchange import Answer, Exchange, Post
from server.failures import RunFailed
from server.planning import RunPlan, order_of
from server.roster import Member, Roster

Floats = NDArray[np.float64]

_log = logging.getLogger("fedscore.server")
_BURN_IN = 0.25  # of the rounds: their averages are left out of the published weights


class BlockStrategy(Strategy):
    """Trains the blocks of one global `ArrayRecord` with keys `<block>/<parameter>`.

    Each holder is sent its own block only, and within a domain all holders count alike: constant public weights, never
    row counts. A holder that fails is left out from then on, with its block if nobody else has it.

    Args:
        exchange: matches replies and counts bytes.
        roster: who trains what.
        plan: releases and schedules.
        packets: the sealed cohort for each partner, sent with its first round.
    """

    def __init__(self, exchange: Exchange, roster: Roster, plan: RunPlan, packets: Mapping[str, bytes]) -> None:
        self.exchange, self.roster, self.plan, self.packets = exchange, roster, plan, packets
        self.failed: set[str] = set()
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
        posts = [self._post(m, server_round) for m in self.roster.training() if m.name not in self.failed]
        self._sent = [(self.exchange.message(TRAIN, post), post.label) for post in posts]
        return [message for message, _ in self._sent]

    def _post(self, member: Member, server_round: int) -> Post:
        order = order_of(self.plan, member, server_round, len(self.roster.of_domain(member.domain)))
        name = key(member.domain, LAST)
        sealed = {"sealed": self.packets[member.name]} if server_round == 1 and member.name in self.packets else {}
        return Post(member.name, member.node, order, ArrayRecord({name: self._current[name]}), sealed)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """The plain mean of each block's good replies; raises `RunFailed` where the terms say to stop on failure."""
        answers = self.exchange.match(self._sent, replies)
        arrays = dict(self._current.items())
        asked = [m for m in self.roster.training() if m.name not in self.failed]
        for domain in dict.fromkeys(m.domain for m in asked):
            updates = self._updates(domain, answers, {m.name for m in asked if m.domain == domain})
            if not updates:
                continue
            arrays[key(domain, LAST)] = Array(np.mean([u[LAST] for u in updates], axis=0))
            if server_round > _BURN_IN * self.plan.rounds or self.plan.rounds == 1:
                self._averages.setdefault(domain, []).append(np.mean([u[MEAN] for u in updates], axis=0))
        if self.failed and self.roster.terms.on_failure == "stop":
            raise RunFailed("stopped, as configured: " + _told(self.exchange, self.failed))
        return ArrayRecord(arrays), None

    def _updates(self, domain: str, answers: Mapping[str, Answer], names: set[str]) -> list[dict[str, Floats]]:
        shape = self._current[key(domain, LAST)].numpy().shape
        updates = []
        for name in sorted(names):
            answer = answers.get(name)
            update = None if answer is None else _update(answer, domain, shape)
            if update is None:
                self.exchange.failures.setdefault(name, "protocol")
                self.failed.add(name)
            else:
                updates.append(update)
        return updates

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


def _update(answer: Answer, domain: str, shape: tuple[int, ...]) -> dict[str, Floats] | None:
    """The two arrays of a reply, or None where one is missing, misshapen or not finite."""
    record = answer.content.array_records.get("arrays")
    update: dict[str, Floats] = {}
    for parameter in (LAST, MEAN):
        if record is None or key(domain, parameter) not in record:
            return None
        value = record[key(domain, parameter)].numpy()
        if value.shape != shape or value.dtype.kind != "f" or not np.isfinite(value).all():
            return None
        update[parameter] = value.astype(np.float64)
    return update


def _told(exchange: Exchange, names: Iterable[str]) -> str:
    return ", ".join(f"{n} ({exchange.failures.get(n, 'silent')})" for n in sorted(names))
