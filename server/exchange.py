"""Sending questions to nodes and matching their answers, counting bytes and seconds by phase."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.common.serde import message_to_proto
from flwr.serverapp import Grid
from numpy.typing import NDArray

from model import wire

_log = logging.getLogger("fedscore.server")


@dataclass(frozen=True)
class Post:
    """One question: a label to know its answer by, the node, the plain data, arrays and ciphertexts."""

    label: str
    node: int
    data: Mapping[str, Any]
    arrays: ArrayRecord | None = None
    sealed: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """One good answer: the plain data, and the record for arrays and ciphertexts."""

    node: int
    data: Any
    content: RecordDict

    def array(self, key: str, shape: tuple[int, ...]) -> NDArray[np.float64] | None:
        """A finite array of the answer; None where there is none of that shape."""
        record = self.content.array_records.get(wire.ARRAYS)
        if record is None or key not in record:
            return None
        value = record[key].numpy()
        if value.shape != shape or value.dtype.kind != "f" or not np.isfinite(value).all():
            return None
        return value.astype(np.float64)

    def sealed(self, key: str) -> bytes | None:
        """A ciphertext of the answer; None where there is none."""
        value = self.content.config_records[wire.CONFIG].get(key)
        return value if isinstance(value, bytes) else None


class Exchange:
    """Asks nodes over a grid; keeps what failed, and the cost of each phase."""

    def __init__(self, grid: Grid, timeout: float) -> None:
        self.grid, self.timeout = grid, timeout
        self.seconds: dict[str, float] = {}
        self.bytes_sent: dict[str, int] = {}
        self.failures: dict[str, str] = {}
        self._phase = "start"

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Counts everything inside as the phase `name`."""
        self._phase, began = name, time.monotonic()
        _log.info("phase %s", name)
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - began

    def message(self, kind: str, post: Post) -> Message:
        """The Flower message of a question."""
        config = ConfigRecord({wire.JSON: json.dumps({**post.data, "label": post.label}), **post.sealed})
        content = RecordDict({wire.CONFIG: config})
        if post.arrays is not None:
            content[wire.ARRAYS] = post.arrays
        return Message(content, dst_node_id=post.node, message_type=kind, ttl=self.timeout)

    def ask(self, kind: str, posts: Iterable[Post]) -> dict[str, Answer]:
        """The good answers by label; what failed or stayed silent is noted in `failures`."""
        sent = [(self.message(kind, post), post.label) for post in posts]
        if not sent:
            return {}
        replies = self.grid.send_and_receive([m for m, _ in sent], timeout=self.timeout)
        return self.match(sent, replies)

    def match(self, sent: Iterable[tuple[Message, str]], replies: Iterable[Message]) -> dict[str, Answer]:
        """Matches replies to questions by message id: an error reply does not carry its node's own id."""
        labels: dict[str, str] = {}
        for message, label in sent:
            labels[message.metadata.message_id] = label
            self._count(message)
        good: dict[str, Answer] = {}
        for reply in replies:
            label = labels.pop(reply.metadata.reply_to_message_id, "")
            if not label:
                continue
            if reply.has_error():
                self._fail(label, f"flower-{reply.error.code}")
                continue
            self._count(reply)
            record = reply.content.config_records.get(wire.CONFIG)
            code = "protocol" if record is None else record.get(wire.ERROR)
            if record is None or code is not None:
                self._fail(label, str(code) if code in wire.ERRORS else "internal")
                continue
            try:
                data = json.loads(str(record[wire.JSON]))
            except (KeyError, ValueError):
                self._fail(label, "protocol")
                continue
            good[label] = Answer(reply.metadata.src_node_id, data, reply.content)
        for label in labels.values():
            self._fail(label, "silent")
        return good

    def _count(self, message: Message) -> None:
        size = message_to_proto(message).ByteSize()
        self.bytes_sent[self._phase] = self.bytes_sent.get(self._phase, 0) + size

    def _fail(self, label: str, code: str) -> None:
        self.failures[label] = code
        _log.warning("%s failed in phase %s: %s", label, self._phase, code)
