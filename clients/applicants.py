"""Scoring new applicants with a published model: the lender shows whom, partners answer, the lender fuses.

Nothing is released: sub-scores go sealed to the lender, as in a run, and no ledger is charged. A partner answers
for versions that it knows (`clients.published`), each person once a version, and so many versions a year; all persons
that it is shown count, whether it has them or not (`clients.answers`). It learns which of its own persons are
applicants; the lender learns whom it has.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clients import answers, matching
from clients.cohort import offered, persons_of, table_of
from clients.config import Node
from clients.files import read_columns
from clients.ids import persons
from clients.packets import Channel
from clients.published import Known, recalled, version_of
from clients.scoring import CLAMP, FAMILIES, Evidence, worst_families
from clients.tables import Table, load_table
from model.averages import families_of
from model.blocks import ENGINES, POINTS, Block
from model.coherent import variances
from model.federation import LENDER
from model.inputs import InputError
from model.limits.table import MICRO
from model.moments import BlockRows
from model.wire import ABSENT, pack, unpack
from privacy.matching import POINT, Bytes

_log = logging.getLogger("fedscore.clients")

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]
_ROW = np.dtype([("score", "<i4"), ("error", "<f4"), ("families", "i1", FAMILIES), ("shortfalls", "<i2", FAMILIES)])


@dataclass(frozen=True)
class Scoring:
    """One batch of applicants: of which programme, by which model, under a random name.

    Attributes:
        id: the hash of all of it, which every packet is bound to.
        model: SHA-256 of the published bundle.
    """

    id: str
    model: str

    @classmethod
    def of(cls, document: Mapping[str, Any], node: Node) -> Scoring:
        """The batch that an order names; raises `InputError` where it is of another programme."""
        if document["programme"] != node.programme:
            raise InputError("order", "scoring", "is of another programme")
        told = json.dumps({key: str(document[key]) for key in ("programme", "model", "run")}, sort_keys=True)
        return cls(hashlib.sha256(b"fedscore-scoring-1|" + told.encode()).hexdigest(), str(document["model"]))

    def node(self, node: Node) -> Node:
        """The node as it aligns applicants: its hidden sets fit no training cohort, nor another model's applicants.

        Lists and sets are counted over all models (`clients.answers`), so not by this node's programme.
        """
        limits = replace(node.limits, max_alignments=1 << 40)
        return replace(node, programme=f"{node.programme}|score|{self.model}", limits=limits)


def applicants_of(node: Node) -> Table:
    """The lender's applicants with the codes of its own block, in the order in which they are shown.

    Raises:
        InputError: where there is no such file, or it cannot be used.
    """
    if node.applicants is None:
        remedy = 'name a file in node.toml: applicants = "applicants.parquet"'
        raise InputError("node.toml", "node.applicants", "is not given", remedy=remedy)
    lender = node.federation.lender
    if lender.contract:
        table = load_table(node.federation, replace(lender, data=(node.applicants,)))
    else:
        ids = read_columns(node.applicants, node.federation.id, [])[node.federation.id]
        table = Table(ids, None, np.zeros((0, len(ids)), np.uint16), None, ())
    order = np.arange(len(table.ids)) if node.simulated else matching.order_of(node, table.ids.to_list())
    return replace(table, ids=table.ids.gather(order), codes=table.codes[:, order])


def _named(node: Node, table: Table) -> list[str]:
    """The applicants' ids, written as the federation compares them."""
    return persons(node.applicants or Path(), node.federation.id, table.ids, node.federation.id_form)


def offer(channel: Channel, scoring: Scoring, told: Mapping[str, Any]) -> bytes:
    """A partner's set of persons, hidden, for the lender whose announcement is `told`."""
    node, name = scoring.node(channel.node), channel.name
    ids = persons_of(node, name)
    return channel.seal(LENDER, told, pack(items=matching.offer(node, name, ids).items), "score-offer")


