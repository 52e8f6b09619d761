"""All metadata lost: objects come back from their fragments' headers. A lost index: from extents.

Method: a real cluster, stopped; its metadata, or an index, removed; recovered; started again.
"""

import hashlib
import os
import shutil

import pytest
from botocore.exceptions import ClientError

from tests.support.cluster import Cluster, wait_for

MIB = 1 << 20


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
    upload = s3.create_multipart_upload(Bucket="plain", Key="parts", ContentType="text/x-parts")
    name = {"Bucket": "plain", "Key": "parts", "UploadId": upload["UploadId"]}
    etags = [
        s3.upload_part(**name, PartNumber=number, Body=body)["ETag"]
        for number, body in enumerate(parts, 3)
    ]
    s3.complete_multipart_upload(
        **name,
        MultipartUpload={
            "Parts": [{"PartNumber": n, "ETag": etag} for n, etag in enumerate(etags, 3)]
        },
    )
    before = {key: s3.head_object(Bucket="plain", Key=key) for key in (*bodies, "parts")}
    cluster.stop()
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
