"""A coordinator's folder: what is made, what is refused, and what a reader is told to do next."""

from __future__ import annotations

import base64
import configparser
import hashlib
import ipaddress
import shutil
import stat
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from model.inputs import InputError
from privacy.enrolment import fingerprint
from privacy.signing import verify_key
from server.coordinator import authority, bundling, founding
from server.coordinator.examples import COMPOSE, COORDINATOR_UNIT, PARTNER_UNIT
from server.coordinator.folder import Coordinator
from server.coordinator.looking import examine
from server.coordinator.roster import Roster
from server.coordinator.services import services
from tests.coordinator_world import Asking, found_hub, tiny_bundle


@pytest.fixture
def hub(tmp_path: Path) -> Coordinator:
    return found_hub(tmp_path / "hub")


def _certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def _verified(hub: Coordinator, name: x509.GeneralName) -> Any:
    store = Store([_certificate(hub.authority)])
    verifier = PolicyBuilder().store(store).build_server_verifier(name)  # type: ignore[arg-type]
    return verifier.verify(_certificate(hub.path / "certs" / "server.crt"), [])


def test_init_makes_a_folder_that_nobody_else_may_read_and_that_loads_again(hub: Coordinator) -> None:
    assert Coordinator.load(hub.path) == hub
    assert hub.bundle == hashlib.sha256(tiny_bundle()).hexdigest()
    assert len(hub.signing_key()) == 32
    for path in hub.path.rglob("*.key"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert stat.S_IMODE((hub.path / "certs" / "superexec.secret").stat().st_mode) == 0o600
    assert stat.S_IMODE(hub.path.stat().st_mode) == 0o700
    assert Roster.load(hub.path) == Roster()


def test_two_folders_share_no_key(tmp_path: Path) -> None:
    names = ("certs/ca.key", "certs/server.key", "certs/superexec.secret", "keys/sign.key")
    hubs = [found_hub(tmp_path / where) for where in ("a", "b")]
    made = [{(hub.path / name).read_bytes() for name in names} for hub in hubs]
    assert len(made[0] | made[1]) == 8


def test_the_server_certificate_holds_for_its_hosts_and_no_other(tmp_path: Path) -> None:
    hub = found_hub(tmp_path / "hub", host="credit.example.org")
    for good in ("credit.example.org", "localhost"):
        assert _verified(hub, x509.DNSName(good))
    assert _verified(hub, x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
    with pytest.raises(VerificationError):
        _verified(hub, x509.DNSName("other.example.org"))
    other = found_hub(tmp_path / "other", host="credit.example.org")
    shown = replace(hub, path=hub.path)
    (hub.path / "certs" / "server.crt").write_bytes((other.path / "certs" / "server.crt").read_bytes())
    with pytest.raises(VerificationError):
        _verified(shown, x509.DNSName("localhost"))


def test_a_holders_certificate_is_made_out_to_the_enrolled_name_and_cannot_serve(hub: Coordinator) -> None:
    asking = Asking.fresh("pay-1")
    made = x509.load_pem_x509_certificate(authority.certify_holder(hub, "pay-1", asking.csr()).encode())
    assert made.subject.rfc4514_string() == "CN=pay-1"
    assert made.public_key() == asking.node.public_key()
    made.verify_directly_issued_by(_certificate(hub.authority))
    assert made.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    assert [use.dotted_string for use in made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value] == [
        x509.ExtendedKeyUsageOID.CLIENT_AUTH.dotted_string
    ]


def test_an_expired_certificate_is_one_line_and_renewing_mends_it(hub: Coordinator) -> None:
    authority.certify_server(hub, days=0)
    with pytest.raises(InputError, match=r"server.crt: expired 0.0 days ago; run `fedscore coordinator renew"):
        authority.check_certificates(hub)
    assert [f.ok for f in examine(hub) if "certificate of the coordinator" in f.what] == [False]
    founding.renew(hub)
    authority.check_certificates(hub)
    assert Roster.load(hub.path).number == 1


def test_a_new_key_is_told_by_its_fingerprint_and_signs_from_then_on(hub: Coordinator, run_cli: Any) -> None:
    before = hub.signing_key()
    ended = run_cli("coordinator", "renew", hub.path, "--new-key")
    assert ended.code == 0
    told = base64.b64encode(verify_key(hub.signing_key())).decode()
    assert f"fingerprint of the coordinator: {fingerprint(told)}" in ended.out
    assert hub.signing_key() != before == (hub.path / "keys" / "sign.key.old").read_bytes()
    assert not (hub.path / "keys" / "sign.key.new").exists()
    assert "sound" in run_cli("log", "verify", hub.path, "--key", told).out


def test_a_certificate_of_the_future_points_to_the_clock(hub: Coordinator, monkeypatch: pytest.MonkeyPatch) -> None:
    class Early(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) - timedelta(hours=1)

    monkeypatch.setattr(authority, "datetime", Early)
    with pytest.raises(InputError, match=r"is not valid before .* UTC; check this machine's clock"):
        authority.check_certificates(hub)
    assert datetime.now(UTC) > _certificate(hub.authority).not_valid_before_utc


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('name = "demo-credit"', 'nam = "demo-credit"', "nam is not a known key; did you mean 'name'"),
        ('host = "localhost"', "host = 7", "host must be a text, got 7"),
        ('host = "localhost"', 'host = "a b"', "host must be a host name or an IPv4 address"),
        ("min-free-mib = 512", "min-free-mib = -1", "min-free-mib must be a whole number >= 0, got -1"),
        ('name = "demo-credit"', 'name = "Demo"', "name must be small letters"),
        ('name = "demo-credit"', "name = ", "is not valid TOML"),
    ],
)
def test_a_bad_setting_is_named_with_its_rule(hub: Coordinator, old: str, new: str, told: str) -> None:
    path = hub.path / "coordinator.toml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(InputError, match=told):
        Coordinator.load(hub.path)


