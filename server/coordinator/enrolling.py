"""Letting holders in and out: their requests, their nodes' registration, and the welcomes that tell everybody."""

from __future__ import annotations

import base64
import hashlib
import re
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives import serialization

from model.inputs import InputError, read_text
from privacy.enrolment import EnrolmentError, Request, Welcome
from privacy.signing import verify_key
from server.coordinator.authority import certify_holder, check_possession
from server.coordinator.folder import NAME, Coordinator, private_file
from server.coordinator.processes import FlowerCli
from server.coordinator.roster import Roster, Row
from server.coordinator.services import PROFILE, flower_environment
from server.coordinator.supervising import check_up
from server.failures import RunFailed

_DOMAIN = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.-]{0,63})?")  # people read it beside a fingerprint: it moves no cursor
_REPLACE = "where its holder tells you that it made new keys, enrol it with --replace"


@dataclass(frozen=True)
class Asked:
    """A request as it was read, once: what people are shown of it is what is enrolled and kept."""

    path: Path
    text: str
    request: Request


def read_request(path: Path) -> Asked:
    """A request that can be used: signed, well-formed, and with proof of the node's key; raises `InputError`."""
    text = read_text(path)
    try:
        request = Request.of(text)
        if not NAME.fullmatch(request.holder.name):
            raise EnrolmentError("must name its holder in small letters, digits and hyphens")
        if not _DOMAIN.fullmatch(request.holder.domain):
            raise EnrolmentError("must name its domain in at most 64 letters, digits, '-', '_' and '.'")
        if request.contract and not re.fullmatch(r"[0-9a-f]{64}", request.contract):
            raise EnrolmentError("must give its contract's SHA-256 as 64 hexadecimal digits")
        check_possession(request.csr, request.node_key)
    except EnrolmentError as error:
        remedy = "have its holder write it anew by `fedscore partner init` and send it again"
        raise InputError(path, "", str(error), remedy=remedy) from None
    return Asked(path, text, request)


def check_clash(path: Path, request: Request, roster: Roster, replace: bool) -> Row | None:
    """The row that this request repeats or replaces, if any.

    Raises:
        InputError: where a name comes with other keys or another domain, or a key under another name.
    """
    told = request.holder
    for row in roster.holders:
        shared = {row.key, row.verify, row.node_key} & {told.key, told.verify, request.node_key}
        if row.name != told.name and shared:
            raise InputError(path, "", f"has a key of {row.name}", told.name, "each holder makes keys of its own")
    gone = {row.node_key for row in roster.left} - {row.node_key for row in roster.holders}
    if request.node_key in gone:  # Flower takes no key a second time
        remedy = "have its holder delete node.key, and send what `fedscore partner renew` writes"
        raise InputError(path, "", "has the node key of a node that left", told.name, remedy)
    known = roster.find(told.name)
    if known is None:
        return None
    if known.domain != told.domain:
        rule = f"of {known.name} is {known.domain or 'none'} since it was enrolled"
        remedy = f"expel {known.name} first if it changes its domain, or have this one take another name"
        raise InputError(path, "domain", rule, told.domain, remedy)
    if (known.public, known.node_key) != (told, request.node_key) and not replace:
        raise InputError(path, "", f"has other keys than {known.name} was enrolled with", remedy=_REPLACE)
    return known


def enrol(coordinator: Coordinator, given: Sequence[Asked], replace: bool = False) -> Roster:
    """Enrols the holders of these requests and writes everybody's next welcome; one enrolled as it is stays as it is.

    Raises:
        InputError: for the first request that clashes with who is enrolled; then none is enrolled.
        RunFailed: where Flower does not take a node.
    """
    coordinator.check_disk()
    check_up(coordinator)
    roster = Roster.load(coordinator.path)
    trial = roster
    for asked in given:
        check_clash(asked.path, asked.request, trial, replace)
        trial = trial.with_row(_row(asked.request, ""))
    for asked in given:
        request = asked.request
        old = check_clash(asked.path, request, roster, replace)
        if old is not None and _same(old, request):
            continue
        if old is not None and old.node_key != request.node_key:
            _unregister(coordinator, old)
        keeps = old is not None and old.node_key == request.node_key
        row = _row(request, old.node if keeps and old else _register(coordinator, request))
        private_file(coordinator.path / "requests" / f"{row.name}.json", asked.text.encode())
        roster = roster.with_row(row)
        roster.save(coordinator.path)
        coordinator.log("enrolled", _told(row))
    welcome_all(coordinator, roster)
    return roster


