"""An in-process Flower Grid: the same app objects, Flower's own serialisation, no processes and no network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from uuid import uuid4

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import SUPERLINK_NODE_ID, ErrorCode
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.message_pb2 import Message as WireMessage
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

Value = str | bool | int | float
FIRST_NODE = 1000


def numbered(node_configs: Iterable[Mapping[str, Value]]) -> dict[int, Mapping[str, Value]]:
    """Node ids, which count from `FIRST_NODE`, with the configuration of each."""
    return dict(enumerate(node_configs, FIRST_NODE))


class Players:
    """The nodes that one process plays, each with a Flower context of its own; the process makes messages for the run.

    Args:
        app: the ClientApp, called once a message.
        node_configs: by node id.
        run_config: the same for all nodes.
        run_id: of the run.
    """

    def __init__(
        self,
        app: ClientApp,
        node_configs: Mapping[int, Mapping[str, Value]],
        run_config: Mapping[str, Value],
        run_id: int,
    ) -> None:
        self._app = app
        TaskIdentity.run_id, TaskIdentity.task_id, TaskIdentity.node_id = run_id, run_id, SUPERLINK_NODE_ID
        self.contexts = {
            node: Context(
                run_id=run_id,
                node_id=node,
                node_config=dict(config),
                state=RecordDict(),
                run_config=dict(run_config),
            )
            for node, config in node_configs.items()
        }

    def reply(self, message: Message) -> Message:
        """What the app replies to a message, or that it failed."""
        try:
            return self._app(message=message, context=self.contexts[message.metadata.dst_node_id])
        except Exception as error:  # as flwr-clientapp does
            return failure(message, f"{type(error)}:<'{error}'>")


def failure(message: Message, reason: str) -> Message:
    """The reply of a node whose app failed."""
    return Message(Error(code=ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason=reason), reply_to=message)


class LoopbackGrid(Grid):
    """Delivers each message to a ClientApp in this process and keeps the reply until it is pulled.

    Whatever would not survive the wire fails here too: both ways go through Flower's protobuf bytes.

    Args:
        app: the ClientApp, called once a message.
        node_configs: one a node; node ids count from `FIRST_NODE`.
        run_config: the same for all nodes.
        tamper: for tests: sees (node, message) and may answer an error reason, or "silent" for no reply at all.
    """

    def __init__(
        self,
        app: ClientApp,
        node_configs: Iterable[Mapping[str, Value]],
        run_config: Mapping[str, Value],
        tamper: Callable[[int, Message], str | None] = lambda node, message: None,
        run_id: int = 1,
    ) -> None:
        players, self._tamper = Players(app, numbered(node_configs), run_config, run_id), tamper
        self._answer, self._contexts = players.reply, players.contexts
        self._replies: dict[str, Message] = {}
        self._run = Run.create_empty(run_id=run_id)

    def set_run(self, run: Run) -> None:
        """Sets the run, as Flower's own grids do."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run's facts."""
        return self._run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """A message, as Flower's deprecated call makes it."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """All nodes."""
        return list(self._contexts)

    def get_nodes(self) -> Iterable[NodeInfo]:
        """All nodes, online, without names."""
        return [NodeInfo(node_id=n, name="", status="online") for n in self.get_node_ids()]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Delivers the messages at once."""
        ids = []
        for message in messages:
            message.metadata.__dict__["_message_id"] = uuid4().hex
            ids.append(message.metadata.message_id)
            reply = self._deliver(message)
            if reply is not None:
                self._replies[message.metadata.message_id] = reply
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The replies that are there; each is given once."""
        return [self._replies.pop(i) for i in list(message_ids) if i in self._replies]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Pushes and pulls; replies are there at once, so nothing is waited for."""
        del timeout
        return self.pull_messages(self.push_messages(messages))

    def _deliver(self, message: Message) -> Message | None:
        node = message.metadata.dst_node_id
        reason = self._tamper(node, message)
        if reason == "silent":
            return None
        if reason is not None:
            return failure(message, reason)
        return from_wire(to_wire(self._answer(from_wire(to_wire(message)))))


def to_wire(message: Message) -> bytes:
    """A message as Flower sends it."""
    text: bytes = message_to_proto(message).SerializeToString()
    return text


def from_wire(text: bytes) -> Message:
    """A message as Flower receives it."""
    return message_from_proto(WireMessage.FromString(text))
