"""Before training: the cohort goes out, homes are told where the terms ask for them, private bins are cut."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model import quantiles, wire
from model.federation import LENDER
from privacy.plan import Release
from server.exchange import Answer, Exchange, Post
from server.failures import RunFailed
from server.planning import RunPlan
from server.roster import Member, Roster
from server.strategy import Head, Parcels

Floats = NDArray[np.float64]
_log = logging.getLogger("fedscore.server")


@dataclass(frozen=True)
class Committed:
    """A partner's set of persons, hidden and sealed for the lender, and the digest that it told of it."""

    packet: bytes
    digest: str


def commit_sets(exchange: Exchange, roster: Roster, plan: RunPlan) -> tuple[dict[str, Committed], set[str]]:
    """Every partner's set of persons, hidden and sealed for the lender, before anybody sees anything; and who failed.

    Nothing is asked where the lender aligns by tokens, as simulations do.
    """
    if roster.terms.alignment == "tokens":
        return {}, set()
    keys = {LENDER: roster.lender.public}
    posts = [Post(m.name, m.node, {"plan": plan.document, "holder": m.name, "keys": keys}) for m in roster.partners]
    answers = exchange.ask(wire.MATCH, posts)
    told = {
        n: Committed(answer.sealed(wire.SEALED) or b"", _digest(answer.data.get("set")))
        for n, answer in answers.items()
    }
    sets = {name: committed for name, committed in told.items() if committed.packet and committed.digest}
    failed = {m.name for m in roster.partners} - set(sets)
    for name in failed:
        exchange.failures.setdefault(name, "protocol")
    _note(exchange, plan, {"sets": {name: sets[name].digest for name in sorted(sets)}})
    return sets, failed


def hand_out(
    exchange: Exchange,
    roster: Roster,
    plan: RunPlan,
    heads: Mapping[str, Head],
    sets: Mapping[str, Committed] = MappingProxyType({}),
) -> tuple[Parcels, str]:
    """The lender's cohort, sealed for each partner that it answers, and its digest.

    Whom the lender refuses is in no parcel and in `failures`.

    Raises:
        RunFailed: where it answers nobody.
    """
    keys = {m.name: m.public for m in roster.partners}
    told = {name: committed.digest for name, committed in sets.items() if name in keys}
    order = {"plan": plan.document, "keys": keys, "witness": heads.get(LENDER), "sets": told}
    sealed = {f"{wire.SEALED}-{name}": sets[name].packet for name in told}
    answer = exchange.ask(wire.COHORT, [Post(LENDER, roster.lender.node, order, sealed=sealed)]).get(LENDER)
    if answer is None:
        raise RunFailed(f"the lender's cohort failed: {exchange.failures[LENDER]}")
    parcels, refused = _parcels(answer, roster, keys, wire.SEALED), answer.data.get("refused", {})
    for name in set(keys) - set(parcels):
        code = refused.get(name) if isinstance(refused, Mapping) else None
        exchange.failures[name] = code if code in wire.ERRORS else "protocol"
    if not parcels:
        raise RunFailed("the lender's cohort failed: no partner's persons could be matched")
    cohort = _digest(answer.data.get("cohort"))
    _note(exchange, plan, {"cohort": cohort, "partners": sorted(parcels)})
    return parcels, cohort


def tell_homes(exchange: Exchange, roster: Roster, plan: RunPlan, parcels: Parcels) -> set[str]:
    """Has the lender choose each person's home where lines are charged so, or rows are added up; returns who failed."""
    lines = {line.name: line for line in plan.plan.releases if line.home}
    shared = {m.domain for m in roster.partners if plan.joint and len(roster.of_domain(m.domain)) > 1}
    members = [m for m in roster.partners if f"{m.domain}/{m.name}" in lines or m.domain in shared]
    if not members:
        return set()
    orders = {m.name: {"plan": plan.document, "holder": m.name} for m in members}
    posts = [Post(m.name, m.node, orders[m.name], sealed=parcels.pop(m.name)) for m in members]
    answers = exchange.ask(wire.PRESENCE, posts)
    present = {name: packet for name, answer in answers.items() if (packet := answer.sealed(wire.SEALED))}
    keys = {m.name: m.public for m in members if m.name in present}
    sealed = {f"{wire.SEALED}-{name}": packet for name, packet in present.items()}
    order = {"plan": plan.document, "keys": keys}
    answer = exchange.ask(wire.HOMES, [Post(LENDER, roster.lender.node, order, sealed=sealed)]).get(LENDER)
    if answer is None:
        raise RunFailed(f"the lender's choice of homes failed: {exchange.failures[LENDER]}")
    told = _parcels(answer, roster, keys, wire.HOME)
    parcels.update(told)
    failed = {m.name for m in members} - set(told)
    for name in failed:
        exchange.failures.setdefault(name, "protocol")
    return failed


def _note(exchange: Exchange, plan: RunPlan, what: Mapping[str, Any]) -> None:
    """Logs who is committed to what before anything more is sent: digests, from which nobody is to be guessed."""
    exchange.outbox.log.append("alignment", {"plan": plan.id, "run": exchange.outbox.run, **what})


def _digest(value: object) -> str:
    """A SHA-256 in hexadecimal digits as a holder told it; empty where it is none."""
    return value if isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef") else ""


def _parcels(answer: Answer, roster: Roster, names: Iterable[str], kind: str) -> Parcels:
    """What the lender sealed for each partner, with its announcement beside it."""
    lender = json.dumps(roster.lender.public).encode()
    packets = {name: answer.sealed(f"{wire.SEALED}-{name}") for name in names}
    return {n: {kind: packet, wire.LENDERS: lender} for n, packet in packets.items() if packet is not None}


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
