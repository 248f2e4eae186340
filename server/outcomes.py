"""What a run ends with, its noisy quality, and how it is written down."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model import estimates, wire
from model.bundle import Bundle
from server.exchange import Answer
from server.failures import RunFailed
from server.planning import RunPlan

RUN_FILE = "run.json"
MODEL_FOLDER = "model"
_log = logging.getLogger("fedscore.server")


@dataclass(frozen=True)
class Outcome:
    """What a run ends with: the bundle, and the facts that a report tells about the run."""

    bundle: Bundle
    facts: Mapping[str, Any]


def quality_of(plan: RunPlan, fused: Answer) -> dict[str, Any] | None:
    """Estimates from the noisy histogram of held-out scores; None where there is none."""
    line = plan.line("evaluation/scores")
    if line is None:
        return None
    counts = fused.array(wire.COUNTS, (line.size,))
    if counts is None:
        raise RunFailed("the lender's evaluation failed: protocol")
    return estimates.estimates(counts, line.mechanism.noise_stddev, plan.sizes["held_out"])


def publish(outcome: Outcome, out: Path, announce: Callable[[str], None] = lambda sha256: None) -> None:
    """Writes `model/` and `run.json` under `out`, each under a temporary name first.

    `announce` is told the model's hash before anybody can see the model; where it fails, nobody will.

    Raises:
        RunFailed: where another model lies there. One that an interrupted attempt left is the same, and stays.
    """
    out.mkdir(parents=True, exist_ok=True)
    temporary = out / f".{MODEL_FOLDER}.part"
    shutil.rmtree(temporary, ignore_errors=True)
    sha256 = outcome.bundle.save(temporary)
    announce(sha256)
    _put(temporary, out / MODEL_FOLDER)
    facts = {**outcome.facts, "bundle_sha256": sha256}
    part = out / f".{RUN_FILE}.part"
    part.write_text(json.dumps(facts, indent=1), encoding="utf-8")
    part.replace(out / RUN_FILE)
    _log.info("published %s", sha256)


def _put(made: Path, place: Path) -> None:
    if place.exists():
        if {p.name: p.read_bytes() for p in made.iterdir()} != {p.name: p.read_bytes() for p in place.iterdir()}:
            raise RunFailed(f"{place} holds another model: give each run a folder of its own")
        shutil.rmtree(made)
    else:
        made.rename(place)
