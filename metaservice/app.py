"""The metadata service process: builds every part and wires them."""

import logging
import secrets
from collections.abc import AsyncIterator, Callable
from functools import partial

from common import fault_points, faults
from common.admin_server import AdminServer
from common.clock import SystemClock
from common.erasure.code import load_codes
from common.frames import FrameServer
from common.keyring import REFRESH_S, KeyRing
from common.process import Stopper
from common.process import run as run_process
from common.rpc import RpcServer
from common.supervisor import Supervisor
from common.telemetry import configure_logging
from metaservice import keys
from metaservice.config import MetaServiceConfig
from metaservice.journal.export import export_rows
from metaservice.journal.nodes import JournalNodes
from metaservice.journal.service import JournalOptions, MetadataJournal
from metaservice.journal.writer import end_journal
from metaservice.kv.interface import Store
from metaservice.kv.memory import MemoryStore
from metaservice.kv.rocks import RocksStore
from metaservice.operations.nodes import CLUSTER_ID, EPOCH, REGION
from metaservice.operations.upkeep import BucketSweeper, TransactionTrimmer, UploadTrimmer
from metaservice.server import MetaServer
from metaservice.service import SERVICE, MetaControl
from metaservice.space import SpaceGuard
from metaservice.transaction import Transaction
from proto import admin_pb2, admin_pb2_grpc, meta_pb2, records_pb2
from storagenode.client import NodeClient

log = logging.getLogger(__name__)

FORMAT = keys.single("format")
FORMAT_NUMBER = 1
UPKEEP_S = 10.0
JOURNAL_S = 0.5
SPACE_S = 1.0


