"""What stands between a coordinator's code and a holder's machine, and when a node may start at all."""

from __future__ import annotations

import ast
import os
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from clients.partner import joining, running, standing
from clients.partner.beating import noting
from clients.partner.folder import Folder, environment
from clients.partner.guard import WHOLE, guarded, listed
from model.inputs import InputError
from tests.partners import BUNDLE, Hub, built

HERE = Path(running.__file__).parent
pytestmark = pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")
Play = Callable[..., Path]


@pytest.fixture
def folder(small: Path, tmp_path: Path) -> Folder:
    made = joining.make(tmp_path / "a holder's", joining.Wish("pay-1", "", small, ()))
    path = Hub(tmp_path).welcome(made)
    joining.accept(made, joining.read(made, path).welcome, path.read_text())
    return Folder.open(made.root)


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Play:
    """Has Flower's own functions take in a bundle under guard, as a link announces it; gives where it lies."""
    from flwr.cli.install import install_from_fab
    from flwr.common.config import get_project_dir

    def taken(content: bytes, told: str, version: str = "1.0.0") -> Path:
        monkeypatch.setenv("FLWR_HOME", str(tmp_path / "home"))  # of a process of its own, each time
        fab, run = SimpleNamespace(hash_str=told), SimpleNamespace(fab_id="test/asked", fab_version=version)
        runtime: Any = SimpleNamespace(install_from_fab=install_from_fab, get_project_dir=get_project_dir)
        runtime.pull_task_input = lambda client: ("message", "context", run, fab)
        guarded(runtime, tmp_path / "allowed")
        assert runtime.pull_task_input(None)[2:] == (run, fab)
        return Path(runtime.install_from_fab(content, skip_prompt=True))

    return taken


def installed(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "home").rglob("*.py"))


def test_only_a_listed_bundle_is_unpacked(tmp_path: Path, play: Play) -> None:
    good, evil = built(tmp_path / "good", "good"), built(tmp_path / "evil", "evil")
    (tmp_path / "allowed").write_text(f"# mine\n{good.digest}  # by hand\n")
    with pytest.raises(PermissionError, match=f"bundle {evil.digest} is not on this node's list"):
        play(evil.content, evil.digest)
    assert installed(tmp_path) == []
    assert (play(good.content, good.digest) / "answering.py").is_file()


def test_without_a_list_nothing_is_unpacked(tmp_path: Path, play: Play) -> None:
    good = built(tmp_path / "good", "good")
    with pytest.raises(PermissionError, match="is not on this node's list"):
        play(good.content, good.digest)
    assert installed(tmp_path) == []


def test_a_bundle_that_was_allowed_once_cannot_be_run_under_the_name_of_another(tmp_path: Path, play: Play) -> None:
    """Flower loads from the folder that the link names: an old bundle still lies there when it is no longer listed."""
    good, old = built(tmp_path / "good", "good"), built(tmp_path / "old", "old")
    (tmp_path / "allowed").write_text(f"{good.digest}\n{old.digest}\n")
    play(old.content, old.digest)
    (tmp_path / "allowed").write_text(f"{good.digest}\n")
    for told, version in ((old.digest, "1.0.0"), (good.digest, "2.0.0"), (good.digest, "../../1.0.0")):
        with pytest.raises(PermissionError, match=f"bundle {good.digest} was announced under another name"):
            play(good.content, told, version)


def test_a_torn_installation_is_done_anew_and_a_whole_one_is_not(tmp_path: Path, play: Play) -> None:
    """Flower takes any folder of that name for installed, also one left by a process that was killed meanwhile."""
    good = built(tmp_path / "good", "good")
    (tmp_path / "allowed").write_text(good.digest)
    place = play(good.content, good.digest)
    (place / "answering.py").write_text("torn")
    assert (play(good.content, good.digest) / "answering.py").read_text() == "torn"  # it is whole: nobody looks
    (tmp_path / "home" / "apps-by-hash" / good.digest / WHOLE).unlink()
    (place / "left.py").touch()
    assert play(good.content, good.digest) == place
    assert (place / "answering.py").read_bytes() == (tmp_path / "good" / "answering.py").read_bytes()
    assert not (place / "left.py").exists()


