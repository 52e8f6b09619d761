"""The picture of a cluster that `ostraka status` shows: what the control plane says, in words.

Pure: no I/O. Its keys are the documented JSON form.
"""

from typing import Any

from cli.disk_words import comparison_problems, condition_words, damage_problems
from cli.repair_words import blank_repair, repair_figures, repair_problems
from common.placement.survival import UNREADABLE, survives
from common.placement.topology import Topology
from proto import admin_pb2, records_pb2

Picture = dict[str, Any]


def blank_picture(endpoint: str, state: str, processes: list[dict[str, Any]]) -> Picture:
    """A picture before anything was asked."""
    return {
        "endpoint": endpoint,
        "state": state,
        "survives": "",
        "metadata_survives": "",
        "metadata_journal": describe_journal(admin_pb2.JournalStatus()),
        "capacity_bytes": 0,
        "used_bytes": 0,
        "degraded_blobs": 0,
        "garbage_pending": 0,
        "repair": blank_repair(),
        "problems": [],
        "processes": processes,
    }


def say_unavailable(picture: Picture) -> None:
    """Nobody can be asked."""
    picture["state"] = "unavailable"
    picture["problems"] = ["the metadata service does not answer: nothing can be read"]


def describe_cluster(picture: Picture, reply: admin_pb2.ClusterStatusReply) -> None:
    """Fill in what the metadata service knows: disks, capacity, what is degraded."""
    topology = Topology(reply.topology)
    disks = [disk for disk in reply.topology.disks if disk.state != records_pb2.Disk.REMOVED]
    away = {node.name for node in reply.nodes if not node.is_alive}
    up = [disk for disk in disks if _is_up(disk, away)]
    lost = [disk for disk in disks if not _is_readable(disk, away)]
    profile = topology.profiles["STANDARD"]
    troubles = {
        f"{disk.zone}: {disk.node_name} {_trouble(disk, away)}": None
        for disk in disks
        if not _is_up(disk, away)
    }
    problems = list(troubles)  # a node that is away is named once, however many disks it has
    problems += damage_problems(disks, away)
    problems += comparison_problems(reply)
    if reply.degraded_blobs:
        problems.append(f"{reply.degraded_blobs} blobs miss a fragment or lie off their zone")
    picture["repair"] = repair_figures(reply.repair)
    problems += repair_problems(picture["repair"])
    picture["survives"] = survives(topology, profile, away)
    picture["metadata_survives"] = reply.metadata_survives
    picture["metadata_journal"] = describe_journal(reply.journal)
    problems += reply.journal.problems
    picture["capacity_bytes"] = sum(disk.capacity_bytes for disk in up)
    picture["used_bytes"] = sum(disk.used_bytes for disk in up)
    picture["degraded_blobs"] = reply.degraded_blobs
    picture["garbage_pending"] = reply.garbage_pending
    picture["problems"] = problems
    picture["state"] = "degraded" if problems else "healthy"
    if picture["survives"] == UNREADABLE or (lost and not profile.m) or not disks:
        picture["state"] = "unavailable"


def describe_journal(journal: admin_pb2.JournalStatus) -> dict[str, Any]:
    """The metadata's journal; state: empty (not asked), off, beginning, running, short."""
    return {
        "state": journal.state,
        "copies": journal.copies,
        "copies_wanted": journal.copies_wanted,
        "nodes": list(journal.nodes),
        "checkpoint_time": journal.checkpoint_ns // 10**9,
    }


def _is_up(disk: records_pb2.Disk, away: set[str]) -> bool:
    return disk.node_name not in away and disk.state == records_pb2.Disk.UP


def _is_readable(disk: records_pb2.Disk, away: set[str]) -> bool:
    return disk.node_name not in away and disk.state != records_pb2.Disk.FAILED


def _trouble(disk: records_pb2.Disk, away: set[str]) -> str:
    if disk.node_name in away:
        return "does not answer"
    return condition_words(disk)
