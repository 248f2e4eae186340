"""The page on deployment: its commands take a reader from nothing to a model, as they stand there; slow."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from server.coordinator.processes import port_taken
from tests.federation_world import BIN, HOLDERS, Federation

PAGE = Path(__file__).resolve().parents[2] / "docs" / "deploy.md"
BLOCKS = re.findall(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.S)


def test_ten_commands_are_enough() -> None:
    assert len(BLOCKS) == 2
    assert len(BLOCKS[0].strip().splitlines()) == 10


def test_every_command_that_the_page_names_exists() -> None:
    import typer.main

    from simulations.cli import app

    group = typer.main.get_command(app)
    named = set(re.findall(r"(?:fedscore )?(coordinator|partner) ([a-z]+)\b", "\n".join(BLOCKS)))
    named |= set(re.findall(r"`(?:fedscore )?(coordinator|partner) ([a-z]+)\b", PAGE.read_text(encoding="utf-8")))
    assert len(named) > 12
    for where, name in named:
        assert name in group.commands[where].commands, (where, name)  # type: ignore[attr-defined]


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("nginx"), reason="nginx is not installed: no partner's listener")
def test_the_pages_commands_make_a_model_and_leave_nothing(tmp_path: Path) -> None:
    assert not port_taken("127.0.0.1", 18443), "the page's ports must be free"
    assert not port_taken("127.0.0.1", 19443), "the page's ports must be free"
    environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}

    def script(block: str) -> subprocess.CompletedProcess[str]:
        command = ["bash", "-euxc", block]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=900
        )

    try:
        done = script(BLOCKS[0])
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        assert (tmp_path / "hub" / "out" / "first" / "model" / "bundle.json").is_file()
        assert len(re.findall(r"^ok .*: online$", done.stdout, flags=re.M)) == len(HOLDERS)
    finally:
        ended = script(BLOCKS[1])
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert not Federation(tmp_path).processes()
