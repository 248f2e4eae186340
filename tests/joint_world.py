"""A small federation for the joint fit's tests: files, exact numbers by plain numpy, and runs that can be cut."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from flwr.app import ConfigRecord, Message, RecordDict

from clients.app import app
from clients.config import Node
from model.moments import smooth
from server.config import RunConfig
from server.joint import CuratorFit, SecureFit
from server.phases import Programme
from simulations.loopback import FIRST_NODE, LoopbackGrid
from tests.envelopes import anew

PERSONS, TRAINED, CHUNK = 400, 300, 77
EDGES = {"spend": (100.0, 300.0, 900.0), "orders": (2.0, 5.0), "age": (30.0, 50.0)}
UNIT, LABEL = 1024, 2048
MARK_ID, MARK_VALUE = "MARKER-ID-77", 321.987654
Tamper = Callable[[int, Message], str | None]


@dataclass(frozen=True)
class World:
    """The written files; names of holders stand in the order of their nodes."""

    folder: Path
    own: bool
    tables: dict[str, pl.DataFrame]
    holders = ("lender", "pay-1", "pay-2", "shop")

    @property
    def federation(self) -> Path:
        return self.folder / "federation.toml"

    def exact(self, homes: Mapping[str, np.ndarray]) -> np.ndarray:
        """Integer rows of the training persons, from the files alone: lender, then payments, then shopping."""
        train = self.tables["lender"].head(TRAINED)
        label = (train["label"] == 1).to_numpy().astype(np.int64) * LABEL
        blocks = [np.full((TRAINED, 1), UNIT), label[:, None]]
        if self.own:
            blocks.append(_numeric(train["age"].to_list(), EDGES["age"]))
        blocks.append(sum(self._rows(n, "spend", "late", homes[n]) for n in ("pay-1", "pay-2")))
        blocks.append(self._rows("shop", "orders", "card", np.ones(TRAINED, bool)))
        return np.concatenate(blocks, axis=1).astype(np.int64)

    def _rows(self, name: str, numeric: str, flag: str, home: np.ndarray) -> np.ndarray:
        ids = self.tables["lender"].head(TRAINED).select("id").with_row_index("place")
        table = ids.join(self.tables[name], on="id", how="left", maintain_order="left")
        here = table[flag].is_not_null().to_numpy() & home
        one_hot = np.zeros((TRAINED, 4), dtype=np.int64)
        one_hot[np.arange(TRAINED), table[flag].fill_null(0).to_numpy()] = UNIT
        columns = [np.full((TRAINED, 1), UNIT // 2), _numeric(table[numeric].to_list(), EDGES[numeric]), one_hot]
        return np.concatenate(columns, axis=1) * here[:, None]


def _numeric(values: list[float | None], edges: tuple[float, ...]) -> np.ndarray:
    """Smooth columns and one for a missing value."""
    basis = np.rint(smooth(len(edges) + 1) * UNIT).astype(np.int64)
    out = np.zeros((len(values), basis.shape[1] + 1), dtype=np.int64)
    for i, value in enumerate(values):
        if value is None:
            out[i, -1] = UNIT
        else:
            out[i, :-1] = basis[sum(value >= edge for edge in edges)]
    return out


def write_world(folder: Path, own: bool = True, head: str = "", epsilon: str = "1.0") -> World:
    """Two home partners that share persons, a shop with half of them, a lender with or without columns of its own."""
    folder.mkdir()
    rng = np.random.default_rng(11)
    risk = rng.normal(size=PERSONS)
    ids = [MARK_ID, *(f"{i:05d}" for i in range(1, PERSONS))]
    label = (rng.random(PERSONS) < 1 / (1 + np.exp(0.8 - 1.5 * risk))).astype(np.int8)
    split = ["train"] * TRAINED + ["test"] * (PERSONS - TRAINED)
    spend = np.exp(5.5 - risk + 0.3 * rng.normal(size=PERSONS)).clip(0, 9999)
    spend[0] = MARK_VALUE
    late = (risk + rng.normal(size=PERSONS) > 0.7).astype(np.int64)
    orders = (4 - risk + rng.normal(size=PERSONS)).clip(0, 99)
    age: list[float | None] = (40 - 5 * risk + 8 * rng.normal(size=PERSONS)).clip(18, 99).tolist()
    age[5] = age[310] = None
    everybody = {"id": ids, "spend": spend, "late": late, "orders": orders, "card": 1 - late}
    frame = pl.DataFrame(everybody).with_columns(
        spend=pl.when(pl.int_range(pl.len()) % 17 == 3).then(None).otherwise("spend")
    )
    tables = {
        "lender": pl.DataFrame({"id": ids, "label": label, "split": split, "age": age}),
        "pay-1": frame.select("id", "spend", "late").head(250).sample(fraction=1.0, shuffle=True, seed=1),
        "pay-2": frame.select("id", "spend", "late").tail(250).sample(fraction=1.0, shuffle=True, seed=2),
        "shop": frame.select("id", "orders", "card").gather_every(2),
    }
    for name, table in tables.items():
        table.write_parquet(folder / f"{name}.parquet")
    _contract(folder, "own", ("age", None))
    _contract(folder, "payments", ("spend", "late"))
    _contract(folder, "shopping", ("orders", "card"))
    lines = ['[federation]\nname = "made"\nsplit = "split"', f"[privacy]\nepsilon = {epsilon}\n{head}", "[lender]"]
    lines.append('data = ["lender.parquet"]' + ('\ncontract = "own.contract.toml"' if own else ""))
    for name, domain in (("pay-1", "payments"), ("pay-2", "payments"), ("shop", "shopping")):
        rows = {"name": name, "domain": domain, "data": f"{name}.parquet", "contract": f"{domain}.contract.toml"}
        lines.append("[[partner]]\n" + "\n".join(f"{k} = {json.dumps(v)}" for k, v in rows.items()))
    (folder / "federation.toml").write_text("\n".join(lines))
    return World(folder, own, tables)


def _contract(folder: Path, domain: str, names: tuple[str, str | None]) -> None:
    numeric, flag = names
    lines = [f'domain = "{domain}"\nversion = 1', f'[[feature]]\nname = "{numeric}"\nkind = "numeric"']
    lines.append(f'range = [0, 9999]\nedges = {json.dumps(EDGES[numeric])}\ngroup = "g_{numeric}"')
    lines += [f'[[feature]]\nname = "{flag}"\nkind = "flag"\ngroup = "g_{flag}"'] if flag else []
    (folder / f"{domain}.contract.toml").write_text("\n".join(lines))


@dataclass
class Run:
    """One run over an in-process grid, and what was opened in it."""

    world: World
    out: Path
    epsilon: float
    trust: str = "secure"
    ledger: Path | None = None
    tamper: Tamper = lambda node, message: None
    lose: Callable[[int, Message], bool] = lambda node, message: False  # the reply, after the work was done
    matrix: Any = None
    gradients: list[Any] = field(default_factory=list)
    outcome: Any = None
    table: Any = None
    messages: list[tuple[str, int, Message]] = field(default_factory=list)
    replies: list[tuple[str, int, Message]] = field(default_factory=list)

    def go(self) -> Run:
        self.sent, settings = self.grid()
        self.programme = Programme(self.sent, settings)
        with self._seen():
            self.outcome = self.programme.run()
        return self

    def grid(self) -> tuple[LoopbackGrid, RunConfig]:
        config = {
            **{"federation": str(self.world.federation), "out": str(self.out), "epsilon": str(self.epsilon)},
            **{"engine": "moments", "trust": self.trust, "wait": 0.1, "ledger": str(self.ledger or "")},
        }
        told, heard, lose = self.messages, self.replies, self.lose

        class Ear(LoopbackGrid):
            def _deliver(self, message: Message) -> Message | None:
                reply = super()._deliver(message)
                place = (message.metadata.message_type, message.metadata.dst_node_id)
                told.append((*place, message))
                if reply is None or lose(place[1], message):
                    return None
                heard.append((*place, reply))
                return reply

        nodes = [{"partition-id": i, "num-partitions": 4} for i in range(4)]
        return Ear(app, nodes, config, tamper=self.tamper), RunConfig.parse(config)

    def again(self, kind: str, name: str, change: Callable[[dict[str, Any], Any], None], nth: int = 0) -> Any:
        """The reply to the nth message of a kind to a holder, sent anew with order and record changed: its record."""
        node = node_of(self.world, name)
        old = [m for k, n, m in self.messages if (k, n) == (kind, node)][nth]
        record = ConfigRecord(dict(old.content.config_records["config"]))
        order = json.loads(str(record["json"]))
        change(order, record)
        record["json"] = json.dumps(order)
        content = RecordDict({**{k: v for k, v in old.content.items() if k != "config"}, "config": record})
        reply = next(iter(self.sent.send_and_receive([anew(self.programme.exchange, content, node, kind)])))
        return reply.content.config_records["config"]

    def node(self, name: str) -> Node:
        """The node that plays a holder, as its own process would see it."""
        config = {"federation": str(self.world.federation), "out": str(self.out), "epsilon": str(self.epsilon)}
        place = {"partition-id": self.world.holders.index(name), "num-partitions": 4}
        return Node.of(place, config | ({"ledger": str(self.ledger)} if self.ledger else {}), 1)

    @contextmanager
    def _seen(self) -> Iterator[None]:
        """Keeps what the coordinator opens."""
        run = self
        with pytest.MonkeyPatch.context() as patch:
            for kind in (SecureFit, CuratorFit):
                moments, gradient = kind.moments, kind.gradient

                def opened(fit: Any, moments: Any = moments) -> Any:
                    run.table = fit.table
                    run.matrix = moments(fit)
                    return run.matrix

                def asked(fit: Any, step: int, link: Any, points: Any, gradient: Any = gradient) -> Any:
                    found = gradient(fit, step, link, points)
                    run.gradients.append((link, {k: v.copy() for k, v in points.items()}, found))
                    return found

                patch.setattr(kind, "moments", opened)
                patch.setattr(kind, "gradient", asked)
            yield

    @property
    def homes(self) -> dict[str, np.ndarray]:
        """Of the training persons, whose home each partner was told that it is."""
        found = {}
        for name in ("pay-1", "pay-2"):
            with np.load(self.out / "nodes" / name / "home.npz") as told:
                found[name] = told["home"][:TRAINED]
        return found

    def book(self, holder: str) -> Path:
        return (self.ledger or self.out / "nodes") / holder / "ledger.db"


def node_of(world: World, name: str) -> int:
    return FIRST_NODE + world.holders.index(name)
