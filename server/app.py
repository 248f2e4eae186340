"""The ServerApp of the coordinator: wiring only."""

from __future__ import annotations

import logging
from logging import INFO

from flwr.app import Context
from flwr.common.logger import log
from flwr.serverapp import Grid, ServerApp

from server.config import RunConfig
from server.phases import Programme
from server.scoring import ScoringRun

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Runs one programme over the grid."""
    _tell_phases()
    programme = Programme(grid, RunConfig.parse(context.run_config))
    if programme.settings.model is not None:
        scored = ScoringRun(programme, programme.settings.model).run()
        log(INFO, "fedscore: scored with %s by %s", scored.model[:16], ", ".join(scored.partners) or "the lender alone")
        return
    outcome = programme.run()
    told = outcome.bundle.statement
    blocks = ", ".join(sorted(outcome.bundle.blocks))
    log(
        INFO,
        "fedscore: %s: blocks %s; epsilon %s, delta %s, %s",
        *(outcome.bundle.name, blocks, told["epsilon_shown"], told["delta"], told["unit"]),
    )


def _tell_phases() -> None:
    """Puts the phases into the run's log, which `coordinator run` follows, where nobody listens to them yet."""
    server = logging.getLogger("fedscore.server")
    if not server.handlers:
        server.addHandler(logging.StreamHandler())
        server.setLevel(INFO)
