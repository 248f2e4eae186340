"""The privacy terms of a federation: the table [privacy] of its file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from model.inputs import InputError, refuse_unknown

WITHIN_DOMAIN = ("overlap", "home")
RESERVED = (
    "lender",
    "fusion",
    "bins",
    "reasons",
    "labels",
    "evaluation",
    "coordinator",
    "moments",
    "refine",
)  # names of plan lines: no partner's


@dataclass(frozen=True)
class PrivacyTerms:
    """What a programme may spend and how.

    Attributes:
        epsilon: per person, over all partners and all releases.
        delta: at which epsilon is stated.
        shares: parts of the budget (of mu^2) by holder, `fusion` and `bins` among them; empty: by size.
        label_epsilon: of the randomised response by which the lender tells labels; None tells them as they are.
        within_domain: `overlap` where a person may train at all partners of a domain, whose charges add; `home` where
            it trains at one of them only.
    """

    epsilon: float = 1.0
    delta: float = 1e-5
    shares: Mapping[str, float] = field(default_factory=dict)
    label_epsilon: float | None = None
    within_domain: str = "overlap"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for messages; an infinite epsilon is the text `inf`."""
        epsilon = "inf" if math.isinf(self.epsilon) else self.epsilon
        return {**vars(self), "epsilon": epsilon, "shares": dict(self.shares)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> PrivacyTerms:
        """The terms that `to_dict` wrote."""
        return cls(**{**data, "epsilon": float(data["epsilon"])})


def privacy_terms(path: Path, table: Mapping[str, Any], partners: Sequence[str]) -> PrivacyTerms:
    """The table [privacy] of a federation file; raises `InputError` naming the field."""
    refuse_unknown(path, "privacy", table, ("epsilon", "delta", "shares", "label-epsilon", "within-domain"))
    label, within = table.get("label-epsilon"), str(table.get("within-domain", "overlap"))
    if within not in WITHIN_DOMAIN:
        raise InputError(path, "privacy.within-domain", "must be " + " or ".join(WITHIN_DOMAIN), within)
    terms = PrivacyTerms(
        epsilon=check_epsilon(path, "privacy.epsilon", table.get("epsilon", 1.0)),
        delta=check_delta(path, "privacy.delta", table.get("delta", 1e-5)),
        shares=_shares(path, table.get("shares", {}), ["lender", "fusion", "bins", *partners]),
        label_epsilon=None if label is None else check_epsilon(path, "privacy.label-epsilon", label),
        within_domain=within,
    )
    if terms.label_epsilon is not None and not 0.01 <= terms.label_epsilon <= 20:
        raise InputError(path, "privacy.label-epsilon", "must be in [0.01, 20]", label, "1 to 2 is usual")
    return terms


def roles_of(path: Path, table: object, partners: Sequence[str]) -> dict[str, Any]:
    """The table [roles] of a federation file: `second-party`, `dealer`, and `operators`, who runs whose machine.

    Raises:
        InputError: naming the field.
    """
    if not isinstance(table, dict):
        raise InputError(path, "roles", "must be a table", table)
    refuse_unknown(path, "roles", table, ("second-party", "dealer", "operators"))
    holders = ["lender", *partners]
    for key, allowed in (("second-party", holders), ("dealer", list(partners))):
        if key in table and table[key] not in allowed:
            raise InputError(path, f"roles.{key}", "must be one of " + ", ".join(allowed), table[key])
    operators = table.get("operators", {})
    if not isinstance(operators, dict) or not all(isinstance(o, str) and o for o in operators.values()):
        raise InputError(path, "roles.operators", 'must be like { lender = "Bank A", pay-1 = "Pay Ltd" }', operators)
    refuse_unknown(path, "roles.operators", operators, ("coordinator", *holders))
    return dict(table)


def check_epsilon(file: str | Path, field_name: str, value: object) -> float:
    """Epsilon as a number > 0; `inf` (no privacy) is for simulations."""
    number = _number(value)
    if number is None or not number > 0:
        raise InputError(file, field_name, "must be a number > 0", value, "1.0 is a usual budget")
    return number


def check_delta(file: str | Path, field_name: str, value: object) -> float:
    """Delta as a number in (0, 1)."""
    number = _number(value)
    if number is None or not 0 < number < 1:
        raise InputError(file, field_name, "must be a number in (0, 1)", value, "1e-5 is usual")
    return number


def _number(value: object) -> float | None:
    """A number, also where Flower's run configuration carries it as text."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        return None
    return float(value)


def _shares(path: Path, value: object, known: Sequence[str]) -> Mapping[str, float]:
    if not isinstance(value, dict):
        raise InputError(path, "privacy.shares", "must be a table of numbers", value)
    refuse_unknown(path, "privacy.shares", value, known)
    for name, share in value.items():
        number = _number(share)
        if number is None or not 0 < number < math.inf:
            raise InputError(path, f"privacy.shares.{name}", "must be a number > 0", share)
    return {name: float(share) for name, share in value.items()}
