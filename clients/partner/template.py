"""The text of a first node.toml: every rule that a data holder can set, with what it means."""

from __future__ import annotations

import json
from collections.abc import Sequence

_TEXT = """\
# What this node is, and what it holds to whatever a run asks. Paths are relative to this file's folder.
# It is read anew for every order: edit it, and the next order meets the new rules.

[node]
holder = {holder}
domain = {domain}
# The public file of the federation, with the contracts beside it:
federation = {federation}
# Your own files; [] takes those that the federation file names:
data = {data}
# Keys, pins and ledger; never run a copy of it on a second machine:
state = "state"

[link]
superlink = ""                 # host:port; "" takes what the coordinator's welcome says
port = 0                       # used on 127.0.0.1 only, between this node's own processes; 0: any free one

[limits]
# epsilon = 1.0                # most that your own rows may cost; the federation file's where it is not given
# delta = 1e-5                 # highest delta you accept
max-cohort = 2_000_000         # most persons that the lender may align with you
min-cohort = 100               # fewer in common: you take no part
max-alignments = 12            # different sets of persons that one programme may align with you
max-models = 12                # new model versions a year that you score with: one a run, and those that you allow
max-applicants = 1_000_000     # persons a year that you are shown as applicants, yours or not; also answers a year
min-free-disk = 512            # MiB; below, no order is taken
summed-only = false            # true: you train only where yours and two others' updates are summed in secret
kinds = []                     # message types that are answered; [] is all

[check]
date = ""                      # column that says when a row was made, for `fedscore partner check`
max-age-days = 0               # 0: any age is right
"""


def node_toml(holder: str, domain: str, federation: str, data: Sequence[str]) -> str:
    """The file for a new node."""
    said = {"holder": holder, "domain": domain, "federation": federation, "data": list(data)}
    texts = {name: json.dumps(value, ensure_ascii=False) for name, value in said.items()}  # JSON's quoting is TOML's
    return _TEXT.format(**texts)
