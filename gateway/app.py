"""The gateway process: builds every part and wires them; the only place that knows everything."""

import hashlib
import logging
import ssl

from common import fault_points, faults
from common.admin_server import AdminServer
from common.buffers import BufferPool
from common.clock import SystemClock
from common.erasure.code import load_codes
from common.frames import FrameClient
from common.keyring import REFRESH_S, KeyRing
from common.process import Stopper
from common.process import run as run_process
from common.supervisor import Supervisor
from common.telemetry import configure_logging
from gateway.auth.credentials import Credential, CredentialCache
from gateway.config import GatewayConfig
from gateway.handlers.acl import AclHandlers
from gateway.handlers.bucket import BucketHandlers
from gateway.handlers.delete import DeleteHandlers
from gateway.handlers.listing import ListingHandlers
from gateway.handlers.multipart import MultipartHandlers
from gateway.handlers.object_read import ObjectReadHandlers
from gateway.handlers.object_tagging import ObjectTaggingHandlers
from gateway.handlers.object_write import ObjectWriteHandlers
from gateway.handlers.post_object import PostObjectHandlers
from gateway.handlers.registry import Handler, collect
from gateway.handlers.source import Sources
from gateway.handlers.unconfigured import UnconfiguredHandlers
from gateway.http.foreground import Foreground
from gateway.http.pipeline import Pipeline
from gateway.http.server import Server
from gateway.objects.buckets import BucketCache
from gateway.objects.doubts import PROBE_S
from gateway.objects.nodes import Nodes
from gateway.objects.reader import ObjectReader
from gateway.objects.writer import Kernels, ObjectWriter, make_threads
from gateway.s3.address import Addressing
from metaservice.client import MetaClient, Method, WriterSession
from proto import meta_pb2
from storagenode.client import NodeClient

log = logging.getLogger(__name__)

TOPOLOGY_S = 1.0
REPORTS_S = 1.0
FIRST_CONTACT_S = 20.0
SECRET_CONTEXT = b"ostraka secret key"


class GatewayApp:
    """All parts of a gateway."""

    def __init__(self, config: GatewayConfig) -> None:
        fault_points.configure(config.fault_points)
        self._config = config
        self._clock = SystemClock()
        self._ring = KeyRing.load(config.keyring_file)
        secret = config.secret_file.read_bytes() if config.secret_file is not None else b""
        self._frames = FrameClient(config.metaservice_host, config.metaservice_port, secret)
        self._meta = MetaClient(self._frames)
        self._nodes = Nodes(
            self._meta, lambda name, host, port: NodeClient(name, host, port, secret), self._clock
        )
        self._session = WriterSession(self._meta, self._clock, config.name)
        codes = load_codes()
        log.info("erasure coding kernel: %s", codes.kernel)
        kernels = Kernels(
            codes, self._ring, BufferPool(config.buffer_bytes), make_threads(config.threads)
        )
        self._reader = ObjectReader(self._meta, self._nodes, kernels)
        writer = ObjectWriter(self._nodes, kernels, self._session)
        buckets = BucketCache(self._meta)
        pipeline = Pipeline(
            self._registry(buckets, writer),
            Addressing(config.domains),
            CredentialCache(self._look_up, self._clock),
            buckets,
            self._clock,
            config.region,
        )
        host_id = hashlib.sha256(config.name.encode()).hexdigest()[:32]
        self._server = Server(pipeline.handle, self._clock, host_id, config.connections)
        self._admin = AdminServer(lambda: self._meta.is_up)
        self._supervisor = Supervisor(self._clock)

    def _registry(self, buckets: BucketCache, writer: ObjectWriter) -> dict[str, Handler]:
        meta, session = self._meta, self._session
        sources = Sources(meta, self._reader)
        objects = ObjectWriteHandlers(meta, writer, session, sources)
        return collect(
            [
                BucketHandlers(meta, buckets, session),
                UnconfiguredHandlers(meta, buckets, session),
                AclHandlers(meta),
                ListingHandlers(meta),
                ObjectReadHandlers(meta, self._reader),
                objects,
                PostObjectHandlers(objects),
                ObjectTaggingHandlers(meta, session),
                DeleteHandlers(meta, session),
                MultipartHandlers(meta, writer, session, sources),
            ]
        )

    async def start(self) -> None:
        """Reach the metadata service, learn the topology, then listen. raises Unavailable"""
        config = self._config
        await self._admin.start(config.admin_host, config.admin_port)
        await self._frames.start()
        await self._frames.wait_up(FIRST_CONTACT_S)
        await self._session.start()
        await self._nodes.refresh()
        self._nodes.tell = Foreground(config.name, self._clock).sample
        self._supervisor.add("topology", TOPOLOGY_S, self._nodes.refresh)
        self._supervisor.add("probes", PROBE_S, self._nodes.probe)
        self._supervisor.add("keyring", REFRESH_S, self._ring.refresh_step)
        self._supervisor.add("reports", REPORTS_S, self._send_reports)
        await self._supervisor.start()
        port = await self._server.start(config.host, config.port)
        if config.tls_port:
            await self._server.start(config.tls_host or config.host, config.tls_port, self._tls())
        log.info("gateway is up", extra={"port": port})

    async def stop(self) -> None:
        """Let requests in flight finish, close the writer session."""
        await self._server.stop()
        await self._supervisor.stop()
        await self._session.stop()
        await self._nodes.stop()
        await self._frames.stop()
        await self._admin.stop()

    def _tls(self) -> ssl.SSLContext:
        config = self._config
        if config.tls_certificate_file is None or config.tls_key_file is None:
            raise faults.Invalid("tls_port", str(config.tls_port), "needs a certificate and a key")
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(config.tls_certificate_file, config.tls_key_file)
        return context

    async def _look_up(self, access_key: str) -> Credential | None:
        try:
            reply = await self._meta.get_access_key(meta_pb2.GetAccessKey(access_key=access_key))
        except faults.NotFound:
            return None
        return Credential(
            access_key=reply.key.access_key,
            secret_key=self._ring.unwrap(reply.key.sealed_secret, SECRET_CONTEXT).decode(),
            account_id=reply.account.account_id,
            canonical_id=reply.account.canonical_id,
            display_name=reply.account.name,
            user_arn=reply.key.user_arn,
            is_enabled=reply.key.enabled,
        )

    async def _send_reports(self) -> None:
        """Tell the metadata service of bad fragments that readers came across."""
        reports = self._reader.reports
        while reports:
            blob, index, reason = reports[0]
            request = meta_pb2.ReportBad(blob=blob, indexes=[index], reason=reason)
            await self._meta.call(Method.REPORT_BAD, request)
            reports.popleft()


def run(config: GatewayConfig) -> int:
    """Run the gateway until it is told to stop; returns the exit code."""
    configure_logging(config.name, config.log_level)

    def make(stopper: Stopper) -> GatewayApp:
        return GatewayApp(config)

    return run_process(make)
