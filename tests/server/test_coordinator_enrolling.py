"""Who may come in: requests that hold, clashes that are refused, welcomes that tell everybody the same."""

from __future__ import annotations

import base64
import io
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from model.inputs import InputError
from privacy.enrolment import EnrolmentError, Welcome, fingerprint
from privacy.signing import verify_key
from server.coordinator import enrolling
from server.coordinator.authority import check_possession
from server.coordinator.folder import Coordinator
from server.coordinator.roster import Roster, Row
from tests.conftest import Ended
from tests.coordinator_world import Asking, found_hub, without_signature

FORM = (serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)


@pytest.fixture
def hub(tmp_path: Path) -> Coordinator:
    return found_hub(tmp_path / "hub")


def _row(asking: Asking, node: str = "1") -> Row:
    return enrolling._row(asking.request(), node)


def test_a_request_that_holds_is_read_as_it_was_signed(tmp_path: Path) -> None:
    asking = Asking.fresh("pay-1")
    assert enrolling.read_request(asking.write(tmp_path)).request.holder == asking.request().holder


@pytest.mark.parametrize("field", ["node_key", "contract", "csr", "signature"])
def test_a_request_changed_on_its_way_is_refused_in_one_line(tmp_path: Path, field: str) -> None:
    path = without_signature(Asking.fresh("pay-1").write(tmp_path), **{field: "AAAA"})
    with pytest.raises(InputError, match="have its holder write it anew by `fedscore partner init`") as told:
        enrolling.read_request(path)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("name", ["../../keys/sign", "Pay", "", "pay 1", "a" * 33, "pay/1", "1"])
def test_a_name_that_could_lead_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    asking = Asking.fresh(name)
    path = tmp_path / "request.json"
    path.write_text(asking.request().to_json(asking.signing))
    with pytest.raises(InputError, match="must name its holder in small letters, digits and hyphens"):
        enrolling.read_request(path)


def test_a_request_needs_proof_that_the_node_key_is_its_senders(tmp_path: Path) -> None:
    asking, thief = Asking.fresh("pay-1"), Asking.fresh("pay-2")
    for changes, told in (
        ({"node_key": thief.node_key}, "has a signing request for another key than its node key"),
        ({"csr": thief.csr()}, "has a signing request for another key than its node key"),
        ({"csr": "nothing"}, "has a node key or a signing request that cannot be read"),
        ({"node_key": "nothing"}, "has a node key or a signing request that cannot be read"),
        ({"contract": "short"}, "must give its contract's SHA-256 as 64 hexadecimal digits"),
    ):
        with pytest.raises(InputError, match=told):
            enrolling.read_request(asking.write(tmp_path, **changes))


def test_a_signing_request_that_its_key_did_not_sign_is_refused() -> None:
    asking = Asking.fresh("pay-1")
    body = x509.load_pem_x509_csr(asking.csr().encode()).public_bytes(serialization.Encoding.DER)
    changed = body.replace(b"whatever it says", b"whatever it sayz")
    text = "-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n"
    check_possession(text.format(base64.b64encode(body).decode()), asking.node_key)
    with pytest.raises(EnrolmentError, match="has a signing request that its key did not sign"):
        check_possession(text.format(base64.b64encode(changed).decode()), asking.node_key)


@pytest.mark.parametrize("key", [ed25519.Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP256R1())])
def test_a_node_key_that_flower_could_not_use_is_refused(key: ec.EllipticCurvePrivateKey) -> None:
    told = key.public_key().public_bytes(*FORM).decode()
    with pytest.raises(EnrolmentError, match="has a node key of another kind than EC P-384"):
        check_possession(Asking.fresh("pay-1").csr(), told)