def expel(coordinator: Coordinator, name: str) -> Roster:
    """Takes a holder's node off the SuperLink and the holder off the roster, and writes the others' next welcomes."""
    check_up(coordinator)
    roster = Roster.load(coordinator.path)
    row = roster.find(name)
    if row is None:
        known = ", ".join(r.name for r in roster.holders) or "nobody"
        raise InputError("command line", "NAME", "is not enrolled", name, f"enrolled: {known}")
    _unregister(coordinator, row)
    roster = roster.without(name)
    roster.save(coordinator.path)
    coordinator.log("expelled", {"holder": name})
    (coordinator.path / "welcomes" / f"{name}.welcome.json").unlink(missing_ok=True)
    welcome_all(coordinator, roster)
    return roster


def welcome_all(coordinator: Coordinator, roster: Roster) -> None:
    """Writes the welcome of everybody enrolled, under the roster's number; one that is there stays as it is."""
    key = coordinator.signing_key()
    for row in roster.holders:
        path = coordinator.path / "welcomes" / f"{row.name}.welcome.json"
        if _number(path) == roster.number:
            continue
        welcome = Welcome(
            federation=coordinator.name,
            number=roster.number,
            superlink=coordinator.superlink,
            authority=read_text(coordinator.authority),
            certificate=certify_holder(coordinator, row.name, row.csr),
            coordinator=base64.b64encode(verify_key(key)).decode(),
            bundle=coordinator.bundle,
            roster=tuple(r.public for r in roster.holders),
        )
        private_file(path, welcome.to_json(key).encode())


def _number(path: Path) -> int:
    """The number of the welcome in a file; 0 where there is none that holds."""
    try:
        return Welcome.of(path.read_text(encoding="utf-8")).number
    except (OSError, ValueError):
        return 0


def _row(request: Request, node: str) -> Row:
    told, now = request.holder, datetime.now(UTC).isoformat(timespec="seconds")
    own = (told.name, told.domain, told.key, told.verify, told.bound)
    return Row(*own, node, request.node_key, request.contract, request.csr, now)


def _same(row: Row, request: Request) -> bool:
    """Whether a request repeats what was enrolled; a signing request may be signed anew."""
    return (row.public, row.node_key, row.contract) == (request.holder, request.node_key, request.contract)


def _told(row: Row) -> dict[str, str]:
    """What the log says of an enrolment: public keys and hashes only."""
    node = hashlib.sha256(row.node_key.encode()).hexdigest()
    return {
        "holder": row.name,
        "domain": row.domain,
        "verify": row.verify,
        "node_key_sha256": node,
        "contract": row.contract,
    }


def _register(coordinator: Coordinator, request: Request) -> str:
    """Has Flower take the node; returns its id. One that an interrupted attempt registered is found again."""
    path = coordinator.running / "register.pub"
    private_file(path, (request.node_key + "\n").encode())
    try:
        command = ("supernode", "register", str(path), PROFILE, "--name", request.holder.name)
        answer = FlowerCli(coordinator.home, flower_environment(coordinator)).cli(*command)
        return str(answer["node-id"])
    except RuntimeError as error:
        found = _registered(coordinator, request.node_key)
        if found is None:
            raise RunFailed(f"Flower did not take the node of {request.holder.name}: {error}") from None
        return found
    finally:
        path.unlink(missing_ok=True)


def _registered(coordinator: Coordinator, node_key: str) -> str | None:
    """The id under which Flower knows a node's key; None where it does not, or has unregistered it."""
    form = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    key = serialization.load_ssh_public_key(node_key.encode()).public_bytes(*form)
    place = f"{(coordinator.running / 'state.db').as_uri()}?mode=ro"
    try:
        database = sqlite3.connect(place, uri=True)
        try:
            sql = "SELECT node_id FROM node WHERE public_key = ? AND coalesce(unregistered_at, '') = ''"
            row = database.execute(sql, (key,)).fetchone()
        finally:
            database.close()
    except sqlite3.Error:
        return None
    return str(row[0] % 2**64) if row else None


def _unregister(coordinator: Coordinator, row: Row) -> None:
    try:
        FlowerCli(coordinator.home, flower_environment(coordinator)).cli("supernode", "unregister", row.node, PROFILE)
    except RuntimeError as error:
        if _registered(coordinator, row.node_key) is not None:
            raise RunFailed(f"Flower did not let go of the node of {row.name}: {error}") from None
