"""The ServerApp of the coordinator: wiring only."""

from __future__ import annotations

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from server.config import RunConfig
from server.phases import Programme

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Runs one programme over the grid."""
    Programme(grid, RunConfig.parse(context.run_config)).run()
