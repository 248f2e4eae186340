"""`fedscore report`: figures and one page drawn from the two tables alone, the same bytes each time."""

from __future__ import annotations

import math
import re
import shutil
from pathlib import Path
from xml.etree import ElementTree

import polars as pl
import pytest

from model.inputs import InputError
from server.failures import RunFailed
from simulations.sweep.report.figures import FIGURES
from simulations.sweep.report.page import write_report
from simulations.sweep.report_cli import report
from simulations.sweep.rows import CURVE_MEANINGS
from tests.browser import overflow, serious
from tests.sweep_tables import Asked, change, write_tables

FULL = Asked(epsilons=(0.1, 1.0, math.inf), seeds=2)
SMALL = Asked(arms=("trees",), seeds=1)


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    """A sweep with something for every figure, and its report."""
    out = write_tables(tmp_path_factory.mktemp("sweeps") / "sweep", FULL)
    report(out)
    return out


def _bare(out: Path, asked: Asked = SMALL) -> Path:
    """A sweep of which little more is known than AUC, KS and Brier score."""
    names = ("approval", "auc_thin", "audit_at_least", "seconds")
    change(write_tables(out, asked), "results", **{name: pl.lit(None, pl.Float64) for name in names})
    return change(
        out, "curves", curve=pl.when(pl.col("curve") == "fairness").then("curve").otherwise(pl.lit("another"))
    )


def _twice(out: Path, name: str) -> None:
    path = out / f"{name}.parquet"
    pl.concat([pl.read_parquet(path)] * 2).write_parquet(path)


def _page(out: Path) -> str:
    """The page without its pictures."""
    return re.sub(r'src="data:[^"]*"', "", (out / "report.html").read_text(encoding="utf-8"))


def test_each_figure_is_a_picture_in_both_languages(out) -> None:
    codes = {"epsilon", "Brier", "moments", "joint", "refine", "evaluation", "scores"}
    for name in FIGURES:
        path = out / "figures" / f"uci-default.{name}"
        assert path.with_name(f"{path.name}.png").read_bytes().startswith(b"\x89PNG")
        texts = {}
        for suffix in ("", ".zh"):
            tree = ElementTree.parse(path.with_name(f"{path.name}{suffix}.svg"))
            texts[suffix] = " ".join(e.text or "" for e in tree.iter("{http://www.w3.org/2000/svg}text"))
        assert not re.search("[一-鿿]", texts[""]), name
        assert re.search("[一-鿿]", texts[".zh"]), name
        assert set(re.findall("[A-Za-z]{5,}", texts[".zh"])) <= codes, name


def test_the_page_holds_both_languages_and_needs_nothing_from_elsewhere(out) -> None:
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page.count('src="data:image/svg+xml;base64,') == 2 * len(FIGURES)
    assert '<main id="zh" lang="zh-CN">' in page
    assert '<main id="en" lang="en">' in page
    assert not re.search(r"https?://|<script|<link|src=|url\(", _page(out))
    assert not re.search(r"\{\{|\{%|\bnan\b|None|Undefined|Pair\(", _page(out))


def test_every_figure_says_in_one_sentence_what_it_shows(out) -> None:
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", _page(out), re.S)
    assert len(set(captions)) == 2 * len(FIGURES)
    for caption in captions:
        assert len(re.findall(r"[.。](?=\s|$)", caption)) == 1, caption
        assert re.match("[A-Z\\d一-鿿]|epsilon", caption), caption
    zh, en = captions[: len(FIGURES)], captions[len(FIGURES) :]
    assert all(re.search("[一-鿿]", text) for text in zh)
    assert not [text for text in en if re.search("[一-鿿]", text)]


def test_what_failed_is_listed_and_cannot_write_into_the_page(out) -> None:
    assert "2 of 26 trainings failed" in _page(out)
    assert "&lt;too little budget&gt; for 3 holders &amp; one lender" in _page(out)
    assert "<too little" not in _page(out)


