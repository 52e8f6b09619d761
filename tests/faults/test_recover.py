"""All metadata lost: objects come back from their fragments' headers. A lost index: from extents.

Method: a real cluster, stopped; its metadata, or an index, removed; recovered; started again. The
headers' master key has been retired before: nothing but the recovery needs it.
"""

import hashlib
import json
import os
import shutil
from typing import Any

import pytest
from botocore.exceptions import ClientError

from common.keyring import key_id_of
from common.rocks import RocksDatabase
from proto import records_pb2
from tests.support.cluster import START_S, Cluster, wait_for

MIB = 1 << 20


def keys_of(cluster: Cluster) -> dict[str, list[str]]:
    """Master keys, and what each is needed for."""
    done = cluster.command("admin", "keyring", "list", "--directory", str(cluster.data))
    assert done.returncode == 0, done.stderr
    return {key["id"]: key["needed_for"] for key in json.loads(done.stdout)["keys"]}


def needed_keys(cluster: Cluster) -> set[str]:
    return {key_id for key_id, needed_for in keys_of(cluster).items() if needed_for}


def retire_master_key(cluster: Cluster) -> str:
    """Rotate, wait until nothing needs the old key, retire it."""
    [old] = keys_of(cluster)
    for arguments in (("rotate",), ("retire", old)):
        done = cluster.command("admin", "keyring", *arguments, "--directory", str(cluster.data))
        assert done.returncode == 0, done.stderr
        wait_for(lambda: old not in needed_keys(cluster), "all wrapped by the new key", START_S)
    return old


def master_keys_of(cluster: Cluster) -> set[str]:
    """Master keys that rows of the stopped metadata name."""
    found: set[str] = set()
    database = RocksDatabase(cluster.data / "meta")
    try:
        for key, value in database.scan(b"", b"\xff", 100_000):
            if key[:1] == b"v":
                wrapped = records_pb2.Version.FromString(value).encryption.wrapped_key
            elif key[:1] == b"p":
                wrapped = records_pb2.Part.FromString(value).encryption.wrapped_key
            elif key[:1] == b"k":
                wrapped = records_pb2.AccessKey.FromString(value).sealed_secret
            else:
                continue
            if wrapped:
                found.add(key_id_of(wrapped))
    finally:
        database.close()
    assert found
    return found


def put_parts(s3: Any, parts: list[bytes], first: int) -> None:
    """An object of parts whose numbers begin at `first`."""
    upload = s3.create_multipart_upload(Bucket="plain", Key="parts", ContentType="text/x-parts")
    name = {"Bucket": "plain", "Key": "parts", "UploadId": upload["UploadId"]}
    listed = [
        {"PartNumber": n, "ETag": s3.upload_part(**name, PartNumber=n, Body=body)["ETag"]}
        for n, body in enumerate(parts, first)
    ]
    s3.complete_multipart_upload(**name, MultipartUpload={"Parts": listed})


def test_a_namespace_comes_back_from_headers(cluster: Cluster) -> None:
    s3 = cluster.s3()
    for name in ("plain", "versions"):
        s3.create_bucket(Bucket=name)
    s3.put_bucket_versioning(Bucket="versions", VersioningConfiguration={"Status": "Enabled"})
    bodies = {f"a/{size}": os.urandom(size) for size in (20_000, 300_000, 5 * MIB + 17)}
    for key, body in bodies.items():
        s3.put_object(
            Bucket="plain", Key=key, Body=body, ContentType="image/png", CacheControl="no-cache",
            Metadata={"who": "me"},
        )  # fmt: skip
    s3.put_object(Bucket="plain", Key="small", Body=b"inline")
    for body in (b"1" * 20_000, b"2" * 20_000):
        s3.put_object(Bucket="versions", Key="key", Body=body)
    parts = [os.urandom(5 * MIB), os.urandom(3 * MIB)]
    put_parts(s3, parts, first=3)
    before = {key: s3.head_object(Bucket="plain", Key=key) for key in (*bodies, "parts")}
    old = retire_master_key(cluster)
    cluster.stop()
    assert old not in master_keys_of(cluster)
    shutil.rmtree(cluster.data / "meta")
    shutil.rmtree(cluster.data / "zone-2")  # and a disk
    refused = cluster.command("recover", "namespace", "--directory", str(cluster.data))
    assert refused.returncode == 1 and "recover metadata" in refused.stderr
    arguments = ("recover", "namespace", "--directory", str(cluster.data), "--set-journal-aside")
    done = cluster.command(*arguments)
    assert done.returncode == 0, done.stderr
    assert "2 buckets, 6 versions, 2 parts" in done.stdout
    again = cluster.command(*arguments)
    assert again.returncode == 1 and "not empty" in again.stderr
    cluster.start()
    s3 = cluster.s3()
    for key, body in (*bodies.items(), ("parts", b"".join(parts))):
        got = s3.get_object(Bucket="plain", Key=key)
        assert got["Body"].read() == body, key
        for field in ("ETag", "ContentType", "Metadata", "ContentLength"):
            assert got[field] == before[key][field], (key, field)
        assert got.get("CacheControl") == before[key].get("CacheControl")
    with pytest.raises(ClientError, match="404"):
        s3.head_object(Bucket="plain", Key="small")
    listed = s3.list_object_versions(Bucket="versions")["Versions"]
    assert [entry["IsLatest"] for entry in listed] == [True, False]
    texts = [
        s3.get_object(Bucket="versions", Key="key", VersionId=entry["VersionId"])["Body"].read()[:1]
        for entry in listed
    ]
    assert texts == [b"2", b"1"]
    assert s3.get_bucket_versioning(Bucket="versions")["Status"] == "Enabled"
    s3.put_object(Bucket="plain", Key="new", Body=b"n" * 20_000)
    s3.delete_object(Bucket="plain", Key="parts")
    wait_for(lambda: old not in needed_keys(cluster), "all wrapped by the new key", START_S)
    cluster.stop()
    assert old not in master_keys_of(cluster)


def test_an_index_comes_back_from_extents(cluster: Cluster) -> None:
    s3 = cluster.s3()
    s3.create_bucket(Bucket="bucket")
    digests = {}
    for number in range(20):
        body = os.urandom(40_000)
        s3.put_object(Bucket="bucket", Key=str(number), Body=body)
        digests[str(number)] = hashlib.sha256(body).hexdigest()
    running = cluster.command(
        "recover", "disk", "--directory", str(cluster.data), "--zone", "zone-3"
    )
    assert running.returncode == 1 and "stop it first" in running.stderr
    path = cluster.command("recover", "disk", "--path", str(cluster.data / "zone-3"))
    assert path.returncode == 1 and "has it open" in path.stderr
    cluster.stop()
    shutil.rmtree(cluster.data / "zone-3" / "index")
    for file in [*(cluster.data / "zone-4" / "index").glob("MANIFEST*")]:
        raw = bytearray(file.read_bytes())
        raw[len(raw) // 2] ^= 0xFF
        file.write_bytes(raw)
    for zone in ("zone-3", "zone-4"):
        done = cluster.command("recover", "disk", "--directory", str(cluster.data), "--zone", zone)
        assert done.returncode == 0 and " fragments (" in done.stdout, done.stdout + done.stderr
    cluster.start()
    wait_for(lambda: cluster.status()["state"] == "healthy", "health")
    done = cluster.command("fsck", "--data", "--directory", str(cluster.data))
    assert done.returncode == 0, done.stdout + done.stderr
    for key, digest in digests.items():
        body = s3.get_object(Bucket="bucket", Key=key)["Body"].read()
        assert hashlib.sha256(body).hexdigest() == digest
