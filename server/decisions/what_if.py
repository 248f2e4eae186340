"""What-if: a stored decision made again on changed inputs. Only which fields were tried is noted."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from time import monotonic
from typing import Any

from model.inputs import InputError
from model.limits.decision import Decision
from model.limits.fields import plain
from model.limits.request import parse_request
from server.decisions.api_keys import Role
from server.decisions.deciding import Inputs
from server.decisions.problems import Refused

OWN = frozenset(
    {
        "requested_fen",
        "term_months",
        "flags.decide_now",
        "kyc.income_fen_month",
        "kyc.income_source",
        "kyc.existing_debt_service_fen_month",
    }
)
_BLOCK_FIELDS = ("logit_e6", "quality")
A_MINUTE, MINUTE_S = 60, 60.0
MOST_CALLERS = 10_000  # kept in mind before those who are idle are forgotten


def tried(given: Inputs, changes: Mapping[str, Any], role: Role) -> Decision:
    """The decision on changed inputs, next steps included.

    Args:
        given: the inputs of a stored decision.
        changes: new values by path; an applicant may change what one can change, others also log-odds and points.
        role: whose wish it is.

    Raises:
        InputError: a path that may not be changed, or a value that breaks its rule.
    """
    data = plain(given.request)
    for path, value in changes.items():
        if not _allowed(path, role, data):
            raise InputError("what-if", path, "cannot be changed", remedy="allowed: " + ", ".join(sorted(OWN)))
        *way, last = path.split(".")
        table = data
        for step in way:
            table = table[step]
        table[last] = value
    return replace(given, request=parse_request(data, "what-if")).decide()


def _allowed(path: str, role: Role, data: Mapping[str, Any]) -> bool:
    if path in OWN:
        return True
    if role == "applicant":
        return False
    parts = path.split(".")
    if len(parts) == 3 and parts[0] == "blocks" and parts[2] in _BLOCK_FIELDS:
        return bool(data["blocks"].get(parts[1]))
    return path in ("kyc.logit_e6", "points")


class Pace:
    """At most `A_MINUTE` questions a minute and caller: a score is not to be probed."""

    def __init__(self) -> None:
        self._asked: dict[str, deque[float]] = {}

    def check(self, caller: str) -> None:
        """Counts one question; raises `Refused` (429) above the pace."""
        now = monotonic()
        if len(self._asked) >= MOST_CALLERS and caller not in self._asked:
            self._asked = {name: asked for name, asked in self._asked.items() if now - asked[-1] < MINUTE_S}
        recent = self._asked.setdefault(caller, deque(maxlen=A_MINUTE))
        if len(recent) == A_MINUTE and now - recent[0] < MINUTE_S:
            raise Refused(429, "too_many", f"At most {A_MINUTE} what-if questions a minute; wait a little.")
        recent.append(now)
