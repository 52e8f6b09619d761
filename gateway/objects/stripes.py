"""The kernel of large objects: a stripe's plaintext to sealed, coded, checksummed cells, and back.

Blocking and free of the GIL for most of its time; one call, one thread hop per stripe.
"""

from collections.abc import Mapping

from common import faults
from common.buffers import Buffer
from common.checksum import crc32c_blocks, crc32c_values
from common.erasure.code import ErasureCode
from common.erasure.layout import BLOCK_BYTES, SEALED_BYTES, Stripe, StripeRead
from common.limits import PACKAGE_BYTES
from gateway.objects.encryption import BlobCipher


def encode_blocking(
    code: ErasureCode, cipher: BlobCipher, stripe: Stripe, plain: memoryview, coded: Buffer
) -> list[bytes]:
    """Seal and code one stripe into `coded`: k + m cells one after another.

    returns  per cell the CRC32Cs of its blocks
    """
    size = stripe.cell_bytes
    cipher.seal(plain, coded.view[: stripe.sealed_bytes], stripe.first_package)
    padding = code.k * size - stripe.sealed_bytes
    if padding:
        coded.view[stripe.sealed_bytes : code.k * size] = bytes(padding)
    code.encode(coded.address, size)
    return [
        crc32c_blocks(coded.view[at : at + size], BLOCK_BYTES)
        for at in range(0, code.n * size, size)
    ]


class CellSet:
    """Cells of one stripe that were read, whole or in part, into their places in a buffer.

    The buffer has room for k + m cells, or for the same window [begin, end) of each. `spans` says
    which bytes of a cell are there: the same for all cells once one of them must be reconstructed.
    `unverified` holds the checksums of those that were not compared with them yet:
    `open_checked_blocking` does, on its way.
    """

    def __init__(
        self,
        code: ErasureCode,
        stripe: Stripe,
        buffer: Buffer,
        window: tuple[int, int] | None = None,
    ) -> None:
        self.code, self.stripe, self.buffer = code, stripe, buffer
        self._begin, end = window or (0, stripe.cell_bytes)
        self._width = end - self._begin
        self.spans: dict[int, tuple[int, int]] = {}
        self.unverified: dict[int, bytes] = {}

    def place(self, index: int, begin: int, end: int) -> memoryview:
        """The memory for bytes [begin, end) of a cell."""
        at = index * self._width - self._begin
        return self.buffer.view[at + begin : at + end]

    def is_intact(self, index: int, begin: int, end: int, checksums: bytes) -> bool:
        """Whether what was read is what was written."""
        return crc32c_blocks(self.place(index, begin, end), BLOCK_BYTES) == checksums

    def reconstruct_blocking(
        self, wanted: Mapping[int, tuple[int, int]], span: tuple[int, int]
    ) -> None:
        """Recreate bytes `span` of data cells from the cells that have them. raises Unavailable"""
        begin, end = span
        size, first_address = self._width, self.buffer.address + begin - self._begin
        available = {
            index: first_address + index * size
            for index, (first, last) in self.spans.items()
            if first <= begin and end <= last
        }
        if len(available) < self.code.k:
            raise faults.Unavailable("too few fragments are left")
        targets = {index: first_address + index * size for index in wanted}
        self.code.reconstruct(available, targets, end - begin)


def open_checked_blocking(
    cells: CellSet, cipher: BlobCipher, read: StripeRead, plain: memoryview
) -> list[int]:
    """Verify the cells that nobody has verified, and open the wanted packages.

    returns  indexes of cells that are not what was written; empty: `plain` is right
    raises   Corrupt if a package is what was written, but not what was sealed
    """
    if not read.stripe.has_whole_packages or len(cells.unverified) != _touched(read):
        bad = [
            index
            for index, checksums in cells.unverified.items()
            if not cells.is_intact(index, *cells.spans[index], checksums)
        ]
        if not bad:
            cells.unverified.clear()
            open_blocking(cells, cipher, read, plain)
        return bad
    bad, at = [], 0
    first = read.stripe.first_package + read.first_package
    for index, span in enumerate(read.cells):
        if span[0] == span[1]:
            continue
        checksums = crc32c_values(cells.unverified[index])
        sealed = cells.place(index, *span)
        room = plain[at * PACKAGE_BYTES :]
        if not cipher.open_checked(sealed, room, first + at, checksums):
            bad.append(index)
        at += len(checksums)
    if not bad:
        cells.unverified.clear()
    return bad


def _touched(read: StripeRead) -> int:
    return sum(span[0] != span[1] for span in read.cells)


def open_blocking(cells: CellSet, cipher: BlobCipher, read: StripeRead, plain: memoryview) -> None:
    """Open the wanted packages of a stripe's data cells, which lie one after another.

    raises   Corrupt if a package is not what was sealed
    """
    first = read.stripe.first_package + read.first_package
    if read.window != (0, read.stripe.cell_bytes):
        index = next(index for index, span in enumerate(read.cells) if span[1])
        cipher.open(cells.place(index, *read.cells[index]), plain, first)
        return
    begin = read.first_package * SEALED_BYTES
    end = min(read.end_package * SEALED_BYTES, read.stripe.sealed_bytes)
    cipher.open(cells.buffer.view[begin:end], plain, first)
