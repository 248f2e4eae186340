"""Replays the golden decisions with nothing but the standard library: `python replay.py`, or `--write` after a change.

Sixty questions with their states lie in `limits.jsonl`, each with the SHA-256 of its decision's bytes, texts in both
languages included, and what it says in short. A change of engine, policy or catalogue shows here, as would
a Python or a machine on which the same inputs gave other bytes.
"""

from __future__ import annotations

import json
import sys
from hashlib import sha256
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[2]))

from model.limits.decide import decide  # noqa: E402
from model.limits.policy import load_policy  # noqa: E402
from model.limits.request import parse_request, parse_state  # noqa: E402
from model.limits.table import DecisionBundle, Default, FusionTable  # noqa: E402

DOMAINS = ("ecommerce", "payments", "tax_business")
WEIGHTS = dict(zip((*DOMAINS, "lender_kyc"), (700_000, 900_000, 600_000, 1_000_000), strict=True))
RULE = Default(-3_300_000, WEIGHTS, dict.fromkeys(DOMAINS, 150_000), dict.fromkeys(DOMAINS, 30_000))
TABLE = FusionTable(DOMAINS, "lender_kyc", {}, RULE)
BUNDLE = DecisionBundle("golden-1", "0" * 64, TABLE, "subscores", dict.fromkeys(TABLE.blocks, 0))


def told(row: dict) -> dict:
    """The row with its decision's hash and what it says in short."""
    request, state = parse_request(row["request"]), parse_state(row["state"])
    made = decide(request, load_policy(), BUNDLE, state, request.as_of)
    short = [made.decision, made.amount_fen, made.apr_bp, made.score, [r.code for r in made.reasons]]
    steps = [step.code for step in made.next_steps]
    return {"request": row["request"], "state": row["state"], "short": [*short, steps], "sha256": _hash(made.to_json())}


def _hash(text: bytes) -> str:
    return sha256(text).hexdigest()


def main() -> int:
    """How many rows came out otherwise; each is named."""
    path = HERE / "limits.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    again = [told(row) for row in rows]
    if "--write" in sys.argv:
        lines = (json.dumps(row, ensure_ascii=False, sort_keys=True) for row in again)
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return 0
    wrong = [at for at, (old, new) in enumerate(zip(rows, again, strict=True), 1) if old != new]
    for at in wrong:
        print(f"line {at}: {again[at - 1]['short']}, was {rows[at - 1]['short']}")
    print(f"{len(rows) - len(wrong)} of {len(rows)} golden decisions on Python {sys.version.split()[0]}")
    return len(wrong)


if __name__ == "__main__":
    sys.exit(main())
