"""Who may do what: an account everything with its own buckets, nobody else anything.

Policies will be evaluated here and nowhere else.
"""

from gateway.auth.credentials import Credential
from gateway.s3 import errors
from proto import records_pb2


def require_authenticated(credential: Credential | None) -> Credential:
    """Refuse anonymous requests. raises AccessDenied"""
    if credential is None:
        raise errors.AccessDenied()
    return credential


def check_bucket(
    credential: Credential, bucket: records_pb2.Bucket, expected_owner: str | None
) -> None:
    """Refuse other accounts' buckets, and owners other than the client expects.

    raises   AccessDenied
    """
    if bucket.owner_account != credential.account_id:
        raise errors.AccessDenied()
    if expected_owner is not None and expected_owner != bucket.owner_account:
        raise errors.AccessDenied()
