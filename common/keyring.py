"""The cluster's key ring: master keys that wrap data keys and stored secrets.

A JSON file readable by its owner only. Keys have ids; one is active and wraps, all unwrap, so that
a rotation makes a new active key and old data stays readable. A wrapped key names its master key.

A key's life: made (perhaps before it is used, so that a copy of the file can reach every host
first), active, old, retired (no row of the metadata names it; kept for fragments' headers and older
copies of the metadata), destroyed. Every change of the file is one atomic replacement.
"""

import base64
import fcntl
import json
import logging
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from common import faults
from common.folders import sync_folder

log = logging.getLogger(__name__)

FORMAT = 1
KEY_BYTES = 32
KEY_ID_BYTES = 4
NONCE_BYTES = 12
REFRESH_S = 1.0  # between two looks at the file
DATA_KEY_CONTEXT = b"ostraka data key"  # wraps the keys of objects and parts


class KeySource(Protocol):
    """Wraps and unwraps secrets: the key ring, or a key service that takes its place."""

    @property
    def active_id(self) -> str:
        """The id of the key that wraps now."""
        ...

    def wrap(self, secret: bytes, context: bytes) -> bytes: ...

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes: ...

    def is_current(self, wrapped: bytes) -> bool:
        """Whether something is wrapped by the key that wraps now."""
        ...

    def is_destroyed(self, wrapped: bytes) -> bool:
        """Whether something is wrapped by a key that was destroyed on purpose."""
        ...

    def rewrap(self, wrapped: bytes, context: bytes) -> bytes:
        """The same secret wrapped by the key that wraps now. raises NotFound, Corrupt"""
        ...


class KeyState(StrEnum):
    """What a master key is used for."""

    PREPARED = "prepared"  # nothing yet
    ACTIVE = "active"  # wraps
    OLD = "old"  # unwraps what it wrapped while it was active
    RETIRED = "retired"  # nothing in the running metadata names it


