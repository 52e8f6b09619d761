"""Whether every fragment of every object is where its placement says, whole, in a zone of its own.

Method: placements from the metadata service, every fragment read to its end through its node.
"""

import json
from typing import Any

from common.buffers import BufferPool
from common.clock import SystemClock
from common.erasure.code import load_codes
from common.frames import FrameClient
from metaservice.client import MetaClient
from proto import meta_pb2, records_pb2
from tests.support.cluster import Cluster
from workers.nodes import WorkerNodes
from workers.pace import Pace
from workers.rebuild import Rebuilder, make_threads

GIB = 1 << 30


class Inspector:
    """Connections to a running cluster's metadata service and nodes."""

    def __init__(self, cluster: Cluster) -> None:
        ports = json.loads((cluster.data / "cluster.json").read_text())["ports"]
        secret = (cluster.data / "secret").read_bytes()
        self._frames = FrameClient("127.0.0.1", ports["metaservice"], secret)
        self.meta = MetaClient(self._frames)
        clock = SystemClock()
        self.nodes = WorkerNodes(self.meta, clock, secret)
        self._rebuilder = Rebuilder(
            self.nodes, load_codes(), BufferPool(GIB), make_threads(1), Pace(clock, GIB, GIB)
        )

    async def __aenter__(self) -> "Inspector":
        await self._frames.start()
        await self.nodes.refresh()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.nodes.stop()
        await self._frames.stop()

    async def blobs(self, s3: Any, bucket: str) -> list[records_pb2.BlobRef]:
        """The blobs of all newest versions."""
        found: list[records_pb2.BlobRef] = []
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
            for entry in page.get("Contents", []):
                request = meta_pb2.GetVersion(bucket=bucket, key=entry["Key"].encode())
                reply, _ = await self.meta.get_version(request)
                version = records_pb2.Version.FromString(reply.version)
                found += version.blobs
                if version.HasField("parts"):
                    numbers = [
                        number
                        for run in version.parts.runs
                        for number in range(run.first_number, run.first_number + run.count)
                    ]
                    asked = meta_pb2.GetParts(upload_id=version.parts.upload_id, numbers=numbers)
                    for part in (await self.meta.get_parts(asked)).parts:
                        found += part.blobs
        return found

    async def faults(self, blob: records_pb2.BlobRef) -> list[str]:
        """What is wrong with a blob."""
        wrong, zones = [], set()
        for index, disk_id in enumerate(blob.disk_ids):
            disk = self.nodes.disk(disk_id)
            name = f"{blob.blob_id.hex()} fragment {index} on disk {disk_id}"
            if disk is None or not self.nodes.is_readable(disk_id):
                wrong.append(f"{name}: no such disk, or it is away")
                continue
            zones.add(disk.zone)
            if not await self._rebuilder.verify(blob, index, disk_id):
                wrong.append(f"{name}: missing or damaged")
        if len(zones) < len(blob.disk_ids):
            wrong.append(f"{blob.blob_id.hex()} lies in {len(zones)} zones only")
        return wrong


async def faults_of(cluster: Cluster, s3: Any, bucket: str) -> list[str]:
    """Everything that is wrong with a bucket's objects; none: all is whole."""
    async with Inspector(cluster) as inspector:
        wrong: list[str] = []
        for blob in await inspector.blobs(s3, bucket):
            wrong += await inspector.faults(blob)
        return wrong
