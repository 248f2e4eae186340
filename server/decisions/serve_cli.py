"""`fedscore serve`: the decision service on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DEFAULT = "sqlite:///limits.db"


def serve(
    model: Annotated[Path, typer.Argument(help="Model folder of a run, e.g. demo/model.")],
    database: Annotated[str, typer.Option(help="sqlite:///FILE or postgresql://USER@HOST/NAME.")] = DEFAULT,
    vault: Annotated[Path | None, typer.Option(help="Master key file; beside the database by default.")] = None,
    policy: Annotated[
        Path | None, typer.Option(help="First policy of a new database, or the successor of an expired one.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; put a TLS proxy before any other.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 chooses a free one.")] = 8350,
) -> None:
    """Serve limit decisions over HTTP, and the limit desk at /desk/.

    Example: fedscore serve demo/model --database sqlite:///limits.db
    """
    from server.decisions.running import run, start

    run(start(model, database, vault, policy), host, port)
