"""A decision in words, in Chinese or English: what it is, why, what would change it, its costs, and one's rights."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from model.inputs import read_toml
from model.limits.costs import schedule
from model.limits.reasons import yuan

Language = Literal["zh", "en"]
_FILE = Path(__file__).with_name("notices.toml")


def explanation(decision_id: str, decision: Mapping[str, Any], language: Language) -> dict[str, Any]:
    """What an applicant is told; nothing in it tells the PD.

    Args:
        decision_id: of the decision.
        decision: its JSON, `limit-decision/1`.
        language: zh or en.
    """
    words, outcome = _notices()[language], decision["decision"]
    amount, places = decision["amount_fen"], {"amount": yuan(decision["amount_fen"])}
    if decision["defer_deadline"] is not None:
        places["deadline"] = decision["defer_deadline"][:16].replace("T", " ")
    return {
        "lang": language,
        "decision_id": decision_id,
        "decision": outcome,
        "headline": words["headline"][_headline(decision)].format(**places),
        "amount": yuan(amount),
        "amount_fen": amount,
        "score": decision["score"],
        "band": decision["band"],
        "reasons": [{"code": r["code"], "text": r[language], "source": r["source"]} for r in decision["reasons"]],
        "next_steps": [
            {"code": step["code"], "text": step[language], "amount_fen": step["amount_fen"]}
            for step in decision["next_steps"]
        ],
        "costs": [
            {
                "name": row[language],
                "payee": row["payee"],
                "annual_bp": row["annual_bp"],
                "total_fen": row["total_fen"],
                "contingent": row["contingent"],
            }
            for row in decision["costs"]
        ],
        "schedule": _schedule(decision),
        "as_of": decision["as_of"],
        "valid_until": decision["valid_until"],
        "defer_deadline": decision["defer_deadline"],
        "rights": words["rights"],
    }


def _headline(decision: Mapping[str, Any]) -> str:
    """Which sentence says it: a refusal says whether a rule, the record, the score, or an amount is why."""
    if decision["decision"] != "DECLINE":
        return str(decision["kind"] or decision["decision"]).lower()
    codes = [reason["code"] for reason in decision["reasons"]]
    if "S01" in codes:
        return "below_line"
    return "thin" if codes and codes[0][0] == "T" else "declined"


def _schedule(decision: Mapping[str, Any]) -> list[dict[str, int]]:
    if not decision["amount_fen"]:
        return []
    parts = schedule(decision["amount_fen"], decision["apr_bp"], decision["term_months"])
    return [
        {"month": month, "principal_fen": part.principal_fen, "interest_fen": part.interest_fen}
        for month, part in enumerate(parts, 1)
    ]


@lru_cache(maxsize=1)
def _notices() -> dict[str, Any]:
    return read_toml(_FILE)
