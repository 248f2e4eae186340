"""What the lender files of scored applicants: their evidence, and their requests with the sub-scores filled in.

`applicants-evidence.parquet` has the columns of a run's evidence. Where the lender's file of applicants has a column
`request` (JSON, `limit-request/1`), `requests.parquet` is a book that `fedscore decide` takes as it is: in each request
the lender's own sub-score and those of the domains that the request names as covered and consented to.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl

from clients.config import Node
from clients.files import scan
from clients.fusing import combined, evidence_frame, subscores_of, write_frame
from clients.scoring import Evidence
from model.federation import LENDER
from model.inputs import InputError
from model.limits.table import FusionTable

EVIDENCE, BOOK, REQUEST = "applicants-evidence.parquet", "requests.parquet", "request"


def file_scores(node: Node, ids: pl.Series, table: FusionTable, blocks: Mapping[str, list[Evidence]]) -> None:
    """Fuses the sub-scores of applicants by a published table and writes what the lender decides with.

    Args:
        ids: the applicants.
        blocks: by domain the evidence of its partners, in the order of preference; the lender's own among them.

    Raises:
        InputError: where the model has none of these domains, or a request cannot be read.
    """
    everybody = np.ones(len(ids), dtype=bool)
    known = {domain: found for domain, found in blocks.items() if domain in table.blocks}
    if not known:
        raise InputError("order", "table", "has none of the domains that answered")
    merged = combined(known, everybody)
    scores = subscores_of(merged, table.optional, table.own)
    frame = evidence_frame(ids, scores, table, merged, everybody)
    folder = node.folder(LENDER)
    write_frame(folder / EVIDENCE, frame)
    requests = _requests(node, ids)
    (folder / BOOK).unlink(missing_ok=True)
    if requests is not None:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        filled = [
            _filled(text, row, table, now) for text, row in zip(requests, frame.iter_rows(named=True), strict=True)
        ]
        write_frame(folder / BOOK, pl.DataFrame({REQUEST: filled}, {REQUEST: pl.String}))


def _requests(node: Node, ids: pl.Series) -> pl.Series | None:
    """The request of each applicant as JSON text; None where the file has none."""
    path, name = node.applicants, node.federation.id
    if path is None:
        return None
    lazy = scan(path)
    if REQUEST not in lazy.collect_schema().names():
        return None
    given = lazy.select(pl.col(name).cast(pl.String).str.strip_chars().alias("id"), REQUEST).collect()
    joined = ids.to_frame("id").join(given, on="id", how="left", maintain_order="left")
    if joined[REQUEST].null_count():
        raise InputError(path, REQUEST, "is missing for somebody", remedy="give each row a request, or drop the column")
    return joined[REQUEST]


def _filled(text: str, row: Mapping[str, Any], table: FusionTable, now: str) -> str:
    """A request with what partners answered of its person, where it says that it may be used."""
    try:
        request = json.loads(text)
        kyc, given = request["kyc"], request.get("blocks", {})
        if not isinstance(kyc, dict) or not all(isinstance(block, dict | None) for block in given.values()):
            raise TypeError
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError("applicants", REQUEST, "is no limit-request/1", remedy="see docs/limits.md") from None
    for domain, block in given.items():
        score = row.get(f"sub_{domain}") if domain in table.optional else None
        if block and block.get("covered") and block.get("consent") and score is not None:
            block |= {"logit_e6": score, "as_of": now, "reasons": _why(row[f"why_{domain}"])}
    kyc["model_se_e6"] = row["se_e6"]
    if table.own:
        kyc |= {"logit_e6": row[f"sub_{table.own}"], "reasons": _why(row[f"why_{table.own}"])}
    request["as_of"] = now
    return json.dumps(request, ensure_ascii=False)


def _why(text: str) -> list[dict[str, object]]:
    pairs = (part.split(":") for part in text.split(";") if part)
    return [{"code": name, "delta_e6": int(delta)} for name, delta in pairs]
