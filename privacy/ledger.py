"""A privacy ledger: whole plans are charged, on disk, before any noise is drawn.

Order of every release: reserve the whole plan -> fsync -> claim a reply -> fsync -> draw noise -> store the reply ->
release. Nothing is ever refunded. A reply is claimed once: a retry gets the stored bytes, or, where the first attempt
died in between, nothing, so that one charge never pays for two draws. No clock is read anywhere.

Every ledger of a programme, each holder's and the coordinator's, reserves whole plans, over all holders: each of them
can refuse what one person would pay in all, and each is a witness of the others.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from privacy.accounting import filter_order, gaussian_epsilon, shown, smallest_scale
from privacy.chain import GENESIS, Chain, Entry, LedgerCorrupt
from privacy.plan import EVERYBODY, HELD_OUT, TRAIN, BudgetExceeded, Line, Release, line_of, spent_by
from privacy.selection import Selection

__all__ = ["Ledger", "LedgerCorrupt", "LedgerMismatch", "Terms"]


class LedgerMismatch(ValueError):
    """A ledger that was opened for another programme, holder or delta."""


@dataclass(frozen=True)
class Terms:
    """What a ledger is opened for.

    Attributes:
        programme: names everything released under one budget.
        holder: whose own lines count against `ceiling`; empty at the coordinator, which has none.
        ceiling: epsilon of this holder's own lines; no run can raise it.
        total: epsilon of all holders' lines on one person.
        delta: at which both are stated.
    """

    programme: str
    holder: str
    ceiling: float
    total: float
    delta: float

    def __post_init__(self) -> None:
        for name in ("ceiling", "total"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"a ledger's {name} must be finite and > 0, got {value}")
        if not 0 < self.delta < 1:
            raise ValueError(f"a ledger's delta must be in (0, 1), got {self.delta}")

    def limit(self, own: bool) -> float:
        """The ceiling of this holder's own lines, or the total of all."""
        return self.ceiling if own else self.total


