"""Repair as `ostraka status` tells it: figures by name, and in words. Pure."""

from typing import Any

from common.limits import MIB
from proto import admin_pb2

UNREADABLE = 255  # margin of blobs with fewer fragments than their data needs
UNREADABLE_KEY = "unreadable"
Figures = dict[str, Any]


def blank_repair() -> Figures:
    """Nothing known."""
    return repair_figures(admin_pb2.RepairStatus())


def repair_figures(status: admin_pb2.RepairStatus) -> Figures:
    """The documented JSON form.

    losses_bearable   blobs that are not whole, by how many further losses each bears
    """
    total = status.bytes_done + status.bytes_left
    rate, last = status.done_bytes_per_s, status.last
    return {
        "losses_bearable": {
            UNREADABLE_KEY if margin == UNREADABLE else str(margin): status.by_margin[margin]
            for margin in sorted(status.by_margin)
        },
        "waiting_blobs": status.waiting,
        "bytes_left": status.bytes_left,
        "bytes_done": status.bytes_done,
        "share_done": round(status.bytes_done / total, 4) if total else 1.0,
        "bytes_per_s": rate,
        "read_bytes_per_s": status.read_bytes_per_s,
        "seconds_left": round(status.bytes_left / rate) if rate else None,
        "limit_bytes_per_s": status.limit_bytes_per_s,
        "throttled": status.is_throttled,
        "workers": status.workers,
        "looking": status.is_looking,
        "rows_looked_at": status.rows_looked_at,
        "rows_expected": status.rows_expected,
        "last_time": last.ended_ns // 10**9 if last.taken_ms else None,
        "last_bytes_per_s": last.plain_bytes * 1000 // last.taken_ms if last.taken_ms else None,
    }


def repair_problems(figures: Figures) -> list[str]:
    """What an operator must know of repair."""
    problems = []
    bearable = figures["losses_bearable"]
    if bearable.get(UNREADABLE_KEY):
        problems.append(
            f"{bearable[UNREADABLE_KEY]} blobs have too few fragments to be read or repaired: "
            "bring back what is away"
        )
    if bearable.get("0"):
        problems.append(f"{bearable['0']} blobs bear no further loss; they are repaired first")
    if figures["waiting_blobs"]:
        problems.append(
            f"{figures['waiting_blobs']} blobs wait for zones or disks to come back before they "
            "can be repaired further"
        )
    if bearable and not figures["workers"]:
        problems.append("nobody repairs: no workers process was heard of lately")
    return problems


def repair_in_words(figures: Figures) -> str:
    """One line on what is going on; empty: nothing is."""
    if figures["bytes_left"]:
        words = (
            f"repair: {figures['share_done']:.0%} done, {figures['bytes_left'] / MIB:,.0f} MiB "
            f"left, {figures['bytes_per_s'] / MIB:,.0f} MiB/s"
        )
        if figures["seconds_left"] is not None:
            words += f", about {_duration(figures['seconds_left'])} left"
        if figures["throttled"]:
            words += ", slowed down for clients"
        return words
    if figures["looking"]:
        return (
            f"repair: looking for what is missing, {figures['rows_looked_at']:,} of about "
            f"{figures['rows_expected']:,} rows"
        )
    return ""


def _duration(seconds: int) -> str:
    if seconds < 90:
        return f"{seconds} s"
    if seconds < 5400:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"
