"""Where files are as seen from a sweep's folder: what it writes names no folder above the one that holds them all."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from model.limits.policy import SHIPPED
from simulations.datasets import FEDERATIONS, FETCHED
from simulations.sweep.arms import moved
from simulations.sweep.grid import set_of

_OURS = (FEDERATIONS, SHIPPED.parent)  # files of the program, which lies anywhere
_FILES = (".toml", ".csv", ".parquet", ".json", ".py")
# A path of which nothing is known; in quotes it may hold spaces.
_ELSE = r"(?<=['\"])/[^'\"]*/[^'\"]*|(?:/[^\s/'\"():;,]+){2,}"


def told(path: Path, base: Path) -> str:
    """The way from a folder to a path, by the names that were given unless links make that wrong or climb higher."""
    given, true = os.path.relpath(path, base), os.path.relpath(path.parent.resolve() / path.name, base.resolve())
    wrong = (base / given).resolve() != path.resolve()
    return true if wrong or given.count(os.pardir) > true.count(os.pardir) else given


def placed(text: str, folder: Path) -> str:
    """A federation file of whole paths, which are told from the folder that it is written into."""

    def way(path: str) -> str:
        return told(Path(path), folder)

    return moved(tomllib.loads(text), way, way)


def repeated(settings: dict[str, Any], base: Path) -> dict[str, Any]:
    """Settings with every path told from `base`: of a benchmark set, its name, and nothing for data that it fetches."""
    ways = {name: told(value, base) if isinstance(value, Path) else value for name, value in settings.items()}
    if (federation := settings["federation"]).parent.parent == FEDERATIONS:
        ways["federation"] = federation.parent.name
        ways["data"] = None if settings["data"] == FETCHED else ways["data"]
    return {**ways, "engine": _own(settings["engine"], lambda file: told(Path(file), base))}


def found(ways: dict[str, Any], base: Path) -> dict[str, Any]:
    """What `repeated` told, with whole paths again.

    Raises:
        InputError: a benchmark set whose data are not there.
    """
    settings = {name: base / ways[name] for name in ("federation", "data", "policy") if ways[name] is not None}
    if os.sep not in (name := ways["federation"]):
        settings["federation"] = FEDERATIONS / name / "federation.toml"
        if "data" not in settings:
            settings["data"] = set_of(name, None).data
    return {**ways, **settings, "engine": _own(ways["engine"], lambda file: str(base / file))}


def _own(engine: str, way: Callable[[str], str]) -> str:
    """An engine as asked for, its file told otherwise if it has one."""
    file, colon, member = engine.rpartition(":")
    return f"{way(file)}:{member}" if colon else engine


def plainly(text: str, base: Path, paths: Iterable[Path]) -> str:
    """A text on one line in which files under `base` or beside `paths` are told from `base`, others by their names.

    >>> plainly("/a/out/.work/x and /a b/x.csv: not '/home/me/y.csv' nor /opt/z", Path("/a/out"), [Path("/a b/x.csv")])
    "./.work/x and ../../a b/x.csv: not '…/y.csv' nor …"
    """
    ways = dict.fromkeys(map(str, _OURS), "…")
    beside = {path.absolute().parent for path in paths if not any(path.is_relative_to(ours) for ours in _OURS)}
    for folder in (base, *(folder for folder in beside if folder.name)):
        ways |= dict.fromkeys((str(folder), str(folder.resolve())), told(folder, base))
    known = "|".join(re.escape(folder) for folder in sorted(ways, key=len, reverse=True))

    def tell(seen: re.Match[str]) -> str:
        if seen[1]:
            return ways[seen[1]]
        name = seen[0].rpartition("/")[2]
        return f"…/{name}" if name.endswith(_FILES) else "…"  # a folder's name may be a person's

    return re.sub(rf"(?:file://|(?<![\w./-]))(?:({known})(?![\w.-])|{_ELSE})", tell, " ".join(text.split()))
