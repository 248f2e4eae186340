"""What a node takes in: orders that its coordinator signed for it, each once; and its own name under every reply.

An order is checked before anything of it is used: its size, its signature by the coordinator's key, that it is for this
run, this kind of message and this holder, that its content is what was signed, and that its number is higher than any
before. That number is on disk before the order is obeyed, so of two processes that play one holder only one does.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flwr.app import ConfigRecord, RecordDict

from clients.config import Node
from clients.identity import signing_key
from clients.witness import accept, held_at
from model import wire
from model.contents import check_size, content_digest, enveloped, round_of
from model.inputs import InputError
from privacy.checkpoints import LogRefused
from privacy.durable import alone, write
from privacy.envelope import SealBroken
from privacy.messages import COORDINATOR, Header, digest, opened, signed
from privacy.signing import verify_key

MARKS = "orders.json"  # by the key of who gives orders, the highest number that was obeyed


class Replayed(RuntimeError):
    """An order that was obeyed before, or that is older than one that was."""


@dataclass
class Inbox:
    """One message at one node.

    An order is obeyed only if the coordinator's log, as its checkpoint shows, continues the one that this holder saw.
    The reply carries this holder's signature of that checkpoint.

    Args:
        kind: of message, as it was registered.
        run: the transport's name of the run.
        place: what the coordinator calls this node before it knows who plays there.
    """

    node: Node
    kind: str
    content: RecordDict
    run: str
    place: str
    log: dict[str, Any] = field(default_factory=dict)

    def order(self) -> dict[str, Any]:
        """The plain data of an order that this node must obey, once.

        Raises:
            SealBroken: where it is not the coordinator's, not for here and now, or was changed.
            Replayed: where it is not newer than the last.
            LogRefused: where its checkpoint does not continue the log that this holder saw.
            InputError: where it is for a holder that this node does not play.
            KeyError, TypeError, ValueError: where it is no order at all.
        """
        content = self.content
        check_size(content)
        header = self._header(content)
        if (header.run, header.stage, header.sender) != (self.run, self.kind, COORDINATOR) or header.answers:
            raise SealBroken("an order is of another run, kind or sender")
        name = self._name(header)
        if header.content != content_digest(content):
            raise SealBroken("an order is not what was signed")
        config = json.loads(str(content.config_records[wire.CONFIG][wire.JSON]))
        if not isinstance(config, dict):
            raise TypeError("an order must be a JSON object")
        if header.round != round_of(config):
            raise SealBroken("an order is of another round")
        if config.get("holder", name) != name:
            raise InputError("order", "holder", "is not whom it was sent to")
        self._advance(name, header)
        return config

    def reply(self, content: Mapping[str, Any]) -> RecordDict:
        """A reply's content with this node's envelope: it names the order that it answers, whatever that was."""
        record = RecordDict(dict(content))
        asked, text = self._asked()
        name = asked.receiver if asked and asked.receiver in self.node.holders else self.node.holders[0]
        header = Header(
            run=self.run,
            round=asked.round if asked else 0,
            stage=self.kind,
            sender=name,
            receiver=COORDINATOR,
            sequence=asked.sequence if asked else 0,
            content=content_digest(record),
            answers=digest(text) if text else "",
            log=self.log,
        )
        key = signing_key(self.node, name)
        record[wire.SIGNED] = envelope(header, key)
        return record

    def _header(self, content: RecordDict) -> Header:
        """The order's header, signed by the key whose orders this node obeys."""
        text, signature, verify = enveloped(content)
        lasting = self.node.coordinator or not self.node.simulated  # a real node that joined nobody obeys nobody
        if lasting and verify != self.node.coordinator:
            raise SealBroken("an order is not from the coordinator that this node joined")
        return opened(text, signature, verify)

    def _name(self, header: Header) -> str:
        """The holder whom an order is for; one that asks who is here is for the node."""
        if self.kind == wire.DESCRIBE:
            if header.receiver != self.place:
                raise SealBroken("an order is for another node")
            return self.node.holders[0]
        return self.node.holder(header.receiver).name

    def _asked(self) -> tuple[Header | None, str]:
        """The header of the message as it is, trusted or not, and its text."""
        try:
            text, _, _ = enveloped(self.content)
        except (KeyError, TypeError, ValueError):
            return None, ""
        try:
            return Header.of(text), text
        except SealBroken:
            return None, text

    def _advance(self, name: str, header: Header) -> None:
        """Keeps the number of an order and the checkpoint that it carries, on disk, before it is obeyed."""
        _, _, verify = enveloped(self.content)
        sync, sender = not self.node.simulated, base64.b64encode(verify).decode()
        advance(self.node.folder(name), sender, header.sequence, sync)
        try:
            checkpoint = accept(held_at(self.node, name, verify), verify, header.log, sync)
        except LogRefused as refused:
            self.log = {"held": refused.held}
            raise
        self.log = {"cosigned": checkpoint.cosign(name, signing_key(self.node, name))}


def advance(folder: Path, sender: str, sequence: int, sync: bool = True) -> None:
    """Keeps the highest number of a sender's messages; raises `Replayed` where this one is not higher."""
    path = folder / MARKS
    with alone(folder, sync):
        marks = _marks(path)
        if sequence <= marks.get(sender, 0):
            raise Replayed("an order came twice, or after a later one")
        write(path, json.dumps({**marks, sender: sequence}, indent=1, sort_keys=True).encode(), sync)


def _marks(path: Path) -> dict[str, int]:
    if not path.exists():
        return {}
    try:
        marks = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        marks = None
    if not isinstance(marks, dict) or not all(type(number) is int for number in marks.values()):
        raise SealBroken(f"the numbers of the last orders cannot be read: {path}")
    return marks


def envelope(header: Header, signing_key: bytes) -> ConfigRecord:
    """The record that carries a signed header."""
    fields: dict[str, str | bytes] = {wire.HEADER: header.text(), wire.SIGNATURE: signed(header, signing_key)}
    return ConfigRecord({**fields, wire.VERIFY: verify_key(signing_key)})
