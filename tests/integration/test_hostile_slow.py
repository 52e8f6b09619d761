"""Clients that hold connections without using them, and more of them than there may be.

Method: a cluster whose deadlines are short by configuration; raw sockets that trickle, stand still
or only connect; beside them an honest client, and the memory of the gateway.
"""

import contextlib
import resource
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.cluster import Cluster, running, wait_for
from tests.support.raw import Answer, connect, exchange, read_all, resident_bytes, sign

SETTINGS = """
[gateway]
buffer_bytes = 67_108_864
[gateway.connections]
count_max = 11_000
head_s = 1.0
body_idle_s = 1.0
body_rate_grace_s = 2.0
keep_alive_s = 60.0
"""
TRICKLE_S = 0.1
PATIENCE_S = 30.0
MIB = 1 << 20


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running(tmp_path_factory.mktemp("slow"), zones=1, settings=SETTINGS) as started:
        yield started


@pytest.fixture(scope="module")
def s3(cluster: Cluster) -> Any:
    return cluster.s3(retries={"max_attempts": 1})


def trickle(connection: socket.socket, data: bytes) -> Answer:
    """Send byte by byte, with pauses, until the server has had enough."""
    deadline_s = time.monotonic() + PATIENCE_S
    connection.setblocking(False)
    for at in range(len(data)):
        assert time.monotonic() < deadline_s, "the server waits forever"
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.send(data[at : at + 1])
        try:
            if connection.recv(1, socket.MSG_PEEK) or True:
                break
        except BlockingIOError:
            time.sleep(TRICKLE_S)
        except ConnectionResetError:
            break
    connection.settimeout(PATIENCE_S)
    return read_all(connection)


def test_a_head_that_trickles_is_given_up(cluster: Cluster, s3: Any) -> None:
    head = b"GET / HTTP/1.1\r\nhost: x\r\nx-slow: " + b"x" * 10_000
    with connect(cluster) as connection:
        answer = trickle(connection, head)
    assert (answer.status, answer.code) == (400, "RequestTimeout")
    s3.list_buckets()


def test_a_head_that_trickles_behind_a_good_request_is_given_up(cluster: Cluster) -> None:
    with connect(cluster) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        assert connection.recv(12) == b"HTTP/1.1 403"
        head = connection.recv(65_536)
        while not head.endswith(b"</Error>"):
            head += connection.recv(65_536)
        answer = trickle(connection, b"GET / HTTP/1.1\r\nx-slow: " + b"x" * 10_000)
        assert (answer.status, answer.code) == (400, "RequestTimeout")


@pytest.mark.parametrize("size", [100, 5_000_000])
def test_a_body_that_trickles_is_given_up(cluster: Cluster, s3: Any, size: int) -> None:
    """1 byte per pause never idles, but is below the least rate."""
    s3.create_bucket(Bucket=f"trickle-{size}")
    head = sign(cluster, "PUT", f"/trickle-{size}/k", [("content-length", str(size))]).head
    with connect(cluster) as connection:
        connection.sendall(head)
        answer = trickle(connection, bytes(size))
    assert (answer.status, answer.code) == (400, "RequestTimeout")
    assert s3.list_objects_v2(Bucket=f"trickle-{size}")["KeyCount"] == 0


def test_a_body_that_stands_still_is_given_up(cluster: Cluster, s3: Any) -> None:
    s3.create_bucket(Bucket="still")
    head = sign(cluster, "PUT", "/still/k", [("content-length", "1000000")]).head
    answer = exchange(cluster, head + bytes(1000))
    assert (answer.status, answer.code) == (400, "RequestTimeout")
    assert s3.list_objects_v2(Bucket="still")["KeyCount"] == 0


def test_readers_that_stand_still_hold_nothing_for_long(cluster: Cluster, s3: Any) -> None:
    """Three times as many as fit into the gateway's buffers, and one that reads."""
    s3.create_bucket(Bucket="readers")
    s3.put_object(Bucket="readers", Key="big", Body=bytes(48 * MIB))
    pid, before = cluster.pid_of("gateway-1"), 0
    with contextlib.ExitStack() as stack:
        before = resident_bytes(pid)
        for _ in range(16):
            connection = stack.enter_context(connect(cluster))
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
            connection.sendall(sign(cluster, "GET", "/readers/big").head)
        assert s3.get_object(Bucket="readers", Key="big")["Body"].read() == bytes(48 * MIB)
        assert resident_bytes(pid) < before + 128 * MIB
    s3.delete_object(Bucket="readers", Key="big")


def test_a_slow_reader_that_goes_on_is_served_to_the_end(cluster: Cluster, s3: Any) -> None:
    """One piece takes it longer than the time in which nothing at all may move."""
    s3.create_bucket(Bucket="patient")
    s3.put_object(Bucket="patient", Key="k", Body=b"x" * (12 * MIB))
    with connect(cluster) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 * 1024)
        connection.sendall(sign(cluster, "GET", "/patient/k", [("connection", "close")]).head)
        count, begun_s = 0, time.monotonic()
        while piece := connection.recv(64 * 1024):
            count += len(piece)
            if time.monotonic() - begun_s < 5.0:
                time.sleep(0.05)
    assert count > 12 * MIB


def many(cluster: Cluster, count: int, stack: contextlib.ExitStack) -> list[socket.socket]:
    return [stack.enter_context(connect(cluster)) for _ in range(count)]


def test_ten_thousand_idle_connections_stop_nobody(cluster: Cluster, s3: Any) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    count = min(10_000, hard - 1_000)
    pid = cluster.pid_of("gateway-1")
    s3.create_bucket(Bucket="beside")
    before = resident_bytes(pid)
    try:
        with contextlib.ExitStack() as stack:
            idle = many(cluster, count, stack)
            for number in range(20):
                s3.put_object(Bucket="beside", Key=str(number), Body=bytes(100_000))
                assert s3.get_object(Bucket="beside", Key=str(number))["ContentLength"] == 100_000
            grown = resident_bytes(pid) - before
            assert grown < count * 32 * 1024, f"{grown / count:.0f} bytes for each connection"
            idle[-1].sendall(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            assert read_all(idle[-1]).status == 403

            # Up to the limit, and one more.
            more = many(cluster, 1_100, stack)
            more[-1].sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            answer = read_all(more[-1])
            assert (answer.status, answer.code) == (503, "SlowDown")
            assert b"retry-after: 1\r\n" in answer.data
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    wait_for(lambda: served(s3.list_buckets), "places for others")


def served(request: Callable[[], object]) -> bool:
    try:
        request()
    except Exception:  # whatever a client makes of SlowDown or a closed connection
        return False
    return True
