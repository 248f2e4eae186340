"""What a node does with each message. An exception never reaches the server: only its generic code does."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict

from clients import align_handlers, joint_handlers, score_handlers, sum_handlers
from clients.align_handlers import unpack
from clients.cohort import cohort_of, sizes_of
from clients.config import Node
from clients.fusing import fuse, open_evidence
from clients.identity import introduction
from clients.inbox import Inbox, Replayed
from clients.masking import Place
from clients.orders import Agreement, agreed, ledger
from clients.packets import Channel
from clients.scoring import Evidence, Joined, score
from clients.sum_handlers import parts
from clients.training import Order, bins, train
from model import wire
from model.averages import families_of
from model.contract import Contract
from model.encoding import Encoding
from model.federation import LENDER
from model.fusion import Fit
from model.inputs import InputError, whole
from model.limits.table import FusionTable
from privacy.checkpoints import LogRefused
from privacy.envelope import SealBroken
from privacy.ledger import LedgerCorrupt, LedgerMismatch
from privacy.plan import BudgetExceeded

Config = Mapping[str, Any]
Records = dict[str, ArrayRecord | ConfigRecord]
Handler = Callable[[Node, Config, RecordDict], Records]

_log = logging.getLogger("fedscore.clients")
_CODES: dict[type[Exception], str] = {
    BudgetExceeded: "budget",
    InputError: "input",
    SealBroken: "seal",
    LedgerCorrupt: "ledger",
    LedgerMismatch: "ledger",
    Replayed: "replay",
    LogRefused: "log",
}
_DIGITS = 26  # no number's JSON text is longer


def answer(kind: str, message: Message, context: Context) -> Message:
    """The signed reply to a message: what its handler gives, or one of `wire.ERRORS` and nothing else."""
    inbox = None
    try:
        node = Node.of(context.node_config, context.run_config, context.run_id)
        inbox = Inbox(node, kind, message.content, str(context.run_id), f"node-{context.node_id}")
        config = inbox.order()
        node.limits.refuse(kind)
        return Message(inbox.reply(_HANDLERS[kind](node, config, message.content)), reply_to=message)
    except Exception as error:  # whatever it is, its text stays here
        code = _code(error)
        where = f" ({error.field} {error.rule})" if isinstance(error, InputError) else ""
        _log.error("%s failed: %s%s", kind, type(error).__name__, where)
    return Message(_refusal(inbox, code), reply_to=message)


def _refusal(inbox: Inbox | None, code: str) -> RecordDict:
    """An error's code, signed where this node has a name to sign with."""
    content = {wire.CONFIG: ConfigRecord({wire.ERROR: code})}
    try:
        return inbox.reply(content) if inbox else RecordDict(dict(content))
    except Exception as error:
        _log.error("a refusal could not be signed: %s", type(error).__name__)
        return RecordDict(dict(content))


def _code(error: Exception) -> str:
    for kind, code in _CODES.items():
        if isinstance(error, kind):
            return code
    return "protocol" if isinstance(error, KeyError | TypeError | ValueError) else "internal"


def _reply(data: object, **sealed: bytes) -> Records:
    return {wire.CONFIG: ConfigRecord({wire.JSON: _padded(data), **sealed})}


