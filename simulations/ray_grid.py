"""A Flower Grid whose nodes are played by Ray actors: as many as the cluster has cores, several holders each.

The nodes' state lies in the run's folder, as in process: on a cluster of several machines that folder, and the data,
are on a disk that all of them share.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

from flwr.app import Message
from flwr.clientapp import ClientApp

from clients.config import Node
from simulations.loopback import LoopbackGrid, Players, Value, failure, from_wire, numbered, to_wire
from simulations.preflight import RUN_ID
from simulations.ray_cluster import check_shared, cluster, room

_RESTARTS = 3  # of an actor that died: its nodes' state is on the disk
_AGAIN = 1  # the message in hand is played once more: a node whose noise was drawn already refuses by its ledger


@contextmanager
def playing(
    address: str, nodes: Iterable[Mapping[str, Value]], config: Mapping[str, Value], node: Node
) -> Iterator[RayGrid]:
    """A grid over a cluster, which is started and ended here where no address is given.

    Args:
        address: of a cluster, or empty.
        nodes: one configuration a node.
        config: the run's.
        node: one that plays all holders, for what a run reads and writes.

    Raises:
        InputError: where the cluster cannot be used, or does not see the run's files.
    """
    with cluster(address) as ray:
        if address:
            federation = node.federation
            data = [path for holder in federation.holders for path in holder.data]
            check_shared(ray, [node.state.parent, *federation.files, *data])
        grid = RayGrid(ray, nodes, config, RUN_ID, room(ray))
        try:
            yield grid
        finally:
            grid.close()


class RayGrid(LoopbackGrid):
    """Sends each message to the actor that plays its node; both ways go through Flower's protobuf bytes.

    Args:
        ray: the module, connected to a cluster.
        node_configs: one a node.
        run_config: the same for all nodes.
        run_id: of the run.
        actors: how many play them, at most.
    """

    def __init__(
        self,
        ray: Any,
        node_configs: Iterable[Mapping[str, Value]],
        run_config: Mapping[str, Value],
        run_id: int,
        actors: int,
    ) -> None:
        super().__init__(ClientApp(), (), run_config, run_id=run_id)  # which plays nobody itself
        configs = numbered(node_configs)
        count = min(actors, len(configs))
        parts = [dict(list(configs.items())[i::count]) for i in range(count)]
        stage = ray.remote(num_cpus=1, max_restarts=_RESTARTS, max_task_retries=_AGAIN)(_Stage)
        self._ray = ray
        self._stages = [stage.remote(part, dict(run_config), run_id) for part in parts]
        self._of = {node: self._stages[i] for i, part in enumerate(parts) for node in part}
        self._sent: dict[str, tuple[Message, Any]] = {}

    def get_node_ids(self) -> Iterable[int]:
        """All nodes."""
        return sorted(self._of)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Hands the messages to the actors and waits for none."""
        ids = []
        for message in messages:
            name = message.metadata.__dict__["_message_id"] = uuid4().hex
            self._sent[name] = message, self._of[message.metadata.dst_node_id].reply.remote(to_wire(message))
            ids.append(name)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The replies that are there; each is given once."""
        return self._pulled(message_ids, 0.0)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Pushes the messages and waits for all replies, or until the time is over."""
        return self._pulled(self.push_messages(messages), timeout)

    def close(self) -> None:
        """Ends the actors."""
        for stage in self._stages:
            self._ray.kill(stage)

    def _pulled(self, message_ids: Iterable[str], timeout: float | None) -> list[Message]:
        asked = {self._sent[i][1]: i for i in message_ids if i in self._sent}
        if not asked:
            return []
        done, _ = self._ray.wait(list(asked), num_returns=len(asked), timeout=timeout)
        return [self._reply(*self._sent.pop(asked[reference])) for reference in done]

    def _reply(self, message: Message, reference: Any) -> Message:
        try:
            return from_wire(self._ray.get(reference))
        except self._ray.exceptions.RayError as error:
            return failure(message, type(error).__name__)


class _Stage:
    """An actor: plays some of the nodes."""

    def __init__(self, nodes: Mapping[int, Mapping[str, Value]], run_config: Mapping[str, Value], run_id: int) -> None:
        from clients.app import app

        self._players = Players(app, nodes, run_config, run_id)

    def reply(self, message: bytes) -> bytes:
        return to_wire(self._players.reply(from_wire(message)))
