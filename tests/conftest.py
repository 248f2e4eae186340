"""What the tests share: a small written federation, copies of it to spoil, and the command run in this process."""

from __future__ import annotations

import json
import logging
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests.browser import chromium  # noqa: F401

with warnings.catch_warnings():  # typer's own use of names that click gives up; ours is to fail on warnings of our code
    warnings.simplefilter("ignore", DeprecationWarning)
    import typer  # noqa: F401

PERSONS = 1500


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest tests, those of the documented commands, begin first: no worker waits for them at the end."""
    items.sort(key=lambda item: "test_docs" not in item.nodeid)


@dataclass(frozen=True)
class Files:
    """A federation's folder, with one method for each way to edit it."""

    folder: Path

    @property
    def federation(self) -> Path:
        """The federation file."""
        return self.folder / "federation.toml"

    def text(self, name: str, old: str, new: str) -> Files:
        """Replaces the first `old` in a text file."""
        path = self.folder / name
        before = path.read_text(encoding="utf-8")
        assert old in before, f"{old!r} is not in {name}"
        path.write_text(before.replace(old, new, 1), encoding="utf-8")
        return self

    def toml(self, old: str, new: str) -> Files:
        """Replaces the first `old` in the federation file."""
        return self.text("federation.toml", old, new)

    def table(self, name: str, change: Callable[[pl.DataFrame], pl.DataFrame]) -> Files:
        """Changes a Parquet or CSV table (CSV columns are text)."""
        path = self.folder / name
        if path.suffix == ".csv":
            change(pl.read_csv(path, infer_schema=False)).write_csv(path)
        else:
            change(pl.read_parquet(path)).write_parquet(path)
        return self

    def raw(self, name: str, content: bytes) -> Files:
        """Replaces a file's bytes."""
        (self.folder / name).write_bytes(content)
        return self


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """Its lines on stderr."""
        return self.err.splitlines()


@dataclass(frozen=True)
class Party:
    """One partner of a made-up federation: its table, its features as TOML rows, and keys of its [[partner]]."""

    name: str
    table: pl.DataFrame
    features: Sequence[Mapping[str, Any]]
    domain: str = "payments"
    head: Mapping[str, Any] = field(default_factory=dict)


@pytest.fixture(scope="session")
def _sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from clients.sample import write_sample

    return write_sample(tmp_path_factory.mktemp("small") / "sample", persons=PERSONS).parent


@pytest.fixture(scope="session")
def small(_sample: Path) -> Path:
    """The federation file of a small written sample; nobody may change its folder."""
    return _sample / "federation.toml"


@pytest.fixture
def files(_sample: Path, tmp_path: Path) -> Files:
    """A copy of the small sample, to be edited."""
    shutil.copytree(_sample, tmp_path / "sample")
    return Files(tmp_path / "sample")


