"""Which holders a node plays, where their files and state lie, and the ceilings that no run can raise."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from clients.files import stamps
from clients.nodefile import Limits, NodeFile
from clients.sample import write_sample
from model.federation import Federation, Holder, load_federation
from model.inputs import InputError, whole
from model.terms import check_delta, check_epsilon

Value = str | bool | int | float | bytes
ALIGNMENTS = ("psi", "tokens")


@dataclass(frozen=True)
class Node:
    """One node's own view of a run.

    Attributes:
        federation: the file, of which a real node needs only its own part.
        holders: the names this node plays; one in a deployment, several in a small simulation.
        state: folder for keys and the aligned cohort; one sub-folder a holder.
        ledgers: folder for what must outlive a run: ledgers, told labels, homes; one sub-folder a holder.
        epsilon: ceiling of each holder's own lines; infinite only in a simulation.
        total: of all holders' lines on one person.
        simulated: whether the node is one of a simulation, which alone may run without noise.
        programme: names everything released under one budget.
        seed: of the split where the federation gives none, and of initialisation; never of noise.
        coordinator: verify key of whose orders alone are obeyed, 32 bytes; empty where the node joined nobody: one of a
            simulation then takes orders by whatever key they announce, a real one takes none.
        seals: by holder, its sealing key as the welcome tells that the node accepted last; of no use in a simulation.
        limits: what else it holds to, whatever a run asks.
        applicants: the lender's file of new applicants, if it has one.
        alignment: how persons are found that two holders share: psi, or tokens in a simulation.
    """

    federation: Federation
    holders: tuple[str, ...]
    state: Path
    ledgers: Path
    epsilon: float
    total: float
    delta: float
    simulated: bool
    programme: str
    seed: int
    coordinator: bytes = b""
    seals: Mapping[str, bytes] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    applicants: Path | None = None
    alignment: str = "psi"

    @classmethod
    def of(cls, node_config: Mapping[str, Value], run_config: Mapping[str, Value], run_id: int) -> Node:
        """The node that Flower's two configurations describe; its own beats the run's.

        Raises:
            InputError: naming the key.
        """
        if "node" in node_config:
            return cls.own(NodeFile.load(Path(str(node_config["node"]))))
        if "num-partitions" not in node_config:  # never fall into a simulation by a misspelt key
            raise InputError("node configuration", "node", "is missing", remedy="give the path of its node.toml")
        seed = whole("run configuration", "seed", run_config.get("seed", 0))
        federation = run_federation(run_config)
        epsilon, delta = run_budget(federation, run_config)
        index = whole("node configuration", "partition-id", node_config.get("partition-id", 0))
        nodes = max(1, whole("node configuration", "num-partitions", node_config.get("num-partitions", 1)))
        names = tuple(h.name for h in federation.holders[index::nodes])
        out, durable = str(run_config.get("out", "")), str(run_config.get("ledger", ""))
        state = Path(out) / "nodes" if out else Path(tempfile.gettempdir()) / f"fedscore-run-{run_id}"
        node = cls(federation, names, state, state, epsilon, epsilon, delta, True, f"{federation.name}-{run_id}", seed)
        given = str(run_config.get("applicants", ""))
        node = replace(node, alignment=run_alignment(run_config), applicants=Path(given) if given else None)
        return node._lasting(Path(durable)) if durable else node

    @classmethod
    def own(cls, file: NodeFile) -> Node:
        """The node of a deployment that its own file describes, obeying the coordinator that it joined.

        Raises:
            InputError: where the file, or what it points to, cannot be used, or where the node joined nobody.
        """
        coordinator, seals = file.coordinator(), file.seals()
        federation = file.read_federation()
        file.refuse_full_disk()
        terms = federation.privacy
        epsilon = terms.epsilon if file.epsilon is None else file.epsilon
        if math.isinf(epsilon) or math.isinf(terms.epsilon):
            raise InputError(file.path, "limits.epsilon", "must be finite outside a simulation", "inf")
        return cls(
            federation=federation,
            holders=(federation.holder(file.holder).name,),
            state=file.state,
            ledgers=file.state,
            epsilon=epsilon,
            total=terms.epsilon,
            delta=terms.delta,
            simulated=False,
            programme=file.programme or programme_of(federation, file.seed),
            seed=file.seed,
            coordinator=coordinator,
            seals=seals,
            limits=file.limits,
            applicants=file.applicants,
        )

    def _lasting(self, ledgers: Path) -> Node:
        """This simulated node on ledgers that span runs, under the federation file's own budget."""
        terms = self.federation.privacy
        if math.isinf(self.epsilon) or math.isinf(terms.epsilon):
            raise InputError("command line", "--ledger", "cannot be given without privacy", "inf", "give an epsilon")
        programme = programme_of(self.federation, self.seed)
        return replace(self, ledgers=ledgers, epsilon=terms.epsilon, total=terms.epsilon, programme=programme)

    def holder(self, name: str) -> Holder:
        """The holder of that name, which this node must play."""
        if name not in self.holders:
            raise InputError("node configuration", "holder", "is not played by this node", name)
        return self.federation.holder(name)

    def folder(self, name: str) -> Path:
        """Where a holder's key and cohort lie."""
        return _private(self.state / name)

    def durable(self, name: str) -> Path:
        """Where a holder's ledger lies, and what else must outlive a run."""
        return _private(self.ledgers / name)

    def with_edges(self, name: str, edges: Mapping[str, Sequence[float]]) -> Node:
        """This node with the private bin edges of a holder's features filled in."""
        if not edges:
            return self
        filled = {
            h.name: replace(h, contract=h.contract.with_edges(edges)) if h.name == name and h.contract else h
            for h in self.federation.holders
        }
        partners = tuple(filled[p.name] for p in self.federation.partners)
        federation = replace(self.federation, lender=filled[self.federation.lender.name], partners=partners)
        return replace(self, federation=federation)


