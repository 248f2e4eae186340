"""report.json keeps to the schema that lies beside the code."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from simulations.run import Settings, simulate

SCHEMA = json.loads((Path(__file__).parents[2] / "simulations" / "report.schema.json").read_text())


@pytest.mark.parametrize("epsilon", [1.0, float("inf")])
def test_a_report_keeps_to_its_schema(epsilon: float, tmp_path: Path) -> None:
    simulate(Settings(None, tmp_path / "out", epsilon=epsilon))
    jsonschema.validate(json.loads((tmp_path / "out" / "report.json").read_text()), SCHEMA)


def test_the_schema_refuses_a_report_without_the_spent_epsilon(tmp_path: Path) -> None:
    report = dict(simulate(Settings(None, tmp_path / "out")).report)
    del report["epsilon"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(report, SCHEMA)
