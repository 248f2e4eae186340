"""Every command in README and docs runs, in a folder of its own, and succeeds."""

from __future__ import annotations

import importlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.coordinator_world import free_ports

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "README.zh-CN.md", *sorted((ROOT / "docs").glob("*.md"))]
BIN = Path(sys.executable).parent
SLOW = ("bench", "flwr run", "flower", "uci_default")  # real processes, or real data
NEVER = ("make test", "make slow", "make statistics", "make mutants")  # a test must not start the tests


def commands(page: Path) -> list[str]:
    """The lines of the page's bash blocks, in order."""
    blocks = re.findall(r"```bash\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.S)
    lines = [line.split(" #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith(("#", *NEVER))]


def write_files(page: Path, folder: Path) -> None:
    """The Python files that a page shows, each named by its first line."""
    for name, text in re.findall(r"```python\n# (\w+\.py)\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.S):
        (folder / name).write_text(text, encoding="utf-8")


def run(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """One documented command, with this environment's programs, from `folder`."""
    words = shlex.split(line.replace(".venv/bin/", f"{BIN}{os.sep}"))
    if words[0] == "make":
        words = ["make", "-C", str(ROOT), *words[1:], f"VENV={sys.prefix}", f"OUT={folder / 'demo'}"]
    data = ROOT.parent / "shared" / "data"
    if "speed" in words or "uci_default" in words:
        words += ["--data", str(data)]
    environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def script(page: Path) -> str:
    """The page's bash blocks as one script; what it starts in the background ends with it."""
    blocks = re.findall(r"```bash\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.S)
    return "set -euo pipefail\ntrap 'kill $(jobs -p); wait' EXIT\n" + "\n".join(blocks)


def serves(page: Path) -> bool:
    """Whether a page starts something in the background: its lines belong together."""
    return any(line.endswith("&") for line in commands(page))


def fast(page: Path) -> list[str]:
    return [line for line in commands(page) if not any(word in line for word in SLOW)]


ALONE = [p for p in PAGES if fast(p) and not serves(p) and "zh-CN" not in p.name]


@pytest.mark.parametrize("page", [p for p in PAGES if serves(p)], ids=lambda p: p.name)
def test_a_page_that_serves_runs_as_one_script(page: Path, tmp_path: Path) -> None:
    text = script(page).replace(".venv/bin/", f"{BIN}{os.sep}")
    (port,) = set(re.findall(r"--port (\d+)", text))
    text = text.replace(port, str(next(free_ports())))
    done = subprocess.run(["bash", "-c", text], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    assert '"score":' in (tmp_path / "decision.json").read_text("utf-8")


@pytest.mark.parametrize("page", ALONE, ids=lambda p: p.name)
def test_each_documented_command_runs_in_order(page: Path, tmp_path: Path) -> None:
    if page.name == "privacy.md":
        run(".venv/bin/fedscore sample my-federation --persons 2000", tmp_path)
    write_files(page, tmp_path)
    for line in fast(page):
        done = run(line, tmp_path)
        assert done.returncode == 0, f"{page.name}: {line}\n{done.stdout}{done.stderr}"


@pytest.mark.slow
@pytest.mark.parametrize("line", sorted({line for p in PAGES for line in commands(p) if line not in fast(p)}))
def test_each_slow_documented_command_runs(line: str, tmp_path: Path) -> None:
    if ("bench" in line or "uci_default" in line) and not (ROOT.parent / "shared" / "data").is_dir():
        pytest.skip("the public data sets are not here")
    if "simulate" in line:
        run(".venv/bin/fedscore sample my-federation --persons 2000", tmp_path)
    done = run(line, tmp_path)
    assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("chinese", [p for p in PAGES if "zh-CN" in p.name], ids=lambda p: p.name)
def test_both_languages_show_the_same_commands_programs_and_figures(chinese: Path) -> None:
    english = chinese.with_name(chinese.name.replace(".zh-CN", ""))
    assert commands(english) == commands(chinese)
    for shown in (r"```(?:python|sh)\n.*?```", r"\.\d{3,4}\b"):
        found, translated = (re.findall(shown, page.read_text("utf-8"), flags=re.S) for page in (english, chinese))
        assert found == translated


def test_every_call_that_extend_gives_for_a_command_exists() -> None:
    page = (ROOT / "docs" / "extend.md").read_text("utf-8")
    calls = re.findall(r"^\| `fedscore [a-z -]+` \| `([a-z_.]+)\.(\w+)\(", page, flags=re.M)
    assert len(calls) == 8
    for module, name in calls:
        assert callable(getattr(importlib.import_module(module), name)), f"{module}.{name}"


def test_every_promise_names_a_test_that_exists() -> None:
    rows = re.findall(r"^\| .* \| `([a-z_/]+\.py)` \|$", (ROOT / "docs" / "privacy.md").read_text("utf-8"), flags=re.M)
    assert len(rows) > 10
    assert [name for name in rows if not (ROOT / "tests" / name).is_file()] == []


def test_the_readme_is_under_150_lines() -> None:
    assert len(PAGES[0].read_text("utf-8").splitlines()) < 150


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_toml_examples_in_the_docs_are_read_by_the_product(page: Path, tmp_path: Path) -> None:
    from model.contract import load_contract
    from model.federation import load_federation

    blocks = re.findall(r"```toml\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.S)
    if not blocks:
        return
    for text in (b for b in blocks if b.startswith("domain")):
        (tmp_path / "payments.contract.toml").write_text(text, encoding="utf-8")
        (tmp_path / "lender_kyc.contract.toml").write_text(text.replace('"payments"', '"lender_kyc"'), "utf-8")
        assert load_contract(tmp_path / "payments.contract.toml").features
    for text in (b for b in blocks if b.startswith("[federation]")):
        (tmp_path / "federation.toml").write_text(text, encoding="utf-8")
        assert load_federation(tmp_path / "federation.toml").partners
