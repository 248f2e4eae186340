"""A whole federation over TLS on this machine, by the commands that people type: minutes, and nothing is left."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPSConnection
from pathlib import Path
from ssl import create_default_context
from typing import Any

import polars as pl
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from model import metrics
from server.coordinator.bundling import build, digest
from server.coordinator.processes import end, environment, free_port, started, write_profile
from server.coordinator.running import nodes, runs
from server.coordinator.services import PROFILE, flower_environment
from tests.federation_world import BIN, HOLDERS, Federation, federation

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("nginx"), reason="nginx is not installed: no partner's listener"),
]
APPLICANTS, FIRST = 200, "first"
PERSONS, EPSILON = 3000, 24.0  # two draws of the noise differ by less than .02 in AUC


@pytest.fixture(scope="module")
def fed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    with federation(tmp_path_factory.mktemp("federation"), PERSONS, EPSILON) as made:
        yield made


@pytest.fixture(scope="module")
def first(fed: Federation) -> Any:
    """The first run, from the enrolled federation to the published model."""
    began = time.monotonic()
    told = fed.done("coordinator", "run", "hub", "--name", FIRST)
    seconds = time.monotonic() - began
    assert f"published: {fed.hub.path / 'out' / 'first' / 'model'}" in told
    return {**json.loads((fed.hub.path / "out" / "first" / "run.json").read_text()), "wall": seconds}


def _auc(fed: Federation, scores: Path) -> float:
    labels = pl.read_parquet(fed.root / "sample" / "labels.parquet").with_columns(pl.col("id").cast(pl.String))
    joined = pl.read_parquet(scores).with_columns(pl.col("id").cast(pl.String)).join(labels, on="id", how="inner")
    assert joined.height > PERSONS // 10
    return float(metrics.auc(joined["label"].cast(pl.Float64).to_numpy(), joined["z"].to_numpy()))


def test_everybody_is_online_and_status_says_so(fed: Federation) -> None:
    told = fed.done("coordinator", "status", "hub")
    for name in HOLDERS:
        assert re.search(rf"^ok   {name} .*: online$", told, flags=re.M), told
    assert "FAIL" not in told
    for name in HOLDERS:
        fed.done("partner", "status", name)


def test_the_run_publishes_a_model_of_all_domains(fed: Federation, first: dict[str, Any]) -> None:
    assert first["failures"] == {}
    assert set(first["partners"]) == set(HOLDERS) - {"lender"}
    assert (fed.hub.path / "ledger").is_dir()


def test_scores_are_as_good_as_in_one_process(fed: Federation, first: dict[str, Any]) -> None:
    fed.done("simulate", "sample/federation.toml", "--out", "inprocess", "--quiet")
    apart, together = _auc(fed, fed.evidence()), _auc(fed, fed.root / "inprocess" / "scores.parquet")
    assert apart > 0.6
    assert abs(apart - together) < 0.03, (apart, together)


def test_new_applicants_are_scored_by_all_domains_and_decided(fed: Federation, first: dict[str, Any]) -> None:
    kyc = pl.read_parquet(fed.root / "sample" / "lender_kyc.parquet").head(APPLICANTS)
    asked = json.loads((fed.root / "sample" / "request.json").read_text())
    numbered = ({"request_id": str(uuid.uuid4()), "subject_ref": f"{number:064x}"} for number in range(kyc.height))
    requests = [json.dumps({**asked, **own}) for own in numbered]
    kyc.with_columns(pl.Series("request", requests)).write_parquet(fed.root / "lender" / "applicants.parquet")
    node = fed.root / "lender" / "node.toml"
    node.write_text(node.read_text().replace("[node]\n", '[node]\napplicants = "applicants.parquet"\n'))
    before = {name: fed.done("partner", "ledger", name) for name in HOLDERS}
    began = time.monotonic()
    fed.done("coordinator", "score", "hub", FIRST)
    scored = time.monotonic() - began
    folder = fed.evidence().parent
    evidence = pl.read_parquet(folder / "applicants-evidence.parquet")
    assert evidence.height == APPLICANTS
    assert {f"sub_{d}" for d in (*first["partners"].values(), "lender_kyc")} <= set(evidence.columns)
    model = f"hub/out/{FIRST}/model"
    fed.done("decide", model, "--requests", folder / "requests.parquet", "--out", "decided.parquet", "--no-steps")
    assert pl.read_parquet(fed.root / "decided.parquet").height == APPLICANTS
    print(f"seconds: until all were online {fed.seconds:.0f}, trained {first['wall']:.0f}, scored {scored:.0f}")
    assert {name: fed.done("partner", "ledger", name) for name in HOLDERS} == before  # nothing is charged


def test_every_holder_has_charged_its_own_ledger(fed: Federation, first: dict[str, Any]) -> None:
    for name in HOLDERS:
        told = fed.done("partner", "ledger", name)
        assert "spent, all lines: epsilon" in told


def test_a_second_run_of_the_same_programme_is_refused_by_the_budget(fed: Federation, first: dict[str, Any]) -> None:
    ended = fed.call("coordinator", "run", "hub", "--name", "second")
    assert ended.returncode == 1
    assert "budget" in ended.stderr
    assert not (fed.hub.path / "out" / "second" / "model").exists()


def test_the_partners_listener_gives_no_control(fed: Federation, tmp_path: Path) -> None:
    hub = fed.hub
    context = create_default_context(cafile=str(hub.authority))
    for path in ("/v1/control/list-runs", "/v1/control/register-node", "/v1/runtime/acquire-task", "/docs"):
        connection = HTTPSConnection("localhost", hub.partner_port, context=context, timeout=20)
        with closing(connection):
            connection.request("POST", path, b"")
            assert connection.getresponse().status == 404
    write_profile(tmp_path, "outside", f"localhost:{hub.partner_port}", hub.authority)
    command = [str(BIN / "flwr"), "list", "outside"]
    done = subprocess.run(command, env=environment(tmp_path), capture_output=True, text=True, check=False, timeout=90)
    assert done.returncode != 0 or "first" not in done.stdout
    assert not [row for row in runs(hub) if row["run"] in done.stdout + done.stderr]


def test_a_rogue_key_does_not_get_in(fed: Federation, tmp_path: Path) -> None:
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption())
    (tmp_path / "rogue").write_bytes(ec.generate_private_key(ec.SECP384R1()).private_bytes(*form))
    before = nodes(fed.hub)
    command = [str(BIN / "flower-supernode"), "--superlink", fed.hub.superlink, "--port", str(free_port())]
    command += ["--root-certificates", str(fed.hub.authority), "--auth-supernode-private-key", str(tmp_path / "rogue")]
    process = started(command, environment(tmp_path), tmp_path / "node.log")
    try:
        assert process.wait(60) != 0
    finally:
        end(process)
    assert "[code: 2004]" in (tmp_path / "node.log").read_text()
    assert nodes(fed.hub).keys() == before.keys()


def test_a_bundle_that_nobody_allowed_runs_on_no_node(fed: Federation, first: dict[str, Any], tmp_path: Path) -> None:
    hub, app = fed.hub, tmp_path / "app"
    shutil.copytree(hub.app, app)
    with (app / "clients" / "app.py").open("a") as file:
        file.write("\nopen('/tmp/taken', 'w')\n".replace("/tmp", str(tmp_path)))
    assert digest(build(app)) != hub.bundle
    config = f'coordinator="{hub.path}" ledger="{hub.path}/ledger" out="{tmp_path}/out" wait=20.0'
    command = [str(BIN / "flwr"), "run", str(app), PROFILE, "--run-config", config, "--format", "json"]
    done = subprocess.run(command, env=flower_environment(hub), capture_output=True, text=True, check=False)
    run_id = json.loads(done.stdout[done.stdout.index("{") :])["run-id"]
    deadline = time.monotonic() + 150
    while time.monotonic() < deadline:
        row = next(row for row in runs(hub) if row["run"] == str(run_id))
        if row["status"].startswith("finished"):
            break
        time.sleep(2)
    assert row["status"] == "finished:failed"
    assert "no lender appeared" in row["details"]
    assert not (tmp_path / "taken").exists()


def test_a_partner_with_new_keys_comes_back(fed: Federation, first: dict[str, Any]) -> None:
    fed.done("partner", "stop", "shop-2")
    told = fed.done("partner", "renew", "shop-2", "--new-keys")
    assert fed.call("coordinator", "enrol", "hub", "shop-2/request.json", "--yes").returncode == 2
    fed.done("coordinator", "enrol", "hub", "shop-2/request.json", "--yes", "--replace")
    shown = fed.done("partner", "join", "lender", "hub/welcomes/lender.welcome.json", "--yes")
    fed.each("partner", "join", "{}", "hub/welcomes/{}.welcome.json", "--yes", names=HOLDERS[1:])
    fed.done("partner", "start", "shop-2", "--background")
    fed.done("partner", "status", "shop-2")
    assert told.split(": ")[-1].strip() in shown  # the others saw the new fingerprint
    fed.done("coordinator", "score", "hub", FIRST)  # signed and sealed with the new keys


def test_whoever_is_expelled_is_gone_for_all(fed: Federation, first: dict[str, Any]) -> None:
    before = fed.hub
    fed.done("coordinator", "expel", "hub", "tax-1")
    told = fed.done("partner", "join", "pay-1", "hub/welcomes/pay-1.welcome.json", "--yes")
    assert "no longer there  tax-1" in told
    assert "tax-1" not in fed.done("coordinator", "status", "hub")
    assert before == fed.hub
    again = fed.call("coordinator", "expel", "hub", "tax-1")
    assert (again.returncode, len(again.stderr.splitlines())) == (2, 1)


def test_the_log_tells_all_of_it_and_holds_against_every_partners_checkpoint(
    fed: Federation, first: dict[str, Any]
) -> None:
    for name in HOLDERS[:-1]:
        witness = next((fed.root / name / "state" / name).glob("checkpoint*.json"))
        assert "sound" in fed.done("log", "verify", "hub", "--witness", witness)
    told = fed.done("log", "show", "hub")
    for kind in ("bundle", "enrolled", "expelled", "published"):
        assert kind in told, told
