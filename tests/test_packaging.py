"""What ships to the nodes: exactly the four production folders, the same bytes for the same sources."""

import hashlib
import io
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PRODUCTION = ("clients", "model", "privacy", "server")
ENVIRONMENT = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}
pytestmark = pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")  # Flower's own use of pathspec
EXAMPLES = {"README.md", "clients/sample/request.json"}  # invented, and may ship
AT_HOME = {"decisions", "coordinator", "partner"}  # folders of the lender's service and of people's commands
JUNK = ("data.csv", "private.parquet", "notes.md", "test_spy.py", "key.pem")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The repository's sources, with files that must never ship among them."""
    target = tmp_path / "fedscore"
    target.mkdir()
    for name in (*PRODUCTION, "simulations", "tests"):
        shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "LICENSE", "README.md", ".gitignore"):
        shutil.copy(ROOT / name, target / name)
    return target


def _build(folder: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """The bundle by Flower's own function, with its home out of the way."""
    for name, value in {**ENVIRONMENT, "FLWR_HOME": str(folder.parent / "home")}.items():
        monkeypatch.setenv(name, value)
    from flwr.cli.build import build_fab_from_disk

    return build_fab_from_disk(folder)


def _names(bundle: bytes) -> set[str]:
    with zipfile.ZipFile(io.BytesIO(bundle)) as archive:
        return {name for name in archive.namelist() if not name.startswith(".info/")}


def test_the_bundle_holds_the_production_sources_and_nothing_else(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = _names(_build(copy, monkeypatch))
    sources = {
        str(path.relative_to(ROOT))
        for folder in PRODUCTION
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".toml") and not AT_HOME & {*path.parts}
    }
    assert names - EXAMPLES == sources | {"pyproject.toml", "LICENSE"}


@pytest.mark.parametrize("folder", PRODUCTION)
def test_data_keys_and_tests_beside_the_sources_stay_at_home(
    copy: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    for name in JUNK:
        (copy / folder / name).write_text("x")
    names = _names(_build(copy, monkeypatch))
    assert not [n for n in names if Path(n).name in {*JUNK} - {"notes.md"}]
    assert not [n for n in names if n.split("/")[0] in ("tests", "simulations")]


def test_the_same_sources_give_the_same_bundle_whenever_it_is_built(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = hashlib.sha256(_build(copy, monkeypatch)).hexdigest()
    again = tmp_path / "again"
    shutil.copytree(copy, again)
    for path in again.rglob("*.py"):
        os.utime(path, (1e9, 1e9))
    assert hashlib.sha256(_build(again, monkeypatch)).hexdigest() == first
    (again / "model" / "wire.py").write_text((again / "model" / "wire.py").read_text() + "# other\n")
    assert hashlib.sha256(_build(again, monkeypatch)).hexdigest() != first


def test_the_build_command_writes_the_same_bundle(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = _names(_build(copy, monkeypatch))
    command = [str(Path(sys.executable).parent / "flwr"), "build", "--app", str(copy)]
    done = subprocess.run(command, cwd=copy.parent, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    built = next(iter([*copy.parent.glob("*.fab"), *copy.glob("*.fab")]))
    assert _names(built.read_bytes()) == expected


def test_a_bundle_runs_from_its_own_folder_alone(copy: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bundle = tmp_path / "unpacked"
    zipfile.ZipFile(io.BytesIO(_build(copy, monkeypatch))).extractall(bundle)
    code = "import clients.app, server.app, model; print(clients.app.__file__, server.app.__file__, model.__file__)"
    environment = {**os.environ, **ENVIRONMENT, "PYTHONPATH": str(bundle)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=bundle, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert all(Path(name).is_relative_to(bundle) for name in done.stdout.split())


def test_the_wheel_lists_five_packages_and_says_it_is_private() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert sorted(wheel) == sorted([*PRODUCTION, "simulations"])
    assert "Private :: Do Not Upload" in project["project"]["classifiers"]


def test_every_run_setting_has_a_default_that_both_sides_parse() -> None:
    from server.config import RunConfig

    config = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["flwr"]["app"]["config"]
    assert RunConfig.parse(config) == RunConfig.parse({})
