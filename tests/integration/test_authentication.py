"""Who may speak: signatures in header, query and form, their ends and their errors."""

from typing import Any

import boto3
import pytest
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials

from tests.support.cluster import ACCESS_KEY, REGION, SECRET_KEY, Cluster, wait_for
from tests.support.s3 import presigned, refused, send, send_signed


def test_wrong_secret_and_unknown_key_are_403(cluster: Cluster) -> None:
    refused("SignatureDoesNotMatch", 403, cluster.s3(ACCESS_KEY, "wrong").list_buckets)
    refused("InvalidAccessKeyId", 403, cluster.s3("OSTKTESTNOBODY000001", "wrong").list_buckets)


@pytest.mark.parametrize("date", ["20200101T000000Z", "20990101T000000Z"])
def test_clock_that_is_off_is_403(cluster: Cluster, date: str) -> None:
    authorization = (
        f"AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/{date[:8]}/us-east-1/s3/aws4_request, "
        f"SignedHeaders=host;x-amz-content-sha256;x-amz-date, Signature={'0' * 64}"
    )
    headers = {"authorization": authorization, "x-amz-date": date}
    answer = send(cluster, "GET", "/", headers | {"x-amz-content-sha256": "UNSIGNED-PAYLOAD"})
    assert (answer.status, answer.code) == (403, "RequestTimeTooSkewed")


@pytest.fixture(scope="module")
def signer(cluster: Cluster) -> Any:
    """A client whose presigned URLs are of version 4."""
    return cluster.s3(signature_version="s3v4")


def test_presigned_url_is_good_for_one_method_and_key(
    cluster: Cluster, signer: Any, bucket: str
) -> None:
    put = presigned(signer, "put_object", Bucket=bucket, Key="k")
    assert send(cluster, "PUT", put, body=b"data").status == 200
    get = presigned(signer, "get_object", Bucket=bucket, Key="k")
    assert send(cluster, "GET", get).body == b"data"
    assert send(cluster, "GET", put).code == "SignatureDoesNotMatch"
    other = put.replace("/k?", "/l?")
    assert send(cluster, "PUT", other, body=b"x").code == "SignatureDoesNotMatch"


@pytest.mark.parametrize("expires", ["604801", "-1", "soon"])
def test_presigned_url_has_a_longest_life(
    cluster: Cluster, signer: Any, bucket: str, expires: str
) -> None:
    target = presigned(signer, "list_objects_v2", Bucket=bucket, ExpiresIn=604_800)
    assert send(cluster, "GET", target).status == 200
    longer = target.replace("X-Amz-Expires=604800", f"X-Amz-Expires={expires}")
    answer = send(cluster, "GET", longer)
    assert (answer.status, answer.code) == (400, "AuthorizationQueryParametersError")


def test_presigned_url_ends(cluster: Cluster, signer: Any, bucket: str) -> None:
    target = presigned(signer, "list_objects_v2", Bucket=bucket, ExpiresIn=1)
    wait_for(lambda: send(cluster, "GET", target).status == 403, "the end of the URL")
    answer = send(cluster, "GET", target)
    assert answer.code == "AccessDenied"
    assert b"Request has expired" in answer.body


