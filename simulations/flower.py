"""Running the Flower app under `flwr run` on a private SuperLink: started, polled for the truth, and stopped.

`flwr run` exits 0 when a run failed and leaves a daemon on a fixed port, so neither is relied on: the SuperLink is
ours, on a free port of this machine, with a home of its own, and `flwr list` says how the run ended.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from model.inputs import InputError
from server.coordinator.processes import FlowerCli, await_port, end, environment, free_port, started, write_profile
from server.coordinator.processes import tool as _tool

APP = Path(__file__).resolve().parents[1]
START_SECONDS, RUN_SECONDS = 60.0, 1800.0
_LOG = "superlink.log"


class PrivateLink(FlowerCli):
    """A SuperLink of our own: the home and the environment that make the `flwr` command talk to it."""

    def log(self) -> str:
        """What the SuperLink and the apps wrote."""
        return (self.home / _LOG).read_text(errors="replace")


@contextmanager
def private_link() -> Iterator[PrivateLink]:
    """Starts a simulation SuperLink on 127.0.0.1 in a process group of its own, and ends that group."""
    home = Path(tempfile.mkdtemp(prefix="fedscore-flwr-"))
    port = free_port()
    write_profile(home, "private", f"127.0.0.1:{port}", None)
    command = [_tool("flower-superlink"), "--insecure", "--simulation", "--host", "127.0.0.1", "--port", str(port)]
    link = started(command, environment(home), home / _LOG)
    try:
        if not await_port(port, link, START_SECONDS):
            raise RuntimeError("Flower's SuperLink did not start")
        yield PrivateLink(home, environment(home))
    finally:
        end(link)
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
