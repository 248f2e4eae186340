"""The ClientApp of a data holder's node: wiring only."""

from __future__ import annotations

from pathlib import Path

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

import model
import privacy
from clients.handlers import KINDS, answer

for package in (model, privacy):  # Flower puts several folders on the path: never mix two versions
    if Path(package.__path__[0]).resolve().parent != Path(__file__).resolve().parents[1]:
        raise ImportError(f"{package.__name__} comes from another folder than clients; start from one copy of fedscore")

app = ClientApp()


def _register(kind: str) -> None:
    """Has one kind of message answered; what each asks and tells is said in `model.wire`."""
    method, action = kind.split(".", 1)

    def reply(message: Message, context: Context) -> Message:
        return answer(kind, message, context)

    {"query": app.query, "train": app.train}[method](action)(reply)


for each_kind in KINDS:
    _register(each_kind)
