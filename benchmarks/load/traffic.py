"""Sending: some connections, each with one request at a time, for a while or for a number.

The client costs as little as it can: requests are signed before the clock starts, answers are
counted where they arrive, and the next request leaves in the same callback.
"""

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.faults.measures import percentile
from benchmarks.load.endpoint import Endpoint
from benchmarks.load.scenarios import Request
from benchmarks.s3.connection import Answer, Connection
from benchmarks.s3.signing import Target

OK = 200
RECONNECTS_MAX = 50  # per connection; then the endpoint is taken for dead
RECONNECT_S = 0.1


@dataclass(slots=True)
class Measurement:
    """What one scenario did at one endpoint."""

    seconds: float = 0.0
    latencies_s: list[float] = field(default_factory=list)
    size_bytes: int = 0
    failed: int = 0
    cpu_s: dict[str, float] = field(default_factory=dict)

    def add(self, other: "Measurement") -> None:
        """Take in another round."""
        self.seconds += other.seconds
        self.latencies_s += other.latencies_s
        self.size_bytes += other.size_bytes
        self.failed += other.failed
        for role, used in other.cpu_s.items():
            self.cpu_s[role] = self.cpu_s.get(role, 0.0) + used

    @property
    def rate(self) -> float:
        """Successes per second."""
        return len(self.latencies_s) / self.seconds if self.seconds else 0.0

    @property
    def megabytes_per_s(self) -> float:
        """10^6 bytes of objects per second."""
        return self.size_bytes / self.seconds / 1e6 if self.seconds else 0.0

    def latency_ms(self, share: float) -> float:
        """A percentile of the successes; nan if there is none."""
        return percentile(sorted(self.latencies_s), share) * 1e3

    def cpu_us(self, role: str) -> float:
        """CPU time of a role's processes per success, in microseconds; nan if not known."""
        if role not in self.cpu_s or not self.latencies_s:
            return math.nan
        return self.cpu_s[role] / len(self.latencies_s) * 1e6


class _Worker:
    """One connection."""

    def __init__(self, traffic: "Traffic") -> None:
        self._traffic = traffic
        self._connection: Connection | None = None
        self._request: Request | None = None
        self._sent_s = 0.0
        self._ended: asyncio.Future[bool] | None = None

    async def run(self) -> None:
        """Send until the traffic ends."""
        for _ in range(RECONNECTS_MAX):
            try:
                self._connection = await Connection.open(self._traffic.target)
            except OSError:
                self._traffic.measurement.failed += 1
                await asyncio.sleep(RECONNECT_S)
                continue
            self._ended = asyncio.get_running_loop().create_future()
            self._next()
            is_finished = await self._ended
            self._connection.close()
            if is_finished:
                return

    def _next(self) -> None:
        assert self._connection is not None
        assert self._ended is not None
        request = self._request = self._traffic.take()
        if request is None:
            self._ended.set_result(True)
            return
        self._sent_s = time.perf_counter()
        self._connection.begin(request.head, request.body, self._answered)

    def _answered(self, answer: Answer | None) -> None:
        now_s = time.perf_counter()
        measurement = self._traffic.measurement
        assert self._request is not None
        if answer is not None and answer.status == OK:
            measurement.latencies_s.append(now_s - self._sent_s)
            measurement.size_bytes += self._request.size_bytes
        else:
            measurement.failed += 1
        if answer is None:
            if self._ended is not None and not self._ended.done():
                self._ended.set_result(False)
        else:
            self._next()


class Traffic:
    """Requests over some connections."""

    def __init__(self, target: Target, requests: Sequence[Request], connections: int) -> None:
        self.target = target
        self.connections = connections
        self.measurement = Measurement()
        self._requests = requests
        self._end_s = math.inf
        self._turn = 0
        self._turns_max: float = math.inf

    def take(self) -> Request | None:
        """The next request; None: enough."""
        if self._turn >= self._turns_max or time.perf_counter() >= self._end_s:
            return None
        request = self._requests[self._turn % len(self._requests)]
        self._turn += 1
        return request

    async def run(self, seconds: float | None) -> Measurement:
        """Send for some seconds; None: every request once."""
        begun_s = time.perf_counter()
        if seconds is None:
            self._turns_max = len(self._requests)
        else:
            self._end_s = begun_s + seconds
        await asyncio.gather(*[_Worker(self).run() for _ in range(self.connections)])
        self.measurement.seconds = time.perf_counter() - begun_s
        return self.measurement


async def measure(
    endpoint: Endpoint, requests: Sequence[Request], connections: int, seconds: float | None
) -> Measurement:
    """Run traffic at an endpoint; with the CPU time of its processes."""
    before = endpoint.cpu_s()
    measurement = await Traffic(endpoint.target, requests, connections).run(seconds)
    after = endpoint.cpu_s()
    measurement.cpu_s = {role: used - before.get(role, 0.0) for role, used in after.items()}
    return measurement