class KeyRing:
    """Master keys in memory; their bytes are never shown."""

    def __init__(self, keys: dict[bytes, bytes], active: bytes, path: Path | None = None) -> None:
        """
        keys   by id, in the order they were made; those behind the active one are prepared
        path   where the ring came from: read again when it changes, or when a key is asked for that
               is not in memory
        """
        assert active in keys, "the active key is one of the ring"
        self._path = path
        self._keys = keys
        self._active = active
        self._retired: set[bytes] = set()
        self._destroyed: set[bytes] = set()
        self._ciphers = {key_id: AESGCM(key) for key_id, key in keys.items()}
        self._read_as: tuple[int, ...] = ()  # which writing of the file was read

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
                status = os.fstat(file.fileno())
                text = file.read()
        except OSError as error:
            raise faults.Invalid("key ring", str(path), str(error.strerror)) from error
        mode = stat.S_IMODE(status.st_mode)
        if mode & 0o077:
            raise faults.Invalid("key ring", str(path), f"mode {mode:o}: must be 600")
        try:
            document = json.loads(text)
            if document["format"] != FORMAT:
                raise faults.Invalid("key ring", str(path), f"format {document['format']}")
            keys = _keys(document["keys"])
            retired = _keys(document.get("retired", []))
            destroyed = {bytes.fromhex(key_id) for key_id in document.get("destroyed", [])}
            active = bytes.fromhex(document["active"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise faults.Invalid("key ring", str(path), "not a key ring") from error
        every = retired | keys
        if active not in keys or not all(map(_is_key, every, every.values())):
            raise faults.Invalid("key ring", str(path), "incomplete")
        ring = cls(every, active, path)
        ring._retired, ring._destroyed = set(retired) - set(keys), destroyed
        ring._read_as = _writing(status)
        return ring

    def save(self, path: Path) -> None:
        """Write the ring; on disk, with its folder entry, when this returns."""
        used = {key_id: key for key_id, key in self._keys.items() if key_id not in self._retired}
        retired = {key_id: key for key_id, key in self._keys.items() if key_id in self._retired}
        document: dict[str, Any] = {
            "format": FORMAT,
            "active": self._active.hex(),
            "keys": _entries(used),
        }
        if retired:
            document["retired"] = _entries(retired)
        if self._destroyed:
            document["destroyed"] = [key_id.hex() for key_id in sorted(self._destroyed)]
        write_private(path, json.dumps(document, indent=1).encode())

    # --- the life of keys -----------------------------------------------------------------------

    @property
    def active_id(self) -> str:
        """The id of the key that wraps."""
        return self._active.hex()

    def states(self) -> dict[str, KeyState]:
        """All keys by id, oldest first, and what each is used for."""
        found: dict[str, KeyState] = {}
        others = KeyState.OLD
        for key_id in self._keys:
            if key_id == self._active:
                found[key_id.hex()], others = KeyState.ACTIVE, KeyState.PREPARED
            else:
                found[key_id.hex()] = KeyState.RETIRED if key_id in self._retired else others
        return found

    def prepare(self) -> str:
        """Make a key that is not used yet; returns its id."""
        key_id = secrets.token_bytes(KEY_ID_BYTES)
        self._keys[key_id] = key = secrets.token_bytes(KEY_BYTES)
        self._ciphers[key_id] = AESGCM(key)
        return key_id.hex()

    def rotate(self) -> str:
        """Make the newest prepared key active, or else a fresh one; the old ones unwrap."""
        if next(reversed(self._keys)) == self._active:
            self.prepare()
        self._active = next(reversed(self._keys))
        return self.active_id

    def retire(self, key_id: str) -> None:
        """Say that nothing in the metadata names an old key any more. raises NotFound, Invalid"""
        self.require(key_id, KeyState.OLD)
        self._retired.add(bytes.fromhex(key_id))

    def destroy(self, key_id: str) -> None:
        """Forget a retired key for good. raises NotFound, Invalid"""
        self.require(key_id, KeyState.RETIRED)
        name = bytes.fromhex(key_id)
        del self._keys[name], self._ciphers[name]
        self._retired.discard(name)
        self._destroyed.add(name)

    def require(self, key_id: str, *states: KeyState) -> None:
        """Refuse a key that is in none of these states. raises NotFound, Invalid"""
        found = self.states().get(key_id)
        if found is None:
            raise faults.NotFound("master key", key_id)
        if found not in states:
            raise faults.Invalid("master key", key_id, f"is {found}, not {' or '.join(states)}")

    # --- a file that changes --------------------------------------------------------------------

    def refresh(self) -> bool:
        """Take up what was changed in the file since; a stat call if nothing was.

        returns  whether something was taken up. What cannot be read, or has lost keys, teaches
                 nothing and is logged
        """
        if self._path is None:
            return False
        try:
            writing = _writing(self._path.stat())
        except OSError:
            return False
        if writing == self._read_as:
            return False
        self._read_as = writing
        return self._read_again(self._path)

    async def refresh_step(self) -> None:
        """`refresh` as a step of a supervisor's loop."""
        self.refresh()

    def _read_again(self, path: Path) -> bool:
        """Learn keys of a rotation since; never forget one that was not destroyed on purpose."""
        try:
            found = KeyRing.load(path)
        except faults.Invalid as fault:
            log.warning("the changed key ring is not used: %s", faults.in_words(fault))
            return False
        lost = self._keys.items() - found._keys.items()
        if {key_id for key_id, _ in lost} - found._destroyed:
            log.error("the changed key ring is not used: it has lost keys", extra={"path": path})
            return False
        self._keys, self._ciphers = found._keys, found._ciphers
        self._active, self._read_as = found._active, found._read_as
        self._retired, self._destroyed = found._retired, found._destroyed
        log.info("key ring read again", extra={"active": self.active_id, "keys": len(self._keys)})
        return True

    # --- wrapping -------------------------------------------------------------------------------

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

    def is_current(self, wrapped: bytes) -> bool:
        """Whether something is wrapped by the active key."""
        return wrapped.startswith(self._active)

    def is_destroyed(self, wrapped: bytes) -> bool:
        """Whether something is wrapped by a key that was destroyed on purpose."""
        return wrapped[:KEY_ID_BYTES] in self._destroyed

    def rewrap(self, wrapped: bytes, context: bytes) -> bytes:
        """The same secret wrapped by the active key. raises NotFound("master key"), Corrupt"""
        return self.wrap(self.unwrap(wrapped, context), context)


def key_id_of(wrapped: bytes) -> str:
    """The id of the key that something is wrapped by."""
    return wrapped[:KEY_ID_BYTES].hex()


def change_file(path: Path, change: Callable[[KeyRing], object]) -> KeyRing:
    """Change a ring on disk; durable when this returns. Changes by several wait for one another.

    A crash leaves the ring of before or of after. Processes that run take up the new one.
    raises   Invalid if it is no key ring of ours; what `change` raises: nothing is written then
    """
    with _held(path):
        ring = KeyRing.load(path)
        change(ring)
        ring.save(path)
    return ring


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """Keep others from changing a ring meanwhile. raises Invalid"""
    try:
        descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise faults.Invalid("key ring", str(path), str(error.strerror)) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _writing(status: os.stat_result) -> tuple[int, ...]:
    return status.st_ino, status.st_mtime_ns, status.st_size


def _keys(entries: list[dict[str, str]]) -> dict[bytes, bytes]:
    return {
        bytes.fromhex(entry["id"]): base64.b64decode(entry["key"], validate=True)
        for entry in entries
    }


def _entries(keys: dict[bytes, bytes]) -> list[dict[str, str]]:
    return [
        {"id": key_id.hex(), "key": base64.b64encode(key).decode()} for key_id, key in keys.items()
    ]


def _is_key(key_id: bytes, key: bytes) -> bool:
    return len(key_id) == KEY_ID_BYTES and len(key) == KEY_BYTES


def write_private(path: Path, data: bytes) -> None:
    """Replace a file by one that only its owner can read; durable when this returns."""
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)  # of a crash; its mode is not ours to trust
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        _keep_owner(path, descriptor)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


def _keep_owner(path: Path, descriptor: int) -> None:
    """An administrator who replaces a service's file leaves it to the service."""
    try:
        before = path.stat()
    except FileNotFoundError:
        return
    if os.geteuid() == 0 and before.st_uid != 0:
        os.fchown(descriptor, before.st_uid, before.st_gid)
