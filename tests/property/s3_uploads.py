"""Random multipart uploads beside the operations on objects."""

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, rule

from tests.property.s3_model import Completed, Upload, Version, content, md5
from tests.property.s3_objects import (
    WRONG_ETAG,
    ObjectMachine,
    conditions,
    indexes,
    keys,
    metadata,
)

PART_SIZES = (1, 100, 20_000, 5 * 1024 * 1024)


class UploadMachine(ObjectMachine):
    """Objects, and uploads in parts that become objects."""

    buckets = ObjectMachine.buckets
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
