"""Looking at this machine: what is installed, and what a user can do with it."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

NEEDED = ("flwr", "numpy", "scipy", "dp-accounting", "cryptography", "polars", "typer", "rich", "safetensors")
EXTRAS = {"torch": "--engine network", "opacus": "--engine opacus", "ray": "--backend flower and --backend ray"}
MIN_FREE_GIB = 1.0


@dataclass(frozen=True)
class Finding:
    """One line of the examination; `ok` is None where something optional is missing."""

    ok: bool | None
    what: str


def examine(folder: Path) -> list[Finding]:
    """Python, packages, disk space under `folder`, and that noise can be drawn."""
    python = ".".join(map(str, sys.version_info[:3]))
    findings = [Finding(sys.version_info >= (3, 11), f"Python {python} (3.11 or later is needed)")]
    for name in NEEDED:
        found = _version(name)
        findings.append(Finding(found is not None, f"{name} {found or 'is missing: run make install'}"))
    for name, use in EXTRAS.items():
        found = _version(name)
        text = f"{name} {found}" if found else f"{name} is missing: {use} will not work"
        findings.append(Finding(True if found else None, text))
    free = shutil.disk_usage(folder).free / 2**30
    findings.append(Finding(free > MIN_FREE_GIB, f"{free:.1f} GiB free in {folder}"))
    findings.append(_noise())
    return findings


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _noise() -> Finding:
    from privacy.noise import Csprng, discrete_gaussian

    draws = discrete_gaussian(Csprng(), 1000.0, 2000)
    spread = float(draws.std())
    return Finding(900 < spread < 1100, f"noise drawn from AES-256-CTR: spread {spread:.0f} where 1000 is meant")
