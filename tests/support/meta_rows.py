"""What must hold of all metadata rows after every commit, whatever came before."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

from metaservice import keys
from metaservice.kv.interface import Store, decode_counter
from metaservice.operations.objects import head_of
from proto import records_pb2

Version = records_pb2.Version
ROWS_MAX = 100_000
PREFIX_BYTES = 9  # row kind and bucket id


class MetaRows:
    """All rows of a store, parsed as far as the checks need."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.versions: dict[tuple[int, bytes], list[tuple[bytes, Version]]] = defaultdict(list)
        for key, value in self._of(b"v"):
            object_key, row = keys.split_key_row(key)
            self.versions[_bucket_id(key), object_key].append((row, Version.FromString(value)))
        self.uploads = {
            keys.split_key_row(key)[1]: (_bucket_id(key), records_pb2.Upload.FromString(value))
            for key, value in self._of(b"u")
        }
        self.parts = {
            (key[1:17], int.from_bytes(key[17:], "big")): records_pb2.Part.FromString(value)
            for key, value in self._of(b"p")
        }
        self.garbage = [records_pb2.Garbage.FromString(value) for _, value in self._of(b"g")]

    def check(self) -> None:
        """Everything there is to check."""
        self._check_newest()
        self._check_inline_data()
        self._check_blobs()
        self._check_parts()
        self._check_counters()

    def _of(self, kind: bytes) -> Iterator[tuple[bytes, bytes]]:
        yield from self._store.scan(kind, keys.after(kind), ROWS_MAX)

    def _check_newest(self) -> None:
        """Head, marker and null rows follow from the versions, and from nothing else."""
        heads: dict[bytes, bytes] = {}
        markers: dict[bytes, bytes] = {}
        nulls: dict[bytes, bytes] = {}
        for (bucket_id, key), versions in self.versions.items():
            row, newest = versions[0]
            if newest.is_delete_marker:
                markers[keys.marker(bucket_id, key)] = row
            else:
                heads[keys.head(bucket_id, key)] = head_of(newest, row).SerializeToString()
            null_rows = [row for row, version in versions if version.is_null]
            assert len(null_rows) <= 1, f"{len(null_rows)} null versions of {key!r}"
            if null_rows and (null_rows[0] != row or newest.is_delete_marker):
                nulls[keys.null_pointer(bucket_id, key)] = null_rows[0]
            for row, version in versions:
                assert version.version_id == (b"" if version.is_null else row)
                assert version.order == version.last_modified_ns == keys.order_of(row)
        assert dict(self._of(b"h")) == heads
        assert dict(self._of(b"m")) == markers
        assert dict(self._of(b"n")) == nulls

    def _check_inline_data(self) -> None:
        inline = {
            keys.data(bucket_id, key, row)
            for (bucket_id, key), versions in self.versions.items()
            for row, version in versions
            if version.is_inline
        }
        assert {key for key, _ in self._of(b"d")} == inline

    def _check_blobs(self) -> None:
        """Every blob ever committed has one place, and an owner row until it is deleted."""
        places: Counter[bytes] = Counter()
        for versions in self.versions.values():
            for _, version in versions:
                places.update(blob.blob_id for blob in version.blobs)
        for part in self.parts.values():
            places.update(blob.blob_id for blob in part.blobs)
        for record in self.garbage:
            places.update(blob.blob_id for blob in record.blobs)
        assert all(count == 1 for count in places.values()), "a blob in two places"
        assert {key[1:] for key, _ in self._of(b"o")} == set(places), "a blob lost, or not owned"

    def _check_parts(self) -> None:
        """A part is of an open upload, or named by a version, or the collector knows of it."""
        named = {
            (version.parts.upload_id, number)
            for versions in self.versions.values()
            for _, version in versions
            for number in self._numbers(version)
        }
        assert named <= set(self.parts), "a version names a part that is not there"
        swept = {int.from_bytes(key[1:], "big") for key, _ in self._of(b"z")}
        for upload_id, number in self.parts:
            is_garbage = any(
                record.upload_id == upload_id and number not in _covered(record.keep)
                for record in self.garbage
            )
            is_named = (upload_id, number) in named
            assert not (is_named and is_garbage), "the collector would delete what a version names"
            assert is_named or is_garbage or upload_id in self.uploads, "a part nobody will delete"
        buckets = self._bucket_ids()
        for upload_id, (bucket_id, _) in self.uploads.items():
            assert (bucket_id in buckets) != (bucket_id in swept), f"upload {upload_id.hex()} lost"
        assert {key[1:] for key, _ in self._of(b"q")} <= set(self.uploads)

    def _numbers(self, version: Version) -> set[int]:
        runs = list(version.parts.runs)
        if version.parts.runs_elsewhere:
            prefix = keys.part_runs(version.parts.upload_id, 0)[:-2]
            for _, value in self._store.scan(prefix, keys.after(prefix), ROWS_MAX):
                runs += records_pb2.PartsRef.FromString(value).runs
        return _covered(runs)

    def _check_counters(self) -> None:
        expected: Counter[bytes] = Counter()
        for (bucket_id, _), versions in self.versions.items():
            assert bucket_id in self._bucket_ids(), "a version of a bucket that is not there"
            for _, version in versions:
                if version.is_delete_marker:
                    expected[keys.usage(bucket_id, "markers")] += 1
                else:
                    expected[keys.usage(bucket_id, "objects")] += 1
                    expected[keys.usage(bucket_id, "bytes")] += version.size_bytes
        for bucket_id, _ in self.uploads.values():
            if bucket_id in self._bucket_ids():
                expected[keys.usage(bucket_id, "uploads")] += 1
        stored = {key: decode_counter(value) for key, value in self._of(b"U")}
        assert {key: value for key, value in stored.items() if value} == {
            key: value for key, value in expected.items() if value
        }

    def _bucket_ids(self) -> set[int]:
        return {records_pb2.Bucket.FromString(value).bucket_id for _, value in self._of(b"B")}


def _bucket_id(row_key: bytes) -> int:
    return int.from_bytes(row_key[1:PREFIX_BYTES], "big")


def _covered(runs: Iterable[records_pb2.PartRun]) -> set[int]:
    return {
        number for run in runs for number in range(run.first_number, run.first_number + run.count)
    }
