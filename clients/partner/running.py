"""The node of a data holder: Flower's processes, started under guard, watched, started again, and ended together."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from clients.nodefile import refuse_address
from clients.partner.folder import Folder, environment
from clients.partner.joining import node_key
from clients.partner.standing import alone, beat, heard, holder_of, log, rotate, tail
from model.inputs import InputError
from privacy.durable import write

HERE = Path(__file__).resolve().parent
WAITS = (2.0, 5.0, 10.0, 20.0, 30.0)  # seconds before each new start; the last one again and again
LEASE = 70.0  # seconds that the coordinator's link keeps the place of a node which died
_PATIENCE = 10.0  # seconds that processes get to end by themselves

Say = Callable[[str], None]


@dataclass
class Running:
    """A node that runs: its processes, when they began, and how long its log was then."""

    folder: Folder
    say: Say
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    begun: float = 0.0
    written: int = 0

    def start(self) -> None:
        """Starts the SuperNode and the process that starts its apps under guard."""
        folder, welcome = self.folder, self.folder.node.trust()
        port, secret = self.folder.node.port or free_port(), folder.run / "superexec.secret"
        write(secret, os.urandom(32).hex().encode())
        beat(folder).unlink(missing_ok=True)
        config = f"node={json.dumps(str(folder.node.path), ensure_ascii=False)}"
        address, own = f"127.0.0.1:{port}", str(os.getpid())
        node = [
            *(sys.executable, "-I", str(HERE / "beating.py"), str(beat(folder)), own),
            *("--superlink", folder.superlink(welcome), "--root-certificates", str(folder.authority)),
            *("--auth-supernode-private-key", str(folder.node_key), "--node-config", config),
            *("--host", "127.0.0.1", "--port", str(port)),
            *("--isolation", "process", "--superexec-auth-secret-file", str(secret)),
        ]
        apps = [
            *(str(Path(sys.executable).parent / "flower-superexec"), "--insecure", "--runtime-api-address", address),
            *("--superexec-auth-secret-file", str(secret), "--parent-pid", own),
        ]
        self.begun, self.written = time.time(), log(folder).stat().st_size if log(folder).exists() else 0
        with log(folder).open("ab") as file:
            os.fchmod(file.fileno(), 0o600)
            for command in (node, apps):
                self.processes.append(
                    subprocess.Popen(
                        command,
                        env=environment(folder, guard(folder)),
                        cwd=folder.run,
                        stdin=subprocess.DEVNULL,
                        stdout=file,
                        stderr=file,
                        start_new_session=True,
                    )
                )

    @property
    def alive(self) -> bool:
        """Whether all its processes run."""
        return bool(self.processes) and all(process.poll() is None for process in self.processes)

    @property
    def connected(self) -> bool:
        """Whether the coordinator's link has answered it since it began."""
        return heard(self.folder) >= self.begun - 1

    def end(self) -> None:
        """Ends its processes and theirs, politely first: the link then frees the node's place at once."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            for process in self.processes:
                try:
                    os.killpg(process.pid, number)
                except ProcessLookupError:
                    continue
            deadline = time.monotonic() + _PATIENCE
            while any(process.poll() is None for process in self.processes) and time.monotonic() < deadline:
                time.sleep(0.1)
        self.processes.clear()


def guard(folder: Folder) -> str:
    """Writes the commands under which Flower starts apps here, all of them guarded, and gives the path to look in."""
    from flwr.supercore.constant import TASK_TYPE_TO_COMMAND

    place = folder.run / "guard"
    place.mkdir(mode=0o700, exist_ok=True)
    installed = {path.name for path in Path(sys.executable).parent.glob("flwr-*")}
    for name in sorted({*TASK_TYPE_TO_COMMAND.values(), *installed, "flwr-clientapp"}):
        words = (sys.executable, "-I", str(HERE / "guard.py"), name, str(folder.allowed))
        write(place / name, f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n'.encode())
        (place / name).chmod(0o700)
    return os.pathsep.join([str(place), "/usr/bin", "/bin"])


def serve(folder: Folder, say: Say, patience: float) -> int:
    """Runs the node until it is told to end; 1 where it could not connect within `patience` seconds, if not 0.

    Raises:
        InputError: where it cannot start: not joined, nothing allowed, running already, or its port taken.
    """
    refuse_unready(folder)
    told: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: told.append(number))
    with alone(folder):
        running = Running(folder, say)
        try:
            return _watch(running, told, patience)
        finally:
            running.end()
            say("stopped")


def _watch(running: Running, told: Sequence[int], patience: float) -> int:
    begun, failures, ever = time.monotonic(), 0, False
    while not told:
        running.start()
        announced = False
        while True:
            alive = running.alive  # first, so that a heartbeat of one that just died is seen
            if running.connected and not announced:
                running.say(f"connected to {running.folder.superlink(running.folder.node.trust())}")
                announced, ever, failures = True, True, 0
            if told or not alive:
                break
            if not ever and patience and time.monotonic() - begun > patience:
                running.say(f"not connected within {patience:g} s: {why(running)}")
                return 1
            if rotate(running.folder):
                running.written = 0
            time.sleep(0.2)
        if told:
            break
        reason = why(running)
        running.end()
        wait = WAITS[min(failures, len(WAITS) - 1)]
        failures += 1
        running.say(f"{reason}; trying again in {wait:g} s")
        until = time.monotonic() + wait
        while not told and time.monotonic() < until:
            time.sleep(0.1)
    return 0


def why(running: Running) -> str:
    """In plain words why the node does not run, from what Flower wrote last."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", tail(log(running.folder), since=running.written))
    if "[code: 2004]" in text:
        return (
            "the coordinator does not let this node in: it is not enrolled (yet), or it died less than "
            f"{LEASE:g} s ago and its place is still kept"
        )
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return "the coordinator's certificate does not hold (`fedscore partner check` says why)"
    if "address already in use" in text or "Errno 98" in text:
        return "the node's port is taken: set another [link] port in node.toml, or 0"
    if not running.alive:
        return f"the node ended ({log(running.folder)} says more)"
    return "the coordinator does not answer (`fedscore partner check` says why)"


