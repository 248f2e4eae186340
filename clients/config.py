"""Which holders a node plays, where their files and state lie, and the ceilings that no run can raise."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from clients.sample import write_sample
from model.federation import Federation, Holder, check_delta, check_epsilon, load_federation
from model.inputs import InputError, whole

Value = str | bool | int | float | bytes


@dataclass(frozen=True)
class Node:
    """One node's own view of a run.

    Attributes:
        federation: the file, of which a real node needs only its own part.
        holders: the names this node plays; one in a deployment, several in a small simulation.
        state: folder for ledgers, keys and the aligned cohort; one sub-folder a holder.
        epsilon: ceiling of each holder's ledger; infinite only in a simulation.
        simulated: whether the node is one of a simulation, which alone may run without noise.
        programme: names everything released under one budget.
        seed: of the split where the federation gives none, and of initialisation; never of noise.
    """

    federation: Federation
    holders: tuple[str, ...]
    state: Path
    epsilon: float
    delta: float
    simulated: bool
    programme: str
    seed: int

    @classmethod
    def of(cls, node_config: Mapping[str, Value], run_config: Mapping[str, Value], run_id: int) -> Node:
        """The node that Flower's two configurations describe; its own beats the run's.

        Raises:
            InputError: naming the key.
        """
        if "holder" in node_config:
            seed = whole("node configuration", "seed", node_config.get("seed", 0))
            federation = load_federation(Path(str(node_config["federation"])))
            epsilon = check_epsilon("node configuration", "epsilon", node_config.get("epsilon", federation.epsilon))
            if math.isinf(epsilon):
                raise InputError("node configuration", "epsilon", "must be finite outside a simulation", epsilon)
            name = federation.holder(str(node_config["holder"])).name
            state = Path(str(node_config["state"]))
            programme = str(node_config.get("programme", federation.name))
            return cls(federation, (name,), state, epsilon, federation.delta, False, programme, seed)
        if "num-partitions" not in node_config:  # never fall into a simulation by a misspelt key
            raise InputError("node configuration", "holder", "is missing", remedy="name the holder this node plays")
        seed = whole("run configuration", "seed", run_config.get("seed", 0))
        federation = run_federation(run_config)
        epsilon, delta = run_budget(federation, run_config)
        index = whole("node configuration", "partition-id", node_config.get("partition-id", 0))
        nodes = max(1, whole("node configuration", "num-partitions", node_config.get("num-partitions", 1)))
        names = tuple(h.name for h in federation.holders[index::nodes])
        out = str(run_config.get("out", ""))
        state = Path(out) / "nodes" if out else Path(tempfile.gettempdir()) / f"fedscore-run-{run_id}"
        return cls(federation, names, state, epsilon, delta, True, f"{federation.name}-{run_id}", seed)

    def holder(self, name: str) -> Holder:
        """The holder of that name, which this node must play."""
        if name not in self.holders:
            raise InputError("node configuration", "holder", "is not played by this node", name)
        return self.federation.holder(name)

    def folder(self, name: str) -> Path:
        """Where a holder's ledger, key and cohort lie."""
        folder = self.state / name
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder


def run_federation(run_config: Mapping[str, Value]) -> Federation:
    """The federation that a simulation's configuration names; the embedded sample where it names none."""
    path = str(run_config.get("federation", ""))
    data = str(run_config.get("data", ""))
    if path:
        return load_federation(Path(path), Path(data) if data else None)
    return load_federation(write_sample(Path(tempfile.gettempdir()) / f"fedscore-sample-{os.getuid()}"))


def run_budget(federation: Federation, run_config: Mapping[str, Value]) -> tuple[float, float]:
    """Epsilon and delta: the run's where it gives them (as text or number), else the federation's."""
    given, delta = run_config.get("epsilon", ""), run_config.get("delta", "")
    return (
        federation.epsilon if given == "" else check_epsilon("run configuration", "epsilon", given),
        federation.delta if delta == "" else check_delta("run configuration", "delta", delta),
    )