def _private(folder: Path) -> Path:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def programme_of(federation: Federation, seed: int) -> str:
    """The name of everything released about a federation's persons; another split is another programme."""
    pinned = federation.split or federation.cut
    return federation.name if pinned else f"{federation.name}, split {seed}"


def run_federation(run_config: Mapping[str, Value]) -> Federation:
    """The federation that a simulation's configuration names; the embedded sample where it names none."""
    path, data = str(run_config.get("federation", "")), str(run_config.get("data", ""))
    if path:
        return _federation(path, data)
    return load_federation(write_sample(Path(tempfile.gettempdir()) / f"fedscore-sample-{os.getuid()}"))


def _federation(path: str, data: str) -> Federation:
    """A federation file as read before, as long as it and its contracts stay as they are: every message asks for it."""
    known = _read.get((path, data))
    if known is None or known[0] != stamps(known[1].files):
        federation = load_federation(Path(path), Path(data) if data else None)
        _read.clear()
        known = _read[path, data] = stamps(federation.files), federation
    return known[1]


_read: dict[tuple[str, str], tuple[tuple[object, ...], Federation]] = {}


def run_budget(federation: Federation, run_config: Mapping[str, Value]) -> tuple[float, float]:
    """Epsilon and delta: the run's where it gives them (as text or number), else the federation's."""
    given, delta = run_config.get("epsilon", ""), run_config.get("delta", "")
    return (
        federation.privacy.epsilon if given == "" else check_epsilon("run configuration", "epsilon", given),
        federation.privacy.delta if delta == "" else check_delta("run configuration", "delta", delta),
    )


def run_alignment(run_config: Mapping[str, Value]) -> str:
    """How a simulation aligns: by tokens, which are fast, where its configuration leaves it open."""
    alignment = str(run_config.get("alignment", "")) or "tokens"
    if alignment not in ALIGNMENTS:
        raise InputError("run configuration", "alignment", "must be " + " | ".join(ALIGNMENTS), alignment)
    return alignment
