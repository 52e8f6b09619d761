"""The cluster's key ring: master keys that wrap data keys and stored secrets.

A JSON file readable by its owner only. Keys have ids; one is active and wraps, all unwrap, so that
a rotation makes a new active key and old data stays readable. A wrapped key names its master key.
"""

import base64
import json
import os
import secrets
import stat
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from common import faults

FORMAT = 1
KEY_BYTES = 32
KEY_ID_BYTES = 4
NONCE_BYTES = 12


class KeySource(Protocol):
    """Wraps and unwraps secrets: the key ring, or a key service that takes its place."""

    def wrap(self, secret: bytes, context: bytes) -> bytes: ...

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes: ...


class KeyRing:
    """Master keys in memory; their bytes are never shown."""

    def __init__(self, keys: dict[bytes, bytes], active: bytes, path: Path | None = None) -> None:
        """
        path   where the ring came from: read again when a key is asked for that is not in memory
        """
        assert active in keys, "the active key is one of the ring"
        self._path = path
        self._keys = keys
        self._active = active
        self._ciphers = {key_id: AESGCM(key) for key_id, key in keys.items()}

    def __repr__(self) -> str:
        return f"KeyRing({len(self._keys)} keys, active {self._active.hex()})"

    @classmethod
    def make(cls) -> "KeyRing":
        """A ring with one fresh key."""
        key_id = secrets.token_bytes(KEY_ID_BYTES)
        return cls({key_id: secrets.token_bytes(KEY_BYTES)}, key_id)

    @classmethod
    def load(cls, path: Path) -> "KeyRing":
        """Read a ring.

        raises   Invalid if others than the owner may read the file, or it is no key ring
        """
        try:
            with path.open("rb") as file:
                mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
                text = file.read()
        except OSError as error:
            raise faults.Invalid("key ring", str(path), str(error.strerror)) from error
        if mode & 0o077:
            raise faults.Invalid("key ring", str(path), f"mode {mode:o}: must be 600")
        try:
            document = json.loads(text)
            if document["format"] != FORMAT:
                raise faults.Invalid("key ring", str(path), f"format {document['format']}")
            keys = {
                bytes.fromhex(entry["id"]): base64.b64decode(entry["key"], validate=True)
                for entry in document["keys"]
            }
            active = bytes.fromhex(document["active"])
        except (ValueError, KeyError, TypeError) as error:
            raise faults.Invalid("key ring", str(path), "not a key ring") from error
        if active not in keys or not all(map(_is_key, keys, keys.values())):
            raise faults.Invalid("key ring", str(path), "incomplete")
        return cls(keys, active, path)

    def save(self, path: Path) -> None:
        """Write the ring; on disk, with its folder entry, when this returns."""
        document = {
            "format": FORMAT,
            "active": self._active.hex(),
            "keys": [
                {"id": key_id.hex(), "key": base64.b64encode(key).decode()}
                for key_id, key in self._keys.items()
            ],
        }
        write_private(path, json.dumps(document, indent=1).encode())

    def rotate(self) -> None:
        """Make a new active key; the old ones still unwrap."""
        key_id = secrets.token_bytes(KEY_ID_BYTES)
        self._keys[key_id] = key = secrets.token_bytes(KEY_BYTES)
        self._ciphers[key_id] = AESGCM(key)
        self._active = key_id

    @property
    def active_id(self) -> str:
        """The id of the key that wraps."""
        return self._active.hex()

    def _read_again(self, path: Path) -> None:
        """Learn keys of a rotation since. A file that cannot be read teaches nothing."""
        try:
            found = KeyRing.load(path)
        except faults.Invalid:
            return
        if self._keys.items() <= found._keys.items():  # never forget a key that data needs
            self._keys, self._ciphers = found._keys, found._ciphers
            self._active = found._active

    def wrap(self, secret: bytes, context: bytes) -> bytes:
        """Seal a secret: key id, nonce, ciphertext. The context must be the same to unwrap."""
        nonce = os.urandom(NONCE_BYTES)
        sealed: bytes = self._ciphers[self._active].encrypt(nonce, secret, context)
        return self._active + nonce + sealed

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """Open a sealed secret. raises NotFound("master key"), Corrupt"""
        key_id, rest = wrapped[:KEY_ID_BYTES], wrapped[KEY_ID_BYTES:]
        if key_id not in self._keys and self._path is not None:
            self._read_again(self._path)
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise faults.NotFound("master key", key_id.hex())
        try:
            opened: bytes = cipher.decrypt(rest[:NONCE_BYTES], rest[NONCE_BYTES:], context)
        except (InvalidTag, ValueError) as error:  # ValueError: too short for a nonce
            raise faults.Corrupt("wrapped key", key_id.hex()) from error
        return opened


def rotate_file(path: Path) -> str:
    """Give a ring on disk a new active key; returns its id. Durable when this returns.

    The old keys stay: what they wrapped stays readable. Processes that run learn the new key when
    they meet it, and wrap with it from then on or from their next start.
    raises   Invalid if it is no key ring of ours
    """
    ring = KeyRing.load(path)
    ring.rotate()
    ring.save(path)
    return ring.active_id


def _is_key(key_id: bytes, key: bytes) -> bool:
    return len(key_id) == KEY_ID_BYTES and len(key) == KEY_BYTES


def write_private(path: Path, data: bytes) -> None:
    """Replace a file by one that only its owner can read; durable when this returns."""
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)  # of a crash; its mode is not ours to trust
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
