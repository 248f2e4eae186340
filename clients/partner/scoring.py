"""Sub-scores of persons who just applied, one signed message each, for the lender's decision service."""

from __future__ import annotations

import csv
import ipaddress
import json
import ssl
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, HTTPSHandler, ProxyHandler, Request, build_opener, getproxies

from clients.applicants import block_of
from clients.config import Node
from clients.receipts import Asked, subscore_message
from model.bundle import Bundle
from model.inputs import InputError, read_text

_NEEDED = ("person", "subject_ref", "as_of", "tenure_months")
_SECONDS = 15.0
_REMEDY = "give a CSV file with the columns " + ", ".join(_NEEDED) + " and perhaps consent_until"


def asked_of(path: Path) -> list[Asked]:
    """The persons of a CSV file; raises `InputError` naming column and row, never what is written there."""
    rows = csv.DictReader(read_text(path).splitlines())
    names = rows.fieldnames or []
    for name in _NEEDED:
        if name not in names:
            raise InputError(path, name, "is not a column of this file", remedy=_REMEDY)
    for name in names:
        if name not in (*_NEEDED, "consent_until"):
            raise InputError(path, name, "is not a known column", remedy=_REMEDY)
    return [_asked(path, number, row) for number, row in enumerate(rows, 1)]


def _asked(path: Path, number: int, row: dict[str, Any]) -> Asked:
    where = f"row {number}"
    if None in row or None in row.values() or not row["person"].strip():
        raise InputError(path, "", "has a row with too few or too many values", where, "one value for each column")
    reference, months, until = row["subject_ref"].strip(), row["tenure_months"].strip(), row.get("consent_until", "")
    if len(reference) != 64 or set(reference) - set("0123456789abcdef"):
        raise InputError(path, "subject_ref", "must be 64 hexadecimal digits, as the lender tells them", where)
    if not months.isdecimal() or int(months) > 1200:
        raise InputError(path, "tenure_months", "must be a whole number up to 1200", where)
    as_of = _moment(path, "as_of", where, row["as_of"])
    return Asked(
        row["person"], reference, as_of, int(months), _moment(path, "consent_until", where, until) if until else None
    )


def _moment(path: Path, name: str, where: str, text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        rule = "must be a moment with an offset, like 2026-01-31T12:00:00+08:00"
        raise InputError(path, name, rule, where)
    return moment


def messages(node: Node, model: Path, asked: Sequence[Asked]) -> Iterator[bytes]:
    """One signed message for each person whom this holder knows.

    Raises:
        InputError: where the model has no block of this holder's contract, or is not one that it answers for.
    """
    (name,) = node.holders
    domain, bundle = node.federation.holder(name).domain, Bundle.load(model)
    if domain not in bundle.blocks:
        raise InputError(
            model, "blocks", f"has none of the domain {domain}", remedy="give a model that it took part in"
        )
    block = bundle.blocks[domain]
    contract = block.encoding.contract
    node = node.with_edges(name, {f.name: f.edges for f in contract.features if f.private and f.edges})
    own = block_of(node, name, block.engine, contract.sha256, block.weights)
    for person in asked:
        message = subscore_message(node, name, own, person)
        if message is not None:
            yield message


@dataclass(frozen=True)
class Service:
    """The lender's decision service.

    Attributes:
        url: its root.
        key: of the role partner.
        authority: certificate of who signed the service's; None: those that this machine trusts.
    """

    url: str
    key: str
    authority: Path | None = None

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("https", "http") or not parts.hostname:
            raise InputError("command line", "--url", "must begin with https://", self.url)
        if parts.scheme == "http" and not _here(parts.hostname):
            rule = "must be https:// for a service on another machine"
            raise InputError("command line", "--url", rule, self.url)

    def send(self, bodies: Iterable[bytes]) -> Counter[str]:
        """Posts each message; how many were taken, and how many refused for what."""
        context = ssl.create_default_context(cafile=str(self.authority) if self.authority else None)
        proxies = (
            {"https": url} if (url := getproxies().get("https")) else {}
        )  # in the clear no key leaves this machine
        opener = build_opener(ProxyHandler(proxies), HTTPSHandler(context=context), _Stay)
        told: Counter[str] = Counter()
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        for body in bodies:
            request = Request(f"{self.url.rstrip('/')}/v1/subscores", body, headers, method="POST")
            try:
                with opener.open(request, timeout=_SECONDS) as reply:
                    told["taken" if reply.status < 300 else f"refused: {reply.status}"] += 1
            except HTTPError as error:
                told[f"refused: {error.code} {_code(error)}".strip()] += 1
                if error.code == 401:
                    raise InputError("command line", "--key-file", "holds no key that the service knows") from None
            except (URLError, TimeoutError) as error:
                reason = getattr(error, "reason", error)
                remedy = "start it, or mend --url; the same messages can be sent again"
                raise InputError("command line", "--url", f"cannot be reached ({reason})", self.url, remedy) from None
        return told


class _Stay(HTTPRedirectHandler):
    """No redirection is followed: the key is for this service only."""

    def redirect_request(self, *arguments: Any) -> None:
        """Nothing more is asked."""


def _here(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _code(error: HTTPError) -> str:
    """The service's word for what was wrong, which says nothing about a person."""
    try:
        code = json.loads(error.read(100_000)).get("code", "")
    except (ValueError, AttributeError, OSError):
        return ""
    return code if isinstance(code, str) and code.replace("_", "").isalnum() and len(code) <= 60 else ""
