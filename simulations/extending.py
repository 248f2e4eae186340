"""Engines of a researcher's own: loaded from a file, into a simulation on this machine. No node takes code by name."""

from __future__ import annotations

import hashlib
import inspect
import sys
from pathlib import Path
from types import ModuleType

from model.blocks import Engine, add_engine, known
from model.inputs import InputError, read_text
from privacy.mechanisms import reading

_FORM = "FILE.py:NAME"
_MEMBERS = sorted(name for name in {*vars(Engine), *Engine.__annotations__} if not name.startswith("_"))


def named(asked: str) -> str:
    """The name of an engine in plans and reports; one asked for as FILE.py:NAME is loaded, and its code runs here.

    Such a name ends in the first 12 digits of the file's SHA-256, so that another text is another engine.

    Raises:
        InputError: where the file cannot be loaded, or what it names is no `model.blocks.Engine`.

    >>> named("scorecard")
    'scorecard'
    """
    if ":" not in asked:
        return asked
    file, _, member = asked.rpartition(":")
    path = Path(file)
    if path.suffix != ".py" or not member.isidentifier():
        raise InputError("command line", "--engine", f"must be {_FORM} for an engine of your own", asked)
    text = read_text(path)
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    name = f"{path.name}:{member}@{digest}"
    if name not in known():
        add_engine(name, _engine(_loaded(path, text, digest), path, member))
    return name


def own(asked: str, backend: str, lasting: bool) -> bool:
    """Whether an engine is of the researcher's own; raises `InputError` where a simulation cannot take such a one.

    Args:
        backend: of the simulation: other processes would not know the engine.
        lasting: whether ledgers span runs: they must be readable by those who lack the file.
    """
    if ":" not in asked:
        return False
    named(asked)
    rule, remedy = "runs in this process, on ledgers of the run alone", "drop {}"
    if backend != "inprocess":
        raise InputError("command line", "--engine", rule, asked, remedy.format(f"--backend {backend}"))
    if lasting:
        raise InputError("command line", "--engine", rule, asked, remedy.format("--ledger"))
    return True


def _loaded(path: Path, text: str, digest: str) -> ModuleType:
    """The text, and no other that may lie there by now, as a module by a name that no import gives."""
    name = f"_own_{path.stem}_{digest}"
    module = ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module  # a dataclass looks its module up there
    try:
        with reading(name, digest):
            exec(compile(text, str(path), "exec"), vars(module))
    except Exception as error:  # whatever the researcher's own code raises
        del sys.modules[name]
        why = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError(path, "", f"cannot be loaded ({why})", remedy="mend the file") from None
    return module


def _engine(module: ModuleType, path: Path, member: str) -> Engine:
    """What the module calls `member`, made where it is a class."""
    found = getattr(module, member, None)
    if found is None:
        raise InputError(path, member, "is not in the file", remedy=f"give {_FORM}, NAME a class in it")
    made = found() if inspect.isclass(found) and not inspect.signature(found).parameters else found
    if not isinstance(made, Engine) or inspect.isclass(made):
        lacking = ", ".join(m for m in _MEMBERS if not hasattr(made, m)) or "a form without arguments"
        raise InputError(path, member, f"is no engine: it lacks {lacking}", remedy="see model.blocks.Engine")
    return made