def test_what_the_rejected_hide_and_what_comparing_spends_is_said(out) -> None:
    for words in (
        "What the rejected might hide",
        "被拒绝的人可能隐藏的情况",
        "The comparison itself spends privacy",
        "--private",
    ):
        assert words in _page(out)


@pytest.mark.parametrize("asked", [SMALL, pytest.param(FULL, marks=pytest.mark.slow)])
def test_the_same_tables_give_the_same_bytes_in_whatever_order_their_rows_are(tmp_path, asked) -> None:
    first, second = (write_tables(tmp_path / name, asked) for name in ("first", "second"))
    for name in ("results", "curves"):
        table = pl.read_parquet(second / f"{name}.parquet")
        table.sample(fraction=1.0, shuffle=True, seed=3).write_parquet(second / f"{name}.parquet")
    write_report(first)
    write_report(second)
    written = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    assert Path("figures/uci-default.scores.png") in written
    differ = [p for p in written if (first / p).read_bytes() != (second / p).read_bytes()]
    assert [p for p in differ if p.suffix != ".parquet"] == []


def test_what_the_tables_have_nothing_for_is_left_out_with_a_word_why_and_older_figures_go(tmp_path) -> None:
    out = _bare(tmp_path / "bare")
    (out / "figures").mkdir()
    (out / "figures" / "uci-default.scores.png").write_bytes(b"old")
    write_report(out)
    assert sorted(path.name for path in (out / "figures").iterdir()) == [
        f"uci-default.quality.{suffix}" for suffix in ("png", "svg", "zh.svg")
    ]
    assert "there is one arm only" in _page(out)
    assert "数据没有日期" in _page(out)
    names = {"curves.parquet", "figures", "report.html", "results.parquet", "table.md"}
    assert {path.name for path in out.iterdir()} == names


def test_a_set_whose_cells_all_failed_has_a_page_that_says_so(tmp_path) -> None:
    out = write_tables(tmp_path / "failed", Asked(arms=("joint",), epsilons=(1.0,), seeds=1))
    write_report(change(out, "results", error=pl.lit("the disk burned"), auc=pl.lit(None, pl.Float64)))
    page = _page(out)
    assert "Every cell failed" in page
    assert "None of 1 trainings has figures." in page
    assert "for every arm.</p>" in page
    assert "no training ended, so nothing is counted" in page
    for untrue in ("Not drawn", "trained 0 times", "训练 0 次", "0.0%", "0 trainings without"):
        assert untrue not in page
    assert list((out / "figures").iterdir()) == []


