"""The ServerApp of the coordinator: wiring only."""

from __future__ import annotations

from logging import INFO

from flwr.app import Context
from flwr.common.logger import log
from flwr.serverapp import Grid, ServerApp

from server.config import RunConfig
from server.phases import Programme

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Runs one programme over the grid."""
    outcome = Programme(grid, RunConfig.parse(context.run_config)).run()
    told = outcome.bundle.statement
    blocks = ", ".join(sorted(outcome.bundle.blocks))
    log(
        INFO,
        "fedscore: %s: blocks %s; epsilon %s, delta %s, %s",
        *(outcome.bundle.name, blocks, told["epsilon_shown"], told["delta"], told["unit"]),
    )
