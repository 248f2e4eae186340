"""The coordinator's side of secure sums: of a domain's updates it sees only what they add up to.

Keys and shares for all rounds are exchanged before the first one; each round then takes two messages more, one to agree
on whose updates are in the sum and one to open it. Partners that fall away are left out as long as a threshold stays;
below it the round is summed anew among those that are left, if they are more than half, with fresh keys and the updates
that they stored.
All domains' exchanges go on at once: a message round costs seconds, whatever it carries.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from model import wire
from model.descent import MAX_WEIGHT
from privacy.groups import GRID, Group, SumRefused, least_threshold
from privacy.masking import Opening
from privacy.ring import Words, from_ring
from privacy.signing import keys_of
from server.exchange import Answer, Exchange, Post
from server.planning import RunPlan
from server.roster import Member, Roster

Floats = NDArray[np.float64]
Parts = dict[str, bytes]
TOO_FEW = "sum"  # code of a failure: too few of a domain are left to hide each other's updates

_T = TypeVar("_T")
_Talk = Generator[tuple[str, list[Post]], Mapping[str, Answer], _T]  # asks, is given the answers, ends with a result
_log = logging.getLogger("fedscore.server")


def summed_domains(roster: Roster, setting: str) -> tuple[str, ...]:
    """The domains that are summed: with `on` those that two or more partners share, with `auto` three or more.

    Of two, each can subtract its own update from the sum.
    """
    if setting == "off":
        return ()
    least = 3 if setting == "auto" else 2
    return tuple(d for d in dict.fromkeys(m.domain for m in roster.training()) if len(roster.of_domain(d)) >= least)


@dataclass(frozen=True)
class Session:
    """One domain's members once keys are exchanged: who they were, and by receiver the boxes of those in the sums."""

    members: Mapping[str, Member]
    group: Group
    opening: Opening
    boxes: Mapping[str, Parts]


