"""Every sentence that `ostraka status` can say of a trouble is explained in docs/failures.md.

Method: make pictures of all kinds of trouble; compare their sentences with the page's first column,
in which words in capitals stand for anything.
"""

import re
from pathlib import Path

import pytest

from cli.disk_words import CONDITIONS, comparison_problems, condition_words, damage_problems
from cli.picture import blank_picture, describe_cluster, say_unavailable
from cli.repair_words import UNREADABLE, repair_figures, repair_problems
from cli.status import TROUBLE
from proto import admin_pb2, records_pb2
from tests.unit.common.placement.topologies import topology_of

PAGE = Path(__file__).parents[3] / "docs" / "failures.md"
Disk = records_pb2.Disk
OTHER_STATES = [state for state in Disk.State.values() if state not in (Disk.UP, Disk.REMOVED)]


def explained() -> list[re.Pattern[str]]:
    """Patterns of the messages that the page explains."""
    messages = re.findall(r"^\| `([^`]+)` \|", PAGE.read_text(), re.M)
    messages = [text.replace("'", "`") for text in messages]  # no backtick within backticks
    return [re.compile(re.sub(r"\b[A-Z]+\b", ".+", re.escape(text))) for text in messages]


def troubles() -> list[str]:
    reply = admin_pb2.ClusterStatusReply(degraded_blobs=3, metadata_survives="nothing: one disk")
    sentences = []
    for state in OTHER_STATES:
        topology = topology_of((1,) * 6, {1: state}).record
        topology.profiles.add(name="STANDARD", k=4, m=2)
        reply.topology.CopyFrom(topology)
        del reply.nodes[:]
        for disk in topology.disks:
            reply.nodes.add(name=disk.node_name, is_alive=disk.disk_id != 2)
        picture = blank_picture("http://here", "stopped", [])
        describe_cluster(picture, reply)
        sentences += picture["problems"]
    picture = blank_picture("http://here", "stopped", [])
    say_unavailable(picture)
    sentences += picture["problems"]
    for condition in CONDITIONS:
        disk = Disk(disk_id=3, state=Disk.READ_ONLY, condition=condition)
        sentences.append(f"zone-1: node-1 {condition_words(disk)}")
    failed = Disk(
        disk_id=3, state=Disk.FAILED, condition="failed", failure="write failed: no space",
        next_trial_ns=1_800_000_000 * 10**9,
    )  # fmt: skip
    sentences.append(f"zone-1: node-1 {condition_words(failed)}")
    assert "(write failed: no space): its node tries it again at 08:00:00 " in sentences[-1]
    damaged = Disk(disk_id=3, zone="zone-1", node_name="node-1", damaged_fragments=2)
    sentences += damage_problems([damaged], set())
    doubtful = admin_pb2.ClusterStatusReply(metadata_doubtful=True)
    doubtful.scrub.found["lost"] = doubtful.scrub.found["metadata"] = 2
    sentences += comparison_problems(doubtful)
    for by_margin, waiting, workers in (({0: 2, 1: 5}, 3, 1), ({UNREADABLE: 1, 0: 2}, 0, 0)):
        status = admin_pb2.RepairStatus(by_margin=by_margin, waiting=waiting, workers=workers)
        sentences += repair_problems(repair_figures(status))
    return sorted({*sentences, *[f"gateway-1 {words}" for words in TROUBLE.values()]})


@pytest.mark.parametrize("sentence", troubles())
def test_every_trouble_is_explained(sentence: str) -> None:
    assert any(pattern.fullmatch(sentence) for pattern in explained()), sentence


def test_a_strange_sentence_is_not_taken_for_explained() -> None:
    assert not any(pattern.fullmatch("the moon is full") for pattern in explained())