def test_a_bundle_whose_hash_begins_like_anothers_is_not_loaded_in_its_place(
    tmp_path: Path, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder's name has 8 digits of the hash, which can be ground; here all begin alike."""
    monkeypatch.setattr("flwr.cli.install.FAB_HASH_TRUNCATION", 0)
    monkeypatch.setattr("flwr.common.config.FAB_HASH_TRUNCATION", 0)
    old, good = built(tmp_path / "old", "old"), built(tmp_path / "good", "good")
    (tmp_path / "allowed").write_text(f"{old.digest}\n{good.digest}\n")
    places = [play(bundle.content, bundle.digest) for bundle in (old, good)]
    assert places[0].name == places[1].name
    assert [(place / "answering.py").read_bytes() for place in places] == [
        (tmp_path / word / "answering.py").read_bytes() for word in ("old", "good")
    ]


def test_the_list_is_the_first_word_of_each_line(tmp_path: Path) -> None:
    (tmp_path / "allowed").write_text(f"#{'a' * 64}\n\n  {'b' * 64}  # note {'c' * 64}\n")
    assert listed(tmp_path / "allowed") == {"b" * 64}
    assert listed(tmp_path / "none") == set()


def test_every_command_by_which_flower_starts_an_app_is_guarded(folder: Folder) -> None:
    from flwr.supercore.constant import TASK_TYPE_TO_COMMAND

    folder.run.mkdir()
    places = running.guard(folder).split(":")
    assert places[1:] == ["/usr/bin", "/bin"]
    commands = {path.name: path for path in Path(places[0]).iterdir()}
    assert set(commands) >= {"flwr-clientapp", "flwr-agentapp", *TASK_TYPE_TO_COMMAND.values()}
    for name, path in commands.items():
        assert str(folder.allowed) in path.read_text().replace("'\"'\"'", "'")
        if name in ("flwr-agentapp", "flwr-model"):
            where = dict(environment(folder, ":".join(places)))
            done = subprocess.run([name, "--token", "x"], env=where, capture_output=True, text=True, timeout=120)
            assert done.returncode == 1
            assert f"guard: this node runs no {name}: refused" in done.stderr


@pytest.mark.parametrize("name", ["guard.py", "beating.py"])
def test_what_wraps_flower_brings_no_code_of_ours_along(name: str) -> None:
    """Else the app that runs would be the installed copy, not the bundle that was checked."""
    tree = ast.parse((HERE / name).read_text())
    found = {n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    found |= {alias.name for n in ast.walk(tree) if isinstance(n, ast.Import) for alias in n.names}
    assert not {part.split(".")[0] for part in found} & {"clients", "model", "privacy", "server", "simulations"}


def test_the_nodes_processes_find_nothing_of_the_shell_around_them(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PYTHONPATH", "PYTHONSTARTUP", "FLWR_HOME", "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION"):
        monkeypatch.setenv(name, "elsewhere")
    monkeypatch.setenv("no_proxy", "10.0.0.1")
    given = environment(folder, "/guard")
    assert not [k for k in given if k.startswith("PYTHON") and k != "PYTHONUNBUFFERED"]
    assert given["FLWR_HOME"] == str(folder.home)
    assert given["NO_PROXY"] == given["no_proxy"] == "10.0.0.1,127.0.0.1,localhost"
    assert (given["FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION"], given["PATH"]) == ("1", "/guard")


def test_a_heartbeat_is_noted_when_it_was_answered(tmp_path: Path) -> None:
    for answered in (False, True):
        assert noting(lambda answered=answered: answered, tmp_path / "heard")() is answered  # type: ignore[misc]
        assert (tmp_path / "heard").exists() is answered


def test_what_a_node_must_have_before_it_starts(folder: Folder) -> None:
    running.refuse_unready(folder)
    folder.allowed.write_text("")
    with pytest.raises(InputError, match="lists no bundle, so nothing could run; allow the bundle"):
        running.refuse_unready(folder)
    folder.allowed.write_text(f"{BUNDLE}\n")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        text = folder.node.path.read_text().replace("port = 0", f"port = {taken.getsockname()[1]}")
        folder.node.path.write_text(text)
        with pytest.raises(InputError, match=r"link\.port is taken by another process"):
            running.refuse_unready(Folder.open(folder.root))
    folder.trust.unlink()
    with pytest.raises(InputError, match="joined no federation"):
        running.refuse_unready(folder)


def test_a_folder_has_one_node_at_a_time(folder: Folder) -> None:
    folder.run.mkdir()
    assert standing.holder_of(folder) is None
    assert not standing.stop(folder)
    with standing.alone(folder):
        assert standing.holder_of(folder) is not None
        with (
            pytest.raises(InputError, match="is the folder of a node that runs already; stop it first"),
            standing.alone(folder),
        ):
            pass
    assert standing.holder_of(folder) is None


def test_a_long_log_is_set_aside_while_it_is_written(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.run.mkdir()
    monkeypatch.setattr(standing, "LOG_BYTES", 10)
    with standing.log(folder).open("ab", buffering=0) as file:
        file.write(b"first, long enough")
        assert standing.rotate(folder)
        file.write(b"second")
        assert not standing.rotate(folder)
    assert standing.log(folder).read_bytes() == b"second"
    assert (folder.run / "node.log.1").read_bytes() == b"first, long enough"
    assert standing.tail(standing.log(folder), since=3) == "ond"


@pytest.mark.parametrize(
    ("wrote", "said"),
    [
        (
            "\x1b[91mERROR\x1b[0m: [code: 2004] Failed to activate SuperNode",
            "it is not enrolled (yet), or it died",
        ),
        ("ssl: CERTIFICATE_VERIFY_FAILED certificate verify failed", "the coordinator's certificate does not hold"),
        ("[Errno 98] error while attempting to bind: address already in use", "the node's port is taken"),
        ("something else", "the node ended ("),
    ],
)
def test_why_a_node_ended_is_said_in_plain_words(folder: Folder, wrote: str, said: str) -> None:
    folder.run.mkdir()
    standing.log(folder).write_text("[code: 2004] of an earlier attempt\n" + wrote)
    assert said in running.why(running.Running(folder, print, written=34 if "2004" not in wrote else 0))


def _standing_in(folder: Folder, monkeypatch: pytest.MonkeyPatch, script: str) -> tuple[running.Running, list[str]]:
    """A supervisor whose node is a shell script, and what it says."""
    folder.run.mkdir()
    said: list[str] = []
    node = running.Running(folder, said.append)

    def start() -> None:
        node.begun = time.time()
        standing.beat(folder).unlink(missing_ok=True)
        command = ["sh", "-c", script]
        node.processes.append(subprocess.Popen(command, cwd=folder.run, start_new_session=True))

    monkeypatch.setattr(node, "start", start)
    monkeypatch.setattr(running, "WAITS", (0.05,))
    return node, said


def test_a_node_that_ends_is_started_again_and_heard_however_short_it_lived(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, said = _standing_in(folder, monkeypatch, "touch heard; echo x >> starts; exit 1")
    told: list[int] = []
    start = node.start

    def three_times() -> None:
        start()
        told.extend([15] * (sum("trying again" in text for text in said) >= 2))

    def clock() -> float:
        """The patience is over as soon as the node was connected."""
        return time.monotonic() + 1000 * any(text.startswith("connected") for text in said)

    monkeypatch.setattr(node, "start", three_times)
    monkeypatch.setattr(running, "time", SimpleNamespace(time=time.time, sleep=time.sleep, monotonic=clock))
    assert running._watch(node, told, 60) == 0  # it was connected once: from then on it never gives up
    node.end()
    starts = len((folder.run / "starts").read_text().split())
    assert starts >= 2
    assert [text for text in said if text.startswith("connected to 127.0.0.1:1")]
    assert sum(text.endswith("trying again in 0.05 s") for text in said) >= starts - 1


def test_a_node_that_never_connects_gives_up_after_the_patience(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, said = _standing_in(folder, monkeypatch, "exec sleep 60")
    assert running._watch(node, [], 0.4) == 1
    (pid,) = (process.pid for process in node.processes)
    node.end()
    assert said == ["not connected within 0.4 s: the coordinator does not answer (`fedscore partner check` says why)"]
    with pytest.raises(ProcessLookupError):
        os.killpg(pid, 0)
