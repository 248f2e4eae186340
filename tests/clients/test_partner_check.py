"""`fedscore partner check`: what is wrong with data, machine and link, in plain words, and never a person's value."""

from __future__ import annotations

import datetime
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from clients.partner import joining, linkcheck
from clients.partner.folder import Folder
from clients.partner.words import LANGUAGES, MARKS, TEXTS, Finding
from tests.partners import Authority, Hub, answering, new_key

Run = Callable[..., Any]


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The coordinator's end is a thread of this process, which may have to wait for a core."""
    monkeypatch.setattr(linkcheck, "SECONDS", 60.0)


@pytest.fixture
def folder(files: Any, tmp_path: Path, run_cli: Run) -> Folder:
    assert run_cli("partner", "init", tmp_path / "pay", "--name", "pay-1", "--federation", files.federation).code == 0
    return Folder.open(tmp_path / "pay")


@pytest.fixture
def check(folder: Folder, run_cli: Run) -> Callable[..., Any]:
    return lambda *options: run_cli("partner", "check", folder.root, *options)


def edit(folder: Folder, old: str, new: str) -> None:
    text = folder.node.path.read_text()
    assert old in text
    folder.node.path.write_text(text.replace(old, new, 1))


def test_good_data_on_a_good_machine_are_nothing_to_mend(check: Run) -> None:
    ended = check()
    assert (ended.code, ended.err) == (0, "")
    for text in ("rows, one a person", "columns keep to the contract", "keys: for their owner's eyes only", "MiB free"):
        assert text in ended.out
    assert ended.out.endswith("nothing to mend\n")


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_finding_has_words_in_both_languages(check: Run, language: str) -> None:
    ended = check("--language", language)
    assert ended.code == 0
    assert MARKS[True][LANGUAGES.index(language)] in ended.out
    assert ("契约" in ended.out) == (language == "zh")
    for english, chinese in TEXTS.values():
        fields = [sorted(part.split("}")[0].split(":")[0] for part in t.split("{")[1:]) for t in (english, chinese)]
        assert set(fields[1]) <= set(fields[0])
        assert bool(english) == bool(chinese)


def test_another_language_is_refused(check: Run) -> None:
    ended = check("--language", "fr")
    assert (ended.code, len(ended.lines)) == (2, 1)
    assert "--language must be en or zh, got 'fr'" in ended.err


NUMBER = "savings_balance_cny"
SPOILED: dict[str, tuple[Callable[[pl.DataFrame], pl.DataFrame], str, int]] = {
    "absent": (
        lambda t: t.rename({NUMBER: "savings_balance_cnyy"}),
        f"FAIL {NUMBER}: the contract names this column, the file has none of that name (did you mean {NUMBER}y?)",
        1,
    ),
    "empty": (lambda t: t.with_columns(pl.lit(None, pl.Float64).alias(NUMBER)), "every value is missing", 1),
    "unit": (
        lambda t: t.with_columns(pl.lit(7e9).alias(NUMBER)),
        f"FAIL {NUMBER}: 100% of the values are outside the contract's range [0, 5e+06]",
        1,
    ),
    "constant": (lambda t: t.with_columns(pl.lit(5.0).alias(NUMBER)), "note savings_balance_cny: all values that", 0),
    "words": (
        lambda t: t.with_columns(pl.lit("SECRET-WORD").alias(NUMBER)),
        f"FAIL {NUMBER}: 100% of the values are not numbers",
        1,
    ),
    "twice": (lambda t: pl.concat([t, t.head(1)]), "must be unique, one row a person, got 'rows 1 and ", 1),
    "one person": (
        lambda t: pl.concat([t, *(t.head(1).with_columns(id=pl.lit(name)) for name in ("Ｓ", "S"))]),
        "is one person in two rows",
        1,
    ),
    "few": (lambda t: t.head(40), "40 rows are fewer than min-cohort = 100", 1),
    "no id": (lambda t: t.drop("id"), "id is not a column of this file", 1),
    "hollow": (
        lambda t: t.with_columns(
            pl.when(pl.int_range(t.height) > 300).then(c).alias(c) for c in t.columns if c != "id"
        ),
        "of the rows have no value in any feature",
        1,
    ),
    "extra": (lambda t: t.with_columns(more=1), "1 columns are not in the contract and are ignored", 0),
}


