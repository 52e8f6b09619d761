"""What integration tests share: refusals by code and status, raw signed requests, node counters."""

import base64
import hashlib
import http.client
import re
import tomllib
import urllib.request
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from tests.support.cluster import ACCESS_KEY, REGION, SECRET_KEY, Cluster

MIB = 1024 * 1024
HTTP_TIMEOUT_S = 20
UNSIGNED = "UNSIGNED-PAYLOAD"


def refused(code: str, status: int, call: Callable[..., Any], **arguments: Any) -> dict[str, str]:
    """Check that a boto3 call is refused with a code and status; returns the answer's headers."""
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    answer = caught.value.response
    found = (answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"])
    assert found == (code, status), answer
    headers: dict[str, str] = answer["ResponseMetadata"]["HTTPHeaders"]
    return headers


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer as it came."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """The code of an error document."""
        found = re.search(b"<Code>([A-Za-z0-9]+)</Code>", self.body)
        return found[1].decode() if found else ""


def send(  # noqa: PLR0913 - the parts of a request
    cluster: Cluster, method: str, target: str, headers: dict[str, str] | None = None,
    body: bytes = b"", *, host: str = "",
) -> Answer:  # fmt: skip
    """Send a request as it is."""
    connection = http.client.HTTPConnection("127.0.0.1", cluster.port, timeout=HTTP_TIMEOUT_S)
    try:
        more = {"Host": host} if host else {}
        connection.request(method, target, body=body or None, headers=(headers or {}) | more)
        reply = connection.getresponse()
        shown = {name.lower(): value for name, value in reply.getheaders()}
        return Answer(reply.status, shown, reply.read())
    finally:
        connection.close()


def send_signed(  # noqa: PLR0913 - the parts of a request
    cluster: Cluster, method: str, target: str, headers: dict[str, str] | None = None,
    body: bytes = b"", *, host: str = "", key: tuple[str, str] = (ACCESS_KEY, SECRET_KEY),
) -> Answer:  # fmt: skip
    """Send a request that botocore's signer has signed; for what no boto3 method sends."""
    shown_host = host or f"127.0.0.1:{cluster.port}"
    given = dict(headers or {})
    digest = given.pop("x-amz-content-sha256", hashlib.sha256(body).hexdigest())
    request = AWSRequest(method, f"http://{shown_host}{target}", data=body, headers=given)
    signer = S3SigV4Auth(Credentials(*key), "s3", REGION)
    signer.payload = lambda _: digest
    signer.add_auth(request)
    return send(cluster, method, target, dict(request.headers.items()), body, host=shown_host)


def with_md5(body: bytes) -> dict[str, str]:
    """The header that says a body's MD5."""
    return {"Content-MD5": base64.b64encode(hashlib.md5(body).digest()).decode()}


def presigned(client: Any, method: str, **options: Any) -> str:
    """The target of a presigned URL of a client's method."""
    expires = options.pop("ExpiresIn", 3600)
    url: str = client.generate_presigned_url(method, Params=options, ExpiresIn=expires)
    return "/" + url.split("/", 3)[3]


def node_bytes_read(cluster: Cluster, away: Iterable[str] = ()) -> int:
    """Fragment bytes that all nodes but those away have handed out since they were started."""
    total = 0
    for path in sorted((cluster.data / "config").glob("node-*.toml")):
        if path.stem in away:
            continue
        port = tomllib.loads(path.read_text())["admin_port"]
        address = f"http://127.0.0.1:{port}/metrics"
        with urllib.request.urlopen(address, timeout=HTTP_TIMEOUT_S) as reply:
            text = reply.read().decode()
        samples = re.findall(r"^ostraka_disk_bytes_read\{[^}]*\} ([0-9.e+]+)$", text, re.MULTILINE)
        assert samples, "a node counts what it hands out"
        total += sum(int(float(sample)) for sample in samples)
    return total


def upload(s3: Any, bucket: str, key: str, parts: dict[int, bytes], **options: Any) -> Any:
    """Begin a multipart upload and send parts; returns its id and the list to complete it with."""
    upload_id = s3.create_multipart_upload(Bucket=bucket, Key=key, **options)["UploadId"]
    listed = []
    algorithm = {n: v for n, v in options.items() if n == "ChecksumAlgorithm"}
    for number, data in parts.items():
        reply = s3.upload_part(
            Bucket=bucket, Key=key, UploadId=upload_id, PartNumber=number, Body=data, **algorithm
        )
        listed.append({"PartNumber": number, "ETag": reply["ETag"]})
    return upload_id, sorted(listed, key=lambda part: part["PartNumber"])


def complete(
    s3: Any, bucket: str, key: str, upload_id: str, parts: list[Any], **options: Any
) -> Any:
    """Complete a multipart upload."""
    return s3.complete_multipart_upload(
        Bucket=bucket, Key=key, UploadId=upload_id, MultipartUpload={"Parts": parts}, **options
    )


def enable_versioning(s3: Any, bucket: str, status: str = "Enabled") -> None:
    """Set a bucket's versioning state."""
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": status})
