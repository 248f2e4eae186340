"""Decisions where data are late or consent is missing: who is kept out, by which state, and what is left alone."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import polars as pl
import pytest

from clients.cohort import cohort_of
from model.federation import load_federation
from model.inputs import InputError
from model.limits.decide import decide
from model.limits.decision import Decision
from model.limits.policy import load_policy
from model.limits.request import StateSnapshot
from model.limits.table import DecisionBundle, Default, FusionTable
from model.wire import HELD_OUT
from simulations.availability import STATES, notes_of, states_of, unavailable
from simulations.deciding import _requests
from simulations.population.world import World
from simulations.population.writing import write_population
from simulations.preflight import node_of
from simulations.run import Settings, simulate
from simulations.sweep.arms import ARMS, Skipped, derived
from simulations.sweep.sources import files_of, fingerprints

PERSONS = 300
X = [{"name": "x", "kind": "numeric", "range": [-3, 3]}]
WEIGHTS = {"ecommerce": 900_000, "payments": 1_000_000}
ABSENT, MISSED = {"ecommerce": 200_000, "payments": 300_000}, {"ecommerce": 10_000, "payments": 20_000}
RULE = Default(-3_000_000, WEIGHTS, ABSENT, MISSED)
TABLE = FusionTable(("ecommerce", "payments"), None, {}, RULE)
LOGITS = {"ecommerce": 100_000, "payments": 700_000}

Row = tuple[str, str, str, int | None, int | None]


@pytest.fixture
def made(write_federation: Callable[..., Any], persons: Callable[..., Any], party: Any) -> Any:
    """Two shops with some persons in common, and a payment company that knows everybody."""
    labels, risk = persons(PERSONS)
    table = pl.DataFrame({"id": labels["id"], "x": risk})
    shops = party("shop-1", table.head(200), X, "ecommerce"), party("shop-2", table.tail(200), X, "ecommerce")
    return write_federation(labels, *shops, party("pay-1", table, X))


def _listed(files: Any, *rows: Row) -> None:
    schema = {"id": pl.String, "partner": pl.String, "state": pl.String, "from_day": pl.Int32, "hours": pl.Int32}
    pl.DataFrame(rows, schema, orient="row").write_parquet(files.folder / "availability.parquet")


def _binding(files: Any) -> set[tuple[str, ...]]:
    return set(unavailable(load_federation(files.federation)).select("id", "partner", "state").iter_rows())


def _run(files: Any, out: str) -> Any:
    return simulate(Settings(files.federation, files.folder.parent / out, epsilon=float("inf")))


def _decided(state: str | None, domain: str = "payments") -> Decision:
    """The decision on one person whom both domains know, where this state keeps one of them away."""
    evidence = pl.DataFrame(
        {"se_e6": [0], **{f"sub_{d}": [z] for d, z in LOGITS.items()}, **{f"why_{d}": [""] for d in LOGITS}}
    )
    amounts = pl.DataFrame({"income": [600_000], "requested": [5_000_000]})
    policy, bundle = load_policy(None), DecisionBundle("made", "0" * 64, TABLE, "subscores", dict.fromkeys(LOGITS, 0))
    (request,) = _requests(evidence, amounts, policy, bundle, {(0, domain): state} if state else {})
    return decide(request, policy, bundle, StateSnapshot(), request.as_of)


@pytest.mark.parametrize(
    ("state", "block", "reasons"),
    [("delayed", "delayed", ["D01"]), ("late_filing", "delayed", ["D01"]), ("abnormal", "abnormal", ["D02"])],
)
def test_late_data_that_matters_is_waited_for_until_a_deadline(state: str, block: str, reasons: list[str]) -> None:
    answer = _decided(state)
    assert (answer.decision, answer.blocks) == ("DEFER", {"ecommerce": "fresh", "payments": block})
    assert [reason.code for reason in answer.reasons] == reasons
    assert answer.defer_deadline == answer.as_of + timedelta(hours=load_policy(None).defer.max_hours)
    assert answer.z_e6 == TABLE.z_e6(LOGITS, ["ecommerce"], LOGITS) != TABLE.z_e6(LOGITS, LOGITS, LOGITS)


@pytest.mark.parametrize("state", ["consent_refused", "consent_withdrawn"])
def test_a_domain_without_consent_is_as_none_and_the_next_step_is_to_authorise_it(state: str) -> None:
    answer = _decided(state)
    assert answer.blocks == {"ecommerce": "fresh", "payments": "no_consent"}
    assert answer.z_e6 == TABLE.z_e6(["ecommerce"], ["ecommerce"], LOGITS)
    assert "L04" in [reason.code for reason in answer.reasons]
    assert ("AUTHORISE", "payments") in [(step.code, step.source) for step in answer.next_steps]


def test_who_is_not_listed_is_fresh_in_every_domain() -> None:
    answer = _decided(None)
    assert set(answer.blocks.values()) == {"fresh"}
    assert answer.z_e6 == TABLE.z_e6(LOGITS, LOGITS, LOGITS)


def test_only_what_holds_at_the_application_binds(made: Any) -> None:
    _listed(
        made,
        ("00001", "pay-1", "delayed", 0, 5),
        ("00002", "pay-1", "delayed", 0, 0),
        ("00003", "pay-1", "consent_withdrawn", 30, None),
        ("00004", "pay-1", "consent_refused", 0, None),
        ("99999", "pay-1", "abnormal", 0, None),
    )
    assert {(person, state) for person, _, state in _binding(made)} == {
        *(("00001", "delayed"), ("00004", "consent_refused"), ("99999", "abnormal")),
    }


@pytest.mark.parametrize("turn", [1, -1])
def test_of_several_states_the_one_that_the_limit_core_looks_at_first_counts(made: Any, turn: int) -> None:
    rows: list[Row] = [("00001", "pay-1", state, 0, None) for state in STATES[::turn]]
    _listed(made, *rows, *(("00002", "pay-1", state, 0, 3) for state in ("abnormal", "late_filing")[::turn]))
    assert _binding(made) == {("00001", "pay-1", "consent_refused"), ("00002", "pay-1", "abnormal")}


def test_ids_are_compared_as_the_federation_does(made: Any) -> None:
    _listed(made, (" ００００１ ", "pay-1", "delayed", 0, 5))
    assert _binding(made) == {("00001", "pay-1", "delayed")}


def test_a_domain_is_away_only_where_the_partner_that_speaks_for_it_is(made: Any, stage: Callable[..., Any]) -> None:
    everybody = [f"{i:05d}" for i in range(PERSONS)]
    _listed(made, *(((p, "shop-2", "delayed", 0, 9)) for p in everybody), ("00005", "shop-1", "abnormal", 0, None))
    aligned = stage(made.federation)
    for name in ("shop-1", "shop-2", "pay-1"):
        aligned.deliver(name)
    node = node_of(Settings(made.federation, made.folder.parent / "state"), made.folder.parent / "state")
    held = cohort_of(node).ids.filter(pl.Series(cohort_of(node).group == HELD_OUT)).reverse()

    def away(*present: str) -> dict[str, str]:
        found = states_of(node, held, present)
        assert {domain for _, domain in found} <= {"ecommerce"}
        return {held[place]: state for (place, _), state in found.items()}

    both = away("shop-1", "shop-2", "pay-1")
    assert both == {p: "delayed" for p in held if int(p) >= 200} | {"00005": "abnormal"}
    assert away("shop-2", "pay-1") == {p: "delayed" for p in held if int(p) >= 100}
    assert away("pay-1") == away() == {}
    assert states_of(node, held.head(0), ["shop-1", "shop-2"]) == {}


@pytest.mark.usefixtures("quick")
def test_it_changes_the_decisions_of_whom_it_binds_and_nothing_else(made: Any) -> None:
    plain = _run(made, "plain")
    later: list[Row] = [("00011", "pay-1", "consent_withdrawn", 30, None), ("00014", "shop-2", "delayed", 0, 7)]
    _listed(made, *later, ("00005", "pay-1", "consent_refused", 0, None), ("00008", "pay-1", "delayed", 0, 7))
    now = _run(made, "now")
    assert (now.out / "scores.parquet").read_bytes() == (plain.out / "scores.parquet").read_bytes()
    before, after = (pl.read_parquet(run.out / "decisions.parquet") for run in (plain, now))
    assert {person for person, *_ in set(after.rows()) ^ set(before.rows())} == {"00005", "00008"}
    reasons = now.report["reasons"]
    assert reasons == {code: after["reasons"].str.contains(code).sum() for code in reasons}
    told = f"names 3 of the {before.height} held-out persons"
    assert set(now.notes) - set(plain.notes) == {f"lender: availability.parquet: {told}"}


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (("1", None, "delayed", 0, 5), "partner must not be empty"),
        (("1", "pay-1", "asleep", 0, 5), "state must be delayed | late_filing | abnormal |"),
        (("1", "pay-1", "delayed", -1, 5), "from_day must be a whole number >= 0, got '-1'"),
        (("1", "pay-1", "delayed", None, 5), "from_day must be a whole number >= 0, got 'nothing'"),
        (("1", "pay-1", "delayed", 0, -5), "hours must be a whole number >= 0, or empty, got '-5'"),
        ((None, "pay-1", "delayed", 0, 5), "id must not be empty"),
    ],
)
def test_a_row_that_says_nothing_is_named(made: Any, row: Row, told: str) -> None:
    _listed(made, ("1", "pay-1", "delayed", 0, None), row)
    with pytest.raises(InputError) as refused:
        unavailable(load_federation(made.federation))
    assert f"{made.folder / 'availability.parquet'}: {told}" in str(refused.value)


def test_partners_that_the_federation_lacks_are_told_and_ignored(made: Any) -> None:
    _listed(made, ("1", "pay-9", "delayed", 0, 5), ("1", "pay-1", "delayed", 0, 5), ("2", "pay-8", "abnormal", 0, None))
    assert notes_of(load_federation(made.federation), pl.Series("id", ["1", "2", "3"])) == [
        "availability.parquet: names 1 of the 3 held-out persons",
        "availability.parquet: rows of no partner of this federation are ignored (pay-8, pay-9)",
    ]


@pytest.mark.parametrize("column", ["id", "partner", "state", "from_day", "hours"])
def test_a_missing_column_ends_the_command_before_it_trains(
    made: Any, run_cli: Callable[..., Any], column: str
) -> None:
    _listed(made, ("1", "pay-1", "delayed", 0, 5))
    made.table("availability.parquet", lambda table: table.drop(column))
    out = made.folder.parent / "out"
    ended = run_cli("simulate", made.federation, "--out", out, "--quiet")
    assert (ended.code, len(ended.lines), out.exists()) == (2, 1, False)
    assert f"availability.parquet: {column} is not a column of this file; columns: " in ended.err


def test_hours_that_are_no_number_and_a_file_that_is_no_table_are_refused(made: Any) -> None:
    path = made.folder / "availability.parquet"
    for content, told in (
        (b"id,partner,state,from_day,hours\n1,pay-1,delayed,0,1.5\n", "hours must be a whole number"),
        (b"id,partner,state,from_day,hours\n1,pay-1,delayed,soon,\n", "from_day must be a whole number"),
        (b"PAR1 and nothing more", "is neither Parquet nor CSV"),
    ):
        path.write_bytes(content)
        with pytest.raises(InputError, match=told):
            unavailable(load_federation(made.federation))
    path.write_bytes(b"id,partner,state,from_day,hours\n1,pay-1,delayed,0,2.0\n2,pay-1,abnormal,0,\n")
    assert _binding(made) == {("1", "pay-1", "delayed"), ("2", "pay-1", "abnormal")}


def test_a_population_says_it_as_it_is_read(tmp_path: Any) -> None:
    write_population(World(1_000, 3, partners_a_domain=3, outages=0.2), tmp_path / "people")
    listed = pl.read_parquet(tmp_path / "people" / "availability.parquet")
    assert set(listed["state"]) == set(STATES)
    now = unavailable(load_federation(tmp_path / "people" / "federation.toml"))
    assert set(now["state"]) == set(STATES) - {"consent_withdrawn"}
    assert now.height == listed.filter(pl.col("from_day") == 0).n_unique(["id", "partner"])


def test_a_sweep_notices_that_the_file_has_changed(made: Any) -> None:
    federation = load_federation(made.federation)
    found = [fingerprints(files_of(federation, None))]
    for hours in (5, 6):
        _listed(made, ("00001", "pay-1", "delayed", 0, hours))
        found.append(fingerprints(files_of(federation, None)))
    assert len({told["data_sha256"] for told in found}) == 3
    assert len({told["federation_sha256"] for told in found}) == 1


def test_no_partner_that_the_file_names_is_split_for_an_arm(
    write_federation: Callable[..., Any], persons: Callable[..., Any], party: Any
) -> None:
    labels, risk = persons(60)
    table = pl.DataFrame({"id": labels["id"], "x": risk})
    files = write_federation(labels.with_columns(hkey=pl.col("id").str.slice(4)), party("pay-1", table, X))
    federation = load_federation(files.federation)
    assert derived(federation, None, ARMS["home"])
    _listed(files, ("00001", "pay-1", "delayed", 0, 5))
    with pytest.raises(Skipped, match=r"availability\.parquet names those that there are"):
        derived(federation, None, ARMS["home"])