@pytest.mark.parametrize("what", SPOILED)
def test_what_is_wrong_with_a_file_is_said_without_any_value_of_it(
    files: Any, check: Run, folder: Folder, what: str
) -> None:
    change, text, code = SPOILED[what]
    files.table("payments.parquet", change)
    ended = check("--offline")
    assert text in ended.out
    assert ended.code == code
    ids = pl.read_parquet(files.folder / "payments.parquet").to_series(0).cast(pl.String).to_list()
    said = ended.out + ended.err
    assert not [i for i in ids if i and len(i) > 3 and i in said]
    assert "SECRET-WORD" not in said
    assert "Ｓ" not in said


def test_categories_that_the_contract_does_not_know_are_counted_never_shown(
    files: Any, run_cli: Run, tmp_path: Path
) -> None:
    run_cli("partner", "init", tmp_path / "tax", "--name", "tax-1", "--federation", files.federation)
    folder = Folder.open(tmp_path / "tax")
    contract = folder.node.read_federation().holder("tax-1").contract
    assert contract is not None
    name = next(f.name for f in contract.features if f.kind in ("categorical", "ordinal"))
    files.table("tax_business.parquet", lambda t: t.with_columns(pl.lit("Mrs Miller").alias(name)))
    ended = run_cli("partner", "check", folder.root)
    assert f"FAIL {name}: 100% of the values, 1 different ones, are not in the contract's list" in ended.out
    assert "Miller" not in ended.out


def test_a_missing_file_fails_and_all_else_is_still_looked_at(files: Any, check: Run) -> None:
    (files.folder / "payments.parquet").unlink()
    ended = check()
    assert ended.code == 1
    assert "does not exist; check the path" in ended.out
    assert "MiB free" in ended.out
    assert "to mend: 1, marked FAIL" in ended.out


def test_data_that_move_between_two_checks_are_noticed(files: Any, check: Run) -> None:
    assert "the bins' shares are kept in profile.json" in check().out
    assert "its bins moved" not in check().out
    files.table("payments.parquet", lambda t: t.with_columns(pl.col(NUMBER) / 50))
    assert f"note {NUMBER}: its bins moved since" in check().out


def test_how_much_of_the_last_alignment_is_covered_is_told(folder: Folder, check: Run) -> None:
    np.savez(folder.node.durable / "cohort.npz", rows=np.array([0, -1, 4, -1]))
    assert "ok   50% of the persons that were aligned last have a row here" in check().out


def _dated(days: int) -> Callable[[pl.DataFrame], pl.DataFrame]:
    """Dates so many days before the test is run, which may be on another day than it was collected."""
    return lambda t: t.with_columns(pl.lit(datetime.date.today() - datetime.timedelta(days)).alias("made"))


@pytest.mark.parametrize(
    ("change", "most", "text", "code"),
    [
        (_dated(3), 30, "made: the newest row is of", 0),
        (_dated(45), 30, "45 days ago; max-age-days is 30", 1),
        (_dated(-2), 30, "made: 100% of the dates are in the future", 1),
        (lambda t: t.with_columns(made=pl.lit("last week")), 30, "100% of the values are no dates like 2026-01-31", 1),
        (lambda t: t, 30, "made: [check] date names this column, the file has none", 1),
    ],
)
def test_freshness_by_a_date_column(
    files: Any, folder: Folder, check: Run, change: Any, most: int, text: str, code: int
) -> None:
    files.table("payments.parquet", change)
    edit(folder, 'date = ""', 'date = "made"')
    edit(folder, "max-age-days = 0", f"max-age-days = {most}")
    ended = check()
    assert text in ended.out
    assert ended.code == code


def test_a_lenders_outcomes_are_looked_at_too(files: Any, run_cli: Run, tmp_path: Path) -> None:
    run_cli("partner", "init", tmp_path / "l", "--name", "lender", "--federation", files.federation)
    assert run_cli("partner", "check", tmp_path / "l").code == 0
    files.table("labels.parquet", lambda t: t.with_columns(label=pl.lit(1)))
    ended = run_cli("partner", "check", tmp_path / "l")
    assert (ended.code, "label has one class only among the training rows" in ended.out) == (1, True)


def test_this_machine(folder: Folder, check: Run) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        edit(folder, "port = 0", f"port = {taken.getsockname()[1]}")
        edit(folder, "min-free-disk = 512", "min-free-disk = 9_000_000_000")
        folder.node_key.chmod(0o644)
        folder.ledger.write_bytes(b"no ledger")
        ended = check()
    for text in ("is taken: set another one", "no order would be taken", "node.key: others on", "FAIL ledger: "):
        assert text in ended.out
    assert ended.code == 1