def refuse_unready(folder: Folder) -> None:
    """Raises `InputError` where the node must not start."""
    welcome = folder.node.trust()
    refuse_address(folder.trust, "superlink", folder.superlink(welcome))
    if not folder.bundles():
        remedy = "allow the bundle that you checked: `fedscore partner allow`"
        raise InputError(folder.allowed, "", "lists no bundle, so nothing could run", remedy=remedy)
    node_key(folder)
    folder.node.read_federation()
    folder.node.refuse_full_disk()
    if folder.node.port and not free(folder.node.port):
        rule = "is taken by another process on 127.0.0.1"
        raise InputError(folder.node.path, "link.port", rule, folder.node.port, "give another one, or 0 for any")
    for place in (folder.home, folder.run):
        place.mkdir(mode=0o700, exist_ok=True)


def start_behind(folder: Folder, patience: float) -> subprocess.Popen[bytes]:
    """Starts the node in a process of its own that outlives this one."""
    refuse_unready(folder)
    if holder_of(folder):
        with alone(folder):  # says so
            pass
    with (folder.run / "start.log").open("wb") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "clients.partner.running", str(folder.root), str(patience)],
            cwd=HERE.parents[1],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )


def await_first(folder: Folder, child: subprocess.Popen[bytes], patience: float = 20.0) -> str:
    """What became of a node that was started behind: that it is connected, or why it is not (yet)."""
    begun, deadline = time.time(), time.monotonic() + patience
    while child.poll() is None and time.monotonic() < deadline:
        if holder_of(folder) and heard(folder) >= begun - 1:
            return f"connected (process {child.pid}); {log(folder)} has Flower's log"
        time.sleep(0.1)
    words = tail(folder.run / "start.log").strip().splitlines()
    if child.poll() is not None:
        return f"ended: {words[-1] if words else 'without a word'}"
    return f"runs (process {child.pid}) but is not connected yet: {words[-1] if words else 'still trying'}"


def free(port: int) -> bool:
    """Whether a port of 127.0.0.1 can be listened on."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main(arguments: Sequence[str]) -> int:
    """The node behind `fedscore partner start --background`."""
    try:
        return serve(Folder.open(Path(arguments[0])), lambda text: print(text, flush=True), float(arguments[1]))
    except InputError as error:
        print(f"fedscore: {error}", flush=True)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
