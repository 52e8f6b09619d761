"""PutPublicAccessBlock, GetPublicAccessBlock, DeletePublicAccessBlock."""

from typing import Any

from tests.support.s3 import refused


def test_switches_are_kept_and_deleted(s3: Any, bucket: str) -> None:
    wanted = {
        "BlockPublicAcls": True,
        "IgnorePublicAcls": False,
        "BlockPublicPolicy": True,
        "RestrictPublicBuckets": False,
    }
    s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=wanted)
    found = s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]
    assert found == wanted
    s3.delete_public_access_block(Bucket=bucket)
    refused("NoSuchPublicAccessBlockConfiguration", 404, s3.get_public_access_block, Bucket=bucket)
