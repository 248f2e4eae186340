"""The audit as a gate: a bundle whose lower bound on epsilon passes its claim is not published."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from privacy.accounting import shown
from server.failures import RunFailed
from simulations.auditing import GATE_TRIALS, Audit, Finding, Subject, audit


def pass_gate(folder: Path) -> dict[str, Any]:
    """Audits the run in `folder`; returns what the report says of it. Raises `RunFailed` where a claim is refuted."""
    found = audit(Subject.of_run(folder), GATE_TRIALS)
    if found.exceeded:
        raise RunFailed(refusal(found))
    return told(found)


def refusal(found: Audit) -> str:
    """Why a bundle must not be published, in one line."""
    wrong = [f for f in findings(found) if f.exceeded]
    if not wrong:
        return (
            f"audit: the releases cost epsilon {shown(found.recomputed)}, claimed {shown(found.claim)}: not published"
        )
    lines = "; ".join(f"{f.name}: epsilon is at least {f.epsilon:.3f}, claimed {shown(f.claim)}" for f in wrong)
    return f"audit: {lines}: the model is not published"


def findings(found: Audit) -> tuple[Finding, ...]:
    """Everything that was compared with a claim."""
    return (*found.lines, *found.totals, *((found.model,) if found.model else ()))


def told(found: Audit) -> dict[str, Any]:
    """The audit as plain data: lower bounds beside claims."""
    rows = [
        {"name": f.name, "claim": plain(f.claim), "at_least": round(f.epsilon, 4), "releases": f.releases}
        for f in findings(found)
    ]
    return {
        **({"note": found.note} if found.note else {}),
        "exceeded": found.exceeded,
        "confidence": found.confidence,
        "trials": found.trials,
        "seconds": round(found.seconds, 3),
        "findings": rows,
    }


def plain(epsilon: float) -> float | str:
    """An epsilon for JSON."""
    return "inf" if math.isinf(epsilon) else round(epsilon, 6)
