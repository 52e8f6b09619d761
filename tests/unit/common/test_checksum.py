"""Checksums: published values, any cut gives the same digest, CRCs of pieces combine."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import checksum, faults

CHECK = b"123456789"
PUBLISHED = {
    "CRC32": "cbf43926",
    "CRC32C": "e3069283",
    "CRC64NVME": "ae8b14860a799888",
    "SHA1": "f7c3bc1d808e04732adf679965ccc34ca7ae3441",
    "SHA256": "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225",
    "MD5": "25f9e794323b453885f5181f1b624d0b",
}
CRCS = sorted(checksum.CRC_BYTES)


def test_every_algorithm_has_a_published_value() -> None:
    assert set(PUBLISHED) == checksum.ALGORITHMS


@pytest.mark.parametrize("algorithm", sorted(PUBLISHED))
def test_published_values(algorithm: str) -> None:
    assert checksum.digest(algorithm, CHECK).hex() == PUBLISHED[algorithm]


@pytest.mark.parametrize("algorithm", CRCS)
def test_the_crc_of_nothing_is_zero(algorithm: str) -> None:
    assert checksum.new(algorithm).digest() == bytes(checksum.CRC_BYTES[algorithm])


@pytest.mark.parametrize("algorithm", sorted(PUBLISHED))
@given(pieces=st.lists(st.binary(max_size=300), max_size=6))
def test_any_cut_gives_the_same_digest(algorithm: str, pieces: list[bytes]) -> None:
    running = checksum.new(algorithm)
    for piece in pieces:
        running.update(memoryview(bytearray(piece)))
    assert running.digest() == checksum.digest(algorithm, b"".join(pieces))


def test_a_digest_may_be_asked_for_in_between() -> None:
    for algorithm in sorted(PUBLISHED):
        running = checksum.new(algorithm)
        running.update(CHECK[:4])
        running.digest()
        running.update(CHECK[4:])
        assert running.digest().hex() == PUBLISHED[algorithm]


@pytest.mark.parametrize("algorithm", CRCS)
@given(first=st.binary(max_size=200), second=st.binary(max_size=200))
def test_crcs_of_pieces_combine(algorithm: str, first: bytes, second: bytes) -> None:
    combined = checksum.combine(
        algorithm,
        checksum.digest(algorithm, first),
        checksum.digest(algorithm, second),
        len(second),
    )
    assert combined == checksum.digest(algorithm, first + second)


@pytest.mark.parametrize("algorithm", CRCS)
def test_sizes_beyond_4_gib_combine(algorithm: str) -> None:
    """6 GiB of zeros appended at once, or in three pieces whose sizes fit into 32 bits."""
    piece, size = checksum.digest(algorithm, bytes(1 << 20)), 1 << 20
    while size < 2 << 30:
        piece, size = checksum.combine(algorithm, piece, piece, size), size * 2
    stepwise = start = checksum.digest(algorithm, b"x")
    zeros = checksum.digest(algorithm, b"")
    for _ in range(3):
        stepwise = checksum.combine(algorithm, stepwise, piece, size)
        zeros = checksum.combine(algorithm, zeros, piece, size)
    assert checksum.combine(algorithm, start, zeros, 3 * size) == stepwise


def test_what_does_not_exist_or_does_not_combine_is_refused() -> None:
    with pytest.raises(faults.Unsupported):
        checksum.new("CRC16")
    with pytest.raises(faults.Unsupported):
        checksum.combine("SHA256", bytes(32), bytes(32), 1)


@given(data=st.binary(min_size=1, max_size=1000), block_bytes=st.integers(1, 400))
def test_blocks_have_a_little_endian_crc_each(data: bytes, block_bytes: int) -> None:
    blocks = [data[at : at + block_bytes] for at in range(0, len(data), block_bytes)]
    expected = [int.from_bytes(checksum.digest("CRC32C", block), "big") for block in blocks]
    table = checksum.crc32c_blocks(memoryview(data), block_bytes)
    assert table == struct.pack(f"<{len(expected)}I", *expected)
