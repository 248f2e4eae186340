"""What tests of the coordinator share: a folder with a tiny bundle, requests of holders, and a link to talk to."""

from __future__ import annotations

import io
import json
import random
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from privacy.enrolment import Enrolled, Request
from privacy.envelope import new_key
from privacy.signing import announcement, new_signing_key
from server.coordinator.folder import Coordinator
from server.coordinator.founding import init
from server.coordinator.processes import port_taken

PROJECT = """[project]
name = "tiny"
[tool.flwr.app]
fab-exclude = ["left/**"]
[tool.flwr.app.config]
ledger = ""
out = ""
rounds = 0
wait = 60.0
resume = true
engine = "scorecard"
"""


def tiny_bundle(more: str = "") -> bytes:
    """A bundle of one file, the same bytes whenever it is made."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(zipfile.ZipInfo("pyproject.toml"), PROJECT + more)
    return packed.getvalue()


@dataclass(frozen=True)
class Asking:
    """A holder with its keys, as far as a coordinator sees them."""

    name: str
    domain: str
    sealing: bytes
    signing: bytes
    node: ec.EllipticCurvePrivateKey

    @classmethod
    def fresh(cls, name: str, domain: str = "payments") -> Asking:
        return cls(name, domain, new_key(), new_signing_key(), ec.generate_private_key(ec.SECP384R1()))

    @property
    def node_key(self) -> str:
        form = (serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        return self.node.public_key().public_bytes(*form).decode()

    def csr(self, by: ec.EllipticCurvePrivateKey | None = None) -> str:
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "whatever it says")])
        made = x509.CertificateSigningRequestBuilder().subject_name(name).sign(by or self.node, hashes.SHA384())
        return made.public_bytes(serialization.Encoding.PEM).decode()

    def request(self, **changes: str) -> Request:
        holder = Enrolled(self.name, self.domain, **announcement(self.name, self.sealing, self.signing))
        return replace(Request(holder, self.node_key, "ab" * 32, self.csr()), **changes)

    def write(self, folder: Path, **changes: str) -> Path:
        path = folder / f"{self.name}.request.json"
        path.write_text(self.request(**changes).to_json(self.signing))
        return path


def without_signature(path: Path, **changes: str) -> Path:
    """A request that was changed after it was signed."""
    body = json.loads(path.read_text())
    body.update(changes)
    path.write_text(json.dumps(body))
    return path


def free_ports() -> Iterator[int]:
    """Ports where nobody listens, none of those that the system gives to connections: they stay free until used."""
    for port in random.sample(range(10_000, 16_000), 6_000):
        if not port_taken("127.0.0.1", port):
            yield port


def found_hub(path: Path, **settings: Any) -> Coordinator:
    """A coordinator's folder on free ports, with a tiny bundle."""
    ports = free_ports()
    usual = {"name": "demo-credit", "host": "localhost", "partner_port": next(ports), "link_port": next(ports)}
    return init(Coordinator(path, **{**usual, **settings}), tiny_bundle())
