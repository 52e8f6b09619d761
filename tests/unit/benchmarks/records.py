"""Made-up records of scenarios."""

from random import Random

from benchmarks.faults.record import (
    FailedTry,
    Health,
    LoadShape,
    Mark,
    ReadBack,
    Requests,
    RunRecord,
    ScenarioRecord,
)

FAULT_S, FAULT_END_S, END_S = 10.0, 20.0, 40.0


def make_scenario(
    name: str = "zone-lost", *, lost_objects: int = 0, seed: int = 1
) -> ScenarioRecord:
    """100 requests per second for 40 s; none succeeds from 10 s to 12 s, one of them for good."""
    random, requests = Random(seed), Requests()
    for number in range(4000):
        begin_s = number / 100
        is_stalled = FAULT_S <= begin_s < FAULT_S + 2
        latency_s = FAULT_S + 2 - begin_s if is_stalled else random.uniform(0.001, 0.02)
        status = 503 if number == 1050 else 200
        requests.add(begin_s, latency_s, number % 2, 3 if is_stalled else 1, status)
    return ScenarioRecord(
        name=name,
        title=name.replace("-", " ").capitalize(),
        what="Something <b>bad</b> & sudden.",
        fault_begin_s=FAULT_S,
        fault_end_s=FAULT_END_S,
        end_s=END_S,
        requests=requests,
        failed_tries=[FailedTry(FAULT_S + 0.1, 1, "503"), FailedTry(FAULT_S + 0.2, 1, "503")],
        health=[
            Health(5.0, True, "healthy", 0),
            Health(11.5, False, "degraded", 12, ("node-3 <is> stopped",)),
            Health(21.0, False, "unavailable", 12, ("12 blobs miss a fragment",)),
            Health(25.0, True, "healthy", 0),
            Health(39.0, True, "healthy", 0),
        ],
        marks=[Mark(FAULT_S, "zone lost"), Mark(15.0, ""), Mark(FAULT_END_S, "it returns")],
        read_back=ReadBack(500, lost_objects, lost_objects * 65_536, 0),
        repair_bytes=5 * 1024 * 1024,
    )


def make_run(store: str, *scenarios: ScenarioRecord) -> RunRecord:
    """A run of these scenarios."""
    return RunRecord(
        store, "2026-01-01T00:00+00:00", "abc1234", "2 cores", "MD5 600 MB/s", LoadShape(rate=100),
        list(scenarios),
    )  # fmt: skip
