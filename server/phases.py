"""The life of a run, phase by phase: describe, align, plan, train, fuse, publish."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord
from flwr.serverapp import Grid
from numpy.typing import NDArray

from model import blocks, wire
from model.bundle import Bundle
from model.federation import LENDER
from model.limits.table import FusionTable
from privacy.plan import BudgetExceeded
from privacy.statement import statement
from server.budget import open_book
from server.config import RunConfig
from server.contracts import check_contracts
from server.exchange import Answer, Exchange, Post
from server.failures import RunFailed
from server.joint_phases import JointRun
from server.masked import summed_domains
from server.outbox import Outbox
from server.outcomes import Outcome, publish, quality_of
from server.planning import RunPlan, make_plan
from server.preparing import commit_sets, cut_bins, hand_out, tell_homes
from server.resuming import Standing
from server.roster import Roster, discover, enrolled_in
from server.strategy import BlockStrategy, Head, Parcels, note_head

Floats = NDArray[np.float64]

_log = logging.getLogger("fedscore.server")


class Programme:
    """One run over a grid. Each phase takes what the one before gave; `run` strings them together."""

    def __init__(self, grid: Grid, settings: RunConfig) -> None:
        self.grid, self.settings = grid, settings
        enrolled = enrolled_in(settings.coordinator) if settings.coordinator else None
        outbox = Outbox.of(str(grid.run.run_id), settings.home, enrolled)
        self.exchange, self.log = Exchange(grid, settings.timeout, outbox), outbox.log

    def run(self) -> Outcome:
        """Runs all phases; raises `RunFailed` or `BudgetExceeded`, with nothing published."""
        self.log.append("run", {"run": self.exchange.outbox.run})
        try:
            return self._run()
        except Exception as error:
            with suppress(RunFailed):  # whatever it is, it ends the run, and the log says so if it can
                self.log.append("stopped", {"run": self.exchange.outbox.run, "why": type(error).__name__})
            raise

    def _run(self) -> Outcome:
        with self.exchange.phase("describe"):
            roster = self._agreed(discover(self.exchange, self.grid, self.settings.wait))
        with self.exchange.phase("plan"):
            plan = make_plan(roster, self.settings.engine, self.settings.rounds, self.settings.trust)
            if not plan.joint:
                plan = replace(plan, summed=summed_domains(roster, self.settings.secure_sum))
            self.book = open_book(self.settings.ledger, roster.terms)
            lasting = self.exchange.outbox.key if self.settings.coordinator else b""
            plan, standing = Standing.of(self.book.folder, plan, self.settings.resume, lasting)
            self.log.append("plan", {"plan": plan.id, "roster": roster.digest, "run": self.exchange.outbox.run})
            heads = self.book.heads() if plan.joint else self._charged(plan, standing)
        if plan.joint:
            joint = JointRun(self, roster, plan, standing)
            outcome = self._published(joint.run())
            joint.end()
            return outcome
        with self.exchange.phase("align"):
            sets, lost = commit_sets(self.exchange, roster, plan)
            roster = self._left(roster, lost)
            parcels, _ = hand_out(self.exchange, roster, plan, heads, sets)
            roster = self._left(roster, {m.name for m in roster.partners} - set(parcels))
            roster = self._left(roster, tell_homes(self.exchange, roster, plan, parcels))
            roster = self._left(*cut_bins(self.exchange, roster, plan, parcels))
        with self.exchange.phase("train"):
            strategy = self._train(roster, plan, parcels, heads)
        weights, roster = strategy.weights(), roster.without(strategy.failed)
        with self.exchange.phase("fuse"):
            fused, roster = self._fuse(roster, plan, weights, self._subscores(roster, plan, weights))
        note_head(heads, LENDER, fused.data)
        self.note(heads)
        with self.exchange.phase("publish"):
            outcome = self._published(self._outcome(roster, plan, weights, fused))
        standing.done()
        return outcome

    def _charged(self, plan: RunPlan, standing: Standing) -> dict[str, Head]:
        """Charges the plan; where it does not fit, nothing is left to go on from."""
        try:
            return self.book.reserve(plan)
        except BudgetExceeded:
            standing.done()
            raise

    def note(self, heads: dict[str, Head]) -> None:
        """Keeps where the holders' ledgers stand, as a witness; the log has their hashes."""
        if heads:
            told = {name: digest for name, (_, digest) in sorted(heads.items())}
            self.log.append("ledgers", {"heads": told, "run": self.exchange.outbox.run})
        self.book.note(heads)

    def _published(self, outcome: Outcome) -> Outcome:
        facts = {"plan": outcome.facts["plan"], "run": self.exchange.outbox.run}
        if self.settings.out is not None:
            publish(outcome, self.settings.out, lambda model: self.log.append("published", {"model": model, **facts}))
        return outcome

    def _agreed(self, roster: Roster) -> Roster:
        """The roster under this run's terms: settings beat the federation file, except a holder's own ceiling."""
        given, terms = self.settings, roster.terms
        privacy = replace(
            terms.privacy, epsilon=given.epsilon or terms.privacy.epsilon, delta=given.delta or terms.privacy.delta
        )
        terms = replace(terms, privacy=privacy, on_failure=given.on_failure or terms.on_failure)
        for name in roster.missing:
            self.exchange.failures.setdefault(name, "silent")
        roster = replace(roster, terms=terms)
        if roster.missing and terms.on_failure == "stop":
            raise RunFailed("stopped, as configured: no answer from " + ", ".join(roster.missing))
        if not roster.partners:
            raise RunFailed("no partner answered")
        check_contracts(roster)
        return roster

    def _left(self, roster: Roster, failed: set[str]) -> Roster:
        """The roster without those that failed, if the terms let the run go on."""
        self._stop_on_loss(roster, failed)
        return roster.without(failed) if failed else roster

    def _train(self, roster: Roster, plan: RunPlan, parcels: Parcels, heads: dict[str, Head]) -> BlockStrategy:
        rng = np.random.default_rng(self.settings.seed)  # initialisation only
        start = {}
        for member in roster.training():
            name = wire.key(member.domain, wire.LAST)
            if name not in start:
                start[name] = Array(blocks.start(plan.engine, member.encoding, rng))
        strategy = BlockStrategy(self.exchange, roster, plan, parcels, heads)
        strategy.start(self.grid, ArrayRecord(start), num_rounds=plan.rounds, timeout=self.settings.timeout)
        if not strategy.weights():
            raise RunFailed("no block was trained: " + _told(self.exchange.failures))
        return strategy

    def _subscores(self, roster: Roster, plan: RunPlan, weights: Mapping[str, Floats]) -> dict[str, bytes]:
        """The sealed sub-scores of each partner whose block was trained, by its name."""
        keys = {LENDER: roster.lender.public}
        posts = [
            Post(
                m.name,
                m.node,
                {"plan": plan.document, "holder": m.name, "block": m.domain, "edges": m.edges, "keys": keys},
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
        order = {
            "plan": plan.document,
            "block": own,
            "edges": roster.lender.edges,
            "partners": [{"name": m.name, "domain": m.domain, "keys": m.public} for m in roster.partners],
            "contracts": {m.domain: m.contract.to_dict() for m in roster.partners if m.contract},
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
        told = statement(plan.plan, plan.sizes["train"])
        bundle = Bundle(roster.terms.programme, finished, table, fused.data["centres"], told, quality_of(plan, fused))
        return self.outcome(roster, plan, bundle)

    def outcome(self, roster: Roster, plan: RunPlan, bundle: Bundle, more: Mapping[str, Any] | None = None) -> Outcome:
        """A bundle with the facts that a report tells about its run, `more` among them."""
        terms = roster.terms
        facts = {
            "federation": terms.federation,
            "programme": terms.programme,
            "engine": plan.engine,
            "rounds": plan.rounds,
            "epsilon_asked": plan.document["epsilon"],
            "delta": plan.plan.delta,
            "partners": {m.name: m.domain for m in roster.partners},
            "failures": dict(self.exchange.failures),
            "plan": plan.id,
            "summed": list(plan.summed),
            "releases": [line.to_dict() for line in plan.plan.lines],
            "seconds": {k: round(v, 3) for k, v in self.exchange.seconds.items()},
            "bytes_sent": dict(self.exchange.bytes_sent),
            **(more or {}),
        }
        return Outcome(bundle, facts)


def _weights_record(block: str, weights: Floats) -> ArrayRecord:
    return ArrayRecord({wire.key(block, wire.MEAN): Array(weights)})


def _told(failures: Mapping[str, str]) -> str:
    return ", ".join(f"{name} ({code})" for name, code in sorted(failures.items())) or "nobody failed"
