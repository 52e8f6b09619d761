"""A metadata store whose process is killed at any moment: what was acknowledged is there,
and no commit is there by half.

Method: a child commits rows and a counter in the same commits, and tells each one that was
acknowledged; the parent kills it at a random moment, opens the files and compares. Several lives
of the same files, so that recovery itself is recovered from.
"""

import asyncio
import multiprocessing
import time
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random

import pytest

from metaservice.kv.interface import CommitOutcome, Mutation, decode_counter
from metaservice.kv.rocks import RocksStore

WRITERS = 8
VALUE_BYTES = 3000


def write_until_killed(folder: Path, life: int, acknowledged: Connection) -> None:
    """Commit for ever; send the number of each acknowledged commit."""
    asyncio.run(_write(folder, life, acknowledged))


async def _write(folder: Path, life: int, acknowledged: Connection) -> None:
    store = RocksStore(folder)

    async def writer(first: int) -> None:
        for number in range(first, 1_000_000, WRITERS):
            rows: dict[bytes, bytes | None] = {
                f"{half}/{life}/{number}".encode(): bytes(VALUE_BYTES) for half in "ab"
            }
            if await store.commit(Mutation(puts=rows, adds={b"n": 1})) is CommitOutcome.APPLIED:
                acknowledged.send(number)

    await asyncio.gather(*[writer(first) for first in range(WRITERS)])


def live(folder: Path, life: int, seconds: float) -> set[int]:
    """Run a child, kill it; returns the commits it had acknowledged."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=write_until_killed, args=(folder, life, theirs))
    child.start()
    theirs.close()
    try:
        numbers = {ours.recv()}  # it is up
        end = time.monotonic() + seconds
        while time.monotonic() < end and ours.poll(timeout=seconds):
            numbers.add(ours.recv())
    finally:
        child.kill()
        child.join()
    while True:  # what it had sent before it died counts too
        try:
            numbers.add(ours.recv())
        except EOFError:
            return numbers


@pytest.mark.parametrize("seed", [1])
async def test_killed_store_keeps_all_that_was_acknowledged(tmp_path: Path, seed: int) -> None:
    random = Random(seed)
    acknowledged: set[str] = set()
    for life in range(3):
        numbers = live(tmp_path / "rows", life, random.uniform(0.05, 0.4))
        acknowledged |= {f"{life}/{number}" for number in numbers}
        store = RocksStore(tmp_path / "rows")
        first = {key[2:].decode() for key, _ in store.scan(b"a/", b"a0", 1_000_000)}
        second = {key[2:].decode() for key, _ in store.scan(b"b/", b"b0", 1_000_000)}
        assert acknowledged <= first
        assert first == second, "no half commit"
        assert decode_counter(store.get(b"n")) == len(first), "counters belong to their commits"
        await store.close()
