"""A population as files: a federation that runs, the lender's other tables, and the truth in a folder of its own.

Persons are drawn chunk by chunk, each chunk is written as parts, and the parts of a table are streamed into one file:
so memory does not grow with the population.
"""

from __future__ import annotations

import json
import math
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl

from model.contract import load_contract
from model.inputs import InputError
from simulations.folders import new_folder
from simulations.population.availability import outages, states
from simulations.population.people import People, draw_people
from simulations.population.records import columns, lender_record, partner_record
from simulations.population.traits import DOMAINS, OWN
from simulations.population.views import fairness, ids, labels, outcomes, truth
from simulations.population.world import Chunk, World

TRUTH = "truth/truth"  # named by no federation file
_CONTRACTS = Path(__file__).parent
_PARTS = ".parts"
_ROW_GROUP = 100_000
TOLD = "population.json"


def write_population(
    world: World, out: Path, force: bool = False, say: Callable[[str], None] = lambda text: None
) -> dict[str, Any]:
    """Writes a population into `out`, whole or not at all, and returns what `population.json` says of it.

    Args:
        world: what is asked for.
        out: folder to write, which must not exist unless `force`.
        force: whether to replace a population that is there.
        say: is told how far it has come.

    Raises:
        InputError: `out` exists or cannot be written, or the disk is full.
    """
    if out.exists() and not force:
        raise InputError(out, "", "exists already", remedy="give another folder, or --force to replace it")
    if out.exists() and not (out.is_dir() and ((out / TOLD).is_file() or not any(out.iterdir()))):
        raise InputError(out, "", "holds what is no population", remedy="give another folder")
    with new_folder(out) as part:
        try:
            return _written(world, part, say)
        except (OSError, pl.exceptions.ComputeError) as error:
            reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
            remedy = "free some space, or ask for fewer --persons"
            raise InputError(out, "", f"cannot be written ({reason})", remedy=remedy) from None


def _written(world: World, folder: Path, say: Callable[[str], None]) -> dict[str, Any]:
    parts = folder / _PARTS
    parts.mkdir()
    failures = outages(world)
    chunks, counts, tables = Chunk.all_of(world), Counter[str](), dict[str, None]()
    for chunk in chunks:
        people = draw_people(world, chunk)
        counts.update(_counted(world, people))
        for table, frame in _frames(world, chunk, people, failures):
            tables[table] = None
            if table == "outcomes":
                counts.update(_early(frame))
            frame.write_parquet(parts / f"{Path(table).name}.{chunk.place:04d}.parquet")
        say(f"{chunk.first + chunk.size:,} of {world.persons:,} persons drawn")
    (folder / TRUTH).parent.mkdir()
    for table in tables:
        say(f"joining {table}.parquet")
        found = [parts / f"{Path(table).name}.{chunk.place:04d}.parquet" for chunk in chunks]
        pl.scan_parquet(found).sink_parquet(folder / f"{table}.parquet", row_group_size=_ROW_GROUP)
        for path in found:
            path.unlink()
    shutil.rmtree(parts)
    failures.write_parquet(folder / "outages.parquet")
    for name in (OWN, *DOMAINS):
        shutil.copyfile(_CONTRACTS / f"{name}.contract.toml", folder / f"{name}.contract.toml")
    (folder / "federation.toml").write_text(_federation(world), encoding="utf-8")
    (folder / "columns.md").write_text(_columns_page(world), encoding="utf-8")
    told = _told(world, counts)
    (folder / TOLD).write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    return told


def _frames(world: World, chunk: Chunk, people: People, failures: pl.DataFrame) -> Iterator[tuple[str, pl.DataFrame]]:
    """The tables of one chunk, each in the order of the ids."""
    who = ids(world, people.number)
    order = who.arg_sort().to_numpy()
    lenders = {
        "labels": labels(world, chunk, people),
        OWN: lender_record(world, chunk, people),
        "outcomes": outcomes(world, chunk, people),
        "fairness": fairness(world, chunk, people),
        TRUTH: truth(people),
    }
    for table, frame in lenders.items():
        yield table, frame.insert_column(0, who)[order]
    for place, partner in enumerate(world.partners):
        rows = order[people.members[order, place]]
        yield partner.name, partner_record(world, chunk, people, partner, rows).insert_column(0, who[rows])
    late = states(world, chunk, people, failures)
    late = late.with_columns(row=who.gather(late["row"])).rename({"row": "id"})
    yield "availability", late.sort("id", "partner", "state")


