"""Where backups are kept: names, bytes, and signatures as another signer makes them."""

import datetime
from pathlib import Path

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from cli import backup_store
from cli.backup_store import FolderStore, S3Place, sign
from common import faults

PLACE = S3Place("http://host:9000", "eu-west-1", "AKEXAMPLE", "secret/key+", "bucket", "a/")


def test_folder_keeps_what_was_put(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "new")
    assert store.list() == []
    store.put("one/part", b"1")
    store.put("one/manifest", b"2")
    store.put("one/part", b"3")
    assert store.list() == ["one/manifest", "one/part"]
    assert store.get("one/part") == b"3"
    assert (tmp_path / "new" / "one" / "part").stat().st_mode & 0o077 == 0
    with pytest.raises(faults.NotFound):
        store.get("two")


@pytest.mark.parametrize(
    ("method", "path", "query", "body"),
    [
        ("PUT", "/bucket/a/b-1/part-000001", "", b"data"),
        ("GET", "/bucket", "continuation-token=a%2Fb%3D&list-type=2&prefix=a%2F", b""),
    ],
)
def test_signatures_are_those_of_another_signer(
    monkeypatch: pytest.MonkeyPatch, method: str, path: str, query: str, body: bytes
) -> None:
    moment = datetime.datetime(2026, 11, 24, 21, 0, 0, tzinfo=datetime.UTC)

    class Clock(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:
            return moment

    monkeypatch.setattr(backup_store, "datetime", Clock)
    ours = sign(PLACE, method, ("host:9000", path, query), body)
    url = f"http://host:9000{path}" + (f"?{query}" if query else "")
    request = AWSRequest(method, url, data=body, headers={
        "x-amz-content-sha256": ours["x-amz-content-sha256"],
    })  # fmt: skip
    request.context["timestamp"] = ours["x-amz-date"]
    request.headers["X-Amz-Date"] = ours["x-amz-date"]
    signer = S3SigV4Auth(Credentials("AKEXAMPLE", "secret/key+"), "s3", "eu-west-1")
    text = signer.string_to_sign(request, signer.canonical_request(request))
    assert ours["Authorization"].endswith(f"Signature={signer.signature(text, request)}")
