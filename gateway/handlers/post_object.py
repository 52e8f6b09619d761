"""PostObject: a browser's upload. What headers say elsewhere, form fields say here."""

from types import SimpleNamespace
from typing import Any, Protocol, cast
from urllib.parse import urlencode, urlsplit

from common import limits
from gateway.handlers.context import Context, Payload, shown_version_id
from gateway.handlers.draft import CHECKSUM_ALGORITHMS, draft_version, header_of, object_url
from gateway.handlers.object_write import ObjectWriteHandlers, store_payload
from gateway.objects.stored import Identity
from gateway.s3 import address, errors, tagging, xml
from gateway.s3.model.bucket import Tagging
from gateway.s3.model.object import PostObjectOutput, PostObjectRequest, PostResponse

META = "x-amz-meta-"
STATUSES = frozenset({"200", "201", "204"})
SSE_S3 = "AES256"
MEMBERS = {
    "acl": "acl",
    "cache_control": "cache-control",
    "content_disposition": "content-disposition",
    "content_encoding": "content-encoding",
    "content_language": "content-language",
    "content_type": "content-type",
    "expires": "expires",
    "storage_class": "x-amz-storage-class",
    "server_side_encryption": "x-amz-server-side-encryption",
}
# Of the signature, and of checksums, which the payload has read. What else begins so is refused.
READ_ELSEWHERE = frozenset({
    "x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-signature",
    "x-amz-sdk-checksum-algorithm",
    *(f"x-amz-checksum-{name.lower()}" for name in (*CHECKSUM_ALGORITHMS, "algorithm")),
})  # fmt: skip


class PostedForm(Protocol):
    """The form in front of the file."""

    fields: dict[str, str]  # the key with the file's name put in


class FormFile(Payload, Protocol):
    """A payload that came in a form."""

    form: PostedForm


class PostObjectHandlers:
    """Uploads from forms."""

    def __init__(self, objects: ObjectWriteHandlers) -> None:
        self._objects = objects

    async def post_object(self, context: Context, request: PostObjectRequest) -> PostObjectOutput:
        payload = cast(FormFile, context.payload)
        fields = payload.form.fields
        key = fields["key"]
        address.check_key(key)
        for name in fields:
            if name.startswith("x-amz-") and not _is_known(name):
                raise errors.NotImplemented(Header=name)
        version = draft_version(context, _metadata(fields))
        identity = Identity(request.bucket, key.encode(), about=header_of(context, version))
        stored, checksum = await store_payload(self._objects.writer, payload, identity, None)
        version.checksums.append(checksum)
        reply = await self._objects.commit(context, key, version, stored, None)
        location = object_url(context, request.bucket, key)
        output = PostObjectOutput(
            etag=f'"{stored.etag}"',
            location=location,
            server_side_encryption=SSE_S3,
            version_id=shown_version_id(reply.version_id) if reply.version_id else None,
        )
        return _answered(output, fields, request.bucket, key)


def _is_known(name: str) -> bool:
    return name.startswith(META) or name in READ_ELSEWHERE or name in MEMBERS.values()


def _answered(
    output: PostObjectOutput, fields: dict[str, str], bucket: str, key: str
) -> PostObjectOutput:
    """How the form wants its success to look."""
    redirect = fields.get("success_action_redirect") or fields.get("redirect")
    if redirect and urlsplit(redirect).scheme in ("http", "https"):
        query = urlencode({"bucket": bucket, "key": key, "etag": output.etag})
        output.location = f"{redirect}{'&' if urlsplit(redirect).query else '?'}{query}"
        output.status = 303
        return output
    status = fields.get("success_action_status", "204")
    output.status = int(status) if status in STATUSES else 204
    if output.status == 201:
        output.post_response = PostResponse(
            location=output.location, bucket=bucket, key=key, etag=output.etag
        )
    return output


def _metadata(fields: dict[str, str]) -> Any:
    members: dict[str, Any] = {name: fields.get(field) for name, field in MEMBERS.items()}
    members["metadata"] = {
        name[len(META) :]: value for name, value in fields.items() if name.startswith(META)
    }
    members["tagging"] = None
    if "tagging" in fields:
        document = xml.parse("Tagging", xml.shape_reader(Tagging), fields["tagging"].encode())
        tags = tagging.tags_of(document.tag_set or [], limits.OBJECT_TAGS_MAX)
        members["tagging"] = urlencode(tags)
    return SimpleNamespace(**members)
