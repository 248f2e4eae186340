"""Starting the service from its files, and serving it until it is told to stop."""

from __future__ import annotations

import gc
import signal
import socket
import sys
from pathlib import Path

import uvicorn

from model.bundle import decision_bundle
from model.inputs import InputError
from model.limits.policy import load_policy
from server.decisions.api import create_app
from server.decisions.batch_runs import Runner
from server.decisions.database import snapshot
from server.decisions.logs import to_stderr
from server.decisions.registry import active_policy
from server.decisions.service import Service
from server.decisions.store import Store


def start(model: Path, database: str, vault: Path | None, policy: Path | None) -> Service:
    """The service of a model folder and a database, which a SQLite URL makes where it is missing.

    Args:
        model: folder of a published model.
        database: URL.
        vault: the master key's file; beside the database by default.
        policy: the first policy of a new database (by default the shipped one), or the successor of an expired one.

    Raises:
        InputError: what is missing, unusable, or of another version.
        NotInForce: no policy holds now.
    """
    bundle = decision_bundle(model)
    rules = load_policy(policy) if policy is not None else None
    store = Store.open(database, vault, create=True)
    try:
        with snapshot(store.engine) as connection:
            new = active_policy(connection) is None
        return Service(store, bundle, rules or (load_policy() if new else None))
    except ValueError:
        store.close()
        raise


def run(service: Service, host: str, port: int) -> None:
    """Serves until SIGINT or SIGTERM; requests in hand are answered, and what was taken is durable.

    Raises:
        InputError: the port cannot be listened on.
    """
    try:
        listener = socket.create_server((host, port))
    except OSError as error:
        service.close()
        raise InputError("serve", "port", f"cannot be listened on ({error.strerror})", port, "give another") from None
    gc.freeze()  # what the start made stays; collecting it again and again would only make callers wait
    gc.set_threshold(20_000, 20, 50)
    sys.setswitchinterval(0.001)  # the writer computes, and whoever has an answer must not wait long for its turn
    app = create_app(service)
    app.state.runner = Runner(service)
    to_stderr()
    print(f"fedscore: deciding on http://{host}:{listener.getsockname()[1]}  (desk: /desk/)", flush=True)
    for ending in (signal.SIGINT, signal.SIGTERM):  # uvicorn sends itself the signal again once it has ended
        signal.signal(ending, lambda *_: sys.exit(0))
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=10,
    )
    try:
        uvicorn.Server(config).run(sockets=[listener])
    finally:
        app.state.runner.close()
        service.close()
