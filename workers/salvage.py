"""Cells put together block by block, where too few whole ones are left.

A read serves a range if any k fragments have it right, whatever else is wrong with them. Repair
must not be poorer: blocks decay one by one, in different places of different fragments.
"""

import struct
from collections.abc import Mapping

from common import faults
from common.checksum import crc32c_blocks
from common.erasure.code import ErasureCode
from common.erasure.layout import BLOCK_BYTES

CHECKSUM_BYTES = 4


def mend_blocks_blocking(
    code: ErasureCode,
    memory: tuple[memoryview, int],
    cell_bytes: int,
    came: Mapping[int, bytes],
    wanted: frozenset[int],
) -> dict[int, bytes]:
    """Recreate the wrong blocks of the wanted cells in their places; returns their checksums.

    memory   of all cells one behind another, and its address
    came     checksums of the cells that were read into their places, by index
    raises   Corrupt if a block is right in fewer than k cells
    """
    view, address = memory
    right = {
        index: _right_blocks(view[index * cell_bytes : (index + 1) * cell_bytes], table)
        for index, table in came.items()
    }
    for number, begin in enumerate(range(0, cell_bytes, BLOCK_BYTES)):
        lost = [index for index in wanted if index not in right or not right[index][number]]
        if not lost:
            continue
        sources = [index for index, blocks in right.items() if blocks[number]]
        if len(sources) < code.k:
            raise faults.Corrupt("block", str(number), f"right in {len(sources)} fragments only")
        at = address + begin
        code.reconstruct(
            {index: at + index * cell_bytes for index in sources},
            {index: at + index * cell_bytes for index in lost},
            min(BLOCK_BYTES, cell_bytes - begin),
        )
    return {
        index: crc32c_blocks(view[index * cell_bytes : (index + 1) * cell_bytes], BLOCK_BYTES)
        for index in wanted
    }


def _right_blocks(cell: memoryview, table: bytes) -> list[bool]:
    """Which blocks match their checksums; none if the table has another length."""
    found = crc32c_blocks(cell, BLOCK_BYTES)
    form = f"<{len(found) // CHECKSUM_BYTES}I"
    if len(table) != len(found):
        return [False] * (len(found) // CHECKSUM_BYTES)
    pairs = zip(struct.unpack(form, found), struct.unpack(form, table), strict=True)
    return [have == want for have, want in pairs]
