"""What a node does with the messages of a secure sum, beside the update itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from flwr.app import RecordDict

from clients.config import Node
from clients.masking import Place
from clients.orders import Agreement
from model import wire
from model.inputs import whole

Config = Mapping[str, Any]
Packets = dict[str, bytes]


def parts(content: RecordDict, kind: str) -> dict[str, bytes]:
    """The bytes of one kind in a message, by the holder whose they are."""
    record, prefix = content.config_records[wire.CONFIG], f"{kind}-"
    return {k.removeprefix(prefix): v for k, v in record.items() if k.startswith(prefix) and isinstance(v, bytes)}


def _named(kind: str, found: Mapping[str, bytes]) -> dict[str, bytes]:
    return {f"{kind}-{name}": part for name, part in found.items()}


def _place(node: Node, config: Config) -> Place:
    name = node.holder(config["holder"]).name
    return Place.of(node, name, Agreement.of(config["plan"], node), config)


def _round(config: Config) -> int:
    return whole("order", "round", config["round"])


def _keys(node: Node, config: Config, content: RecordDict) -> Packets:
    del content
    return {wire.ADVERT: _place(node, config).advert()}


def _shares(node: Node, config: Config, content: RecordDict) -> Packets:
    return _named(wire.BOX, _place(node, config).share(parts(content, wire.ADVERT)))


def _agree(node: Node, config: Config, content: RecordDict) -> Packets:
    del content
    survivors, signature = _place(node, config).agree(_round(config), map(str, config["survivors"]))
    return {wire.SIGNATURE: signature, wire.SURVIVORS: json.dumps(survivors).encode()}


def _reveal(node: Node, config: Config, content: RecordDict) -> Packets:
    shown = _place(node, config).reveal(_round(config), parts(content, wire.SIGNATURE))
    return _named(wire.SHARE, shown)


HANDLERS: dict[str, Callable[[Node, Config, RecordDict], Packets]] = {
    wire.MASK_KEYS: _keys,
    wire.MASK_SHARES: _shares,
    wire.SUM_AGREE: _agree,
    wire.SUM_REVEAL: _reveal,
}
