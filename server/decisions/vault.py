"""Keys of persons: what is stored about a person is sealed under a key of its own, which can be destroyed.

A person's key is random, wrapped under the master key of a file beside the database, and a row of `person_key`. With
that row gone nobody, the master key's keeper included, opens what was sealed under it. Keys are read from their rows
in every transaction: none is remembered longer, so none outlives its row in another process.

Raises `Forgotten` (there is no key of that person) and `CannotUnseal` (what was sealed was changed, or the master key
is another one).
"""

from __future__ import annotations

import hmac
import os
import re
import stat
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import Connection, bindparam, delete, select, update

from model.inputs import InputError, read_text
from server.decisions.tables import metadata, person_key, stamp

SEALED = b"\x01"  # first byte of everything sealed; JSON never begins with it
_KEY, _NONCE = 32, 12  # bytes
_MARK = "fedscore vault 1"
_HELD = "keys of persons"  # of connection.info: the transaction, and the keys that were read in it
_WRAPPED = select(person_key.c.wrapped).where(person_key.c.subject_ref == bindparam("person"))


class Forgotten(LookupError):
    """There is no key of that person: never made, or destroyed."""


class CannotUnseal(RuntimeError):
    """Sealed bytes that do not open: changed, moved from elsewhere, or sealed under another master key."""


class Vault:
    """The master key, and through it the persons' keys in a database."""

    def __init__(self, path: Path, master: bytes) -> None:
        self.path = path
        self._master = master

    @classmethod
    def create(cls, path: Path) -> Vault:
        """Makes a new master key in a new file of mode 0600; it is on disk when this returns.

        Raises:
            InputError: the file exists, or its folder does not take it.
        """
        master = os.urandom(_KEY)
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "w", encoding="ascii") as file:
                file.write(f"{_MARK}\n{master.hex()}\n")
                file.flush()
                os.fsync(file.fileno())
            folder = os.open(path.parent, os.O_RDONLY)
            os.fsync(folder)
            os.close(folder)
        except FileExistsError:
            raise InputError(path, "", "exists already", remedy="a vault is never overwritten") from None
        except OSError as error:
            raise InputError(path, "", f"cannot be written ({error.strerror})", remedy="check the folder") from None
        return cls(path, master)

    @classmethod
    def open(cls, path: Path) -> Vault:
        """Reads the master key.

        Raises:
            InputError: no such file, one that others may read, or one that is no vault.
        """
        text = read_text(path)
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise InputError(path, "", "may be read by others than its owner", remedy="run `chmod 600` on it")
        found = re.fullmatch(rf"{_MARK}\n([0-9a-f]{{{2 * _KEY}}})\n?", text)
        if not found:
            raise InputError(path, "", "is no vault", remedy="restore a good copy")
        return cls(path, bytes.fromhex(found[1]))

    def fingerprint(self) -> str:
        """32 hexadecimal digits that name the master key and tell nothing about it."""
        return hmac.new(self._master, b"fedscore vault", "sha256").hexdigest()[:32]

    def derived(self, purpose: str) -> bytes:
        """A 32-byte key for another purpose than sealing."""
        return hmac.new(self._master, f"fedscore {purpose}".encode(), "sha256").digest()

    def key_of(self, connection: Connection, subject_ref: str, create: bool = False) -> bytes:
        """The person's 32-byte key, made and stored now where there is none and `create` is set.

        Raises:
            Forgotten: there is none.
            CannotUnseal: the row was changed, or the vault is another one than the row was made with.
        """
        held = _held(connection)
        if subject_ref not in held:
            wrapped = connection.execute(_WRAPPED, {"person": subject_ref}).scalar_one_or_none()
            self.told(connection, subject_ref, wrapped)
        known = held[subject_ref]
        if known is not None:
            return known
        if not create:
            raise Forgotten("there is no key of that person")
        key = held[subject_ref] = os.urandom(_KEY)
        row = {"wrapped": seal(self._master, key, _wrapping(subject_ref)), "created_at": stamp()}
        connection.execute(person_key.insert(), {"subject_ref": subject_ref, **row})
        return key

    def told(self, connection: Connection, subject_ref: str, wrapped: bytes | None) -> bytes | None:
        """The person's key, from what a query of this transaction found in its row; `key_of` need not ask again."""
        key = None if wrapped is None else self.unwrap(subject_ref, wrapped)
        _held(connection)[subject_ref] = key
        return key

    def unwrap(self, subject_ref: str, wrapped: bytes) -> bytes:
        """The person's key from its row's bytes; raises `CannotUnseal` as `key_of` does."""
        return unseal(self._master, wrapped, _wrapping(subject_ref))


def seal(key: bytes, plaintext: bytes, context: bytes) -> bytes:
    """Encrypts (AES-256-GCM, random nonce); `context` says what it is, and must be repeated to open it.

    >>> unseal(b"k" * 32, seal(b"k" * 32, b"text", b"account"), b"account")
    b'text'
    """
    nonce = os.urandom(_NONCE)
    return SEALED + nonce + AESGCM(key).encrypt(nonce, plaintext, context)


def unseal(key: bytes, sealed: bytes, context: bytes) -> bytes:
    """What `seal` was given; raises `CannotUnseal` for any other key, context or byte."""
    nonce, ciphertext = sealed[1 : 1 + _NONCE], sealed[1 + _NONCE :]
    try:
        if sealed[:1] != SEALED or len(nonce) != _NONCE:
            raise CannotUnseal("these bytes were not sealed")
        return AESGCM(key).decrypt(nonce, ciphertext, context)
    except InvalidTag:
        raise CannotUnseal("sealed bytes do not open with this key and context") from None


def _held(connection: Connection) -> dict[str, bytes | None]:
    """The keys that this transaction has read: they live no longer than it."""
    transaction, keys = connection.info.get(_HELD, (None, None))
    if isinstance(keys, dict) and transaction is innermost(connection):
        return keys
    fresh: dict[str, bytes | None] = {}
    connection.info[_HELD] = innermost(connection), fresh
    return fresh


def innermost(connection: Connection) -> object:
    """The transaction or savepoint that a write is in now: what was remembered in another may have been undone."""
    return connection.get_nested_transaction() or connection.get_transaction()


def _wrapping(subject_ref: str) -> bytes:
    return b"person-key|" + subject_ref.encode()


def forget(connection: Connection, subject_ref: str) -> None:
    """Destroys the person's key and every clear trace: `subject_ref` becomes null, or its row goes.

    Only `chain.erase` calls it, which records the erasure; `database.scrub` then cleans the files.
    """
    _held(connection).pop(subject_ref, None)
    for table in reversed(metadata.sorted_tables):
        if "subject_ref" in table.c:
            named = table.c.subject_ref == subject_ref
            if table.c.subject_ref.nullable:
                connection.execute(update(table).where(named).values(subject_ref=None))
            else:
                connection.execute(delete(table).where(named))
