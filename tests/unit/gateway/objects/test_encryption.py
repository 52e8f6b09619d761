"""Sealed packages open only as what they were sealed as: same blob, number, place and length."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import faults
from common.erasure.layout import SEALED_BYTES
from common.keyring import KeyRing
from common.limits import PACKAGE_BYTES, PACKAGE_TAG_BYTES
from gateway.objects.encryption import BlobCipher, DataKey

BLOB = b"b" * 16
SIZE = 2 * PACKAGE_BYTES + 1000
PLAIN = bytes(range(251)) * (SIZE // 251) + bytes(SIZE % 251)


def seal(cipher: BlobCipher, plain: bytes, first_package: int = 0) -> bytearray:
    packages = -(-len(plain) // PACKAGE_BYTES)
    sealed = bytearray(len(plain) + packages * PACKAGE_TAG_BYTES)
    cipher.seal(memoryview(plain), memoryview(sealed), first_package)
    return sealed


def opened(cipher: BlobCipher, sealed: bytes | bytearray, first_package: int = 0) -> bytes:
    packages = -(-len(sealed) // SEALED_BYTES)
    plain = bytearray(len(sealed) - packages * PACKAGE_TAG_BYTES)
    cipher.open(memoryview(sealed), memoryview(plain), first_package)
    return bytes(plain)


@pytest.mark.parametrize(
    "size", [1, 1000, PACKAGE_BYTES - 1, PACKAGE_BYTES, PACKAGE_BYTES + 1, SIZE]
)
def test_what_was_sealed_opens(size: int) -> None:
    key, packages = DataKey.make(), -(-size // PACKAGE_BYTES)
    sealed = seal(key.sealer(BLOB, 0, packages), PLAIN[:size])
    assert opened(key.sealer(BLOB, 0, packages), sealed) == PLAIN[:size]


def test_any_run_of_packages_opens_alone() -> None:
    cipher = DataKey.make().sealer(BLOB, 0, 3)
    sealed = seal(cipher, PLAIN)
    assert opened(cipher, sealed[SEALED_BYTES:], 1) == PLAIN[PACKAGE_BYTES:]
    middle = sealed[SEALED_BYTES : 2 * SEALED_BYTES]
    assert opened(cipher, middle, 1) == PLAIN[PACKAGE_BYTES : 2 * PACKAGE_BYTES]


def test_stripes_sealed_one_after_another_are_one_stream() -> None:
    cipher = DataKey.make().sealer(BLOB, 0, 3)
    whole = seal(cipher, PLAIN)
    first = seal(cipher, PLAIN[: 2 * PACKAGE_BYTES], 0)
    second = seal(cipher, PLAIN[2 * PACKAGE_BYTES :], 2)
    assert first + second == whole


def test_no_plaintext_is_left_in_what_was_sealed() -> None:
    sealed = seal(DataKey.make().sealer(BLOB, 0, 3), PLAIN)
    assert not any(PLAIN[at : at + 8] in sealed for at in range(0, SIZE - 8, 4096))


@pytest.mark.parametrize(
    ("blob_id", "number", "packages", "first"),
    [
        (b"c" * 16, 0, 3, 0),  # another blob's packages
        (BLOB, 1, 3, 0),  # another blob of the same object
        (BLOB, 0, 4, 0),  # cut: the last package was not marked so
        (BLOB, 0, 3, 1),  # moved
    ],
)
def test_packages_out_of_place_do_not_open(
    blob_id: bytes, number: int, packages: int, first: int
) -> None:
    key = DataKey.make()
    sealed = seal(key.sealer(BLOB, 0, 3), PLAIN)
    with pytest.raises(faults.Corrupt):
        opened(key.sealer(blob_id, number, packages), sealed, first)


def test_swapped_packages_do_not_open() -> None:
    cipher = DataKey.make().sealer(BLOB, 0, 3)
    sealed = seal(cipher, PLAIN)
    swapped = sealed[SEALED_BYTES : 2 * SEALED_BYTES] + sealed[:SEALED_BYTES]
    with pytest.raises(faults.Corrupt):
        opened(cipher, swapped)


def test_a_blob_cut_at_a_package_does_not_look_whole() -> None:
    key = DataKey.make()
    sealed = seal(key.sealer(BLOB, 0, 3), PLAIN)
    with pytest.raises(faults.Corrupt):
        opened(key.sealer(BLOB, 0, 2), sealed[: 2 * SEALED_BYTES])


def test_another_key_opens_nothing() -> None:
    sealed = seal(DataKey.make().sealer(BLOB, 0, 3), PLAIN)
    with pytest.raises(faults.Corrupt):
        opened(DataKey.make().sealer(BLOB, 0, 3), sealed)


@given(place=st.integers(0, SIZE + 3 * PACKAGE_TAG_BYTES - 1), bit=st.integers(0, 7))
def test_a_flipped_bit_anywhere_is_found_and_named(place: int, bit: int) -> None:
    cipher = DataKey(b"k" * 32).sealer(BLOB, 0, 3)
    sealed = seal(cipher, PLAIN)
    sealed[place] ^= 1 << bit
    with pytest.raises(faults.Corrupt) as caught:
        opened(cipher, sealed)
    assert caught.value.fields["name"] == str(place // SEALED_BYTES)
    assert caught.value.fields["detail"] == BLOB.hex()


def test_no_nonce_is_used_twice_under_a_key() -> None:
    key = DataKey.make()
    plain = bytes(100)
    sealed = {bytes(seal(key.sealer(BLOB, number, 9), plain, first))[:100]
              for number in (0, 1, 2**32 - 2) for first in (0, 1, 2**40)}  # fmt: skip
    sealed.add(key.seal_inline(plain)[:100])
    assert len(sealed) == 10, "equal plaintext under equal nonces gives equal ciphertext"


@pytest.mark.parametrize("size", [0, 1, 16384])
def test_inline_data_opens_only_unchanged(size: int) -> None:
    key = DataKey.make()
    sealed = key.seal_inline(PLAIN[:size])
    assert key.open_inline(sealed) == PLAIN[:size]
    for changed in (sealed[:-1], sealed + b"x", b"", bytes([sealed[0] ^ 1]) + sealed[1:]):
        with pytest.raises(faults.Corrupt):
            key.open_inline(changed)


def test_a_wrapped_key_opens_what_the_key_sealed() -> None:
    ring, key = KeyRing.make(), DataKey.make()
    again = DataKey.unwrap(key.wrap(ring), ring)
    assert again.open_inline(key.seal_inline(b"data")) == b"data"


def test_keys_are_never_shown() -> None:
    key = DataKey(b"top secret key of 32 bytes, yes!")
    assert "secret" not in repr(key) + str(key)
    assert not hasattr(key, "__dict__")
