"""Labels as the lender tells them: by randomised response, drawn once for each person and outcome and kept."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from clients.cohort import cohort_of
from clients.config import Node
from model.federation import LENDER
from model.inputs import InputError
from model.wire import TRAIN_ROWS
from privacy.durable import write
from privacy.mechanisms import respond
from privacy.noise import Csprng
from privacy.plan import LabelResponse

BOOK = "told_labels.parquet"


def told_labels(node: Node, response: LabelResponse | None) -> NDArray[np.int8]:
    """The labels of the cohort as they may leave the lender; as they are where the plan has no response.

    A person's response is drawn once and kept beside the ledger: asking again tells nothing new.

    Raises:
        InputError: where earlier labels were told with another label-epsilon.
    """
    cohort = cohort_of(node)
    if response is None:
        return cohort.labels
    path = node.durable(LENDER) / BOOK
    kept = _kept(path, node.federation.outcome, response)
    asked = cohort.ids.filter(pl.Series(cohort.group == TRAIN_ROWS)).to_frame("id")
    new = asked.join(kept, on="id", how="anti", maintain_order="left")
    if new.height:
        labels = pl.DataFrame({"id": cohort.ids, "label": cohort.labels})
        true = new.join(labels, on="id", how="left", maintain_order="left")["label"].to_numpy()
        drawn = respond(true, response.flip, Csprng())
        kept = pl.concat([kept, new.with_columns(told=pl.Series(drawn, dtype=pl.Int8))])
        _keep(path, kept, node.federation.outcome, response)
    told = cohort.ids.to_frame("id").join(kept, on="id", how="left", maintain_order="left")["told"]
    return told.fill_null(-1).to_numpy().astype(np.int8)


def _kept(path: Path, outcome: str, response: LabelResponse) -> pl.DataFrame:
    """The responses drawn so far for this outcome."""
    if not path.is_file():
        return pl.DataFrame(schema={"id": pl.String, "told": pl.Int8})
    about = pl.read_parquet_metadata(path)
    if (about.get("outcome"), about.get("epsilon")) != (outcome, repr(response.epsilon)):
        rule = f"must stay {about.get('epsilon')}, with which labels of {about.get('outcome')} were told before"
        raise InputError(path, "label-epsilon", rule, response.epsilon)
    return pl.read_parquet(path)


def _keep(path: Path, kept: pl.DataFrame, outcome: str, response: LabelResponse) -> None:
    """Puts the responses on disk before any of them leaves."""
    buffer = BytesIO()
    kept.write_parquet(buffer, metadata={"outcome": outcome, "epsilon": repr(response.epsilon)})
    write(path, buffer.getvalue())
