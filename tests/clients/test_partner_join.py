"""`fedscore partner init, join, allow, leave`: nothing is believed before it is confirmed, and nothing older after."""

from __future__ import annotations

import base64
import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

from clients.identity import introduction
from clients.nodefile import NodeFile
from clients.partner.folder import Folder
from clients.partner.joining import node_key, request_of
from privacy.enrolment import Enrolled, fingerprint
from privacy.signing import announcement, new_signing_key, verify_key
from tests.partners import BUNDLE, Hub

Run = Callable[..., Any]


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    return Hub(tmp_path)


@pytest.fixture
def holder(small: Path, tmp_path: Path, run_cli: Run) -> Callable[[str], Folder]:
    def made(name: str) -> Folder:
        ended = run_cli("partner", "init", tmp_path / name, "--name", name, "--federation", small)
        assert (ended.code, ended.err) == (0, "")
        return Folder.open(tmp_path / name)

    return made


def told(folder: Folder) -> bytes:
    """Everything that the folder holds."""
    return b"".join(bytes(p) + p.read_bytes() for p in sorted(folder.root.rglob("*")) if p.is_file())


def key_of(hub: Hub) -> str:
    return fingerprint(base64.b64encode(verify_key(hub.key)).decode())


def test_init_makes_keys_that_only_the_owner_reads_and_a_request_that_proves_them(
    holder: Callable[[str], Folder], small: Path
) -> None:
    folder = holder("pay-1")
    request = request_of(folder)
    assert (request.holder.name, request.holder.domain) == ("pay-1", "payments")
    own = folder.node.read_federation().holder("pay-1")
    assert own.contract is not None
    assert request.contract == own.contract.sha256
    csr = x509.load_pem_x509_csr(request.csr.encode())
    assert csr.is_signature_valid
    assert csr.public_key() == load_ssh_public_key(request.node_key.encode()) == node_key(folder).public_key()
    for path in (folder.node_key, *folder.node.durable.iterdir()):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.root.stat().st_mode) == 0o700
    secrets = [folder.node_key.read_bytes(), *(p.read_bytes() for p in folder.node.durable.iterdir())]
    sent = folder.request.read_bytes()
    assert not [s for s in secrets if s in sent or base64.b64encode(s) in sent]


def test_the_keys_of_the_request_are_those_that_the_node_plays_with(
    holder: Callable[[str], Folder], hub: Hub, run_cli: Run
) -> None:
    from clients.config import Node

    folder = holder("pay-1")
    assert run_cli("partner", "join", folder.root, hub.welcome(folder), "--yes").code == 0
    node = Node.own(NodeFile.load(folder.node.path))
    assert request_of(folder).holder == Enrolled("pay-1", "payments", **introduction(node, "pay-1"))


def test_init_never_replaces_keys(holder: Callable[[str], Folder], run_cli: Run) -> None:
    folder = holder("pay-1")
    before = told(folder)
    ended = run_cli("partner", "init", folder.root, "--name", "pay-1", "--domain", "payments")
    assert (ended.code, told(folder)) == (2, before)
    assert "exists already: its keys are this holder's" in ended.err


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        (["--name", "pay-9", "--federation", "{small}"], "is not in this federation, got 'pay-9'"),
        (["--name", "pay-1", "--domain", "ecommerce", "--federation", "{small}"], "--domain is not what"),
        (["--name", "pay-1"], "--domain is missing"),
        (["--name", "pay-1", "--federation", "nowhere.toml"], "does not exist"),
    ],
)
def test_init_for_a_holder_that_nobody_knows_makes_nothing(
    tmp_path: Path, small: Path, run_cli: Run, arguments: list[str], rule: str
) -> None:
    given = [argument.format(small=small) for argument in arguments]
    ended = run_cli("partner", "init", tmp_path / "new", *given)
    assert ended.code == 2
    assert len(ended.lines) == 1
    assert rule in ended.err
    assert not (tmp_path / "new").exists()


