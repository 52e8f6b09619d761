"""XML bodies made to cost memory or time, or to read what is not theirs.

Method: signed requests with documents by hand; the gateway's memory before and after.
"""

import hashlib
import os
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster import Cluster
from tests.support.raw import Answer, call, resident_bytes

MIB = 1 << 20
BOMB = '<?xml version="1.0"?><!DOCTYPE b [<!ENTITY e0 "boom">' + "".join(
    f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10)
)
DOCUMENTS = {
    "entities that grow": BOMB + "]><Delete><Object><Key>&e9;</Key></Object></Delete>",
    "quadratic entity": (
        f'<!DOCTYPE b [<!ENTITY e "{"x" * 50_000}">]>'
        f"<Delete><Object><Key>{'&e;' * 10_000}</Key></Object></Delete>"
    ),
    "a file": (
        '<!DOCTYPE b [<!ENTITY e SYSTEM "file:///etc/passwd">]>'
        "<Delete><Object><Key>&e;</Key></Object></Delete>"
    ),
    "an address": (
        '<!DOCTYPE b SYSTEM "http://127.0.0.1:1/x.dtd"><Delete><Object><Key>k</Key></Object></Delete>'
    ),
    "deep": "<Delete>" + "<a>" * 50_000 + "</a>" * 50_000 + "</Delete>",
    "deep and unfinished": "<a>" * 300_000,
    "many attributes": "<Delete " + " ".join(f'a{n}="x"' for n in range(50_000)) + "/>",
    "a long name": f"<{'D' * 1_000_000}/>",
    "nothing": "",
    "no xml": "Delete everything",
    "two roots": "<Delete/><Delete/>",
    "zero byte": "<Delete><Object><Key>\0</Key></Object></Delete>",
    "other root": "<Tagging/>",
    "unknown element": "<Delete><Object><Key>k</Key></Object><Surprise/></Delete>",
    "no keys": "<Delete></Delete>",
}


def delete_objects(cluster: Cluster, bucket: str, document: bytes) -> Answer:
    digest = b64encode(hashlib.md5(document, usedforsecurity=False).digest()).decode()
    return call(cluster, "POST", f"/{bucket}?delete=", document, [("content-md5", digest)])


@pytest.mark.parametrize("name", DOCUMENTS)
def test_documents_that_are_none_are_named(
    cluster: Cluster, s3: Any, bucket: str, name: str
) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"kept")
    pid = cluster.pid_of("gateway-1")
    before = resident_bytes(pid)
    answer = delete_objects(cluster, bucket, DOCUMENTS[name].encode())
    assert answer.status == 400, answer.data[:500]
    assert answer.code in ("MalformedXML", "MissingRequestBodyError", "InvalidRequest")
    assert b"root:" not in answer.data
    assert resident_bytes(pid) < before + 32 * MIB
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"kept"


def test_not_utf8(cluster: Cluster, bucket: str) -> None:
    document = b"<Delete><Object><Key>\xff\xfe</Key></Object></Delete>"
    answer = delete_objects(cluster, bucket, document)
    assert (answer.status, answer.code) == (400, "MalformedXML")


@pytest.mark.parametrize(("count", "size"), [(1001, 10), (1_000_000, 0)])
def test_more_keys_than_a_thousand(cluster: Cluster, bucket: str, count: int, size: int) -> None:
    pid = cluster.pid_of("gateway-1")
    before = resident_bytes(pid)
    entries = "".join(f"<Object><Key>{n}{'k' * size}</Key></Object>" for n in range(count))
    answer = delete_objects(cluster, bucket, f"<Delete>{entries}</Delete>".encode())
    assert answer.status == 400
    assert answer.code in ("MalformedXML", "EntityTooLarge")
    assert resident_bytes(pid) < before + 32 * MIB


def test_a_document_without_end_is_refused_by_its_length(cluster: Cluster, bucket: str) -> None:
    """64 MiB of it are announced; 2 MiB and a little are the most that is looked at."""
    pid = cluster.pid_of("gateway-1")
    before = resident_bytes(pid)
    answer = delete_objects(cluster, bucket, b"<Delete>" + b" " * (64 * MIB))
    assert answer.status in (0, 400)  # 0: closed while we were still sending
    assert answer.code in ("", "EntityTooLarge", "MalformedXML")
    assert resident_bytes(pid) < before + 32 * MIB


@pytest.mark.parametrize("query", ["tagging=", "versioning=", "publicAccessBlock="])
def test_bombs_everywhere_a_document_is_read(cluster: Cluster, bucket: str, query: str) -> None:
    document = BOMB.encode() + b"]><Tagging>&e9;</Tagging>"
    digest = b64encode(hashlib.md5(document, usedforsecurity=False).digest()).decode()
    answer = call(cluster, "PUT", f"/{bucket}?{query}", document, [("content-md5", digest)])
    assert (answer.status, answer.code) == (400, "MalformedXML")


def test_no_file_was_opened_by_an_entity(cluster: Cluster, bucket: str, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)  # whoever opens it waits forever
    document = f'<!DOCTYPE b [<!ENTITY e SYSTEM "{pipe.as_uri()}">]><Delete>&e;</Delete>'
    assert delete_objects(cluster, bucket, document.encode()).status == 400
