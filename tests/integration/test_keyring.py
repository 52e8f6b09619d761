"""Master keys: rotated under load, everything wrapped anew, retired, destroyed."""

import json
import os
import secrets
from pathlib import Path
from typing import Any

from tests.support.cluster import START_S, Cluster, wait_for

PART_BYTES = 5 << 20


def keyring(cluster: Cluster, *arguments: str) -> Any:
    return cluster.command("admin", "keyring", *arguments, "--directory", str(cluster.data))


def listed(cluster: Cluster) -> dict[str, Any]:
    done = keyring(cluster, "list")
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def rotate(cluster: Cluster) -> tuple[str, str]:
    """Rotate and wait until nothing needs older keys; the key before and the key now."""
    before = listed(cluster)["active"]
    done = keyring(cluster, "rotate")
    assert done.returncode == 0, done.stderr
    active = done.stdout.removeprefix("active master key: ").strip()

    def is_alone() -> bool:
        needed = {key["id"]: key["needed_for"] for key in listed(cluster)["keys"]}
        return not any(needed[key_id] for key_id in needed if key_id != active)

    wait_for(is_alone, "everything is wrapped by the new key", START_S)
    return before, active


def test_everything_is_wrapped_anew_and_the_old_key_can_go(
    cluster: Cluster, s3: Any, bucket: str
) -> None:
    bodies = {f"k/{size}": os.urandom(size) for size in (0, 100, 20_000, 300_000)}
    for key, body in bodies.items():
        s3.put_object(Bucket=bucket, Key=key, Body=body)
    upload = s3.create_multipart_upload(Bucket=bucket, Key="parts")
    name = {"Bucket": bucket, "Key": "parts", "UploadId": upload["UploadId"]}
    parts = [os.urandom(PART_BYTES), os.urandom(100)]
    etags = [s3.upload_part(**name, PartNumber=1, Body=parts[0])["ETag"]]

    old = listed(cluster)["active"]
    early = keyring(cluster, "retire", old)
    assert early.returncode == 1 and "is active" in early.stderr

    done = keyring(cluster, "rotate", "--prepare")
    prepared = done.stdout.removeprefix("prepared master key: ").strip()
    states = {key["id"]: key["state"] for key in listed(cluster)["keys"]}
    assert (states[old], states[prepared]) == ("active", "prepared")
    assert rotate(cluster) == (old, prepared)
    state = listed(cluster)["pass"]
    assert (state["done"], state["left"]) == (True, {}) and state["rewrapped"] >= len(bodies)
    etags.append(s3.upload_part(**name, PartNumber=2, Body=parts[1])["ETag"])
    s3.complete_multipart_upload(
        **name,
        MultipartUpload={"Parts": [{"PartNumber": n, "ETag": e} for n, e in enumerate(etags, 1)]},
    )
    bodies["parts"] = b"".join(parts)
    unretired = keyring(cluster, "destroy", old, "--yes")
    assert unretired.returncode == 1 and "is old" in unretired.stderr
    for command in (("retire", old), ("destroy", old, "--yes")):
        done = keyring(cluster, *command)
        assert done.returncode == 0, done.stderr
    states = {key["id"]: key["state"] for key in listed(cluster)["keys"]}
    assert old not in states
    keys = json.loads((cluster.data / "keyring.json").read_text())
    assert keys["destroyed"] == [old]
    assert (cluster.data / "keyring.json").stat().st_mode & 0o777 == 0o600
    for key, body in bodies.items():
        assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == body
    wait_for(lambda: "read again" in gateway_log(cluster), "the gateway's new ring", START_S)
    s3.put_object(Bucket=bucket, Key="after", Body=b"a" * 20_000)
    assert s3.get_object(Bucket=bucket, Key="after")["Body"].read() == b"a" * 20_000


def gateway_log(cluster: Cluster) -> str:
    return "".join(path.read_text() for path in (cluster.data / "logs").glob("gateway*.log"))


def test_unknown_keys_and_rings_are_told_in_one_line(cluster: Cluster, tmp_path: Path) -> None:
    done = keyring(cluster, "retire", secrets.token_hex(4))
    assert done.returncode == 1 and "master key" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    done = cluster.command("admin", "keyring", "rotate", "--keyring", str(tmp_path / "none.json"))
    assert done.returncode == 1 and "No such file" in done.stderr
    done = cluster.command("admin", "keyring", "list", "--keyring", str(tmp_path / "none.json"))
    assert done.returncode == 2 and "--keyring needs --control" in done.stderr
