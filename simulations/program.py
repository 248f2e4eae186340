"""Which program this is: the hash of its own source, by which machines and sweeps tell one fedscore from another."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]


def program_digest() -> str:
    """SHA-256 of this program's own source, 64 hexadecimal digits."""
    digest = sha256()
    for folder in ("privacy", "model", "clients", "server", "simulations"):
        for path in sorted((_ROOT / folder).rglob("*.py")):
            digest.update(str(path.relative_to(_ROOT)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
