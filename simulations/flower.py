"""Running the Flower app under `flwr run` on a private SuperLink: started, polled for the truth, and stopped.

`flwr run` exits 0 when a run failed and leaves a daemon on a fixed port, so neither is relied on: the SuperLink is
ours, on a free port of this machine, with a home of its own, and `flwr list` says how the run ended.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from model.inputs import InputError

APP = Path(__file__).resolve().parents[1]
START_SECONDS, RUN_SECONDS = 60.0, 1800.0
_ENVIRONMENT = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}


@dataclass(frozen=True)
class PrivateLink:
    """A SuperLink of our own: the home and the environment that make the `flwr` command talk to it."""

    home: Path
    environment: Mapping[str, str]

    def cli(self, *arguments: str) -> dict[str, object]:
        """The JSON answer of a `flwr` command; raises `RuntimeError` where it gives none."""
        command = [_tool("flwr"), *arguments, "--format", "json"]
        done = subprocess.run(command, env=dict(self.environment), capture_output=True, text=True, check=False)
        start = done.stdout.find("{")
        if done.returncode or start < 0:
            raise RuntimeError(f"flwr {arguments[0]} failed: {_tail(done.stdout + done.stderr)}")
        answer: dict[str, object] = json.loads(done.stdout[start:])
        if answer.get("success") is False:
            raise RuntimeError(f"flwr {arguments[0]} failed: {_tail(str(answer.get('error-message', '')))}")
        return answer

    def log(self) -> str:
        """What the SuperLink and the apps wrote."""
        return (self.home / "superlink.log").read_text(errors="replace")


@contextmanager
def private_link() -> Iterator[PrivateLink]:
    """Starts a simulation SuperLink on 127.0.0.1 in a process group of its own, and ends that group."""
    home = Path(tempfile.mkdtemp(prefix="fedscore-flwr-"))
    port = _free_port()
    (home / "config.toml").write_text(
        f'[superlink]\ndefault = "private"\n[superlink.private]\naddress = "127.0.0.1:{port}"\ninsecure = true\n'
    )
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    environment = {**os.environ, **_ENVIRONMENT, "FLWR_HOME": str(home), "PATH": path}
    command = [_tool("flower-superlink"), "--insecure", "--simulation", "--host", "127.0.0.1", "--port", str(port)]
    with (home / "superlink.log").open("w") as log:
        link = subprocess.Popen(command, env=environment, cwd=home, stdout=log, stderr=log, start_new_session=True)
    try:
        _await_port(port, link)
        yield PrivateLink(home, environment)
    finally:
        _end(link)
        shutil.rmtree(home, ignore_errors=True)


def flower_run(config: Mapping[str, object], nodes: int) -> str | None:
    """Runs the app with `nodes` simulated nodes; None where it completed, else why it did not."""
    _require_ray()
    options = f"num-supernodes={nodes} client-resources-num-cpus=1"
    with private_link() as link:
        arguments = ("run", str(APP), "private", "--federation-config", options, "--run-config", _toml(config))
        run_id = str(link.cli(*arguments)["run-id"])
        deadline = time.monotonic() + RUN_SECONDS
        while time.monotonic() < deadline:
            runs = link.cli("list", "private", "--run-id", run_id)["runs"]
            status = runs[0] if isinstance(runs, list) else {}
            if str(status.get("status", "")).startswith("finished"):
                if status["status"] == "finished:completed":
                    return None
                return f"Flower says {status['status']}: {status.get('status-details', '')}"[:500]
            time.sleep(0.5)
        return f"the run did not finish within {RUN_SECONDS:g} s"


def _toml(config: Mapping[str, object]) -> str:
    """`key=value` pairs as Flower's --run-config reads them."""
    return " ".join(f"{key}={json.dumps(value)}" for key, value in config.items())


def _require_ray() -> None:
    try:
        import ray  # noqa: F401
    except ImportError:
        remedy = 'pip install "fedscore[flower]", or use --backend inprocess'
        raise InputError("command line", "--backend", "flower needs the package ray", remedy=remedy) from None


def _tool(name: str) -> str:
    """A command of this environment, wherever the caller's PATH points."""
    here = Path(sys.executable).parent / name
    return str(here) if here.exists() else name


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await_port(port: int, link: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if link.poll() is not None:
            break
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
            return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError("Flower's SuperLink did not start")


def _end(link: subprocess.Popen[bytes]) -> None:
    """Ends the process group that we started, politely first."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(link.pid, number)
            link.wait(10)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue


def _tail(text: str) -> str:
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    return " ".join(plain.split())[-300:]