def show(
    channel: Channel, scoring: Scoring, receivers: Mapping[str, Mapping[str, Any]], offers: Mapping[str, bytes]
) -> dict[str, bytes]:
    """The applicants, hidden and sealed for each partner, in order; none for one whose set cannot be answered.

    Args:
        channel: the lender's.
        receivers: by partner, its announcement.
        offers: by partner, the set that it sent; none where tokens are used.

    Raises:
        InputError: where the applicants cannot be used, or whom to show them is no partner.
        ValueError: where nobody's set can be answered.
    """
    node = scoring.node(channel.node)
    table = applicants_of(node)
    ids = _named(node, table)
    _keep_order(node, scoring, ids)
    engine = matching.matcher(node, LENDER)
    hidden = matching.shown(node, ids, engine)

    def packet(name: str) -> bytes:
        items: Bytes = np.zeros((0, POINT), np.uint8)
        if name in offers:
            items = offered(channel.open(name, receivers[name], offers[name], "score-offer"))
            most = ("max-alignments", channel.node.limits.max_alignments)
            answers.compare(node.durable(LENDER), _compared(name, items, 1, most))
        answer = matching.answered(node, name, ids, items, engine)
        digest = np.array(hashlib.sha256(items.tobytes()).hexdigest())
        form = np.array(node.federation.id_form)
        packed = pack(form=form, shown=hidden, answer=answer, set=digest)
        return channel.seal(name, receivers[name], packed, "applicants")

    packets, refused = {}, []
    for name in receivers:
        if name not in {p.name for p in node.federation.partners}:
            raise InputError("order", "keys", "name a receiver that is no partner", name)
        try:
            packets[name] = packet(name)
        except ValueError as error:  # whatever one sent, the others are shown them
            _log.error("no applicants for %s: %s", name, type(error).__name__)
            refused.append(error)
    if refused and not packets:
        raise refused[0]
    return packets


def _compared(party: str, points: Bytes, counted: int, limit: tuple[str, int]) -> answers.Compared:
    digest = hashlib.sha256(points.tobytes()).hexdigest()
    return answers.Compared(party, digest, counted, *limit, datetime.now(UTC))


def _keep_order(node: Node, scoring: Scoring, ids: Sequence[str]) -> None:
    """Notes in which order the applicants were shown: answers fit no other."""
    path = node.folder(LENDER) / "applicants.json"
    digest = hashlib.sha256(json.dumps(list(ids)).encode()).hexdigest()
    path.write_text(json.dumps({"scoring": scoring.id, "order": digest}), encoding="utf-8")


def shown_before(node: Node, scoring: Scoring) -> Table:
    """The applicants in the order in which they were shown; raises `InputError` where their file changed since."""
    table, path = applicants_of(node), node.folder(LENDER) / "applicants.json"
    ids = _named(node, table)
    digest = hashlib.sha256(json.dumps(ids).encode()).hexdigest()
    if not path.is_file() or json.loads(path.read_text()) != {"scoring": scoring.id, "order": digest}:
        raise InputError(node.applicants or "", "", "changed while its persons were scored", remedy="score it again")
    return table


def block_of(node: Node, name: str, engine: str, contract: str, weights: Floats) -> Block:
    """A published block as this holder would score with it; raises `InputError` where it is not of its contract."""
    held = node.federation.holder(name).contract
    table = applicants_of(node) if name == LENDER else table_of(node, name)
    if held is None or table.encoding is None or held.sha256 != contract:
        raise InputError("order", "contract", "is not this holder's: the model is of another version of it", name)
    if engine not in ENGINES or weights.ndim != 1 or not np.isfinite(weights).all():
        raise InputError("order", "block", "cannot be scored with", engine)
    if engine in POINTS and len(weights) != 1 + sum(len(part.labels) for part in table.encoding.parts):
        raise InputError("order", "block", "has not one weight for each bin", len(weights))
    return Block(engine, table.encoding, weights)


