"""Before training: the cohort goes out, homes are told where the terms ask for them, private bins are cut."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from model import quantiles, wire
from model.federation import LENDER
from privacy.plan import Release
from server.exchange import Exchange, Post
from server.failures import RunFailed
from server.planning import RunPlan
from server.roster import Member, Roster
from server.strategy import Head, Parcels

Floats = NDArray[np.float64]
_log = logging.getLogger("fedscore.server")


def hand_out(exchange: Exchange, roster: Roster, plan: RunPlan, heads: Mapping[str, Head]) -> tuple[Parcels, str]:
    """The lender's cohort, sealed for each partner, and its digest; raises `RunFailed` where it does not come."""
    keys = {m.name: m.key for m in roster.partners}
    order = {"plan": plan.document, "keys": keys, "witness": heads.get(LENDER)}
    answer = exchange.ask(wire.COHORT, [Post(LENDER, roster.lender.node, order)]).get(LENDER)
    if answer is None:
        raise RunFailed(f"the lender's cohort failed: {exchange.failures[LENDER]}")
    parcels: Parcels = {}
    for name in keys:
        packet = answer.sealed(f"{wire.SEALED}-{name}")
        if packet is None:
            raise RunFailed("the lender's cohort failed: protocol")
        parcels[name] = {wire.SEALED: packet}
    return parcels, str(answer.data.get("cohort", ""))


def tell_homes(exchange: Exchange, roster: Roster, plan: RunPlan, parcels: Parcels) -> set[str]:
    """Has the lender choose each person's home where lines are charged so, or rows are added up; returns who failed."""
    lines = {line.name: line for line in plan.plan.releases if line.home}
    shared = {m.domain for m in roster.partners if plan.joint and len(roster.of_domain(m.domain)) > 1}
    members = [m for m in roster.partners if f"{m.domain}/{m.name}" in lines or m.domain in shared]
    if not members:
        return set()
    key = roster.lender.key
    posts = [Post(m.name, m.node, {"holder": m.name, "key": key}, sealed=parcels.pop(m.name)) for m in members]
    answers = exchange.ask(wire.PRESENCE, posts)
    present = {name: packet for name, answer in answers.items() if (packet := answer.sealed(wire.SEALED))}
    order = {
        "plan": plan.document,
        "keys": {m.name: m.key for m in members if m.name in present},
    }
    sealed = {f"{wire.SEALED}-{name}": packet for name, packet in present.items()}
    answer = exchange.ask(wire.HOMES, [Post(LENDER, roster.lender.node, order, sealed=sealed)]).get(LENDER)
    if answer is None:
        raise RunFailed(f"the lender's choice of homes failed: {exchange.failures[LENDER]}")
    failed = {m.name for m in members} - set(present)
    for name in present:
        packet = answer.sealed(f"{wire.SEALED}-{name}")
        if packet is None:
            exchange.failures[name] = "protocol"
            failed.add(name)
        else:
            parcels[name] = {wire.HOME: packet}
    return failed


def cut_bins(exchange: Exchange, roster: Roster, plan: RunPlan, parcels: Parcels) -> tuple[Roster, set[str]]:
    """The roster with private bins cut from noisy counts, and the holders that failed."""
    lines = {m.name: line for m in roster.training() if (line := plan.line(f"bins/{m.name}"))}
    posts = [
        Post(name, roster.members[name].node, {"plan": plan.document, "holder": name}, sealed=parcels.pop(name, {}))
        for name in lines
    ]
    answers = exchange.ask(wire.BINS, posts)
    counts = {name: answer.array(wire.COUNTS, (lines[name].size,)) for name, answer in answers.items()}
    most = float(plan.sizes["train"])  # no honest count is far above it: one holder alone must not set all edges
    good = {name: np.clip(value, -most, most) for name, value in counts.items() if value is not None}
    failed = set(lines) - set(good)
    for name in failed:
        exchange.failures.setdefault(name, "protocol")
    for domain in dict.fromkeys(roster.members[name].domain for name in good):
        roster = roster.with_edges(domain, _edges(roster.of_domain(domain), good, lines))
    return roster, failed


def _edges(
    members: tuple[Member, ...], counts: Mapping[str, Floats], lines: Mapping[str, Release]
) -> dict[str, tuple[float, ...]]:
    """The edges of a domain's private features from the sum of its holders' noisy counts."""
    names = [m.name for m in members if m.name in counts]
    total = np.asarray(sum(counts[name] for name in names)).reshape(-1, quantiles.FINE)
    stddev = float(np.sqrt(sum(lines[name].mechanism.noise_stddev ** 2 for name in names)))
    features = [p.feature for p in members[0].encoding.parts if p.feature.private]
    return {f.name: quantiles.chosen_edges(f, row, stddev) for f, row in zip(features, total, strict=True)}
