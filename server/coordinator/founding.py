"""A coordinator's folder: made once, its certificate renewed, its app bundle changed for another."""

from __future__ import annotations

import base64
import os
import shutil
from dataclasses import replace

from model.inputs import InputError
from privacy.signing import new_signing_key
from server.coordinator import bundling
from server.coordinator.authority import certify_server, found
from server.coordinator.enrolling import welcome_all
from server.coordinator.examples import write_examples
from server.coordinator.folder import PRIVATE, Coordinator, private_file
from server.coordinator.journal import log
from server.coordinator.roster import Roster

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
    log(made, "bundle", {"sha256": made.bundle})
    return made


def renew(coordinator: Coordinator) -> None:
    """A new certificate for the coordinator's host, and new certificates and welcomes for all holders."""
    certify_server(coordinator)
    roster = Roster.load(coordinator.path).renumbered()
    roster.save(coordinator.path)
    welcome_all(coordinator, roster)


def upgrade(coordinator: Coordinator, bundle: bytes) -> Coordinator:
    """Has runs send another bundle from now on, and tells all holders by their next welcomes, which they must allow."""
    if bundling.digest(bundle) == coordinator.bundle:
        return coordinator
    changed = replace(coordinator, bundle=bundling.freeze(bundle, coordinator.app))
    changed.save()
    log(changed, "bundle", {"sha256": changed.bundle})
    roster = Roster.load(changed.path).renumbered()
    roster.save(changed.path)
    welcome_all(changed, roster)
    return changed
