"""Envelopes for messages that a test writes or changes: signed as the coordinator, or as a holder, really would."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from flwr.app import Message, RecordDict

from clients.inbox import envelope
from model import wire
from model.contents import content_digest, enveloped
from privacy.checkpoints import Checkpoint
from privacy.messages import COORDINATOR, Header, digest


def plain(content: RecordDict) -> dict[str, Any]:
    """The plain data of a message; nothing where it is no JSON object."""
    try:
        data = json.loads(str(content.config_records[wire.CONFIG][wire.JSON]))
    except (KeyError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def anew(exchange: Any, content: RecordDict, node: int, kind: str, receiver: str = "") -> Message:
    """An order sent once more, perhaps changed: as a coordinator that deviates signs it, with its next number.

    `receiver` is whom it was for before, unless given.
    """
    told = receiver or json.loads(enveloped(content)[0])["receiver"]
    made = RecordDict(dict(content))
    exchange.outbox.address(made, kind, told, plain(made))
    return Message(made, dst_node_id=node, message_type=kind)


def resign(exchange: Any, message: Message) -> None:
    """Puts a changed order, in place, under the signature of a coordinator that means it so."""
    content = message.content
    told = json.loads(enveloped(content)[0])["receiver"]
    exchange.outbox.address(content, message.metadata.message_type, told, plain(content))


def reply_of(order: RecordDict, reply: RecordDict, name: str, key: bytes) -> RecordDict:
    """A reply to an order, signed by a holder: its envelope replaces any that is there."""
    text, _, _ = enveloped(order)
    asked = Header.of(text)
    facts = {"run": asked.run, "round": asked.round, "stage": asked.stage, "sequence": asked.sequence}
    facts |= {"sender": name, "receiver": COORDINATOR, "answers": digest(text), "content": content_digest(reply)}
    header = Header(**facts, log={"cosigned": Checkpoint.of(asked.log["checkpoint"]).cosign(name, key)})
    reply[wire.SIGNED] = envelope(header, key)
    return reply


def key_of(state: Path, name: str) -> bytes:
    """The signing key of a holder in a simulation's folder of nodes."""
    return (state / name / "sign.key").read_bytes()
