"""`fedscore policy simulate`: what it writes, that the page needs nothing else, and bad input in one line."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections import defaultdict
from pathlib import Path
from xml.etree import ElementTree

import pytest

from model.inputs import InputError
from simulations.months_cli import simulate

CHARTS = ("profit", "differences", "thin_approvals", "trial_cohort", "losses", "points", "apr_caps")
SHIPPED = Path(__file__).resolve().parents[2] / "model" / "limits" / "policy.toml"
SMALL = {"scenario": "S0,fraud", "months": 14, "applicants": 80, "seeds": 2, "jobs": 1, "quiet": True}


@pytest.fixture(scope="module")
def other(tmp_path_factory) -> Path:
    """The shipped policy with another first rung."""
    path = tmp_path_factory.mktemp("policies") / "bolder.toml"
    text = SHIPPED.read_text(encoding="utf-8")
    path.write_text(text.replace("rungs_fen = [50_000,", "rungs_fen = [60_000, 80_000,", 1), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def out(tmp_path_factory, other) -> Path:
    out = tmp_path_factory.mktemp("study") / "months"
    simulate(out=out, against=[other], **SMALL)
    return out


def _rows(out: Path) -> list[dict[str, str]]:
    with (out / "months.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_there_is_a_row_for_each_policy_scenario_seed_and_month(out) -> None:
    keys = {(r["policy"], r["scenario"], r["seed"], r["month"]) for r in _rows(out)}
    assert len(keys) == len(_rows(out)) == 5 * 2 * 2 * 14
    assert {key[0] for key in keys} == {"A", "B", "C", "E", "bolder"}


def test_the_summary_is_the_sum_of_the_months(out) -> None:
    profit = defaultdict(lambda: defaultdict(int))
    for row in _rows(out):
        profit[row["scenario"], row["policy"]][row["seed"]] += int(row["profit_fen"])
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    assert len(summary["results"]) == 10
    for row in summary["results"]:
        by_seed = profit[row["scenario"], row["policy"]].values()
        assert row["profit"]["mean"] == pytest.approx(sum(by_seed) / len(by_seed) / 100, abs=1)
    for row in summary["differences"]:
        given, less = (profit[row["scenario"], code] for code in ("E", row["against"]))
        gaps = [given[seed] - less[seed] for seed in given]
        assert row["profit"]["mean"] == pytest.approx(sum(gaps) / len(gaps) / 100, abs=1)


def test_another_policy_is_compared_under_the_name_of_its_file(out) -> None:
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    assert [policy["code"] for policy in summary["policies"]] == ["A", "B", "C", "E", "bolder"]
    assert len({policy["sha256"] for policy in summary["policies"]}) == 5
    assert any(float(row["trial_r4"]) > 0 for row in _rows(out) if row["policy"] == "bolder")
    assert not any(float(row["trial_r4"]) > 0 for row in _rows(out) if row["policy"] == "E")


@pytest.mark.parametrize("name", CHARTS)
def test_each_chart_is_a_picture_in_both_languages(out, name) -> None:
    assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    texts = {}
    for suffix in ("", ".zh"):
        tree = ElementTree.parse(out / f"{name}{suffix}.svg")
        texts[suffix] = " ".join(e.text or "" for e in tree.iter("{http://www.w3.org/2000/svg}text"))
    assert not re.search("[一-鿿]", texts[""])
    assert re.search("[一-鿿]", texts[".zh"])
    words = set(re.findall(r"[a-z]{5,}", texts[".zh"])) - {"logit", "bolder"}
    assert words == set()


def test_the_page_holds_both_languages_and_needs_nothing_from_elsewhere(out) -> None:
    page = (out / "report.html").read_text(encoding="utf-8")
    assert '<div id="zh" lang="zh-CN">' in page
    assert '<div id="en" lang="en">' in page
    assert page.count('src="data:image/svg+xml;base64,') == 2 * len(CHARTS)
    bare = re.sub(r'src="data:[^"]*"', "", page)
    assert not re.search(r"https?://|<script|<link|src=|url\(", bare)
    assert not re.search(r"\{\{|\{%|nan|None|Undefined", bare)


def test_every_figure_says_in_one_sentence_what_it_shows(out) -> None:
    page = re.sub(r'src="data:[^"]*"', "", (out / "report.html").read_text(encoding="utf-8"))
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", page, re.S)
    assert len(captions) == len(set(captions)) == 2 * len(CHARTS)
    assert all(re.search(r"[.。]$", caption.strip()) for caption in captions)


def test_the_same_seeds_write_the_same_bytes(out, other, tmp_path) -> None:
    again = tmp_path / "again"
    simulate(out=again, against=[other], **SMALL)
    names = sorted(path.name for path in out.iterdir())
    assert names == sorted(path.name for path in again.iterdir())
    assert [name for name in names if (out / name).read_bytes() != (again / name).read_bytes()] == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"months": 0}, "--months must be from 1 to 120, got 0"),
        ({"applicants": 9}, "--applicants must be from 10"),
        ({"seeds": 1}, "--seeds must be from 2"),
        ({"jobs": -1}, "--jobs must be from 0"),
        ({"seed": -1}, "--seed must be a whole number >= 0"),
        ({"scenario": "boom"}, "--scenario must be all, or by comma of S0"),
        ({"policy": Path("nowhere.toml")}, "nowhere.toml: does not exist"),
        ({"against": [Path("nowhere.toml")]}, "nowhere.toml: does not exist"),
        ({"against": [SHIPPED.with_name("B.toml")]}, "--against must have a name of its own"),
        ({"against": [SHIPPED, SHIPPED]}, "--against must have a name of its own"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(tmp_path, change, told) -> None:
    with pytest.raises(InputError) as caught:
        simulate(**SMALL | {"out": tmp_path / "out"} | change)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_kept_unless_it_may_be_replaced(out, tmp_path) -> None:
    there = tmp_path / "there"
    shutil.copytree(out, there)
    (there / "mine.txt").write_text("keep", encoding="utf-8")
    with pytest.raises(InputError, match="exists already"):
        simulate(out=there, **SMALL)
    assert (there / "mine.txt").is_file()
    simulate(out=there, force=True, **SMALL | {"months": 2, "scenario": "S0"})
    assert not (there / "mine.txt").exists()
    assert len(_rows(there)) == 4 * 2 * 2
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_a_file_in_the_way_is_not_replaced(tmp_path) -> None:
    (tmp_path / "out").write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match="is no folder"):
        simulate(out=tmp_path / "out", force=True, **SMALL)
    assert (tmp_path / "out").read_text(encoding="utf-8") == "mine"