def answer(channel: Channel, scoring: Scoring, told: Mapping[str, Any], packet: bytes, block: Block) -> bytes:
    """This partner's sub-scores of the applicants, sealed for the lender whose announcement is `told`."""
    node, name = scoring.node(channel.node), channel.name
    table, known = table_of(node, name), recalled(node, name, block)
    arrays = unpack(channel.open(LENDER, told, packet, "applicants"))
    if str(arrays["form"]) != node.federation.id_form or len(arrays["shown"]) > node.limits.max_cohort:
        raise InputError("order", "applicants", "are more than limits.max-cohort, or written in another id-form")
    ids = persons_of(node, name)
    shown, answered = (arrays[part].astype(np.uint8, casting="safe") for part in ("shown", "answer"))
    most = ("max-applicants", node.limits.max_applicants)
    answers.compare(node.durable(name), _compared(LENDER, shown, len(shown), most))
    rows = matching.rows(node, name, ids, (str(arrays["set"]), shown, answered))
    here = np.flatnonzero(rows >= 0)
    limits, now = node.limits, datetime.now(UTC)
    version = answers.Version(version_of(block), "", limits.max_models, limits.max_applicants, now)
    asked = [(ids[rows[i]], scoring.id) for i in here]

    def make(new: list[int]) -> list[bytes]:
        return _scored(table, block, rows[here[new]], known, lender=False)

    replies = answers.once(node.durable(name), version, asked, make)
    evidence = _unpacked(b"".join(reply.reply for reply in replies), here, len(rows), families_of(block.encoding))
    return channel.seal(LENDER, told, evidence.to_bytes(), "score")


def own_evidence(table: Table, block: Block, node: Node) -> Evidence:
    """The lender's own sub-scores of its applicants."""
    try:
        known = recalled(node, LENDER, block)
    except InputError:  # a model that it did not take part in: without reasons
        known = Known()
    everybody = np.arange(len(table.ids))
    rows = _scored(table, block, everybody, known, lender=True)
    return _unpacked(b"".join(rows), everybody, len(everybody), families_of(block.encoding))


def evidence_of(node: Node, name: str, block: Block, rows: Rows) -> Evidence:
    """What a partner says of its own persons at these rows; raises `InputError` where it does not know the model."""
    found = _scored(table_of(node, name), block, rows, recalled(node, name, block), lender=False)
    return _unpacked(b"".join(found), np.arange(len(rows)), len(rows), families_of(block.encoding))


def _scored(table: Table, block: Block, rows: Rows, known: Known, lender: bool) -> list[bytes]:
    """Each person's answer in the bytes in which it is stored."""
    codes = table.codes[:, rows]
    found = np.zeros(len(rows), dtype=_ROW)
    found["score"] = np.rint(np.clip(block.subscores(codes), -CLAMP, CLAMP) * MICRO)
    if known.covariance is not None:
        found["error"] = variances(BlockRows(block.encoding, lender), known.covariance, codes)
    families, shortfalls = worst_families(block, codes, np.arange(len(rows)), known.average)
    found["families"], found["shortfalls"] = families, shortfalls
    return [row.tobytes() for row in found]


def _unpacked(stored: bytes, here: Rows, size: int, names: tuple[str, ...]) -> Evidence:
    """The evidence of all applicants, of whom those at `here` are known."""
    found = np.frombuffer(stored, dtype=_ROW)
    values, errors = np.full(size, ABSENT, dtype=np.int32), np.zeros(size, dtype=np.float32)
    families, shortfalls = np.full((size, FAMILIES), -1, np.int8), np.zeros((size, FAMILIES), np.int16)
    values[here], errors[here] = found["score"], found["error"]
    families[here], shortfalls[here] = found["families"], found["shortfalls"]
    return Evidence(values, errors, families, shortfalls, names)
