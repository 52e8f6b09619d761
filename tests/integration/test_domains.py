"""Virtual-hosted buckets of several domains, path style beside them, and hosts that nobody knows.

Method: boto3 with virtual addressing, its look-ups led to the cluster; raw requests with the Host
headers that no client library makes, signed over that host.
"""

import secrets
import socket
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.support.cluster import ACCESS_KEY, REGION, SECRET_KEY, Cluster
from tests.support.s3 import presigned, send, send_signed

DOMAINS = ("s3.localhost", "eu.s3.localhost", "objects.test")


@pytest.fixture
def names_lead_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hosts of the domains are this machine."""
    look_up = socket.getaddrinfo

    def here(host: Any, *arguments: Any, **options: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else str(host)
        is_ours = any(name == domain or name.endswith("." + domain) for domain in DOMAINS)
        return look_up("127.0.0.1" if is_ours else host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", here)


def client(cluster: Cluster, domain: str, style: str = "virtual") -> Any:
    return boto3.client(
        "s3",
        endpoint_url=f"http://{domain}:{cluster.port}",
        region_name=REGION,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        config=Config(
            s3={"addressing_style": style},
            signature_version="s3v4",
            retries={"total_max_attempts": 1},
        ),
    )


def hosts_of(s3: Any) -> list[str]:
    """Hosts that a client sends to from now on."""
    seen: list[str] = []
    s3.meta.events.register(
        "before-send.s3", lambda request, **_: seen.append(request.url.split("/")[2])
    )
    return seen


@pytest.mark.usefixtures("names_lead_here")
@pytest.mark.parametrize("domain", DOMAINS)
def test_boto3_with_virtual_addressing(cluster: Cluster, domain: str) -> None:
    s3, bucket = client(cluster, domain), f"virtual-{secrets.token_hex(6)}"
    hosts = hosts_of(s3)
    s3.create_bucket(Bucket=bucket)
    key, body = "a folder/\u00e9+%2F", b"x" * 20_000
    s3.put_object(Bucket=bucket, Key=key, Body=body)
    assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == body
    s3.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": key})
    listed = s3.list_objects_v2(Bucket=bucket)["Contents"]
    assert {entry["Key"] for entry in listed} == {key, "copy"}
    assert set(hosts) == {f"{bucket}.{domain}:{cluster.port}"}
    hosts.clear()
    assert bucket in [entry["Name"] for entry in s3.list_buckets()["Buckets"]]
    assert hosts == [f"{domain}:{cluster.port}"]
    in_path = client(cluster, domain, "path")
    hosts = hosts_of(in_path)
    assert in_path.get_object(Bucket=bucket, Key=key)["Body"].read() == body
    assert hosts == [f"{domain}:{cluster.port}"]
    for other in DOMAINS:
        assert client(cluster, other).head_object(Bucket=bucket, Key="copy")["ContentLength"]
    deleted = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key}, {"Key": "copy"}]})
    assert len(deleted["Deleted"]) == 2
    s3.delete_bucket(Bucket=bucket)
    with pytest.raises(ClientError, match="404"):
        s3.head_bucket(Bucket=bucket)


@pytest.mark.usefixtures("names_lead_here")
def test_presigned_url_of_a_virtual_host(cluster: Cluster, bucket: str) -> None:
    s3 = client(cluster, "objects.test")
    host = f"{bucket}.objects.test:{cluster.port}"
    put = presigned(s3, "put_object", Bucket=bucket, Key="a/b c")
    assert put.startswith("/a/b%20c?")
    assert send(cluster, "PUT", put, body=b"x", host=host).status == 200
    get = presigned(s3, "get_object", Bucket=bucket, Key="a/b c")
    assert send(cluster, "GET", get, host=host).body == b"x"
    elsewhere = send(cluster, "GET", get, host=f"{bucket}.s3.localhost:{cluster.port}")
    assert elsewhere.code == "SignatureDoesNotMatch"


@pytest.mark.parametrize(
    "host",
    [
        "{bucket}.s3.localhost", "{bucket}.objects.test:80", "{bucket}.eu.s3.localhost:{port}",
        "{bucket}.OBJECTS.test", "{bucket}.s3.localhost.",
    ],
)  # fmt: skip
def test_the_host_names_the_bucket_however_it_is_written(
    cluster: Cluster, s3: Any, bucket: str, host: str
) -> None:
    shown = host.format(bucket=bucket, port=cluster.port)
    as_sent = {"Host": shown}  # the signer would write it otherwise
    assert send_signed(cluster, "PUT", "/a/b", as_sent, b"x", host=shown).status == 200
    assert s3.get_object(Bucket=bucket, Key="a/b")["Body"].read() == b"x"
    assert b"<Key>a/b</Key>" in send_signed(cluster, "GET", "/", as_sent, host=shown).body


@pytest.mark.parametrize("host", ["elsewhere.test", "192.0.2.1:9000", "[::1]:9000", "objects.test"])
def test_any_other_host_is_path_style(cluster: Cluster, bucket: str, host: str) -> None:
    assert send_signed(cluster, "PUT", f"/{bucket}/k", body=b"x", host=host).status == 200
    assert send_signed(cluster, "GET", f"/{bucket}/k", host=host).body == b"x"
    assert b"<Name>" + bucket.encode() in send_signed(cluster, "GET", "/", host=host).body


def test_a_bucket_of_an_unknown_domain_is_not_taken_from_the_host(
    cluster: Cluster, bucket: str
) -> None:
    answer = send_signed(cluster, "GET", "/k", host=f"{bucket}.elsewhere.test")
    assert (answer.status, answer.code) == (404, "NoSuchBucket")  # of a bucket called k


@pytest.mark.usefixtures("names_lead_here")
def test_a_bucket_with_dots(cluster: Cluster, s3: Any) -> None:
    bucket = f"my.dotted.{secrets.token_hex(6)}"
    s3.create_bucket(Bucket=bucket)
    for domain in DOMAINS:
        host = f"{bucket}.{domain}:{cluster.port}"
        assert send_signed(cluster, "PUT", f"/{domain}", body=b"x", host=host).status == 200
        assert client(cluster, domain).head_object(Bucket=bucket, Key=domain)["ContentLength"] == 1
    assert [entry["Key"] for entry in s3.list_objects(Bucket=bucket)["Contents"]] == sorted(DOMAINS)


def test_a_domain_within_another_is_no_bucket(cluster: Cluster, s3: Any) -> None:
    """`eu.s3.localhost` is a domain, though it could be bucket `eu` of `s3.localhost`."""
    host = f"eu.s3.localhost:{cluster.port}"
    assert b"<ListAllMyBucketsResult" in send_signed(cluster, "GET", "/", host=host).body


def test_a_signature_is_good_for_its_host_only(cluster: Cluster, bucket: str) -> None:
    host = f"{bucket}.s3.localhost"
    assert send_signed(cluster, "GET", "/nothing", host=host).code == "NoSuchKey"
    assert send_signed(cluster, "GET", "/nothing", host="absent-bucket.s3.localhost").code == (
        "NoSuchBucket"
    )
