"""Real tools, unmodified, on a tree of files and on a large one.

Short by default (300 files, 64 MiB). The long form, thousands of files and 1 GiB:
    TEST_CLIENTS=long pytest tests/integration/test_clients*.py
"""

import hashlib
import json
import os
import random
import shutil
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas
import pyarrow
import pytest
import s3fs
from pyarrow import fs as arrow_files
from pyarrow import parquet

from tests.support.cluster import ACCESS_KEY, SECRET_KEY, Cluster

IS_LONG = os.environ.get("TEST_CLIENTS") == "long"
FILES = 3000 if IS_LONG else 300
LARGE_MIB = 1024 if IS_LONG else 64
ONE_BY_ONE_FILES = FILES // 3 if IS_LONG else FILES  # for a tool that takes one after another
SILENCE_S = 900 if IS_LONG else 110
"""A tool that has said nothing for so long hangs; one that names its files may take longer."""
pytestmark = pytest.mark.timeout(4 * SILENCE_S if IS_LONG else 2 * SILENCE_S)


def large_file(path: Path) -> Path:
    """A file of LARGE_MIB that no tool can compress."""
    with path.open("wb") as file:
        for _ in range(LARGE_MIB):
            file.write(os.urandom(1 << 20))
    return path


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tree(root: Path, seed: int = 1, count: int | None = None) -> Path:
    """A tree of files of many sizes; the same for the same seed."""
    source = random.Random(seed)
    for number in range(FILES if count is None else count):
        path = root / f"dir {number % 7}" / f"file-{number}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source.randbytes(source.choice([0, 10, 5_000, 20_000, 300_000])))
    return root


def assert_same(one: Path, other: Path) -> None:
    names = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    found = sorted(path.relative_to(other) for path in other.rglob("*") if path.is_file())
    assert names == found
    for name in names:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


def run(cluster: Cluster, *command: str) -> str:
    """Run a tool to its end; what it said. It may take as long as it goes on saying something."""
    environment = {**cluster.environment, "PYTHONUNBUFFERED": "1"}
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as complaints:
        files = (said, complaints)
        tool = subprocess.Popen(command, env=environment, stdout=said, stderr=complaints)
        seen, seen_s = 0, time.monotonic()
        try:
            while tool.poll() is None:
                size = sum(os.fstat(file.fileno()).st_size for file in files)
                if size != seen:
                    seen, seen_s = size, time.monotonic()
                if time.monotonic() - seen_s > SILENCE_S:
                    raise TimeoutError(f"{command} has said nothing for {SILENCE_S} s")
                with suppress(subprocess.TimeoutExpired):
                    tool.wait(0.5)
        finally:
            tool.kill()
            tool.wait()
        texts = []
        for file in files:
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
    assert tool.returncode == 0, "".join(texts)
    return texts[0]


def need(tool: str) -> str:
    path = shutil.which(tool)
    if path is None:
        pytest.skip(f"{tool} is not installed on this machine; CI installs it")
    return path


def test_aws_cli_sync(cluster: Cluster, bucket: str, tmp_path: Path) -> None:
    source = tree(tmp_path / "source")
    aws = need("aws")
    run(cluster, aws, "s3", "sync", "--no-progress", str(source), f"s3://{bucket}/tree")
    run(cluster, aws, "s3", "sync", "--no-progress", f"s3://{bucket}/tree", str(tmp_path / "back"))
    assert_same(source, tmp_path / "back")
    listed = run(cluster, aws, "s3", "ls", f"s3://{bucket}/tree/").split("\n")
    assert [line.strip() for line in listed if line] == [f"PRE dir {n}/" for n in range(7)]
    again = run(cluster, aws, "s3", "sync", "--no-progress", str(source), f"s3://{bucket}/tree")
    assert again == ""  # nothing is different


def test_aws_cli_copies_a_large_file(cluster: Cluster, bucket: str, tmp_path: Path) -> None:
    aws, path, back = need("aws"), large_file(tmp_path / "large"), tmp_path / "back"
    place = f"s3://{bucket}/large"
    options = ("--no-progress", "--metadata", "colour=blue", "--content-type", "text/x-check")
    run(cluster, aws, "s3", "cp", *options, str(path), place)
    run(cluster, aws, "s3", "cp", "--no-progress", place, str(back))
    assert digest(path) == digest(back)
    head = json.loads(
        run(cluster, aws, "s3api", "head-object", "--bucket", bucket, "--key", "large")
    )
    assert head["Metadata"] == {"colour": "blue"} and head["ContentType"] == "text/x-check"
    assert head["ETag"].split("-")[1] == f'{LARGE_MIB // 8}"'


