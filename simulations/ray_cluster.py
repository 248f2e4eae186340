"""A Ray cluster to work on: one of this machine alone, started and ended here, or one that is given by its address.

Ray's own listens on every interface of a machine; the one that we start listens on 127.0.0.1. Whoever reaches a Ray
cluster may run programs on it: a given one must be on a network that its operator trusts.
"""

from __future__ import annotations

import ipaddress
import os
import pickle
import shutil
import socket
import tempfile
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from model.inputs import InputError
from simulations.program import program_digest
from simulations.spread import THREADS, Failed, answer

Item = TypeVar("Item")
Value = TypeVar("Value")
_QUIET = {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "RAY_USAGE_STATS_ENABLED": "0"}
_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}  # read when ray is imported: its own address is then 127.0.0.1
_STORE = 512 * 2**20  # bytes for messages under way
_REACH_SECONDS, _PROBE_SECONDS = 10.0, 60.0


def require_ray() -> None:
    """Raises `InputError` where the package ray is not installed."""
    os.environ.update(_QUIET | _LOOPBACK)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its own use of what others give up
            import ray  # noqa: F401
    except ImportError:
        remedy = 'pip install "fedscore[flower]", or use another backend'
        raise InputError("command line", "--backend", "ray needs the package ray", remedy=remedy) from None


@contextmanager
def cluster(address: str = "", jobs: int = 0) -> Iterator[Any]:
    """The module ray, connected: to the cluster that this process uses already, to a given one, or to a new one.

    Args:
        address: as `ray.init` takes it: `auto`, `host:port` or `ray://host:port`; empty starts one on this machine
            that listens on 127.0.0.1 only, shows no dashboard, and ends with the block, or with this process.
        jobs: tasks at a time of a new cluster; 0 is one a core.

    Raises:
        InputError: where ray is not installed, or nothing answers at the address.
    """
    require_ray()
    import ray

    if ray.is_initialized():
        yield ray
        return
    home = Path(tempfile.mkdtemp(prefix="fs-ray-", dir=_short_folder()))
    try:
        _connect(ray, address, jobs, home)
        yield ray
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ray.shutdown()
        shutil.rmtree(home, ignore_errors=True)


def _connect(ray: Any, address: str, jobs: int, home: Path) -> None:
    _reach(address)
    given: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
    if address:
        given |= {"address": address}
    else:
        given |= {"address": "local", "num_cpus": jobs or os.cpu_count(), "object_store_memory": _STORE}
        given |= {"include_dashboard": False, "_node_ip_address": "127.0.0.1", "_temp_dir": str(home)}
        ray._private.ray_constants.ENABLE_RAY_CLUSTER = False  # whoever imported ray before us had it read the other
    try:
        with warnings.catch_warnings():  # it leaves files open that it handed to its processes
            warnings.simplefilter("ignore")
            ray.init(**given, runtime_env={"env_vars": THREADS})
    except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
        rule = f"gives no Ray cluster ({type(error).__name__})"
        raise InputError("command line", "--address", rule, address or None, "check the address") from None
    if not address:
        _alone(ray)


def _alone(ray: Any) -> None:
    """Raises `InputError` where a cluster of ours can be reached from another machine, as with another Ray it could."""
    for node in ray.nodes():
        if not ipaddress.ip_address(where := node["NodeManagerAddress"]).is_loopback:
            rule, remedy = f"starts a Ray that listens on {where}", "set {}={} before ray is imported"
            raise InputError("command line", "--backend", rule, "ray", remedy.format(*next(iter(_LOOPBACK.items()))))


def _reach(address: str) -> None:
    """Raises `InputError` where nobody listens at an address: Ray itself would go on trying for very long."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not address or address == "auto":
        return
    try:
        socket.create_connection((host, int(port)), _REACH_SECONDS).close()
    except (OSError, ValueError, OverflowError):
        rule, remedy = "is not where a Ray cluster listens", "give auto, host:port or ray://host:port"
        raise InputError("command line", "--address", rule, address, remedy) from None


def _short_folder() -> str:
    """Where Ray's sockets lie: the path of a Unix socket holds about a hundred letters."""
    usual = tempfile.gettempdir()
    return usual if len(usual) <= 20 else "/tmp"


def room(ray: Any) -> int:
    """How many tasks of one core the cluster runs at a time."""
    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def spread_by_ray(
    function: Callable[[Item], Value], items: Iterable[Item], jobs: int, address: str, shared: Iterable[Path]
) -> Generator[tuple[Item, Value | Failed], None, None]:
    """`simulations.spread.spread` over a cluster: as many tasks at a time as it has cores, or `jobs`."""
    with cluster(address, jobs) as ray:
        if address:
            check_shared(ray, shared)
        task = ray.remote(num_cpus=1, max_retries=0)(answer)
        waiting, held = iter(items), dict[Any, Item]()

        def begin() -> None:
            for item in waiting:
                held[task.remote(pickle.dumps((function, item)))] = item
                return

        try:
            for _ in range(jobs or room(ray)):
                begin()
            while held:
                done, _ = ray.wait(list(held))
                item = held.pop(done[0])
                outcome: Value | Failed = _outcome(ray, done[0])
                begin()
                yield item, outcome
        finally:
            for reference in held:
                ray.cancel(reference, force=True)


def _outcome(ray: Any, reference: Any) -> Any:
    try:
        return pickle.loads(ray.get(reference))
    except ray.exceptions.RayError as error:  # the worker died, or its machine did
        return Failed("died", str(error).splitlines()[0][:300])


def check_shared(ray: Any, paths: Iterable[Path]) -> None:
    """Has every machine of a given cluster look for what a run needs there: this program, and what is on a disk.

    Args:
        ray: connected.
        paths: files that the run reads, and folders that it writes into.

    Raises:
        InputError: for the first machine that has another fedscore, or does not see a file as it is here.
    """
    files = [path / ".shared" if path.is_dir() else path for path in paths]
    marks = [file for file in files if file.name == ".shared"]
    try:
        for mark in marks:
            mark.write_text(socket.gethostname(), encoding="utf-8")
        expected = _seen([str(path) for path in files])
        for node in ray.nodes():
            if node["Alive"]:
                _compare(node["NodeManagerAddress"], files, expected, _seen_by(ray, node["NodeID"], files))
    finally:
        for mark in marks:
            mark.unlink(missing_ok=True)


def _seen_by(ray: Any, node: str, files: list[Path]) -> Any:
    """What `_seen` gives on one machine of the cluster, or a `Failed`."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    there = NodeAffinitySchedulingStrategy(node, soft=False)
    look = ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=there)(answer)
    asked = look.remote(pickle.dumps((_seen, [str(path) for path in files])))
    done, _ = ray.wait([asked], timeout=_PROBE_SECONDS)
    return _outcome(ray, asked) if done else Failed("silent", "no answer")


def _compare(machine: str, files: list[Path], expected: tuple[str, list[int]], seen: Any) -> None:
    if isinstance(seen, Failed) or seen[0] != expected[0]:
        remedy = "install the same fedscore on every machine of the cluster"
        raise InputError("command line", "--address", f"has a machine without this fedscore ({machine})", None, remedy)
    for file, here, there in zip(files, expected[1], seen[1], strict=True):
        if here != there:
            rule = f"is not seen as it is here by a machine of the cluster ({machine})"
            raise InputError(file, "", rule, remedy="put data and --out on a disk that all its machines share")


def _seen(paths: list[str]) -> tuple[str, list[int]]:
    return program_digest(), [_size(Path(path)) for path in paths]


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else -1
