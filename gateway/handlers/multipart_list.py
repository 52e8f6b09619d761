"""The body of CompleteMultipartUpload: the part list and the checksums it names."""

import base64
import binascii
from typing import Any

from common import limits
from gateway.handlers.checksums import COMPOSITE, member_name
from gateway.handlers.draft import CHECKSUM_ALGORITHMS
from gateway.s3 import errors
from gateway.s3.etag import unquote
from gateway.s3.model.multipart import CompleteMultipartUploadRequest
from proto import meta_pb2, records_pb2


def listed_parts(request: CompleteMultipartUploadRequest) -> list[meta_pb2.ListedPart]:
    """The parts as the client lists them. raises MalformedXML, InvalidPart"""
    upload = request.multipart_upload
    parts = (upload.parts or []) if upload is not None else []
    if not 1 <= len(parts) <= limits.PART_NUMBER_MAX:
        raise errors.MalformedXML()
    listed = []
    for part in parts:
        if part.part_number is None or part.etag is None:
            raise errors.MalformedXML()
        if not 1 <= part.part_number <= limits.PART_NUMBER_MAX:
            raise errors.InvalidPart(PartNumber=part.part_number)
        listed.append(
            meta_pb2.ListedPart(
                number=part.part_number, etag=unquote(part.etag), checksums=_checksums(part)
            )
        )
    return listed


def object_checksum(request: CompleteMultipartUploadRequest) -> records_pb2.Checksum | None:
    """The checksum that the client says the whole object has. raises InvalidRequest"""
    for algorithm in CHECKSUM_ALGORITHMS:
        text = getattr(request, member_name(algorithm))
        if text is not None:
            value, separator, _ = text.partition("-")
            is_composite = bool(separator) or request.checksum_type == COMPOSITE
            return records_pb2.Checksum(
                algorithm=algorithm, value=_decoded(value, algorithm), composite=is_composite
            )
    return None


def _checksums(part: Any) -> list[records_pb2.Checksum]:
    found = []
    for algorithm in CHECKSUM_ALGORITHMS:
        text = getattr(part, member_name(algorithm))
        if text is not None:
            found.append(records_pb2.Checksum(algorithm=algorithm, value=_decoded(text, algorithm)))
    return found


def _decoded(text: str, algorithm: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise errors.InvalidRequest(
            f"Value for x-amz-checksum-{algorithm.lower()} is invalid."
        ) from None
