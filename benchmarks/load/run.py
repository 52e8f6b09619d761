"""The whole measurement, in an order that is fair: scenario by scenario, endpoint by endpoint.

A noisy machine is then noisy for all. With several rounds every scenario is run so many times at
every endpoint in turn, and the rounds are counted together.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random

from benchmarks.load.endpoint import Endpoint
from benchmarks.load.filler import bucket_of, fill, key_of, make_bucket
from benchmarks.load.scenarios import (
    BUCKET,
    DATA,
    MIX,
    MIXED,
    READ,
    SEED,
    WRITE,
    Bodies,
    Request,
    Scenario,
    key_count,
    put,
    requests_of,
)
from benchmarks.load.table import (
    DATA_HEADER,
    MEMORY_HEADER,
    Page,
    data_row,
    figure,
    memory_rows,
    say,
)
from benchmarks.load.traffic import Measurement, measure
from benchmarks.s3.signing import signed_head
from common import faults
from common.limits import MIB

PREPARE_CONNECTIONS = 8
PAGE_KEYS = 1000
PAGE_FOLDERS = 100
PAGE_PLACES = 32  # where listings begin
ZONES_DOWN = 2
UPLOADS_AT_ONCE = 64
LARGE = 64 * MIB
SETTLE_S = 1.0  # for gateways to see that nodes are away


@dataclass(slots=True)
class Options:
    """What to run, and for how long."""

    seconds: float = 4.0
    rounds: int = 1
    list_keys: Sequence[int] = (1000, 100_000)
    only: Callable[[str], bool] = field(default=lambda title: True)


class Run:
    """One run over some endpoints."""

    def __init__(self, endpoints: Sequence[Endpoint], options: Options, page: Page) -> None:
        self._endpoints = endpoints
        self._options = options
        self._page = page
        self._bodies = Bodies()
        self._made: set[tuple[str, int]] = set()

    async def all(self) -> None:
        """Every scenario. raises Unavailable if an endpoint does not take what it must hold"""
        for endpoint in self._endpoints:
            await make_bucket(endpoint.target, BUCKET)
            for process in endpoint.processes():
                process.reset_peak()
        self._page.header(DATA_HEADER)
        for scenario in DATA:
            if self._options.only(scenario.title):
                await self._data(scenario)
        ratios = await self._zones_down() if self._options.only("zones down") else []
        if self._options.only("list"):
            for count in self._options.list_keys:
                await self._listing(count)
        for line in ratios:
            self._page.line()
            self._page.line(line)
        if self._options.only("memory"):
            await self._memory()

    # --- objects ------------------------------------------------------------------------------

    async def _data(self, scenario: Scenario) -> None:
        for endpoint in self._endpoints:
            await self._prepare(endpoint, scenario)
        found = [Measurement() for _ in self._endpoints]
        for _ in range(self._options.rounds):
            for endpoint, measurement in zip(self._endpoints, found, strict=True):
                measurement.add(await self._once(endpoint, scenario))
        for endpoint, measurement in zip(self._endpoints, found, strict=True):
            self._page.row(data_row(scenario.title, endpoint, measurement))

    async def _once(self, endpoint: Endpoint, scenario: Scenario) -> Measurement:
        requests = requests_of(scenario, endpoint.target, self._bodies)
        return await measure(endpoint, requests, scenario.connections, self._options.seconds)

    async def _prepare(self, endpoint: Endpoint, scenario: Scenario) -> None:
        """Make the objects that a scenario reads."""
        if scenario.kind == WRITE:
            return
        sizes = [size for size, _ in MIX] if scenario.kind == MIXED else [scenario.size_bytes]
        for size in sizes:
            if (endpoint.name, size) in self._made:
                continue
            self._made.add((endpoint.name, size))
            body = self._bodies.of(size)
            puts = [put(endpoint.target, size, n, body) for n in range(key_count(size))]
            await self._must(endpoint, puts)

    async def _must(self, endpoint: Endpoint, requests: Sequence[Request]) -> None:
        measurement = await measure(endpoint, requests, PREPARE_CONNECTIONS, None)
        if measurement.failed:
            raise faults.Unavailable(f"{endpoint.name} refused {measurement.failed} objects")

    # --- two zones down -----------------------------------------------------------------------

    async def _zones_down(self) -> list[str]:
        """Reads of large objects, healthy and with two zones killed, in turn."""
        lines = []
        scenarios = [Scenario(READ, LARGE, streams) for streams in (1, 4)]
        for endpoint in self._endpoints:
            cluster = endpoint.cluster
            if cluster is None or len(cluster.nodes) <= ZONES_DOWN:
                continue
            for scenario in scenarios:
                await self._prepare(endpoint, scenario)
            healthy = [await self._once(endpoint, scenario) for scenario in scenarios]
            victims = cluster.nodes[:ZONES_DOWN]
            loop = asyncio.get_running_loop()
            cluster.kill(*victims, stay_dead=True)
            try:
                await asyncio.sleep(SETTLE_S)
                down = [await self._once(endpoint, scenario) for scenario in scenarios]
            finally:
                cluster.resume_supervisor()
                await loop.run_in_executor(None, cluster.wait_ready, *victims)
            await asyncio.sleep(SETTLE_S)
            for scenario, measurement in zip(scenarios, healthy, strict=True):
                measurement.add(await self._once(endpoint, scenario))
            for number, scenario in enumerate(scenarios):
                title = f"{scenario.title}, {ZONES_DOWN} zones down"
                self._page.row(data_row(title, endpoint, down[number]))
                share = down[number].megabytes_per_s / healthy[number].megabytes_per_s
                lines.append(
                    f"{title}, {endpoint.name}: {share:.0%} of healthy "
                    f"({figure(healthy[number].megabytes_per_s)} MB/s before and after)"
                )
        return lines

    # --- listings -----------------------------------------------------------------------------

    async def _listing(self, count: int) -> None:
        for endpoint in self._endpoints:
            say(f"{endpoint.name}: a bucket of {count:,} keys")
            begun_s = time.perf_counter()
            if await fill(endpoint, count):
                taken_s = time.perf_counter() - begun_s
                say(f"{endpoint.name}: filled in {taken_s:.0f} s, {count / taken_s:,.0f} keys/s")
        for title, queries in _list_queries(count).items():
            for endpoint in self._endpoints:
                path = f"/{bucket_of(count)}"
                requests = [
                    Request(signed_head(endpoint.target, READ, path, query=query))
                    for query in queries
                ]
                found = await measure(endpoint, requests, 1, self._options.seconds / 2)
                self._page.row(data_row(title, endpoint, found))

    # --- memory -------------------------------------------------------------------------------

    async def _memory(self) -> None:
        """Peak memory of each process, so far and under many large uploads at once."""
        self._page.header(MEMORY_HEADER)
        for endpoint in self._endpoints:
            processes = endpoint.processes()
            before = {process.name: process.peak_bytes() for process in processes}
            for process in processes:
                process.reset_peak()
            body = self._bodies.of(LARGE)
            uploads = [put(endpoint.target, LARGE, n, body) for n in range(UPLOADS_AT_ONCE)]
            measurement = await measure(endpoint, uploads, UPLOADS_AT_ONCE, None)
            named = {process.name: process.peak_bytes() for process in endpoint.processes()}
            for row in memory_rows(endpoint, before, named):
                self._page.row(row)
            say(
                f"{endpoint.name}: {UPLOADS_AT_ONCE} uploads of 64 MiB at once, "
                f"{measurement.failed} failed"
            )


def _list_queries(count: int) -> dict[str, list[dict[str, str]]]:
    """Pages at random places, and the page of all folders."""
    random = Random(SEED)
    places = [random.randrange(max(1, count - PAGE_KEYS)) for _ in range(PAGE_PLACES)]
    whole = [
        {"list-type": "2", "max-keys": str(PAGE_KEYS)}
        | ({"start-after": key_of(place, count)} if count > PAGE_KEYS else {})
        for place in places
    ]
    folders = [{"list-type": "2", "max-keys": str(PAGE_FOLDERS), "delimiter": "/"}]
    return {
        f"list {PAGE_KEYS:,} keys, bucket of {count:,}": whole,
        f"list {PAGE_FOLDERS} folders by delimiter, bucket of {count:,}": folders,
    }
