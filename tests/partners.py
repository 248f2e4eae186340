"""What the tests of a holder's commands share: an authority, a coordinator that writes welcomes, a server over TLS."""

from __future__ import annotations

import base64
import datetime
import hashlib
import http.server
import ipaddress
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from clients.partner.folder import Folder
from clients.partner.joining import node_key, request_of
from privacy.enrolment import Welcome
from privacy.signing import new_signing_key, verify_key

Key = ec.EllipticCurvePrivateKey
BUNDLE = "ab" * 32


def new_key() -> Key:
    """A fresh key for a certificate."""
    return ec.generate_private_key(ec.SECP256R1())


@dataclass(frozen=True)
class Authority:
    """Signs certificates."""

    key: Key = field(default_factory=new_key)

    def sign(self, public: Any, days: tuple[float, float] = (-1, 365), host: str = "127.0.0.1") -> bytes:
        """A certificate that holds from and until so many days from now."""
        names = [x509.IPAddress(ipaddress.ip_address(host))] if host[0].isdigit() else [x509.DNSName(host)]
        return self._made(public, days, x509.Name([]), x509.SubjectAlternativeName(names))

    @property
    def pem(self) -> bytes:
        """Its own certificate."""
        return self._made(self.key.public_key(), (-1, 3650), self._name, x509.BasicConstraints(True, None))

    @property
    def _name(self) -> x509.Name:
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test authority")])

    def _made(self, public: Any, days: tuple[float, float], who: x509.Name, extension: Any) -> bytes:
        now = datetime.datetime.now(datetime.UTC)
        begins, ends = (now + datetime.timedelta(days=day) for day in days)
        builder = x509.CertificateBuilder().subject_name(who).issuer_name(self._name).public_key(public)
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(begins).not_valid_after(ends)
        builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints) or not [*who])
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@dataclass(frozen=True)
class Hub:
    """A coordinator, as far as a holder sees it before anything runs."""

    folder: Path
    key: bytes = field(default_factory=new_signing_key)
    authority: Authority = field(default_factory=Authority)

    def welcome(self, *holders: Folder, number: int = 1, **changes: Any) -> Path:
        """Writes the welcome for holders that asked; `changes` are of its fields."""
        plain = Welcome(
            federation="sample",
            number=number,
            superlink="127.0.0.1:1",
            authority=self.authority.pem.decode(),
            certificate=self.authority.sign(node_key(holders[0]).public_key()).decode(),
            coordinator=base64.b64encode(verify_key(self.key)).decode(),
            bundle=BUNDLE,
            roster=tuple(request_of(folder).holder for folder in holders),
        )
        path = self.folder / f"{number}-{time.monotonic_ns()}.json"
        path.write_text(replace(plain, **changes).to_json(self.key))
        return path


@contextmanager
def answering(folder: Path, certificate: bytes, key: Key, ahead: float = 0.0, status: int = 200) -> Iterator[int]:
    """A server over TLS on a port of 127.0.0.1, whose clock runs `ahead` by so many seconds."""

    class Health(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

        def date_time_string(self, timestamp: float | None = None) -> str:  # noqa: ARG002
            return formatdate(time.time() + ahead, usegmt=True)

        def log_message(self, format: str, *arguments: Any) -> None:
            """Tests are quiet."""

    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "server.pem").write_bytes(key.private_bytes(*form) + certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    server = _Quiet(("127.0.0.1", 0), Health)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Quiet(http.server.ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that turns away is what some tests are about."""


_SERVER = """
import json, pathlib, time
from flwr.app import ConfigRecord, Message, MessageType, RecordDict
from flwr.serverapp import ServerApp
app = ServerApp()

@app.main()
def main(grid, context):
    while not (nodes := list(grid.get_node_ids())):
        time.sleep(0.5)
    ask = [Message(RecordDict({"c": ConfigRecord({"a": 1})}), dst_node_id=n, message_type="query") for n in nodes]
    told = [
        {"error": reply.error.reason} if reply.has_error() else dict(reply.content["c"])
        for reply in grid.send_and_receive(ask, timeout=90)
    ]
    pathlib.Path(str(context.run_config["out"])).write_text(json.dumps(told))
"""
_CLIENT = """
import pathlib
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp
pathlib.Path(__file__).with_name("imported").touch()
app = ClientApp()

@app.query()
def answer(message, context):
    told = {"said": "%s", "node": str(context.node_config["node"])}
    return Message(RecordDict({"c": ConfigRecord(told)}), reply_to=message)
"""
_PROJECT = """
[project]
name = "asked"
version = "1.0.0"
license = { file = "LICENSE" }
dependencies = ["flwr>=1.41"]
[tool.flwr.app]
publisher = "test"
fab-format-version = 1
flwr-version-target = "1.41.0"
[tool.flwr.app.components]
serverapp = "asked:app"
clientapp = "answering:app"
[tool.flwr.app.config]
out = ""
"""


@dataclass(frozen=True)
class Built:
    """An app's bundle."""

    content: bytes

    @property
    def digest(self) -> str:
        """By which holders allow it."""
        return hashlib.sha256(self.content).hexdigest()


def built(folder: Path, word: str) -> Built:
    """Writes an app whose nodes say `word`, and bundles it."""
    from flwr.cli.build import build_fab_from_disk

    folder.mkdir()
    files = {"asked.py": _SERVER, "answering.py": _CLIENT % word, "pyproject.toml": _PROJECT, "LICENSE": "none"}
    for name, text in files.items():
        (folder / name).write_text(text)
    return Built(build_fab_from_disk(folder))
