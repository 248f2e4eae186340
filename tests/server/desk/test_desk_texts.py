"""The desk's texts and files, without a browser: both languages complete, every word named, nothing foreign."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from model.limits.ladder import EventKind
from model.limits.offers import RISK_CAPS, Kind, Verdict
from model.limits.policy import load_policy
from model.limits.reasons import CATALOGUE
from model.limits.request import Quality, Stage, Status
from model.limits.schema import IncomeSource
from model.limits.states import BlockState
from model.points import BANDS, MAX_SCORE, MIN_SCORE
from server.decisions.deciding import Cause
from server.decisions.reviewing import CLOSED, IN_REVIEW, OPEN

FOLDER = Path(__file__).resolve().parents[3] / "server" / "decisions" / "desk"
FILES = {path.name: path.read_text(encoding="utf-8") for path in sorted(FOLDER.iterdir())}
SCRIPTS = {name: text for name, text in FILES.items() if name.endswith(".js")}
TEXTS = {lang: json.loads(FILES[f"{lang}.json"]) for lang in ("zh", "en")}
CAPS = (*RISK_CAPS, "SHARE", "SEASONING", "LADDER", "VELOCITY", "PORTFOLIO", "REQUESTED", "OVERRIDE")
WORDS = {
    "outcome": get_args(Verdict),
    "kind": get_args(Kind),
    "state": get_args(BlockState),
    "means": get_args(BlockState),
    "quality": get_args(Quality),
    "stage": get_args(Stage),
    "status": get_args(Status),
    "income": get_args(IncomeSource),
    "event": get_args(EventKind),
    "cause": get_args(get_type_hints(Cause)["reason"]),
    "appeal_state": (OPEN, IN_REVIEW, *CLOSED.values()),
    "cap": CAPS,
    "payee": tuple({fee.payee for fee in load_policy().fee} | {"lender"}),
    "domain": tuple(CATALOGUE.domain),
    "band": tuple(band.code for band in BANDS),
}


def test_both_languages_have_the_same_texts_with_the_same_places():
    assert TEXTS["zh"].keys() == TEXTS["en"].keys()
    places = {lang: {key: set(re.findall(r"\{\w+\}", said)) for key, said in TEXTS[lang].items()} for lang in TEXTS}
    assert places["zh"] == places["en"]


def test_chinese_texts_have_no_english_and_english_ones_no_chinese():
    bare = {key: re.sub(r"\{\w+\}|fedscore", "", said) for key, said in TEXTS["zh"].items()}
    assert {key: said for key, said in bare.items() if re.search("[A-Za-z]", said)} == {}
    assert {key: said for key, said in TEXTS["en"].items() if re.search(r"[⺀-鿿＀-￯]", said)} == {}


@pytest.mark.parametrize("group", WORDS)
def test_every_word_that_the_service_may_send_has_a_text(group):
    found = {key.split(".", 1)[1] for key in TEXTS["en"] if key.startswith(f"{group}.")}
    assert found == set(WORDS[group])


def test_domains_and_bands_are_called_as_in_the_reasons():
    for lang in TEXTS:
        names = {name: getattr(wording, lang) for name, wording in CATALOGUE.domain.items()}
        assert {name: TEXTS[lang][f"domain.{name}"] for name in names} == names
    assert {band.code: TEXTS["zh"][f"band.{band.code}"] for band in BANDS} == {band.code: band.zh for band in BANDS}


def test_the_scale_is_that_of_the_score():
    told = re.findall(r'\["(\w+)", (\d+)\]', SCRIPTS["score.js"])
    assert [(code, int(low)) for code, low in told] == [(band.code, band.lowest) for band in reversed(BANDS)]
    assert f"LOWEST = {MIN_SCORE};" in SCRIPTS["score.js"]
    assert f"HIGHEST = {MAX_SCORE};" in SCRIPTS["score.js"]


def test_every_reason_of_the_catalogue_has_a_kind_of_answer():
    """A refusal's first reason decides how it is told: as a rule, as too little record, as a score, or as an amount."""
    lists = re.findall(r"const (THIN|RULES) = \[(.*)\]", SCRIPTS["outcome.js"])
    listed = {name: re.findall(r'"(\w+)"', line) for name, line in lists}
    assert set(listed["THIN"]) == {code for code in CATALOGUE.reason if code[0] == "T"} | {"L04"}
    rules = {"K01", "K02", "L01", "L02", "L05", "F01", "B03", "B04", "B05", "V01"}  # those of causes.stopping_reasons
    assert set(listed["RULES"]) == rules


def test_every_text_is_used_and_every_used_text_is_there():
    script = "\n".join(SCRIPTS.values()) + FILES["index.html"]
    whole = set(re.findall(r'"([a-z_]+\.\w+)"', script)) & TEXTS["en"].keys()
    groups = set(re.findall(r"`([a-z_]+)\.\$\{", script))
    asked = set(re.findall(r'text\("([^"]+)"', script)) | set(re.findall(r'data-text="([^"]+)"', script))
    assert asked <= TEXTS["en"].keys()
    assert {key for key in TEXTS["en"] if key not in whole | asked and key.split(".")[0] not in groups} == set()


def test_the_files_hold_nothing_foreign_and_nothing_inline():
    whole = "\n".join(FILES.values()).replace("http://www.w3.org/2000/svg", "")
    assert not re.findall(r"https?://|//[a-z0-9]+\.[a-z]", whole)
    assert not re.findall(r"(inner|outer|Adjacent)HTML|document\.write|eval\(|localStorage|indexedDB", whole)
    assert not re.findall(r"<style|style=|<script(?! type=\"module\" src=)| on[a-z]+=", FILES["index.html"])


def test_every_script_is_fetched_at_once():
    """Else a browser finds them one import after another, a round trip each."""
    assert re.findall(r'modulepreload" href="(.*?)"', FILES["index.html"]) == sorted(SCRIPTS.keys() - {"desk.js"})


@pytest.mark.parametrize("name", SCRIPTS)
def test_each_script_says_its_subject_and_is_short(name):
    lines = SCRIPTS[name].splitlines()
    assert lines[0].startswith("// ")
    assert len(lines) <= 300
    assert max(map(len, lines)) <= 130
