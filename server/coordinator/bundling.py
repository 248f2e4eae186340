"""The app bundle that runs send: built by Flower from this installation, and frozen in the coordinator's folder."""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
import tempfile
import zipfile
from pathlib import Path

from model.inputs import InputError, read_toml
from server.coordinator.processes import environment, tail, tool
from server.failures import RunFailed

APP = Path(__file__).resolve().parents[2]


def build(app: Path = APP) -> bytes:
    """The bundle of an app's folder: the same bytes for the same sources.

    Raises:
        InputError: where this installation has no sources that Flower can bundle.
        RunFailed: where Flower does not build it.
    """
    if not (app / "pyproject.toml").is_file():
        remedy = "install fedscore from its repository by `make install`"
        raise InputError(app, "pyproject.toml", "is missing: only a checkout can be bundled", remedy=remedy)
    with tempfile.TemporaryDirectory(prefix="fedscore-bundle-") as scratch:
        command = [tool("flwr"), "build", "--app", str(app)]
        settings = environment(Path(scratch) / "home")
        done = subprocess.run(command, cwd=scratch, env=settings, capture_output=True, text=True, check=False)
        made = [*Path(scratch).glob("*.fab")]
        if done.returncode or len(made) != 1:
            raise RunFailed(f"Flower did not build the bundle: {tail(done.stdout + done.stderr)}")
        return made[0].read_bytes()


def digest(bundle: bytes) -> str:
    """SHA-256 of a bundle, as Flower and the partners' lists name it.

    >>> digest(b"")[:8]
    'e3b0c442'
    """
    return hashlib.sha256(bundle).hexdigest()


def freeze(bundle: bytes, folder: Path) -> str:
    """Unpacks a bundle into `folder`, in the place of what was there; bundling that again gives the same digest."""
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    zipfile.ZipFile(io.BytesIO(bundle)).extractall(part)
    for pattern in read_toml(part / "pyproject.toml")["tool"]["flwr"]["app"].get("fab-exclude", ()):
        folder_left_out = part / str(pattern).removesuffix("/**")  # Flower wants each pattern to match something
        folder_left_out.mkdir(parents=True)
        (folder_left_out / "left_out.py").touch()
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)
    return digest(bundle)
