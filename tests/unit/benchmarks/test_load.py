"""The load program: what it sends, counts and prints.

Method: traffic against a small server that answers as told; the rest is arithmetic.
"""

import asyncio
import math
import os
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from benchmarks.load.endpoint import Endpoint, Process, parse_endpoint
from benchmarks.load.filler import FOLDERS, key_of
from benchmarks.load.run import _list_queries
from benchmarks.load.scenarios import DATA, MIXED, Bodies, Request, Scenario, requests_of
from benchmarks.load.table import Page, data_row, figure
from benchmarks.load.traffic import Measurement, Traffic
from benchmarks.s3.signing import Target
from common import faults

TARGET = Target("x", "http://127.0.0.1:9000", "ACCESS", "SECRET")


@asynccontextmanager
async def server(statuses: list[int]) -> AsyncIterator[tuple[Target, Counter[bytes]]]:
    """Answers in turn with these statuses (0: cuts the connection), then always with 200."""
    seen: Counter[bytes] = Counter()
    left = list(statuses)
    open_connections: set[asyncio.StreamWriter] = set()
    all_closed = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_connections.add(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                seen[head.split()[1]] += 1
                status = left.pop(0) if left else 200
                if not status:
                    break
                writer.write(b"HTTP/1.1 %d X\r\nContent-Length: 3\r\n\r\nabc" % status)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        writer.close()
        open_connections.discard(writer)
        if not open_connections:
            all_closed.set()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        yield Target("x", f"http://127.0.0.1:{port}", "A", "S"), seen
        await all_closed.wait()


def gets(count: int) -> list[Request]:
    return [Request(b"GET /%d HTTP/1.1\r\n\r\n" % n, size_bytes=10) for n in range(count)]


@pytest.mark.parametrize("connections", [1, 7, 50])
async def test_one_pass_sends_every_request_once(connections: int) -> None:
    async with server([]) as (target, seen):
        found = await Traffic(target, gets(40), connections).run(None)
    assert seen == {b"/%d" % n: 1 for n in range(40)}
    assert (len(found.latencies_s), found.size_bytes, found.failed) == (40, 400, 0)


async def test_refusals_are_failures_and_traffic_goes_on() -> None:
    async with server([503, 200, 404]) as (target, seen):
        found = await Traffic(target, gets(10), 1).run(None)
    assert sum(seen.values()) == 10
    assert (len(found.latencies_s), found.size_bytes, found.failed) == (8, 80, 2)


async def test_a_cut_connection_is_a_failure_and_is_opened_again() -> None:
    async with server([200, 0, 200, 0]) as (target, seen):
        found = await Traffic(target, gets(10), 1).run(None)
    assert sum(seen.values()) == 10
    assert (len(found.latencies_s), found.failed) == (8, 2)


async def test_requests_repeat_until_time_is_up() -> None:
    async with server([]) as (target, seen):
        found = await Traffic(target, gets(2), 1).run(0.2)
    assert sum(seen.values()) == len(found.latencies_s) > 4
    assert found.seconds >= 0.2


def test_rounds_add_up() -> None:
    whole = Measurement()
    for factor in (1, 3):
        whole.add(
            Measurement(2.0, [0.001 * factor] * 2, 2_000_000, factor, {"gateway": 0.1 * factor})
        )
    assert (whole.rate, whole.megabytes_per_s, whole.failed) == (1.0, 1.0, 4)
    assert (whole.latency_ms(0.5), whole.latency_ms(0.99)) == (1.0, 3.0)
    assert whole.cpu_us("gateway") == pytest.approx(100_000)
    assert math.isnan(whole.cpu_us("server"))


def test_nothing_measured_is_no_figure() -> None:
    row = data_row("title", Endpoint(TARGET), Measurement())
    assert row == ["title", "x", "0", "0", "-", "-", "0", "-", "-", "-", "-", "-"]
    assert [figure(value) for value in (1234.4, 99.94, 9.994)] == ["1,234", "99.9", "9.99"]


@pytest.mark.parametrize("scenario", DATA, ids=lambda scenario: scenario.title)
def test_scenarios_make_requests(scenario: Scenario) -> None:
    requests = requests_of(scenario, TARGET, Bodies())
    reads = sum(request.head.startswith(b"GET ") for request in requests)
    if scenario.kind == MIXED:
        assert reads == 0.7 * len(requests)
    else:
        assert reads == (len(requests) if scenario.kind == "GET" else 0)
        assert {request.size_bytes for request in requests} == {scenario.size_bytes}
    assert all(len(request.body) in (0, request.size_bytes) for request in requests)


@pytest.mark.parametrize("count", [1000, 100_000])
def test_listed_keys_ascend_and_fill_the_folders(count: int) -> None:
    keys = [key_of(number, count) for number in range(count)]
    assert keys == sorted(keys)
    assert len({key.partition("/")[0] for key in keys}) == FOLDERS
    for queries in _list_queries(count).values():
        for query in queries:
            rest = sum(key > query.get("start-after", "") for key in keys)
            assert rest >= int(query["max-keys"])


def test_endpoints_of_the_command_line(tmp_path: Path) -> None:
    found = parse_endpoint(f"other=http://127.0.0.1:9000/,KEY,SE/CRET=,{os.getpid()}")
    assert found.target == Target("other", "http://127.0.0.1:9000", "KEY", "SE/CRET=")
    assert [process.pid for process in found.processes()] == [os.getpid(), os.getpid()]
    assert set(found.cpu_s()) == {"server", "client"}
    for wrong in ("x", "x=", "x=http://h", "x=https://h,a,b", "x=http://h,a,b,one"):
        with pytest.raises(faults.Invalid):
            parse_endpoint(wrong)
    with pytest.raises(faults.NotFound):
        parse_endpoint(f"x={tmp_path}")


def test_processes_are_measured_and_may_be_gone() -> None:
    ours = Process("x", "server", os.getpid())
    assert ours.cpu_s() > 0
    assert ours.peak_bytes() > 2**20
    gone = Process("x", "server", 2**22 + 1)
    assert (gone.cpu_s(), gone.peak_bytes()) == (0.0, 0)
    gone.reset_peak()


def test_the_page_is_markdown_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = Page()
    page.header(["a", "b"])
    page.row(["1", "2"])
    page.save(tmp_path / "page.md")
    text = (tmp_path / "page.md").read_text()
    assert text == "\n| a | b |\n| --- | --- |\n| 1 | 2 |\n"
    assert capsys.readouterr().out == text
