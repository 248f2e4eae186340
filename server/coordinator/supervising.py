"""Keeping a coordinator's programs up: one supervisor a folder, which restarts what dies and leaves nothing behind."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from model.inputs import InputError
from server.coordinator.authority import check_certificates
from server.coordinator.folder import Coordinator, private_file
from server.coordinator.processes import answers, await_port, end, port_taken, shorten, started, tail, tool
from server.coordinator.services import Service, flower_environment, prepare, services
from server.failures import RunFailed

START_SECONDS, DOWN_SECONDS = 90.0, 45.0
_STEADY_SECONDS, _LONGEST_WAIT = 60.0, 60.0
_LOG_BYTES = 10_000_000  # of a log; then it begins anew, and what was in it lies beside it, as LOG.1
Say = Callable[[str], None]


def check(coordinator: Coordinator) -> None:
    """Raises `InputError` for the first thing on this machine that keeps the programs from starting."""
    coordinator.check_disk()
    check_certificates(coordinator)
    coordinator.signing_key()
    prepare(coordinator)
    taken = {"partner-port": (coordinator.listen, coordinator.partner_port)}
    taken["link-port"] = ("127.0.0.1", coordinator.link_port)
    for key, place in taken.items():
        if port_taken(*place):
            file, remedy = coordinator.path / "coordinator.toml", "end what listens there, or change it"
            raise InputError(file, key, "is in use, or not of this machine", "{}:{}".format(*place), remedy)


def up(coordinator: Coordinator, say: Say) -> None:
    """Starts all programs and keeps them up until SIGTERM, SIGINT or `down`; then ends them.

    Raises:
        InputError: where something on this machine keeps them from starting, or they are up already.
        RunFailed: where one of them does not start.
    """
    with _only_one(coordinator):
        end_leftovers(coordinator)
        check(coordinator)
        watch = _Watch(coordinator, say)
        with watch.heeding_signals():
            try:
                watch.start()
                watch.keep()
            finally:
                watch.end()


def up_in_background(coordinator: Coordinator) -> None:
    """Starts a supervisor of its own session, and waits until all programs answer; raises as `up` does."""
    check_free(coordinator)
    end_leftovers(coordinator)
    check(coordinator)
    log = coordinator.running / "coordinator.log"
    log.write_bytes(b"")
    command = [tool("fedscore"), "coordinator", "up", str(coordinator.path)]
    process = started(command, dict(os.environ), log)
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if state(coordinator).get("pid") == process.pid:
            return
        time.sleep(0.2)
    end(process)
    raise RunFailed(f"the coordinator did not start: {tail(log.read_text(errors='replace'))}")


def down(coordinator: Coordinator) -> bool:
    """Ends the supervisor and all programs; False where none was up.

    Raises:
        RunFailed: where they do not end.
    """
    pid = holder(coordinator)
    if pid is None:
        end_leftovers(coordinator)
        return False
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + DOWN_SECONDS
    while time.monotonic() < deadline:
        if holder(coordinator) is None:
            return True
        time.sleep(0.1)
    raise RunFailed(f"the coordinator (process {pid}) does not end")


def state(coordinator: Coordinator) -> dict[str, object]:
    """What the supervisor that is up wrote down: `pid`, `since`, `services` by name; empty where none is up."""
    if holder(coordinator) is None:
        return {}
    try:
        told = json.loads((coordinator.running / "up.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def holder(coordinator: Coordinator) -> int | None:
    """The process id of the supervisor that is up: it holds the lock, whatever a file says; None where none is."""
    path = coordinator.running / "lock"
    try:
        with path.open("r", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return int(file.read() or 0) or None
    except (OSError, ValueError):
        return None
    return None


def check_free(coordinator: Coordinator) -> None:
    """Raises `InputError` where a supervisor is up already."""
    if (pid := holder(coordinator)) is not None:
        remedy = f"end it by `fedscore coordinator down {coordinator.path}`"
        raise InputError(coordinator.path, "", f"is up already, as process {pid}", remedy=remedy)


def check_up(coordinator: Coordinator) -> None:
    """Raises `InputError` where the SuperLink cannot be asked anything."""
    if holder(coordinator) is None or not answers("127.0.0.1", coordinator.link_port):
        remedy = f"start it by `fedscore coordinator up {coordinator.path} --background`"
        raise InputError(coordinator.path, "", "is not up", remedy=remedy)


def end_leftovers(coordinator: Coordinator) -> None:
    """Ends what a supervisor left that was killed: programs with our names and this folder on their command line."""
    names = {"flower-superlink", "flower-superexec", "flwr-serverapp", "nginx"}
    for pid, words in _processes():
        ours = names & {Path(word).name for word in words[:2]}
        if ours and any(word.startswith(f"{coordinator.path}{os.sep}") for word in words):
            for number in (signal.SIGTERM, signal.SIGKILL):
                try:
                    os.kill(pid, number)
                    _await_gone(pid)
                except ProcessLookupError:
                    break


def _processes() -> Iterator[tuple[int, list[str]]]:
    """Every process of this machine with its command line."""
    if Path("/proc/self/cmdline").exists():
        for place in Path("/proc").glob("[0-9]*"):
            try:
                words = (place / "cmdline").read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue
            yield int(place.name), _unfolded(words)
        return
    done = subprocess.run(["ps", "-axww", "-o", "pid=,command="], capture_output=True, text=True, check=False)
    for line in done.stdout.splitlines():
        pid, _, command = line.strip().partition(" ")
        yield int(pid), _unfolded(command.split())


def _unfolded(words: list[str]) -> list[str]:
    """nginx rewrites its command line into `nginx: master process /usr/sbin/nginx …`, as one word."""
    plain = " ".join(words).split()
    return plain[3:] if plain[:3] == ["nginx:", "master", "process"] else words


def _await_gone(pid: int) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        os.kill(pid, 0)
        time.sleep(0.1)


@contextmanager
def _only_one(coordinator: Coordinator) -> Iterator[None]:
    """Holds the lock of the folder: the kernel frees it when its holder dies, however that happens."""
    with (coordinator.running / "lock").open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            check_free(coordinator)
            raise InputError(coordinator.path, "", "is being started or looked at", remedy="try again") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


@dataclass
class _Kept:
    """A program that is kept up: its process, how often it died in a row, and when to start it again."""

    service: Service
    process: subprocess.Popen[bytes] | None = None
    since: float = 0.0
    deaths: int = 0
    again: float = 0.0


@dataclass
class _Watch:
    """The supervisor's loop."""

    coordinator: Coordinator
    say: Say
    kept: list[_Kept] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def heeding_signals(self) -> Iterator[None]:
        """SIGTERM and SIGINT end the loop in here."""

        def ask(number: int, frame: FrameType | None) -> None:
            del number, frame
            self.ended.set()

        before: Mapping[int, object] = {n: signal.signal(n, ask) for n in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)  # type: ignore[arg-type]

    def start(self) -> None:
        """Starts the programs one after the other; the next needs the one before."""
        for service in services(self.coordinator):
            kept = _Kept(service)
            self.kept.append(kept)
            self._launch(kept)
            if kept.process and service.port and not await_port(service.port, kept.process, START_SECONDS):
                raise RunFailed(f"{service.name} did not start: {self._said(service)}")
        time.sleep(0.5)
        for kept in self.kept:
            if kept.process and kept.process.poll() is not None:
                raise RunFailed(f"{kept.service.name} did not start: {self._said(kept.service)}")
        self._note()
        self.say(f"up: partners connect to {self.coordinator.superlink}; end it with Ctrl-C or SIGTERM")

    def keep(self) -> None:
        """Starts again what dies, later and later where it keeps dying, until a signal comes."""
        while not self.ended.wait(0.5):
            self._shorten_logs()
            for kept in self.kept:
                now = time.monotonic()
                if kept.process is not None and kept.process.poll() is not None:
                    steady = now - kept.since > _STEADY_SECONDS
                    kept.deaths = 1 if steady else kept.deaths + 1
                    wait = min(_LONGEST_WAIT, 2.0 ** (kept.deaths - 1))
                    self.say(f"{kept.service.name} died (status {kept.process.returncode}); again in {wait:g} s")
                    end(kept.process)  # nginx's workers would hold the port; Flower's apps end with their SuperExec
                    kept.process, kept.again = None, now + wait
                elif kept.process is None and now >= kept.again:
                    self._launch(kept)
                    with suppress(InputError):  # a full disk is no reason to end
                        self._note()

    def end(self) -> None:
        """Ends every program, the last one first."""
        self.say("ending")
        for kept in reversed(self.kept):
            if kept.process is not None:
                end(kept.process)
        end_leftovers(self.coordinator)  # an app that a SuperExec left when it died
        (self.coordinator.running / "up.json").unlink(missing_ok=True)

    def _launch(self, kept: _Kept) -> None:
        log = self.coordinator.running / f"{kept.service.name}.log"
        kept.process = started(kept.service.command, flower_environment(self.coordinator), log)
        kept.since = time.monotonic()

    def _shorten_logs(self) -> None:
        for folder in (self.coordinator.running, self.coordinator.path / "nginx"):
            for log in folder.glob("*.log"):
                with suppress(OSError):  # a full disk is no reason to end
                    shorten(log, _LOG_BYTES)

    def _said(self, service: Service) -> str:
        return tail((self.coordinator.running / f"{service.name}.log").read_text(errors="replace"))

    def _note(self) -> None:
        pids = {kept.service.name: kept.process.pid for kept in self.kept if kept.process}
        told = {"pid": os.getpid(), "since": time.time(), "services": pids}
        private_file(self.coordinator.running / "up.json", json.dumps(told).encode())
