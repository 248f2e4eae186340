"""What a node does with each message. An exception never reaches the server: only its generic code does."""

from __future__ import annotations

import base64
import json
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict

from clients.cohort import accept, aligned, cohort_of, hand_out, sizes_of
from clients.config import Node
from clients.fusing import fuse, open_evidence
from clients.homes import assign, learn, presence
from clients.identity import introduction
from clients.joint_handlers import HANDLERS as JOINT_HANDLERS
from clients.joint_handlers import handled
from clients.orders import Agreement, ledger, reserve
from clients.responses import told_labels
from clients.scoring import Evidence, Joined, score
from clients.training import Order, bins, train
from model import wire
from model.averages import families_of
from model.contract import Contract
from model.encoding import Encoding
from model.federation import LENDER
from model.fusion import Fit
from model.inputs import InputError, whole
from model.limits.table import FusionTable
from privacy.envelope import SealBroken, seal
from privacy.ledger import LedgerCorrupt, LedgerMismatch
from privacy.plan import BudgetExceeded

Config = Mapping[str, Any]
Records = dict[str, ArrayRecord | ConfigRecord]

_log = logging.getLogger("fedscore.clients")
_CODES: dict[type[Exception], str] = {
    BudgetExceeded: "budget",
    InputError: "input",
    SealBroken: "seal",
    LedgerCorrupt: "ledger",
    LedgerMismatch: "ledger",
}
_DIGITS = 26  # no number's JSON text is longer


def answer(kind: str, message: Message, context: Context) -> Message:
    """The reply to a message: what its handler gives, or one of `wire.ERRORS` and nothing else."""
    try:
        node = Node.of(context.node_config, context.run_config, context.run_id)
        record = message.content.config_records[wire.CONFIG]
        config = json.loads(str(record[wire.JSON]))
        if not isinstance(config, dict):
            raise TypeError("an order must be a JSON object")
        content = _HANDLERS[kind](node, config, message.content)
    except Exception as error:  # whatever it is, its text stays here
        code = _code(error)
        where = f" ({error.field} {error.rule})" if isinstance(error, InputError) else ""
        _log.error("%s failed: %s%s", kind, type(error).__name__, where)
        content = {wire.CONFIG: ConfigRecord({wire.ERROR: code})}
    return Message(RecordDict(dict(content)), reply_to=message)


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
        }
    return _reply(described)


def _cohort(node: Node, config: Config, content: RecordDict) -> Records:
    del content
    agreement = _agreed(node, node.holder(LENDER).name, config)
    if agreement.joint:  # nothing is told that costs: no label leaves, and the plan is charged before the opening
        told = np.full_like(cohort_of(node).labels, -1)
    else:
        reserve(node, LENDER, agreement)
        told = told_labels(node, agreement.response)
    sealed = hand_out(node, _keys(config), told)
    return _reply({"cohort": aligned(node, LENDER).digest}, **{f"{wire.SEALED}-{n}": p for n, p in sealed.items()})


def _presence(node: Node, config: Config, content: RecordDict) -> Records:
    name = node.holder(config["holder"]).name
    _unpack(node, name, content)
    return _reply({"holder": name}, sealed=presence(node, name, base64.b64decode(config["key"])))


def _homes(node: Node, config: Config, content: RecordDict) -> Records:
    node.holder(LENDER)
    record, keys = content.config_records[wire.CONFIG], _keys(config)
    sealed = {name: _bytes(record[f"{wire.SEALED}-{name}"]) for name in keys}
    told = assign(node, _agreed(node, LENDER, config).id, sealed, keys)
    return _reply({}, **{f"{wire.SEALED}-{name}": packet for name, packet in told.items()})


def _joint(kind: str) -> Callable[[Node, Config, RecordDict], Records]:
    """The reply to a message of the joint fit: ciphertexts, and where the ledger stands."""

    def reply(node: Node, config: Config, content: RecordDict) -> Records:
        packets, head = handled(kind, node, config, content)
        return _reply({"holder": config["holder"], "head": head}, **packets)

    return reply


def _bins(node: Node, config: Config, content: RecordDict) -> Records:
    name = node.holder(config["holder"]).name
    agreement = _agreed(node, name, config)
    _unpack(node, name, content, agreement.id)
    counts = bins(node, name, agreement)
    return {wire.ARRAYS: ArrayRecord({wire.COUNTS: Array(counts)}), **_reply({"holder": name})}


