"""What runs in place of Flower's app commands on a data holder's node: only app bundles on its own list are opened.

A coordinator chooses what its SuperLink sends; Flower runs whatever arrives. `fedscore partner start` puts this file
first on the node's path, under the names of Flower's commands:

    guard.py flwr-clientapp LIST …    checks the bundle's SHA-256 against LIST before it is unpacked, then runs it
    guard.py anything-else LIST …     refuses: an agent, a model or a connector is never asked for here

It imports nothing of fedscore, so that the app that runs is the bundle's code and no other.
"""

import fcntl
import hashlib
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

WHOLE = ".whole"  # in the home of a bundle that was installed to its end


def listed(path: Path) -> set[str]:
    """The bundles that the holder allows: the first word of each line that is no comment."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return {line.split("#")[0].strip() for line in lines} - {""}


def guarded(runtime: Any, allowed: Path) -> None:
    """Makes Flower's `runtime` module install nothing but a listed bundle, and load nothing but what it installed.

    Flower takes a folder that is there for installed, and its name has 8 digits of the bundle's hash. So each bundle
    has a home of its own, by its whole hash, and one that was not installed to its end is installed anew.
    """
    homes = Path(os.environ["FLWR_HOME"]) / "apps-by-hash"
    pull, install, told = runtime.pull_task_input, runtime.install_from_fab, {}

    def pulled(client: Any) -> Any:
        message, context, run, fab = pull(client)
        told["place"] = lambda: runtime.get_project_dir(run.fab_id, run.fab_version, fab.hash_str)
        return message, context, run, fab

    def installed(content: bytes, *arguments: Any, **options: Any) -> Any:
        digest = hashlib.sha256(content).hexdigest()
        if digest not in listed(allowed):
            raise PermissionError(f"bundle {digest} is not on this node's list")
        place = whole(homes, digest, lambda: install(content, *arguments, **options))
        if Path(told["place"]()) != Path(place):  # the link names the folder to load from: it must be this bundle's
            raise PermissionError(f"bundle {digest} was announced under another name")
        return place

    runtime.pull_task_input, runtime.install_from_fab = pulled, installed


def whole(homes: Path, digest: str, install: Callable[[], Any]) -> Any:
    """What `install` gives, with Flower's home set to this bundle's own, where nothing torn lies.

    Args:
        homes: of all bundles.
        digest: of the bundle.
        install: finds what lies in Flower's home, or else puts it there.
    """
    homes.mkdir(mode=0o700, parents=True, exist_ok=True)
    home = homes / digest
    with (homes / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        torn = not (home / WHOLE).exists()
        if torn and home.exists():
            shutil.rmtree(home)
        os.environ["FLWR_HOME"] = str(home)
        place = install()
        if torn:
            os.sync()  # what is marked is on disk
            (home / WHOLE).touch()
    return place


def main() -> None:
    """Runs Flower's command under guard, or refuses."""
    command, allowed = sys.argv[1], Path(sys.argv[2])
    sys.argv = [command, *sys.argv[3:]]
    if command != "flwr-clientapp":
        sys.exit(f"guard: this node runs no {command}: refused")
    import flwr.supernode.runtime.run_clientapp as runtime
    from flwr.supernode.cli import flwr_clientapp

    guarded(runtime, allowed)
    flwr_clientapp()


if __name__ == "__main__":
    main()