def test_names_domains_and_keys_do_not_clash(tmp_path: Path) -> None:
    known, path = Asking.fresh("pay-1"), tmp_path / "request.json"
    roster = Roster().with_row(_row(known))
    assert enrolling.check_clash(path, known.request(), roster, False) == roster.find("pay-1")
    assert enrolling.check_clash(path, Asking.fresh("pay-2").request(), roster, False) is None
    stranger = Asking.fresh("pay-1")
    with pytest.raises(InputError, match=r"has other keys than pay-1 was enrolled with; .*--replace"):
        enrolling.check_clash(path, stranger.request(), roster, False)
    assert enrolling.check_clash(path, stranger.request(), roster, True) == roster.find("pay-1")
    moved = Asking("pay-1", "ecommerce", known.sealing, known.signing, known.node)
    with pytest.raises(InputError, match="domain of pay-1 is payments since it was enrolled, got 'ecommerce'"):
        enrolling.check_clash(path, moved.request(), roster, True)
    for sealing, signing, node in (
        (known.sealing, stranger.signing, stranger.node),
        (stranger.sealing, known.signing, stranger.node),
        (stranger.sealing, stranger.signing, known.node),
    ):
        twin = Asking("pay-2", "payments", sealing, signing, node)
        with pytest.raises(InputError, match="has a key of pay-1, got 'pay-2'; each holder makes keys of its own"):
            enrolling.check_clash(path, twin.request(), roster, True)


def test_the_next_version_of_a_contract_needs_no_new_keys(tmp_path: Path) -> None:
    known = Asking.fresh("pay-1")
    roster = Roster().with_row(_row(known))
    told = known.request(contract="cd" * 32)
    assert enrolling.check_clash(tmp_path / "request.json", told, roster, False) == roster.find("pay-1")
    after = roster.with_row(enrolling._row(told, "1"))  # the old row has left, with the same node key
    assert enrolling.check_clash(tmp_path / "request.json", told, after, False) == after.find("pay-1")


def test_the_roster_counts_up_and_keeps_who_left(hub: Coordinator) -> None:
    one, other, again = Asking.fresh("pay-1"), Asking.fresh("lender"), Asking.fresh("pay-1")
    roster = Roster().with_row(_row(one)).with_row(_row(other)).with_row(_row(again, "2"))
    assert (roster.number, [r.name for r in roster.holders]) == (3, ["lender", "pay-1"])
    assert [r.node for r in roster.left] == ["1"]
    roster.save(hub.path)
    assert Roster.load(hub.path) == roster
    assert [r.name for r in roster.without("pay-1").left] == ["pay-1", "pay-1"]
    for text in ('{"version": 1}', "[]", "nothing", '{"version": 2, "number": 1, "holders": [], "left": []}'):
        (hub.path / "roster.json").write_text(text)
        with pytest.raises(InputError, match=r"roster.json: is no roster of this version; restore it from a backup"):
            Roster.load(hub.path)


def test_every_welcome_names_the_same_roster_and_its_holders_own_certificate(hub: Coordinator) -> None:
    askings = [Asking.fresh(name) for name in ("lender", "pay-1", "pay-2")]
    roster = Roster()
    for asking in askings:
        roster = roster.with_row(_row(asking))
    enrolling.welcome_all(hub, roster)
    texts = {a.name: (hub.path / "welcomes" / f"{a.name}.welcome.json").read_text() for a in askings}
    welcomes = {name: Welcome.of(text) for name, text in texts.items()}
    assert {w.roster for w in welcomes.values()} == {tuple(row.public for row in roster.holders)}
    for asking in askings:
        told = welcomes[asking.name]
        assert (told.number, told.superlink, told.bundle) == (3, f"localhost:{hub.partner_port}", hub.bundle)
        assert base64.b64decode(told.coordinator) == verify_key(hub.signing_key())
        certificate = x509.load_pem_x509_certificate(told.certificate.encode())
        assert certificate.public_key() == asking.node.public_key()
    for text in texts.values():
        assert not re.search("PRIVATE KEY|node_key|csr", text)


def test_a_welcome_that_was_sent_stays_the_same_bytes_until_the_number_changes(hub: Coordinator) -> None:
    roster = Roster().with_row(_row(Asking.fresh("lender"))).with_row(_row(Asking.fresh("pay-1")))
    path, other = (hub.path / "welcomes" / f"{name}.welcome.json" for name in ("pay-1", "lender"))
    enrolling.welcome_all(hub, roster)
    before = path.read_bytes()
    other.write_text("half a fi")  # an attempt that was cut off
    enrolling.welcome_all(hub, roster)
    assert path.read_bytes() == before
    assert Welcome.of(other.read_text()).number == 2
    enrolling.welcome_all(hub, roster.renumbered())
    assert Welcome.of(path.read_text()).number == 3