def _train(node: Node, config: Config, content: RecordDict) -> Records:
    name = node.holder(config["holder"]).name
    agreement = _agreed(node, name, config)
    _unpack(node, name, content, agreement.id)
    block = config["block"]
    order = Order(agreement, block, whole("order", "round", config["round"]))
    weights = content.array_records[wire.ARRAYS][wire.key(block, wire.LAST)].numpy()
    trained = train(node.with_edges(name, config["edges"]), name, order, weights)
    arrays = ArrayRecord({wire.key(block, parameter): Array(value) for parameter, value in trained.items()})
    return {wire.ARRAYS: arrays, **_reply({"holder": name, "head": _head(node, name)})}


def _agreed(node: Node, name: str, config: Config) -> Agreement:
    """The plan that an order carries; this holder's ledger must be where the order's witness saw it."""
    seen = config.get("witness")
    if seen is not None:
        with ledger(node, name, (whole("order", "witness", seen[0]), str(seen[1]))):
            pass
    return Agreement.of(config["plan"], node)


def _head(node: Node, name: str) -> list[object]:
    """What the coordinator keeps as a witness: rows of the ledger and its last hash."""
    with ledger(node, name) as book:
        return list(book.head()) if book else []


def _unpack(node: Node, name: str, content: RecordDict, plan: str = "") -> None:
    """Keeps what came sealed for this holder: the cohort, and whose home it is."""
    record = content.config_records[wire.CONFIG]
    if wire.SEALED in record:
        accept(node, name, _bytes(record[wire.SEALED]))
    if wire.HOME in record:
        learn(node, name, plan, _bytes(record[wire.HOME]))


def _keys(config: Config) -> dict[str, bytes]:
    return {name: base64.b64decode(key) for name, key in config["keys"].items()}


def _subscores(node: Node, config: Config, content: RecordDict) -> Records:
    name = node.holder(config["holder"]).name
    evidence = _evidence(node, name, config, content)
    context = f"{node.programme}|subscores|{name}"
    return _reply({"holder": name}, sealed=seal(base64.b64decode(config["key"]), evidence.to_bytes(), context))


def _evidence(node: Node, name: str, config: Config, content: RecordDict) -> Evidence:
    arrays, block = content.array_records[wire.ARRAYS], config["block"]
    agreement, joined = _agreed(node, name, config), None
    if agreement.joint:
        joined = Joined(config["families"], arrays[wire.key(block, wire.COVARIANCE)].numpy().astype(np.float64))
    weights = arrays[wire.key(block, wire.MEAN)].numpy()
    return score(node.with_edges(name, config["edges"]), name, agreement, weights, joined)


def _fuse(node: Node, config: Config, content: RecordDict) -> Records:
    node.holder(LENDER)
    record = content.config_records[wire.CONFIG]
    blocks: dict[str, list[Evidence]] = {}
    unopened = []
    for partner in config["partners"]:
        names = _families(config["contracts"][partner["domain"]])
        sealed = _bytes(record[f"{wire.SEALED}-{partner['name']}"])
        try:
            evidence = open_evidence(node, partner["name"], sealed, names)
        except SealBroken:
            unopened.append(partner["name"])
            continue
        blocks.setdefault(partner["domain"], []).append(evidence)
    if unopened:  # nothing was charged yet: the coordinator asks again without them
        return _reply({"unopened": unopened})
    own = config["block"]
    if own is not None:
        blocks[own] = [_evidence(node, LENDER, config, content)]
    given = Fit(FusionTable.from_dict(config["table"]), config["centres"]) if "table" in config else None
    fused = fuse(node, _agreed(node, LENDER, config), blocks, own, given)
    head = _head(node, LENDER)
    told = _reply({"table": fused.fit.table.to_dict(), "centres": fused.fit.centres, "head": head})
    if fused.histogram is None:
        return told
    return {wire.ARRAYS: ArrayRecord({wire.COUNTS: Array(fused.histogram)}), **told}


def _families(contract: Config) -> tuple[str, ...]:
    return families_of(Encoding.of(Contract.from_dict(contract)))


_HANDLERS: dict[str, Callable[[Node, Config, RecordDict], Records]] = {
    wire.DESCRIBE: _describe,
    wire.COHORT: _cohort,
    wire.PRESENCE: _presence,
    wire.HOMES: _homes,
    wire.BINS: _bins,
    wire.TRAIN: _train,
    wire.SUBSCORES: _subscores,
    wire.FUSE: _fuse,
    **{kind: _joint(kind) for kind in JOINT_HANDLERS},
}
KINDS = tuple(_HANDLERS)  # of message
