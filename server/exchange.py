"""Sending questions to nodes and matching their answers, counting bytes and seconds by phase."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.common.serde import message_to_proto
from flwr.serverapp import Grid
from numpy.typing import NDArray

from model import wire
from model.contents import content_digest, enveloped, round_of
from privacy.envelope import SealBroken
from privacy.messages import Header
from privacy.signing import new_signing_key
from server.log import Log
from server.outbox import Outbox

_log = logging.getLogger("fedscore.server")
_ODD = (KeyError, TypeError, ValueError, AttributeError, RecursionError)  # what comes of an answer that is none


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
    """One good answer: the plain data, the record for arrays and ciphertexts, who signed it and by which key."""

    node: int
    data: Any
    content: RecordDict
    sender: str = ""
    verify: bytes = b""

    def array(self, key: str, shape: tuple[int, ...]) -> NDArray[np.float64] | None:
        """A finite array of the answer; None where there is none of that shape."""
        record = self.content.array_records.get(wire.ARRAYS)
        if record is None or key not in record:
            return None
        try:
            value = record[key].numpy()
        except Exception:  # whatever numpy raises for bytes that are no array
            return None
        if value.shape != shape or value.dtype.kind != "f" or not np.isfinite(value).all():
            return None
        return value.astype(np.float64)

    def sealed(self, key: str) -> bytes | None:
        """A ciphertext of the answer; None where there is none."""
        value = self.content.config_records[wire.CONFIG].get(key)
        return value if isinstance(value, bytes) else None


class _Failed(Exception):
    """An answer that is none: a generic code says why."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class Exchange:
    """Asks nodes over a grid; keeps what failed, and the cost of each phase.

    Args:
        timeout: seconds to wait for a reply.
        outbox: signs orders and checks answers; one with a key of its own where none is given.
    """

    def __init__(self, grid: Grid, timeout: float, outbox: Outbox | None = None) -> None:
        self.grid, self.timeout = grid, timeout
        self.outbox = outbox or _unknown(str(grid.run.run_id))
        self.log = self.outbox.log
        self._outdated: set[str] = set()
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

    def messages(self, kind: str, posts: Iterable[Post]) -> list[tuple[Message, str]]:
        """The messages of a round of questions with their labels; the log has the round before anybody is asked."""
        listed = list(posts)
        contents = [self._content(post) for post in listed]
        if listed and kind != wire.DESCRIBE:
            orders = {post.label: content_digest(content) for post, content in zip(listed, contents, strict=True)}
            rounds = max(round_of(post.data) for post in listed)
            self.log.append("asked", {"stage": kind, "round": rounds, "run": self.outbox.run, "orders": orders})
        return [(self._addressed(kind, p, c), p.label) for p, c in zip(listed, contents, strict=True)]

    def message(self, kind: str, post: Post) -> Message:
        """The Flower message of one question, without a word in the log."""
        return self._addressed(kind, post, self._content(post))

    def _content(self, post: Post) -> RecordDict:
        config = ConfigRecord({wire.JSON: json.dumps({**post.data, "label": post.label}), **post.sealed})
        content = RecordDict({wire.CONFIG: config})
        if post.arrays is not None:
            content[wire.ARRAYS] = post.arrays
        return content

    def _addressed(self, kind: str, post: Post, content: RecordDict) -> Message:
        self.outbox.address(content, kind, post.label, post.data)
        return Message(content, dst_node_id=post.node, message_type=kind, ttl=self.timeout)

    def ask(self, kind: str, posts: Iterable[Post]) -> dict[str, Answer]:
        """The good answers by label; what failed or stayed silent is noted in `failures`.

        Whoever holds a later checkpoint of the log than was known is asked once more, with the proof that it needs.
        """
        listed, before = list(posts), dict(self.failures)
        answers = self._asked(kind, listed)
        again = [post for post in listed if post.label in self._outdated]
        for post in again:
            self.failures.pop(post.label, None)
            self.failures |= {n: code for n, code in before.items() if n == post.label}
        return {**answers, **self._asked(kind, again)}

    def _asked(self, kind: str, posts: list[Post]) -> dict[str, Answer]:
        self._outdated.clear()
        sent = self.messages(kind, posts)
        if not sent:
            return {}
        replies = self.grid.send_and_receive([m for m, _ in sent], timeout=self.timeout)
        return self.match(sent, replies)

    def match(self, sent: Iterable[tuple[Message, str]], replies: Iterable[Message]) -> dict[str, Answer]:
        """Matches replies to questions by message id: an error reply does not carry its node's own id."""
        asked: dict[str, tuple[Message, str]] = {}
        sent = list(sent)
        for message, label in sent:
            asked[message.metadata.message_id] = (message, label)
            self._count(message)
        good: dict[str, Answer] = {}
        for reply in replies:
            question = asked.pop(reply.metadata.reply_to_message_id, None)
            if question is None:
                continue
            try:
                good[question[1]] = self._answer(*question, reply)
            except _Failed as failed:
                self._fail(question[1], failed.code)
        for _, label in asked.values():
            self._fail(label, "silent")
        self._heard(list(sent), good)
        return good

    def _heard(self, sent: list[tuple[Message, str]], good: Mapping[str, Answer]) -> None:
        """Writes into the log who answered a round with what, and who failed."""
        if not sent:
            return
        header = Header.of(enveloped(sent[0][0].content)[0])
        answers = {n: Header.of(enveloped(a.content)[0]).content for n, a in sorted(good.items())}
        failed = {label: self.failures[label] for _, label in sent if label not in good and label in self.failures}
        facts = {"stage": header.stage, "round": header.round, "run": header.run}
        if answers or failed:
            self.log.append("answered", {**facts, "answers": answers, "failed": failed})

    def _answer(self, order: Message, label: str, reply: Message) -> Answer:
        """A reply as a good answer; raises `_Failed` where it is none."""
        if reply.has_error():
            raise _Failed(f"flower-{reply.error.code}")
        self._count(reply)
        record = reply.content.config_records.get(wire.CONFIG)
        code = "protocol" if record is None else record.get(wire.ERROR)
        if record is None or code is not None:
            self._refused(order, label, reply, code)
            raise _Failed(str(code) if code in wire.ERRORS else "internal")
        try:
            sender, verify = self.outbox.signer(order.content, label, reply.content)
            data = json.loads(str(record[wire.JSON]))
        except SealBroken:
            raise _Failed("seal") from None
        except _ODD:
            raise _Failed("protocol") from None
        if not isinstance(data, dict):
            raise _Failed("protocol")
        return Answer(reply.metadata.src_node_id, data, reply.content, sender, verify)

    def _refused(self, order: Message, label: str, reply: Message, code: object) -> None:
        """Notes where the log stands for who refused: it saw this checkpoint, or would be helped by another proof."""
        with suppress(*_ODD):
            if code != "log":
                self.outbox.signer(order.content, label, reply.content)
            elif self.outbox.outdated(order.content, label, reply.content):
                self._outdated.add(label)

    def _count(self, message: Message) -> None:
        size = message_to_proto(message).ByteSize()
        self.bytes_sent[self._phase] = self.bytes_sent.get(self._phase, 0) + size

    def _fail(self, label: str, code: str) -> None:
        self.failures[label] = code
        _log.warning("%s failed in phase %s: %s", label, self._phase, code)


def _unknown(run: str) -> Outbox:
    """The outbox of a coordinator that nobody knows yet: fresh keys, and a log in memory."""
    key = new_signing_key()
    return Outbox(run, key, count(1), Log(None, key))
