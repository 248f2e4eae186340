"""Whether the node of a folder runs, since when, and when it was last heard; how to end it."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from clients import answers
from clients.partner.folder import Folder
from model.inputs import InputError
from privacy import custody
from privacy.accounting import shown
from privacy.durable import write
from privacy.enrolment import fingerprint
from privacy.signing import verify_key

LOG_BYTES = 20_000_000
SILENT = 90.0  # seconds without a heartbeat after which a node counts as cut off


@contextmanager
def alone(folder: Folder) -> Iterator[None]:
    """Holds the folder's lock; raises `InputError` where its node runs already."""
    folder.run.mkdir(mode=0o700, exist_ok=True)
    with (folder.run / "lock").open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            remedy = "stop it first: `fedscore partner stop`"
            raise InputError(folder.root, "", "is the folder of a node that runs already", None, remedy) from None
        file.truncate(0)
        file.write(json.dumps({"pid": os.getpid(), "since": time.time()}))
        file.flush()
        yield
        file.truncate(0)


def holder_of(folder: Folder) -> tuple[int, float] | None:
    """Process id of the running node and when it began; None where none runs."""
    path = folder.run / "lock"
    if not path.exists():
        return None
    with path.open("r", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            told = json.loads(file.read() or '{"pid": 0, "since": 0}')
            return int(told["pid"]), float(told["since"])
    return None


def stop(folder: Folder, patience: float = 30.0) -> bool:
    """Ends the running node; False where none ran. Raises `TimeoutError` where it does not end."""
    found = holder_of(folder)
    if found is None:
        return False
    os.kill(found[0], signal.SIGTERM)
    deadline = time.monotonic() + patience
    while holder_of(folder) is not None:
        if time.monotonic() > deadline:
            raise TimeoutError(f"the node (process {found[0]}) does not end")
        time.sleep(0.1)
    return True


def log(folder: Folder) -> Path:
    """What Flower's processes write."""
    return folder.run / "node.log"


def beat(folder: Folder) -> Path:
    """Touched whenever the coordinator's link answered."""
    return folder.run / "heard"


def heard(folder: Folder) -> float:
    """When the coordinator's link last answered, in seconds since 1970; 0 where it never did."""
    return beat(folder).stat().st_mtime if beat(folder).exists() else 0.0


def tail(path: Path, size: int = 6000, since: int = 0) -> str:
    """The end of a text file, of what was written after the first `since` bytes."""
    if not path.exists():
        return ""
    with path.open("rb") as file:
        file.seek(max(since, path.stat().st_size - size))
        return file.read().decode(errors="replace")


def rotate(folder: Folder) -> bool:
    """Sets a long log aside and begins it anew, while Flower goes on writing; one older one is kept."""
    if not log(folder).exists() or log(folder).stat().st_size <= LOG_BYTES:
        return False
    write(folder.run / "node.log.1", log(folder).read_bytes())
    os.truncate(log(folder), 0)
    return True


def report(folder: Folder) -> tuple[list[str], bool]:
    """What `fedscore partner status` says, and whether the node does what it should."""
    welcome, found, bundles = folder.joined(), holder_of(folder), folder.bundles()
    key = verify_key((folder.node.durable / "sign.key").read_bytes()).hex()
    lines = [f"holder      {folder.node.holder}" + (f" ({folder.node.domain})" if folder.node.domain else "")]
    lines.append(f"verify key  {key}")
    if welcome is None:
        lines.append("federation  joined none: send request.json, then `fedscore partner join`")
    else:
        lines.append(
            f"federation  {welcome.federation}, welcome {welcome.number}, holders enrolled: {len(welcome.roster)}"
        )
        lines.append(f"coordinator {fingerprint(welcome.coordinator)} at {folder.superlink(welcome)}")
    lines.append("bundles     " + (", ".join(f"{bundle[:16]}…" for bundle in bundles) or "none may run here"))
    sound = False
    if found is None:
        lines.append("node        does not run: `fedscore partner start`")
    else:
        lines.append(f"node        runs since {_when(found[1])} (process {found[0]})")
        age = time.time() - heard(folder)
        sound = age < SILENT
        words = "never" if not heard(folder) else f"{_when(heard(folder))} ({age:.0f} s ago)"
        lines.append(f"heard       {words}" + ("" if sound else ": CUT OFF, `fedscore partner check` says why"))
    seen = list(dict.fromkeys(re.findall(r"\[RUN (\d+)", tail(log(folder), LOG_BYTES))))
    lines.append(f"runs seen   {len(seen)}" + (f", last {seen[-1]}" if seen else ""))
    lines.append(f"ledger      {_spent(folder)}")
    used = answers.versions(folder.node.durable, datetime.now(UTC) - answers.YEAR)
    lines.append(f"models      {len(used)} new versions this year, of {folder.node.limits.max_models}")
    return lines, sound


def _spent(folder: Folder) -> str:
    """One line of what the ledger says."""
    if not folder.ledger.exists():
        return "not there yet: nothing is spent"
    rows = custody.read(folder.ledger)
    contents, (count, digest) = custody.Contents.of(rows), custody.head(rows)
    own = f"own lines epsilon {shown(contents.spent(own=True))}, all {shown(contents.spent())}"
    return f"{own} of {contents.opened['total']:g}; {count} rows, head {digest[:16]}"


def _when(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))
