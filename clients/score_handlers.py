"""What a node does with the messages by which new applicants are scored."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from flwr.app import RecordDict

from clients import applicants
from clients.align_handlers import lenders
from clients.applicants import Scoring, block_of
from clients.config import Node
from clients.filing import file_scores
from clients.packets import Channel
from clients.scoring import Evidence
from clients.sum_handlers import parts
from model import wire
from model.averages import families_of
from model.blocks import Block
from model.contract import Contract
from model.encoding import Encoding
from model.federation import LENDER
from model.limits.table import FusionTable

_log = logging.getLogger("fedscore.clients")

Config = Mapping[str, Any]
Packets = dict[str, bytes]


def _channel(node: Node, config: Config) -> tuple[Channel, Scoring]:
    scoring = Scoring.of(config["scoring"], node)
    return Channel(node, node.holder(config["holder"]).name, scoring.id), scoring


def _set(node: Node, config: Config, content: RecordDict) -> Packets:
    del content
    channel, scoring = _channel(node, config)
    return {wire.SEALED: applicants.offer(channel, scoring, config["keys"][LENDER])}


def _applicants(node: Node, config: Config, content: RecordDict) -> Packets:
    channel, scoring = _channel(node, config)
    shown = applicants.show(channel, scoring, config["keys"], parts(content, wire.SEALED))
    return {f"{wire.SEALED}-{name}": packet for name, packet in shown.items()}


def _block(node: Node, name: str, config: Config, content: RecordDict) -> Block:
    """The published block that an order brings, on this holder's contract with the model's own edges."""
    told, domain = config["model"], config["block"]
    weights = content.array_records[wire.ARRAYS][wire.key(domain, wire.MEAN)].numpy().astype(np.float64)
    return block_of(node, name, told["engine"], told["contract"], weights)


def _score(node: Node, config: Config, content: RecordDict) -> Packets:
    node = node.with_edges(node.holder(config["holder"]).name, config["edges"])
    channel, scoring = _channel(node, config)
    block = _block(node, channel.name, config, content)
    packet = content.config_records[wire.CONFIG][wire.SEALED]
    if not isinstance(packet, bytes):
        raise TypeError("a sealed message must be bytes")
    return {wire.SEALED: applicants.answer(channel, scoring, lenders(content), packet, block)}


def _scored(node: Node, config: Config, content: RecordDict) -> Packets:
    node = node.with_edges(node.holder(LENDER).name, config["edges"])
    channel, scoring = _channel(node, {**config, "holder": LENDER})
    table, sealed = applicants.shown_before(scoring.node(node), scoring), parts(content, wire.SEALED)
    blocks: dict[str, list[Evidence]] = {}
    unopened = []
    for partner in config["partners"]:
        name, domain = partner["name"], partner["domain"]
        names = families_of(Encoding.of(Contract.from_dict(config["contracts"][domain])))
        try:
            opened = channel.open(name, partner["keys"], sealed[name], "score")
            evidence = Evidence.from_bytes(opened, names).checked(len(table.ids))
        except (ValueError, KeyError, TypeError) as error:  # whatever one sent, the others are fused
            _log.error("nothing of %s could be opened: %s", name, type(error).__name__)
            unopened.append(name)
            continue
        blocks.setdefault(domain, []).append(evidence)
    if config["block"] is not None:
        own = _block(node, LENDER, config, content)
        blocks[config["block"]] = [applicants.own_evidence(table, own, node)]
    file_scores(node, table.ids, FusionTable.from_dict(config["table"]), blocks)
    return {wire.UNOPENED: ",".join(unopened).encode()}


HANDLERS: dict[str, Callable[[Node, Config, RecordDict], Packets]] = {
    wire.SCORE_SET: _set,
    wire.APPLICANTS: _applicants,
    wire.SCORE: _score,
    wire.SCORED: _scored,
}
