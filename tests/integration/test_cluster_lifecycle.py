"""The life of a local cluster by its commands: up, status, down, up again; what users get wrong.

Method: real processes on a cluster of one zone and one gateway (four processes), a folder and a
port each; what a test starts it stops, and nothing may be left.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from cli.lifeline import processes_of
from cli.ports import free_port
from tests.support.cluster import START_S, Cluster, wait_for

PROCESS_KEYS = {"role", "name", "zone", "pid", "address", "state"}


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Cluster]:
    """A cluster that is not started; stopped at the end whatever a test did."""
    cluster = Cluster(tmp_path, zones=1)
    yield cluster
    cluster.command("down", "--directory", str(cluster.data))
    assert left_of(cluster) == []


def left_of(cluster: Cluster) -> list[int]:
    return processes_of(cluster.data / "config")


def up(cluster: Cluster, *options: str) -> "subprocess.CompletedProcess[str]":
    return cluster.command(
        "up", "--directory", str(cluster.data), "--port", str(cluster.port), "--detach",
        "--gateways", "1", *options,
    )  # fmt: skip


def root_key(cluster: Cluster) -> dict[str, str]:
    """The key pair that the cluster made up."""
    text = (cluster.data / "credentials.toml").read_text()
    key: dict[str, str] = tomllib.loads(text)["accounts"][0]["keys"][0]
    return key


def root_client(cluster: Cluster) -> Any:
    """A client with that key pair."""
    key = root_key(cluster)
    return boto3.client(
        "s3", endpoint_url=cluster.endpoint, region_name="us-east-1",
        aws_access_key_id=key["access_key"], aws_secret_access_key=key["secret_key"],
    )  # fmt: skip


def in_foreground(cluster: Cluster) -> "subprocess.Popen[str]":
    """`ostraka up` as a user starts it, once it has said that it is up."""
    process = subprocess.Popen(
        [sys.executable, "-m", "cli.main", "up", "--directory", str(cluster.data),
         "--port", str(cluster.port), "--zones", "1", "--gateways", "1"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    first = process.stdout.readline()
    assert first == f"Ostraka is up at {cluster.endpoint}\n", first + process.stdout.read()
    return process


def test_up_status_down_and_up_again(small: Cluster) -> None:
    done = up(small, "--zones", "1")
    assert done.returncode == 0, done.stderr
    key = root_key(small)
    for told in (small.endpoint, *key.values(), "metadata lives on one disk"):
        assert told in done.stdout
    s3 = root_client(small)
    s3.create_bucket(Bucket="kept")
    s3.put_object(Bucket="kept", Key="small", Body=b"inline")
    s3.put_object(Bucket="kept", Key="large", Body=bytes(3 << 20))

    picture = small.status()
    assert picture["state"] == "healthy" and picture["endpoint"] == small.endpoint
    roles = [process["role"] for process in picture["processes"]]
    assert roles == ["metaservice", "storagenode", "workers", "gateway"]
    for process in picture["processes"]:
        assert set(process) == PROCESS_KEYS
        assert process["state"] == "running" and Path(f"/proc/{process['pid']}").exists()
    addresses = [process["address"] for process in picture["processes"]]

    small.stop()
    assert left_of(small) == []
    done = small.command("status", "--directory", str(small.data), "--json")
    picture = json.loads(done.stdout)
    assert (done.returncode, picture["state"]) == (1, "stopped")
    assert {(p["pid"], p["state"]) for p in picture["processes"]} == {(None, "stopped")}
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", small.port), 1).close()

    done = up(small)
    assert done.returncode == 0, done.stderr
    assert key["secret_key"] in done.stdout
    assert s3.get_object(Bucket="kept", Key="small")["Body"].read() == b"inline"
    assert s3.get_object(Bucket="kept", Key="large")["Body"].read() == bytes(3 << 20)
    assert [process["address"] for process in small.status()["processes"]] == addresses


def test_secrets_are_in_no_log_and_no_argument(small: Cluster) -> None:
    done = up(small, "--zones", "1", "--bootstrap", str(small.folder / "bootstrap.toml"))
    assert done.returncode == 0, done.stderr
    small.s3().list_buckets()
    keys = json.loads((small.data / "keyring.json").read_text())["keys"]
    bootstrap = tomllib.loads((small.folder / "bootstrap.toml").read_text())
    secrets = [key["key"] for key in keys] + [(small.data / "secret").read_text()]
    secrets += [key["secret_key"] for a in bootstrap["accounts"] for key in a["keys"]]
    shown = [path.read_text() for path in (small.data / "logs").glob("*.log")]
    shown += [path.read_text() for path in (small.data / "config").glob("*.toml")]
    shown += [(small.data / "run" / "state.json").read_text()]
    for pid in left_of(small):
        shown += [Path(f"/proc/{pid}/{name}").read_text() for name in ("cmdline", "environ")]
    assert len(shown) > 12
    assert not [secret for secret in secrets for text in shown if secret in text]
    for name in ("keyring.json", "secret", "cluster.json"):
        assert (small.data / name).stat().st_mode & 0o077 == 0


def test_bootstrap_applied_again_changes_nothing(small: Cluster) -> None:
    file = small.folder / "bootstrap.toml"
    pictures = []
    for _ in range(2):
        assert up(small, "--zones", "1", "--bootstrap", str(file)).returncode == 0
        pictures.append(
            [
                small.command("admin", kind, "list", "--directory", str(small.data)).stdout
                for kind in ("account", "key")
            ]
        )
        small.stop()
    assert pictures[0] == pictures[1] and "222222222222" in pictures[0][0]
    assert not (small.data / "credentials.toml").exists()

    file.write_text(file.read_text().replace('name = "other"', 'name = "changed"'))
    done = up(small, "--bootstrap", str(file))
    assert done.returncode == 1
    assert done.stderr == "ostraka: account 222222222222 exists already, and is another one\n"
    assert left_of(small) == []


def test_what_does_not_fit_is_refused_in_one_line(small: Cluster) -> None:
    directory = ("--directory", str(small.data))
    done = small.command("down", *directory)
    assert (done.returncode, done.stderr) == (1, f"ostraka: there is no cluster in {small.data}\n")

    with socket.create_server(("127.0.0.1", small.port)):
        done = up(small, "--zones", "3")
    words = f"ostraka: port: is taken by another program ({small.port})\n"
    assert (done.returncode, done.stderr) == (1, words)
    assert not (small.data / "cluster.json").exists()

    assert up(small, "--zones", "1").returncode == 0
    done = up(small)
    words = f"ostraka: directory: its cluster runs already ({small.data})\n"
    assert (done.returncode, done.stderr) == (1, words)
    assert small.status()["state"] == "healthy"

    small.stop()
    done = small.command("down", *directory)
    assert (done.returncode, done.stdout) == (0, "the cluster does not run\n")
    done = small.command("admin", "account", "list", *directory)
    assert done.returncode == 1 and "does not run" in done.stderr
    done = up(small, "--zones", "2")
    assert (done.returncode, done.stderr) == (1, "ostraka: zones: this cluster has 1 (2)\n")

    (small.data / "meta").rename(small.data / "elsewhere")
    done = up(small)
    assert done.returncode == 1 and "restore it from its backup" in done.stderr
    assert not (small.data / "meta").exists() and left_of(small) == []


def test_interrupt_in_the_foreground_stops_in_order(small: Cluster) -> None:
    process = in_foreground(small)
    root_client(small).create_bucket(Bucket="kept")
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=START_S)
    assert process.returncode == 0 and "stopping" in rest and "killed" not in rest
    assert left_of(small) == []
    ends = {}
    for path in (small.data / "logs").glob("*.log"):
        entries = [json.loads(line) for line in path.read_text().splitlines()]
        ends[path.stem] = next(e["time"] for e in entries if e["message"] == "stopping")
    assert ends["gateway-1"] <= ends["workers"] <= ends["node-1"] <= ends["metaservice"]


def test_interrupt_during_the_start_leaves_nothing(small: Cluster) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "cli.main", "up", "--directory", str(small.data),
         "--port", str(small.port), "--zones", "1"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    wait_for(lambda: bool(left_of(small)) or process.poll() is not None, "the first process")
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=START_S)
    assert process.returncode == 130, said
    assert "Traceback" not in said and left_of(small) == []
    done = up(small)
    assert done.returncode == 0, done.stderr


def test_killed_supervisor_leaves_nothing_and_starts_again(small: Cluster) -> None:
    process = in_foreground(small)
    s3 = root_client(small)
    s3.create_bucket(Bucket="kept")
    s3.put_object(Bucket="kept", Key="large", Body=bytes(1 << 20))
    assert len(left_of(small)) == 4
    process.kill()
    process.communicate(timeout=START_S)
    wait_for(lambda: left_of(small) == [], "the end of its processes", START_S)
    assert small.status()["state"] == "stopped"
    done = up(small)
    assert done.returncode == 0, done.stderr
    assert s3.get_object(Bucket="kept", Key="large")["Body"].read() == bytes(1 << 20)


@pytest.mark.parametrize("is_killed", [True, False])
def test_frozen_process_hears_the_end(small: Cluster, is_killed: bool) -> None:
    """A frozen process takes no SIGTERM, of a supervisor that dies or of one that stops."""
    assert up(small, "--zones", "1").returncode == 0
    frozen = small.pid_of("node-1")
    os.kill(frozen, signal.SIGSTOP)
    if is_killed:
        state = json.loads((small.data / "run" / "state.json").read_text())
        os.kill(state["supervisor"], signal.SIGKILL)
        wait_for(lambda: left_of(small) == [frozen], "the end of the others", START_S)
        done = up(small)
        assert done.returncode == 0, done.stderr
        assert small.pid_of("node-1") != frozen
        assert small.status()["state"] == "healthy"
    small.stop()
    assert not Path(f"/proc/{frozen}").exists() and left_of(small) == []
    log = (small.data / "logs" / "supervisor.log").read_text()
    assert "was killed\n" not in log  # all ended as they were asked to


def test_a_folder_that_is_replaced_ends_its_cluster(small: Cluster, tmp_path: Path) -> None:
    """Else its processes would be started again, and again, in the folder of another cluster."""
    assert up(small).returncode == 0
    supervisor = json.loads((small.data / "run" / "state.json").read_text())["supervisor"]
    small.data.rename(tmp_path / "elsewhere")
    small.data.mkdir()
    wait_for(lambda: not Path(f"/proc/{supervisor}").exists(), "the supervisor's end", START_S)
    wait_for(lambda: left_of(small) == [], "the end of its processes", START_S)
    assert list(small.data.iterdir()) == []
    small.data.rmdir()


def test_killed_process_is_started_again(small: Cluster) -> None:
    assert up(small, "--zones", "1").returncode == 0
    for name in ("gateway-1", "node-1", "metaservice", "workers"):
        pid = small.pid_of(name)
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda name=name, pid=pid: small.pid_of(name) not in (None, pid), name)  # type: ignore[misc]
        wait_for(lambda: small.status()["state"] == "healthy", "health")
    log = (small.data / "logs" / "supervisor.log").read_text()
    assert "metaservice was killed by signal 9: starting it again" in log


def test_port_may_change_between_starts(small: Cluster) -> None:
    assert up(small, "--zones", "1").returncode == 0
    small.stop()
    small.port = free_port()
    assert up(small).returncode == 0
    assert small.status()["endpoint"] == small.endpoint
    root_client(small).list_buckets()
