"""The ClientApp of a data holder's node: wiring only."""

from __future__ import annotations

from pathlib import Path

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

import model
import privacy
from clients.handlers import answer
from clients.joint_handlers import HANDLERS
from model.wire import BINS, COHORT, DESCRIBE, FUSE, HOMES, PRESENCE, SUBSCORES, TRAIN

for package in (model, privacy):  # Flower puts several folders on the path: never mix two versions
    if Path(package.__path__[0]).resolve().parent != Path(__file__).resolve().parents[1]:
        raise ImportError(f"{package.__name__} comes from another folder than clients; start from one copy of fedscore")

app = ClientApp()


def _action(kind: str) -> str:
    return kind.split(".", 1)[1]


@app.query(_action(DESCRIBE))
def describe(message: Message, context: Context) -> Message:
    """Who this node plays, its contracts and public keys."""
    return answer(DESCRIBE, message, context)


@app.query(_action(COHORT))
def cohort(message: Message, context: Context) -> Message:
    """The lender's cohort, sealed for each partner."""
    return answer(COHORT, message, context)


@app.query(_action(PRESENCE))
def presence(message: Message, context: Context) -> Message:
    """Whom a partner has, sealed for the lender."""
    return answer(PRESENCE, message, context)


@app.query(_action(HOMES))
def homes(message: Message, context: Context) -> Message:
    """The lender's choice of homes, sealed for each partner."""
    return answer(HOMES, message, context)


@app.train(_action(BINS))
def bins(message: Message, context: Context) -> Message:
    """The noisy counts of a holder's private bins."""
    return answer(BINS, message, context)


@app.train(_action(TRAIN))
def train(message: Message, context: Context) -> Message:
    """One round of a holder's block."""
    return answer(TRAIN, message, context)


@app.query(_action(SUBSCORES))
def subscores(message: Message, context: Context) -> Message:
    """A partner's sub-scores, sealed for the lender."""
    return answer(SUBSCORES, message, context)


@app.train(_action(FUSE))
def fuse(message: Message, context: Context) -> Message:
    """The lender's fusion table."""
    return answer(FUSE, message, context)


def _register(kind: str) -> None:
    """One kind of message of the joint fit."""

    def reply(message: Message, context: Context) -> Message:
        return answer(kind, message, context)

    (app.train if kind.startswith("train.") else app.query)(_action(kind))(reply)


for joint_kind in HANDLERS:
    _register(joint_kind)
