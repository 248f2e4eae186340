"""Two policies side by side: which fields differ, and who moves from what to what on a book of requests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from model.inputs import InputError
from model.limits.decision import Decision
from model.limits.fields import canonical, plain
from model.limits.request import StateSnapshot
from model.limits.schema import Policy
from model.limits.table import DecisionBundle
from server.batches import part_of
from server.books import as_if_in_force, entries

DECISIONS = ("APPROVE", "TRIAL", "DEFER", "REFER", "DECLINE")
OFFERS = ("APPROVE", "TRIAL")


@dataclass(frozen=True)
class Change:
    """One field that differs; None where a policy does not have it."""

    path: str
    old: object
    new: object


@dataclass
class Flow:
    """Who moves from what to what; `add` takes the two decisions on one request.

    Attributes:
        moves: requests by the decision under the old and under the new policy.
        amounts: requests whose amount is `up`, `down` or `same`.
        change_fen: new amounts less old ones, summed.
        lost: the first requests that had an offer and are refused.
        outside: requests at whose instant the `old` or the `new` policy is not in force.
    """

    keep: int
    moves: Counter[tuple[str, str]] = field(default_factory=Counter)
    amounts: Counter[str] = field(default_factory=Counter)
    change_fen: int = 0
    lost: list[dict[str, Any]] = field(default_factory=list)
    outside: Counter[str] = field(default_factory=Counter)

    def add(self, old: Decision, new: Decision) -> dict[str, Any] | None:
        """Counts one request; its line where decision, amount or price differ."""
        self.moves[old.decision, new.decision] += 1
        change = new.amount_fen - old.amount_fen
        self.amounts["up" if change > 0 else "down" if change < 0 else "same"] += 1
        self.change_fen += change
        if (old.decision, old.amount_fen, old.apr_bp) == (new.decision, new.amount_fen, new.apr_bp):
            return None
        moved = {"request_id": old.request_id, "old": _short(old), "new": _short(new)}
        if old.decision in OFFERS and new.decision == "DECLINE" and len(self.lost) < self.keep:
            self.lost.append(moved)
        return moved

    def to_dict(self) -> dict[str, Any]:
        """All of it, for JSON."""
        requests = self.moves.total()
        return {
            "requests": requests,
            "outside": {name: self.outside[name] for name in ("old", "new")},
            "moves": {old: {new: self.moves[old, new] for new in DECISIONS} for old in DECISIONS},
            "amount": {name: self.amounts[name] for name in ("up", "down", "same")},
            "mean_change_fen": round(self.change_fen / requests),
            "approved_then_refused": self.lost,
        }


def changes(old: Policy, new: Policy) -> list[Change]:
    """The fields that differ, in the order of the policy's sections.

    >>> from dataclasses import replace
    >>> from model.limits.policy import load_policy
    >>> changes(load_policy(), replace(load_policy(), appeal_days=15))
    [Change(path='appeal_days', old=20, new=15)]
    """
    before, after = dict(_leaves(plain(old))), dict(_leaves(plain(new)))
    paths = dict.fromkeys([*before, *after])
    return [Change(p, before.get(p), after.get(p)) for p in paths if before.get(p) != after.get(p)]


def compare(policies: tuple[Policy, Policy], bundle: DecisionBundle, book: Path, keep: int, out: Path | None) -> Flow:
    """Decides a whole book under both policies, each as if it were in force at every request's instant.

    Args:
        policies: the old one and the new one.
        bundle: the published model.
        book: the requests; those without a state of their own are new customers'.
        keep: how many of those who lose their offer to name.
        out: JSON Lines, not there yet: one for each request that moved.

    Raises:
        InputError: names the row, or the file that cannot be written; nothing is written then.
    """
    flow = Flow(keep)
    if out is None:
        for _ in _moved(flow, policies, bundle, book):
            pass
        return flow
    if out.suffix != ".jsonl":
        raise InputError(out, "", "must end in .jsonl")
    with part_of(out) as file:
        for moved in _moved(flow, policies, bundle, book):
            file.write(canonical(moved) + b"\n")
    return flow


def _moved(flow: Flow, policies: tuple[Policy, Policy], bundle: DecisionBundle, book: Path) -> Iterator[dict[str, Any]]:
    old, new = (as_if_in_force(policy) for policy in policies)
    for entry in entries(book, StateSnapshot()):
        for name, policy in zip(("old", "new"), policies, strict=True):
            flow.outside[name] += not policy.effective_from <= entry.request.as_of < policy.expires_at
        moved = flow.add(entry.decide(old, bundle), entry.decide(new, bundle))
        if moved is not None:
            yield moved


def _short(decision: Decision) -> dict[str, Any]:
    return {
        "decision": decision.decision,
        "amount_fen": decision.amount_fen,
        "apr_bp": decision.apr_bp,
        "binding_cap": decision.binding_cap,
        "reasons": [reason.code for reason in decision.reasons],
    }


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, object]]:
    """Every plain value with its path."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for at, item in enumerate(value):
            yield from _leaves(item, f"{path}[{at}]")
    else:
        yield path, value