class Ledger:
    """The ledger of one holder (or the coordinator) for one programme of persons.

    Args:
        path: the file; made where it does not exist.
        terms: what it is opened for.
        witness: the (rows, hash) that somebody else last saw of it, if anybody did.

    Raises:
        LedgerCorrupt: with the first bad row, where a row was changed by anything but this class, or where the witness
            has seen more, or other, rows: an old copy was put back.
        LedgerMismatch: where the file belongs to another programme, holder or delta.
        BudgetExceeded: where a ceiling is below what is already spent.
    """

    def __init__(self, path: Path, terms: Terms, witness: tuple[int, str] | None = None) -> None:
        self.path, self.terms = path, terms
        self.chain = Chain(path)
        with ExitStack() as unopened:
            unopened.callback(self.chain.close)
            self._open(self.chain.checked(), witness or (0, GENESIS))
            unopened.pop_all()  # it stays open

    def _open(self, rows: list[Entry], witness: tuple[int, str]) -> None:
        if not rows:
            named = ("programme", "holder", "delta", "total")
            with self.chain.writing():
                if self.chain.head()[0] == 0:  # else another process was first
                    body = {"kind": "opened", **{name: getattr(self.terms, name) for name in named}}
                    self.chain.append("opened", body)
            rows = self.chain.checked()
        opened = rows[0].body
        for name in ("programme", "holder", "delta"):
            if opened[name] != getattr(self.terms, name):
                raise LedgerMismatch(
                    f"{self.path}: {name}: must be {opened[name]!r}, for which this ledger was opened, got "
                    f"{getattr(self.terms, name)!r}: give each programme a ledger of its own"
                )
        seen, digest = witness
        if seen and (seen > len(rows) or rows[seen - 1].hash != digest):
            raise LedgerCorrupt(f"{self.path}: is behind or apart from what a witness saw at row {seen}: a rollback")
        self._first_total = float(opened["total"])  # fixes the filter's order: later totals must not choose it anew
        if self._unknown:
            raise BudgetExceeded(
                f"{self.path}: was restored without a witness: what it missed is unknown, so all counts as spent; "
                "restore again with an export of a ledger of this programme, or begin a new programme"
            )
        plans = list(self.plans().values())
        for own in (True, False):
            spent, limit = self._spent(self._kept(plans, own)), self.terms.limit(own)
            if spent > limit:
                raise BudgetExceeded(
                    f"{self.path}: the ceiling {limit:g} is below the epsilon {shown(spent)} already spent "
                    f"(delta={self.terms.delta:g}): nothing more can be released under it"
                )

    def close(self) -> None:
        """Closes the file."""
        self.chain.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def head(self) -> tuple[int, str]:
        """Number of rows and the last hash: what a witness keeps."""
        return self.chain.head()

    def reserve(self, plan: str, lines: Sequence[Line]) -> bool:
        """Charges a whole plan durably under its name; False where it was charged before.

        Raises:
            BudgetExceeded: where a ceiling would be passed, with requested, spent, remaining and what would fit; or
                where that name stands for other lines. Nothing is charged then.
        """
        body = {"kind": "plan", "plan": plan, "lines": [line.to_dict() for line in lines]}
        with self.chain.writing():
            known = self.plans().get(plan)
            if known is not None:
                if known != list(lines):
                    raise BudgetExceeded("this plan's name was charged for other lines: give each plan its own")
                return False
            self.check(lines)
            self.chain.append(f"plan|{plan}", body)
        return True

    def check(self, lines: Sequence[Line]) -> None:
        """Raises `BudgetExceeded`, as `reserve`, where a plan of these lines would pass a ceiling; charges nothing."""
        plans = list(self.plans().values())
        for own in (True, False):
            before, asked = self._kept(plans, own), self._kept([list(lines)], own)
            if asked and self._spent([*before, *asked]) > self.terms.limit(own):
                raise BudgetExceeded(self._refusal(before, asked[0], own))

    def claim(self, plan: str, line: Release, part: str = "") -> str:
        """Marks durably that noise is about to be drawn for a part of a line; returns the key of its reply.

        Raises:
            BudgetExceeded: where no reserved plan of this holder covers the line, or where the part was claimed
                before: that noise is spent, whether or not its bytes were kept.
        """
        key = self.key(plan, line.name, part)
        with self.chain.writing():
            paid = [own for own in self._own(self.plans().get(plan, [])) if isinstance(own, Release)]
            if not any(own.covers(line) for own in paid):
                raise BudgetExceeded(f"{line.name} is not in a reserved plan of this holder: nothing pays for it")
            if any(plan in body["closed"] for body in self.chain.bodies("restored")):
                raise BudgetExceeded("this plan was charged before the ledger was restored: its noise counts as drawn")
            if self.chain.get(key) is not None:
                raise BudgetExceeded("noise was drawn for this reply before and its bytes were not kept")
            self.chain.append(key, {"kind": "claim", "plan": plan, "line": line.name, "part": part})
        return key

    @staticmethod
    def key(plan: str, line: str, part: str = "") -> str:
        """The key of the reply for a part of a line."""
        return f"claim|{plan}|{line}|{part}"

    def store(self, key: str, reply: bytes) -> None:
        """Keeps the bytes of a claimed reply, before they leave; they never change afterwards."""
        if self.chain.get(key) is None or self.chain.stored(key) is not None:
            raise LedgerCorrupt("a reply is stored once, after it was claimed")
        self.chain.store(key, reply)

    def stored(self, key: str) -> bytes | None:
        """The bytes that were released under `key`, if any were."""
        return self.chain.stored(key)

    def plans(self) -> dict[str, list[Line]]:
        """The lines of every plan charged so far by its name, oldest first."""
        return {name: list(lines) for name, lines in map(_charged, self.chain.texts("plan"))}

    def spent(self, own: bool = False) -> float:
        """Epsilon charged so far to the person who paid most, of all lines or of this holder's own."""
        return self._spent(self._kept(list(self.plans().values()), own))

    def remaining(self, own: bool = False) -> float:
        """Epsilon of the largest single Gaussian release that would still fit; 0 where none would."""
        return self._remaining(self._kept(list(self.plans().values()), own), self.terms.limit(own))

    def _own(self, lines: Sequence[Line]) -> list[Line]:
        return [line for line in lines if line.holder in (self.terms.holder, EVERYBODY)]

    def _kept(self, plans: list[list[Line]], own: bool) -> list[list[Line]]:
        """The plans without other holders' lines, where only `own` ones are asked for."""
        return [kept for kept in (self._own(lines) for lines in plans) if kept] if own else plans

    def _spent(self, plans: Sequence[Sequence[Line]]) -> float:
        if self._unknown:
            return math.inf
        order = filter_order(self._first_total, self.terms.delta)
        return _cost(tuple(map(tuple, plans)), self.terms.total, self.terms.delta, order)

    @property
    def _unknown(self) -> bool:
        return any(body["unknown"] for body in self.chain.bodies("restored"))

    def _remaining(self, before: list[list[Line]], limit: float) -> float:
        return largest_fitting(self._spent, before, limit, self.terms.delta)

    def _refusal(self, before: list[list[Line]], asked: list[Line], own: bool) -> str:
        limit = self.terms.limit(own)

        def cost(scale: float) -> float:
            return self._spent([*before, [_noisier(line, scale) for line in asked]])

        try:
            fits = f"this plan would fit with {smallest_scale(cost, limit):.4g} times its noise"
        except ValueError:
            fits = "no such plan would fit, with any noise"
        return (
            f"the plan would pass {f'the ceiling of {self.terms.holder}' if own else 'the budget of the programme'}, "
            f"epsilon={limit:g} (delta={self.terms.delta:g}, a person): requested {shown(self._spent([asked]))}, "
            f"spent {shown(self._spent(before))}, remaining {self._remaining(before, limit):.3f}; {fits}"
        )


@lru_cache(maxsize=8)
def _charged(text: str) -> tuple[str, tuple[Line, ...]]:
    """The name and the lines of a plan's row."""
    body = json.loads(text)
    return str(body["plan"]), tuple(line_of(row) for row in body["lines"])


@lru_cache(maxsize=16)
def _cost(plans: tuple[tuple[Line, ...], ...], total: float, delta: float, order: float) -> float:
    """`spent_by`, once for what is asked at every step of a run."""
    return spent_by(plans, total, delta, order)


def _noisier(line: Line, scale: float) -> Line:
    """A line with `scale` times its noise; told labels keep theirs."""
    if isinstance(line, Release):
        return replace(line, noise_multiplier=scale * line.noise_multiplier)
    return replace(line, mu=line.mu / scale) if isinstance(line, Selection) else line


def largest_fitting(
    spent: Callable[[Sequence[Sequence[Line]]], float], before: Sequence[Sequence[Line]], limit: float, delta: float
) -> float:
    """Epsilon at `delta` of the largest Gaussian release, on anybody, that fits under `limit` after `before`."""

    def cost(scale: float) -> float:
        once = Release("-", "-", 1.0, 1, 1, 1.0, noise_multiplier=scale)
        return spent([*before, [replace(once, persons=persons) for persons in (TRAIN, HELD_OUT)]])

    try:
        return gaussian_epsilon(1.0 / smallest_scale(cost, limit), delta)
    except ValueError:
        return 0.0
