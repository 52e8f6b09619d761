"""What disks say of themselves, as sentences of `ostraka status`."""

from collections.abc import Iterable
from datetime import UTC, datetime

from proto import admin_pb2, records_pb2

CONDITIONS = {
    "failed": "has failed (WHY): its node tries it again WHEN",
    "hung": "does not answer its node: what it holds is read from others",
    "rebuilding": "rebuilds its index from its extents: it takes nothing new meanwhile",
    "slow": "lets its node wait: it takes nothing new meanwhile",
    "full": "is full: it takes nothing new",
}


def condition_words(disk: records_pb2.Disk) -> str:
    """What is the matter with a disk that is not simply up."""
    if disk.state in (records_pb2.Disk.READ_ONLY, records_pb2.Disk.FAILED):
        words = CONDITIONS.get(disk.condition)
        if words is not None:
            words = words.replace("WHY", disk.failure or "no reason told")
            return f"disk {disk.disk_id} {words.replace('WHEN', _when(disk.next_trial_ns))}"
    return f"disk {disk.disk_id} is {records_pb2.Disk.State.Name(disk.state).lower()}"


def _when(time_ns: int) -> str:
    if not time_ns:
        return "in a moment"
    return f"at {datetime.fromtimestamp(time_ns // 10**9, UTC):%H:%M:%S} UTC"


def damage_problems(disks: Iterable[records_pb2.Disk], away: set[str]) -> list[str]:
    """Disks with fragments that were found bad and are not repaired yet."""
    return [
        f"{disk.zone}: {disk.node_name} disk {disk.disk_id} has {disk.damaged_fragments} damaged "
        "fragments, to be repaired from the others or deleted with their objects"
        for disk in disks
        if disk.damaged_fragments and disk.node_name not in away
    ]


def comparison_problems(reply: admin_pb2.ClusterStatusReply) -> list[str]:
    """What the comparison of metadata and disks found that repair cannot mend."""
    problems = []
    if reply.metadata_doubtful:
        problems.append(
            "metadata: some rows cannot be read; nothing is collected until the service was "
            "restored or started again"
        )
    scrub = reply.scrub
    for kind, words in (
        ("lost", "blobs have too few fragments left: `ostraka fsck` names their objects"),
        ("metadata", "rows of the metadata contradict one another: `ostraka fsck` names them"),
    ):
        count = max(scrub.found.get(kind, 0), scrub.found_before.get(kind, 0))
        if count:
            problems.append(f"{count} {words}")
    return problems