class MetaServiceApp:
    """All parts of the metadata service."""

    def __init__(self, config: MetaServiceConfig, stopper: Stopper) -> None:
        fault_points.configure(config.fault_points)
        self._config = config
        self._clock = SystemClock()
        self._ring = KeyRing.load(config.keyring_file)
        self._store = self._open_store(stopper)
        self._meta = MetaServer(
            self._store, self._clock, config.garbage_grace_s, self._space(), self._ring
        )
        secret = config.secret_file.read_bytes() if config.secret_file is not None else b""
        self._frames = FrameServer(self._meta.handlers(), secret=secret)
        self._journal = self._make_journal(secret)
        meta = self._meta
        control = MetaControl(
            meta.transactor, meta.nodes, self._ring, config.engine, meta.board, meta.master_keys,
            self._journal, self._make_export(),
        )  # fmt: skip
        self._rpc = RpcServer(
            {SERVICE: partial(admin_pb2_grpc.add_MetaControlServicer_to_server, control)}
        )
        self._admin = AdminServer(lambda: self._store.is_usable)
        self._supervisor = Supervisor(self._clock)
        self._transaction_trimmer = TransactionTrimmer()
        self._upload_trimmer = UploadTrimmer()
        self._bucket_sweeper = BucketSweeper()

    def _open_store(self, stopper: Stopper) -> Store:
        if self._config.engine == "memory":
            return MemoryStore()
        directory = self._config.directory
        if self._config.must_exist and not (directory / "CURRENT").exists():
            raise faults.Invalid(
                "directory", str(directory),
                "holds no metadata: it was lost; bring it back with `ostraka recover metadata`",
            )  # fmt: skip
        directory.mkdir(parents=True, exist_ok=True)
        try:
            return RocksStore(directory, on_poisoned=stopper.stop)
        except faults.Corrupt as corrupt:
            words = f"{faults.in_words(corrupt)}; if its disk is damaged, move {directory} away and"
            how = " bring the metadata back with `ostraka recover metadata`"
            raise faults.Corrupt("database", str(directory), words + how) from corrupt

    def _make_journal(self, secret: bytes) -> MetadataJournal | None:
        """The journal on storage nodes; none if it is switched off, or the engine is no disk's."""
        config, store = self._config, self._store
        if not isinstance(store, RocksStore) or config.journal == "off":
            return None

        def make_client(name: str, host: str, port: int) -> NodeClient:
            return NodeClient(name, host, port, secret)

        return MetadataJournal(
            store,
            JournalNodes(store, self._meta.registry, make_client, config.zone),
            self._ring,
            self._clock,
            load_codes(),
            JournalOptions(
                config.journal_copies_min,
                config.journal_patience_s,
                config.journal_checkpoint_bytes,
                config.journal_keep_s,
            ),
        )

    def _make_export(self) -> Callable[[], AsyncIterator[admin_pb2.ExportChunk]] | None:
        store = self._store
        if not isinstance(store, RocksStore):
            return None
        return lambda: export_rows(store, self._ring, self._clock)

    def _space(self) -> SpaceGuard:
        if self._config.engine == "memory":
            return SpaceGuard()
        return SpaceGuard(self._config.directory, self._config.reserve_bytes)

    async def start(self) -> None:
        """Check or write the cluster's identity, then listen."""
        config = self._config
        await self._meta.transactor.write(self._identify, admin_pb2.SetDiskStateReply)
        if self._journal is not None:
            await self._journal.start()
            self._supervisor.add("journal", JOURNAL_S, self._journal.step)
            self._supervisor.add("checkpoint", JOURNAL_S, self._journal.checkpoint_step)
        elif isinstance(self._store, RocksStore):
            await end_journal(self._store)
        port = await self._frames.start(config.host, config.port)
        control = await self._rpc.start(f"{config.control_host}:{config.control_port}")
        admin = await self._admin.start(config.admin_host, config.admin_port)
        for name, upkeep in (
            ("trim_transactions", self._transaction_trimmer),
            ("trim_uploads", self._upload_trimmer),
            ("sweep_buckets", self._bucket_sweeper),
        ):
            self._supervisor.add(name, UPKEEP_S, partial(self._catch_up, upkeep))
        self._supervisor.add("space", SPACE_S, self._meta.space.look)
        self._supervisor.add("keyring", REFRESH_S, self._ring.refresh_step)
        await self._supervisor.start()
        log.info("metadata service is up", extra={"port": port, "control": control, "admin": admin})

    async def stop(self) -> None:
        """Finish what was accepted, close the engine."""
        await self._supervisor.stop()
        if self._journal is not None:
            await self._journal.stop()
        await self._frames.stop()
        await self._rpc.stop()
        await self._store.close()
        if self._journal is not None:
            await self._journal.disconnect()
        await self._admin.stop()

    async def _catch_up(self, upkeep: TransactionTrimmer | UploadTrimmer | BucketSweeper) -> None:
        """Do what is due; every step waits for the disk, so that calls go between."""
        await self._meta.transactor.write(upkeep.step, meta_pb2.FinishGarbageReply)
        while upkeep.is_behind:
            await self._meta.transactor.write(upkeep.step, meta_pb2.FinishGarbageReply)

    async def _identify(self, transaction: Transaction) -> admin_pb2.SetDiskStateReply:
        """Make a new store this cluster's; refuse another's, or one of a newer format."""
        config = self._config
        stored = await transaction.get(FORMAT)
        if stored is not None and int.from_bytes(stored, "big") > FORMAT_NUMBER:
            raise faults.Invalid("directory", str(config.directory), "of a newer Ostraka")
        known = await transaction.get(CLUSTER_ID)
        if known is not None:
            if config.cluster_id not in ("", known.decode()):
                raise faults.Invalid("directory", str(config.directory), "of another cluster")
            return admin_pb2.SetDiskStateReply()
        transaction.put(FORMAT, keys.uint64(FORMAT_NUMBER))
        cluster_id = config.cluster_id or secrets.token_hex(16)
        transaction.put(CLUSTER_ID, cluster_id.encode())
        transaction.put(REGION, config.region.encode())
        transaction.put(EPOCH, keys.uint64(1))
        for profile in config.profiles:
            record = records_pb2.Profile(name=profile.name, k=profile.k, m=profile.m)
            transaction.put(keys.profile(profile.name), record.SerializeToString())
        return admin_pb2.SetDiskStateReply()


def run(config: MetaServiceConfig) -> int:
    """Run the service until it is told to stop; returns the exit code."""
    configure_logging("metaservice", config.log_level)
    return run_process(lambda stopper: MetaServiceApp(config, stopper))
