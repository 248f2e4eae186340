"""A first contract from a file's column names and types only: it never looks at a value."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl

from clients.files import scan
from model.inputs import InputError

_HEAD = """\
# A contract says what the columns mean. It is public: write it from what you know about the columns, never from the
# rows, so that it costs no privacy budget. Fill in every line that says FILL IN, and delete columns that must not be
# used. Kinds: numeric | ordinal | categorical | flag. Set protected = true for sex, age, marital status and the like.
domain = "{domain}"
version = 1
"""
_NUMERIC = """\
kind = "numeric"
unit = ""                  # FILL IN, e.g. "CNY", "months"
range = []                 # FILL IN the public lowest and highest value, e.g. [0, 1_000_000]
scale = "linear"           # linear | log | signed-log
special = []               # codes that are no amounts, e.g. [-1]
"""
_CATEGORICAL = """\
kind = "categorical"       # or "ordinal", if the order of the values counts
values = []                # FILL IN the values that may occur, e.g. ["A", "B"]; others become `other`
"""
_TAIL = """\
group = "other"            # the reason family it speaks for, e.g. "repayment"
# direction = "safer"      # if more is certainly safer (or "riskier")
"""


def draft(path: Path, domain: str, id_column: str) -> str:
    """The text of a first contract; raises `InputError` where the file cannot be read or has no other column."""
    schema = _schema(path)
    if id_column not in schema:
        names = ", ".join(schema.names()[:12])
        raise InputError(path, id_column, "is not a column of this file", remedy=f"name the id by --id: {names}")
    columns = [(name, dtype) for name, dtype in schema.items() if name != id_column]
    if not columns:
        raise InputError(path, "", "has no column beside the id", remedy="give a file with features")
    return "\n".join([_HEAD.format(domain=domain), *(_feature(name, dtype) for name, dtype in columns)])


def _schema(path: Path) -> pl.Schema:
    """Names and types of the columns; a CSV file's types are guessed from its first rows, here and nowhere else."""
    frame = scan(path)
    is_csv = all(dtype == pl.String for dtype in frame.collect_schema().dtypes())
    if not is_csv:
        return frame.collect_schema()
    try:
        return pl.scan_csv(path, infer_schema_length=1000).collect_schema()
    except pl.exceptions.PolarsError:
        return frame.collect_schema()


def _feature(name: str, dtype: pl.DataType) -> str:
    if dtype == pl.Boolean:
        body = 'kind = "flag"\n'
    elif dtype.is_numeric():
        body = _NUMERIC
    else:
        body = _CATEGORICAL
    return f"[[feature]]\nname = {json.dumps(name, ensure_ascii=False)}\n{body}{_TAIL}"  # JSON's quoting is TOML's
