"""Asking for runs: settings in the types of the app's own defaults, and what is refused before anything starts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from model.inputs import InputError
from server.coordinator import running
from server.coordinator.folder import Coordinator
from tests.conftest import Ended
from tests.coordinator_world import found_hub


@pytest.fixture
def hub(tmp_path: Path) -> Coordinator:
    return found_hub(tmp_path / "hub")


def test_settings_take_the_types_of_the_apps_defaults(hub: Coordinator) -> None:
    given = {"rounds": "3", "wait": "5", "resume": "false", "engine": "moments"}
    assert running.settings(hub, given) == {"rounds": 3, "wait": 5.0, "resume": False, "engine": "moments"}
    assert running._toml({"engine": 'a"b', "rounds": 3, "resume": False}) == 'engine="a\\"b" rounds=3 resume=false'


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"round": "3"}, "command line: round is not a known key; did you mean 'rounds'"),
        ({"rounds": "3.5"}, "rounds must be like its default, 0, got '3.5'"),
        ({"rounds": "true"}, "rounds must be like its default, 0, got 'true'"),
        ({"resume": "1"}, "resume must be like its default, true, got '1'"),
        ({"wait": "soon"}, r"wait must be like its default, 60\.0, got 'soon'"),
        ({"out": "/tmp"}, "out is not a known key"),
        ({"ledger": "/tmp"}, "ledger is not a known key"),
    ],
)
def test_a_setting_that_the_app_does_not_know_or_take_is_named(
    hub: Coordinator, given: dict[str, str], told: str
) -> None:
    with pytest.raises(InputError, match=told):
        running.settings(hub, given)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--name", "../up"), "--name must be small letters, digits and hyphens"),
        (("--name", "first"), "is not up; start it by `fedscore coordinator up"),
        (("--name", "taken"), "exists already; give the run another --name"),
        (("--set", "rounds"), "--set must be KEY=VALUE, got 'rounds'"),
        (("--set", "ledger=/tmp"), "ledger is not a known key"),
    ],
)
def test_a_run_that_cannot_start_is_one_line(
    hub: Coordinator, run_cli: Callable[..., Ended], arguments: tuple[str, ...], told: str
) -> None:
    (hub.path / "out" / "taken").mkdir()
    ended = run_cli("coordinator", "run", hub.path, *arguments)
    assert (ended.code, len(ended.lines)) == (2, 1), ended
    assert told in ended.err


@pytest.mark.parametrize("name", ["none", "../first", "", "taken"])
def test_scoring_needs_a_model_that_was_published_here(
    hub: Coordinator, run_cli: Callable[..., Ended], name: str
) -> None:
    (hub.path / "out" / "taken").mkdir()
    ended = run_cli("coordinator", "score", hub.path, name)
    assert (ended.code, len(ended.lines)) == (2, 1), ended
    assert "holds no model; give the name of a run that published one" in ended.err


def test_a_model_is_scored_with_only_where_the_link_is_up(hub: Coordinator, run_cli: Callable[..., Ended]) -> None:
    (hub.path / "out" / "first" / "model").mkdir(parents=True)
    (hub.path / "out" / "first" / "model" / "bundle.json").write_text("{}")
    assert "is not up; start it by" in run_cli("coordinator", "score", hub.path, "first").err


def test_a_name_by_default_is_a_name(hub: Coordinator) -> None:
    from server.coordinator.folder import NAME

    assert NAME.fullmatch(running.new_name())


@pytest.mark.parametrize("command", ["up", "down", "status", "run", "runs", "renew", "upgrade"])
def test_a_folder_of_something_else_is_refused_by_every_command(
    tmp_path: Path, run_cli: Callable[..., Ended], command: str
) -> None:
    ended = run_cli("coordinator", command, tmp_path)
    assert (ended.code, len(ended.lines)) == (2, 1), ended
    assert "holds no coordinator.toml; give a coordinator's folder" in ended.err