def test_boto3_transfers_in_parallel_parts(s3: Any, bucket: str, tmp_path: Path) -> None:
    path = large_file(tmp_path / "big")
    extra = {"Metadata": {"colour": "blue"}, "Tagging": "team=red", "ContentType": "text/x-check"}
    s3.upload_file(str(path), bucket, "big", ExtraArgs=extra)
    s3.download_file(bucket, "big", str(tmp_path / "back"))
    assert digest(path) == digest(tmp_path / "back")
    assert s3.head_object(Bucket=bucket, Key="big")["Metadata"] == {"colour": "blue"}
    tags = s3.get_object_tagging(Bucket=bucket, Key="big")["TagSet"]
    assert tags == [{"Key": "team", "Value": "red"}]


def test_rclone_sync_and_check(cluster: Cluster, bucket: str, tmp_path: Path) -> None:
    source = tree(tmp_path / "source", seed=2)
    rclone = need("rclone")
    remote = f":s3,provider=Other,env_auth,endpoint='{cluster.endpoint}',region=us-east-1:{bucket}"
    run(cluster, rclone, "sync", str(source), remote)
    run(cluster, rclone, "check", str(source), remote)
    run(cluster, rclone, "sync", remote, str(tmp_path / "back"))
    assert_same(source, tmp_path / "back")


def test_restic_backup_and_restore(cluster: Cluster, bucket: str, tmp_path: Path) -> None:
    source = tree(tmp_path / "source", seed=3)
    restic = need("restic")
    (tmp_path / "password").write_text("secret")
    repository = ("-r", f"s3:{cluster.endpoint}/{bucket}/restic", "-p", str(tmp_path / "password"))
    run(cluster, restic, *repository, "init")
    run(cluster, restic, *repository, "backup", str(source))
    run(cluster, restic, *repository, "check", "--read-data")
    run(cluster, restic, *repository, "restore", "latest", "--target", str(tmp_path / "back"))
    assert_same(source, tmp_path / "back" / source.relative_to("/"))


def test_s3cmd_round_trip(cluster: Cluster, bucket: str, tmp_path: Path) -> None:
    source = tree(tmp_path / "source", seed=4, count=ONE_BY_ONE_FILES)
    s3cmd = need("s3cmd")
    host = cluster.endpoint.removeprefix("http://")
    options = (
        "-c", os.devnull, "--no-ssl", f"--host={host}", f"--host-bucket={host}",
        f"--access_key={ACCESS_KEY}", f"--secret_key={SECRET_KEY}", "--no-progress",
    )  # fmt: skip
    run(cluster, s3cmd, *options, "sync", f"{source}/", f"s3://{bucket}/x/")
    (tmp_path / "back").mkdir()
    run(cluster, s3cmd, *options, "sync", f"s3://{bucket}/x/", f"{tmp_path}/back/")
    assert_same(source, tmp_path / "back")
    copied, moved = f"s3://{bucket}/copied", f"s3://{bucket}/moved"
    run(cluster, s3cmd, *options, "cp", f"s3://{bucket}/x/dir 0/file-0.bin", copied)
    run(cluster, s3cmd, *options, "mv", copied, moved)
    run(cluster, s3cmd, *options, "modify", "--add-header=Content-Type:text/x-check", moved)
    assert "text/x-check" in run(cluster, s3cmd, *options, "info", moved)


def test_pandas_reads_parquet_by_ranges(cluster: Cluster, bucket: str, tmp_path: Path) -> None:
    frame = pandas.DataFrame({"a": range(100_000), "b": [str(n) for n in range(100_000)]})
    path = tmp_path / "frame.parquet"
    frame.to_parquet(path)
    options = {"key": ACCESS_KEY, "secret": SECRET_KEY, "endpoint_url": cluster.endpoint}
    files = s3fs.S3FileSystem(**options)
    files.put(str(path), f"{bucket}/frame.parquet")
    read = pandas.read_parquet(
        f"s3://{bucket}/frame.parquet", columns=["a"], storage_options=options
    )
    assert read["a"].tolist() == frame["a"].tolist()


def test_pyarrow_files_of_the_cpp_sdk(cluster: Cluster, bucket: str) -> None:
    """Arrow's own file system: uploads in parts, ranges with checksums, folders, deletes."""
    files = arrow_files.S3FileSystem(
        access_key=ACCESS_KEY, secret_key=SECRET_KEY, scheme="http", region="us-east-1",
        endpoint_override=cluster.endpoint.removeprefix("http://"),
    )  # fmt: skip
    table = pyarrow.table({"a": range(100_000), "b": [str(n) for n in range(100_000)]})
    parquet.write_table(table, f"{bucket}/folder/table.parquet", filesystem=files)
    read = parquet.read_table(f"{bucket}/folder/table.parquet", columns=["a"], filesystem=files)
    assert read["a"].to_pylist() == table["a"].to_pylist()
    files.copy_file(f"{bucket}/folder/table.parquet", f"{bucket}/copy")
    everything = arrow_files.FileSelector(bucket, recursive=True)
    paths = {info.path.removeprefix(f"{bucket}/") for info in files.get_file_info(everything)}
    assert paths == {"copy", "folder", "folder/table.parquet"}
    files.delete_dir_contents(bucket)
    assert files.get_file_info(everything) == []
