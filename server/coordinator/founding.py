"""A coordinator's folder: made once, its certificate renewed, its app bundle changed for another."""

from __future__ import annotations

import base64
import os
import shutil
from dataclasses import replace
from pathlib import Path

from model.inputs import InputError
from privacy.signing import new_signing_key
from server.coordinator import bundling
from server.coordinator.authority import certify_server, found
from server.coordinator.enrolling import welcome_all
from server.coordinator.examples import write_examples
from server.coordinator.folder import PRIVATE, Coordinator, private_file
from server.coordinator.roster import Roster
from server.identity import SIGN_KEY, lasting_key
from server.log import Log

_UNSAFE = set("\"'$;{}\\\n\r\t")  # what nginx or a unit file would read as more than a path


def init(coordinator: Coordinator, bundle: bytes) -> Coordinator:
    """Makes the folder with keys, certificates and examples; returns the coordinator that was written.

    It is made under a temporary name first: what fails leaves nothing.

    Raises:
        InputError: where the folder exists, or cannot be made.
    """
    path = coordinator.path
    if path.exists():
        raise InputError(path, "", "exists already", remedy="give another folder; keys are never replaced in place")
    if _UNSAFE & set(str(path)):
        raise InputError(path, "", "has a character that configuration files cannot hold", remedy="rename the folder")
    part = path.with_name(f".{path.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir(mode=0o700, parents=True)
        for name in PRIVATE:
            (part / name).mkdir(mode=0o700)
    except OSError as error:
        raise InputError(path, "", f"cannot be made ({error.strerror})", remedy="check the folder above") from None
    draft = replace(coordinator, path=part, bundle=bundling.freeze(bundle, part / "app"))
    found(draft)
    certify_server(draft)
    private_file(part / "certs" / "superexec.secret", base64.b64encode(os.urandom(32)))
    private_file(part / "keys" / "sign.key", new_signing_key())
    Roster().save(part)
    draft.save()
    part.rename(path)
    made = Coordinator.load(path)
    write_examples(made)
    made.log("bundle", {"sha256": made.bundle})
    return made


def renew(coordinator: Coordinator, new_key: bool = False) -> None:
    """A new certificate for the coordinator's host, and new certificates and welcomes for all holders.

    With `new_key` also a new signing key, which the old one announces in the log: holders go on with that log once they
    took the key by its fingerprint.
    """
    if new_key:
        rekey(coordinator.path)
    certify_server(coordinator)
    roster = Roster.load(coordinator.path).renumbered()
    roster.save(coordinator.path)
    welcome_all(coordinator, roster)


def rekey(home: Path) -> None:
    """A new signing key in a coordinator's folder. Where this dies in between, the key is in `keys/sign.key.new`.

    Raises:
        RunFailed: where the log cannot be continued; the old key stays.
    """
    path, old, new = home / SIGN_KEY, lasting_key(home), new_signing_key()
    kept = path.with_name(f"{path.name}.new")
    private_file(kept, new)
    Log(home / "log", old).rotate(new)
    private_file(path.with_name(f"{path.name}.old"), old)
    private_file(path, new)
    kept.unlink()


def upgrade(coordinator: Coordinator, bundle: bytes) -> Coordinator:
    """Has runs send another bundle from now on, and tells all holders by their next welcomes, which they must allow."""
    if bundling.digest(bundle) == coordinator.bundle:
        return coordinator
    changed = replace(coordinator, bundle=bundling.freeze(bundle, coordinator.app))
    changed.save()
    changed.log("bundle", {"sha256": changed.bundle})
    roster = Roster.load(changed.path).renumbered()
    roster.save(changed.path)
    welcome_all(changed, roster)
    return changed