def test_what_cannot_be_a_coordinators_folder_is_refused(hub: Coordinator, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no coordinator.toml; give a coordinator's folder, or make one by"):
        Coordinator.load(tmp_path)
    with pytest.raises(InputError, match="exists already; give another folder; keys are never replaced"):
        founding.init(hub, tiny_bundle())
    with pytest.raises(InputError, match="has a character that configuration files cannot hold"):
        found_hub(tmp_path / "a$b")
    with pytest.raises(InputError, match="cannot be made"):
        found_hub(tmp_path / "hub" / "coordinator.toml" / "below")
    with pytest.raises(InputError, match="link-port must differ from partner-port"):
        replace(hub, link_port=hub.partner_port)
    (hub.path / "keys" / "sign.key").write_bytes(b"short")
    with pytest.raises(InputError, match="is not the coordinator's key of 32 bytes; restore it from a backup"):
        hub.signing_key()


def test_a_folder_that_could_not_be_made_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: Any) -> None:
        raise InputError(tmp_path, "", "cannot be written (No space left on device)")

    monkeypatch.setattr(founding, "certify_server", full)
    with pytest.raises(InputError, match="No space left"):
        found_hub(tmp_path / "hub")
    assert not (tmp_path / "hub").exists()
    monkeypatch.undo()
    assert found_hub(tmp_path / "hub").path.is_dir()


def test_a_nearly_full_disk_is_said_with_what_to_do(hub: Coordinator) -> None:
    short = replace(hub, min_free_mib=10**9)
    with pytest.raises(InputError, match=r"MiB free, less than min-free-mib = 1,000,000,000; free some space"):
        short.check_disk()
    assert [f.ok for f in examine(short) if "MiB free" in f.what] == [False]


def test_an_upgrade_changes_the_bundle_and_the_number_once(hub: Coordinator) -> None:
    assert founding.upgrade(hub, tiny_bundle()) == hub
    changed = founding.upgrade(hub, tiny_bundle("# next\n"))
    assert changed.bundle != hub.bundle
    assert Coordinator.load(hub.path) == changed
    assert (hub.app / "pyproject.toml").read_text().endswith("# next\n")
    assert (hub.app / "left" / "left_out.py").is_file()
    assert Roster.load(hub.path).number == 1


def test_a_folder_without_sources_cannot_be_bundled(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"pyproject.toml is missing: only a checkout can be bundled; install"):
        bundling.build(tmp_path)


@pytest.mark.slow
def test_the_frozen_bundle_is_built_again_to_the_same_bytes(tmp_path: Path) -> None:
    made = bundling.build()
    assert bundling.freeze(made, tmp_path / "app") == hashlib.sha256(made).hexdigest()
    assert bundling.build(tmp_path / "app") == made
    names = {str(path.relative_to(tmp_path / "app")) for path in (tmp_path / "app").rglob("*.py")}
    assert "server/app.py" in names
    assert not [name for name in names if name.startswith("server/coordinator")]
    (tmp_path / "app" / "server" / "app.py").write_text("# other\napp = None\n")
    assert bundling.build(tmp_path / "app") != made


def test_the_link_is_started_in_its_hardened_form(hub: Coordinator) -> None:
    link = " ".join(services(hub)[0].command)
    for asked in (
        "--enable-supernode-auth",
        "--isolation process",
        f"--superexec-auth-secret-file {hub.path}/certs/superexec.secret",
        "--disable-runtime-dependency-installation",
        f"--database {hub.path}/run/state.db",
        "--host 127.0.0.1",
        f"--ssl-certfile {hub.path}/certs/server.crt",
    ):
        assert asked in link
    assert "--insecure" not in " ".join(word for service in services(hub) for word in service.command)


def test_the_systemd_units_say_what_is_run_and_confine_it(hub: Coordinator) -> None:
    for name, command in ((COORDINATOR_UNIT, "coordinator up"), (PARTNER_UNIT, "partner start")):
        unit = configparser.ConfigParser(interpolation=None, strict=True)
        unit.optionxform = str  # type: ignore[assignment,method-assign]
        unit.read_string((hub.path / "examples" / name).read_text())
        assert unit.sections() == ["Unit", "Service", "Install"]
        service = unit["Service"]
        assert command in service["ExecStart"]
        assert Path(service["ExecStart"].split()[0]).name == "fedscore"
        assert (service["NoNewPrivileges"], service["ProtectSystem"], service["UMask"]) == ("true", "strict", "0077")
        assert service["Restart"] == "on-failure"
    assert str(hub.path) in (hub.path / "examples" / COORDINATOR_UNIT).read_text()


def test_the_compose_file_is_yaml_and_its_services_run_our_commands(hub: Coordinator) -> None:
    yaml = pytest.importorskip("yaml")
    told = yaml.safe_load((hub.path / "examples" / COMPOSE).read_text())
    assert {name: row["command"][:3] for name, row in told["services"].items()} == {
        "coordinator": ["fedscore", "coordinator", "up"],
        "pay-1": ["fedscore", "partner", "start"],
    }
    assert told["services"]["coordinator"]["ports"] == [f"{hub.partner_port}:{hub.partner_port}"]
    assert not any("link" in str(row) or str(hub.link_port) in str(row) for row in told["services"].values())


def test_systemd_itself_accepts_the_units(hub: Coordinator) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed: the units were parsed as INI files only")
    unit = hub.path / "examples" / COORDINATOR_UNIT
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    assert "Unknown" not in done.stderr
