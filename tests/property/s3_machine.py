"""Random operations on buckets through boto3, each answer compared with the model's."""

from typing import Any, ClassVar

from botocore.exceptions import ClientError
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, precondition, rule

from tests.property.s3_model import NULL, Bucket, Completed, Upload, Version, content, grouped, md5

KEYS = ("a", "a/b", "a/b/c", "a//", "a+b c", "%41", "ä/漢", "b")
SIZES = (0, 1, 100, 16_384, 16_385, 70_000)
PART_SIZES = (1, 100, 20_000, 5 * 1024 * 1024)
UNKNOWN_VERSION = "0" * 32
WRONG_ETAG = "d" * 32

keys = st.sampled_from(KEYS)
bodies = st.builds(content, st.integers(0, 50), st.sampled_from(SIZES))
metadata = st.dictionaries(st.sampled_from(("one", "two")), st.sampled_from(("1", "x y", "")))
tag_sets = st.dictionaries(st.sampled_from(("t", "u v")), st.sampled_from(("1", "a+b", "ü")))
indexes = st.integers(0, 3)
conditions = st.sampled_from(("none", "none", "is_new", "any", "current", "wrong"))


def header(tags: dict[str, str]) -> str:
    """A tag set as x-amz-tagging wants it."""
    return "&".join(f"{_quoted(name)}={_quoted(value)}" for name, value in tags.items())


def _quoted(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode())