def test_a_name_of_a_set_or_group_may_be_any_text(tmp_path) -> None:
    others = [name for name in CURVE_MEANINGS if name != "fairness"]
    out = _bare(tmp_path / "odd", Asked(arms=("joint",), epsilons=(1.0,), seeds=1, without=others))
    change(out, "results", set=pl.lit("../<b>测试 $x$"))
    change(out, "curves", set=pl.lit("../<b>测试 $x$"), group=pl.col("group").str.replace("sex=m", "性别=男 <&$1_$$"))
    write_report(out)
    ElementTree.parse(out / "figures" / "-b-测试-x-.fairness.zh.svg")
    assert "&lt;b&gt;测试 $x$" in _page(out)
    assert "<b>" not in _page(out)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda out: (out / "results.parquet").unlink(), "results.parquet: does not exist"),
        (lambda out: (out / "curves.parquet").unlink(), "curves.parquet: does not exist"),
        (
            lambda out: (out / "curves.parquet").write_bytes(b"PAR1 but no more"),
            "is no readable Parquet",
        ),
        (lambda out: change(out, "results", arm=pl.lit(None)), "arm must not be empty"),
        (lambda out: change(out, "results", epsilon=pl.lit(0.0)), "epsilon must be above 0"),
        (lambda out: change(out, "curves", epsilon=pl.lit(math.nan)), "epsilon must be above 0"),
        (lambda out: change(out, "results", auc=pl.lit("high")), "has a column of another type"),
        (lambda out: _twice(out, "results"), "has rows with the same set, arm, epsilon, seed, got 'uci-default trees"),
        (lambda out: _twice(out, "curves"), "has rows with the same set, arm, epsilon, seed, curve, group, at"),
        (lambda out: change(out, "results", auc=pl.lit(7.0)), "auc must be within 0 and 1, got 7.0"),
        (lambda out: change(out, "results", auc=pl.lit(math.inf)), "auc must be within 0 and 1, got inf"),
        (lambda out: change(out, "curves", value=-pl.col("value")), "value must be within 0 and 1, got -"),
        (lambda out: change(out, "results", bytes=pl.lit(-1)), "bytes must be a finite number of at least 0, got -1"),
        (lambda out: change(out, "results", delta=pl.lit(2.0)), "delta must be at least 0 and below 1, got 2.0"),
        (lambda out: change(out, "results", delta=pl.lit(1.0)), "delta must be at least 0 and below 1, got 1.0"),
        (lambda out: change(out, "results", trust=pl.lit(None)), "trust must not be empty"),
        (
            lambda out: pl.read_parquet(out / "results.parquet").drop("auc").write_parquet(out / "results.parquet"),
            "auc is missing",
        ),
        (
            lambda out: pl.read_parquet(out / "results.parquet").clear().write_parquet(out / "results.parquet"),
            "holds no cell",
        ),
    ],
)
def test_bad_tables_are_one_line_and_nothing_is_written(tmp_path, spoil, told) -> None:
    out = write_tables(tmp_path / "bad", SMALL)
    spoil(out)
    before = sorted(path.name for path in out.iterdir())
    with pytest.raises(InputError) as caught:
        write_report(out)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
    assert sorted(path.name for path in out.iterdir()) == before


def test_a_disk_that_takes_no_more_ends_it_with_one_line_and_keeps_the_older_report(out, tmp_path, monkeypatch) -> None:
    kept = tmp_path / "kept"
    shutil.copytree(out, kept)
    _bare(kept)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("simulations.sweep.report.page.durable.write", full)
    with pytest.raises(RunFailed, match=r"cannot be written into .* \(No space left on device\)"):
        write_report(kept)
    assert (kept / "report.html").read_bytes() == (out / "report.html").read_bytes()


@pytest.mark.parametrize(("lang", "width"), [("en", 1200), ("zh", 400)])
def test_the_page_reads_well_in_a_browser(out, chromium, lang, width) -> None:
    wrong: list[str] = []
    page = chromium.new_page(viewport={"width": width, "height": 900})
    page.on("console", lambda said: wrong.append(said.text))
    page.on("request", lambda sent: wrong.append(sent.url) if sent.url.startswith("http") else None)
    page.goto(f"file://{out}/report.html#{lang}")
    assert page.locator("main:visible").get_attribute("lang") == ("zh-CN" if lang == "zh" else "en")
    assert page.evaluate("Array.from(document.images).every(image => image.complete && image.naturalWidth > 0)")
    assert overflow(page) == 0
    assert serious(page) == []
    boxes = page.evaluate("""
        Array.from(document.querySelectorAll('.scroll')).filter(box => box.checkVisibility()).map(box => {
            const hint = getComputedStyle(box, '::before');
            return [box.scrollWidth > box.clientWidth, hint.display !== 'none' && hint.content !== 'none'];
        })""")
    assert all(wide == told for wide, told in boxes)  # who has to scroll sideways is told so
    assert any(wide for wide, _ in boxes) == (width == 400)
    page.goto(f"file://{out}/report.html#{lang}-rejected")
    assert page.locator("main:visible").get_attribute("id") == lang
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 700, "height": 900})  # of a sheet of A4, within its margins
    assert page.locator("nav:visible").count() == overflow(page) == 0
    assert wrong == []
    page.close()
