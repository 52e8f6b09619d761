"""Figures of a scenario from its raw samples. Pure arithmetic; times as in `record`."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.faults.record import KINDS, Health, ScenarioRecord

OK = 200


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of all values do not exceed; nan of nothing.

    ordered   ascending
    """
    if not ordered:
        return math.nan
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def longest_gap(moments: Sequence[float], begin_s: float, end_s: float) -> float:
    """The longest time within [begin, end] in which no moment lies."""
    inside = sorted(moment for moment in moments if begin_s < moment < end_s)
    edges = [begin_s, *inside, end_s]
    return max(after - before for before, after in zip(edges, edges[1:], strict=False))


def time_to_detect(health: Sequence[Health], fault_s: float) -> float | None:
    """Seconds from a fault to the first word of the store that it is not healthy."""
    for sample in health:
        if sample.at_s >= fault_s and not sample.is_healthy:
            return sample.at_s - fault_s
    return None


def time_to_health(health: Sequence[Health], since_s: float) -> float | None:
    """Seconds until the store calls itself healthy, and does so until the end of the record.

    0.0 if it always did; None if it does not at the end, or says nothing at all
    """
    if not health or not health[-1].is_healthy:
        return None
    healthy_s = health[-1].at_s
    for sample in reversed(health):
        if not sample.is_healthy:
            break
        healthy_s = sample.at_s
    else:
        return 0.0
    return max(0.0, healthy_s - since_s)


@dataclass(frozen=True, slots=True)
class Phase:
    """Requests that were due in one part of a scenario."""

    rate: float  # successes per second
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class Figures:
    """One line of the table."""

    healthy: Phase
    fault: Phase
    requests: int
    failed: int  # after ordinary retries
    failed_tries: int
    wrong_reads: int
    longest_gap_s: float  # without any success
    longest_gap_by_kind_s: tuple[float, ...]  # in the order of KINDS; nan: no such requests
    has_health: bool  # the store was asked how it is
    detect_s: float | None  # None: it never said that anything was wrong
    health_s: float | None  # after the fault's end; None: not as long as was watched
    watched_s: float  # how long health was waited for after the fault's end
    repair_bytes: int
    lost_bytes: int
    objects: int


def figures(record: ScenarioRecord) -> Figures:
    """Work out a scenario's line."""
    requests = record.requests
    ends = [b / 1e3 + d / 1e6 for b, d in zip(requests.begin_ms, requests.latency_us, strict=True)]
    good = [status == OK for status in requests.status]
    window = (record.fault_begin_s, record.end_s)
    gaps = []
    for kind in range(len(KINDS)):
        moments = [
            end for end, ok, of in zip(ends, good, requests.kind, strict=True) if ok and of == kind
        ]
        gaps.append(longest_gap(moments, *window) if moments else math.nan)
    successes = [end for end, ok in zip(ends, good, strict=True) if ok]
    return Figures(
        healthy=phase(record, 0.0, record.fault_begin_s),
        fault=phase(record, record.fault_begin_s, record.fault_end_s),
        requests=len(requests),
        failed=good.count(False),
        failed_tries=len(record.failed_tries),
        wrong_reads=requests.status.count(-1),
        longest_gap_s=longest_gap(successes, *window),
        longest_gap_by_kind_s=tuple(gaps),
        has_health=bool(record.health),
        detect_s=time_to_detect(record.health, record.fault_begin_s),
        health_s=time_to_health(record.health, record.fault_end_s),
        watched_s=record.end_s - record.fault_end_s,
        repair_bytes=record.repair_bytes,
        lost_bytes=record.read_back.lost_bytes,
        objects=record.read_back.objects,
    )


def phase(record: ScenarioRecord, begin_s: float, end_s: float) -> Phase:
    """Rate of successes that ended in [begin, end), latency of requests that were due in it."""
    requests = record.requests
    latencies, successes = [], 0
    for begin_ms, latency_us, status in zip(
        requests.begin_ms, requests.latency_us, requests.status, strict=True
    ):
        due_s = begin_ms / 1e3
        if status == OK:
            successes += begin_s <= due_s + latency_us / 1e6 < end_s
            if begin_s <= due_s < end_s:
                latencies.append(latency_us / 1e3)
    latencies.sort()
    length_s = max(end_s - begin_s, 1e-9)
    return Phase(successes / length_s, percentile(latencies, 0.5), percentile(latencies, 0.99))


@dataclass(slots=True)
class Series:
    """Figures over time; one value per bucket of `step_s`, which begins at its index * step_s.

    Latencies are of requests by the moment they were due: a stall shows where it began.
    """

    step_s: float
    rate: list[float]  # successes per second
    p50_ms: list[float]  # nan: nothing was due
    p99_ms: list[float]
    failed_tries: list[int]
    failed: list[int]


def series(record: ScenarioRecord, step_s: float) -> Series:
    """Cut a scenario's time into buckets; whole ones only."""
    count = max(1, int(record.end_s / step_s))
    latencies: list[list[float]] = [[] for _ in range(count)]
    successes, failed, tries = [0] * count, [0] * count, [0] * count
    requests = record.requests
    for begin_ms, latency_us, status in zip(
        requests.begin_ms, requests.latency_us, requests.status, strict=True
    ):
        due = int(begin_ms / 1e3 / step_s)
        end = int((begin_ms / 1e3 + latency_us / 1e6) / step_s)
        if 0 <= due < count:
            latencies[due].append(latency_us / 1e3)
        if 0 <= end < count:
            successes[end] += status == OK
            failed[end] += status != OK
    for failure in record.failed_tries:
        at = int(failure.at_s / step_s)
        if 0 <= at < count:
            tries[at] += 1
    for bucket in latencies:
        bucket.sort()
    return Series(
        step_s,
        [value / step_s for value in successes],
        [percentile(bucket, 0.5) for bucket in latencies],
        [percentile(bucket, 0.99) for bucket in latencies],
        tries,
        failed,
    )