@pytest.mark.parametrize("virtual", [False, True])
def test_presigned_urls_of_version_2(cluster: Cluster, s3: Any, bucket: str, virtual: bool) -> None:
    """What boto3 and the aws CLI make for an endpoint of one's own, unless told otherwise."""
    style = "virtual" if virtual else "path"
    client = cluster.s3(signature_version="s3", s3={"addressing_style": style})
    host = f"{bucket}.s3.localhost:{cluster.port}" if virtual else ""
    if virtual:
        client = boto3.client(
            "s3", endpoint_url=f"http://s3.localhost:{cluster.port}", region_name=REGION,
            aws_access_key_id=ACCESS_KEY, aws_secret_access_key=SECRET_KEY,
            config=Config(signature_version="s3", s3={"addressing_style": "virtual"}),
        )  # fmt: skip
    name = {"Bucket": bucket, "Key": "a b/\u00e9+"}
    put = presigned(client, "put_object", **name, Metadata={"a": "b c"}, ContentType="text/x")
    assert "AWSAccessKeyId=" in put
    assert send(cluster, "PUT", put, body=b"data", host=host).status == 200
    head = s3.head_object(**name)
    assert (head["Metadata"], head["ContentType"]) == ({"a": "b c"}, "text/x")
    get = presigned(client, "get_object", **name, ResponseContentType="text/y")
    answer = send(cluster, "GET", get, host=host)
    assert (answer.body, answer.headers["content-type"]) == (b"data", "text/y")
    other_key = get.replace("a%20b", "a%20c")
    assert send(cluster, "GET", other_key, host=host).code == "SignatureDoesNotMatch"
    assert send(cluster, "PUT", get, host=host).code == "SignatureDoesNotMatch"
    listing = presigned(client, "list_objects_v2", Bucket=bucket, Prefix="a")
    assert b"<KeyCount>1</KeyCount>" in send(cluster, "GET", listing, host=host).body
    ended = presigned(client, "get_object", **name, ExpiresIn=-10)
    assert b"Request has expired" in send(cluster, "GET", ended, host=host).body
    assert (
        send(cluster, "DELETE", presigned(client, "delete_object", **name), host=host).status == 204
    )


def test_headers_that_travel_in_a_presigned_url_count(
    cluster: Cluster, s3: Any, signer: Any, bucket: str
) -> None:
    """As signers of several SDKs write them: x-amz- headers hoisted into the query."""

    def url(key: str, more: str) -> str:
        request = AWSRequest("PUT", f"{cluster.endpoint}/{bucket}/{key}?{more}")
        S3SigV4QueryAuth(Credentials(ACCESS_KEY, SECRET_KEY), "s3", REGION, 60).add_auth(request)
        return "/" + str(request.url).split("/", 3)[3]

    more = "x-amz-meta-a=b%20c&x-amz-tagging=t%3Du&x-id=PutObject"
    assert send(cluster, "PUT", url("k", more), body=b"x").status == 200
    assert s3.head_object(Bucket=bucket, Key="k")["Metadata"] == {"a": "b c"}
    tags = s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"]
    assert tags == [{"Key": "t", "Value": "u"}]
    wrong = url("k", "x-amz-checksum-crc32=AAAAAA%3D%3D&x-amz-sdk-checksum-algorithm=CRC32")
    assert send(cluster, "PUT", wrong, body=b"x").code == "BadDigest"
    assert send(cluster, "PUT", url("k", "x-amz-acl=public-read"), body=b"x").status == 400
    source = url("copy", f"x-amz-copy-source={bucket}%2Fk")
    assert b"<CopyObjectResult" in send(cluster, "PUT", source).body
    assert s3.get_object(Bucket=bucket, Key="copy")["Body"].read() == b"x"


@pytest.mark.parametrize("scheme", ["signed chunks", "unsigned trailer"])
def test_streamed_uploads_are_verified(s3: Any, bucket: str, scheme: str) -> None:
    algorithm = "CRC32" if scheme == "signed chunks" else "SHA256"
    s3.put_object(Bucket=bucket, Key="k", Body=b"x" * 200_000, ChecksumAlgorithm=algorithm)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"x" * 200_000


@pytest.mark.parametrize(
    ("sent", "key"),
    [("a%2Fb", "a/b"), ("%c3%a9%2f", "é/"), ("%41%7e", "A~"), ("1+1", "1+1"), ("%252F", "%2F")],
)
def test_odd_encodings_of_a_path_name_the_same_key(
    cluster: Cluster, s3: Any, bucket: str, sent: str, key: str
) -> None:
    target = f"/{bucket}/{sent}"
    assert send_signed(cluster, "PUT", target, body=b"x").status == 200
    assert [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]] == [key]
    assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == b"x"
    unsigned = {"x-amz-content-sha256": "UNSIGNED-PAYLOAD"}
    assert send_signed(cluster, "PUT", target, unsigned, b"y").status == 200
    assert send_signed(cluster, "GET", target).body == b"y"


