"""Runs: the frozen app started on the coordinator's SuperLink, followed to its end, and listed."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from model.inputs import InputError, read_toml, refuse_unknown
from server.coordinator.bundling import build, digest
from server.coordinator.folder import NAME, Coordinator, private_file
from server.coordinator.processes import FlowerCli, tool
from server.coordinator.roster import Roster
from server.coordinator.services import PROFILE, flower_environment
from server.coordinator.supervising import check_up
from server.failures import RunFailed

RUNS = "runs.json"  # in `run`: what each Flower run was for
OWN = ("coordinator", "ledger", "out", "federation", "data", "mode", "model")  # settings that commands give
_POLL_SECONDS = 5.0
_LENDER = "lender"
_PHASE = re.compile(r"phase ([a-z-]+)|([a-z0-9-]+ failed in phase [a-z-]+: [a-z0-9-]+)")
Say = Callable[[str], None]


def settings(coordinator: Coordinator, given: Mapping[str, str]) -> dict[str, object]:
    """Run settings by name from texts, in the types of the app's own defaults; raises `InputError` naming the key."""
    defaults = read_toml(coordinator.app / "pyproject.toml")["tool"]["flwr"]["app"]["config"]
    refuse_unknown("command line", "", given, set(defaults) - {*OWN})
    return {key: _typed(key, text, defaults[key]) for key, text in given.items()}


def run(coordinator: Coordinator, name: str, asked: Mapping[str, object], say: Say) -> Path:
    """Starts a run that publishes into `out/NAME`, and follows it to its end; returns that folder.

    Raises:
        InputError: where nothing can be started; nothing was.
        RunFailed: where the run ended without a result.
    """
    out = _fresh(coordinator, name)
    _check(coordinator, say)
    run_id = _started(coordinator, {**asked, "out": str(out)})
    _note(coordinator, run_id, f"out/{name}")
    follow(coordinator, run_id, say)
    return out


def score(coordinator: Coordinator, name: str, asked: Mapping[str, object], say: Say) -> None:
    """Has the lender's applicants scored with the model in `out/NAME`: the lender files what it may see itself.

    Raises:
        InputError: where nothing can be started; nothing was.
        RunFailed: where nobody could be scored.
    """
    model = coordinator.path / "out" / name / "model"
    if not NAME.fullmatch(name) or not (model / "bundle.json").is_file():
        raise InputError(model, "", "holds no model", remedy="give the name of a run that published one")
    _check(coordinator, say)
    run_id = _started(coordinator, {**asked, "mode": "score", "model": str(model)})
    _note(coordinator, run_id, f"scored with out/{name}")
    follow(coordinator, run_id, say)


def follow(coordinator: Coordinator, run_id: str, say: Say) -> None:
    """Tells a run's phases until it ends; raises `RunFailed` unless Flower's own list says that it completed."""
    say(f"run {run_id} started")
    flower = FlowerCli(coordinator.home, flower_environment(coordinator))
    told = 0
    try:
        while True:
            told = _tell(flower, run_id, told, say)
            status, details = _status(flower, run_id)
            if status.startswith("finished"):
                break
            time.sleep(_POLL_SECONDS)  # the log ended with a SuperLink that is being started again
    except KeyboardInterrupt:
        say(f"run {run_id} goes on; see `fedscore coordinator runs {coordinator.path}`")
        raise
    if status != "finished:completed":
        reason = details.removeprefix("ServerApp failed with exception: ") or status
        raise RunFailed(" ".join(reason.split())[:500])