@pytest.mark.parametrize("name", ["node.key", "state/pay-1/sign.key", "state/pay-1/seal.key"])
def test_a_key_that_is_not_the_one_told_is_noticed(folder: Folder, check: Run, name: str) -> None:
    (folder.root / name).unlink()
    if name == "node.key":
        other = joining.make(folder.root.parent / "other", joining.Wish("pay-1", "payments", None, ()))
        other.node_key.rename(folder.node_key)
    ended = check()
    assert (ended.code, "keys: not those that request.json told" in ended.out) == (1, True)


def test_a_node_key_that_is_none_is_one_line(folder: Folder, check: Run) -> None:
    folder.node_key.write_bytes(b"-----BEGIN OPENSSH PRIVATE KEY-----\n")
    ended = check()
    assert (ended.code, len(ended.lines)) == (2, 1)
    assert "is no private key of an elliptic curve; put a good copy back" in ended.err


def test_a_contracts_next_version_asks_for_a_new_request(files: Any, folder: Folder, check: Run, run_cli: Run) -> None:
    files.text("payments.contract.toml", "version = 1", "version = 2")
    assert "is no longer the one that request.json told: `fedscore partner renew`" in check().out
    before = folder.node_key.read_bytes()
    assert run_cli("partner", "renew", folder.root).code == 0
    assert "the contract is the one that request.json told" in check().out
    assert folder.node_key.read_bytes() == before


def test_the_coordinator_is_asked_over_tls_by_what_the_welcome_says(
    folder: Folder, check: Run, run_cli: Run, tmp_path: Path
) -> None:
    hub, key = Hub(tmp_path), new_key()
    with answering(tmp_path, hub.authority.sign(key.public_key()), key) as port:
        path = hub.welcome(folder, superlink=f"127.0.0.1:{port}")
        assert run_cli("partner", "join", folder.root, path, "--yes").code == 0
        ended = check()
        assert ended.code == 0
        for text in ("answers over TLS in", "the coordinator's certificate holds until", " s from the coordinator's"):
            assert text in ended.out
        folder.allowed.write_text("")
        assert "of the welcome may not run here: `fedscore partner allow`" in check("--offline").out
    ended = check()
    assert (ended.code, "nobody listens there" in ended.out) == (1, True)


@pytest.mark.parametrize(
    ("served", "key"),
    [
        ({}, "link.good"),
        ({"days": (-90, -1)}, "tls.expired"),
        ({"days": (1, 90)}, "tls.early"),
        ({"days": (-90, 7)}, "cert.soon"),
        ({"host": "example.org"}, "tls.host"),
        ({"authority": Authority()}, "tls.wrong"),
        ({"ahead": 3600.0}, "clock.off"),
        ({"ahead": -3600.0, "days": (-90, -1)}, "clock.off"),
        ({"status": 404}, "link.odd"),
    ],
)
def test_what_can_be_wrong_with_the_coordinators_end(tmp_path: Path, served: dict[str, Any], key: str) -> None:
    authority, own = Authority(), new_key()
    (tmp_path / "ca.crt").write_bytes(authority.pem)
    signer = served.get("authority", authority)
    options = {name: served[name] for name in ("days", "host") if name in served}
    certificate = signer.sign(own.public_key(), **options)
    rest = {name: served[name] for name in ("ahead", "status") if name in served}
    with answering(tmp_path, certificate, own, **rest) as port:
        found = list(_examine(tmp_path, f"127.0.0.1:{port}"))
    told = {finding.key: finding.ok for finding in found}
    assert key in told
    expected = {"link.good": True, "cert.soon": None}.get(key, False)
    assert told[key] is expected
    if expected is True:
        assert set(told.values()) == {True}
    for finding in found:
        assert all(finding.text(language) for language in LANGUAGES)


def _examine(folder: Path, address: str) -> list[Finding]:
    return list(linkcheck.examine(folder / "node.toml", address, folder / "ca.crt", folder / "none.crt"))


def test_an_address_where_nobody_speaks_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ca.crt").write_bytes(Authority().pem)
    assert _examine(tmp_path, "no-such-host.invalid:1")[-1].key == "link.name"
    monkeypatch.setattr(linkcheck, "SECONDS", 0.3)
    with socket.socket() as plain:
        plain.bind(("127.0.0.1", 0))
        plain.listen()
        assert _examine(tmp_path, f"127.0.0.1:{plain.getsockname()[1]}")[-1].key == "link.silent"