class MaskedSums:
    """The secure sums of a run.

    Attributes:
        lost: holders that fell away; why stands in the exchange's `failures`.
    """

    def __init__(self, exchange: Exchange, roster: Roster, plan: RunPlan) -> None:
        self.exchange, self.roster, self.plan = exchange, roster, plan
        self.lost: set[str] = set()
        self._sessions: dict[str, Session] = {}

    def prepare(self, members: Iterable[Member]) -> None:
        """Has a session in every summed domain that enough of these members are in; exchanges keys where there is none.

        Members of a domain in which no session comes about are `lost`.
        """
        present: dict[str, list[Member]] = {}
        for member in members:
            if member.domain in self.plan.summed:
                present.setdefault(member.domain, []).append(member)
        without = {d: found for d, found in present.items() if not self._covers(d, found)}
        for domain in without:
            self._sessions.pop(domain, None)
        self._sessions |= self._together({domain: self._exchanged(found) for domain, found in without.items()})

    def _covers(self, domain: str, members: list[Member]) -> bool:
        session = self._sessions.get(domain)
        return session is not None and sum(m.name in session.boxes for m in members) >= session.group.threshold

    def order(self, member: Member) -> tuple[dict[str, Any], Parts]:
        """What a member's order and its packets say of the session; nothing in a domain that is not summed."""
        session = self._sessions.get(member.domain)
        if session is None:
            return {}, {}
        boxes = session.boxes.get(member.name, {})
        return {"members": _told(session.members)}, {f"{wire.BOX}-{sender}": box for sender, box in boxes.items()}

    def means(self, number: int, vectors: Mapping[str, Mapping[str, Words]]) -> tuple[dict[str, Floats], set[str]]:
        """By domain the mean of the updates of a round, and the domains that must be summed anew among fewer.

        Args:
            number: of the round.
            vectors: by domain and member, the masked updates that came.
        """
        few = {d for d, found in vectors.items() if len(found) < self._sessions[d].group.threshold}
        talks = {d: self._opened(d, number, dict(found)) for d, found in vectors.items() if d not in few}
        return self._together(talks), few

    def _together(self, talks: Mapping[str, _Talk[_T | None]]) -> dict[str, _T]:
        """Lets the domains' talks go on at once, one message round for all; their results by domain."""
        done: dict[str, _T] = {}
        answers: dict[str, dict[str, Answer]] = {}
        waiting = dict(talks)
        while waiting:
            asked: dict[str, list[Post]] = {}
            for domain, talk in list(waiting.items()):
                try:
                    kind, posts = talk.send(answers[domain]) if domain in answers else next(talk)
                    asked.setdefault(kind, []).extend(posts)
                except StopIteration as end:
                    del waiting[domain]
                    if end.value is not None:
                        done[domain] = end.value
            good = {name: answer for kind, posts in asked.items() for name, answer in self._ask(kind, posts)}
            answers = {d: {n: a for n, a in good.items() if self.roster.members[n].domain == d} for d in waiting}
        return done

    def _ask(self, kind: str, posts: list[Post]) -> list[tuple[str, Answer]]:
        return list(self.exchange.ask(kind, posts).items())

    def _lose(self, names: Iterable[str], code: str = "protocol") -> None:
        for name in names:
            self.exchange.failures.setdefault(name, code)
            self.lost.add(name)

    def _post(self, session: Mapping[str, Member], name: str, more: Mapping[str, Any], packets: Parts) -> Post:
        member = session[name]
        order = {"plan": self.plan.document, "holder": name, "block": member.domain, "members": _told(session), **more}
        return Post(name, member.node, order, sealed=packets)

    def _exchanged(self, found: list[Member]) -> _Talk[Session | None]:
        """Keys and shares among a domain's members; anew among fewer, as long as too few answer."""
        members = {m.name: m for m in found}
        planned = sum(line.name.startswith(f"{found[0].domain}/") for line in self.plan.plan.releases)
        least = max(2, planned // 2 + 1)  # partners join no smaller group
        while len(members) >= least:
            session = f"{self.plan.programme}|{self.plan.id}|{found[0].domain}"
            verify = {name: keys_of(name, m.public).verify for name, m in members.items()}
            group = Group(session, verify, self.plan.rounds, least_threshold(len(members)))
            answers = yield wire.MASK_KEYS, [self._post(members, name, {}, {}) for name in members]
            adverts = {n: advert for n, a in answers.items() if (advert := _advert(group, n, a)) is not None}
            left, boxes = set(adverts), dict[str, Parts]()
            if len(adverts) >= group.threshold:
                told = {f"{wire.ADVERT}-{name}": advert for name, advert in adverts.items()}
                answers = yield wire.MASK_SHARES, [self._post(members, name, {}, told) for name in adverts]
                boxes = {n: made for n, a in answers.items() if set(made := _parts(a, wire.BOX)) == set(adverts) - {n}}
                left = set(boxes)
            self._lose(set(members) - left)
            if len(boxes) >= group.threshold:
                received = {n: {other: boxes[other][n] for other in boxes if other != n} for n in boxes}
                return Session(members, group, Opening(group, {n: adverts[n] for n in boxes}), received)
            members = {name: m for name, m in members.items() if name in left}
        self._lose(members, TOO_FEW)
        return None

    def _opened(self, domain: str, number: int, vectors: dict[str, Words]) -> _Talk[Floats | None]:
        """The mean of one domain's updates, once its members agreed whose they are, and showed what opens the sum."""
        session, survivors = self._sessions[domain], sorted(vectors)
        signed: dict[str, bytes] = {}
        for _ in range(2):  # once more, where they agreed on others in an earlier attempt at this run
            order = {"round": number, "survivors": survivors}
            answers = yield wire.SUM_AGREE, [self._post(session.members, name, order, {}) for name in survivors]
            lists = {n: _survivors(a) for n, a in answers.items()}
            signed = {n: a.sealed(wire.SIGNATURE) or b"" for n, a in answers.items() if lists[n] == survivors}
            other = next((found for found in lists.values() if found != survivors), None)
            if len(signed) >= session.group.threshold or other is None or not set(other) <= set(vectors):
                break
            survivors = other
        self._lose(set(survivors) - set(signed))
        packets = {f"{wire.SIGNATURE}-{name}": signature for name, signature in signed.items()}
        shown: dict[str, Parts] = {}
        if len(signed) >= session.group.threshold:
            posts = [self._post(session.members, name, {"round": number}, packets) for name in signed]
            shown = {n: _parts(a, wire.SHARE) for n, a in (yield wire.SUM_REVEAL, posts).items()}
            self._lose(set(signed) - set(shown))
        try:
            total = session.opening.opened(number, {name: vectors[name] for name in survivors}, shown)
        except SumRefused:
            _log.warning("the sum of %s does not open", domain)
            self._lose(vectors, TOO_FEW)
            return None
        mean = np.asarray(from_ring(total) * (GRID / len(survivors)), dtype=np.float64)
        if (np.abs(mean) <= MAX_WEIGHT).all():
            return mean
        self._lose(vectors)
        return None


def vector_of(answer: Answer, size: int) -> Words | None:
    """The masked update in an answer; None where there is none of that size."""
    packet = answer.sealed(wire.MASKED)
    return None if packet is None or len(packet) != 8 * size else np.frombuffer(packet, "<u8").astype(np.uint64)


def _told(members: Mapping[str, Member]) -> dict[str, dict[str, str]]:
    return {name: member.public for name, member in members.items()}


def _parts(answer: Answer, kind: str) -> Parts:
    """The bytes of one kind in an answer, by the member that they are for or of."""
    record, prefix = answer.content.config_records[wire.CONFIG], f"{kind}-"
    return {k.removeprefix(prefix): v for k, v in record.items() if k.startswith(prefix) and isinstance(v, bytes)}


def _advert(group: Group, name: str, answer: Answer) -> bytes | None:
    """A member's advert; None where it is none."""
    advert = answer.sealed(wire.ADVERT) or b""
    try:
        group.check_advert(name, advert)
    except SumRefused:
        return None
    return advert


def _survivors(answer: Answer) -> list[str]:
    """The list that a member signed; empty where it is none."""
    try:
        told = json.loads(answer.sealed(wire.SURVIVORS) or b"")
    except (ValueError, RecursionError):
        return []
    return sorted(map(str, told)) if isinstance(told, list) else []
