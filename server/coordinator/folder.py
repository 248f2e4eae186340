"""The coordinator's folder: where what lies, and the few settings of `coordinator.toml`."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from model.inputs import InputError, read_toml, refuse_unknown, whole, write_text
from privacy.durable import write
from server.log import append

SETTINGS = "coordinator.toml"
PRIVATE = ("certs", "keys", "requests", "welcomes", "ledger", "log", "out", "home", "run", "nginx", "app")
NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_KEYS = ("name", "host", "listen", "partner-port", "link-port", "min-free-mib", "bundle")


@dataclass(frozen=True)
class Coordinator:
    """A coordinator's folder and settings.

    Attributes:
        path: the folder, absolute.
        name: of the federation.
        host: by which partners reach it; its certificate is made out to it.
        listen: address of the partners' listener.
        partner_port: where partners' nodes connect, to nginx.
        link_port: of Flower's SuperLink, on this machine only.
        min_free_mib: disk space below which nothing is started.
        bundle: SHA-256 of the app bundle in `app`, 64 hexadecimal digits: what welcomes name, and what runs send.
    """

    path: Path
    name: str
    host: str
    listen: str = "127.0.0.1"
    partner_port: int = 18443
    link_port: int = 19443
    min_free_mib: int = 512
    bundle: str = ""

    def __post_init__(self) -> None:
        where = self.path / SETTINGS
        if not NAME.fullmatch(self.name):
            raise InputError(where, "name", "must be small letters, digits and hyphens, 32 at most", self.name)
        for field in ("host", "listen"):
            if not _HOST.fullmatch(getattr(self, field)):
                raise InputError(where, field, "must be a host name or an IPv4 address", getattr(self, field))
        for field in ("partner_port", "link_port"):
            if not 1024 <= getattr(self, field) <= 65535:
                raise InputError(where, field.replace("_", "-"), "must be from 1024 to 65535", getattr(self, field))
        if self.partner_port == self.link_port:
            raise InputError(where, "link-port", "must differ from partner-port", self.link_port)

    @classmethod
    def load(cls, folder: Path) -> Coordinator:
        """The coordinator of a folder; raises `InputError` where it is none."""
        path = folder.expanduser().resolve()
        file = path / SETTINGS
        if not file.is_file():
            remedy = "give a coordinator's folder, or make one by `fedscore coordinator init`"
            raise InputError(folder, "", f"holds no {SETTINGS}", remedy=remedy)
        table = read_toml(file)
        refuse_unknown(file, "", table, _KEYS)
        for key in ("name", "host", "listen", "bundle"):
            if not isinstance(table.get(key), str):
                raise InputError(file, key, "must be a text", table.get(key))
        partner, link, free = (
            whole(file, key, table.get(key)) for key in ("partner-port", "link-port", "min-free-mib")
        )
        name, host, listen, bundle = (str(table[key]) for key in ("name", "host", "listen", "bundle"))
        return cls(path, name, host, listen, partner, link, free, bundle)

    def save(self) -> None:
        """Writes the settings."""
        write_text(
            self.path / SETTINGS,
            f"""# The coordinator of a federation. Partners connect to host:partner-port.
name = {json.dumps(self.name)}
host = {json.dumps(self.host)}            # stands in the certificate: after a change run `fedscore coordinator renew`
listen = {json.dumps(self.listen)}          # address of the partners' listener; 0.0.0.0 lets other machines in
partner-port = {self.partner_port}
link-port = {self.link_port}              # Flower's SuperLink, on this machine only
min-free-mib = {self.min_free_mib}             # disk space below which nothing is started
bundle = {json.dumps(self.bundle)}  # of app/; `fedscore coordinator upgrade` changes it
""",
        )

    @property
    def superlink(self) -> str:
        """Where partners connect, host:port."""
        return f"{self.host}:{self.partner_port}"

    @property
    def authority(self) -> Path:
        """The certificate by which everybody knows the coordinator's."""
        return self.path / "certs" / "ca.crt"

    @property
    def app(self) -> Path:
        """The unpacked app bundle that runs send."""
        return self.path / "app"

    @property
    def home(self) -> Path:
        """Flower's home."""
        return self.path / "home"

    @property
    def running(self) -> Path:
        """Where process ids, logs and Flower's database lie."""
        return self.path / "run"

    def signing_key(self) -> bytes:
        """The private key of orders, welcomes and the log, 32 bytes."""
        path = self.path / "keys" / "sign.key"
        key = path.read_bytes() if path.is_file() else b""
        if len(key) != 32:
            raise InputError(path, "", "is not the coordinator's key of 32 bytes", remedy="restore it from a backup")
        return key

    def log(self, kind: str, body: Mapping[str, str]) -> None:
        """Appends an entry to the log, on disk before anything follows from it; raises `RunFailed` where it cannot."""
        append(self.path / "log", self.signing_key(), kind, body)

    def check_disk(self) -> None:
        """Raises `InputError` where the disk is nearly full: a run could neither log nor charge what it releases."""
        free = shutil.disk_usage(self.path).free >> 20
        if free < self.min_free_mib:
            rule = f"has {free:,} MiB free, less than min-free-mib = {self.min_free_mib:,}"
            raise InputError(self.path, "", rule, remedy="free some space on this disk")


def private_file(path: Path, content: bytes) -> None:
    """`privacy.durable.write` for a command: raises `InputError` where the disk does not take it."""
    try:
        write(path, content)
    except OSError as error:
        raise InputError(path, "", f"cannot be written ({error.strerror})", remedy="check the disk") from None