def _tell(flower: FlowerCli, run_id: str, told: int, say: Say) -> int:
    """Tells what a run's log says of phases, past what was told; returns how much is told once the log ends."""
    command = [tool("flwr"), "log", run_id, PROFILE, "--stream"]
    teller = subprocess.Popen(
        command, env=dict(flower.environment), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    number = 0
    try:
        for line in teller.stdout or ():
            if found := _PHASE.search(line):
                number += 1
                if number > told:
                    say(next(text for text in found.groups() if text))
    finally:
        teller.kill()
        teller.communicate()
    return max(number, told)


def stop(coordinator: Coordinator, run_id: str) -> None:
    """Stops a run: what its holders released stays charged."""
    check_up(coordinator)
    try:
        FlowerCli(coordinator.home, flower_environment(coordinator)).cli("stop", run_id, PROFILE)
    except RuntimeError as error:
        raise InputError("command line", "RUN", "cannot be stopped", run_id, str(error)) from None


def runs(coordinator: Coordinator) -> list[dict[str, str]]:
    """All runs, the latest first: `run`, `status`, `details`, `started` and `out`."""
    check_up(coordinator)
    told = FlowerCli(coordinator.home, flower_environment(coordinator)).cli("list", PROFILE)["runs"]
    names = _names(coordinator)
    rows = []
    for row in told if isinstance(told, list) else ():
        run_id = str(row["run-id"])
        told_row = {"run": run_id, "status": str(row["status"]), "details": str(row.get("status-details", ""))}
        rows.append({**told_row, "started": str(row.get("running-at", "")), "out": names.get(run_id, "")})
    return rows


def new_name() -> str:
    """A name for a run's folder: the time in UTC."""
    return f"run-{datetime.now(UTC):%Y%m%d-%H%M%S}"


def _fresh(coordinator: Coordinator, name: str) -> Path:
    """The folder of a run that is to be made."""
    if not NAME.fullmatch(name):
        raise InputError("command line", "--name", "must be small letters, digits and hyphens, 32 at most", name)
    out = coordinator.path / "out" / name
    if out.exists():
        raise InputError(out, "", "exists already", remedy="give the run another --name")
    return out


def _check(coordinator: Coordinator, say: Say) -> None:
    """Raises `InputError` where no run may start now."""
    coordinator.check_disk()
    check_up(coordinator)
    roster = Roster.load(coordinator.path)
    if roster.find(_LENDER) is None or len(roster.holders) < 2:
        remedy = "enrol the lender and at least one partner"
        raise InputError(coordinator.path, "", "has no lender and partner enrolled", remedy=remedy)
    if digest(build(coordinator.app)) != coordinator.bundle:
        remedy = f"put it back by `fedscore coordinator upgrade {coordinator.path}`"
        raise InputError(coordinator.app, "", "was changed: it is not the bundle that partners allowed", remedy=remedy)
    if busy := [row["run"] for row in runs(coordinator) if not row["status"].startswith("finished")]:
        remedy = f"wait, or stop it by `fedscore coordinator stop {coordinator.path} {busy[0]}`"
        raise InputError(coordinator.path, "", f"has run {busy[0]} going on", remedy=remedy)
    online = nodes(coordinator)
    if missing := [row.name for row in roster.holders if online.get(row.node) != "online"]:
        say("not online: " + ", ".join(missing))


def _started(coordinator: Coordinator, asked: Mapping[str, object]) -> str:
    """Flower's id of a run that was started with these settings and the coordinator's own."""
    config = {**asked, "ledger": str(coordinator.path / "ledger"), "coordinator": str(coordinator.path)}
    flower = FlowerCli(coordinator.home, flower_environment(coordinator))
    try:
        return str(flower.cli("run", str(coordinator.app), PROFILE, "--run-config", _toml(config))["run-id"])
    except RuntimeError as error:
        raise RunFailed(str(error)) from None


def nodes(coordinator: Coordinator) -> dict[str, str]:
    """The status of every node that Flower knows, by its id."""
    told = FlowerCli(coordinator.home, flower_environment(coordinator)).cli("supernode", "list", PROFILE)["nodes"]
    return {str(row["node-id"]): str(row["status"]) for row in told} if isinstance(told, list) else {}


def _status(flower: FlowerCli, run_id: str) -> tuple[str, str]:
    """How a run stands; a SuperLink that is being restarted is asked again later."""
    try:
        rows = flower.cli("list", PROFILE, "--run-id", run_id)["runs"]
    except RuntimeError:
        return "unknown", ""
    row: Mapping[str, Any] = rows[0] if isinstance(rows, list) and rows else {}
    return str(row.get("status", "")), str(row.get("status-details", ""))


def _typed(key: str, text: str, default: object) -> object:
    """A setting's value in the type of its default; a text stays a text."""
    if isinstance(default, str):
        return text
    try:
        value: object = json.loads(text)
    except ValueError:
        value = None
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not type(default):
        raise InputError("command line", key, f"must be like its default, {json.dumps(default)}", text)
    return value


def _toml(config: Mapping[str, object]) -> str:
    """`key=value` pairs as Flower's --run-config reads them."""
    return " ".join(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in config.items())


def _names(coordinator: Coordinator) -> dict[str, str]:
    path = coordinator.running / RUNS
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(key): str(value) for key, value in told.items()} if isinstance(told, dict) else {}


def _note(coordinator: Coordinator, run_id: str, name: str) -> None:
    named = {**_names(coordinator), run_id: name}
    private_file(coordinator.running / RUNS, json.dumps(named, indent=1).encode())
