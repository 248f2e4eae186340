"""Keeping programs up: one supervisor a folder, restarts with patience, and nothing left behind."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from model.inputs import InputError
from server.coordinator import supervising
from server.coordinator.folder import Coordinator
from server.coordinator.looking import examine
from server.coordinator.processes import ENVIRONMENT, environment, free_port, port_taken
from server.coordinator.services import Service
from server.failures import RunFailed
from tests.coordinator_world import found_hub

LISTEN = (
    "import os, signal, socket, sys, time; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); time.sleep(60)"
)


@pytest.fixture
def hub(tmp_path: Path) -> Coordinator:
    return found_hub(tmp_path / "hub")


@pytest.fixture
def programs(hub: Coordinator, monkeypatch: pytest.MonkeyPatch) -> tuple[Service, ...]:
    """Three small programs in the place of Flower's: the first listens, the others wait."""
    wait = (sys.executable, "-c", "import time; time.sleep(60)")
    made = (
        Service("superlink", (sys.executable, "-c", LISTEN, str(hub.link_port)), hub.link_port),
        Service("superexec", wait),
        Service("nginx", wait),
    )
    monkeypatch.setattr(supervising, "services", lambda coordinator: made)
    monkeypatch.setattr(supervising, "prepare", lambda coordinator: None)
    return made


@pytest.fixture
def watched(hub: Coordinator, programs: tuple[Service, ...]) -> Iterator[supervising._Watch]:
    """A supervisor's loop in a thread of this process."""
    said: list[str] = []
    watch = supervising._Watch(hub, said.append)
    watch.start()
    loop = threading.Thread(target=watch.keep)
    loop.start()
    try:
        yield watch
    finally:
        watch.ended.set()
        loop.join()
        watch.end()