def test_join_shows_all_fingerprints_and_the_code_and_asks(
    holder: Callable[[str], Folder], hub: Hub, run_cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    pay, tax = holder("pay-1"), holder("tax-1")
    path, before = hub.welcome(pay, tax), told(pay)
    asked: list[str] = []
    monkeypatch.setattr("typer.confirm", lambda question: asked.append(question) or False)
    ended = run_cli("partner", "join", pay.root, path)
    assert (ended.code, told(pay)) == (2, before)
    assert "was not answered with yes: nothing was changed" in ended.err
    for text in (key_of(hub), fingerprint(request_of(tax).holder.verify), "tax-1 (tax_business)", BUNDLE):
        assert text in ended.out
    monkeypatch.setattr("typer.confirm", lambda question: asked.append(question) or True)
    ended = run_cli("partner", "join", pay.root, path)
    assert ended.code == 0
    assert len(asked) == 2
    assert json.loads(pay.trust.read_text()) == json.loads(path.read_text())
    assert pay.bundles() == [BUNDLE]
    assert pay.authority.read_bytes().startswith(b"-----BEGIN CERTIFICATE")


def test_a_fingerprint_that_was_told_must_be_the_coordinators(
    holder: Callable[[str], Folder], hub: Hub, run_cli: Run
) -> None:
    folder = holder("pay-1")
    path, before = hub.welcome(folder), told(folder)
    ended = run_cli("partner", "join", folder.root, path, "--fingerprint", "0" * 32)
    assert (ended.code, told(folder)) == (2, before)
    assert f"--fingerprint is not the coordinator's, which is {key_of(hub)}" in ended.err
    assert run_cli("partner", "join", folder.root, path, "--fingerprint", key_of(hub).upper()).code == 0


def _spoil(path: Path, old: str, new: str) -> Path:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    return path


def test_what_a_welcome_must_not_be(holder: Callable[[str], Folder], hub: Hub, run_cli: Run, tmp_path: Path) -> None:
    pay, tax = holder("pay-1"), holder("tax-1")
    own, other = request_of(pay).holder, request_of(tax).holder
    thief = Enrolled("pay-1", "payments", **announcement("pay-1", new_signing_key(), new_signing_key()))
    loose = Enrolled("pay-1", "payments", other.key, own.verify, own.bound)
    elsewhere = Enrolled("pay-1", "ecommerce", own.key, own.verify, own.bound)
    foreign = hub.authority.sign(node_key(tax).public_key()).decode()
    spoiled = {
        "was changed after it was signed": _spoil(hub.welcome(pay), BUNDLE, "cd" * 32),
        "is not a welcome": pay.request,
        "does not enrol pay-1 with the keys of": hub.welcome(pay, roster=(other,)),
        "roster does not enrol pay-1": hub.welcome(pay, roster=(elsewhere,)),
        "does not enrol pay-1 with the keys": hub.welcome(pay, roster=(thief,)),
        "a signature does not fit": hub.welcome(pay, roster=(loose,)),
        "names a holder twice": hub.welcome(pay, roster=(own, own)),
        "bundle must be a SHA-256": hub.welcome(pay, bundle="12"),
        "superlink must be host:port": hub.welcome(pay, superlink="127.0.0.1"),
        "authority is no certificate": hub.welcome(pay, authority="PEM"),
        "certificate is not of": hub.welcome(pay, certificate=foreign),
    }
    before = told(pay)
    for rule, path in spoiled.items():
        ended = run_cli("partner", "join", pay.root, path, "--yes")
        assert (ended.code, len(ended.lines), told(pay)) == (2, 1, before), rule
        assert rule in ended.err.split(path.name)[1], (rule, ended.err)


def test_a_later_welcome_says_what_changed_and_an_older_one_is_refused(
    holder: Callable[[str], Folder], hub: Hub, run_cli: Run
) -> None:
    pay, tax = holder("pay-1"), holder("tax-1")
    first, second = hub.welcome(pay), hub.welcome(pay, tax, number=2, bundle="cd" * 32)
    assert run_cli("partner", "join", pay.root, first, "--yes").code == 0
    told_second = run_cli("partner", "join", pay.root, second, "--yes").out
    for text in (f"code to allow    {'cd' * 32}", f"code to drop     {BUNDLE}", "holder           tax-1"):
        assert text in told_second
    assert pay.bundles() == ["cd" * 32]  # nobody may go back to the older code
    for old in (first, hub.welcome(pay, number=2), hub.welcome(pay, tax, number=1)):
        ended = run_cli("partner", "join", pay.root, old, "--yes")
        assert ended.code == 2
        assert "number must be above 2, which was accepted before" in ended.err
    again = run_cli("partner", "join", pay.root, second, "--yes")
    assert (again.code, "changes nothing" in again.out) == (0, True)
    moved = run_cli("partner", "join", pay.root, hub.welcome(pay, number=3, superlink="127.0.0.1:9"), "--yes")
    for text in ("connects to      127.0.0.1:9  (was 127.0.0.1:1)", "no longer there  tax-1"):
        assert text in moved.out
    assert "coordinator  " not in moved.out  # it is the same as before
    other = run_cli("partner", "join", pay.root, hub.welcome(pay, number=4, federation="other"), "--yes")
    assert "federation is not sample, which this node joined" in other.err


def test_another_coordinators_key_is_taken_by_its_fingerprint_only(
    holder: Callable[[str], Folder], hub: Hub, run_cli: Run, tmp_path: Path
) -> None:
    folder = holder("pay-1")
    assert run_cli("partner", "join", folder.root, hub.welcome(folder), "--yes").code == 0
    rekeyed = Hub(tmp_path, new_signing_key(), hub.authority)
    told_key = base64.b64encode(verify_key(rekeyed.key)).decode()
    path = rekeyed.welcome(folder, number=2, coordinator=told_key)
    ended = run_cli("partner", "join", folder.root, path, "--yes")
    assert ended.code == 2
    assert "CHANGED, was" in ended.out
    assert "--fingerprint must be given, as another key than before signed this welcome" in ended.err
    assert run_cli("partner", "join", folder.root, path, "--fingerprint", fingerprint(told_key)).code == 0
    assert folder.node.coordinator() == verify_key(rekeyed.key)


def test_bundles_are_allowed_one_by_one_after_a_question(holder: Callable[[str], Folder], run_cli: Run) -> None:
    folder = holder("pay-1")
    assert "is no SHA-256" in run_cli("partner", "allow", folder.root, "abc").err
    assert run_cli("partner", "allow", folder.root, "EF" * 32, "--yes").code == 0
    assert folder.bundles() == ["ef" * 32]
    assert "may run here already" in run_cli("partner", "allow", folder.root, "ef" * 32).out
    folder.allowed.write_text("# none\n\nnonsense\n")
    ended = run_cli("partner", "status", folder.root)
    assert (ended.code, len(ended.lines)) == (2, 1)
    assert "line 3 is no SHA-256, got 'nonsense'" in ended.err


def test_leaving_keeps_keys_and_ledger_and_ends_all_trust(
    holder: Callable[[str], Folder], hub: Hub, run_cli: Run
) -> None:
    from privacy import custody
    from privacy.ledger import Ledger, Terms
    from privacy.plan import Release

    folder = holder("pay-1")
    assert run_cli("partner", "ledger", folder.root).out.endswith("nothing is spent\n")
    assert "joined no federation" in run_cli("partner", "leave", folder.root, "--yes").err
    assert run_cli("partner", "join", folder.root, hub.welcome(folder), "--yes").code == 0
    with Ledger(folder.ledger, Terms("sample", "pay-1", 5.0, 8.0, 1e-5)) as book:
        book.reserve("plan", [Release("payments/pay-1", "pay-1", 2.0, 10, 40, 1.0, noise_multiplier=60.0)])
    assert "ledger of pay-1" in run_cli("partner", "ledger", folder.root).out
    assert "epsilon" in run_cli("partner", "status", folder.root).out
    rows = custody.export(folder.ledger)
    ended = run_cli("partner", "leave", folder.root, "--yes")
    assert ended.code == 0
    assert fingerprint(request_of(folder).holder.verify) in ended.out
    (exported,) = folder.root.glob("ledger-*.jsonl")
    assert exported.read_text() == rows == custody.export(folder.ledger)
    assert folder.bundles() == []
    started = run_cli("partner", "start", folder.root)
    assert (started.code, "joined no federation" in started.err) == (2, True)
    older = run_cli("partner", "join", folder.root, hub.welcome(folder, number=0), "--yes")
    assert "number must be above 1" in older.err


def test_new_keys_are_shown_as_changed_and_the_older_welcome_fits_no_longer(
    holder: Callable[[str], Folder], hub: Hub, run_cli: Run
) -> None:
    pay, tax = holder("pay-1"), holder("tax-1")
    first = hub.welcome(pay, tax)
    for folder, path in ((pay, first), (tax, hub.welcome(tax, pay))):
        assert run_cli("partner", "join", folder.root, path, "--yes").code == 0
    old = request_of(pay)
    assert run_cli("partner", "renew", pay.root, "--new-keys").code == 0
    new = request_of(pay)
    assert new.node_key != old.node_key
    assert {new.holder.key, new.holder.verify}.isdisjoint({old.holder.key, old.holder.verify})
    assert "does not enrol pay-1 with the keys of" in run_cli("partner", "join", pay.root, first, "--yes").err
    assert run_cli("partner", "join", pay.root, hub.welcome(pay, tax, number=2), "--yes").code == 0
    shown = run_cli("partner", "join", tax.root, hub.welcome(tax, pay, number=2), "--yes").out
    assert f"CHANGED, was {fingerprint(old.holder.verify)}" in shown
    assert fingerprint(new.holder.verify) in shown


@pytest.mark.parametrize("command", ["check", "status", "start", "stop", "ledger", "leave", "renew"])
def test_a_folder_that_is_none_is_one_line(tmp_path: Path, run_cli: Run, command: str) -> None:
    ended = run_cli("partner", command, tmp_path)
    assert (ended.code, len(ended.lines)) == (2, 1)
    assert "has no node.toml; make it with `fedscore partner init`" in ended.err
