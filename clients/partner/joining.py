"""Coming to a federation: keys and a request first, then the coordinator's welcome, compared before it is believed."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from clients.identity import PEERS, private_key
from clients.nodefile import NAME, NodeFile, refuse_address
from clients.partner.folder import HASH, Folder
from clients.partner.template import node_toml
from model.federation import LENDER, load_federation
from model.inputs import InputError, read_text, write_text
from privacy.durable import alone, made, write
from privacy.enrolment import Enrolled, EnrolmentError, Request, Welcome, fingerprint
from privacy.envelope import SealBroken
from privacy.signing import announcement, new_signing_key

_KEYS = ("seal.key", "sign.key")
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")  # what people are shown beside a fingerprint: it moves no cursor
_ADDRESS = re.compile(r"[A-Za-z0-9.:\[\]_-]{1,260}")


@dataclass(frozen=True)
class Wish:
    """Who wants to join, as `fedscore partner init` is told."""

    name: str
    domain: str
    federation: Path | None
    data: tuple[Path, ...]


def make(root: Path, wish: Wish) -> Folder:
    """Makes the folder: node file, keys, and the request to send.

    Raises:
        InputError: where there is one already, or the federation file does not know this holder as it says.
    """
    if (root / NAME).exists():
        rule, remedy = "exists already: its keys are this holder's", "give another folder, or go on with `join`"
        raise InputError(root / NAME, "", rule, remedy=remedy)
    domain, contract = _expected(wish)
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        root.chmod(0o700)  # it may have been there, for everybody
    except OSError as error:
        raise InputError(root, "", f"cannot be made ({error.strerror})", remedy="give another folder") from None
    node = NodeFile(root.absolute() / NAME, wish.name, domain, root, (), root.absolute() / "state")
    request = _request(Folder(node), contract)
    write_text(root / "request.json", request)
    write_text(root / NAME, node_toml(wish.name, domain, _told(wish.federation, root), _tell_data(wish, root)))
    return Folder.open(root)


def renew(folder: Folder, new_keys: bool = False) -> None:
    """Writes the request anew: for a new contract or a lost file with the keys that are there, or with new ones.

    Older keys are put aside as `*.old`. Whatever the holder keeps beside them, its ledger first of all, stays.
    """
    federation = folder.node.read_federation()
    for key in (folder.node_key, *(folder.node.durable / name for name in _KEYS)) if new_keys else ():
        if key.exists():
            key.replace(key.with_name(f"{key.name}.old"))
    own = federation.holder(folder.node.holder)
    write_text(folder.request, _request(folder, own.contract.sha256 if own.contract else ""))


def request_of(folder: Folder) -> Request:
    """The request that was written last; raises `InputError` where it was changed since."""
    try:
        return Request.of(read_text(folder.request))
    except EnrolmentError as error:
        raise InputError(folder.request, "", str(error), remedy="write it anew: `fedscore partner renew`") from None


def _expected(wish: Wish) -> tuple[str, str]:
    """Domain and hash of the contract, from the federation file where there is one."""
    if wish.federation is None:
        if wish.name != LENDER and not wish.domain:
            remedy = "give --domain, or --federation to take it from there"
            raise InputError("command line", "--domain", "is missing", remedy=remedy)
        return wish.domain, ""
    holder = load_federation(wish.federation).holder(wish.name)
    domain = holder.domain if holder.contract else ""
    if wish.domain and wish.domain != holder.domain:
        rule = f"is not what {wish.federation} says of {wish.name} ({holder.domain})"
        raise InputError("command line", "--domain", rule, wish.domain, "ask who wrote that file")
    return domain, holder.contract.sha256 if holder.contract else ""


def _told(path: Path | None, root: Path) -> str:
    """A path as node.toml says it: from its own folder where it lies inside, else in full."""
    if path is None:
        return "federation.toml"
    full, base = path.absolute(), root.absolute()
    return str(full.relative_to(base)) if full.is_relative_to(base) else str(full)


def _tell_data(wish: Wish, root: Path) -> list[str]:
    return [_told(path, root) for path in wish.data]


def _request(folder: Folder, contract: str) -> str:
    """The signed request, with keys that are made where they are not there yet."""
    node = folder.node
    for place in (node.state, node.durable):
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
    sealing, signing = private_key(node.durable), made(node.durable / "sign.key", new_signing_key)
    told = announcement(node.holder, sealing, signing)
    made(folder.node_key, _new_node_key)
    key = node_key(folder)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, node.holder)])
    csr = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA384())
    holder = Enrolled(node.holder, node.domain, **told)
    proof = csr.public_bytes(serialization.Encoding.PEM).decode()
    return Request(holder, public_node_key(folder), contract, proof).to_json(signing)


def _new_node_key() -> bytes:
    """Flower reads OpenSSH's form only, of an elliptic curve that ECDSA signs with."""
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption())
    return ec.generate_private_key(ec.SECP384R1()).private_bytes(*form)