def test_who_left_comes_back_with_a_new_node_key(tmp_path: Path) -> None:
    known = Asking.fresh("pay-1")
    roster = Roster().with_row(_row(known)).without("pay-1")
    with pytest.raises(
        InputError, match=r"has the node key of a node that left, got 'pay-1'; .* `fedscore partner renew"
    ):
        enrolling.check_clash(tmp_path / "request.json", known.request(), roster, False)
    again = Asking("pay-1", known.domain, known.sealing, known.signing, Asking.fresh("pay-1").node)
    assert enrolling.check_clash(tmp_path / "request.json", again.request(), roster, False) is None


def test_a_node_that_an_interrupted_attempt_registered_is_found_again(hub: Coordinator) -> None:
    asking, gone, stranger = (Asking.fresh(name) for name in ("pay-1", "pay-2", "pay-3"))
    form = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert enrolling._registered(hub, asking.node_key) is None  # no database yet
    with closing(sqlite3.connect(hub.running / "state.db")) as database, database:
        database.execute("CREATE TABLE node (node_id BIGINT, public_key BLOB, unregistered_at VARCHAR)")
        rows = [(-(2**62), asking, ""), (7, gone, "2026-11-25T00:00:00Z")]
        for number, holder, left in rows:
            key = holder.node.public_key().public_bytes(*form)
            database.execute("INSERT INTO node VALUES (?, ?, ?)", (number, key, left))
    assert enrolling._registered(hub, asking.node_key) == str(2**64 - 2**62)  # Flower's ids have no sign
    assert enrolling._registered(hub, gone.node_key) is None
    assert enrolling._registered(hub, stranger.node_key) is None


def test_whoever_is_not_up_is_told_to_be(hub: Coordinator, tmp_path: Path, run_cli: Callable[..., Ended]) -> None:
    path = Asking.fresh("pay-1").write(tmp_path)
    for command in (("enrol", hub.path, path, "--yes"), ("expel", hub.path, "pay-1"), ("runs", hub.path)):
        ended = run_cli("coordinator", *command)
        assert (ended.code, len(ended.lines)) == (2, 1), ended
        assert f"is not up; start it by `fedscore coordinator up {hub.path} --background`" in ended.err
    assert Roster.load(hub.path) == Roster()


def test_enrol_shows_the_fingerprints_and_asks_before_anything_is_done(
    hub: Coordinator, tmp_path: Path, run_cli: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    asking = Asking.fresh("pay-1")
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    ended = run_cli("coordinator", "enrol", hub.path, asking.write(tmp_path))
    assert ended.code == 2
    assert fingerprint(asking.request().holder.verify) in ended.out
    assert "nobody was enrolled; compare the fingerprints" in ended.err
    assert Roster.load(hub.path) == Roster()


@pytest.mark.parametrize(
    "domain", ["\x1b[3A\r\x1b[2Kpayments", "pay\nments", "payments): 0f3a 91bc (", "\u202epay", "x" * 65]
)
def test_no_word_of_a_request_writes_over_a_fingerprint(
    hub: Coordinator, tmp_path: Path, run_cli: Callable[..., Ended], domain: str
) -> None:
    path = Asking.fresh("pay-1", domain).write(tmp_path)
    ended = run_cli("coordinator", "enrol", hub.path, path, "--yes")
    assert (ended.code, len(ended.lines), ended.out) == (2, 1, "")
    assert "must name its domain in at most 64 letters" in ended.err
    assert domain not in ended.err


def test_the_request_that_was_confirmed_is_the_one_that_is_enrolled(
    hub: Coordinator, tmp_path: Path, run_cli: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, other = Asking.fresh("pay-1"), Asking.fresh("pay-1")
    path = honest.write(tmp_path)
    confirmed = path.read_text()

    def swap(question: str) -> bool:  # while a person compares, somebody changes the shared folder
        del question
        other.write(tmp_path)
        return True

    monkeypatch.setattr("typer.confirm", swap)
    monkeypatch.setattr(enrolling, "check_up", lambda coordinator: None)
    monkeypatch.setattr(enrolling, "_register", lambda coordinator, request: "7")  # Flower's part
    ended = run_cli("coordinator", "enrol", hub.path, path)
    assert (ended.code, path.read_text() == confirmed) == (0, False), ended
    row = Roster.load(hub.path).find("pay-1")
    assert row is not None
    assert (row.public, row.node_key) == (honest.request().holder, honest.node_key)
    assert (hub.path / "requests" / "pay-1.json").read_text() == confirmed