def _until(true: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_environment_asks_nobody_and_installs_nothing(tmp_path: Path) -> None:
    told = environment(tmp_path)
    assert told["FLWR_HOME"] == str(tmp_path)
    assert ENVIRONMENT.items() <= told.items()
    assert ENVIRONMENT["FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION"] == "1"
    assert ENVIRONMENT["FLWR_TELEMETRY_ENABLED"] == "0"


def test_what_dies_is_started_again_and_the_rest_stays(watched: supervising._Watch) -> None:
    link, execute, proxy = (kept.process for kept in watched.kept)
    assert link
    assert execute
    assert proxy
    os.kill(link.pid, signal.SIGKILL)
    _until(lambda: watched.kept[0].process not in (None, link))
    assert (watched.kept[1].process, watched.kept[2].process) == (execute, proxy)
    assert watched.kept[0].deaths == 1
    again = watched.kept[0].process
    assert again
    killed = time.monotonic()
    os.kill(again.pid, signal.SIGKILL)
    _until(lambda: watched.kept[0].deaths == 2 and watched.kept[0].again > killed)
    assert watched.kept[0].again - killed >= 2.0  # later each time


def test_logs_do_not_fill_the_disk(
    watched: supervising._Watch, hub: Coordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, other = hub.path / "nginx" / "access.log", hub.path / "nginx" / "error.log"
    other.write_text("short")
    log.write_text("long " * 20)
    monkeypatch.setattr(supervising, "_LOG_BYTES", 50)
    _until(lambda: not log.stat().st_size)
    assert log.with_name("access.log.1").read_text() == "long " * 20
    assert other.read_text() == "short"


def test_the_end_leaves_no_process(hub: Coordinator, programs: tuple[Service, ...]) -> None:
    watch = supervising._Watch(hub, lambda text: None)
    watch.start()
    pids = [kept.process.pid for kept in watch.kept if kept.process]
    assert len(pids) == 3
    assert (hub.running / "up.json").exists()
    watch.end()
    assert not any(map(_alive, pids))
    assert not (hub.running / "up.json").exists()


def test_a_program_that_does_not_start_is_named_with_what_it_said(
    hub: Coordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Service("superlink", (sys.executable, "-c", "raise SystemExit('the key is wrong')"), hub.link_port)
    monkeypatch.setattr(supervising, "services", lambda coordinator: (broken,))
    watch = supervising._Watch(hub, lambda text: None)
    with pytest.raises(RunFailed, match="superlink did not start: the key is wrong"):
        watch.start()
    watch.end()


@pytest.mark.parametrize("field", ["partner_port", "link_port"])
def test_a_port_in_use_is_named_before_anything_starts(
    hub: Coordinator, programs: tuple[Service, ...], field: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert port_taken("127.0.0.1", port)
        busy = replace(hub, **{field: port})
        told = rf"{field.replace('_', '-')} is in use, or not of this machine, got '127.0.0.1:{port}'; end what"
        with pytest.raises(InputError, match=told):
            supervising.up(busy, lambda text: None)
    assert supervising.holder(hub) is None


def test_a_second_supervisor_is_refused_and_the_first_is_named(hub: Coordinator) -> None:
    code = "import fcntl, os, sys, time; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); "
    code += "f.write(str(os.getpid())); f.flush(); print('held', flush=True); time.sleep(60)"
    command = [sys.executable, "-c", code, str(hub.running / "lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
        assert other.stdout
        assert other.stdout.readline() == b"held\n"
        try:
            assert supervising.holder(hub) == other.pid
            for start in (lambda: supervising.up(hub, lambda text: None), lambda: supervising.up_in_background(hub)):
                with pytest.raises(InputError, match=f"is up already, as process {other.pid}; end it by"):
                    start()
        finally:
            other.kill()
    assert supervising.holder(hub) is None  # whatever the file says


def test_a_lock_file_that_nobody_holds_is_nobody(hub: Coordinator) -> None:
    assert supervising.holder(hub) is None
    (hub.running / "lock").write_text(str(os.getpid()))
    assert supervising.holder(hub) is None
    (hub.running / "up.json").write_text('{"pid": 1, "services": {}}')
    assert supervising.state(hub) == {}
    with (hub.running / "lock").open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert supervising.holder(hub) == os.getpid()
        assert supervising.state(hub) == {"pid": 1, "services": {}}


def test_only_our_own_leftovers_are_ended(hub: Coordinator, tmp_path: Path) -> None:
    def program(name: str, argument: Path) -> subprocess.Popen[bytes]:
        script = tmp_path / name
        script.write_text("import time; time.sleep(60)")
        return subprocess.Popen([sys.executable, str(script), str(argument)])

    ours = program("flower-superlink", hub.path / "certs" / "ca.crt")
    others = [
        program("flower-superlink", tmp_path / "other" / "ca.crt"),
        program("flower-supernode", hub.path / "certs" / "ca.crt"),  # a partner's, on the same machine
        program("flower-superexec", Path(f"{hub.path}-2") / "certs" / "ca.crt"),
    ]
    try:
        _until(lambda: all(_alive(p.pid) for p in (ours, *others)))
        threading.Thread(target=ours.wait, daemon=True).start()  # reaps it
        supervising.end_leftovers(hub)
        assert not _alive(ours.pid)
        assert all(p.poll() is None for p in others)
    finally:
        for process in (ours, *others):
            process.kill()
            process.wait()


def test_nginxs_own_title_is_read_as_a_command_line() -> None:
    title = ["nginx: master process /usr/sbin/nginx -e /hub/nginx/error.log -c /hub/nginx/nginx.conf", ""]
    assert supervising._unfolded(title)[0] == "/usr/sbin/nginx"
    assert "/hub/nginx/nginx.conf" in supervising._unfolded(title)
    assert supervising._unfolded(["python", "flower-superlink"]) == ["python", "flower-superlink"]


def test_status_says_that_nothing_is_up_and_how_to_start_it(hub: Coordinator) -> None:
    lines = {finding.what: finding.ok for finding in examine(hub)}
    assert lines[f"not up: fedscore coordinator up {hub.path} --background"] is False
    assert lines[f"nobody is enrolled: fedscore coordinator enrol {hub.path} REQUEST.json"] is None
    assert not supervising.down(hub)


def test_free_ports_are_free() -> None:
    assert not port_taken("127.0.0.1", free_port())
