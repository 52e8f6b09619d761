"""`ostraka durability`: what is measured replaces what is assumed, and every input is named.

Method: replies made by hand; the command itself against a made-up control plane.
"""

import json
from typing import Any

import pytest
from click.testing import CliRunner

from cli import durability
from cli.durability import (
    DETECTION_S,
    GRACE_S,
    REPAIR_BYTES_PER_S,
    causes_of,
    degraded_risk,
    duration,
    metadata_row,
    rates_of,
    rows_of,
)
from cli.main import main
from common.limits import DAY, GIB, MIB
from proto import admin_pb2
from tests.unit.common.placement.topologies import topology_of

SHARES = (0.015, 1e-5)


def reply_of(used_bytes: int = 10 * GIB, degraded_blobs: int = 0) -> admin_pb2.ClusterStatusReply:
    topology = topology_of((1,) * 6).record
    topology.profiles.add(name="STANDARD", k=4, m=2)
    for disk in topology.disks:
        disk.used_bytes, disk.capacity_bytes = used_bytes, 1000 * GIB
    return admin_pb2.ClusterStatusReply(
        topology=topology, degraded_blobs=degraded_blobs, metadata_survives="nothing: one disk"
    )


def test_a_lost_disk_takes_detection_grace_and_all_its_blobs() -> None:
    rates = rates_of(reply_of(), repair_mib_per_s=100.0)
    mending_s = 10 * GIB * 4 / (100 * MIB)
    assert rates.disk_repair_s(10 * GIB, 4) == DETECTION_S + GRACE_S + mending_s
    disk, latent = causes_of(rates, SHARES, 10 * GIB, 4)
    assert disk.repair_s == rates.disk_repair_s(10 * GIB, 4)
    assert latent.repair_s == 7 * DAY  # half of fourteen days
    assert disk.rate_per_year == pytest.approx(0.015, rel=0.01)


def test_options_go_before_assumptions_and_say_so() -> None:
    assumed = rates_of(reply_of())
    assert assumed.repair.value == REPAIR_BYTES_PER_S
    assert assumed.repair.source.startswith("assumed")
    repairing = reply_of()
    repairing.repair.done_bytes_per_s = 33 * MIB
    measured = rates_of(repairing).repair
    assert (measured.value, measured.source) == (33 * MIB, "measured now")
    given = rates_of(repairing, grace_s=30.0, repair_mib_per_s=7.0, scrub_days=3.0)
    assert (given.grace.value, given.repair.value) == (30.0, 7.0 * MIB)
    assert given.scrub.value == 3 * DAY
    assert all(entry.source.startswith("given by --") for entry in
               (given.grace, given.repair, given.scrub))  # fmt: skip


def test_what_was_measured_last_goes_before_assumptions() -> None:
    reply = reply_of()
    last = reply.repair.last
    last.ended_ns, last.plain_bytes, last.taken_ms = 1_800_000_000 * 10**9, 3 * GIB, 60_000
    rates = rates_of(reply)
    assert rates.repair.value == pytest.approx(3 * GIB / 60)
    assert rates.repair.source == "measured 2027-01-15 08:00 UTC, 3.0 GiB"
    assert rates.grace.source.startswith("assumed"), "no disk was silent"
    last.lost_after_ms = 31_000
    rates = rates_of(reply)
    assert rates.detection.value + rates.grace.value == pytest.approx(31.0)
    assert rates.grace.source == rates.repair.source
    assert rates_of(reply, grace_s=5.0).grace.source == "given by --grace"
    reply.repair.done_bytes_per_s = MIB
    assert rates_of(reply).repair.source == "measured now"


def test_full_disks_take_longer_and_are_worth_less() -> None:
    reply = reply_of()
    now, full = rows_of(reply.topology, rates_of(reply), SHARES)
    assert (now.geometry, now.disk_bytes, full.disk_bytes) == ("4 + 2", 10 * GIB, 900 * GIB)
    assert now.repair_s < full.repair_s
    assert now.nines > full.nines > 5
    assert now.nines > 11  # ten GiB are whole again within half an hour
    assert now.markov > now.binomial > 0
    assert now.any_of_all == pytest.approx(now.markov)  # one disk a zone: one set of disks


def test_blobs_that_miss_a_fragment_are_told_apart() -> None:
    healthy, hurt = reply_of(), reply_of(degraded_blobs=5)
    rates = rates_of(healthy)
    assert degraded_risk(healthy, rates, SHARES) == 0.0
    assert 0 < degraded_risk(hurt, rates, SHARES) < 1e-6


def test_no_disks_no_rows() -> None:
    empty = admin_pb2.ClusterStatusReply().topology
    assert list(rows_of(empty, rates_of(reply_of()), SHARES)) == []


def test_metadata_has_as_many_copies_as_its_journal() -> None:
    reply = reply_of()
    alone = metadata_row(reply, SHARES[0])
    assert (alone.geometry, round(alone.nines, 1)) == ("1 + 0", 1.8)
    reply.journal.state, reply.journal.copies = "running", 2
    assert metadata_row(reply, SHARES[0]).nines > 10
    reply.journal.state = "beginning"  # not yet
    assert metadata_row(reply, SHARES[0]) == alone


def run(monkeypatch: pytest.MonkeyPatch, reply: admin_pb2.ClusterStatusReply, *options: str) -> Any:
    monkeypatch.setattr(durability, "ask", lambda address: reply)
    return CliRunner().invoke(main, ["durability", "--control", "there:7001", *options])


def test_command_names_every_input(monkeypatch: pytest.MonkeyPatch) -> None:
    done = run(monkeypatch, reply_of(degraded_blobs=5))
    assert done.exit_code == 0
    for words in ("STANDARD", "4 + 2", "disk failures", "1.500%", "latent errors", "detection",
                  "repair rate", "scrub interval", "assumed (--repair-rate)", "5 blobs miss",
                  "nothing: one disk", "one cause"):  # fmt: skip
        assert words in done.output, words


def test_command_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    done = run(monkeypatch, reply_of(), "--json", "--disk-failures", "4", "--repair-rate", "10")
    document = json.loads(done.output)
    assert [row["profile"] for row in document["profiles"]] == ["STANDARD", "STANDARD", "metadata"]
    inputs = {entry["name"]: entry for entry in document["inputs"]}
    assert inputs["disk failures"]["value"] == 0.04
    assert inputs["repair rate"]["source"] == "given by --repair-rate"


def test_command_without_disks_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    done = run(monkeypatch, admin_pb2.ClusterStatusReply())
    assert (done.exit_code, done.output) == (1, "ostraka: no disk has registered yet\n")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(3, "3.0 s"), (750, "12.5 min"), (12_240, "3.4 h"), (14 * DAY, "14.0 days"),
     (float("inf"), "never")],
)  # fmt: skip
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words
