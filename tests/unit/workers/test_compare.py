"""Metadata against disks, both ways: each kind of difference is found, and named for what it is.

Method: a metadata service in memory, disks that are sets of fragments with sizes and faults.
"""

import pytest

from common import faults, limits
from common.clock import ManualClock
from common.erasure.layout import FULL_CELL_BYTES, layout_of_blob
from metaservice import keys
from metaservice.kv.interface import Mutation
from metaservice.kv.memory import MemoryStore
from metaservice.table import Method
from proto import meta_pb2, records_pb2, scrub_pb2, storage_pb2
from tests.support.meta import MetaBench
from workers.compare import Comparison, Finding
from workers.walk import ClusterWalk

DISKS = range(1, 7)


class Disk:
    """Fragments by name; what verifying finds."""

    def __init__(self, disk_id: int, clock: ManualClock) -> None:
        self.disk_id = disk_id
        self.clock = clock
        self.fragments: dict[tuple[bytes, int], storage_pb2.FragmentInfo] = {}
        self.bad: dict[tuple[bytes, int], str] = {}

    def put(self, blob: records_pb2.BlobRef, index: int) -> None:
        self.fragments[blob.blob_id, index] = storage_pb2.FragmentInfo(
            blob_id=blob.blob_id, index=index, written_ns=self.clock.now_ns(),
            fragment_bytes=layout_of_blob(blob).fragment_bytes,
        )  # fmt: skip

    async def list_fragments(
        self, request: storage_pb2.ListFragments
    ) -> storage_pb2.ListFragmentsReply:
        names = [n for n in sorted(self.fragments) if n[0] + bytes([n[1]]) > request.after]
        return storage_pb2.ListFragmentsReply(
            fragments=[self.fragments[name] for name in names[:2]], more=len(names) > 2
        )

    async def stat_fragments(
        self, request: storage_pb2.StatFragments
    ) -> storage_pb2.StatFragmentsReply:
        found = [self.fragments.get((f.blob_id, f.index)) for f in request.fragments]
        return storage_pb2.StatFragmentsReply(fragments=[info for info in found if info])

    async def verify_fragments(
        self, request: scrub_pb2.VerifyFragments
    ) -> scrub_pb2.VerifyFragmentsReply:
        return scrub_pb2.VerifyFragmentsReply(
            verdicts=[
                scrub_pb2.Verdict(fault=self.bad.get((f.blob_id, f.index), ""), bytes=4096)
                for f in request.fragments
            ]
        )


class Cluster:
    """A service and six zones of one disk."""

    def __init__(self, bench: MetaBench) -> None:
        self.bench = bench
        self.on = {disk_id: Disk(disk_id, bench.clock) for disk_id in DISKS}
        self.away: set[int] = set()

    def disks(self) -> list[records_pb2.Disk]:
        return [records_pb2.Disk(disk_id=d, zone=f"zone-{d}") for d in DISKS]

    def client_of(self, disk_id: int) -> Disk | None:
        return None if disk_id in self.away else self.on[disk_id]

    def store(self, blob: records_pb2.BlobRef) -> records_pb2.BlobRef:
        for index, disk_id in enumerate(blob.disk_ids):
            if disk_id:
                self.on[disk_id].put(blob, index)
        return blob

    def blob(self, number: int, **fields: object) -> records_pb2.BlobRef:
        blob = self.bench.blob(number, cell_bytes=FULL_CELL_BYTES, layout=1, **fields)
        return self.store(blob)

    async def check(self, bucket: str = "", *, with_data: bool = False) -> list[Finding]:
        now_ns = self.bench.clock.now_ns()
        self.comparison = Comparison(self.bench, self, now_ns, with_data=with_data)
        walk = ClusterWalk(self.bench, self, self.comparison)
        steps = walk.bucket(bucket) if bucket else walk.everything()
        return [finding async for step in steps for finding in step.findings]


@pytest.fixture
async def cluster() -> Cluster:
    bench = MetaBench(MemoryStore(), ManualClock())
    await bench.start()
    return Cluster(bench)


