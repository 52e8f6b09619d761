"""Load S3 endpoints and print one table: `python -m benchmarks.load NAME=URL,KEY,SECRET ...`.

Several endpoints are measured in turn, scenario by scenario, so that a noisy machine is noisy for
all. Each scenario is bounded in time; a calibration line says what the machine can do.
"""

import argparse
import asyncio
import hashlib
import os
import secrets
import statistics
import time
from dataclasses import dataclass

import uvloop
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from benchmarks.load.client import Connection, Target, signed_head

KIB, MIB = 1024, 1024 * 1024
KEYS = 200


@dataclass(frozen=True, slots=True)
class Scenario:
    """One line of the table."""

    method: str
    size: int
    connections: int

    @property
    def title(self) -> str:
        size = f"{self.size // MIB} MiB" if self.size >= MIB else f"{self.size // KIB} KiB"
        return f"{self.method} {size}, {self.connections} connections"


SCENARIOS = tuple(
    Scenario(method, size, connections)
    for size, connections in (
        (4 * KIB, 64), (64 * KIB, 32), (1 * MIB, 16), (64 * MIB, 1), (64 * MIB, 4),
    )
    for method in ("PUT", "GET")
)  # fmt: skip


async def run_scenario(target: Target, scenario: Scenario, seconds: float) -> str:
    """Measure one scenario on one endpoint; returns a table row."""
    body = os.urandom(scenario.size) if scenario.method == "PUT" else b""
    unsigned = scenario.size >= 64 * MIB
    keys = 8 if unsigned else KEYS
    heads = [
        signed_head(target, scenario.method, f"/benchmark/{scenario.size}/{n}", body,
                    unsigned=unsigned)
        for n in range(keys)
    ]  # fmt: skip
    times: list[float] = []
    failures = 0
    begin = time.perf_counter()

    async def worker(first: int) -> None:
        nonlocal failures
        connection = await Connection.open(target)
        turn = first
        while time.perf_counter() - begin < seconds:
            sent = time.perf_counter()
            status, _ = await connection.exchange(heads[turn % keys], body)
            times.append(time.perf_counter() - sent)
            failures += status != 200
            turn += scenario.connections
        connection.close()

    await asyncio.gather(*[worker(n) for n in range(scenario.connections)])
    took = time.perf_counter() - begin
    times.sort()
    p50, p99 = (times[int(len(times) * q)] * 1000 for q in (0.5, 0.99))
    rate, volume = len(times) / took, len(times) * scenario.size / took / 1e6
    return (
        f"| {scenario.title} | {target.name} | {rate:,.0f} | {volume:,.0f} | {p50:.1f} | "
        f"{p99:.1f} | {failures} |"
    )


async def prepare(target: Target) -> None:
    """Make the bucket, and all objects that GETs read."""
    connection = await Connection.open(target)
    await connection.exchange(signed_head(target, "PUT", "/benchmark", b"", unsigned=False), b"")
    for size in sorted({scenario.size for scenario in SCENARIOS}):
        body = os.urandom(size)
        for n in range(8 if size >= 64 * MIB else KEYS):
            head = signed_head(target, "PUT", f"/benchmark/{size}/{n}", body, unsigned=True)
            status, _ = await connection.exchange(head, body)
            assert status == 200, f"{target.name} answers {status}"
    connection.close()


def calibration() -> str:
    """What one core and the disk can do just now."""
    data = os.urandom(MIB)

    def rate(work: object) -> float:
        begin, count = time.perf_counter(), 0
        while time.perf_counter() - begin < 0.3:
            work()  # type: ignore[operator]
            count += 1
        return count * 1.048576 / (time.perf_counter() - begin)

    cipher, out = AESGCM(secrets.token_bytes(32)), bytearray(MIB + 16)
    md5 = rate(lambda: hashlib.md5(data))
    aes = rate(lambda: cipher.encrypt_into(bytes(12), data, None, out))
    times = []
    with open("benchmark.tmp", "wb") as file:
        for _ in range(100):
            file.write(data[:4096])
            file.flush()
            begin = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - begin)
    os.unlink("benchmark.tmp")  # noqa: PTH108 - the same folder
    return (
        f"calibration: MD5 {md5:,.0f} MB/s, AES-256-GCM {aes:,.0f} MB/s, fdatasync "
        f"{statistics.median(times) * 1000:.2f} ms, {os.cpu_count()} cores"
    )


async def run(targets: list[Target], seconds: float) -> None:
    """Run all scenarios on all endpoints."""
    print(calibration())
    for target in targets:
        await prepare(target)
    print("\n| scenario | endpoint | per s | MB/s | p50 ms | p99 ms | failed |")
    print("|---|---|---|---|---|---|---|")
    for scenario in SCENARIOS:
        for target in targets:
            print(await run_scenario(target, scenario, seconds), flush=True)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load", description=__doc__)
    parser.add_argument("targets", nargs="+", metavar="NAME=URL,ACCESS_KEY,SECRET_KEY")
    parser.add_argument("--seconds", type=float, default=5.0, help="per scenario")
    arguments = parser.parse_args()
    targets = []
    for text in arguments.targets:
        name, _, rest = text.partition("=")
        targets.append(Target(name, *rest.split(",", 2)))
    uvloop.run(run(targets, arguments.seconds))


if __name__ == "__main__":
    main()
