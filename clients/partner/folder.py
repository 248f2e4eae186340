"""The folder of a data holder: where its keys, its papers and its node's files lie."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from clients.nodefile import NAME, TRUST, NodeFile
from model.inputs import InputError, read_text
from privacy.durable import write
from privacy.enrolment import Welcome

_WELCOME = "by welcome "
HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Folder:
    """A folder that `fedscore partner init` made, with its node file read."""

    node: NodeFile

    @classmethod
    def open(cls, root: Path) -> Folder:
        """The folder at `root`; raises `InputError` where none was made there, or its node file is wrong."""
        if not (root / NAME).is_file():
            raise InputError(
                root, "", f"has no {NAME}", remedy="make it with `fedscore partner init`, or mend the path"
            )
        return cls(NodeFile.load(root / NAME))

    @property
    def root(self) -> Path:
        """The folder itself."""
        return self.node.folder

    @property
    def node_key(self) -> Path:
        """Private key of the node, by which the coordinator's link knows it."""
        return self.root / "node.key"

    @property
    def request(self) -> Path:
        """What goes to the coordinator."""
        return self.root / "request.json"

    @property
    def trust(self) -> Path:
        """The welcome that was accepted last."""
        return self.root / TRUST

    @property
    def left(self) -> Path:
        """The welcome of a federation that this holder left: no older one is believed again."""
        return self.root / "left.json"

    @property
    def authority(self) -> Path:
        """Certificate of the authority that signs the coordinator's."""
        return self.root / "ca.crt"

    @property
    def certificate(self) -> Path:
        """The node's own certificate, where the coordinator gave it one."""
        return self.root / "node.crt"

    @property
    def allowed(self) -> Path:
        """SHA-256 of the app bundles that may run here, one a line."""
        return self.root / "allowed"

    @property
    def home(self) -> Path:
        """Flower's own folder."""
        return self.root / "home"

    @property
    def run(self) -> Path:
        """Logs, the lock and what the running node says about itself."""
        return self.root / "run"

    @property
    def ledger(self) -> Path:
        """The holder's privacy ledger; made by the first run."""
        return self.node.durable / "ledger.db"

    def joined(self) -> Welcome | None:
        """The welcome that was accepted last; None where there is none yet."""
        return self.node.trust() if self.trust.exists() else None

    def known(self) -> Welcome | None:
        """The newest welcome that was ever accepted, in the federation or after leaving it."""
        return self.joined() or (Welcome.of(read_text(self.left)) if self.left.exists() else None)

    def superlink(self, welcome: Welcome) -> str:
        """Where the node connects: its own file's word, else the welcome's."""
        return self.node.superlink or welcome.superlink

    def bundles(self) -> list[str]:
        """The bundles that may run here; raises `InputError` for a line that is no SHA-256."""
        if not self.allowed.exists():
            return []
        lines = [line.split("#")[0].strip() for line in read_text(self.allowed).splitlines()]
        for number, line in enumerate(lines, 1):
            if line and not HASH.fullmatch(line):
                remedy = "give 64 hexadecimal digits, or delete the line"
                raise InputError(self.allowed, f"line {number}", "is no SHA-256", line, remedy)
        return [line for line in lines if line]

    def allow(self, bundle: str, note: str) -> bool:
        """Lets a bundle run here; False where it may already."""
        if bundle in self.bundles():
            return False
        before = read_text(self.allowed) if self.allowed.exists() else ""
        write(self.allowed, f"{before}{bundle}  # {note}\n".encode())
        return True

    def welcome_bundle(self, welcome: Welcome) -> None:
        """Lets the bundle of a welcome run, in place of an earlier welcome's: nobody may go back to older code."""
        known = self.joined()
        lines = read_text(self.allowed).splitlines(keepends=True) if self.allowed.exists() else []
        if known and known.bundle != welcome.bundle:
            kept = [line for line in lines if not (line.startswith(known.bundle) and _WELCOME in line)]
            write(self.allowed, "".join(kept).encode())
        self.allow(welcome.bundle, f"{_WELCOME}{welcome.number} of {welcome.federation}")


def environment(folder: Folder, path: str) -> Mapping[str, str]:
    """What the node's processes find around them: nothing of this shell that Flower or Python would listen to."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("FLWR_", "PYTHON", "FAB_", "RAY_"))}
    own = ",".join(filter(None, (kept.get("NO_PROXY") or kept.get("no_proxy", ""), "127.0.0.1,localhost")))
    return {
        **kept,
        **{"NO_PROXY": own, "no_proxy": own},  # its processes talk on 127.0.0.1, whatever proxy leads outside
        "PATH": path,
        "FLWR_HOME": str(folder.home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "PYTHONUNBUFFERED": "1",
    }
