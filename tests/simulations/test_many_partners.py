"""Hundreds of partners in one simulation: dealt out, planned, trained with one home a domain, within the budget."""

import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from clients import cohort
from clients.config import Node, run_federation
from model.contents import LARGEST
from model.federation import MAX_PARTNERS, load_federation
from model.inputs import InputError
from server.joint_planning import CHUNK
from server.planning import make_plan
from server.roster import planned
from simulations.bench_scale import TABLES, many_partners, measure
from simulations.run import Settings, simulate
from tests.conftest import Files

MANY = 200


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return many_partners(tmp_path_factory.mktemp("many"), MANY, 3000)


def test_each_domains_customers_are_dealt_out_some_of_them_twice(many: Path) -> None:
    federation = load_federation(many)
    assert len(federation.partners) == MANY <= MAX_PARTNERS
    for domain, file in TABLES.items():
        files = [pl.read_parquet(p.data[0]) for p in federation.partners if p.domain == domain]
        dealt, whole = pl.concat(files), pl.read_parquet(many.parent / "sample" / file)
        assert set(dealt["id"]) == set(whole["id"])
        assert 1.10 < dealt.height / whole.height < 1.18  # 15 % were dealt twice, a few of them to the same


def test_too_few_partners_for_the_domains_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--partners must be 3 or more, got 2"):
        many_partners(tmp_path, 2)


def test_two_hundred_homes_cost_a_person_no_more_noise_than_three(many: Path, tmp_path: Path) -> None:
    sizes = {"train": 8400, "held_out": 3600}
    plans = [
        make_plan(planned(load_federation(f), sizes), "scorecard", 1) for f in (many, many_partners(tmp_path, 3, 3000))
    ]
    large, small = ({line.name: line for line in p.plan.releases} for p in plans)
    assert plans[0].plan.spent() == pytest.approx(plans[1].plan.spent()) == pytest.approx(1.0, abs=0.01)
    assert len(large) == 2 * (MANY - 3) + len(small)
    for one in ("payments/payments-001", "tax_business/tax-business-001"):  # rounds change how often they are released
        per_mu = [line.noise_multiplier / np.sqrt(line.count) for line in (large[one], small[one])]
        assert per_mu[0] == pytest.approx(per_mu[1])


def test_no_message_of_a_joint_fit_with_two_hundred_owners_is_too_large_to_be_read(many: Path, tmp_path: Path) -> None:
    for file, whole in ((many, False), (many_partners(tmp_path, 9, 3000), True)):
        run = make_plan(planned(load_federation(file), {"train": 40_000, "held_out": 3600}), "moments", 1, "secure")
        assert run.joint is not None
        words = sum(len(owners) * width for owners, width in run.joint.blocks.values())
        assert 8 * words * run.joint.chunk <= LARGEST / 2
        assert (run.joint.chunk == CHUNK) is whole  # few owners' rows travel as they always did


def test_all_tables_of_a_large_federation_stay_loaded(many: Path, tmp_path: Path) -> None:
    config = {"federation": str(many), "out": str(tmp_path)}
    node = Node.of({"partition-id": 0, "num-partitions": 1}, config, 1)
    names = [p.name for p in node.federation.partners]
    first = [cohort.table_of(node, name) for name in names]
    again = [cohort.table_of(node, name) for name in names]
    assert all(one is two for one, two in zip(first, again, strict=True))


def test_a_federation_file_is_read_again_when_it_or_a_contract_changed(files: Files) -> None:
    config = {"federation": str(files.federation)}
    before = run_federation(config)
    assert run_federation(config) is before
    files.text("payments.contract.toml", "version = 1", "version = 23")
    after = run_federation(config)
    assert [h.contract.version for h in (before.partners[0], after.partners[0]) if h.contract] == [1, 23]
    files.toml("epsilon = 1.0", "epsilon = 2.25")
    assert run_federation(config).privacy.epsilon == 2.25


def test_the_bench_tells_seconds_and_bytes_of_whole_runs() -> None:
    (run,) = measure([3], ["inprocess"], 600, epsilon=float("inf"))
    assert (run.partners, run.backend) == (3, "inprocess")
    assert {"describe", "plan", "align", "train", "fuse"} <= run.seconds.keys()
    assert all(value > 0 for value in run.sent.values())


@pytest.mark.slow
def test_two_hundred_partners_train_in_one_simulation_within_the_budget(many: Path, tmp_path: Path) -> None:
    report: Any = simulate(Settings(many, tmp_path / "out")).report
    assert report["failures"] == {}
    assert len(report["partners"]) == MANY
    assert 0.99 < report["epsilon"] <= 1.0
    ledgers = sorted((tmp_path / "out").rglob("ledger.db"))
    assert len(ledgers) == MANY + 2  # the lender's, and the coordinator's
    for path in ledgers:
        with sqlite3.connect(path) as book:
            plans = book.execute("SELECT count(*) FROM entry WHERE key GLOB 'plan|*'").fetchone()
        assert plans == (1,)
    homes = [np.load(p)["home"] for p in (tmp_path / "out" / "nodes").glob("payments-*/home.npz")]
    assert len(homes) == len(range(0, MANY, 3))
    assert np.sum(homes, axis=0).max() == 1
