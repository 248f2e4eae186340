"""The way to the coordinator: whether it answers, whether it is who the welcome says, and what time it has."""

from __future__ import annotations

import datetime
import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path

from cryptography import x509

from clients.nodefile import refuse_address
from clients.partner.words import Finding, Term

SECONDS = 5.0  # to wait for an answer
SOON = 30  # days that a certificate should still hold
SKEW, WORSE = 60.0, 300.0  # seconds between the clocks: worth a word; more than Flower takes
_CODES = {
    **{10: "tls.expired", 9: "tls.early", 62: "tls.host", 64: "tls.host"},  # OpenSSL's numbers
    **dict.fromkeys((2, 7, 18, 19, 20, 21), "tls.wrong"),
}


@dataclass(frozen=True)
class Answer:
    """What a server said: status of /health, its clock, its certificate, and how long it took in seconds."""

    status: int
    date: float | None
    certificate: bytes
    seconds: float


def examine(where: Path, address: str, authority: Path, own: Path) -> Iterator[Finding]:
    """Findings about the coordinator's address, its certificate and its clock."""
    host, port = refuse_address(where, "superlink", address)
    yield from _holds(authority, "cert.authority")
    if own.exists():
        yield from _holds(own, "cert.own")
    told: dict[str, object] = {"address": address, "host": host, "seconds": SECONDS}
    try:
        answer = ask(host, port, ssl.create_default_context(cafile=str(authority)))
    except ssl.SSLCertVerificationError as error:
        yield Finding(False, _CODES.get(error.verify_code, "tls.other"), told | {"error": error.verify_message})
        yield from _clock(_unverified_date(host, port))
        return
    except (OSError, ValueError) as error:
        yield Finding(False, _unreachable(error), told | {"error": getattr(error, "strerror", "") or str(error)})
        return
    good = answer.status == 200
    yield Finding(
        good, "link.good" if good else "link.odd", told | {"ms": answer.seconds * 1000, "status": answer.status}
    )
    yield from _until(x509.load_der_x509_certificate(answer.certificate), "cert.server")
    yield from _clock(answer.date)


def ask(host: str, port: int, context: ssl.SSLContext) -> Answer:
    """Asks for /health over TLS.

    Raises:
        OSError: where nobody answers, or not over TLS with a certificate that `context` takes.
        ValueError: where the answer is none of HTTP.
    """
    begun = time.monotonic()
    with (
        socket.create_connection((host, port), SECONDS) as plain,
        context.wrap_socket(plain, server_hostname=host) as secure,
    ):
        secure.sendall(f"GET /health HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode())
        head = b""
        while b"\r\n\r\n" not in head and len(head) < 65536 and (more := secure.recv(4096)):
            head += more
        certificate = secure.getpeercert(binary_form=True) or b""
    first, *lines = head.split(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
    words = first.split()
    if len(words) < 2 or not words[0].startswith("HTTP/") or not words[1].isdigit():
        raise ValueError("no answer of HTTP")
    fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Answer(int(words[1]), _moment(fields.get("date", "")), certificate, time.monotonic() - begun)


def _moment(text: str) -> float | None:
    try:
        return parsedate_to_datetime(text).timestamp()
    except ValueError:
        return None


def _unreachable(error: Exception) -> str:
    if isinstance(error, socket.gaierror):
        return "link.name"
    if isinstance(error, ConnectionRefusedError):
        return "link.refused"
    if isinstance(error, TimeoutError):
        return "link.silent"
    return "link.notls" if isinstance(error, ssl.SSLError | ValueError) else "link.failed"


def _unverified_date(host: str, port: int) -> float | None:
    """What time the other side claims, without knowing who it is: a wrong clock here makes good certificates fail."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        return ask(host, port, context).date
    except (OSError, ValueError):
        return None


def _clock(date: float | None) -> Iterator[Finding]:
    if date is None:
        yield Finding(None, "clock.unknown")
        return
    ahead = time.time() - date
    way = Term("clock.ahead" if ahead > 0 else "clock.behind")
    off = abs(ahead)
    ok = True if off <= SKEW else None if off <= WORSE else False
    yield Finding(ok, "clock.good" if ok else "clock.off", {"seconds": off, "way": way})


def _holds(path: Path, what: str) -> Iterator[Finding]:
    yield from _until(x509.load_pem_x509_certificate(path.read_bytes()), what)


def _until(certificate: x509.Certificate, what: str) -> Iterator[Finding]:
    end = certificate.not_valid_after_utc
    days = (end - datetime.datetime.now(datetime.UTC)).days
    ok = False if days < 0 else None if days < SOON else True
    key = {True: "cert.good", None: "cert.soon", False: "cert.over"}[ok]
    yield Finding(ok, key, {"what": Term(what), "day": end.date().isoformat(), "days": days})
