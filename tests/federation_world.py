"""A real federation on this machine, made and run by the commands that its people type."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from server.coordinator.folder import Coordinator
from server.coordinator.processes import free_port

BIN = Path(sys.executable).parent
HOLDERS = ("lender", "pay-1", "shop-1", "shop-2", "tax-1")


@dataclass(frozen=True)
class Federation:
    """A folder with the sample's files, a coordinator's folder `hub`, one folder a holder; and how long that took."""

    root: Path
    seconds: float = 0.0

    @property
    def hub(self) -> Coordinator:
        return Coordinator.load(self.root / "hub")

    def call(self, *words: object, timeout: float = 400) -> subprocess.CompletedProcess[str]:
        """`fedscore WORDS` in the federation's folder."""
        command = [str(BIN / "fedscore"), *map(str, words)]
        return subprocess.run(command, cwd=self.root, capture_output=True, text=True, check=False, timeout=timeout)

    def done(self, *words: object, timeout: float = 400) -> str:
        """What a command prints that must succeed."""
        ended = self.call(*words, timeout=timeout)
        assert ended.returncode == 0, f"{words}\n{ended.stdout}{ended.stderr}"
        return ended.stdout

    def each(self, *words: str, names: Sequence[str] = HOLDERS) -> None:
        """The same command for several holders at once; `{}` is the holder's name."""
        with ThreadPoolExecutor(len(names)) as pool:
            list(pool.map(lambda name: self.done(*(word.format(name) for word in words)), names))

    def evidence(self) -> Path:
        """What the lender keeps of its persons' scores."""
        return next((self.root / "lender" / "state").rglob("evidence.parquet"))

    def processes(self) -> dict[int, list[str]]:
        """Every process that has this folder on its command line, in its environment, or as its own."""
        found = {}
        for process in psutil.process_iter():
            try:
                words, cwd, home = process.cmdline(), process.cwd(), process.environ().get("FLWR_HOME", "")
            except (psutil.AccessDenied, psutil.NoSuchProcess, psutil.ZombieProcess):
                continue
            if any(str(self.root) in text for text in (*words, cwd, home)) and process.pid != os.getpid():
                found[process.pid] = words
        return found


@contextmanager
def federation(root: Path, persons: int, epsilon: float) -> Iterator[Federation]:
    """Everybody enrolled and online; stopped at the end, and nothing of it is left."""
    root.mkdir(exist_ok=True)
    made, began = Federation(root), time.monotonic()
    made.done("sample", "sample", "--persons", persons)
    file = root / "sample" / "federation.toml"
    file.write_text(file.read_text().replace("epsilon = 1.0 ", f"epsilon = {epsilon} "))
    ports = ("--partner-port", free_port(), "--link-port", free_port())
    made.done("coordinator", "init", "hub", "--name", "demo-credit", *ports)
    try:
        made.done("coordinator", "up", "hub", "--background")
        made.each("partner", "init", "{}", "--name", "{}", "--federation", "sample/federation.toml")
        made.done("coordinator", "enrol", "hub", *(f"{name}/request.json" for name in HOLDERS), "--yes")
        made.each("partner", "join", "{}", "hub/welcomes/{}.welcome.json", "--yes")
        made.each("partner", "start", "{}", "--background")
        yield Federation(root, time.monotonic() - began)
    finally:
        for name in HOLDERS:
            if (root / name / "node.toml").exists():
                made.call("partner", "stop", name)
        made.call("coordinator", "down", "hub")
        left = _left(made)
        assert not left, left


def _left(made: Federation) -> dict[int, list[str]]:
    """What is still there of a federation after a while; it is ended."""
    deadline = time.monotonic() + 15
    while (left := made.processes()) and time.monotonic() < deadline:
        time.sleep(0.5)
    for pid in left:
        psutil.Process(pid).kill()
    return left
