"""A quorum waits for enough fragments, and lets nobody touch a late one's memory afterwards.

Method: whole writes over nodes in memory, one of which takes cells and never answers. That a
cancelled call sends nothing more is the frames' promise, tested with them.
"""

import os

from tests.unit.gateway.objects.fake_nodes import data_path

DATA = os.urandom(9 * 1024 * 1024)  # three stripes: all cells of the node are late, not one


async def test_a_stuck_node_holds_neither_a_write_nor_its_memory() -> None:
    async with data_path() as path:
        path.clients["n3"].is_stuck = True
        version = await path.put(DATA)
        calls = path.clients["n3"].stuck
        assert calls
        assert all(call.cancelled() for call in calls)
        assert path.pool.bytes_in_flight == 0
        assert version.blobs[0].degraded
        assert list(version.blobs[0].disk_ids).count(0) == 1
        assert await path.get(version, 0, len(DATA)) == DATA
