"""Flower's SuperNode as it is, with two things added: it says on disk when it was last heard, and never outlives us.

    beating.py FILE PARENT …    the options after PARENT (a process id) are Flower's

It imports nothing of fedscore: the node's code is Flower's, and an app's is the bundle's.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def follow(parent: int) -> None:
    """Ends this process, politely, when `parent` is no longer there."""
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)


def noting(send: Callable[[], bool], file: Path) -> Callable[[], bool]:
    """`send`, which also touches `file` whenever the coordinator answered."""

    def sent() -> bool:
        answered = send()
        if answered:
            file.touch()
        return answered

    return sent


def main() -> None:
    """Runs Flower's command."""
    file, parent = Path(sys.argv[1]), int(sys.argv[2])
    sys.argv = ["flower-supernode", *sys.argv[3:]]
    threading.Thread(target=follow, args=(parent,), daemon=True).start()
    from flwr.supernode import fleet_http_connection
    from flwr.supernode.cli import flower_supernode

    link: Any = fleet_http_connection
    sender = link.HeartbeatSender
    link.HeartbeatSender = lambda send: sender(noting(send, file))
    flower_supernode()


if __name__ == "__main__":
    main()
