"""Encryption headers that S3 calls malformed are refused as that; good ones as not built.

Method: PutObject requests with combinations of headers, through decoding and the support table.
"""

import base64
import hashlib

import pytest

from gateway.s3 import errors
from gateway.s3.codec import OPERATIONS_BY_NAME
from gateway.s3.support import refuse_unsupported

SSE = "x-amz-server-side-encryption"
KEY = b"k" * 32
KEY_TEXT = base64.b64encode(KEY).decode()
KEY_MD5 = base64.b64encode(hashlib.md5(KEY).digest()).decode()
CUSTOMER = {
    f"{SSE}-customer-algorithm": "AES256",
    f"{SSE}-customer-key": KEY_TEXT,
    f"{SSE}-customer-key-md5": KEY_MD5,
}


def check(headers: dict[str, str]) -> None:
    operation = OPERATIONS_BY_NAME["PutObject"]
    refuse_unsupported(operation, operation.decode("bucket", "key", {}, headers, None))


@pytest.mark.parametrize(
    "headers",
    [
        CUSTOMER,
        {SSE: "aws:kms"},
        {SSE: "aws:kms", f"{SSE}-aws-kms-key-id": "key"},
        {SSE: "aws:kms:dsse", f"{SSE}-aws-kms-key-id": "key"},
    ],
)
def test_methods_that_are_not_built_are_501(headers: dict[str, str]) -> None:
    with pytest.raises(errors.NotImplemented):
        check(headers)


@pytest.mark.parametrize(
    "headers",
    [
        CUSTOMER | {SSE: "AES256"},
        CUSTOMER | {SSE: "aws:kms", f"{SSE}-aws-kms-key-id": "key"},
        {SSE: "AES256", f"{SSE}-aws-kms-key-id": "key"},
        {f"{SSE}-aws-kms-key-id": "key"},
        *({n: v for n, v in CUSTOMER.items() if n != left_out} for left_out in CUSTOMER),
        CUSTOMER | {f"{SSE}-customer-key-md5": base64.b64encode(b"x" * 16).decode()},
        CUSTOMER | {f"{SSE}-customer-key": base64.b64encode(b"short").decode()},
        CUSTOMER | {f"{SSE}-customer-key": "***"},
    ],
)
def test_contradictions_are_invalid_arguments(headers: dict[str, str]) -> None:
    with pytest.raises(errors.InvalidArgument):
        check(headers)


def test_customer_algorithm_other_than_aes256_is_its_own_error() -> None:
    with pytest.raises(errors.InvalidEncryptionAlgorithmError):
        check(CUSTOMER | {f"{SSE}-customer-algorithm": "DES"})


@pytest.mark.parametrize("operation", ["GetObject", "HeadObject", "UploadPart"])
def test_encryption_of_a_read_is_an_invalid_argument(operation: str) -> None:
    query = {"partNumber": "1", "uploadId": "u"} if operation == "UploadPart" else {}
    with pytest.raises(errors.InvalidArgument):
        OPERATIONS_BY_NAME[operation].decode("bucket", "key", query, {SSE: "AES256"}, None)
