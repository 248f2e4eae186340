"""A programme over several runs: one budget, one ledger a holder and the coordinator's own, and nobody resets them."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from model.bundle import Bundle, decision_bundle
from model.inputs import InputError
from privacy.ledger import Ledger, LedgerMismatch, Terms
from privacy.plan import BudgetExceeded, LabelResponse, spent_by
from server.failures import RunFailed
from simulations.run import Settings, simulate

HOLDERS = ("lender", "pay-1", "shop-1", "shop-2", "tax-1")
PROTECTED = 'delta = 1e-5\nlabel-epsilon = 0.5\nwithin-domain = "home"'
Run = Callable[..., Any]

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture
def run(files: Any, tmp_path: Path) -> Run:
    """Runs the sample under the ledgers of one folder."""

    def made(name: str, **settings: Any) -> Any:
        return simulate(Settings(files.federation, tmp_path / name, ledger=tmp_path / "ledger", **settings))

    return made


def _book(folder: Path, holder: str, programme: str = "sample", delta: float = 1e-5) -> Ledger:
    owner = "" if holder == "coordinator" else holder
    return Ledger(folder / holder / "ledger.db", Terms(programme, owner, 1.0, 1.0, delta))


def _heads(folder: Path) -> dict[str, Any]:
    heads = {}
    for holder in (*HOLDERS, "coordinator"):
        with _book(folder, holder) as book:
            heads[holder] = book.head()
    return heads


def test_two_runs_compose_in_every_ledger_and_the_third_is_refused_whole(
    run: Run, run_cli: Any, files: Any, tmp_path: Path
) -> None:
    first, second = (run(name, epsilon=0.6).report for name in ("one", "two"))
    assert 0.59 < first["epsilon_run"] <= 0.6
    assert 0.59 < second["epsilon_run"] <= 0.6 < second["epsilon"] <= 1.0
    for holder in (*HOLDERS, "coordinator"):
        with _book(tmp_path / "ledger", holder) as book:
            assert len(book.plans()) == 2
            assert book.spent() == pytest.approx(second["epsilon"], abs=1e-5)
    before = _heads(tmp_path / "ledger")
    arguments = ("--epsilon", "0.6", "--ledger", tmp_path / "ledger", "--out", tmp_path / "three", "--quiet")
    ended = run_cli("simulate", files.federation, *arguments)
    assert (ended.code, len(ended.lines), ended.out) == (2, 1, "")
    for word in ("requested 0.6", "spent ", "remaining ", "would fit"):
        assert word in ended.err
    assert {p.name for p in tmp_path.iterdir()} == {"sample", "ledger", "one", "two"}
    assert _heads(tmp_path / "ledger") == before
    assert run("three", epsilon=0.1).report["epsilon"] <= 1.0  # a smaller plan still fits


def test_a_budget_is_the_federation_files_whatever_a_run_asks(run: Run, tmp_path: Path) -> None:
    with pytest.raises(BudgetExceeded):
        run("one", epsilon=1.5)
    assert not (tmp_path / "one").exists()
    for holder in HOLDERS:
        assert not (tmp_path / "ledger" / holder / "ledger.db").exists()


def test_ledgers_of_another_programme_or_delta_are_refused(run: Run, files: Any, tmp_path: Path) -> None:
    run("one", epsilon=0.3)
    before = _heads(tmp_path / "ledger")
    with pytest.raises(LedgerMismatch, match="delta: must be 1e-05"):
        run("two", epsilon=0.3, delta=1e-6)
    files.toml('name = "sample"', 'name = "other"')
    with pytest.raises(LedgerMismatch, match="programme: must be 'sample'"):
        run("two", epsilon=0.3)
    assert not (tmp_path / "two").exists()
    assert _heads(tmp_path / "ledger") == before


def test_without_privacy_no_ledger_can_be_given(run: Run, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--ledger cannot be given without privacy"):
        run("one", epsilon=float("inf"))
    assert not (tmp_path / "ledger").exists()


def test_another_hash_split_is_another_programme(run: Run, files: Any, tmp_path: Path) -> None:
    """Else a person could train in one run and be held out in the other, each under a budget of its own."""
    files.toml('split = "split"', "")
    assert run("one", epsilon=0.3, seed=1).report["programme"] == "sample, split 1"
    with pytest.raises(LedgerMismatch, match="programme: must be 'sample, split 1'"):
        run("two", epsilon=0.3, seed=2)
    assert run("three", epsilon=0.3, seed=1).report["epsilon"] > 0.3


@pytest.mark.parametrize("holder", ["tax-1", "lender"])
@pytest.mark.parametrize("on_failure", ["continue", "stop"])
def test_an_older_copy_of_a_ledger_is_noticed_by_the_coordinator(
    run: Run, tmp_path: Path, holder: str, on_failure: str
) -> None:
    folder, kept = tmp_path / "ledger" / holder, tmp_path / "kept"
    run("one", epsilon=0.3)
    shutil.copytree(folder, kept)
    run("two", epsilon=0.3)
    shutil.rmtree(folder)
    shutil.copytree(kept, folder)
    if (holder, on_failure) == ("tax-1", "continue"):
        report = run("three", epsilon=0.3).report
        assert report["failures"] == {"tax-1": "ledger"}
        assert set(report["partners"]) == set(HOLDERS) - {"lender", "tax-1"}
        return
    words = r"tax-1 \(ledger\)" if holder == "tax-1" else "the lender's cohort failed: ledger"
    with pytest.raises(RunFailed, match=words):
        run("three", epsilon=0.3, on_failure=on_failure)
    assert not (tmp_path / "three").exists()


@pytest.mark.parametrize("where", ["ledger", "one/ledger"])
def test_ledgers_survive_force_or_are_refused_where_they_would_not(files: Any, tmp_path: Path, where: str) -> None:
    settings = Settings(files.federation, tmp_path / "one", epsilon=0.3, ledger=tmp_path / where)
    if where == "one/ledger":
        with pytest.raises(InputError, match="--ledger"):
            simulate(settings)
        return
    simulate(settings)
    simulate(replace(settings, force=True))
    with _book(tmp_path / where, "pay-1") as book:
        assert len(book.plans()) == 2


def test_without_a_ledger_every_run_is_a_programme_of_its_own(files: Any, tmp_path: Path) -> None:
    for name in ("one", "two"):
        report = simulate(Settings(files.federation, tmp_path / name)).report
        assert 0.99 < report["epsilon"] == report["epsilon_run"] <= 1.0


@pytest.fixture
def protected(files: Any) -> Any:
    """The sample with told labels, home partners and private bins."""
    files.toml("delta = 1e-5", PROTECTED)
    return files.text("payments.contract.toml", 'kind = "numeric"', 'kind = "numeric"\nedges = "private"')


def test_labels_homes_and_private_bins_run_the_whole_chain(protected: Any, tmp_path: Path) -> None:
    report = simulate(Settings(protected.federation, tmp_path / "out")).report
    assert 0.99 < report["epsilon"] <= 1.0
    assert report["privacy"]["epsilon"] <= 1.0
    assert report["failures"] == {}
    assert report["privacy"]["labels"].startswith("randomised response, epsilon 0.5")
    assert set(report["privacy"]["within_domain"]) == {"ecommerce"}
    assert {"labels/lender", "bins/pay-1"} <= {line["name"] for line in report["releases"]}
    assert sum(report["decisions"].values()) == report["persons"]["held_out"]
    bundle = Bundle.load(tmp_path / "out" / "model")
    assert set(bundle.blocks) == {"lender_kyc", "payments", "ecommerce", "tax_business"}
    decision_bundle(tmp_path / "out" / "model")  # what `fedscore decide` loads; the run decided with it above


@pytest.mark.usefixtures("protected")
def test_a_second_run_tells_the_same_labels_and_does_not_pay_for_them_again(run: Run, tmp_path: Path) -> None:
    told = tmp_path / "ledger" / "lender" / "told_labels.parquet"
    run("one", epsilon=0.5)
    before = pl.read_parquet(told)
    report = run("two", epsilon=0.5).report
    assert pl.read_parquet(told).equals(before)
    with _book(tmp_path / "ledger", "lender") as book:
        plans = list(book.plans().values())
    assert all(isinstance(plan[0], LabelResponse) for plan in plans)
    again = [replace(plan[0], name=f"labels/{i}") for i, plan in enumerate(plans)]  # as if drawn anew in each run
    twice = [[anew, *plan[1:]] for anew, plan in zip(again, plans, strict=True)]
    assert report["epsilon"] < spent_by(twice, 1.0, 1e-5)
    assert report["epsilon"] <= 1.0