class ApiMachine(RuleBasedStateMachine):
    """One machine has buckets of its own; the cluster is shared by all of them."""

    s3: ClassVar[Any]
    machines: ClassVar[int] = 0
    buckets = Bundle("buckets")

    def __init__(self) -> None:
        super().__init__()
        type(self).machines += 1
        self.prefix = f"model-{type(self).machines}-"
        self.made = 0
        self.model: dict[str, Bucket] = {}

    # --- calling ----------------------------------------------------------------------------

    def call(self, expected: str | None, operation: str, **arguments: Any) -> Any:
        """Make a call; the error code must be the expected one. Returns the answer of a success."""
        try:
            answer = getattr(self.s3, operation)(**arguments)
        except ClientError as error:
            found = error.response["Error"]["Code"]
            by_status = {"404": "NoSuch", "405": "MethodNotAllowed", "412": "PreconditionFailed"}
            if operation == "head_object":  # has no body to name the code in
                assert expected is not None, (operation, found)
                assert expected.startswith(by_status.get(found, found)), (found, expected)
            else:
                assert found == expected, (operation, arguments, found, expected)
            return None
        assert expected is None, f"{operation} {arguments} should have been {expected}"
        return answer

    def condition(self, bucket: Bucket, key: str, kind: str) -> tuple[dict[str, str], str | None]:
        """Arguments of a conditional write, and the error it must have."""
        current = bucket.current(key)
        if kind == "none":
            return {}, None
        if kind == "is_new":
            return {"IfNoneMatch": "*"}, bucket.refuse_write(key, None, is_new=True)
        etags = {"any": "*", "wrong": WRONG_ETAG, "current": current.etag if current else "*"}
        etag = etags[kind]
        shown = etag if etag == "*" else f'"{etag}"'
        return {"IfMatch": shown}, bucket.refuse_write(key, etag, is_new=False)

    def version_id(self, bucket: Bucket, key: str, index: int) -> str | None:
        """The id to name: none, one that is there, the null version, or an unknown one."""
        versions = bucket.keys.get(key, [])
        choices = [None, *(version.version_id for version in versions[:2])]
        return (*choices, NULL, UNKNOWN_VERSION)[index % (len(choices) + 2)]

    # --- buckets ----------------------------------------------------------------------------

    @initialize(target=buckets, state=st.sampled_from((None, "Enabled", "Suspended")))
    def first_bucket(self, state: str | None) -> str:
        name = self.create_bucket()
        if state is not None:
            self.set_versioning(name, state)
        return name

    @rule(target=buckets)
    @precondition(lambda self: self.made < 3)
    def create(self) -> str:
        return self.create_bucket()

    def create_bucket(self) -> str:
        self.made += 1
        name = f"{self.prefix}{self.made}"
        self.call(None, "create_bucket", Bucket=name)
        self.model[name] = Bucket()
        return name

    @rule(name=buckets, state=st.sampled_from(("Enabled", "Suspended")))
    def set_versioning(self, name: str, state: str) -> None:
        gone = None if name in self.model else "NoSuchBucket"
        self.call(
            gone, "put_bucket_versioning", Bucket=name, VersioningConfiguration={"Status": state}
        )
        if gone is None:
            self.model[name].versioning = state
            assert self.s3.get_bucket_versioning(Bucket=name)["Status"] == state

    @rule(name=buckets)
    def delete_bucket(self, name: str) -> None:
        bucket = self.model.get(name)
        refused = "NoSuchBucket" if bucket is None else "BucketNotEmpty" if bucket.keys else None
        self.call(refused, "delete_bucket", Bucket=name)
        if refused is None:
            del self.model[name]

    # --- writing ----------------------------------------------------------------------------

    @rule(name=buckets, key=keys, body=bodies, meta=metadata, tags=tag_sets, kind=conditions)
    def put(  # noqa: PLR0913 - drawn, not called
        self, name: str, key: str, body: bytes, meta: dict[str, str], tags: dict[str, str],
        kind: str,
    ) -> None:  # fmt: skip
        bucket = self.model.get(name, Bucket())
        arguments, refused = self.condition(bucket, key, kind)
        if name not in self.model:
            refused = "NoSuchBucket"
        answer = self.call(
            refused, "put_object", Bucket=name, Key=key, Body=body, Metadata=meta,
            Tagging=header(tags), **arguments,
        )  # fmt: skip
        if answer is not None:
            assert answer["ETag"] == f'"{md5(body)}"'
            version = Version("", body, md5(body), meta, tags)
            bucket.apply_put(key, version, answer.get("VersionId"))

    @rule(
        source=buckets, source_key=keys, index=indexes, name=buckets, key=keys,
        meta=st.none() | metadata, tags=st.none() | tag_sets, kind=conditions,
    )  # fmt: skip
    def copy(  # noqa: PLR0913 - drawn, not called
        self, source: str, source_key: str, index: int, name: str, key: str,
        meta: dict[str, str] | None, tags: dict[str, str] | None, kind: str,
    ) -> None:  # fmt: skip
        if source not in self.model or name not in self.model:
            return
        origin, bucket = self.model[source], self.model[name]
        version_id = self.version_id(origin, source_key, index)
        found = origin.find(source_key, version_id)
        arguments, refused = self.condition(bucket, key, kind)
        copy_source = {"Bucket": source, "Key": source_key}
        if version_id is not None:
            copy_source["VersionId"] = version_id
        if isinstance(found, str):
            refused = "InvalidRequest" if found == "MethodNotAllowed" else found
        elif (source, source_key) == (name, key) and version_id is None and meta is None:
            refused = "InvalidRequest"
        if meta is not None:
            arguments |= {"MetadataDirective": "REPLACE", "Metadata": meta}
        if tags is not None:
            arguments |= {"TaggingDirective": "REPLACE", "Tagging": header(tags)}
        answer = self.call(
            refused, "copy_object", Bucket=name, Key=key, CopySource=copy_source, **arguments
        )
        if answer is not None:
            assert isinstance(found, Version)
            version = Version(
                "", found.body, md5(found.body),
                found.metadata if meta is None else meta, found.tags if tags is None else tags,
            )  # fmt: skip
            assert answer["CopyObjectResult"]["ETag"] == f'"{version.etag}"'
            bucket.apply_put(key, version, answer.get("VersionId"))

    @rule(name=buckets, key=keys, kind=st.sampled_from(("none", "none", "any", "current", "wrong")))
    def delete(self, name: str, key: str, kind: str) -> None:
        if name not in self.model:
            return
        bucket = self.model[name]
        arguments, refused = self.condition(bucket, key, kind)
        answer = self.call(refused, "delete_object", Bucket=name, Key=key, **arguments)
        if answer is not None:
            assert answer.get("DeleteMarker", False) == (bucket.versioning is not None)
            bucket.apply_delete(key, answer.get("VersionId"))

    @rule(name=buckets, key=keys, index=st.integers(1, 4))
    def delete_version(self, name: str, key: str, index: int) -> None:
        if name not in self.model:
            return
        bucket = self.model[name]
        version_id = self.version_id(bucket, key, index) or NULL
        answer = self.call(None, "delete_object", Bucket=name, Key=key, VersionId=version_id)
        was_marker = bucket.apply_delete_version(key, version_id)
        assert answer.get("DeleteMarker", False) == was_marker

    @rule(name=buckets, chosen=st.lists(st.tuples(keys, indexes), min_size=1, max_size=4))
    def delete_many(self, name: str, chosen: list[tuple[str, int]]) -> None:
        if name not in self.model:
            return
        bucket = self.model[name]
        named = {key: self.version_id(bucket, key, index) for key, index in chosen}
        objects = [
            {"Key": key} if version_id is None else {"Key": key, "VersionId": version_id}
            for key, version_id in named.items()
        ]
        answer = self.call(None, "delete_objects", Bucket=name, Delete={"Objects": objects})
        assert "Errors" not in answer
        assert [entry["Key"] for entry in answer["Deleted"]] == list(named)
        for entry in answer["Deleted"]:
            version_id = named[entry["Key"]]
            if version_id is None:
                bucket.apply_delete(entry["Key"], entry.get("DeleteMarkerVersionId"))
            else:
                assert entry["VersionId"] == version_id
                was_marker = bucket.apply_delete_version(entry["Key"], version_id)
                assert entry.get("DeleteMarker", False) == was_marker

    @rule(name=buckets, key=keys, index=indexes, tags=st.none() | tag_sets)
    def set_tags(self, name: str, key: str, index: int, tags: dict[str, str] | None) -> None:
        if name not in self.model:
            return
        bucket = self.model[name]
        version_id = self.version_id(bucket, key, index)
        found = bucket.find(key, version_id)
        refused = found if isinstance(found, str) else None
        arguments: dict[str, Any] = {"Bucket": name, "Key": key}
        if version_id is not None:
            arguments["VersionId"] = version_id
        if tags is None:
            self.call(refused, "delete_object_tagging", **arguments)
        else:
            tag_set = [{"Key": tag, "Value": value} for tag, value in tags.items()]
            self.call(refused, "put_object_tagging", **arguments, Tagging={"TagSet": tag_set})
        if isinstance(found, Version):
            found.tags = tags or {}

    # --- reading ----------------------------------------------------------------------------

    @rule(
        name=buckets, key=keys, index=indexes, first=st.integers(0, 80_000),
        size=st.integers(1, 70_000),
    )  # fmt: skip
    def read(self, name: str, key: str, index: int, first: int, size: int) -> None:
        if name not in self.model:
            self.call("NoSuchBucket", "get_object", Bucket=name, Key=key)
            return
        version_id = self.version_id(self.model[name], key, index)
        found = self.model[name].find(key, version_id)
        arguments = {"Bucket": name, "Key": key}
        if version_id is not None:
            arguments["VersionId"] = version_id
        if isinstance(found, str):
            self.call(found, "get_object", **arguments)
            self.call(found, "head_object", **arguments)
            self.call(found, "get_object_tagging", **arguments)
            return
        self.compare(arguments, found)
        refused = None if first < len(found.body) else "InvalidRange"
        ranged = f"bytes={first}-{first + size - 1}"
        answer = self.call(refused, "get_object", **arguments, Range=ranged)
        if answer is not None:
            assert answer["Body"].read() == found.body[first : first + size]
            assert answer["ResponseMetadata"]["HTTPStatusCode"] == 206

    def compare(self, arguments: dict[str, str], version: Version) -> None:
        """Read a version whole, in every way there is."""
        answer = self.call(None, "get_object", **arguments)
        assert answer["Body"].read() == version.body
        head = self.call(None, "head_object", **arguments)
        for shown in (answer, head):
            assert shown["ETag"] == f'"{version.etag}"'
            assert shown["Metadata"] == version.metadata
            assert shown["ContentLength"] == len(version.body)
            assert shown.get("TagCount", 0) == len(version.tags)
        shown_tags = self.call(None, "get_object_tagging", **arguments)["TagSet"]
        assert {tag["Key"]: tag["Value"] for tag in shown_tags} == version.tags
        for number, size in enumerate(version.part_sizes, 1):
            part = self.call(None, "head_object", **arguments, PartNumber=number)
            assert part["ContentLength"] == size
            assert part["PartsCount"] == len(version.part_sizes)

    # --- multipart --------------------------------------------------------------------------

    uploads = Bundle("uploads")

    @rule(target=uploads, name=buckets, key=keys, meta=metadata)
    def create_upload(self, name: str, key: str, meta: dict[str, str]) -> tuple[str, str]:
        refused = None if name in self.model else "NoSuchBucket"
        answer = self.call(refused, "create_multipart_upload", Bucket=name, Key=key, Metadata=meta)
        if answer is None:
            return name, ""
        upload_id = answer["UploadId"]
        self.model[name].uploads[upload_id] = Upload(upload_id, key, meta)
        return name, upload_id

    def upload_of(self, named: tuple[str, str]) -> Upload | None:
        """The upload; None if its bucket is gone."""
        name, upload_id = named
        return self.model[name].uploads.get(upload_id) if name in self.model else None

    @rule(
        named=uploads, number=st.sampled_from((1, 2, 3, 10_000)),
        seed=st.integers(0, 9), size=st.sampled_from(PART_SIZES),
    )  # fmt: skip
    def upload_part(self, named: tuple[str, str], number: int, seed: int, size: int) -> None:
        upload = self.upload_of(named)
        if upload is None:
            return
        body = content(seed, size)
        refused = None if upload.is_open else "NoSuchUpload"
        answer = self.call(
            refused, "upload_part", Bucket=named[0], Key=upload.key, UploadId=named[1],
            PartNumber=number, Body=body,
        )  # fmt: skip
        if answer is not None:
            assert answer["ETag"] == f'"{md5(body)}"'
            upload.parts[number] = body

    @rule(
        named=uploads, number=st.sampled_from((1, 2)), source_key=keys, index=indexes,
        first=st.integers(0, 100),
    )  # fmt: skip
    def copy_part(
        self, named: tuple[str, str], number: int, source_key: str, index: int, first: int
    ) -> None:
        upload = self.upload_of(named)
        if upload is None:
            return
        bucket = self.model[named[0]]
        version_id = self.version_id(bucket, source_key, index)
        found = bucket.find(source_key, version_id)
        source = {"Bucket": named[0], "Key": source_key}
        if version_id is not None:
            source["VersionId"] = version_id
        refused = None
        if not upload.is_open:
            refused = "NoSuchUpload"
        elif isinstance(found, str):
            refused = "InvalidRequest" if found == "MethodNotAllowed" else found
        elif first >= len(found.body):
            refused = "InvalidArgument"
        end = len(found.body) if isinstance(found, Version) else first
        answer = self.call(
            refused, "upload_part_copy", Bucket=named[0], Key=upload.key, UploadId=named[1],
            PartNumber=number, CopySource=source,
            CopySourceRange=f"bytes={first}-{max(first, end - 1)}",
        )  # fmt: skip
        if answer is not None:
            assert isinstance(found, Version)
            upload.parts[number] = found.body[first:]

    @rule(
        named=uploads, dropped=st.sets(st.sampled_from((1, 2, 3, 10_000))), kind=conditions,
        defect=st.sampled_from(("", "", "", "order", "etag", "missing")),
    )  # fmt: skip
    def complete(self, named: tuple[str, str], dropped: set[int], kind: str, defect: str) -> None:
        upload = self.upload_of(named)
        if upload is None or not upload.parts:
            return
        numbers = sorted(set(upload.parts) - dropped) or sorted(upload.parts)
        listed = [(number, md5(upload.parts[number])) for number in numbers]
        if defect == "order":
            listed.reverse()
        elif defect == "etag":
            listed[0] = (listed[0][0], WRONG_ETAG)
        elif defect == "missing":
            listed.append((9_999, WRONG_ETAG))
            listed.sort()
        self._complete(named, upload, listed, kind)

    @rule(named=uploads)
    def complete_again(self, named: tuple[str, str]) -> None:
        upload = self.upload_of(named)
        if upload is not None and upload.completed is not None:
            self._complete(named, upload, upload.completed.listed, "none")

    def _complete(
        self, named: tuple[str, str], upload: Upload, listed: list[tuple[int, str]], kind: str
    ) -> None:
        bucket = self.model[named[0]]
        arguments, refused = self.condition(bucket, upload.key, kind)
        if not upload.is_open:
            arguments, refused = {}, None
        refused = refused or upload.refuse_list(listed)
        parts = [{"PartNumber": number, "ETag": etag} for number, etag in listed]
        answer = self.call(
            refused, "complete_multipart_upload", Bucket=named[0], Key=upload.key,
            UploadId=named[1], MultipartUpload={"Parts": parts}, **arguments,
        )  # fmt: skip
        if answer is None:
            return
        if upload.completed is not None:
            assert answer["ETag"] == f'"{upload.completed.etag}"'
            assert answer.get("VersionId") == upload.completed.version_id
            return
        version = upload.whole(listed)
        assert answer["ETag"] == f'"{version.etag}"'
        bucket.apply_put(upload.key, version, answer.get("VersionId"))
        upload.completed = Completed(listed, version.etag, answer.get("VersionId"))

    @rule(named=uploads)
    def abort(self, named: tuple[str, str]) -> None:
        upload = self.upload_of(named)
        if upload is None:
            return
        refused = None if upload.is_open else "NoSuchUpload"
        answer = self.call(
            refused, "abort_multipart_upload", Bucket=named[0], Key=upload.key, UploadId=named[1]
        )
        upload.is_aborted = upload.is_aborted or answer is not None

    # --- listings ---------------------------------------------------------------------------

    @rule(
        name=buckets, prefix=st.sampled_from(("", "a", "a/", "ä/", "z")),
        delimiter=st.sampled_from(("", "/", "b")), page=st.sampled_from((1, 2, 1000)),
        start_after=st.sampled_from(("", "a/b", "b")),
    )  # fmt: skip
    def list_keys(
        self, name: str, prefix: str, delimiter: str, page: int, start_after: str
    ) -> None:
        if name not in self.model:
            return
        arguments: dict[str, Any] = {
            "Bucket": name, "Prefix": prefix, "Delimiter": delimiter, "MaxKeys": page,
            "StartAfter": start_after,
        }  # fmt: skip
        contents: list[str] = []
        prefixes: list[str] = []
        while True:
            answer = self.call(None, "list_objects_v2", **arguments)
            shown = answer.get("Contents", [])
            assert answer["KeyCount"] == len(shown) + len(answer.get("CommonPrefixes", [])) <= page
            contents += [entry["Key"] for entry in shown]
            prefixes += [entry["Prefix"] for entry in answer.get("CommonPrefixes", [])]
            for entry in shown:
                current = self.model[name].current(entry["Key"])
                assert current is not None, entry
                assert (entry["ETag"], entry["Size"]) == (f'"{current.etag}"', len(current.body))
            if not answer["IsTruncated"]:
                break
            arguments["ContinuationToken"] = answer["NextContinuationToken"]
        visible = self.model[name].visible()
        assert (contents, prefixes) == grouped(visible, prefix, delimiter, start_after)

    @rule(name=buckets, page=st.sampled_from((1, 2, 1000)))
    def list_versions(self, name: str, page: int) -> None:
        if name not in self.model:
            return
        found: list[tuple[str, str, bool, bool]] = []
        arguments: dict[str, Any] = {"Bucket": name, "MaxKeys": page}
        while True:
            answer = self.call(None, "list_object_versions", **arguments)
            for kind in ("Versions", "DeleteMarkers"):
                found += [
                    (entry["Key"], entry["VersionId"], entry["IsLatest"], kind != "Versions")
                    for entry in answer.get(kind, [])
                ]
            if not answer["IsTruncated"]:
                break
            arguments["KeyMarker"] = answer["NextKeyMarker"]
            if "NextVersionIdMarker" in answer:
                arguments["VersionIdMarker"] = answer["NextVersionIdMarker"]
            else:
                arguments.pop("VersionIdMarker", None)
        expected = self.model[name].all_versions()
        for is_marker in (False, True):
            assert [row for row in found if row[3] == is_marker] == [
                row for row in expected if row[3] == is_marker
            ]

    @rule(name=buckets)
    def list_uploads(self, name: str) -> None:
        if name not in self.model:
            return
        answer = self.call(None, "list_multipart_uploads", Bucket=name)
        still_open = {u.upload_id: u for u in self.model[name].uploads.values() if u.is_open}
        assert {entry["UploadId"] for entry in answer.get("Uploads", [])} == set(still_open)
        for upload in still_open.values():
            listed = self.call(
                None, "list_parts", Bucket=name, Key=upload.key, UploadId=upload.upload_id
            )
            shown = [(p["PartNumber"], p["Size"], p["ETag"]) for p in listed.get("Parts", [])]
            parts = sorted(upload.parts.items())
            assert shown == [(n, len(body), f'"{md5(body)}"') for n, body in parts]

    def teardown(self) -> None:
        """At the end every version of every bucket is still what it was."""
        for name, bucket in self.model.items():
            self.list_versions(name, 1000)
            for key, versions in bucket.keys.items():
                for version in versions:
                    if not version.is_marker:
                        self.compare(
                            {"Bucket": name, "Key": key, "VersionId": version.version_id}, version
                        )
