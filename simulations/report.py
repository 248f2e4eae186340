"""The report of a simulation: what was reached, what was spent and what it cost, exact because it is a simulation."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from clients.cohort import cohort_of
from clients.config import Node
from clients.fusing import EVIDENCE
from clients.orders import ledger
from model import metrics
from model.federation import LENDER
from model.wire import HELD_OUT, TRAIN_ROWS
from privacy.accounting import shown
from privacy.plan import spent_by
from privacy.statement import RELATION, UNIT
from server.outcomes import MODEL_FOLDER, RUN_FILE
from simulations.deciding import decide_all, sampled
from simulations.settings import Settings

SCHEMA = "fedscore-report/1"
Floats = NDArray[np.float64]


def write_report(
    out: Path, node: Node, settings: Settings, notes: tuple[str, ...], seconds: Mapping[str, float]
) -> dict[str, Any]:
    """Writes `scores.parquet`, `decisions.parquet` and `report.json` into `out`; returns the report.

    Held-out figures are exact, which only a simulation may show; a real run publishes noisy ones.
    """
    began = time.monotonic()
    evidence = pl.read_parquet(node.folder(LENDER) / EVIDENCE)
    evidence.select("id", "score", "pd", "z", "blocks").write_parquet(out / "scores.parquet")
    run = json.loads((out / RUN_FILE).read_text())
    asked = sampled(evidence, settings.decide)
    decisions = decide_all(node, asked, out / MODEL_FOLDER, settings.policy, run["partners"])
    decisions.write_parquet(out / "decisions.parquet")
    decided = time.monotonic() - began
    node = replace(node, programme=run["programme"])  # Flower names its own runs
    bundle = json.loads((out / MODEL_FOLDER / "bundle.json").read_text())
    report = {
        "schema": SCHEMA,
        "simulation": "exact figures on held-out persons: never publish them from a real run",
        **{k: run[k] for k in ("federation", "programme", "engine", "rounds", "bundle_sha256", "failures")},
        "trust": run.get("trust", "local"),
        "backend": settings.backend,
        "seed": settings.seed,
        **_persons(node),
        "partners": _partners(node, run["partners"]),
        **_spent(node, run),
        **_quality(node, evidence),
        "decisions": _counted(decisions["decision"]),
        "reasons": _counted(decisions["reasons"].str.split("+").list.unique().explode()),
        "seconds": {**{k: round(v, 3) for k, v in seconds.items()}, **run["seconds"], "decide": round(decided, 3)},
        "bytes_sent": run["bytes_sent"],
        "releases": run["releases"],
        "contributions": run.get("contributions", {}),
        "quality_published": bundle["quality"],
        "privacy": bundle["statement"],
        "notes": list(notes),
    }
    (out / RUN_FILE).unlink()
    _write(out, report)
    return report


def _counted(told: pl.Series) -> dict[str, int]:
    """How many persons are told each of these, by name."""
    return dict(sorted(told.filter(told.fill_null("") != "").value_counts().iter_rows()))


def add_audit(out: Path, report: dict[str, Any], audit: Mapping[str, Any]) -> None:
    """Adds an audit that was passed to the report."""
    report["audit"] = dict(audit)
    report["seconds"]["audit"] = audit["seconds"]
    _write(out, report)


def _write(out: Path, report: Mapping[str, Any]) -> None:
    (out / "report.json").write_text(json.dumps(report, indent=1, ensure_ascii=False), encoding="utf-8")


def _persons(node: Node) -> dict[str, Any]:
    group = cohort_of(node).group
    train, held = int((group == TRAIN_ROWS).sum()), int((group == HELD_OUT).sum())
    return {"persons": {"all": train + held, "train": train, "held_out": held}}


def _partners(node: Node, present: Mapping[str, str]) -> dict[str, Any]:
    from clients.cohort import aligned

    cohort = {}
    for name, domain in present.items():
        held = float((aligned(node, name).rows >= 0).mean())
        cohort[name] = {"domain": domain, "share_of_cohort": round(held, 4)}
    return cohort


def _spent(node: Node, run: Mapping[str, Any]) -> dict[str, Any]:
    """Epsilon as the ledgers hold it: of the programme on the person who paid most, of this run, of each holder."""
    by_holder: dict[str, str] = {}
    programme = run_only = math.inf
    for name in (h.name for h in node.federation.holders if (node.ledgers / h.name / "ledger.db").is_file()):
        with ledger(node, name) as book:
            if book is None:
                break
            by_holder[name] = shown(book.spent(own=True))
            plans = book.plans()
            if run["plan"] in plans:  # every ledger holds whole plans; a holder that failed early has none
                programme, run_only = book.spent(), spent_by([plans[run["plan"]]], node.total, node.delta)
    return {
        "epsilon": _plain(programme),
        "epsilon_run": _plain(run_only),
        "epsilon_asked": run["epsilon_asked"],
        "epsilon_by_holder": by_holder,
        "delta": node.delta,
        "unit": UNIT,
        "relation": RELATION,
    }


def _plain(epsilon: float) -> float | str:
    return "inf" if math.isinf(epsilon) else math.ceil(epsilon * 1e6 - 1e-6) / 1e6


def _quality(node: Node, evidence: pl.DataFrame) -> dict[str, Any]:
    cohort = cohort_of(node)
    labels = cohort.labels[cohort.group == HELD_OUT].astype(np.float64)
    if not len(labels):
        nothing = ("auc", "ks", "brier", "base_rate", "auc_lender_only", "share_without_partner")
        return {**dict.fromkeys(nothing), "auc_by_block": {}, "calibration": []}
    z, pd = evidence["z"].to_numpy(), evidence["pd"].to_numpy()
    blocks = [c.removeprefix("sub_") for c in evidence.columns if c.startswith("sub_")]
    own = node.federation.lender.domain if node.federation.lender.contract else None
    by_block = {b: _block_auc(labels, evidence[f"sub_{b}"]) for b in blocks}
    without = (evidence["blocks"].str.split("+").list.set_difference([own or ""]).list.len() == 0) | (
        evidence["blocks"] == ""
    )
    return {
        "auc": _rounded(metrics.auc(labels, z)),
        "ks": _rounded(metrics.ks(labels, z)),
        "brier": _rounded(metrics.brier(labels, pd)),
        "base_rate": _rounded(float(labels.mean())),
        "auc_lender_only": by_block.get(own or ""),
        "auc_by_block": by_block,
        "calibration": metrics.calibration(labels, pd),
        "share_without_partner": _rounded(float(without.to_numpy().mean())),
    }


def _block_auc(labels: Floats, subscores: pl.Series) -> float | None:
    """AUC of one block's sub-score among the persons who have it."""
    here = subscores.is_not_null().to_numpy()
    return _rounded(metrics.auc(labels[here], subscores.drop_nulls().to_numpy().astype(np.float64)))


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
