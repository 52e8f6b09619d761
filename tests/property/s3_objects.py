"""Random operations on buckets, objects and versions, each answer compared with the model's."""

from typing import Any, ClassVar

from botocore.exceptions import ClientError
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, precondition, rule

from tests.property.s3_model import NULL, Bucket, Version, content, md5

KEYS = ("a", "a/b", "a/b/c", "a//", "a+b c", "%41", "ä/漢", "b")
SIZES = (0, 1, 100, 16_384, 16_385, 70_000)
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


class ObjectMachine(RuleBasedStateMachine):
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
