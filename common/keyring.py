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

    def __init__(self, keys: dict[bytes, bytes], active: bytes) -> None:
        assert active in keys, "the active key is one of the ring"
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
        return cls(keys, active)

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

    def wrap(self, secret: bytes, context: bytes) -> bytes:
        """Seal a secret: key id, nonce, ciphertext. The context must be the same to unwrap."""
        nonce = os.urandom(NONCE_BYTES)
        sealed: bytes = self._ciphers[self._active].encrypt(nonce, secret, context)
        return self._active + nonce + sealed

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """Open a sealed secret. raises NotFound("master key"), Corrupt"""
        key_id, rest = wrapped[:KEY_ID_BYTES], wrapped[KEY_ID_BYTES:]
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise faults.NotFound("master key", key_id.hex())
        try:
            opened: bytes = cipher.decrypt(rest[:NONCE_BYTES], rest[NONCE_BYTES:], context)
        except (InvalidTag, ValueError) as error:  # ValueError: too short for a nonce
            raise faults.Corrupt("wrapped key", key_id.hex()) from error
        return opened


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