def test_anonymous_is_403(cluster: Cluster, s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    for method, target in (("GET", "/"), ("GET", f"/{bucket}"), ("GET", f"/{bucket}/k"),
                           ("PUT", f"/{bucket}/k"), ("DELETE", f"/{bucket}/k")):  # fmt: skip
        assert send(cluster, method, target).code == "AccessDenied"


def form(s3: Any, bucket: str, key: str, fields: dict[str, str], body: bytes) -> tuple[bytes, str]:
    """A browser's upload with a policy that boto3 has signed."""
    conditions: list[Any] = [{name: value} for name, value in fields.items()]
    conditions.append(["content-length-range", 1, 1000])
    post = s3.generate_presigned_post(bucket, key, Fields=dict(fields), Conditions=conditions)
    parts = [
        f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in post["fields"].items()
    ]
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="f.txt"\r\n\r\n'
    return b"".join([*parts, head, body, b"\r\n--b--\r\n"]), "multipart/form-data; boundary=b"


def test_browser_form_uploads(cluster: Cluster, s3: Any, bucket: str) -> None:
    fields = {"x-amz-meta-m": "1", "success_action_status": "201", "Content-Type": "text/plain"}
    body, kind = form(s3, bucket, "up/${filename}", fields, b"from a browser")
    answer = send(cluster, "POST", f"/{bucket}", {"content-type": kind}, body)
    assert answer.status == 201, answer.body
    assert b"<Key>up/f.txt</Key>" in answer.body
    got = s3.get_object(Bucket=bucket, Key="up/f.txt")
    assert (got["Body"].read(), got["Metadata"], got["ContentType"]) == (
        b"from a browser", {"m": "1"}, "text/plain",
    )  # fmt: skip


EXTRA_FIELD = b'name="x-amz-meta-n"\r\n\r\n1\r\n--b\r\nContent-Disposition: form-data; '


@pytest.mark.parametrize(
    ("body", "changed", "code"),
    [
        (b"", b"", "EntityTooSmall"),
        (b"x" * 1001, b"", "EntityTooLarge"),
        (b"x", EXTRA_FIELD, "AccessDenied"),
    ],
)
def test_browser_form_against_its_policy_is_refused(
    cluster: Cluster, s3: Any, bucket: str, body: bytes, changed: bytes, code: str
) -> None:
    data, kind = form(s3, bucket, "k", {}, body)
    data = data.replace(b'name="key"', changed + b'name="key"')
    answer = send(cluster, "POST", f"/{bucket}", {"content-type": kind}, data)
    assert answer.code == code
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


@pytest.mark.parametrize(
    ("field", "value", "answer"),
    [
        ("x-amz-object-lock-legal-hold", "ON", (501, "NotImplemented")),
        ("x-amz-website-redirect-location", "/x", (501, "NotImplemented")),
        ("x-amz-grant-read", "id=x", (501, "NotImplemented")),
        ("x-amz-security-token", "t", (400, "InvalidToken")),
        ("x-amz-checksum-sha256", "bm9uZQ==", (400, "InvalidRequest")),
        ("x-amz-checksum-crc32", "AAAAAA==", (400, "BadDigest")),
        ("x-amz-checksum-crc32", "jNwWgw==", (204, "")),
    ],
)
def test_no_field_of_a_form_is_passed_over(  # noqa: PLR0913 - drawn, not called
    cluster: Cluster, s3: Any, bucket: str, field: str, value: str, answer: tuple[int, str]
) -> None:
    data, kind = form(s3, bucket, "k", {field: value}, b"x")
    got = send(cluster, "POST", f"/{bucket}", {"content-type": kind}, data)
    assert (got.status, got.code) == answer, got.body
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == (answer[0] == 204)


def test_form_with_a_changed_policy_is_403(cluster: Cluster, s3: Any, bucket: str) -> None:
    data, kind = form(s3, bucket, "k", {}, b"x")
    at = data.index(b'name="policy"\r\n\r\n') + 17
    forged = data[:at] + (b"A" if data[at : at + 1] != b"A" else b"B") + data[at + 1 :]
    answer = send(cluster, "POST", f"/{bucket}", {"content-type": kind}, forged)
    assert answer.status == 403
