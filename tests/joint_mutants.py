"""Known wrong designs of the secure products, for `tests/mutants.py`: name, file, its text, the wrong one, the tests.

Most leave every result right: only what a party sees gives them away.
"""

from __future__ import annotations

SHARES, REFINING, RING = "privacy/shares.py", "privacy/refining.py", "privacy/ring.py"
EXACT, SECRET = ("tests/privacy/test_shares.py",), ("tests/privacy/test_shares_secrecy.py",)
STEP = ("tests/privacy/test_refining.py",)
JOINT, FITTED, MECHANISMS = "clients/joint.py", "server/joint.py", "privacy/mechanisms.py"
MOMENTS, LINK = "model/moments.py", "model/link.py"
OPENED = "tests/privacy/test_joint_noise.py::test_what_is_opened_has_the_claims_noise_in_the_units_of_rows"
JOINT_NOISE, JOINT_AUDIT = ("tests/privacy/test_joint_noise.py",), ("tests/simulations/test_joint_auditing.py",)
BOUND, ROWS = ("tests/model/test_moments.py",), ("tests/clients/test_joint_rows.py",)
DRAWN = "return discrete_gaussian(rng, stddev, mechanism.size)"

JOINT_MUTANTS: tuple[tuple[str, str, str, str, tuple[str, ...]], ...] = (
    (
        "joint: reused dealer seed",
        *(SHARES, "return os.urandom(32), os.urandom(32)", 'return b"\\1" * 32, b"\\2" * 32', SECRET),
    ),
    ("joint: mask forgets the chunk", SHARES, 'f"chunk|{chunk}"', '"chunk"', SECRET),
    ("joint: mask forgets the owner", SHARES, '_derived(root, "mask", owner)', '_derived(root, "mask", "")', SECRET),
    (
        "joint: one party masks alone",
        *(SHARES, " - _mask(seeds[0], chunk, rows.shape) - _mask(", " - np.uint64(0) * rows.view(np.uint64) - _mask("),
        SECRET,
    ),
    (
        "joint: one party's product term dropped",
        *(SHARES, " + _products(self._blocks, own, shown)", "", EXACT),
    ),
    ("joint: the dealer's correction in the clear", SHARES, "np.uint64(0) - _dealt(", "np.uint64(0) * _dealt(", SECRET),
    (
        "joint: own share not random in split",
        *(SHARES, "first = rng.words(values.size).reshape(values.shape)", "first = np.zeros(values.shape, np.uint64)"),
        SECRET,
    ),
    (
        "joint: a slice too long for a double",
        RING,
        "2**53 // _HALF**2",
        "2**56 // _HALF**2",
        ("tests/privacy/test_ring.py",),
    ),
    (
        "joint: the masks of every step alike",
        REFINING,
        'f"step|{step}|chunk|{chunk}|{what}"',
        'f"chunk|{chunk}|{what}"',
        STEP,
    ),
    (
        "joint: residual opened without its mask",
        REFINING,
        'return expand(root, _label(step, chunk, "residual"), (rows, 1))',
        "return np.zeros((rows, 1), dtype=np.uint64)",
        STEP,
    ),
    ("joint: table not rotated", REFINING, "self._rotated[a]", "self._rotated[a * 0]", STEP),
    (
        "joint: one byte mask for all persons",
        REFINING,
        "view(np.uint8)[:rows] & _LOW",
        "view(np.uint8)[:1].repeat(rows) & _LOW",
        STEP,
    ),
    (
        "joint: no noise but the coordinator's",
        JOINT,
        "split(own + noise, rng)",
        "split(own, rng)",
        (f"{OPENED}[secure]",),
    ),
    (
        "joint: the coordinator adds no noise",
        FITTED,
        "(from_ring(total) + np.",
        "(from_ring(total) + 0 * np.",
        (f"{OPENED}[secure]",),
    ),
    (
        "joint: the curator adds no noise",
        FITTED,
        "return (total + np.",
        "return (total + 0 * np.",
        (f"{OPENED}[curator]",),
    ),
    ("joint: noise on half the triangle", MECHANISMS, DRAWN, f"{DRAWN} * (np.arange(mechanism.size) % 2)", JOINT_NOISE),
    ("joint: each part half the noise", MECHANISMS, DRAWN, DRAWN.replace("stddev,", "stddev / 2,"), JOINT_NOISE),
    ("joint: half the noise, for canaries", MECHANISMS, DRAWN, DRAWN.replace("stddev,", "stddev / 2,"), JOINT_AUDIT),
    ("joint: parts of noise that do not make a whole", MECHANISMS, "/ math.sqrt(shares)", "/ shares", JOINT_NOISE),
    ("joint: row bound without its fourths", MOMENTS, "(squares * squares + fourths) / 2", "squares**2 / 2", BOUND),
    (
        "joint: row bound without one block",
        *(MOMENTS, "sum(block.squares for block in", "sum(block.squares * (not block.lender) for block in", BOUND),
    ),
    (
        "joint: residual's row forgets a part",
        *(MOMENTS, "block.squares_without_label for", "block.squares_without_label * block.lender for", BOUND),
    ),
    (
        "joint: a block's bound forgets a part",
        MOMENTS,
        "for basis in self.bases if basis",
        "for basis in self.bases[1:] if basis",
        BOUND,
    ),
    ("joint: label scale not in the bound", MOMENTS, "(LABEL * UNIT) ** power * label", "UNIT**power * label", BOUND),
    ("joint: a part beyond its limits", LINK, "np.clip(steps, low, high)", "np.clip(steps, low, high + 1)", BOUND),
    ("joint: sums beyond the table", LINK, "most < STEPS // 2", "most <= STEPS // 2", BOUND),
    (
        "joint: absent person's row is not zero",
        JOINT,
        "out[here] = self.rows.rows(table.codes[:, places[here]])",
        "out[:] = self.rows.rows(table.codes[:, np.maximum(places, 0)])",
        ROWS,
    ),
    (
        "joint: absent person's bins are counted",
        *("model/binned.py", "row[~here] = len(table) - 1", "row[~here] = 0", ("tests/model/test_binned.py",)),
    ),
    (
        "joint: absent person's row at the lender is not zero",
        *(JOINT, "rows[np.ix_(places < 0, ", "rows[np.ix_(places < -1, ", ROWS),
    ),
)

