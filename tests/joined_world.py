"""A federation whose holders are enrolled, in one process: a coordinator's folder, and a folder for every partner."""

from __future__ import annotations

import base64
import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from clients.app import app
from clients.identity import trust
from clients.nodefile import NAME, TRUST, NodeFile
from clients.partner.joining import Wish, make
from privacy.enrolment import Enrolled, Request, Welcome
from privacy.signing import verify_key
from server.config import RunConfig
from server.identity import lasting_key
from server.phases import Programme
from simulations.loopback import LoopbackGrid

HOLDERS = ("lender", "pay-1", "shop-1", "shop-2", "tax-1")


@dataclass
class Joined:
    """The folders: `hub` of the coordinator, `parties` of the holders by name."""

    hub: Path
    parties: dict[str, Path]

    @property
    def key(self) -> bytes:
        return lasting_key(self.hub)

    def state(self, name: str) -> Path:
        return self.parties[name] / "state" / name

    def enrolled(self) -> dict[str, Enrolled]:
        found = {}
        for name, folder in self.parties.items():
            found[name] = Request.of((folder / "request.json").read_text()).holder
        return found

    def enrol(self, *names: str) -> None:
        """Writes the coordinator's roster, and has every holder trust it and each other."""
        rows = {name: row for name, row in self.enrolled().items() if name in (names or HOLDERS)}
        told = [asdict(row) | {"node": "1"} for row in rows.values()]
        (self.hub / "roster.json").write_text(json.dumps({"version": 1, "number": 1, "holders": told, "left": []}))
        verify = base64.b64encode(verify_key(self.key)).decode()
        welcome = Welcome("sample", 1, "localhost:1", "", "", verify, "0" * 64, tuple(rows.values()))
        for name, folder in self.parties.items():
            (folder / TRUST).write_text(welcome.to_json(self.key))
            for other, row in rows.items():
                if other != name:
                    trust(self.state(name), other, row.keys.verify)

    def programme(self, out: Path, run: int = 1, **more: Any) -> Programme:
        """A run of the whole federation over a grid in this process, one node a holder."""
        nodes = [{"node": str(self.parties[name] / NAME)} for name in HOLDERS]
        settings = {"coordinator": str(self.hub), "ledger": str(self.hub / "ledger"), "out": str(out), "wait": 0.1}
        grid = LoopbackGrid(app, nodes, {**settings, **more}, run_id=run)
        return Programme(grid, RunConfig.parse({**settings, **more}))


def joined(folder: Path, federation: Path) -> Joined:
    """Makes all folders of a federation whose file names the sample's holders, and enrols everybody."""
    parties = {}
    (folder / "hub").mkdir(parents=True)
    for name in HOLDERS:
        party = folder / name
        shutil.copytree(federation.parent, party / "files")
        made = make(party / "node", Wish(name, "", party / "files" / federation.name, ()))
        assert isinstance(made.node, NodeFile)
        parties[name] = party / "node"
    world = Joined(folder / "hub", parties)
    world.enrol()
    return world
