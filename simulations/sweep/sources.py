"""The files that a sweep reads: what they are when it begins, told by their hashes, and whether they still are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from clients.files import stamps
from model.federation import Federation
from model.inputs import InputError, read_toml
from model.limits.policy import SHIPPED
from simulations.availability import beside
from simulations.sweep.fairness import ATTRIBUTES

CHANGED = "has changed since this sweep began"


@dataclass(frozen=True)
class Read:
    """Files that cells read, and what was seen of them when their sweep began."""

    paths: tuple[Path, ...]
    seen: tuple[object, ...]

    @classmethod
    def now(cls, paths: Iterable[Path]) -> Read:
        """The files as they are."""
        return cls(paths := tuple(paths), stamps(paths))

    def check(self) -> None:
        """Raises `InputError` for the first file that was written since."""
        for path, then, now in zip(self.paths, self.seen, stamps(self.paths), strict=True):
            if then != now:
                raise InputError(path, "", CHANGED, remedy="start another sweep")


def paths_of(federation: Federation, policy: Path | None) -> dict[str, Path]:
    """The files that a set's cells read: federation file, policy, contracts, the holders' own, perhaps two more."""
    found = {"federation file": federation.path, "policy": policy or SHIPPED}
    table = read_toml(federation.path)
    for holder, row in zip(federation.holders, (table["lender"], *table["partner"]), strict=True):
        if "contract" in row:
            found[f"{holder.name}, contract"] = federation.path.parent / row["contract"]
        for number, path in enumerate(holder.data, 1):  # two of them may have one name
            found[f"{holder.name}, data {number} {path.name}"] = path
    more = (federation.lender.data[0].parent / ATTRIBUTES, beside(federation))
    return found | {f"lender, data {path.name}": path for path in more if path.exists()}


def files_of(federation: Federation, policy: Path | None) -> dict[str, str]:
    """What a set is: SHA-256 of each file of `paths_of`; raises `InputError` for one that cannot be read."""
    return {name: _sha256(path) for name, path in paths_of(federation, policy).items()}


def fingerprints(files: Mapping[str, str]) -> dict[str, str]:
    """One figure of what describes a set, and one of its rows, wherever the files lie."""
    rows = {name: digest for name, digest in files.items() if ", data " in name}
    rest = {name: digest for name, digest in files.items() if name not in rows}
    return {"federation_sha256": _digest(rest), "data_sha256": _digest(rows)}


def _digest(files: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(files, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(path, "", f"cannot be read ({error.strerror})", remedy="check the path") from None
