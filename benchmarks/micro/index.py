"""How long a storage node needs until it is ready: from its index, and from its extents alone.

    python -m benchmarks.micro.index [--rows 1000000] [--fragments 20000] [--folder F]

Opens a disk whose index has so many rows after a clean stop (the rows are written into the index
directly); then writes real fragments, loses their index, and rebuilds it, page cache dropped.
"""

import argparse
import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from common.buffers import BufferPool
from common.checksum import crc32c_blocks
from common.clock import SystemClock
from common.erasure.layout import BLOCK_BYTES
from common.limits import MIB
from proto import storage_pb2
from storagenode.store.disk import Disk
from storagenode.store.files import SystemFiles
from storagenode.store.fragment_store import FragmentStore
from storagenode.store.index import Index
from storagenode.store.record import Record
from storagenode.store.scrub import Scrubber, ScrubSettings
from storagenode.store.settings import DiskSettings

EXTENT_BYTES = 256 * MIB
FRAGMENT_BYTES = 16_388  # of an object of 64 KiB
LARGE_BYTES = 4 * MIB
LARGE_CELL_BYTES = 16 * BLOCK_BYTES
DEFAULT_RATE_MIB = 2  # StorageNodeConfig.scrub_bytes_per_s_min
CLOSE_EVERY = 10_000  # rows of an extent


def open_disk(folder: Path) -> Disk:
    settings = DiskSettings(folder, EXTENT_BYTES, 1.0, 0)
    return Disk(settings, SystemFiles(), SystemClock(), BufferPool(64 * MIB))


async def clean_start(folder: Path, rows: int) -> None:
    """The index has the rows already, every extent is closed."""
    disk = open_disk(folder)
    disk.adopt("cluster", 1)
    await disk.close()
    index = Index(folder / "index")
    at = 0
    for number in range(rows):
        extent, place = number // CLOSE_EVERY + 1, number % CLOSE_EVERY
        blob_id = (number // 1000 + 1).to_bytes(8, "big") + number.to_bytes(8, "big")
        record = Record(
            blob_id, number % 6, extent, place * 20_480, FRAGMENT_BYTES, FRAGMENT_BYTES,
            BLOCK_BYTES, 200, 1,
        )  # fmt: skip
        index.put(record, bytes(4))
        if place == 0:
            at = extent
            path = folder / "extents" / f"{extent:08d}.extent"
            path.touch()
            os.truncate(path, EXTENT_BYTES)  # sparse: a clean start reads no extent
            index.close_extent_blocking(extent)
    index.close()
    begun_s = time.perf_counter()
    disk = open_disk(folder)
    seconds = time.perf_counter() - begun_s
    assert disk.fragment_count == rows
    print(f"clean start, {rows:,} rows in {at:,} extents: ready in {seconds:.2f} s")
    await disk.close()


async def rebuilt(folder: Path, fragments: int, size: int, cell_bytes: int) -> None:
    """Write fragments, lose the index, build it anew."""
    disk = open_disk(folder)
    disk.adopt("cluster", 1)
    store = FragmentStore([disk], SystemClock(), BufferPool(64 * MIB))
    data = os.urandom(size)
    for number in range(fragments):
        for request, cell in _cells(number, data, cell_bytes):
            await store.put_cell(request, cell, None)
    await store.close()
    shutil.rmtree(folder / "index")
    total = 0
    for path in (folder / "extents").iterdir():
        total += path.stat().st_size
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)
    begun_s, cpu_s = time.perf_counter(), time.process_time()
    disk = open_disk(folder)
    seconds, cpu_s = time.perf_counter() - begun_s, time.process_time() - cpu_s
    assert disk.fragment_count == fragments
    print(
        f"index lost, {fragments:,} fragments of {size:,} bytes in {total / MIB:,.0f} MiB of "
        f"extents: rebuilt in {seconds:.2f} s ({total / MIB / seconds:,.0f} MiB/s, "
        f"{fragments / seconds:,.0f} fragments/s, {cpu_s:.2f} s of CPU)"
    )
    await scrubbed(disk)
    await disk.close()


async def scrubbed(disk: Disk) -> None:
    """What a pass of the scrub costs, at full speed, and so at the default rate."""
    settings = ScrubSettings(1.0, 1024 * MIB, 1024 * MIB, 60.0)
    scrubber = Scrubber(disk, SystemFiles(), SystemClock(), settings)
    before_s, cpu_s = time.perf_counter(), time.process_time()
    while scrubber.progress.pass_number == 1:
        await scrubber.step()
    seconds, cpu_s = time.perf_counter() - before_s, time.process_time() - cpu_s
    mib = disk.used_bytes / MIB
    share = cpu_s / mib * DEFAULT_RATE_MIB * 100
    print(
        f"  scrub: {mib / seconds:,.0f} MiB/s, {cpu_s / mib * 1000:.2f} ms of CPU per MiB; at "
        f"{DEFAULT_RATE_MIB} MiB/s {share:.2f} % of a core, a quarter of it under load"
    )


def _cells(
    number: int, data: bytes, cell_bytes: int
) -> Iterator[tuple[storage_pb2.PutCell, bytes]]:
    count = -(-len(data) // cell_bytes)
    for index in range(count):
        cell = data[index * cell_bytes : (index + 1) * cell_bytes]
        request = storage_pb2.PutCell(
            blob_id=(1).to_bytes(8, "big") + number.to_bytes(8, "big"), index=0, disk_id=1,
            cell_index=index, last=index == count - 1, fragment_bytes=len(data),
            cell_bytes=min(cell_bytes, len(data)), block_bytes=BLOCK_BYTES,
            block_checksums=crc32c_blocks(memoryview(cell), BLOCK_BYTES), identity=bytes(200),
        )  # fmt: skip
        yield request, cell


async def measure(folder: Path, rows: int, fragments: int) -> None:
    await clean_start(folder / "rows", rows)
    await rebuilt(folder / "small", fragments, FRAGMENT_BYTES, FRAGMENT_BYTES)
    await rebuilt(folder / "large", max(fragments // 200, 1), LARGE_BYTES, LARGE_CELL_BYTES)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--fragments", type=int, default=20_000)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        asyncio.run(measure(Path(folder), options.rows, options.fragments))


if __name__ == "__main__":
    main()
