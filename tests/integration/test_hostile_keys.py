"""Keys that mean something elsewhere: they are bytes here, and come back as they were sent.

Method: keys percent-encoded on the wire by hand, since client libraries tidy paths.
"""

import re
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

import pytest

from tests.support.cluster import Cluster
from tests.support.raw import call, exchange

NAMESPACE = "{http://s3.amazonaws.com/doc/2006-03-01/}"
KEYS = [
    "..", ".", "../", "../../../../etc/passwd", "a/../b", "a/./b", "//", "//a", "a//b", "a//", "/",
    "/a", "%2e%2e/%2e%2e", "%", "%00", "%25", "+", " ", " a ", "a b+c", "?", "a?b=c&d", "#", "&amp",
    "<xml>", "]]>", "\"'`$(x)", "\\..\\..", "con", "a\tb", "a\nb", "a\r\nb", "\x01\x1f\x7f",
    "\ufffd", "\ufeff", "é", "e\u0301", "\u202e", "😀" * 256, "null", "k" * 1024, "versions",
    "a" * 255 + "/" + "b" * 255, "C:\\x", "~", "*", "[a-z]", "'; DROP TABLE objects; --", ".meta",
]  # fmt: skip


def target(bucket: str, key: bytes) -> str:
    """Everything but slashes is encoded."""
    return f"/{bucket}/" + quote(key, safe="/")


def test_they_come_back_as_they_were_sent(cluster: Cluster, s3: Any, bucket: str) -> None:
    for key in KEYS:
        data = key.encode()
        assert call(cluster, "PUT", target(bucket, data), data).status == 200, key
    for key in KEYS:
        answer = call(cluster, "GET", target(bucket, key.encode()))
        assert (answer.status, answer.body) == (200, key.encode()), key
    listed = []
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, MaxKeys=7):
        listed += [entry["Key"] for entry in page["Contents"]]
    assert listed == sorted(KEYS, key=lambda key: key.encode())
    for key in KEYS:
        assert call(cluster, "DELETE", target(bucket, key.encode())).status == 204, key
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_no_name_on_disk_is_a_clients(cluster: Cluster, s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="../../escape-marker/../x", Body=bytes(300_000))
    found = [path for path in cluster.folder.parent.rglob("*escape-marker*")]
    assert found == []


def test_control_characters_are_listed_as_xml_can(cluster: Cluster, bucket: str) -> None:
    """Without encoding-type XML 1.1 references would be needed; the document stays well-formed."""
    assert call(cluster, "PUT", target(bucket, b"a\x01b"), b"x").status == 200
    answer = call(cluster, "GET", f"/{bucket}?encoding-type=url&list-type=2")
    found = ElementTree.fromstring(answer.body)
    assert [e.text for e in found.iter(f"{NAMESPACE}Key")] == ["a%01b"]
    plain = call(cluster, "GET", f"/{bucket}?list-type=2")
    assert plain.status == 200 and re.search(rb"<Key>[^<]*</Key>", plain.body)


@pytest.mark.parametrize("size", [1025, 1500, 5000])
def test_longer_than_1024_bytes_is_named(cluster: Cluster, bucket: str, size: int) -> None:
    for key in (b"k" * size, ("é" * size).encode()[: size + size % 2]):
        for method in ("PUT", "GET", "DELETE"):
            answer = call(cluster, method, target(bucket, key), b"")
            assert (answer.status, answer.code) == (400, "KeyTooLongError"), (method, len(key))


@pytest.mark.parametrize("raw", ["%ff", "%c0%af", "%ed%a0%80", "a%80", "%f8%88%80%80%80"])
def test_what_is_no_utf8_is_refused(cluster: Cluster, s3: Any, bucket: str, raw: str) -> None:
    answer = call(cluster, "PUT", f"/{bucket}/{raw}", b"x")
    assert (answer.status, answer.code) == (400, "InvalidURI")
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


@pytest.mark.parametrize("raw", ["%", "%z", "%zz", "a%2"])
def test_what_is_no_encoding_is_refused(cluster: Cluster, bucket: str, raw: str) -> None:
    head = f"PUT /{bucket}/{raw} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    answer = exchange(cluster, head.encode())
    assert (answer.status, answer.code) == (400, "InvalidURI")
