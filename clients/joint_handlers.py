"""What a node does with the messages of the joint fit, of secure sums and of scoring: checked, and handed on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from flwr.app import RecordDict

from clients import computing, dealing, joint
from clients.align_handlers import unpack
from clients.cohort import aligned
from clients.config import Node
from clients.joint import Seat
from clients.orders import agreed
from clients.packets import Channel
from model import wire
from model.inputs import InputError, whole
from model.link import Link
from privacy.roles import REFINE

Config = Mapping[str, Any]
Packets = dict[str, bytes]


def _seat(node: Node, config: Config) -> Seat:
    name = node.holder(config["holder"]).name
    agreement = agreed(node, name, config)
    node = node.with_edges(name, config.get("edges", {}))
    return Seat(node, name, agreement, config["keys"], config["contracts"])


def _packets(content: RecordDict, prefix: str) -> Packets:
    """The ciphertexts of a message whose keys begin so, by the rest of the key."""
    record = content.config_records[wire.CONFIG]
    return {k.removeprefix(prefix): v for k, v in record.items() if k.startswith(prefix) and isinstance(v, bytes)}


def _rows(node: Node, config: Config, content: RecordDict) -> Packets:
    name = node.holder(config["holder"]).name
    packets = _packets(content, "")
    seat = _seat(node, config)
    unpack(Channel(node, name, seat.agreement.id), content)
    if aligned(node, name).digest != config["cohort"]:
        raise InputError("order", "cohort", "is not the one that this holder was told")
    return joint.show_rows(seat, _chunk(seat, config), packets.get("seeds"))


def _chunk(seat: Seat, config: Config) -> int:
    number = whole("order", "chunk", config["chunk"])
    if number >= len(seat.joint.chunks(seat.agreement.sizes["train"])):
        raise InputError("order", "chunk", "is beyond the cohort", number)
    return number


def _step(seat: Seat, config: Config) -> int:
    number = whole("order", "step", config["step"])
    if number >= seat.agreement.line(REFINE, seat.name).count:
        raise InputError("order", "step", "is not in the plan", number)
    return number


def _sums(node: Node, config: Config, content: RecordDict) -> Packets:
    points = content.array_records[wire.ARRAYS][wire.key(config["block"], wire.MEAN)].numpy()
    seat = _seat(node, config)
    return joint.show_sums(seat, _step(seat, config), Link.from_dict(config["link"]), points)


def _deal(node: Node, config: Config, content: RecordDict) -> Packets:
    del content
    return dealing.deal(_seat(node, config))


def _tables(node: Node, config: Config, content: RecordDict) -> Packets:
    del content
    seat = _seat(node, config)
    return dealing.tables(seat, _step(seat, config), _chunk(seat, config), Link.from_dict(config["link"]))


def _close(node: Node, config: Config, content: RecordDict) -> Packets:
    del content
    return joint.close(_seat(node, config))


def _multiply(node: Node, config: Config, content: RecordDict) -> Packets:
    seat = _seat(node, config)
    computing.multiply(seat, _chunk(seat, config), _packets(content, "rows-"), _packets(content, "dealt").get(""))
    return {}


def _open(node: Node, config: Config, content: RecordDict) -> Packets:
    return {"matrix": computing.open_matrix(_seat(node, config), _packets(content, "noise-"))}


def _refine(node: Node, config: Config, content: RecordDict) -> Packets:
    seat = _seat(node, config)
    return computing.step(seat, _step(seat, config), _chunk(seat, config), _packets(content, ""))


def _forget(node: Node, config: Config, content: RecordDict) -> Packets:
    del content
    _seat(node, config).forget()
    return {}


HANDLERS: dict[str, Callable[[Node, Config, RecordDict], Packets]] = {
    wire.ROWS: _rows,
    wire.DEAL: _deal,
    wire.CLOSE: _close,
    wire.MULTIPLY: _multiply,
    wire.OPEN: _open,
    wire.SUMS: _sums,
    wire.TABLES: _tables,
    wire.STEP: _refine,
    wire.FORGET: _forget,
}
