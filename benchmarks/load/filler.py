"""Buckets full of empty objects, for listings.

A local cluster takes them through the metadata service: many `commit_version` calls at once over
one connection, each a whole transaction with its own id, as a gateway makes them. Nothing is
written behind the service's back, and the objects can be read through S3. Other stores get PUTs.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

from benchmarks.faults.cluster import LocalCluster
from benchmarks.load.endpoint import Endpoint
from benchmarks.load.scenarios import Request
from benchmarks.load.traffic import measure
from benchmarks.s3.connection import Connection
from benchmarks.s3.signing import Target, signed_head
from cli.ports import LOOPBACK
from common import faults
from common.clock import SystemClock
from common.frames import FrameClient
from common.keyring import KeyRing
from gateway.objects.encryption import DataKey
from metaservice.client import MetaClient, WriterSession
from proto import meta_pb2, records_pb2

FOLDERS = 100
COMMITS_AT_ONCE = 512
PUT_CONNECTIONS = 64
CONNECT_S = 5.0
PUTS_PER_SIGNING = 20_000  # a signature is good for some minutes
OK, CONFLICT = 200, 409


def bucket_of(count: int) -> str:
    """The bucket with so many keys."""
    return f"benchmark-list-{count}"


def key_of(number: int, count: int) -> str:
    """The key of a number; keys of ascending numbers ascend, in FOLDERS folders."""
    per_folder = max(1, count // FOLDERS)
    return f"folder-{number // per_folder:04d}/object-{number:08d}"


async def make_bucket(target: Target, name: str) -> None:
    """Make a bucket; it may be there. raises Unavailable"""
    connection = await Connection.open(target)
    answer = await connection.exchange(signed_head(target, "PUT", f"/{name}"))
    connection.close()
    if answer.status not in (OK, CONFLICT):
        raise faults.Unavailable(f"{target.name} answers {answer.status} to CreateBucket")


async def fill(endpoint: Endpoint, count: int) -> bool:
    """Make a bucket with `count` keys, unless it is full already; tells whether it had to be made.

    raises   Unavailable
    """
    target, bucket = endpoint.target, bucket_of(count)
    await make_bucket(target, bucket)
    connection = await Connection.open(target)
    last = f"/{bucket}/{key_of(count - 1, count)}"
    answer = await connection.exchange(signed_head(target, "HEAD", last))
    connection.close()
    if answer.status == OK:
        return False  # filled by an earlier run
    if endpoint.cluster is not None:
        async with metadata_of(endpoint.cluster) as (meta, session):
            await _fill_metadata(meta, session, endpoint.cluster, count)
    else:
        await _fill_by_requests(endpoint, count)
    return True


@asynccontextmanager
async def metadata_of(cluster: LocalCluster) -> AsyncIterator[tuple[MetaClient, WriterSession]]:
    """A writer's place at the metadata service of a local cluster. raises Unavailable"""
    folder = cluster.folder
    port = folder.load().ports["metaservice"]
    frames = FrameClient(LOOPBACK, port, folder.secret_file.read_bytes())
    await frames.start()
    try:
        await frames.wait_up(CONNECT_S)
        meta = MetaClient(frames)
        session = WriterSession(meta, SystemClock(), "benchmark")
        await session.start()
        yield meta, session
        await session.stop()
    finally:
        await frames.stop()


async def _fill_metadata(
    meta: MetaClient, session: WriterSession, cluster: LocalCluster, count: int
) -> None:
    bucket = (await meta.get_bucket(meta_pb2.GetBucket(name=bucket_of(count)))).bucket
    key = DataKey.make()
    version = records_pb2.Version(
        owner_id=bucket.owner_id,
        etag=hashlib.md5(b"", usedforsecurity=False).hexdigest(),
        content_type="binary/octet-stream",
        is_inline=True,
        encryption=key.wrap(KeyRing.load(cluster.folder.keyring_file)),
        checksums=[records_pb2.Checksum(algorithm="CRC64NVME", value=bytes(8))],
    )
    data = key.seal_inline(b"")
    numbers = iter(range(count))

    async def commit() -> None:
        for number in numbers:
            request = meta_pb2.CommitVersion(
                writer=session.writer(),
                bucket=bucket.name,
                known_epoch=bucket.epoch,
                key=key_of(number, count).encode(),
                version=version,
            )
            await meta.commit_version(request, data)

    async with asyncio.TaskGroup() as group:
        for _ in range(COMMITS_AT_ONCE):
            group.create_task(commit())


async def _fill_by_requests(endpoint: Endpoint, count: int) -> None:
    for begin in range(0, count, PUTS_PER_SIGNING):
        end = min(begin + PUTS_PER_SIGNING, count)
        requests = list(_empty_puts(endpoint.target, begin, end, count))
        measurement = await measure(endpoint, requests, PUT_CONNECTIONS, None)
        if measurement.failed:
            raise faults.Unavailable(f"{endpoint.name} refused {measurement.failed} empty objects")


def _empty_puts(target: Target, begin: int, end: int, count: int) -> Iterator[Request]:
    for number in range(begin, end):
        path = f"/{bucket_of(count)}/{key_of(number, count)}"
        yield Request(signed_head(target, "PUT", path))
