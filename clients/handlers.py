"""What a node does with each message. An exception never reaches the server: only its generic code does."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict

from clients.cohort import accept, hand_out, public_key_of
from clients.config import Node
from clients.fusing import FuseOrder, fuse, open_evidence
from clients.scoring import Evidence, score
from clients.training import Order, train
from model import wire
from model.contract import Contract
from model.descent import Schedule
from model.federation import LENDER
from model.inputs import InputError, whole
from privacy.envelope import SealBroken, seal
from privacy.ledger import LedgerCorrupt
from privacy.plan import BudgetExceeded, Release

Config = Mapping[str, Any]
Records = dict[str, ArrayRecord | ConfigRecord]

_log = logging.getLogger("fedscore.clients")


def answer(kind: str, message: Message, context: Context) -> Message:
    """The reply to a message: what its handler gives, or one of `wire.ERRORS` and nothing else."""
    try:
        node = Node.of(context.node_config, context.run_config, context.run_id)
        record = message.content.config_records[wire.CONFIG]
        config = json.loads(str(record[wire.JSON]))
        content = _HANDLERS[kind](node, config, message.content)
    except Exception as error:  # whatever it is, its text stays here
        code = _code(error)
        where = f" ({error.field} {error.rule})" if isinstance(error, InputError) else ""
        _log.error("%s failed: %s%s", kind, type(error).__name__, where)
        content = {wire.CONFIG: ConfigRecord({wire.ERROR: code})}
    return Message(RecordDict(dict(content)), reply_to=message)


def _code(error: Exception) -> str:
    kinds = {BudgetExceeded: "budget", InputError: "input", LedgerCorrupt: "ledger", SealBroken: "seal"}
    for kind, code in kinds.items():
        if isinstance(error, kind):
            return code
    return "protocol" if isinstance(error, KeyError | TypeError | ValueError) else "internal"


def _reply(data: object, **sealed: bytes) -> Records:
    return {wire.CONFIG: ConfigRecord({wire.JSON: json.dumps(data), **sealed})}


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
                "key": base64.b64encode(public_key_of(node, name)).decode(),
            }
        )
    described: dict[str, Any] = {"holders": holders}
    if LENDER in node.holders:
        federation = node.federation
        described["programme"] = {
            "name": node.programme,
            "federation": federation.name,
            "epsilon": _text(node.epsilon if node.simulated else min(node.epsilon, federation.epsilon)),
            "delta": node.delta,
            "shares": dict(federation.shares),
            "partners": [p.name for p in federation.partners],
            "on_failure": federation.on_failure,
        }
    return _reply(described)


def _text(epsilon: float) -> float | str:
    return "inf" if np.isinf(epsilon) else epsilon


def _cohort(node: Node, config: Config, content: RecordDict) -> Records:
    del content
    node.holder(LENDER)
    keys = {name: base64.b64decode(key) for name, key in config["keys"].items()}
    sealed, sizes = hand_out(node, keys)
    return _reply(sizes, **{f"{wire.SEALED}-{name}": packet for name, packet in sealed.items()})


def _train(node: Node, config: Config, content: RecordDict) -> Records:
    name = node.holder(config["holder"]).name
    record = content.config_records[wire.CONFIG]
    if wire.SEALED in record:
        accept(node, name, _bytes(record[wire.SEALED]))
    order = Order(
        Release.from_dict(config["release"]),
        _schedule(config["schedule"]),
        config["engine"],
        *(whole("order", name, config[name]) for name in ("round", "rounds", "persons", "holders")),
    )
    block = config["block"]
    weights = content.array_records[wire.ARRAYS][wire.key(block, wire.LAST)].numpy()
    trained = train(node, name, order, weights)
    arrays = ArrayRecord({wire.key(block, parameter): Array(value) for parameter, value in trained.items()})
    return {wire.ARRAYS: arrays, **_reply({"holder": name})}


def _schedule(line: Config) -> Schedule:
    return Schedule(whole("order", "steps", line["steps"]), float(line["rate"]), float(line["burn_in"]))


def _subscores(node: Node, config: Config, content: RecordDict) -> Records:
    name = node.holder(config["holder"]).name
    evidence = _evidence(node, name, config, content)
    context = f"{node.programme}|subscores|{name}"
    return _reply({"holder": name}, sealed=seal(base64.b64decode(config["key"]), evidence.to_bytes(), context))


def _evidence(node: Node, name: str, config: Config, content: RecordDict) -> Evidence:
    weights = content.array_records[wire.ARRAYS][wire.key(config["block"], wire.MEAN)].numpy()
    return score(node, name, config["engine"], weights)


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
    releases = {name: Release.from_dict(line) for name, line in config["releases"].items()}
    schedules = {name: _schedule(line) for name, line in config["schedules"].items()}
    fit = fuse(node, FuseOrder(releases, schedules), blocks, own)
    return _reply({"table": fit.table.to_dict(), "centres": fit.centres})


def _families(contract: Config) -> tuple[str, ...]:
    return tuple(sorted({f.group for f in Contract.from_dict(contract).features}))


_HANDLERS: dict[str, Callable[[Node, Config, RecordDict], Records]] = {
    wire.DESCRIBE: _describe,
    wire.COHORT: _cohort,
    wire.TRAIN: _train,
    wire.SUBSCORES: _subscores,
    wire.FUSE: _fuse,
}
