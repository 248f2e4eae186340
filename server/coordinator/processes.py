"""Processes of our own: their environment, ports and end; and the `flwr` command, asked for JSON."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ENVIRONMENT = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}
_POLITE_SECONDS = 10.0


def environment(home: Path) -> dict[str, str]:
    """The environment in which Flower's commands keep to `home`, ask nobody outside, and install nothing."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return {**os.environ, **ENVIRONMENT, "FLWR_HOME": str(home), "PATH": path}


def tool(name: str) -> str:
    """A command of this environment, wherever the caller's PATH points."""
    here = Path(sys.executable).parent / name
    return str(here) if here.exists() else name


def free_port() -> int:
    """A port of this machine that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def port_taken(host: str, port: int) -> bool:
    """Whether we could not listen there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return True
    return False


def answers(host: str, port: int) -> bool:
    """Whether somebody listens there."""
    try:
        socket.create_connection((host, port), 0.5).close()
    except OSError:
        return False
    return True


def await_port(port: int, process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Waits until the port of 127.0.0.1 answers; False where the process ended first, or time ran out."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        if answers("127.0.0.1", port):
            return True
        time.sleep(0.2)
    return False


def started(command: Sequence[str], environment: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    """Starts a command in a process group of its own, in the folder of its log, to which it appends what it says."""
    with log.open("ab") as file:
        return subprocess.Popen(
            [*command], env=dict(environment), cwd=log.parent, stdout=file, stderr=file, start_new_session=True
        )


def shorten(log: Path, most: int) -> None:
    """Moves what a log holds into `LOG.1` once it is larger than `most` bytes; its program goes on appending to it."""
    if log.exists() and log.stat().st_size > most:
        shutil.copyfile(log, log.with_name(f"{log.name}.1"))
        os.truncate(log, 0)  # programs have it open to append: a new file in its place would stay empty


def end(process: subprocess.Popen[bytes]) -> None:
    """Ends the process group that we started, politely first; nothing of it is left."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(_POLITE_SECONDS)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue


def tail(text: str) -> str:
    """The end of what a program said, on one line and without colours."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    return " ".join(plain.split())[-300:]


@dataclass(frozen=True)
class FlowerCli:
    """The `flwr` command with the home and environment that make it talk to one SuperLink."""

    home: Path
    environment: Mapping[str, str]

    def cli(self, *arguments: str) -> dict[str, object]:
        """The JSON answer of a `flwr` command; raises `RuntimeError` where it gives none."""
        command = [tool("flwr"), *arguments, "--format", "json"]
        done = subprocess.run(command, env=dict(self.environment), capture_output=True, text=True, check=False)
        start = done.stdout.find("{")
        if done.returncode or start < 0:
            raise RuntimeError(f"flwr {arguments[0]} failed: {tail(done.stdout + done.stderr)}")
        answer: dict[str, object] = json.loads(done.stdout[start:])
        if answer.get("success") is False:
            raise RuntimeError(f"flwr {arguments[0]} failed: {tail(str(answer.get('error-message', '')))}")
        return answer


def write_profile(home: Path, name: str, address: str, authority: Path | None) -> None:
    """Has the `flwr` command of this home talk to one SuperLink, over TLS where an authority is given."""
    trust = f"root-certificates = {json.dumps(str(authority))}" if authority else "insecure = true"
    text = f'[superlink]\ndefault = "{name}"\n[superlink.{name}]\naddress = "{address}"\n{trust}\n'
    (home / "config.toml").write_text(text, encoding="utf-8")
