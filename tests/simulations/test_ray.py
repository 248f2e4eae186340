"""A simulation and a spread over Ray: the same results as in process, deaths are told, and nothing is left."""

import math
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import psutil
import pytest
from flwr.app import ConfigRecord, Message, RecordDict

from model.federation import load_federation
from model.inputs import InputError
from model.wire import DESCRIBE
from simulations import ray_cluster, ray_grid
from simulations.loopback import FIRST_NODE
from simulations.program import program_digest
from simulations.ray_cluster import _alone, _compare, check_shared, cluster
from simulations.ray_grid import RayGrid
from simulations.run import Settings, simulate
from simulations.spread import Failed, spread
from simulations.sweep.running import Sweep, sweep

DIES = "__import__('os')._exit(3)"
LISTENING = """
import psutil, ray
from simulations.ray_cluster import cluster
with cluster(jobs=1):
    ray.get(ray.remote(lambda: "a worker").remote())
    ours = [psutil.Process(), *psutil.Process().children(recursive=True)]
    print(*{c.laddr.ip for p in ours for c in p.net_connections("tcp") if c.status == psutil.CONN_LISTEN})
"""


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """One cluster of two cores for all slow tests, and a look that nothing of it is left."""
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    with cluster(jobs=2) as module:
        yield module
    left = [p for p in psutil.Process().children(recursive=True) if p.pid not in before]
    assert not [p.cmdline() for p in left if p.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.parametrize("address", ["127.0.0.1:9", "ray://127.0.0.1:9", "ray://nowhere", "127.0.0.1:http"])
def test_an_address_where_nobody_listens_is_told_at_once(address: str) -> None:
    with pytest.raises(InputError, match="--address is not where a Ray cluster listens"):
        list(spread(math.sqrt, [1.0], backend="ray", address=address))


def test_an_address_without_ray_is_refused(small: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--address is of the backend ray alone"):
        Settings(small, tmp_path / "out", address="auto")


def test_a_machine_of_a_cluster_must_have_the_program_and_see_the_files() -> None:
    file, here = Path("lender.parquet"), ("digest", [100])
    _compare("10.0.0.2", [file], here, ("digest", [100]))
    with pytest.raises(InputError, match=r"lender.parquet: is not seen as it is here by a machine .*10\.0\.0\.2"):
        _compare("10.0.0.2", [file], here, ("digest", [-1]))
    for other in (("another", [100]), Failed("silent", "no answer")):
        with pytest.raises(InputError, match=r"without this fedscore \(10\.0\.0\.2\)"):
            _compare("10.0.0.2", [file], here, other)
    assert len(program_digest()) == 64


def test_a_ray_of_ours_that_others_could_reach_is_refused() -> None:
    """Nothing here but its machines' addresses: another version of Ray may choose them in another way."""
    ray_of = [SimpleNamespace(nodes=lambda at=at: [{"NodeManagerAddress": at}]) for at in ("127.0.0.1", "192.0.2.2")]
    _alone(ray_of[0])
    with pytest.raises(InputError, match=r"listens on 192\.0\.2\.2.*set RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0 before"):
        _alone(ray_of[1])


@pytest.mark.slow
def test_a_spread_over_ray_tells_results_errors_and_deaths(ray: Any) -> None:
    threads = "__import__('os').environ['OPENBLAS_NUM_THREADS']"
    given = dict(spread(eval, ["1 / 0", DIES, "6 * 7", threads, "2 ** 8"], backend="ray"))
    assert given.pop("1 / 0") == Failed("ZeroDivisionError", "division by zero")
    assert given.pop(DIES).kind == "died"
    assert given == {"6 * 7": 42, threads: "1", "2 ** 8": 256}


@pytest.mark.slow
def test_a_cluster_of_ours_listens_on_this_machine_only(ray: Any) -> None:
    ours = [psutil.Process(), *psutil.Process().children(recursive=True)]
    ports = [c for p in ours for c in p.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
    assert ports
    assert {c.laddr.ip.removeprefix("::ffff:") for c in ports} == {"127.0.0.1"}


@pytest.mark.slow
def test_it_does_so_too_where_somebody_imported_ray_before_us() -> None:
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LISTENING], capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == 0, ended.stderr
    assert {ip.removeprefix("::ffff:") for ip in ended.stdout.split()} == {"127.0.0.1"}


@pytest.mark.slow
def test_a_simulation_on_ray_gives_the_scores_of_one_in_process(
    ray: Any, small: Path, exact_run: Any, tmp_path: Path
) -> None:
    result = simulate(Settings(small, tmp_path / "out", epsilon=math.inf, backend="ray"))
    assert (result.report["backend"], result.report["failures"]) == ("ray", {})
    assert result.report.keys() == exact_run.report.keys()
    assert result.report["bytes_sent"] == exact_run.report["bytes_sent"]
    one, two = (pl.read_parquet(r.out / "scores.parquet") for r in (result, exact_run))
    assert one["id"].equals(two["id"])
    assert (one["z"] - two["z"]).abs().max() < 1e-5


@pytest.mark.slow
def test_a_simulation_on_ray_spends_just_the_budget(ray: Any, small: Path, tmp_path: Path) -> None:
    report = simulate(Settings(small, tmp_path / "out", backend="ray")).report
    assert 0.99 < report["epsilon"] <= 1.0
    ledgers = {p.parent.name for p in (tmp_path / "out").rglob("ledger.db")}
    assert ledgers == {"coordinator", "lender", *report["partners"]}


@pytest.mark.slow
def test_an_actor_that_dies_comes_back(ray: Any, small: Path, tmp_path: Path) -> None:
    config = Settings(small, tmp_path).run_config(tmp_path)
    grid = RayGrid(ray, [{"partition-id": i, "num-partitions": 5} for i in range(5)], config, 1, actors=2)
    try:
        assert not any(reply.has_error() for reply in grid.send_and_receive(_asked(grid)))
        players = [p for p in psutil.Process().children(recursive=True) if "_Stage" in "".join(p.cmdline())]
        assert len(players) == 2
        players[0].kill()
        replies = list(grid.send_and_receive(_asked(grid), timeout=120))
        assert len(replies) == 5
        assert not any(reply.has_error() for reply in replies)
    finally:
        grid.close()


def _asked(grid: RayGrid) -> list[Message]:
    content = {"config": ConfigRecord({"json": "{}"})}
    return [Message(RecordDict(dict(content)), node, DESCRIBE) for node in grid.get_node_ids()]


@pytest.mark.slow
def test_the_machines_of_a_cluster_are_asked_for_program_and_files(ray: Any, small: Path, tmp_path: Path) -> None:
    check_shared(ray, [tmp_path, small])
    assert list(tmp_path.iterdir()) == []
    assert os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "0"
    assert FIRST_NODE in RayGrid(ray, [{}], {}, 1, actors=1).get_node_ids()


@pytest.mark.slow
def test_a_spread_asks_a_given_cluster_before_it_begins(
    ray: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = [tmp_path, Path("data.parquet")]  # which nobody has as yet, here or there

    def begin(value: float) -> list[object]:
        return list(spread(math.sqrt, [value], backend="ray", address="auto", shared=shared))

    assert begin(4.0) == [(4.0, 2.0)]
    monkeypatch.chdir(tmp_path)
    Path("data.parquet").write_bytes(b"here")
    with pytest.raises(InputError, match=r"data\.parquet: is not seen as it is here"):
        begin(4.0)
    monkeypatch.setattr(ray_cluster, "program_digest", lambda: "another")
    with pytest.raises(InputError, match="without this fedscore"):
        begin(4.0)
    assert [path.name for path in tmp_path.iterdir()] == ["data.parquet"]


@pytest.mark.slow
@pytest.mark.parametrize("command", ["simulate", "sweep"])
def test_a_run_on_a_given_cluster_asks_once_for_all_that_it_reads_and_writes(
    ray: Any, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    asked: list[list[Path]] = []

    def check(ray: Any, paths: Iterable[Path]) -> None:
        asked.append(list(paths))
        check_shared(ray, asked[-1])

    for module in (ray_cluster, ray_grid):
        monkeypatch.setattr(module, "check_shared", check)
    out = tmp_path / "out"
    if command == "simulate":
        simulate(Settings(small, out, epsilon=math.inf, backend="ray", address="auto"))
    else:
        sweep(Sweep((str(small),), out, None, (math.inf,), 1, ("own-block", "apart"), backend="ray", address="auto"))
    federation = load_federation(small)
    files = {*federation.files, *(path for holder in federation.holders for path in holder.data)}
    assert len(federation.files) > 1
    assert len(asked) == 1
    assert {path.resolve() for path in files} < {path.resolve() for path in asked[0]}
    assert any(tmp_path in path.parents for path in asked[0])
