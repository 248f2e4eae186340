"""A question as it is sent: its key, its instant and its fields, checked before anything is looked up."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

from model.inputs import InputError
from model.limits.fields import canonical, plain
from model.limits.request import DecisionRequest, parse_request
from server.decisions.problems import Refused
from server.decisions.receipts import SKEW

OLDEST = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Ask:
    """A question as a caller sent it; `key` and the body's hash make it idempotent."""

    caller: str
    key: str
    body_sha256: str
    request: DecisionRequest


def ask_of(data: Any, key: str, caller: str, now: datetime) -> Ask:
    """The question of plain JSON data; without `as_of` it is asked now.

    Args:
        data: the body.
        key: the Idempotency-Key, which must be the request_id.
        caller: whose key of the service it came with.
        now: the service's clock.

    Raises:
        InputError: names the field.
        Refused: the key is another one.
    """
    digest = sha256(canonical(data)).hexdigest()  # of what was sent: sent again later, it is the same
    if isinstance(data, dict) and "as_of" not in data:
        data = {**data, "as_of": plain(now)}
    request = parse_request(data, "request")
    if request.request_id != key:
        raise Refused(422, "invalid", "Idempotency-Key must be the request_id.", "Idempotency-Key")
    if request.as_of > now + SKEW:
        raise InputError("request", "as_of", "must not lie in the future", remedy="leave it out: it is now")
    if request.as_of < now - OLDEST:
        raise InputError("request", "as_of", "must be of the last ten minutes", remedy="leave it out: it is now")
    return Ask(caller, key, digest, request)