def _padded(data: object) -> str:
    """JSON text whose length depends on the form of `data` alone, never on how many digits its numbers have."""
    numbers = 0

    def formed(value: object) -> object:
        nonlocal numbers
        if isinstance(value, dict):
            return {k: formed(v) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [formed(v) for v in value]
        if isinstance(value, int | float) and not isinstance(value, bool):
            numbers += 1
            return 0
        return value

    room = len(json.dumps(formed(data))) + _DIGITS * numbers
    return json.dumps(data).ljust(room)


def _bytes(value: object) -> bytes:
    if not isinstance(value, bytes):
        raise TypeError("a sealed message must be bytes")
    return value


def _describe(node: Node, config: Config, content: RecordDict) -> Records:
    del config, content
    holders = []
    for name in node.holders:
        holder = node.federation.holder(name)
        holders.append(
            {
                "name": name,
                "domain": holder.domain,
                "contract": holder.contract.to_dict() if holder.contract else None,
                **introduction(node, name),
            }
        )
    described: dict[str, Any] = {"holders": holders}
    if LENDER in node.holders:
        federation = node.federation
        terms = replace(federation.privacy, epsilon=min(node.epsilon, node.total), delta=node.delta)
        described["programme"] = {
            "name": node.programme,
            "federation": federation.name,
            "privacy": terms.to_dict(),
            "total": "inf" if math.isinf(node.total) else node.total,
            "partners": [p.name for p in federation.partners],
            "on_failure": federation.on_failure,
            "sizes": sizes_of(node),
            "roles": dict(federation.roles),
            "alignment": node.alignment,
        }
    return _reply(described)


def _aligning(handler: Callable[[Node, Config, RecordDict], align_handlers.Answer]) -> Handler:
    """The reply to a message that aligns persons."""

    def reply(node: Node, config: Config, content: RecordDict) -> Records:
        data, packets = handler(node, config, content)
        return _reply(data, **packets)

    return reply


def _packets(handler: Callable[[Node, Config, RecordDict], dict[str, bytes]], charged: bool) -> Handler:
    """The reply of ciphertexts, and where the ledger stands then; no ledger is touched where nothing is charged."""

    def reply(node: Node, config: Config, content: RecordDict) -> Records:
        packets = handler(node, config, content)
        head = _head(node, node.holder(config["holder"]).name) if charged else []
        return _reply({"holder": config["holder"], "head": head}, **packets)

    return reply


def _bins(node: Node, config: Config, content: RecordDict) -> Records:
    name = node.holder(config["holder"]).name
    agreement = agreed(node, name, config)
    unpack(Channel(node, name, agreement.id), content)
    counts = bins(node, name, agreement)
    return {wire.ARRAYS: ArrayRecord({wire.COUNTS: Array(counts)}), **_reply({"holder": name})}


def _train(node: Node, config: Config, content: RecordDict) -> Records:
    name = node.holder(config["holder"]).name
    agreement = agreed(node, name, config)
    unpack(Channel(node, name, agreement.id), content)
    block = config["block"]
    order = Order(agreement, block, whole("order", "round", config["round"]))
    weights = content.array_records[wire.ARRAYS][wire.key(block, wire.LAST)].numpy()
    hidden = Place.of(node, name, agreement, config) if block in agreement.summed else None
    trained = train(node.with_edges(name, config["edges"]), name, order, weights)
    told = {"holder": name, "head": _head(node, name)}
    if hidden:  # under this plan no update of this block is ever shown by itself
        return _reply(told, masked=hidden.mask(order.round, trained, parts(content, wire.BOX)))
    arrays = ArrayRecord({wire.key(block, parameter): Array(value) for parameter, value in trained.items()})
    return {wire.ARRAYS: arrays, **_reply(told)}


def _head(node: Node, name: str) -> list[object]:
    """What the coordinator keeps as a witness: rows of the ledger and its last hash."""
    with ledger(node, name) as book:
        return list(book.head()) if book else []


def _subscores(node: Node, config: Config, content: RecordDict) -> Records:
    name = node.holder(config["holder"]).name
    agreement = agreed(node, name, config)
    channel = Channel(node, name, agreement.id)
    told = _evidence(channel, agreement, config, content).to_bytes()
    return _reply({"holder": name}, sealed=channel.seal(LENDER, config["keys"][LENDER], told, "subscores"))


def _evidence(channel: Channel, agreement: Agreement, config: Config, content: RecordDict) -> Evidence:
    node, name, joined = channel.node, channel.name, None
    arrays, block = content.array_records[wire.ARRAYS], config["block"]
    if agreement.joint:
        joined = Joined(config["families"], arrays[wire.key(block, wire.COVARIANCE)].numpy().astype(np.float64))
    weights = arrays[wire.key(block, wire.MEAN)].numpy()
    return score(node.with_edges(name, config["edges"]), name, agreement, weights, joined)


def _fuse(node: Node, config: Config, content: RecordDict) -> Records:
    agreement = agreed(node, node.holder(LENDER).name, config)
    channel = Channel(node, LENDER, agreement.id)
    record, group = content.config_records[wire.CONFIG], cohort_of(node).group
    blocks: dict[str, list[Evidence]] = {}
    unopened = []
    for partner in config["partners"]:
        names = _families(config["contracts"][partner["domain"]])
        sealed = _bytes(record[f"{wire.SEALED}-{partner['name']}"])
        try:
            evidence = open_evidence(channel, partner["name"], partner["keys"], sealed, names, group)
        except (ValueError, KeyError, TypeError) as error:  # whatever one sent, the others are fused
            _log.error("nothing of %s could be opened: %s", partner["name"], type(error).__name__)
            unopened.append(partner["name"])
            continue
        blocks.setdefault(partner["domain"], []).append(evidence)
    if unopened:  # nothing was charged yet: the coordinator asks again without them
        return _reply({"unopened": unopened})
    own = config["block"]
    if own is not None:
        blocks[own] = [_evidence(channel, agreement, config, content)]
    given = Fit(FusionTable.from_dict(config["table"]), config["centres"]) if "table" in config else None
    fused = fuse(node, agreement, blocks, own, given)
    head = _head(node, LENDER)
    told = _reply({"table": fused.fit.table.to_dict(), "centres": fused.fit.centres, "head": head})
    if fused.histogram is None:
        return told
    return {wire.ARRAYS: ArrayRecord({wire.COUNTS: Array(fused.histogram)}), **told}


def _families(contract: Config) -> tuple[str, ...]:
    return families_of(Encoding.of(Contract.from_dict(contract)))


_HANDLERS: dict[str, Handler] = {
    wire.DESCRIBE: _describe,
    wire.MATCH: _aligning(align_handlers.match),
    wire.COHORT: _aligning(align_handlers.cohort),
    wire.PRESENCE: _aligning(align_handlers.presences),
    wire.HOMES: _aligning(align_handlers.homes),
    wire.BINS: _bins,
    wire.TRAIN: _train,
    wire.SUBSCORES: _subscores,
    wire.FUSE: _fuse,
    **{kind: _packets(handler, True) for kind, handler in joint_handlers.HANDLERS.items()},
    **{kind: _packets(handler, True) for kind, handler in sum_handlers.HANDLERS.items()},
    **{kind: _packets(handler, False) for kind, handler in score_handlers.HANDLERS.items()},
}
KINDS = tuple(_HANDLERS)  # of message
