"""What a request says about encryption, as far as it must make sense whatever is built of it.

A combination that S3 refuses as malformed is refused as that, and not as something to come.
"""

import base64
import binascii
import hashlib
from typing import Any

from gateway.s3.errors import InvalidArgument, InvalidEncryptionAlgorithmError

SSE = "x-amz-server-side-encryption"
KMS_METHODS = ("aws:kms", "aws:kms:dsse")
CUSTOMER_METHOD = "AES256"
CUSTOMER_KEY_BYTES = 32
CUSTOMER_MEMBERS = ("algorithm", "key", "key_md5")
CUSTOMER_PREFIXES = ("sse_customer_", "copy_source_sse_customer_")


def check_encryption(request: Any) -> None:
    """Refuse encryption members that contradict each other or are incomplete.

    raises   InvalidArgument, InvalidEncryptionAlgorithmError
    """
    members = vars(request)
    method = members.get("server_side_encryption")
    for prefix in CUSTOMER_PREFIXES:
        given = {name: members.get(prefix + name) for name in CUSTOMER_MEMBERS}
        if any(value is not None for value in given.values()):
            if method is not None and prefix == CUSTOMER_PREFIXES[0]:
                raise _refused(
                    "Server Side Encryption with Customer provided key is incompatible with the "
                    "encryption method specified",
                    method,
                )
            _check_customer_key(given)
    if members.get("sse_kms_key_id") is not None and method not in KMS_METHODS:
        raise _refused(
            f"Server Side Encryption with AWS KMS managed key requires HTTP header {SSE} : aws:kms",
            method,
        )


def _check_customer_key(given: dict[str, str | None]) -> None:
    name = f"{SSE}-customer-algorithm"
    begin = "Requests specifying Server Side Encryption with Customer provided keys must provide"
    if given["algorithm"] is None:
        raise _refused(f"{begin} a valid encryption algorithm.", None, name)
    if given["algorithm"] != CUSTOMER_METHOD:
        raise InvalidEncryptionAlgorithmError(ArgumentName=name, ArgumentValue=given["algorithm"])
    if given["key"] is None:
        raise _refused(f"{begin} an appropriate secret key.", None, f"{SSE}-customer-key")
    if given["key_md5"] is None:
        raise _refused(
            f"{begin} the client calculated MD5 of the secret key.",
            None,
            f"{SSE}-customer-key-MD5",
        )
    try:
        key = base64.b64decode(given["key"], validate=True)
    except binascii.Error:
        key = b""
    if len(key) != CUSTOMER_KEY_BYTES:
        raise _refused(
            "The secret key was invalid for the specified algorithm.", None, f"{SSE}-customer-key"
        )
    digest = hashlib.md5(key, usedforsecurity=False).digest()
    if base64.b64encode(digest).decode() != given["key_md5"]:
        raise _refused(
            "The calculated MD5 hash of the key did not match the hash that was provided.",
            given["key_md5"],
            f"{SSE}-customer-key-MD5",
        )


def _refused(message: str, value: str | None, name: str = SSE) -> InvalidArgument:
    return InvalidArgument(message, ArgumentName=name, ArgumentValue=value)