async def filled(cluster: Cluster) -> list[records_pb2.BlobRef]:
    """An object of two blobs, an inline one, and an upload with a part."""
    bench = cluster.bench
    bucket = await bench.create_bucket("bucket")
    blobs = [cluster.blob(number) for number in (1, 2, 3)]
    await bench.commit(bucket, b"key", blobs=blobs[:2])
    await bench.commit(bucket, b"small", b"data")
    upload = (
        await bench.call(
            Method.CREATE_UPLOAD,
            meta_pb2.CreateUpload(
                writer=bench.writer(), bucket="bucket", known_epoch=bucket.epoch,
                upload=records_pb2.Upload(key=b"up"),
            ),
        )
    ).upload  # fmt: skip
    await bench.call(
        Method.COMMIT_PART,
        meta_pb2.CommitPart(
            writer=bench.writer(), bucket="bucket", known_epoch=bucket.epoch, key=b"up",
            upload_id=upload.upload_id, part=records_pb2.Part(number=1, blobs=blobs[2:]),
        ),
    )  # fmt: skip
    return blobs


@pytest.mark.parametrize("bucket", ["", "bucket"])
async def test_a_whole_cluster_is_clean(cluster: Cluster, bucket: str) -> None:
    await filled(cluster)
    assert await cluster.check(bucket, with_data=True) == []
    assert cluster.comparison.seen.blobs == 3
    assert cluster.comparison.seen.bytes_verified == 18 * 4096


@pytest.mark.parametrize("bucket", ["", "bucket"])
@pytest.mark.parametrize("place", [0, 1, 2])
async def test_missing_fragments_are_found(cluster: Cluster, bucket: str, place: int) -> None:
    blob = (await filled(cluster))[place]
    del cluster.on[2].fragments[blob.blob_id, 1]
    (finding,) = await cluster.check(bucket)
    assert (finding.kind, finding.reasons) == ("damaged", {1: "missing"})
    assert finding.named.key == (b"up" if place == 2 else b"key")
    assert finding.named.bucket == "bucket"


async def test_bad_data_is_found_only_by_reading(cluster: Cluster) -> None:
    blob = (await filled(cluster))[1]
    cluster.on[6].bad[blob.blob_id, 5] = "bad_block"
    assert await cluster.check() == []
    (finding,) = await cluster.check(with_data=True)
    assert finding.reasons == {5: "bad_block"}


async def test_fragments_of_another_size_are_found(cluster: Cluster) -> None:
    blob = (await filled(cluster))[0]
    cluster.on[1].fragments[blob.blob_id, 0].fragment_bytes += 1
    (finding,) = await cluster.check()
    assert finding.reasons == {0: "wrong_size"}


async def test_how_bad_it_is(cluster: Cluster) -> None:
    blobs = await filled(cluster)
    cluster.away = {1, 2}
    assert {f.kind for f in await cluster.check()} == {"away"}
    del cluster.on[3].fragments[blobs[0].blob_id, 2]
    assert sorted(f.kind for f in await cluster.check()) == ["away", "away", "unreadable"]
    cluster.away = set()
    for disk_id in (4, 5):
        del cluster.on[disk_id].fragments[blobs[0].blob_id, disk_id - 1]
    (finding,) = await cluster.check()
    assert finding.kind == "lost"


async def test_degraded_and_misplaced_blobs_are_found(cluster: Cluster) -> None:
    bench = cluster.bench
    bucket = await bench.create_bucket("bucket")
    incomplete = cluster.blob(1, disk_ids=[1, 2, 3, 4, 5, 0], degraded=True)
    crowded = cluster.blob(2, disk_ids=[1, 1, 2, 3, 4, 5], degraded=True)
    await bench.commit(bucket, b"a", blobs=[incomplete])
    await bench.commit(bucket, b"b", blobs=[crowded])
    first, second = await cluster.check()
    assert (first.kind, first.reasons) == ("damaged", {5: "incomplete"})
    assert (second.kind, second.reasons) == ("misplaced", {1: "misplaced"})
    fragments = [bad for finding in (first, second) for bad in finding.bad]
    reply = await bench.call(
        Method.REPORT_FRAGMENTS, scrub_pb2.ReportFragments(fragments=fragments)
    )
    assert reply.accepted == 2
    jobs = (await bench.call(Method.LIST_REPAIRS, meta_pb2.ListRepairs(limit=9))).jobs
    assert {job.blob.blob_id for job in jobs} == {incomplete.blob_id, crowded.blob_id}


async def test_many_reports_at_once_of_blobs_that_have_jobs_are_taken(cluster: Cluster) -> None:
    """A disk that lost a file tells of many, and what is said a second time adds to the jobs."""
    bench = cluster.bench
    bucket = await bench.create_bucket("bucket")
    blobs = [cluster.blob(number, disk_ids=[1, 2, 3, 4, 5, 6]) for number in range(1, 51)]
    for number, blob in enumerate(blobs):
        await bench.commit(bucket, b"key%d" % number, blobs=[blob])
    for index in (0, 1):
        request = scrub_pb2.ReportFragments()
        for blob in blobs:
            request.fragments.add(
                blob_id=blob.blob_id, index=index, disk_id=index + 1, reason="missing"
            )
        assert (await bench.call(Method.REPORT_FRAGMENTS, request)).accepted == len(blobs)
    jobs = (await bench.call(Method.LIST_REPAIRS, meta_pb2.ListRepairs(limit=99))).jobs
    assert [list(job.missing) for job in jobs] == [[0, 1]] * len(blobs)


