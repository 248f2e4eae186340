"""Scoring new applicants in a simulation: the nodes of a finished run, its model, and a file of applicants."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from clients.app import app as client_app
from clients.filing import BOOK, EVIDENCE
from model.federation import LENDER, load_federation
from model.inputs import InputError
from server.config import RunConfig
from server.phases import Programme
from server.scoring import Scored, ScoringRun
from simulations.loopback import LoopbackGrid
from simulations.preflight import RUN_ID


@dataclass(frozen=True)
class Applying:
    """What is scored.

    Attributes:
        federation: the federation file of the run.
        run: the run's folder, with `model` and `nodes`: holders keep there what they know of it.
        applicants: file of new persons, with the columns of the lender's own block.
        data: folder that data paths are relative to; None is the federation file's own.
        ledger: folder of the run's ledgers, where it had one that spans runs.
        alignment: tokens | psi.
    """

    federation: Path
    run: Path
    applicants: Path
    data: Path | None = None
    ledger: Path | None = None
    alignment: str = "tokens"


def score_applicants(asked: Applying) -> tuple[Scored, list[Path]]:
    """Scores them; how it ended, and what the lender filed.

    Raises:
        InputError: where a file is missing.
        RunFailed: where nobody could score, or the federation's terms say to stop.
    """
    for path in (asked.run / "model", asked.run / "nodes"):
        if not path.is_dir():
            raise InputError(path, "", "does not exist", remedy="give the folder of a finished run")
    federation = load_federation(asked.federation, asked.data)
    config: dict[str, str | bool | int | float] = {
        "mode": "score",
        "model": str((asked.run / "model").resolve()),
        "applicants": str(asked.applicants.resolve()),
        "federation": str(asked.federation.resolve()),
        "data": str(asked.data.resolve()) if asked.data else "",
        "out": str(asked.run.resolve()),
        "ledger": str(asked.ledger.resolve()) if asked.ledger else "",
        "alignment": asked.alignment,
        "wait": 0.1,
    }
    count = len(federation.holders)
    nodes = [{"partition-id": i, "num-partitions": count} for i in range(count)]
    grid = LoopbackGrid(client_app, nodes, config, run_id=RUN_ID)
    programme = Programme(grid, RunConfig.parse(config))
    scored = ScoringRun(programme, asked.run / "model").run()
    lender = asked.run / "nodes" / LENDER
    return scored, [path for path in (lender / EVIDENCE, lender / BOOK) if path.is_file()]