def public_node_key(folder: Folder) -> str:
    """The public part of the node's key in OpenSSH form, as the coordinator's link registers it."""
    form = (serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return node_key(folder).public_key().public_bytes(*form).decode()


def node_key(folder: Folder) -> ec.EllipticCurvePrivateKey:
    """The node's private key; raises `InputError` where it is no such key."""
    try:
        key = serialization.load_ssh_private_key(folder.node_key.read_bytes(), None)
    except (OSError, ValueError):
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise InputError(folder.node_key, "", "is no private key of an elliptic curve", remedy="put a good copy back")
    return key


def matches_keys(folder: Folder, row: Enrolled) -> bool:
    """Whether somebody knows this holder by the keys that lie here."""
    told = announcement(folder.node.holder, private_key(folder.node.durable), _signing(folder))
    return {name: getattr(row, name) for name in told} == told


@dataclass(frozen=True)
class Offer:
    """A welcome against what this holder knows so far.

    Attributes:
        welcome: as its coordinator signed it.
        text: what its file held when it was read: what people confirm is what is kept.
        known: the welcome accepted before, if any.
        changes: lines that say what is new, for people to confirm; empty where it is the same welcome again.
        rekeyed: whether another coordinator's key than before signed it.
    """

    welcome: Welcome
    text: str
    known: Welcome | None
    changes: tuple[str, ...]
    rekeyed: bool


def read(folder: Folder, path: Path) -> Offer:
    """The welcome in a file, checked against this holder's keys and against the one accepted before.

    Raises:
        InputError: where it was changed, is for somebody else, of another federation, or older than the known one.
    """
    text = read_text(path)
    try:
        welcome = Welcome.of(text)
        keys = {row.name: row for row in welcome.roster}
        for row in welcome.roster:
            _ = row.keys
    except (EnrolmentError, SealBroken) as error:
        raise InputError(path, "", str(error), remedy="ask the coordinator for it again") from None
    own = keys.get(folder.node.holder)
    if own is None or not matches_keys(folder, own) or own.domain != folder.node.domain:
        rule = f"does not enrol {folder.node.holder} with the keys of {folder.root}"
        raise InputError(path, "roster", rule, remedy=f"send {folder.request} to the coordinator, and ask again")
    _check(folder, path, welcome)
    known = folder.known()
    if known:
        _check_follows(path, welcome, known)
    rekeyed = known is not None and known.coordinator != welcome.coordinator
    return Offer(welcome, text, known, tuple(_changes(folder, welcome, folder.joined())), rekeyed)


def _signing(folder: Folder) -> bytes:
    return made(folder.node.durable / "sign.key", new_signing_key)


def _check(folder: Folder, path: Path, welcome: Welcome) -> None:
    if not HASH.fullmatch(welcome.bundle):
        raise InputError(path, "bundle", "must be a SHA-256 of 64 hexadecimal digits", welcome.bundle)
    words = [welcome.federation, *(row.name for row in welcome.roster)]
    words += [row.domain for row in welcome.roster if row.domain]
    if not _ADDRESS.fullmatch(welcome.superlink) or not all(map(_WORD.fullmatch, words)):
        rule = "has a name that is not of 64 letters, digits, '-', '_' and '.' at most"
        raise InputError(path, "", rule, remedy="do not join: ask the coordinator who signed this file")
    refuse_address(path, "superlink", welcome.superlink)
    names = [row.name for row in welcome.roster]
    if len(set(names)) != len(names):
        raise InputError(path, "roster", "names a holder twice", remedy="ask the coordinator for it again")
    try:
        x509.load_pem_x509_certificate(welcome.authority.encode())
        own = x509.load_pem_x509_certificate(welcome.certificate.encode()) if welcome.certificate else None
    except ValueError:
        raise InputError(path, "authority", "is no certificate", remedy="ask the coordinator for it again") from None
    if own is not None and own.public_key() != node_key(folder).public_key():
        raise InputError(path, "certificate", f"is not of {folder.node_key}", remedy="send the request again")


def _check_follows(path: Path, welcome: Welcome, known: Welcome) -> None:
    if welcome.federation != known.federation:
        remedy = "make another folder for another federation"
        raise InputError(path, "federation", f"is not {known.federation}, which this node joined", None, remedy)
    same = welcome == known
    if welcome.number < known.number or (welcome.number == known.number and not same):
        rule = f"must be above {known.number}, which was accepted before"
        raise InputError(path, "number", rule, welcome.number, "ask the coordinator for the newest")


def _changes(folder: Folder, welcome: Welcome, known: Welcome | None) -> list[str]:
    """What is new in a welcome, one line each."""
    lines = []
    before: Mapping[str, Enrolled] = {row.name: row for row in known.roster} if known else {}
    if known is None or known.coordinator != welcome.coordinator:
        lines.append(f"coordinator      {fingerprint(welcome.coordinator)}{_was(known.coordinator if known else '')}")
    if known is None or known.superlink != welcome.superlink:
        lines.append(f"connects to      {welcome.superlink}" + (f"  (was {known.superlink})" if known else ""))
    for row in welcome.roster:
        old = before.get(row.name)
        if row.name != folder.node.holder and row != old:
            what = f"{row.name} ({row.domain or 'no domain'})"
            lines.append(f"holder           {what}: {fingerprint(row.verify)}{_was(old.verify if old else '')}")
    gone = sorted(set(before) - {row.name for row in welcome.roster})
    lines += [f"no longer there  {name}" for name in gone]
    if welcome.bundle not in folder.bundles():
        lines.append(f"code to allow    {welcome.bundle}")
    if known and known.bundle != welcome.bundle and known.bundle in folder.bundles():
        lines.append(f"code to drop     {known.bundle}")
    if known and known.authority != welcome.authority:
        lines.append("authority        another certificate than before")
    return lines


def _was(verify: str) -> str:
    return f"  (CHANGED, was {fingerprint(verify)})" if verify else ""


def accept(folder: Folder, welcome: Welcome, text: str) -> None:
    """Keeps a welcome that was confirmed: pins, the authority, the bundle, and last the welcome itself."""
    pins = {row.name: row.verify for row in welcome.roster if row.name != folder.node.holder}
    with alone(folder.node.durable):  # the whole list, so that whoever was expelled is known no longer
        write(folder.node.durable / PEERS, json.dumps(pins, indent=1, sort_keys=True).encode())
    write(folder.authority, welcome.authority.encode())
    if welcome.certificate:
        write(folder.certificate, welcome.certificate.encode())
    folder.welcome_bundle(welcome)
    write(folder.trust, text.encode())
