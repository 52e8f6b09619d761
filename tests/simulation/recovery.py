"""The last check of a run: the metadata, brought back from the nodes alone, is what it was."""

from collections.abc import Mapping, Sequence

from common import faults
from common.buffers import BufferPool
from common.erasure.code import Codes
from common.keyring import KeyRing
from common.limits import MIB
from metaservice.journal.blobs import BlobKeeper
from metaservice.journal.recovery import Recovery
from metaservice.kv.rocks import RocksStore
from storagenode.client import NodeClient
from tests.simulation.cluster import PORT, SECRET, SimulatedClock
from tests.simulation.history import History

ROWS_MAX = 1 << 30
LAST = b"\xff" * 16
OWN_NOTES = b"W"


class Rows:
    """An empty engine."""

    def __init__(self) -> None:
        self.rows: dict[bytes, bytes] = {}

    def write(self, puts: Mapping[bytes, bytes], deletes: Sequence[bytes] = ()) -> None:
        self.rows.update(puts)
        for key in deletes:
            self.rows.pop(key, None)

    def get(self, key: bytes) -> bytes | None:
        return self.rows.get(key)

    def sync_blocking(self) -> None:
        return


class Nodes:
    """All nodes, connected."""

    def __init__(self, disks: Mapping[str, int]) -> None:
        self._clients = {name: NodeClient(name, name, PORT, SECRET) for name in disks}
        self._names = {disk_id: name for name, disk_id in disks.items()}

    async def start(self) -> None:
        for client in self._clients.values():
            await client.start()
            await client.wait_up(20.0)

    async def stop(self) -> None:
        for client in self._clients.values():
            await client.stop()

    def peer(self, name: str) -> NodeClient | None:
        return self._clients.get(name)

    def client_of(self, disk_id: int) -> NodeClient | None:
        return self._clients.get(self._names.get(disk_id, ""))


async def recover(
    disks: Mapping[str, int], clock: SimulatedClock, kit: tuple[KeyRing, Codes]
) -> tuple[Rows, list[str]]:
    """Bring metadata back from all nodes; what of it is lost, in words. raises Fault"""
    ring, codes = kit
    nodes, sink = Nodes(disks), Rows()
    try:
        await nodes.start()
        recovery = Recovery(
            nodes, ring, BlobKeeper(nodes, codes, BufferPool(64 * MIB)), clock, "simulated"
        )
        await recovery.take_over(sorted(disks))
        await recovery.restore(sink)
        recovery.finish(sink)
        await recovery.announce()
    finally:
        await nodes.stop()
    return sink, recovery.report.losses


async def check_recovery(
    store: RocksStore,
    disks: Mapping[str, int],
    clock: SimulatedClock,
    kit: tuple[KeyRing, Codes],
    history: History,
) -> None:
    """Recover from healthy nodes and compare; the service is dead. disks: ids by node"""
    expected = dict(store.scan(b"", LAST, ROWS_MAX))
    try:
        sink, losses = await recover(disks, clock, kit)
    except faults.Fault as fault:
        history.violate("metadata is not recoverable", f"{type(fault).__name__}: {fault}")
        return
    for loss in losses:
        history.violate("metadata was lost", loss)
    for key in sorted(expected.keys() | sink.rows.keys()):
        if not key.startswith(OWN_NOTES) and expected.get(key) != sink.rows.get(key):
            history.violate("metadata differs", key.hex())
