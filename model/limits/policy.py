"""Loading a limit policy, strictly, and refusing one that is not in force.

`NotInForce` is this module's own error: a service answers it with 503, since no other policy may step in silently.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from model.inputs import read_toml
from model.limits.fields import read
from model.limits.lint import lint
from model.limits.schema import Policy

__all__ = ["NotInForce", "Policy", "check_in_force", "load_policy", "parse_policy"]

SHIPPED = Path(__file__).with_name("policy.toml")  # what holds where no other policy is given


class NotInForce(ValueError):
    """The policy or the bundle does not hold at the instant of the decision."""


def parse_policy(data: object, source: str | Path) -> Policy:
    """A linted policy from what `tomllib` gave.

    Raises:
        InputError: names the first field that breaks a rule.

    >>> parse_policy({"schema": "limit-policy/2"}, "p.toml")
    Traceback (most recent call last):
    model.inputs.InputError: p.toml: id is missing.
    """
    policy = read(Policy, data, source)
    lint(policy, source)
    return policy


def load_policy(path: str | Path | None = None) -> Policy:
    """The policy of a TOML file; without a path, the one shipped with fedscore.

    Raises:
        InputError: the file cannot be read, or a field breaks a rule.

    >>> load_policy().pricing[-1]
    Tier(pd_max_bp=1300, apr_bp=1980)
    """
    path = SHIPPED if path is None else Path(path)
    return parse_policy(read_toml(path), path)


def check_in_force(policy: Policy, now: datetime) -> None:
    """Refuses a policy that is not yet effective, or expired, at `now`.

    >>> check_in_force(load_policy(), datetime.fromisoformat("2026-10-31T23:59:59+08:00"))
    Traceback (most recent call last):
    model.limits.policy.NotInForce: policy cn-consumer 2026.11.0 is effective from 2026-11-01T00:00:00+08:00, not ...
    """
    name = f"policy {policy.id} {policy.version}"
    if now < policy.effective_from:
        raise NotInForce(f"{name} is effective from {policy.effective_from.isoformat()}, not at {now.isoformat()}")
    if now >= policy.expires_at:
        raise NotInForce(f"{name} expired at {policy.expires_at.isoformat()}; load its successor")