def _counted(world: World, people: People) -> dict[str, int]:
    """Sums over a chunk, from which shares are told."""
    bad, seen = people.defaulted, people.covered.sum(axis=1)
    sums = {"persons": len(people), "defaults": bad.sum(), "thin": people.thin.sum(), "fraud": people.fraud.sum()}
    sums["thin defaults"] = (people.thin & bad).sum()
    for place, domain in enumerate(DOMAINS):
        sums[f"domain {domain}"] = people.covered[:, place].sum()
    for count in range(len(DOMAINS) + 1):
        sums[f"seen {count}"] = (seen == count).sum()
    for place, partner in enumerate(world.partners):
        sums[f"rows {partner.name}"] = people.members[:, place].sum()
    return {name: int(value) for name, value in sums.items()}


def _early(frame: pl.DataFrame) -> dict[str, int]:
    """Sums from which the early stand-in for the label is judged."""
    early, bad = frame["early_bad_4m"] == 1, frame["default_month"].is_not_null()
    return {"early": int(early.sum()), "early defaults": int((early & bad).sum())}


def _told(world: World, counts: Counter[str]) -> dict[str, Any]:
    """What was asked, and what came of it."""
    persons, thin = counts["persons"], counts["thin"]
    asked = {
        **{name: getattr(world, name) for name in ("persons", "seed", "base_rate", "months", "outages")},
        **{name: sorted(getattr(world, name)) for name in ("shifts", "drift")},
        **{name: getattr(world, name) for name in ("partners_a_domain", "split_partners")},
    }
    thick_defaults, thick = counts["defaults"] - counts["thin defaults"], persons - thin
    return {
        "asked": asked,
        "default_rate": round(counts["defaults"] / persons, 4),
        "fraud": counts["fraud"],
        "early_bad_correlation": round(_correlation(counts), 4),
        "covered": {domain: round(counts[f"domain {domain}"] / persons, 4) for domain in DOMAINS},
        "domains_that_know_a_person": [round(counts[f"seen {n}"] / persons, 4) for n in range(len(DOMAINS) + 1)],
        "thin": round(thin / persons, 4),
        "default_rate_thin": round(counts["thin defaults"] / max(1, thin), 4),
        "default_rate_others": round(thick_defaults / max(1, thick), 4),
        "rows": {partner.name: counts[f"rows {partner.name}"] for partner in world.partners},
    }


def _correlation(counts: Counter[str]) -> float:
    """Of early lateness with default, over all persons."""
    n = counts["persons"]
    early, bad, both = counts["early"] / n, counts["defaults"] / n, counts["early defaults"] / n
    spread = math.sqrt(early * (1 - early) * bad * (1 - bad))
    return (both - early * bad) / spread if spread else 0.0


def _federation(world: World) -> str:
    """The federation file."""
    head = f"""# An invented population, written by `fedscore population`: any likeness is chance.
# columns.md explains every column. Persons apply from month to month; the last part of the months is held out.

[federation]
name = "{world.name}"
id = "id"
outcome = "label"
split = "split"

[privacy]
epsilon = 1.0
delta = 1e-{max(5, math.ceil(math.log10(10 * world.persons)))}

[lender]
data = ["labels.parquet", "{OWN}.parquet"]
contract = "{OWN}.contract.toml"
income = "declared_income_cny"
requested = "requested_amount_cny"
"""
    blocks = [
        f'\n[[partner]]\nname = "{partner.name}"\ndomain = "{partner.domain}"\n'
        f'data = "{partner.name}.parquet"\ncontract = "{partner.domain}.contract.toml"\n'
        for partner in world.partners
    ]
    return head + "".join(blocks)


def _columns_page(world: World) -> str:
    """Every column of every file: name, unit, meaning in zh and en."""
    lines = [
        "# Columns 列说明",
        "",
        "Every file but `outages.parquet` has the column `id`. 除 `outages.parquet` 外各表均有 `id` 列。",
    ]
    for table, rows in columns().items():
        units = {}
        names = [partner.name for partner in world.partners if partner.domain == table] or [table]
        if (_CONTRACTS / f"{table}.contract.toml").is_file():
            features = load_contract(_CONTRACTS / f"{table}.contract.toml").features
            units = {feature.name: feature.unit or feature.kind for feature in features}
        if table == "truth":
            names = [TRUTH]
        lines += [
            "",
            "## " + ", ".join(f"{name}.parquet" for name in names),
            "",
            "| column | unit | 含义 | meaning |",
            "|---|---|---|---|",
        ]
        lines += [
            f"| {name} | {how.get('unit', units.get(name, ''))} | {how['zh']} | {how['en']} |"
            for name, how in rows.items()
        ]
    return "\n".join(lines) + "\n"
