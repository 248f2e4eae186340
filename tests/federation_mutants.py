"""Mutants of a real federation: messages, log, alignment, secure sums, and what a node may do. See mutants.py."""

_PSI, _CAPS, _SUMS = (
    ("tests/privacy/test_matching.py",),
    ("tests/clients/test_matching.py",),
    ("tests/clients/test_sums.py",),
)
_HOSTILE, _INBOX = ("tests/privacy/test_masking_hostile.py",), ("tests/clients/test_inbox.py",)
_GUARD, _NODE, _JOIN = (
    ("tests/clients/test_partner_guard.py",),
    ("tests/clients/test_nodefile.py",),
    ("tests/clients/test_partner_join.py",),
)
FEDERATION_MUTANTS = (
    (
        "federation: a set is not filled up",
        "privacy/matching.py",
        "range(public_size(len(ids)) - len(ids))",
        "range(0)",
        _PSI,
    ),
    (
        "federation: a set keeps its file's order",
        "privacy/matching.py",
        "order = np.argsort(_words(items, POINT))",
        "order = np.arange(len(items))",
        _PSI,
    ),
    (
        "federation: points of two programmes link",
        "privacy/matching.py",
        "len(domain).to_bytes(4) + domain + text.encode()",
        "text.encode()",
        _PSI,
    ),
    (
        "federation: any number of sets is answered",
        "clients/matching.py",
        "if len(before) >= node.limits.max_alignments:",
        "if False:",
        _CAPS,
    ),
    (
        "federation: a cohort below the minimum",
        "clients/cohort.py",
        "if common < node.limits.min_cohort:",
        "if False:",
        _CAPS,
    ),
    (
        "federation: packets of all plans open",
        "clients/packets.py",
        "{self.node.programme}|{self.plan}|",
        "{self.node.programme}|",
        ("tests/clients/test_cohort.py",),
    ),
    (
        "federation: a second list of survivors",
        "privacy/masking.py",
        "if self._agreed.setdefault(str(number), names) != names:",
        "if self._agreed.setdefault(str(number), names) is None:",
        _HOSTILE,
    ),
    (
        "federation: two sums of a round are opened",
        "clients/masking.py",
        "if session != own and (opened or opens):",
        "if False:",
        _SUMS,
    ),
    (
        "federation: a summed update is shown by itself",
        "clients/handlers.py",
        "if block in agreement.summed else None",
        'if "members" in config else None',
        _SUMS,
    ),
    (
        "federation: an order that came before",
        "clients/inbox.py",
        "if sequence <= marks.get(sender, 0):",
        "if sequence < marks.get(sender, 0):",
        _INBOX,
    ),
    (
        "federation: an order by any key",
        "clients/inbox.py",
        "if self.node.coordinator and verify != self.node.coordinator:",
        "if False:",
        ("tests/clients/test_inbox.py", "tests/server/test_log_run.py"),
    ),
    (
        "federation: content that nobody signed",
        "clients/inbox.py",
        "if header.content != content_digest(content):",
        "if False:",
        _INBOX,
    ),
    (
        "federation: any bundle runs where one is allowed",
        "clients/partner/guard.py",
        "if digest not in listed(allowed):",
        "if not listed(allowed):",
        _GUARD,
    ),
    (
        "federation: an old bundle under another name",
        "clients/partner/guard.py",
        'if Path(told["place"]()) != Path(place):',
        "if False:",
        _GUARD,
    ),
    (
        "federation: an older welcome is taken",
        "clients/partner/joining.py",
        "if welcome.number < known.number or",
        "if",
        _JOIN,
    ),
    (
        "federation: a run says what a node is",
        "clients/config.py",
        'if "node" in node_config:',
        'if "node" in node_config and "federation" not in run_config:',
        _NODE,
    ),
)
