"""A process that judges what a power loss left, then writes until its disk is gone again.

`FOLDER TOLD [FIRST]`: the lines in the file TOLD are what was told before. Then it tells on its
standard output what is under way and what is on disk, of fragments from FIRST on; without, it ends.
"""

import asyncio
import itertools
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from common import faults
from tests.powerloss.engine import COUNT, commit, model, open_store
from tests.powerloss.store import CLUSTER, DISK_ID, Node, Told, check

PUTTERS, COMMITTERS = 4, 3
DELETED_OF = 3  # every third fragment is deleted again
COMPACT_PAUSE_S = 0.05
COMMIT_WORD = "commit "
READY = "ready"


def tell(text: str) -> None:
    """In one write: what was told is outside before the next step."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


async def write(folder: Path, first: int, count: int) -> None:
    """Write until nothing goes any more. first: fragment; count: commits so far"""
    node = Node(folder / "zone" / "disk", tell=tell)
    node.disk.adopt(CLUSTER, DISK_ID)
    store = open_store(folder / "meta")
    numbers, commits = itertools.count(first), itertools.count(count + 1)

    async def put() -> None:
        for number in numbers:
            await node.put(number)
            if number % DELETED_OF == 0:
                await node.delete(number)

    async def commit_all() -> None:
        for number in commits:
            await commit(store, number, lambda text: tell(COMMIT_WORD + text))

    async def compact() -> None:
        while True:
            await node.compactor.run_once()
            await asyncio.sleep(COMPACT_PAUSE_S)

    tell(READY)
    try:
        await asyncio.gather(
            *(put() for _ in range(PUTTERS)), *(commit_all() for _ in range(COMMITTERS)), compact()
        )
    except (OSError, faults.Fault, AssertionError):
        await asyncio.Event().wait()  # the power is gone; our end comes from outside


async def judge(folder: Path, told: Sequence[str]) -> int:
    """Compare what is left; how many commits there are. raises AssertionError"""
    commits = [int(line.removeprefix(COMMIT_WORD)) for line in told if line.startswith(COMMIT_WORD)]
    others = [line for line in told if not line.startswith(COMMIT_WORD)]
    node = Node(folder / "zone" / "disk", tell=lambda text: None)
    await check(node, Told(others))
    await node.close()
    store = open_store(folder / "meta")
    rows = dict(store.scan(b"", b"\xff", 1_000_000))
    count = int(rows.get(COUNT, b"0"))
    assert count >= max(commits, default=0), f"commit {max(commits)} was told, {count} is here"
    assert rows == model(count), f"not the rows of {count} commits"
    await store.close()
    return count


def main(arguments: Sequence[str]) -> None:
    logging.disable(logging.CRITICAL)
    folder, told, *first = arguments
    count = asyncio.run(judge(Path(folder), Path(told).read_text().splitlines()))
    if first:
        asyncio.run(write(Path(folder), int(first[0]), count))


if __name__ == "__main__":
    main(sys.argv[1:])
