"""One function over many items in processes of their own: errors, deaths and ends cost an item, never the rest."""

import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pytest

from model.inputs import InputError
from simulations.spread import Failed, spread

PID = "__import__('os').getpid()"
NAP = "__import__('time').sleep(60)"


def _hold(folder: str) -> None:
    with TemporaryDirectory(dir=folder) as inside:
        Path(inside, "pid").write_text(str(os.getpid()))
        time.sleep(60)


@contextmanager
def _interrupted_once_both_are_in(folder: Path) -> Iterator[None]:
    def interrupt() -> None:
        while len(list(folder.glob("*/pid"))) < 2:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for what runs behind it
    threading.Thread(target=interrupt, daemon=True).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            yield
    finally:
        signal.signal(signal.SIGINT, before)


def _gone(pid: int, seconds: float = 60.0) -> bool:
    deadline = time.monotonic() + seconds
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        while process.status() != psutil.STATUS_ZOMBIE:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
    return True


def test_what_an_item_gives_raises_or_dies_of_is_told_of_that_item_alone() -> None:
    dies, killed = "__import__('os')._exit(3)", "__import__('os').kill(__import__('os').getpid(), 9)"
    unsent, threads = "lambda: 1", "__import__('os').environ['OPENBLAS_NUM_THREADS']"
    given = dict(spread(eval, ["1 / 0", dies, "6 * 7", killed, unsent, threads, "2 ** 8"], jobs=2))
    assert given.pop("1 / 0") == Failed("ZeroDivisionError", "division by zero")
    assert given.pop(dies) == Failed("died", "its process ended with code 3")
    assert given.pop(killed) == Failed("died", "its process ended by signal 9")
    assert isinstance(given.pop(unsent), Failed)
    assert given == {"6 * 7": 42, threads: "1", "2 ** 8": 256}


def test_workers_stay_between_items_and_are_no_more_than_asked_for() -> None:
    assert len({pid for _, pid in spread(eval, [PID] * 4, jobs=1)}) == 1
    assert list(spread(math.sqrt, [], jobs=2)) == []


def test_this_process_keeps_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    assert list(spread(os.getenv, ["OMP_NUM_THREADS"], jobs=1)) == [("OMP_NUM_THREADS", "1")]
    assert (os.environ["OMP_NUM_THREADS"], "MKL_NUM_THREADS" in os.environ) == ("7", False)


def test_closing_ends_the_workers_and_they_clean_up(tmp_path: Path) -> None:
    results = spread(_hold, [str(tmp_path)] * 2, jobs=2)
    with _interrupted_once_both_are_in(tmp_path):
        next(results)
    assert list(tmp_path.iterdir()) == []
    alive = [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]
    assert not [child for child in alive if "spawn_main" in " ".join(child.cmdline())]


def test_a_worker_ends_with_a_parent_that_was_killed() -> None:
    code = "from simulations.spread import spread\n" + (
        f"for _, value in spread(eval, {[PID, NAP]}, jobs=1): print(value, flush=True)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    worker = int(parent.stdout.readline())
    time.sleep(0.2)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert _gone(worker)


@pytest.mark.parametrize(
    ("backend", "address", "told"),
    [
        ("threads", "", "--backend must be process | ray, got 'threads'"),
        ("process", "auto", "--address is of the backend ray alone, got 'auto'"),
    ],
)
def test_a_backend_that_is_none_is_told_before_anything_starts(backend: str, address: str, told: str) -> None:
    with pytest.raises(InputError, match=told.replace("|", r"\|")):
        spread(math.sqrt, [1.0], backend=backend, address=address)
