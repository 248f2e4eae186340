"""The life of a run, phase by phase: describe, align, plan, train, fuse, publish."""

from __future__ import annotations

import json
import logging
import math
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord
from flwr.serverapp import Grid
from numpy.typing import NDArray

from model import blocks, wire
from model.bundle import Bundle
from model.federation import LENDER
from model.limits.table import FusionTable
from privacy.statement import statement
from server.config import RunConfig
from server.exchange import Answer, Exchange, Post
from server.failures import RunFailed
from server.planning import RunPlan, layout_of, make_plan
from server.roster import Roster, discover
from server.strategy import BlockStrategy

Floats = NDArray[np.float64]

RUN_FILE = "run.json"
MODEL_FOLDER = "model"
_log = logging.getLogger("fedscore.server")


@dataclass(frozen=True)
class Outcome:
    """What a run ends with: the bundle, and the facts that a report tells about the run."""

    bundle: Bundle
    facts: Mapping[str, Any]


class Programme:
    """One run over a grid. Each phase takes what the one before gave; `run` strings them together."""

    def __init__(self, grid: Grid, settings: RunConfig) -> None:
        self.grid, self.settings = grid, settings
        self.exchange = Exchange(grid, settings.timeout)

    def run(self) -> Outcome:
        """Runs all phases; raises `RunFailed` or `BudgetExceeded`, with nothing published."""
        with self.exchange.phase("describe"):
            roster = self._agreed(discover(self.exchange, self.grid, self.settings.wait))
        with self.exchange.phase("align"):
            sizes, packets = self._align(roster)
        with self.exchange.phase("plan"):
            plan = make_plan(roster, sizes, self.settings.engine, self.settings.rounds)
        with self.exchange.phase("train"):
            strategy = self._train(roster, plan, packets)
        weights, roster = strategy.weights(), roster.without(strategy.failed)
        with self.exchange.phase("fuse"):
            fused, roster = self._fuse(roster, plan, weights, self._subscores(roster, plan, weights))
        with self.exchange.phase("publish"):
            outcome = self._outcome(roster, plan, weights, fused)
            if self.settings.out is not None:
                publish(outcome, self.settings.out)
        return outcome

    def _agreed(self, roster: Roster) -> Roster:
        """The roster under this run's terms: settings beat the federation file, except a holder's own ceiling."""
        given, terms = self.settings, roster.terms
        terms = replace(
            terms,
            epsilon=given.epsilon or terms.epsilon,
            delta=given.delta or terms.delta,
            on_failure=given.on_failure or terms.on_failure,
        )
        for name in roster.missing:
            self.exchange.failures[name] = "silent"
        roster = replace(roster, terms=terms)
        if roster.missing and terms.on_failure == "stop":
            raise RunFailed("stopped, as configured: no answer from " + ", ".join(roster.missing))
        if not roster.partners:
            raise RunFailed("no partner answered")
        return roster

    def _align(self, roster: Roster) -> tuple[Mapping[str, int], dict[str, bytes]]:
        keys = {m.name: m.key for m in roster.partners}
        answer = self.exchange.ask(wire.COHORT, [Post(LENDER, roster.lender.node, {"keys": keys})]).get(LENDER)
        if answer is None:
            raise RunFailed(f"the lender's cohort failed: {self.exchange.failures[LENDER]}")
        packets = {name: answer.sealed(f"{wire.SEALED}-{name}") for name in keys}
        if None in packets.values():
            raise RunFailed("the lender's cohort failed: protocol")
        return answer.data, {name: packet for name, packet in packets.items() if packet is not None}

    def _train(self, roster: Roster, plan: RunPlan, packets: Mapping[str, bytes]) -> BlockStrategy:
        rng = np.random.default_rng(self.settings.seed)  # initialisation only
        start = {}
        for member in roster.training():
            name = wire.key(member.domain, wire.LAST)
            if name not in start:
                start[name] = Array(blocks.start(plan.engine, member.encoding, rng))
        strategy = BlockStrategy(self.exchange, roster, plan, packets)
        strategy.start(self.grid, ArrayRecord(start), num_rounds=plan.rounds, timeout=self.settings.timeout)
        if not strategy.weights():
            raise RunFailed("no block was trained: " + _told(self.exchange.failures))
        return strategy

    def _subscores(self, roster: Roster, plan: RunPlan, weights: Mapping[str, Floats]) -> dict[str, bytes]:
        """The sealed sub-scores of each partner whose block was trained, by its name."""
        key = roster.lender.key
        posts = [
            Post(
                m.name,
                m.node,
                {"holder": m.name, "block": m.domain, "engine": plan.engine, "key": key},
                _weights_record(m.domain, weights[m.domain]),
            )
            for m in roster.partners
            if m.domain in weights
        ]
        answers = self.exchange.ask(wire.SUBSCORES, posts)
        sealed = {}
        for post in posts:
            packet = answers[post.label].sealed(wire.SEALED) if post.label in answers else None
            if packet is None:
                self.exchange.failures.setdefault(post.label, "protocol")
            else:
                sealed[post.label] = packet
        self._stop_on_loss(roster, {p.label for p in posts} - set(sealed))
        return sealed

    def _stop_on_loss(self, roster: Roster, lost: set[str]) -> None:
        if lost and roster.terms.on_failure == "stop":
            raise RunFailed("stopped, as configured: " + _told(self.exchange.failures))

    def _fuse(
        self, roster: Roster, plan: RunPlan, weights: Mapping[str, Floats], sealed: Mapping[str, bytes]
    ) -> tuple[Answer, Roster]:
        """The lender's fusion; a partner whose sub-scores it cannot open is left out and the rest asked again."""
        while True:
            roster = roster.without({m.name for m in roster.partners} - set(sealed))
            post = self._fusion_post(roster, plan, weights, sealed)
            reply = self.exchange.ask(wire.FUSE, [post]).get(LENDER)
            if reply is None:
                raise RunFailed(f"the lender's fusion failed: {self.exchange.failures[LENDER]}")
            unopened = set(reply.data.get("unopened", ())) & set(sealed)
            if not unopened:
                return reply, roster
            self.exchange.failures.update(dict.fromkeys(unopened, "seal"))
            self._stop_on_loss(roster, unopened)
            sealed = {name: packet for name, packet in sealed.items() if name not in unopened}

    def _fusion_post(
        self, roster: Roster, plan: RunPlan, weights: Mapping[str, Floats], sealed: Mapping[str, bytes]
    ) -> Post:
        own = roster.lender.domain if roster.lender.contract and roster.lender.domain in weights else None
        domains = {m.domain for m in roster.partners} | ({own} if own else set())
        if not domains:
            raise RunFailed("no sub-scores arrived: " + _told(self.exchange.failures))
        layout = layout_of(domains, own)
        order = {
            "block": own,
            "engine": plan.engine,
            "partners": [{"name": m.name, "domain": m.domain} for m in roster.partners],
            "contracts": {m.domain: m.contract.to_dict() for m in roster.partners if m.contract},
            "releases": {name: line.to_dict() for name, line in plan.fusion(layout).items()},
            "schedules": {name: asdict(plan.schedules[f"fusion/{name}"]) for name in layout.bounds()},
        }
        packets = {f"{wire.SEALED}-{name}": packet for name, packet in sealed.items()}
        return Post(LENDER, roster.lender.node, order, _weights_record(own, weights[own]) if own else None, packets)

    def _outcome(self, roster: Roster, plan: RunPlan, weights: Mapping[str, Floats], fused: Answer) -> Outcome:
        table = FusionTable.from_dict(fused.data["table"])
        finished = {
            m.domain: blocks.Block.finished(plan.engine, m.encoding, weights[m.domain])
            for m in roster.training()
            if m.domain in table.blocks
        }
        told = statement(plan.plan, plan.persons)
        bundle = Bundle(roster.terms.programme, finished, table, fused.data["centres"], told)
        facts = {
            "federation": roster.terms.federation,
            "programme": roster.terms.programme,
            "engine": plan.engine,
            "rounds": plan.rounds,
            "epsilon_asked": "inf" if math.isinf(roster.terms.epsilon) else roster.terms.epsilon,
            "delta": roster.terms.delta,
            "partners": {m.name: m.domain for m in roster.partners},
            "failures": dict(self.exchange.failures),
            "releases": [r.to_dict() for r in plan.plan.releases],
            "seconds": {k: round(v, 3) for k, v in self.exchange.seconds.items()},
            "bytes_sent": dict(self.exchange.bytes_sent),
        }
        return Outcome(bundle, facts)


def publish(outcome: Outcome, out: Path) -> None:
    """Writes `model/` and `run.json` under `out`, each under a temporary name first."""
    out.mkdir(parents=True, exist_ok=True)
    temporary = out / f".{MODEL_FOLDER}.part"
    shutil.rmtree(temporary, ignore_errors=True)
    sha256 = outcome.bundle.save(temporary)
    temporary.rename(out / MODEL_FOLDER)
    facts = {**outcome.facts, "bundle_sha256": sha256}
    part = out / f".{RUN_FILE}.part"
    part.write_text(json.dumps(facts, indent=1), encoding="utf-8")
    part.replace(out / RUN_FILE)
    _log.info("published %s", sha256)


def _weights_record(block: str, weights: Floats) -> ArrayRecord:
    return ArrayRecord({wire.key(block, wire.MEAN): Array(weights)})


def _told(failures: Mapping[str, str]) -> str:
    return ", ".join(f"{name} ({code})" for name, code in sorted(failures.items())) or "nobody failed"
