"""Writing a sweep's report: figures, `table.md`, and one self-contained page in both languages."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from privacy import durable
from server.failures import RunFailed
from simulations.charts import embedded
from simulations.folders import new_folder
from simulations.sweep.report import doubt, rival, summary
from simulations.sweep.report.figures import Figure, draw_all
from simulations.sweep.report.quality_table import markdown
from simulations.sweep.report.tables import Part, Tables, read_tables
from simulations.sweep.report.words import Pair, arm_name, percent, who_sees

FIGURES, PAGE, TABLE = "figures", "report.html", "table.md"


def write_report(out: Path) -> None:
    """Draws `figures/`, `table.md` and `report.html` into a sweep's folder, from its two tables alone.

    The same tables always give the same bytes; what is there already is replaced as a whole, file by file.

    Raises:
        InputError: a table is missing or not as a sweep writes it, or the folder cannot be written.
        RunFailed: the disk is full; what was there is still there.
    """
    tables = read_tables(out)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)  # a group's name in Chinese
        figures = {part.name: draw_all(part) for part in tables.parts}
        try:
            with new_folder(out / FIGURES) as folder:
                for stem, drawn in zip(_stems(list(figures)), figures.values(), strict=True):
                    _save(folder, stem, drawn)
            for name, text in ((TABLE, markdown(tables)), (PAGE, _page(tables, figures))):
                durable.write(out / name, text.encode(), sync=False)
                (out / name).chmod(0o644)
        except OSError as error:
            raise RunFailed(f"the report cannot be written into {out} ({error.strerror})") from None
        except UnicodeEncodeError:
            raise RunFailed("a set's name is no file name under this locale: set PYTHONUTF8=1") from None


def _stems(names: list[str]) -> list[str]:
    """What files of each set begin with: its name, without what a file's name may not have.

    >>> _stems(["uci-default", "a/b", "a b"])
    ['uci-default', 'a-b', 'a-b.2']
    """
    stems: list[str] = []
    for name in names:
        stem = re.sub(r"[^\w.-]+", "-", name).lstrip(".") or "set"
        stems.append(stem if stem not in stems else f"{stem}.{len(stems)}")
    return stems


def _save(folder: Path, stem: str, figures: list[Figure]) -> None:
    """Each figure as SVG in both languages, and as PNG."""
    for figure in figures:
        if figure.chart is not None:
            name = f"{stem}.{figure.name}"
            (folder / f"{name}.svg").write_text(figure.chart.svg, encoding="utf-8")
            (folder / f"{name}.zh.svg").write_text(figure.chart.svg_zh, encoding="utf-8")
            (folder / f"{name}.png").write_bytes(figure.chart.png)


def _page(tables: Tables, figures: dict[str, list[Figure]]) -> str:
    """The report in both languages; its pictures are within it."""
    source = Path(__file__).with_name("report.html.j2").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    languages: list[dict[str, Any]] = []
    for lang in ("zh", "en"):
        say: Callable[[Pair], str] = (lambda pair: pair.zh) if lang == "zh" else (lambda pair: pair.en)
        languages.append(
            {
                "lang": lang,
                "t": (lambda en, zh: zh) if lang == "zh" else (lambda en, zh: en),
                "say": say,
                "sets": [_set(part, figures[part.name], lang) for part in tables.parts],
            }
        )
    return environment.from_string(source).render(
        languages=languages,
        verdict=rival.verdict(tables),
        spending=[summary.spending(part) for part in tables.parts],
        failures=summary.failures(tables),
        cells=tables.cells,
        trained=sum(part.cells.height for part in tables.parts),
    )


def _set(part: Part, figures: list[Figure], lang: str) -> dict[str, Any]:
    """What the page shows of one set."""
    return {
        "name": part.name,
        "facts": _facts(part),
        "findings": summary.findings(part),
        "rows": summary.best_rows(part),
        "beside": [arm_name(arm) for arm in summary.beside(part)],
        "chance": doubt.chance(part),
        "arms": [(arm, arm_name(arm), who_sees(arm, part.trust(arm))) for arm in part.arms],
        "figures": [
            (f, embedded(f.chart.svg_zh if lang == "zh" else f.chart.svg)) for f in figures if f.chart is not None
        ],
        "absent": [figure for figure in figures if figure.chart is None and part.arms],
        "repeat": _repeat(part),
    }


def _facts(part: Part) -> Pair:
    """Who was compared, in one sentence."""
    if not part.arms:
        asked = part.results.height
        return Pair(f"None of {asked} trainings has figures.", f"{asked} 次训练均无结果。")
    row = part.results.select("persons", "train", "held_out", "base_rate").max().row(0, named=True)
    persons, train, held = (f"{row[name] or 0:,}" for name in ("persons", "train", "held_out"))
    rate = percent(row["base_rate"] or 0.0)
    seeds = len(set(part.results["seed"]))
    return Pair(
        f"{persons} persons, {train} to train and {held} held out, of whom {rate} defaulted; data with "
        f"{part.holders} holders; {len(part.arms)} arms, {part.cells.height} trainings with figures, {seeds} seeds.",
        f"{persons} 人，其中 {train} 人用于训练、{held} 人留出（违约率 {rate}）；数据分在 {part.holders} 方；"
        f"{len(part.arms)} 个方案，{part.cells.height} 次训练有结果，{seeds} 个随机种子。",
    )


def _repeat(part: Part) -> list[tuple[Pair, str]]:
    """What it takes to run this again: versions, and fingerprints of what was read."""
    told = (
        ("versions", Pair("versions", "版本")),
        (
            "federation_sha256",
            Pair("SHA-256 of federation file, contracts and policy", "联邦文件、契约与政策的 SHA-256"),
        ),
        ("data_sha256", Pair("SHA-256 of the holders' files", "各方数据文件的 SHA-256")),
    )
    return [(words, "; ".join(part.results[name].drop_nulls().unique().sort())) for name, words in told]