SIGNING, IDENTITY, SIGNED = "privacy/signing.py", "clients/identity.py", ("tests/privacy/test_signing.py",)
ENROLLED = "tests/server/test_log_run.py"
PINNED = ("tests/clients/test_identity.py",)
CHECKED = "    check(sender_verify_key, signature, _addressed(public_key(private), message), _PACKET + context)\n"

SIGNING_MUTANTS: tuple[tuple[str, str, str, str, tuple[str, ...]], ...] = (
    ("signing: signature not checked", SIGNING, CHECKED, "", SIGNED),
    ("signing: signature forgets the receiver", SIGNING, "return receiver + message", "return message", SIGNED),
    ("signing: signature forgets the context", SIGNING, "told = context.encode()", 'told = b""', SIGNED),
    ("signing: a packet's signature binds a key", SIGNING, '"fedscore-packet|", "fedscore-key|"', '"", ""', SIGNED),
    ("signing: binding not checked", SIGNING, "    check(verify, bound, key, _BOUND + name)\n", "", SIGNED),
    ("signing: changed key accepted", IDENTITY, "elif pins[other_name] != told:", "elif False:", PINNED),
    (
        "signing: the newest key is pinned",
        *(IDENTITY, "if other_name not in pins:", "if pins.get(other_name) != told:", PINNED),
    ),
    ("signing: broken pins begun anew", IDENTITY, "        pins = None\n", "        pins = {}\n", PINNED),
    ("signing: pins of one run", IDENTITY, "node.durable(own_name) / PEERS", "node.folder(own_name) / PEERS", PINNED),
    (
        "signing: a member's answers count before it enrolled",
        *(
            "server/outbox.py",
            "if self._enrolled is not None:",
            "if False:",
            (f"{ENROLLED}::test_who_is_not_enrolled_takes_no_part",),
        ),
    ),
)
