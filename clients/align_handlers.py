"""What a node does with the messages that align persons: sets committed, the cohort handed out, homes chosen."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from flwr.app import RecordDict

from clients.cohort import accept, aligned, cohort_of, commit, hand_out
from clients.config import Node
from clients.homes import assign, learn, presence
from clients.orders import agreed, reserve
from clients.packets import Channel
from clients.responses import told_labels
from model import wire
from model.federation import LENDER

Config = Mapping[str, Any]
Answer = tuple[dict[str, Any], dict[str, bytes]]  # plain data, and ciphertexts by key


def match(node: Node, config: Config, content: RecordDict) -> Answer:
    """A partner's set of persons, hidden, and the digest that everybody may know that it is committed to."""
    del content
    channel = _channel(node, node.holder(config["holder"]).name, config)
    packet, digest = commit(channel, config["keys"][LENDER])
    return {"holder": channel.name, "set": digest}, {wire.SEALED: packet}


def cohort(node: Node, config: Config, content: RecordDict) -> Answer:
    """The lender's cohort for every partner whose set it could answer, and why others get none."""
    agreement = agreed(node, node.holder(LENDER).name, config)
    if agreement.joint:  # nothing is told that costs: no label leaves, and the plan is charged before the opening
        told = np.full_like(cohort_of(node).labels, -1)
    else:
        reserve(node, LENDER, agreement)
        told = told_labels(node, agreement.response)
    digests = config.get("sets", {})
    offers = {name: (packet, str(digests.get(name, ""))) for name, packet in _by_name(content).items()}
    handed = hand_out(Channel(node, LENDER, agreement.id), config["keys"], told, offers)
    data: dict[str, Any] = {"cohort": aligned(node, LENDER).digest}
    if handed.refused:
        data["refused"] = dict(handed.refused)
    return data, {f"{wire.SEALED}-{name}": packet for name, packet in handed.packets.items()}


def presences(node: Node, config: Config, content: RecordDict) -> Answer:
    """Whom of the cohort a partner has, for the lender."""
    channel = _channel(node, node.holder(config["holder"]).name, config)
    unpack(channel, content)
    return {"holder": channel.name}, {wire.SEALED: presence(channel, lenders(content))}


def homes(node: Node, config: Config, content: RecordDict) -> Answer:
    """Whose home each partner is, for each of them."""
    told = assign(_channel(node, node.holder(LENDER).name, config), _by_name(content), config["keys"])
    return {}, {f"{wire.SEALED}-{name}": packet for name, packet in told.items()}


def unpack(channel: Channel, content: RecordDict) -> None:
    """Keeps what the lender sealed for this holder, if an order brings it: the cohort, and whose home it is."""
    record = content.config_records[wire.CONFIG]
    if wire.SEALED in record:
        accept(channel, lenders(content), _bytes(record[wire.SEALED]))
    if wire.HOME in record:
        learn(channel, lenders(content), _bytes(record[wire.HOME]))


def lenders(content: RecordDict) -> dict[str, Any]:
    """What the lender announced, as it stands beside its packets."""
    told = json.loads(_bytes(content.config_records[wire.CONFIG][wire.LENDERS]))
    if not isinstance(told, dict):
        raise TypeError("an announcement must be an object")
    return told


def _channel(node: Node, name: str, config: Config) -> Channel:
    return Channel(node, name, agreed(node, name, config).id)


def _by_name(content: RecordDict) -> dict[str, bytes]:
    """The ciphertexts of a message by the partner that sealed each."""
    record, prefix = content.config_records[wire.CONFIG], f"{wire.SEALED}-"
    return {k.removeprefix(prefix): v for k, v in record.items() if k.startswith(prefix) and isinstance(v, bytes)}


def _bytes(value: object) -> bytes:
    if not isinstance(value, bytes):
        raise TypeError("a sealed message must be bytes")
    return value
