"""The core is pure, and what it says is said in both languages: read from the source, not from a run."""

from __future__ import annotations

import ast
import re
import string
from pathlib import Path

import pytest

import model
from model.limits.reasons import CATALOGUE, PARTNER_CODES

ROOT = Path(model.__file__).parent
EDGE = {"strict_json.py"}  # reads JSON text, where a fraction is a float until its field refuses it
CORE = [ROOT / "points.py", *sorted(path for path in (ROOT / "limits").glob("*.py") if path.name not in EDGE)]
ALLOWED = {
    "__future__",
    "bisect",
    "collections",
    "dataclasses",
    "datetime",
    "decimal",
    "functools",
    "hashlib",
    "itertools",
    "json",
    "model",
    "operator",
    "pathlib",
    "re",
    "types",
    "typing",
}
TABLES = {"reason": CATALOGUE.reason, "step": CATALOGUE.step, "domain": CATALOGUE.domain, "group": CATALOGUE.group}
WORDINGS = [pytest.param(kind, table[code], id=f"{kind}-{code}") for kind, table in TABLES.items() for code in table]


@pytest.mark.parametrize("path", CORE, ids=lambda path: path.name)
def test_the_core_knows_no_float_no_clock_no_chance_and_no_environment(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        where = f"{path.name}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Import):
            assert {name.name.split(".")[0] for name in node.names} <= ALLOWED, where
        elif isinstance(node, ast.ImportFrom):
            assert (node.module or "").split(".")[0] in ALLOWED, where
        elif isinstance(node, ast.Constant):
            assert not isinstance(node.value, (float, complex)), where
        elif isinstance(node, ast.Name):
            assert node.id not in {"float", "complex", "eval", "exec", "__import__"}, where
        elif isinstance(node, (ast.BinOp, ast.AugAssign)):
            assert not isinstance(node.op, ast.Div), f"{where}: / gives a float"
        elif isinstance(node, ast.Attribute):
            assert node.attr not in {"now", "utcnow", "today", "total_seconds", "timestamp"}, where


def test_every_code_that_the_core_uses_is_in_the_catalogue():
    source = "".join(path.read_text(encoding="utf-8") for path in CORE)
    used = set(re.findall(r'"([A-Z][0-9]{2})"', source))
    assert used <= set(CATALOGUE.reason)
    assert set(CATALOGUE.reason) == used | PARTNER_CODES


@pytest.mark.parametrize(("kind", "text"), WORDINGS)
def test_every_text_is_short_and_says_the_same_in_both_languages(kind, text):
    han = [sign for sign in text.zh if "\u4e00" <= sign <= "\u9fff"]
    assert 0 < len(han) <= 40
    assert not re.search("[\u4e00-\u9fff]", text.en)
    zh, en = ({name for _, name, _, _ in string.Formatter().parse(each) if name} for each in (text.zh, text.en))
    assert zh == en
    assert kind in ("reason", "step") or not zh


def test_the_three_complaints_never_share_a_code_family():
    families = {code[0] for code in ("T01", "T02", "T03")}, {code[0] for code in ("S01", "S02", "S03")}, {"D"}
    assert len(set.union(*families)) == 3
    assert {"T01", "S01", "S02", "S03", "D01", "D02", "D03"} <= set(CATALOGUE.reason)


def test_partner_codes_are_only_about_partner_data():
    assert {code[0] for code in PARTNER_CODES} == {"E", "Y", "X"}
