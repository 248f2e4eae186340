"""A real node on a real link over TLS: it runs the code that its holder allowed and no other; slow."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from clients.partner import joining, running, standing
from clients.partner.folder import Folder
from privacy.enrolment import Request, Welcome
from privacy.signing import new_signing_key, verify_key
from tests.partners import Authority, built, new_key

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")]
BIN = Path(sys.executable).parent


def certify(folder: Path) -> None:
    """An authority and the certificate of 127.0.0.1."""
    authority, key = Authority(), new_key()
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "ca.crt").write_bytes(authority.pem)
    (folder / "server.crt").write_bytes(authority.sign(key.public_key()))
    (folder / "server.key").write_bytes(key.private_bytes(*form))


@dataclass
class Link:
    """A SuperLink with node authentication, and the command that speaks to it."""

    folder: Path
    port: int

    def flwr(self, *arguments: object, check: bool = True) -> str:
        command = [str(BIN / "flwr"), *map(str, arguments)]
        where = {**os.environ, "FLWR_HOME": str(self.folder), "FLWR_DISABLE_UPDATE_CHECK": "1"}
        done = subprocess.run(command, env=where, capture_output=True, text=True, check=False, timeout=120)
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def run(self, app: Path) -> list[dict[str, str]]:
        """What the nodes answered to a run of this app."""
        out = app / "told.json"
        self.flwr("run", app, "test", "--run-config", f'out="{out}"')
        deadline = time.monotonic() + 120
        while not out.exists() or not out.read_text():
            assert time.monotonic() < deadline, (self.folder / "link.log").read_text()[-3000:]
            time.sleep(0.3)
        told: list[dict[str, str]] = json.loads(out.read_text())
        return told


@pytest.fixture(scope="module")
def link(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Link]:
    folder = tmp_path_factory.mktemp("link")
    certify(folder)
    port = running.free_port()
    (folder / "config.toml").write_text(
        f'[superlink]\ndefault = "test"\n[superlink.test]\naddress = "127.0.0.1:{port}"\n'
        f'root-certificates = "{folder / "ca.crt"}"\n'
    )
    where = {**os.environ, "FLWR_HOME": str(folder), "FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}
    where |= {"PATH": f"{BIN}:{os.environ['PATH']}"}
    options = ("--ssl-ca-certfile", "ca.crt", "--ssl-certfile", "server.crt", "--ssl-keyfile", "server.key")
    command = [str(BIN / "flower-superlink"), *options, "--host", "127.0.0.1", "--port", str(port)]
    command += ["--enable-supernode-auth", "--disable-runtime-dependency-installation", "--database", "state.db"]
    with (folder / "link.log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, env=where, stdout=log, stderr=log, start_new_session=True)
    while running.free(port):
        assert process.poll() is None, (folder / "link.log").read_text()
        time.sleep(0.2)
    yield Link(folder, port)
    os.killpg(process.pid, signal.SIGTERM)
    process.wait(30)


@pytest.fixture(scope="module")
def partner(link: Link, _sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Folder]:
    """Makes a holder's folder that joined the link, registered there unless it is a rogue's."""

    def made(name: str, allowed: str, enrolled: bool = True) -> Folder:
        root = tmp_path_factory.mktemp("holder") / name
        folder = joining.make(root, joining.Wish(name, "", _sample / "federation.toml", ()))
        request = Request.of(folder.request.read_text())
        if enrolled:
            (root / "node.pub").write_text(request.node_key)
            link.flwr("supernode", "register", root / "node.pub", "test")
        key = new_signing_key()
        told = base64.b64encode(verify_key(key)).decode()
        authority = (link.folder / "ca.crt").read_text()
        address = f"127.0.0.1:{link.port}"
        welcome = Welcome("sample", 1, address, authority, "", told, allowed, (request.holder,))
        joining.accept(folder, welcome, welcome.to_json(key))
        return Folder.open(root)

    return made


def begun(folder: Folder, patience: float = 60.0) -> subprocess.Popen[bytes]:
    child = running.start_behind(folder, patience)
    told = running.await_first(folder, child, patience)
    assert "connected (" in told, told + standing.tail(standing.log(folder))
    return child


def test_a_node_runs_the_bundle_that_it_allows_and_no_other(
    link: Link, partner: Callable[..., Folder], tmp_path: Path
) -> None:
    good, evil = built(tmp_path / "good", "good").digest, built(tmp_path / "evil", "evil").digest
    folder = partner("pay-1", good)
    child = begun(folder)
    try:
        assert link.run(tmp_path / "good") == [{"said": "good", "node": str(folder.node.path)}]
        (refused,) = link.run(tmp_path / "evil")
        assert f"bundle {evil} is not on this node's list" in refused["error"]
        assert {path.name for path in (folder.home / "apps-by-hash").iterdir()} == {good, "lock"}
        lines, sound = standing.report(folder)
        assert sound, lines
        assert any("runs seen   2" in line for line in lines), lines
        folder.allow(evil, "now it may")  # the list is read anew
        (tmp_path / "evil" / "told.json").unlink()
        assert link.run(tmp_path / "evil") == [{"said": "evil", "node": str(folder.node.path)}]
    finally:
        assert standing.stop(folder)
    assert child.wait(5) == 0
    assert standing.holder_of(folder) is None


def test_a_node_that_is_not_enrolled_gets_in_nowhere_and_says_why(link: Link, partner: Callable[..., Folder]) -> None:
    folder = partner("tax-1", "0" * 64, enrolled=False)
    child = running.start_behind(folder, 12.0)
    assert child.wait(60) == 1
    assert "not enrolled" in (folder.run / "start.log").read_text()


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def gone(pids: list[int], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while any(Path(f"/proc/{pid}/exe").exists() for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not any(Path(f"/proc/{pid}/exe").exists() for pid in pids)


def test_nothing_outlives_a_supervisor_that_is_killed(link: Link, partner: Callable[..., Folder]) -> None:
    folder = partner("shop-1", "0" * 64)
    child = begun(folder)
    processes = children(child.pid)
    assert len(processes) == 2
    child.kill()
    child.wait()
    assert gone(processes, 20.0)
    assert standing.holder_of(folder) is None
    child = begun(folder)  # its place was given up in time, so nothing has to expire
    assert standing.stop(folder)
    assert child.wait(10) == 0


def test_a_killed_node_comes_back_when_its_old_place_expires(link: Link, partner: Callable[..., Folder]) -> None:
    folder = partner("shop-2", "0" * 64)
    child = begun(folder)
    try:
        (node,) = (pid for pid in children(child.pid) if "beating" in Path(f"/proc/{pid}/cmdline").read_text())
        os.kill(node, signal.SIGKILL)
        killed = time.time()
        deadline = time.monotonic() + 150
        said = ""
        while said.count("connected to") < 2 and time.monotonic() < deadline:
            time.sleep(0.5)
            said = (folder.run / "start.log").read_text()
        assert said.count("connected to") == 2, said
        assert standing.heard(folder) > killed
        assert "trying again in" in said
    finally:
        assert standing.stop(folder)
    assert child.wait(10) == 0
