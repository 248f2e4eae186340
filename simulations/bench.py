"""`fedscore bench speed`: whole runs on public data sets, measured and never as timed tests."""

from __future__ import annotations

import math
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from model.blocks import CLIP_NORM, HIDDEN
from simulations.datasets import DataSet
from simulations.run import simulate
from simulations.settings import Settings

ROWS = (50_000, 100_000, 200_000, 400_000)


@dataclass(frozen=True)
class Timing:
    """One line of the speed table: a whole run in a process of its own."""

    name: str
    train_rows: int
    seconds: float
    memory_gib: float
    auc: float | None


def speed(data: DataSet, rows: Sequence[int] = ()) -> list[Timing]:
    """Wall seconds and peak memory of whole runs, on all rows or cut to these numbers of training rows."""
    if not rows:
        return [_timed(data, data.data, data.name)]
    timings = []
    for count in rows:
        with tempfile.TemporaryDirectory(prefix="fedscore-bench-") as folder:
            _shorten(data, Path(folder), count)
            timings.append(_timed(data, Path(folder), f"{data.name}, {count:,} rows"))
    return timings


def _timed(data: DataSet, folder: Path, name: str) -> Timing:
    code = "import sys; from simulations.bench import child; child(*sys.argv[1:])"
    command = [sys.executable, "-c", code, str(data.federation), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1])
    rows, seconds, memory, auc = done.stdout.split()[-4:]
    return Timing(name, int(rows), float(seconds), float(memory), None if auc == "None" else float(auc))


def child(federation: str, data: str) -> None:
    """One run in this process, whose time from start and peak memory are printed: for `speed`."""
    import time

    import psutil

    with tempfile.TemporaryDirectory(prefix="fedscore-bench-") as folder:
        report = simulate(Settings(Path(federation), Path(folder) / "out", Path(data), epsilon=1.0)).report
    seconds = time.time() - psutil.Process().create_time()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(report["persons"]["train"], f"{seconds:.2f}", f"{memory:.3f}", report["auc"])


def _shorten(data: DataSet, folder: Path, rows: int) -> None:
    """Copies the set with only its first `rows` training rows, and the same share of the held-out ones."""
    for path in data.data.glob("*.parquet"):
        shutil.copy(path, folder)
    labels = pl.read_parquet(data.data / "labels.parquet")
    train = pl.col("split") == "train"
    share = rows / labels.filter(train).height
    place = pl.int_range(pl.len()).over("split")
    kept = pl.col("split").ne("drop") & (place < pl.len().over("split") * share)
    labels.with_columns(split=pl.when(kept).then("split").otherwise(pl.lit("drop"))).write_parquet(
        folder / "labels.parquet"
    )


def network_steps(batch: int = 1024, columns: int = 100, repeats: int = 30) -> dict[str, float]:
    """Milliseconds of one step of the network block: plain SGD, our private sum, Opacus hooks; medians, interleaved."""
    import time

    import torch

    from model import network

    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    shape = network.Shape(columns, HIDDEN)
    theta = network.init(shape, rng)
    x = rng.standard_normal((batch, columns)) / math.sqrt(columns)
    y = (rng.random(batch) < 0.2).astype(np.float64)
    plain = torch.nn.Sequential(torch.nn.Linear(columns, HIDDEN[0]), torch.nn.Tanh(), torch.nn.Linear(HIDDEN[0], 1))
    plain = plain.double()
    optimiser = torch.optim.SGD(plain.parameters(), lr=0.1, momentum=0.9)
    tx, ty = torch.from_numpy(x), torch.from_numpy(y)

    def sgd() -> None:
        optimiser.zero_grad()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(plain(tx)[:, 0], ty, reduction="sum")
        torch.autograd.backward(loss)
        optimiser.step()

    steps: dict[str, Callable[[], object]] = {
        "plain": sgd,
        "network": lambda: network.clipped_sum(theta, x, y, shape, CLIP_NORM),
        "opacus": lambda: network.clipped_sum_opacus(theta, x, y, shape, CLIP_NORM),
    }
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(repeats):
        for name, step in steps.items():
            began = time.perf_counter()
            step()
            times[name].append((time.perf_counter() - began) * 1000)
    return {name: float(np.median(values)) for name, values in times.items()}
