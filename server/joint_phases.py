"""The phases of a run whose blocks are fitted together: align, fit, score, publish."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from flwr.app import Array, ArrayRecord
from numpy.typing import NDArray

from model import scorecard, wire
from model.averages import families_of
from model.blocks import Block
from model.bundle import Bundle
from model.coherent import Published
from model.contributions import contributions
from model.denoising import Moments
from model.federation import LENDER
from privacy.statement import statement
from server.exchange import Answer, Post
from server.failures import RunFailed
from server.fitting import fit_jointly
from server.joint_planning import joint_layout
from server.outcomes import Outcome, quality_of
from server.planning import RunPlan
from server.preparing import commit_sets, cut_bins, hand_out, tell_homes
from server.resuming import Standing
from server.roster import Roster
from server.strategy import note_head
from server.table import Table

if TYPE_CHECKING:
    from server.phases import Programme

Floats = NDArray[np.float64]


class JointRun:
    """What of a run is different where blocks are fitted together. A holder that is lost ends it: no fit lacks one."""

    def __init__(self, programme: Programme, roster: Roster, plan: RunPlan, standing: Standing) -> None:
        self.heads = programme.book.heads()
        self.programme, self.exchange = programme, programme.exchange
        self.roster, self.plan, self.standing = roster, plan, standing
        self.table: Table | None = None

    def run(self) -> Outcome:
        """All phases after the plan; raises `RunFailed` with nothing published."""
        try:
            return self._run()
        except Exception:
            if not self.programme.book.has(self.plan):  # nothing was charged: nothing is to go on from
                self.end()
            raise

    def end(self) -> None:
        """The model is published, or nothing was charged: everybody deletes what it kept for another attempt."""
        self.standing.done()
        if self.table:
            self.table.forget()

    def _run(self) -> Outcome:
        with self.exchange.phase("align"):
            sets, lost = commit_sets(self.exchange, self.roster, self.plan)
            if lost:
                raise RunFailed("the joint fit needs every holder, and lost " + ", ".join(sorted(lost)))
            parcels, cohort = hand_out(self.exchange, self.roster, self.plan, self.heads, sets)
            lost = {m.name for m in self.roster.partners} - set(parcels)
            lost |= tell_homes(self.exchange, self.roster, self.plan, parcels) if not lost else set()
            if any(line.name.startswith("bins/") for line in self.plan.plan.releases):  # the first noise to be drawn
                self.programme.book.reserve(self.plan)
            self.roster, failed = cut_bins(self.exchange, self.roster, self.plan, parcels)
            if lost | failed:
                raise RunFailed("the joint fit needs every holder, and lost " + ", ".join(sorted(lost | failed)))
        keys, book = self.standing.keys, self.programme.book
        table = Table(self.exchange, self.roster, self.plan, keys, book, cohort, parcels, dict(self.heads))
        self.table = table
        own = self.roster.lender.domain if self.roster.lender.contract else None
        with self.exchange.phase("train"):
            moments, fitted = fit_jointly(table, joint_layout(self.roster), own)
        with self.exchange.phase("fuse"):
            fused = self._score(fitted, self._finished(fitted))
        note_head(table.heads, LENDER, fused.data)
        self.programme.note(table.heads)
        with self.exchange.phase("publish"):
            return self._outcome(moments, fitted, fused)

    def _finished(self, fitted: Published) -> dict[str, Block]:
        """The blocks as they are published: monotone where their contract asks for it."""
        found = {}
        encodings = {m.domain: m.encoding for m in self.roster.training()}
        for domain, (constant, points) in fitted.weights.items():
            points = scorecard.risen(encodings[domain], points)
            found[domain] = Block("moments", encodings[domain], np.concatenate([[constant], points]))
        return found

    def _score(self, fitted: Published, blocks: Mapping[str, Block]) -> Answer:
        """The lender's table of held-out persons' scores, from everybody's sealed sub-scores."""
        keys, plan = {LENDER: self.roster.lender.public}, self.plan
        posts = [
            Post(m.name, m.node, self._order(m.name, fitted) | {"keys": keys}, _record(fitted, blocks, m.domain))
            for m in self.roster.partners
        ]
        answers = self.exchange.ask(wire.SUBSCORES, posts)
        sealed = {n: p for n, a in answers.items() if (p := a.sealed(wire.SEALED)) is not None}
        if len(sealed) < len(posts):
            raise RunFailed("scoring failed: " + ", ".join(sorted({p.label for p in posts} - set(sealed))))
        lender = self.roster.lender
        own = lender.domain if lender.contract else None
        order = {
            **(self._order(LENDER, fitted) if own else {"plan": plan.document}),
            "block": own,
            "table": fitted.table.to_dict(),
            "centres": fitted.centres,
            "partners": [{"name": m.name, "domain": m.domain, "keys": m.public} for m in self.roster.partners],
            "contracts": {m.domain: m.contract.to_dict() for m in self.roster.partners if m.contract},
        }
        packets = {f"{wire.SEALED}-{name}": packet for name, packet in sealed.items()}
        record = _record(fitted, blocks, lender.domain) if own else None
        fused = self.exchange.ask(wire.FUSE, [Post(LENDER, lender.node, order, record, packets)]).get(LENDER)
        if fused is None or fused.data.get("unopened"):
            raise RunFailed(f"the lender's scoring failed: {self.exchange.failures.get(LENDER, 'seal')}")
        return fused

    def _order(self, name: str, fitted: Published) -> dict[str, Any]:
        """What a holder scores with, beside its block: the averages that its reasons are measured against."""
        member = self.roster.members[name]
        families = fitted.families(member.domain).tolist()
        order = {"plan": self.plan.document, "holder": name, "block": member.domain, "edges": member.edges}
        return order | {"families": dict(zip(families_of(member.encoding), families, strict=True))}

    def _outcome(self, moments: Moments, fitted: Published, fused: Answer) -> Outcome:
        joint = self.plan.joint
        told = statement(self.plan.plan, self.plan.sizes["train"], joint)
        facts = {
            "trust": joint.trust if joint else "local",
            "contributions": _contributions(moments, fitted.own),
            "noise": {"matrix": moments.stddev, "columns": moments.layout.width},
        }
        name = self.roster.terms.programme
        quality = quality_of(self.plan, fused)
        bundle = Bundle(name, self._finished(fitted), fitted.table, fitted.centres, told, quality)
        return self.programme.outcome(self.roster, self.plan, bundle, facts)


def _contributions(moments: Moments, own: str | None) -> dict[str, Any]:
    """What each block adds, with intervals, as plain values; nothing where there are too many to be exact."""
    try:
        found = contributions(moments, own)
    except ValueError:
        return {}
    return {name: vars(value) for name, value in found.items()}


def _record(fitted: Published, blocks: Mapping[str, Block], domain: str) -> ArrayRecord:
    covariance = fitted.block_covariance(domain)
    return ArrayRecord(
        {
            wire.key(domain, wire.MEAN): Array(blocks[domain].weights),
            wire.key(domain, wire.COVARIANCE): Array(covariance.astype(np.float32)),
        }
    )