@pytest.fixture(scope="session")
def exact_run(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A simulation of the small sample without privacy."""
    from simulations.run import Settings, simulate

    return simulate(Settings(small, tmp_path_factory.mktemp("exact") / "out", epsilon=float("inf")))


@pytest.fixture(scope="session")
def private_run(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A simulation of the small sample with epsilon 1."""
    from simulations.run import Settings, simulate

    return simulate(Settings(small, tmp_path_factory.mktemp("private") / "out"))


@pytest.fixture(scope="session")
def few_steps() -> Callable[[pytest.MonkeyPatch], None]:
    """Makes every training take eight steps, where only what is sent and charged matters."""

    def shorten(monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("MIN_STEPS", "MAX_STEPS"):
            monkeypatch.setattr(f"model.descent.{name}", 8)

    return shorten


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, few_steps: Callable[[pytest.MonkeyPatch], None]) -> None:
    """This test trains for a few steps only."""
    few_steps(monkeypatch)


@pytest.fixture
def run_cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Runs `fedscore ARGUMENTS` in this process."""
    from simulations.cli import main

    def run(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["fedscore", *map(str, arguments)])
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        return Ended(code, *capsys.readouterr())

    return run


@pytest.fixture(autouse=True)
def _logging_restored() -> Iterator[None]:
    """No test leaves a handler or a level behind on the loggers that simulations use."""
    loggers = [logging.getLogger(name) for name in ("fedscore.server", "fedscore.clients", "flwr")]
    before = [(logger, logger.level, list(logger.handlers)) for logger in loggers]
    yield
    for logger, level, handlers in before:
        logger.setLevel(level)
        logger.handlers[:] = handlers


@pytest.fixture
def write_federation(tmp_path: Path) -> Callable[..., Files]:
    """Writes a made-up federation: the lender's labels and any partners; the lender has no block of its own."""

    def write(labels: pl.DataFrame, *parties: Party, head: str = 'split = "split"', privacy: str = "") -> Files:
        folder = tmp_path / "made"
        folder.mkdir()
        labels.write_parquet(folder / "labels.parquet")
        lines = [f'[federation]\nname = "made"\n{head}\n[privacy]\n{privacy}\n[lender]\ndata = ["labels.parquet"]']
        for party in parties:
            party.table.write_parquet(folder / f"{party.name}.parquet")
            rows = {"name": party.name, "domain": party.domain, "data": f"{party.name}.parquet"}
            rows["contract"] = f"{party.domain}.contract.toml"
            lines.append("[[partner]]\n" + _table(rows))
            contract = [_table({"domain": party.domain, "version": 1, **party.head})]
            contract += ["[[feature]]\n" + _table(feature) for feature in party.features]
            (folder / rows["contract"]).write_text("\n".join(contract))
        (folder / "federation.toml").write_text("\n".join(lines))
        return Files(folder)

    return write


@pytest.fixture
def persons() -> Callable[..., tuple[pl.DataFrame, np.ndarray]]:
    """Draws a lender's labels with split, and the hidden risk behind them."""

    def draw(count: int = 600, seed: int = 3) -> tuple[pl.DataFrame, np.ndarray]:
        rng = np.random.default_rng(seed)
        risk = rng.normal(size=count)
        label = (rng.random(count) < 1 / (1 + np.exp(1.0 - 1.5 * risk))).astype(np.int8)
        split = np.where(np.arange(count) % 3 < 2, "train", "test")
        return pl.DataFrame({"id": [f"{i:05d}" for i in range(count)], "label": label, "split": split}), risk

    return draw


@dataclass
class Stage:
    """A run that has been described, planned and aligned; every message can now be sent by hand."""

    grid: Any
    exchange: Any
    roster: Any
    plan: Any
    parcels: dict[str, Mapping[str, bytes]]
    state: Path

    def document(self, line: str, **changes: Any) -> dict[str, Any]:
        """The plan's document, changed: `release__x` and `schedule__x` of the line, other keys of the whole."""
        document: dict[str, Any] = json.loads(json.dumps(self.plan.document))
        for key, value in changes.items():
            table, _, last = key.rpartition("__")
            lines = {row["name"]: row for row in document["lines"]}
            {"": document, "release": lines[line], "schedule": document["schedules"].get(line)}[table][last] = value
        return document

    def train(self, name: str, round_number: int = 1, **changes: Any) -> Any:
        """The post that asks a holder for one round, with parts of its order or of its plan changed."""
        from flwr.app import Array, ArrayRecord

        from model import blocks
        from server.exchange import Post

        member = self.roster.members[name]
        order = {"holder": name, "block": member.domain, "round": round_number, "edges": {}, "witness": None}
        own = {key: changes.pop(key) for key in list(changes) if key in order}
        order |= own | {"plan": self.document(f"{member.domain}/{name}", **changes)}
        start = blocks.start(self.plan.engine, member.encoding, np.random.default_rng(0))
        arrays = ArrayRecord({f"{member.domain}/last": Array(start)})
        if order["plan"] != self.plan.document:  # what was sealed opens for its own plan only
            self.deliver(name)
        return Post(name, member.node, order, arrays, dict(self.parcels.get(name, {})))

    def deliver(self, name: str) -> None:
        """Brings a partner what the lender sealed for it under the true plan, unless it was brought before."""
        from server.exchange import Post

        if sealed := self.parcels.pop(name, {}):
            order = {"holder": name, "plan": self.plan.document}
            self.send("query.presence", Post(name, self.roster.members[name].node, order, None, sealed))

    def send(self, kind: str, post: Any) -> Any:
        """The raw reply to one question, or None."""
        replies = list(self.grid.send_and_receive([self.exchange.message(kind, post)]))
        return replies[0] if replies else None


@pytest.fixture
def stage(tmp_path: Path) -> Callable[..., Stage]:
    """Takes a federation through describe, align and plan over an in-process grid, one node a holder."""

    def made(federation: Path, tamper: Any = None, rounds: int = 0, **config: Any) -> Stage:
        from clients.app import app
        from server.config import RunConfig
        from server.phases import Programme
        from server.planning import make_plan
        from server.preparing import hand_out, tell_homes
        from server.roster import discover
        from simulations.loopback import LoopbackGrid

        count = federation.read_text(encoding="utf-8").count("[[partner]]") + 1
        settings = {"federation": str(federation), "out": str(tmp_path / "state"), "wait": 0.1, **config}
        nodes = [{"partition-id": i, "num-partitions": count} for i in range(count)]
        grid = LoopbackGrid(app, nodes, settings, **({"tamper": tamper} if tamper else {}))
        run = Programme(grid, RunConfig.parse(settings))
        roster = run._agreed(discover(run.exchange, grid, 0.1))
        plan = make_plan(roster, run.settings.engine, rounds)
        parcels, _ = hand_out(run.exchange, roster, plan, {})
        tell_homes(run.exchange, roster, plan, parcels)
        return Stage(grid, run.exchange, roster, plan, parcels, tmp_path / "state" / "nodes")

    return made


@pytest.fixture
def party() -> type[Party]:
    """The class of a made-up partner."""
    return Party


def _table(rows: Mapping[str, Any]) -> str:
    return "\n".join(f"{key} = {json.dumps(value)}" for key, value in rows.items())
