"""ListBuckets: an account's own, by prefix, region and page."""

import secrets
from typing import Any

import pytest

from tests.support.cluster import Cluster
from tests.support.s3 import refused, send_signed


@pytest.fixture
def prefix(s3: Any) -> str:
    """The common prefix of three buckets."""
    prefix = f"list-{secrets.token_hex(6)}-"
    for letter in "bac":
        s3.create_bucket(Bucket=prefix + letter)
    return prefix


def names(answer: Any) -> list[str]:
    return [bucket["Name"] for bucket in answer["Buckets"]]


def test_prefix_selects_and_names_are_in_order(s3: Any, prefix: str) -> None:
    answer = s3.list_buckets(Prefix=prefix)
    assert names(answer) == [prefix + letter for letter in "abc"]
    assert answer["Prefix"] == prefix
    assert {bucket["BucketRegion"] for bucket in answer["Buckets"]} == {"us-east-1"}
    assert answer["Owner"]["ID"]


def test_pages_add_up(s3: Any, prefix: str) -> None:
    pages = s3.get_paginator("list_buckets").paginate(
        Prefix=prefix, PaginationConfig={"PageSize": 2}
    )
    assert [names(page) for page in pages] == [[prefix + "a", prefix + "b"], [prefix + "c"]]


def test_other_region_has_none(s3: Any, prefix: str) -> None:
    assert names(s3.list_buckets(Prefix=prefix, BucketRegion="us-east-1")) != []
    assert s3.list_buckets(Prefix=prefix, BucketRegion="eu-west-1").get("Buckets", []) == []


def test_other_account_sees_its_own(other: Any, prefix: str) -> None:
    assert other.list_buckets(Prefix=prefix).get("Buckets", []) == []


@pytest.mark.parametrize("count", ["0", "-1", "many"])
def test_invalid_page_is_refused(cluster: Cluster, count: str) -> None:
    answer = send_signed(cluster, "GET", f"/?max-buckets={count}")
    assert (answer.status, answer.code) == (400, "InvalidArgument")


def test_invalid_token_is_refused(s3: Any) -> None:
    refused("InvalidArgument", 400, s3.list_buckets, ContinuationToken="made up")
