"""Versions and listings against a dictionary of lists: any mix of writes, deletes and settings.

Method: random operations on few keys, so that they meet; after each some reads, at the end every
version, every page of every listing, and the rows' own invariants.
"""

from dataclasses import dataclass
from random import Random

import pytest

from common import faults
from metaservice.table import Method
from proto import meta_pb2, records_pb2
from tests.support.meta import MetaBench

Bucket = records_pb2.Bucket
KEYS = [
    b"a",
    b"a/",
    b"a/1",
    b"a/2",
    b"a/2/x",
    b"a0",
    b"b\x00",
    b"b\x00\xff",
    b"b",
    b"\xf0\x90\x80\x80",
]
PREFIXES = [b"", b"a", b"a/", b"b", b"b\x00", b"none", b"\xf0"]
DELIMITERS = [b"", b"/", b"\x00", b"/2"]


@dataclass
class Known:
    """A version as the model knows it."""

    version_id: bytes
    is_marker: bool
    data: bytes

    @property
    def name(self) -> meta_pb2.VersionName:
        return meta_pb2.VersionName(version_id=self.version_id, is_null=not self.version_id)


class Model:
    """One bucket, in the service and as a dictionary: newest version first."""

    def __init__(self, bench: MetaBench, bucket: records_pb2.Bucket, random: Random) -> None:
        self.bench = bench
        self.bucket = bucket
        self.random = random
        self.keys: dict[bytes, list[Known]] = {}

    async def step(self) -> None:
        key = self.random.choice(KEYS)
        roll = self.random.random()
        if roll < 0.45:
            await self.put(key)
        elif roll < 0.65:
            await self.delete(key)
        elif roll < 0.85:
            await self.delete_version(key)
        elif roll < 0.92:
            await self.set_versioning()
        await self.check_get(self.random.choice(KEYS))

    def _insert(self, key: bytes, known: Known) -> None:
        versions = self.keys.setdefault(key, [])
        if not known.version_id:
            versions[:] = [version for version in versions if version.version_id]
        versions.insert(0, known)

    async def put(self, key: bytes) -> None:
        data = self.random.randbytes(4)
        reply = await self.bench.commit(self.bucket, key, data, etag=data.hex())
        assert bool(reply.version_id) == (self.bucket.versioning == Bucket.ENABLED)
        self._insert(key, Known(reply.version_id, False, data))

    async def delete(self, key: bytes) -> None:
        reply = await self.bench.delete(self.bucket, key)
        if self.bucket.versioning == Bucket.NEVER:
            self.keys.pop(key, None)
        else:
            assert reply.is_delete_marker
            self._insert(key, Known(reply.version_id, True, b""))

    async def delete_version(self, key: bytes) -> None:
        versions = self.keys.get(key, [])
        absent = Known(self.random.choice([b"", b"v" * 16]), False, b"")
        known = self.random.choice([*versions, absent])
        is_there = any(version.version_id == known.version_id for version in versions)
        request = meta_pb2.DeleteVersion(
            writer=self.bench.writer(),
            bucket=self.bucket.name,
            known_epoch=self.bucket.epoch,
            key=key,
            version=known.name,
            has_version=True,
        )
        reply = await self.bench.call(Method.DELETE_VERSION, request)
        assert reply.existed == is_there
        self.keys[key] = [one for one in versions if one.version_id != known.version_id]

    async def set_versioning(self) -> None:
        request = meta_pb2.UpdateBucket(
            writer=self.bench.writer(),
            name=self.bucket.name,
            set_versioning=True,
            versioning=self.random.choice([Bucket.ENABLED, Bucket.SUSPENDED]),
        )
        self.bucket = (await self.bench.call(Method.UPDATE_BUCKET, request)).bucket

    async def get(self, key: bytes, name: meta_pb2.VersionName) -> Known | None:
        request = meta_pb2.GetVersion(
            bucket=self.bucket.name, known_epoch=self.bucket.epoch, key=key, version=name
        )
        try:
            reply, data = await self.bench.call(Method.GET_VERSION, request)
        except faults.NotFound:
            return None
        version = records_pb2.Version.FromString(reply.version)
        assert version.is_null == (not version.version_id)
        return Known(version.version_id, version.is_delete_marker, data)

    async def check_get(self, key: bytes) -> None:
        versions = [one for one in self.keys.get(key, [])]
        assert await self.get(key, meta_pb2.VersionName()) == (versions[0] if versions else None)
        for known in versions:
            assert await self.get(key, known.name) == known
        if all(known.version_id for known in versions):
            assert await self.get(key, meta_pb2.VersionName(is_null=True)) is None

    # --- listings ---------------------------------------------------------------------------------

    def visible(self) -> list[bytes]:
        return sorted(
            key for key, versions in self.keys.items() if versions and not versions[0].is_marker
        )

    async def list_keys(self, prefix: bytes, delimiter: bytes, limit: int) -> list[bytes]:
        """All pages: keys and common prefixes in order."""
        found: list[bytes] = []
        after = b""
        for _ in range(100):
            request = meta_pb2.ListKeys(
                bucket=self.bucket.name,
                known_epoch=self.bucket.epoch,
                prefix=prefix,
                delimiter=delimiter,
                start_after=after,
                limit=limit,
            )
            page = await self.bench.call(Method.LIST_KEYS, request)
            names = sorted([*(entry.key for entry in page.entries), *page.common_prefixes])
            assert len(names) <= limit
            for entry in page.entries:
                newest = self.keys[entry.key][0]
                assert (entry.head.version_id, entry.head.etag) == (
                    newest.version_id, newest.data.hex(),
                )  # fmt: skip
            found += names
            if not page.truncated:
                return found
            assert len(names) == limit
            after = page.next_after
        raise AssertionError("the listing does not end")

    async def list_versions(self, prefix: bytes, delimiter: bytes, limit: int) -> list[object]:
        """All pages: (key, version id, latest) and common prefixes, as they come."""
        found: list[object] = []
        request = meta_pb2.ListVersions(
            bucket=self.bucket.name,
            known_epoch=self.bucket.epoch,
            prefix=prefix,
            delimiter=delimiter,
            limit=limit,
        )
        for _ in range(200):
            page = await self.bench.call(Method.LIST_VERSIONS, request)
            assert len(page.entries) + len(page.common_prefixes) <= limit
            found += [
                (entry.key, entry.version.version_id, entry.is_latest) for entry in page.entries
            ]
            found += page.common_prefixes
            if not page.truncated:
                return found
            request.key_marker = page.next_key
            is_version = page.HasField("next_version")
            request.has_version_marker = is_version
            request.version_marker.CopyFrom(page.next_version)
        raise AssertionError("the listing does not end")

    def expected_versions(self, prefix: bytes, delimiter: bytes) -> list[object]:
        found: list[object] = []
        for key in sorted(self.keys):
            if key.startswith(prefix) and rolled(key, prefix, delimiter) is None:
                found += [
                    (key, known.version_id, index == 0)
                    for index, known in enumerate(self.keys[key])
                ]
        prefixes = {
            common
            for key, versions in self.keys.items()
            if versions and key.startswith(prefix)
            if (common := rolled(key, prefix, delimiter)) is not None
        }
        return found + sorted(prefixes)

    async def check_all(self) -> None:
        for key in KEYS:
            await self.check_get(key)
        for prefix in PREFIXES:
            for delimiter in DELIMITERS:
                expected = sorted(
                    {
                        rolled(key, prefix, delimiter) or key
                        for key in self.visible()
                        if key.startswith(prefix)
                    }
                )
                versions = self.expected_versions(prefix, delimiter)
                for limit in (1, 2, 1000):
                    assert await self.list_keys(prefix, delimiter, limit) == expected
                    listed = await self.list_versions(prefix, delimiter, limit)
                    assert sorted(map(repr, listed)) == sorted(map(repr, versions))
                    of_keys = [entry for entry in listed if isinstance(entry, tuple)]
                    assert of_keys == [entry for entry in versions if isinstance(entry, tuple)]
        self._check_rows()

    def _check_rows(self) -> None:
        """Heads and null pointers are there exactly where they should be."""
        rows = self.bench.store.scan
        bucket_key = 9
        heads = [key[bucket_key:] for key, _ in rows(b"h", b"i", 1000)]
        assert heads == self.visible()
        assert len(rows(b"v", b"w", 1000)) == sum(map(len, self.keys.values()))
        data = sum(not known.is_marker for versions in self.keys.values() for known in versions)
        assert len(rows(b"d", b"e", 1000)) == data
        pointed = {key[bucket_key:] for key, _ in rows(b"n", b"o", 1000)}
        assert pointed == {
            key
            for key, versions in self.keys.items()
            for index, known in enumerate(versions)
            if not known.version_id and (index > 0 or known.is_marker)
        }


def rolled(key: bytes, prefix: bytes, delimiter: bytes) -> bytes | None:
    """The common prefix that a key is listed under."""
    at = key.find(delimiter, len(prefix)) if delimiter else -1
    return key[: at + len(delimiter)] if at >= 0 else None


@pytest.mark.parametrize("seed", range(12))
async def test_any_history_reads_and_lists_like_the_model(bench: MetaBench, seed: int) -> None:
    random = Random(seed)
    versioning = random.choice([Bucket.NEVER, Bucket.ENABLED, Bucket.SUSPENDED])
    bucket = await bench.create_bucket("bucket", versioning=versioning)
    model = Model(bench, bucket, random)
    for _ in range(random.choice([5, 40, 120])):
        bench.clock.advance(random.choice([0, 0.5]))
        await model.step()
    await model.check_all()
