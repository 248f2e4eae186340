"""D2: the golden decisions come out the same, byte for byte, on every Python from 3.11 on that is here."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from model.limits.reasons import CATALOGUE

SCRIPT = Path(__file__).with_name("golden") / "replay.py"
ROWS = [json.loads(line) for line in SCRIPT.with_name("limits.jsonl").read_text(encoding="utf-8").splitlines()]


def test_the_golden_decisions_are_made_again_identically_by_every_python_here() -> None:
    made = [_replayed(sys.executable, {})]
    for version in ("3.11", "3.12", "3.13", "3.14"):
        program, chosen = shutil.which(f"python{version}"), {"PYENV_VERSION": version}
        if (
            program
            and subprocess.run([program, "-c", ""], env={**os.environ, **chosen}, capture_output=True).returncode == 0
        ):
            made.append(_replayed(program, chosen))
    assert all(text.startswith("60 of 60 golden decisions on Python 3.") for text in made), made


def _replayed(program: str, chosen: dict[str, str]) -> str:
    environment = {**os.environ, **chosen}
    done = subprocess.run([program, "-I", SCRIPT], env=environment, capture_output=True, text=True, check=False)
    return done.stdout or done.stderr


def test_the_golden_decisions_are_of_every_kind() -> None:
    assert {row["short"][0] for row in ROWS} == {"APPROVE", "TRIAL", "DECLINE", "DEFER", "REFER"}
    assert len({code for row in ROWS for code in row["short"][4]}) > 25
    assert {step for row in ROWS for step in row["short"][5]} >= set(CATALOGUE.step) - {"IDENTITY", "ASK", "WAIT_ONLY"}