async def test_reports_of_what_lies_elsewhere_now_are_passed_over(cluster: Cluster) -> None:
    blob = (await filled(cluster))[0]
    wrong = [
        scrub_pb2.BadFragment(blob_id=blob.blob_id, index=0, disk_id=5, reason="bad_block"),
        scrub_pb2.BadFragment(blob_id=blob.blob_id, index=200, disk_id=1, reason="bad_block"),
        scrub_pb2.BadFragment(blob_id=b"x" * 16, index=0, disk_id=1, reason="bad_block"),
    ]
    request = scrub_pb2.ReportFragments(fragments=wrong)
    assert (await cluster.bench.call(Method.REPORT_FRAGMENTS, request)).accepted == 0
    assert not (await cluster.bench.call(Method.LIST_REPAIRS, meta_pb2.ListRepairs(limit=9))).jobs


async def test_what_is_not_named_counts_only_when_nothing_knows_of_it(cluster: Cluster) -> None:
    bench = cluster.bench
    await filled(cluster)
    cluster.blob(50)  # of an open session
    stranger = records_pb2.BlobRef(
        blob_id=b"\x01" * 16, plain_bytes=99, k=4, m=2, cell_bytes=FULL_CELL_BYTES, layout=1
    )
    cluster.on[1].put(stranger, 0)
    checkpoint = records_pb2.BlobRef()
    checkpoint.CopyFrom(stranger)
    checkpoint.blob_id = keys.CHECKPOINT_SESSION + b"\x01" * 8
    cluster.on[1].put(checkpoint, 0)
    assert await cluster.check() == []
    assert cluster.comparison.seen.pending == {"in_flight": 6, "ended": 1, "checkpoint": 1}
    bench.clock.advance(limits.GARBAGE_GRACE_S + 1)
    (finding,) = await cluster.check()
    assert (finding.kind, finding.named.blob.blob_id) == ("orphan", stranger.blob_id)


async def test_deleted_blobs_wait_for_the_collector(cluster: Cluster) -> None:
    await filled(cluster)
    bucket = (await cluster.bench.call(Method.GET_BUCKET, meta_pb2.GetBucket(name="bucket"))).bucket
    await cluster.bench.delete(bucket, b"key")
    assert await cluster.check() == []
    assert cluster.comparison.seen.pending == {"deleted": 12}


@pytest.mark.parametrize(
    ("kind", "words"),
    [(b"d", "data row"), (b"h", "listings"), (b"o", "owner row"), (b"B", "bucket")],
)
async def test_rows_that_contradict_one_another(cluster: Cluster, kind: bytes, words: str) -> None:
    await filled(cluster)
    store = cluster.bench.store
    for key, _ in store.scan(kind, bytes([kind[0] + 1]), 99):
        await store.commit(Mutation(puts={key: None}))
    found = [finding for finding in await cluster.check() if finding.kind == "metadata"]
    assert found and all(words in finding.words for finding in found)


async def test_lost_part_rows_are_found(cluster: Cluster) -> None:
    bench = cluster.bench
    bucket = await bench.create_bucket("bucket")
    parts = records_pb2.PartsRef(
        upload_id=b"u" * 16, count=3, runs=[records_pb2.PartRun(first_number=1, count=3)]
    )
    await bench.commit(bucket, b"key", parts=parts)
    for number in (1, 3):
        row = records_pb2.Part(number=number).SerializeToString()
        await bench.store.commit(Mutation(puts={keys.part(b"u" * 16, number): row}))
    (finding,) = await cluster.check()
    assert finding.words == "1 of its 3 part rows are missing"


async def test_pages_end_within_a_key_of_many_versions(cluster: Cluster) -> None:
    bench = cluster.bench
    bucket = await bench.create_bucket("bucket", versioning=records_pb2.Bucket.ENABLED)
    for number in range(450):
        await bench.commit(bucket, b"key", str(number).encode())
    assert await cluster.check() == []
    assert cluster.comparison.seen.rows == 450


async def test_a_bucket_that_is_not_there(cluster: Cluster) -> None:
    with pytest.raises(faults.NotFound):
        await cluster.check("nowhere")
