"""Scoring new applicants with a published model: whom the lender shows, partners score, and the lender files it.

Nothing is trained and nothing released: the coordinator relays ciphertext, and no budget is touched.
"""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flwr.app import Array, ArrayRecord

from model import wire
from model.blocks import Block
from model.bundle import Bundle, decision_bundle
from model.federation import LENDER
from server.exchange import Post
from server.failures import RunFailed
from server.phases import Programme
from server.roster import Member, Roster, discover

_log = logging.getLogger("fedscore.server")


@dataclass(frozen=True)
class Scored:
    """How a batch ended.

    Attributes:
        model: SHA-256 of the bundle.
        partners: who answered.
        failures: who did not, and why.
    """

    model: str
    partners: tuple[str, ...]
    failures: Mapping[str, str]


@dataclass
class ScoringRun:
    """One batch of applicants.

    Attributes:
        programme: the run it is part of, which has exchange, settings and log.
        model: folder of the published bundle.
    """

    programme: Programme
    model: Path
    run_name: str = field(default_factory=lambda: secrets.token_hex(8))

    def run(self) -> Scored:
        """Scores the lender's applicants; raises `RunFailed` where nobody could, or the terms say to stop."""
        exchange, settings = self.programme.exchange, self.programme.settings
        bundle, sha256 = Bundle.load(self.model), decision_bundle(self.model).sha256
        with exchange.phase("describe"):
            roster = discover(exchange, self.programme.grid, settings.wait)
            exchange.failures.update(dict.fromkeys(roster.missing, "silent"))
            self._stop_on_loss(roster, roster.missing)
        document = {"programme": roster.terms.programme, "model": sha256, "run": self.run_name}
        told = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
        self.programme.log.append("scoring", {"batch": told, "model": sha256, "run": exchange.outbox.run})
        members = [m for m in roster.partners if m.domain in bundle.blocks]
        with exchange.phase("align"):
            shown = self._shown(roster, members, document)
        with exchange.phase("score"):
            sealed = self._scores(roster, [m for m in members if m.name in shown], bundle, document, shown)
        with exchange.phase("fuse"):
            unopened = self._fused(roster, [m for m in members if m.name in sealed], bundle, document, sealed)
        failures = dict(exchange.failures) | dict.fromkeys(unopened, "seal")
        return Scored(sha256, tuple(sorted(set(sealed) - unopened)), failures)

    def _stop_on_loss(self, roster: Roster, lost: Iterable[str]) -> None:
        names = sorted(lost)
        on_failure = self.programme.settings.on_failure or roster.terms.on_failure
        if names and on_failure == "stop":
            told = self.programme.exchange.failures
            raise RunFailed("stopped, as configured: " + ", ".join(f"{n} ({told.get(n, 'silent')})" for n in names))

    def _shown(self, roster: Roster, members: list[Member], document: Mapping[str, Any]) -> dict[str, bytes]:
        """The applicants, sealed for each partner."""
        exchange, lender = self.programme.exchange, roster.lender
        sets: dict[str, bytes] = {}
        if roster.terms.alignment != "tokens":
            told = {LENDER: lender.public}
            posts = [Post(m.name, m.node, {"scoring": document, "holder": m.name, "keys": told}) for m in members]
            answers = exchange.ask(wire.SCORE_SET, posts)
            sets = {f"{wire.SEALED}-{n}": p for n, a in answers.items() if (p := a.sealed(wire.SEALED)) is not None}
            members = [m for m in members if f"{wire.SEALED}-{m.name}" in sets]
        keys = {m.name: m.public for m in members}
        order = {"scoring": document, "holder": LENDER, "keys": keys}
        answer = exchange.ask(wire.APPLICANTS, [Post(LENDER, lender.node, order, sealed=sets)]).get(LENDER)
        if answer is None:
            raise RunFailed(f"the lender's applicants cannot be shown: {exchange.failures[LENDER]}")
        packets = {name: answer.sealed(f"{wire.SEALED}-{name}") for name in keys}
        shown = {name: packet for name, packet in packets.items() if packet is not None}
        for name in set(keys) - set(shown):
            exchange.failures[name] = "seal"
        self._stop_on_loss(roster, set(keys) - set(shown))
        return shown

    def _scores(
        self,
        roster: Roster,
        members: list[Member],
        bundle: Bundle,
        document: Mapping[str, Any],
        shown: dict[str, bytes],
    ) -> dict[str, bytes]:
        """Each partner's sealed sub-scores."""
        exchange, lender = self.programme.exchange, json.dumps(roster.lender.public).encode()
        posts = []
        for m in members:
            block = bundle.blocks[m.domain]
            order = {**_model(m.domain, block), "scoring": document, "holder": m.name}
            order["keys"] = {LENDER: roster.lender.public}
            packets = {wire.SEALED: shown[m.name], wire.LENDERS: lender}
            posts.append(Post(m.name, m.node, order, _weights(m.domain, block), packets))
        answers = exchange.ask(wire.SCORE, posts)
        sealed = {n: p for n, a in answers.items() if (p := a.sealed(wire.SEALED)) is not None}
        lost = {m.name for m in members} - set(sealed)
        for name in lost:
            exchange.failures.setdefault(name, "protocol")
        self._stop_on_loss(roster, lost)
        return sealed

    def _fused(
        self,
        roster: Roster,
        members: list[Member],
        bundle: Bundle,
        document: Mapping[str, Any],
        sealed: dict[str, bytes],
    ) -> set[str]:
        """Has the lender fuse and file; returns whose answers it could not open."""
        exchange, lender, own = self.programme.exchange, roster.lender, bundle.table.own
        if own is None and not members:
            told = ", ".join(f"{name} ({code})" for name, code in sorted(exchange.failures.items()))
            raise RunFailed("no sub-scores arrived: " + told)
        order = {
            **(_model(own, bundle.blocks[own]) if own else {"block": None, "edges": {}}),
            "scoring": document,
            "holder": LENDER,
            "partners": [{"name": m.name, "domain": m.domain, "keys": m.public} for m in members],
            "contracts": {m.domain: bundle.blocks[m.domain].encoding.contract.to_dict() for m in members},
            "table": bundle.table.to_dict(),
        }
        packets = {f"{wire.SEALED}-{name}": packet for name, packet in sealed.items()}
        record = _weights(own, bundle.blocks[own]) if own else None
        answer = exchange.ask(wire.SCORED, [Post(LENDER, lender.node, order, record, packets)]).get(LENDER)
        if answer is None:
            raise RunFailed(f"the lender's scoring failed: {exchange.failures[LENDER]}")
        unopened = {name for name in (answer.sealed(wire.UNOPENED) or b"").decode().split(",") if name in sealed}
        self._stop_on_loss(roster, unopened)
        return unopened


def _model(domain: str, block: Block) -> dict[str, Any]:
    """What an order says of a published block, beside its weights."""
    contract = block.encoding.contract
    edges = {f.name: f.edges for f in contract.features if f.private and f.edges}
    return {"block": domain, "edges": edges, "model": {"engine": block.engine, "contract": contract.sha256}}


def _weights(domain: str, block: Block) -> ArrayRecord:
    return ArrayRecord({wire.key(domain, wire.MEAN): Array(block.weights)})
