"""The journal of a storage node, on real files and on simulated ones.

Goal: what was appended is read back, in order, after any end of the process; a promise holds for
ever; what is torn is ignored, what is damaged is told apart from it; nothing of a lower epoch gets
in. Method: plain cases on both kinds of files; a power failure at every single disk operation of a
workload, with any subset of what was not synced kept, recovery cut short too.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from common import faults
from common.buffers import BufferPool
from common.checksum import crc32c
from common.clock import ManualClock
from common.limits import KIB, MIB
from proto import journal_pb2
from storagenode.journal import journal as journals
from storagenode.journal.journal import JournalSettings, NodeJournal
from storagenode.journal.record import HEADER_BYTES
from storagenode.journal.reopen import JournalReopener
from storagenode.store.files import PAGE, Files, SystemFiles
from storagenode.trials import PAUSE_S_MAX
from tests.simulation.disk import Medium, SimulatedFiles
from tests.simulation.loop import Process, SimulatedLoop

CHUNK_BYTES = 64 * KIB
HOLDER = b"h" * 16


def caller(epoch: int = 1, holder: bytes = HOLDER) -> journal_pb2.Caller:
    return journal_pb2.Caller(cluster_id="cluster", epoch=epoch, holder=holder)


def payload_of(sequence: int, size: int = 5000) -> bytes:
    return Random(sequence).randbytes(size)


class Bench:
    """A journal and its successive lives."""

    def __init__(self, make_files: Callable[[], Files], folder: Path) -> None:
        self._make_files = make_files
        self.folder = folder
        self.journal: NodeJournal
        self.reopen()

    def reopen(self) -> None:
        """A new process on what is there."""
        settings = JournalSettings(self.folder, CHUNK_BYTES, 0)
        self.journal = NodeJournal(settings, self._make_files(), BufferPool(8 * MIB))

    async def append(
        self, sequence: int, data: bytes | None = None, *, epoch: int = 1, segment: int = 7
    ) -> None:
        data = payload_of(sequence) if data is None else data
        request = journal_pb2.Append(
            caller=caller(epoch), segment_id=segment, sequence=sequence, time_ns=sequence * 10,
            crc32c=crc32c(data),
        )  # fmt: skip
        await self.journal.append(request, data)

    async def state(self, segment: int = 7) -> journal_pb2.SegmentState | None:
        picture = await self.journal.fence(journal_pb2.Caller(cluster_id="cluster"))
        return next((each for each in picture.segments if each.segment_id == segment), None)

    async def read(self, begin: int, end: int, segment: int = 7) -> list[bytes]:
        found: list[bytes] = []
        while begin + len(found) < end:
            request = journal_pb2.Read(
                cluster_id="cluster", segment_id=segment, from_sequence=begin + len(found)
            )
            reply, payloads = await self.journal.read(request)
            assert [entry.sequence for entry in reply.entries] == list(
                range(begin + len(found), begin + len(found) + len(payloads))
            )
            assert all(entry.time_ns == entry.sequence * 10 for entry in reply.entries)
            assert payloads, "nothing more is there"
            found += payloads
        return found[: end - begin]


@pytest.fixture(params=["system", "simulated"])
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    if request.param == "system":
        return Bench(SystemFiles, tmp_path / "journal")
    medium = Medium("node", Random(1), Counter())
    return Bench(lambda: SimulatedFiles(medium, Process("node")), Path("/node/journal"))


async def test_appended_records_are_read_over_chunks_and_lives(bench: Bench) -> None:
    await bench.journal.open_segment(caller(), 7, 100)
    for sequence in range(100, 140):
        await bench.append(sequence)
    for _ in range(2):
        state = await bench.state()
        assert state is not None and (state.first_sequence, state.end_sequence) == (100, 140)
        assert not state.damaged
        assert await bench.read(100, 140) == [payload_of(n) for n in range(100, 140)]
        assert await bench.read(127, 130) == [payload_of(n) for n in range(127, 130)]
        await bench.journal.close()
        bench.reopen()


@pytest.mark.parametrize("is_only_one", [True, False])
async def test_a_chunk_that_was_being_made_is_not_there(tmp_path: Path, is_only_one: bool) -> None:
    """The power was lost after its name was on disk, and before its space was."""
    bench = Bench(SystemFiles, tmp_path / "journal")
    if not is_only_one:
        await bench.journal.open_segment(caller(), 7, 1)
        await bench.append(1)
    await bench.journal.close()
    (tmp_path / "journal" / f"{7:016x}-{0 if is_only_one else 1:06d}.log").touch()
    bench.reopen()
    for _ in range(2):
        state = await bench.state()
        assert state is not None and not state.damaged
        assert (state.first_sequence, state.end_sequence) == ((0, 0) if is_only_one else (1, 2))
    if not is_only_one:
        assert await bench.read(1, 2) == [payload_of(1)]
    await bench.journal.close()


async def test_appends_at_once_are_kept_in_order(bench: Bench) -> None:
    await bench.journal.open_segment(caller(), 7, 1)
    await asyncio.gather(*[bench.append(sequence) for sequence in range(1, 30)])
    assert await bench.read(1, 30) == [payload_of(n) for n in range(1, 30)]


@pytest.mark.parametrize("size", [0, 1, PAGE - HEADER_BYTES, PAGE - HEADER_BYTES + 1, 2 * MIB])
async def test_records_of_any_size(bench: Bench, size: int) -> None:
    await bench.journal.open_segment(caller(), 7, 1)
    await bench.append(1, payload_of(1, size))
    await bench.append(2)
    await bench.journal.close()
    bench.reopen()
    assert await bench.read(1, 3) == [payload_of(1, size), payload_of(2)]


async def test_a_repeated_append_has_one_effect(bench: Bench) -> None:
    await bench.journal.open_segment(caller(), 7, 1)
    await bench.append(1)
    await bench.append(1)
    with pytest.raises(faults.Invalid, match="order"):
        await bench.append(1, b"another")
    with pytest.raises(faults.Invalid, match="order"):
        await bench.append(3)
    assert await bench.read(1, 2) == [payload_of(1)]


async def test_what_arrives_changed_is_refused(bench: Bench) -> None:
    await bench.journal.open_segment(caller(), 7, 1)
    request = journal_pb2.Append(caller=caller(), segment_id=7, sequence=1, crc32c=1)
    with pytest.raises(faults.Corrupt):
        await bench.journal.append(request, b"data")


async def test_a_promise_refuses_lower_epochs_for_ever(bench: Bench) -> None:
    await bench.journal.open_segment(caller(3), 7, 1)
    await bench.append(1, epoch=3)
    await bench.journal.fence(caller(5, b"other"))
    for _ in range(2):
        with pytest.raises(faults.Fenced):
            await bench.append(2, epoch=3)
        for epoch, holder in ((3, HOLDER), (4, HOLDER), (5, HOLDER)):
            with pytest.raises(faults.Fenced):
                await bench.journal.fence(caller(epoch, holder))
            with pytest.raises(faults.Fenced):
                await bench.journal.open_segment(caller(epoch, holder), 9, 2)
            with pytest.raises(faults.Fenced):
                await bench.journal.write_header(caller(epoch, holder), journal_pb2.Header())
            with pytest.raises(faults.Fenced):
                await bench.journal.trim(journal_pb2.Trim(caller=caller(epoch, holder)))
        await bench.journal.fence(caller(5, b"other"))
        await bench.journal.close()
        bench.reopen()


async def test_another_clusters_caller_is_refused(bench: Bench) -> None:
    await bench.journal.fence(caller())
    with pytest.raises(faults.Invalid, match="cluster"):
        await bench.journal.fence(journal_pb2.Caller(cluster_id="other", epoch=9))
    with pytest.raises(faults.Invalid, match="cluster"):
        await bench.journal.fence(journal_pb2.Caller(epoch=9))
    looked = await bench.journal.fence(journal_pb2.Caller())
    assert (looked.cluster_id, looked.promised) == ("cluster", 1)


async def test_the_newest_header_stays(bench: Bench) -> None:
    def header(epoch: int, version: int) -> journal_pb2.Header:
        return journal_pb2.Header(cluster_id="cluster", epoch=epoch, version=version)

    await bench.journal.write_header(caller(2), header(2, 5))
    await bench.journal.write_header(caller(2), header(2, 4))
    await bench.journal.write_header(caller(3), header(2, 6))
    first = await bench.journal.fence(caller(3))
    assert (first.header.epoch, first.header.version, first.promised) == (2, 6, 3)
    await bench.journal.close()
    bench.reopen()
    second = await bench.journal.fence(caller(3))
    assert (second.header, second.journal_id) == (first.header, first.journal_id)


async def test_a_segment_is_not_appended_to_in_a_later_life(bench: Bench) -> None:
    await bench.journal.open_segment(caller(), 7, 1)
    await bench.append(1)
    await bench.journal.close()
    bench.reopen()
    with pytest.raises(faults.Invalid, match="not open"):
        await bench.append(2)
    with pytest.raises(faults.Invalid, match="before"):
        await bench.journal.open_segment(caller(), 7, 1)
    await bench.journal.open_segment(caller(), 8, 2)
    await bench.append(2, segment=8)
    assert await bench.read(2, 3, segment=8) == [payload_of(2)]


async def test_trimmed_records_give_their_space_back(bench: Bench) -> None:
    await bench.journal.open_segment(caller(), 7, 1)
    for sequence in range(1, 30):
        await bench.append(sequence)
    await bench.journal.open_segment(caller(), 8, 30)
    await bench.append(30, segment=8)
    request = journal_pb2.Trim(caller=caller(), before_sequence=20, segment_ids=[7, 8])
    assert (await bench.journal.trim(request)).freed_bytes >= CHUNK_BYTES
    state = await bench.state()
    assert state is not None and 1 < state.first_sequence <= 20
    assert await bench.read(20, 30) == [payload_of(n) for n in range(20, 30)]
    with pytest.raises(faults.NotFound):
        await bench.read(1, 2)
    await bench.journal.trim(journal_pb2.Trim(caller=caller(), before_sequence=30, segment_ids=[8]))
    assert await bench.state() is None
    await bench.journal.close()
    bench.reopen()
    assert await bench.state() is None
    assert await bench.read(30, 31, segment=8) == [payload_of(30)]


@pytest.mark.parametrize("seed", range(5))
async def test_a_flipped_bit_is_damage_and_no_torn_tail(tmp_path: Path, seed: int) -> None:
    bench = Bench(SystemFiles, tmp_path / "journal")
    await bench.journal.open_segment(caller(), 7, 1)
    for sequence in range(1, 9):
        await bench.append(sequence)
    await bench.journal.close()
    path = next((tmp_path / "journal").glob("*.log"))
    whole = bytearray(path.read_bytes())
    chance = Random(seed)
    damaged = chance.randrange(7)  # not the last: nothing would follow it
    place = damaged * 2 * PAGE + chance.randrange(HEADER_BYTES + 5000)
    whole[place] ^= 1 << chance.randrange(8)
    path.write_bytes(whole)
    bench.reopen()
    state = await bench.state()
    assert state is not None and state.damaged
    if damaged:
        assert state.end_sequence == damaged + 1
        assert await bench.read(1, damaged + 1) == [payload_of(n) for n in range(1, damaged + 1)]


async def scrub_once(bench: Bench) -> None:
    """A whole pass."""
    bench.journal._resting_until_s = 0.0
    for _ in range(1000):
        await bench.journal.scrub()
        if bench.journal._resting_until_s:
            return
    raise AssertionError("the pass does not end")


async def test_scrub_finds_nothing_wrong_while_it_is_appended_to(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journals, "SCRUB_BYTES", 3 * PAGE)
    await bench.journal.open_segment(caller(), 6, 1)
    await bench.append(1, segment=6)
    await bench.journal.open_segment(caller(), 7, 100)
    for sequence in range(100, 150):
        await bench.append(sequence)
        await bench.journal.scrub()
        if sequence == 130:
            trim = journal_pb2.Trim(caller=caller(), before_sequence=125, segment_ids=[7])
            await bench.journal.trim(trim)
    await scrub_once(bench)
    state = await bench.state()
    assert state is not None and not state.damaged
    await bench.journal.close()
    bench.reopen()
    await scrub_once(bench)
    state = await bench.state()
    assert state is not None and not state.damaged


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("life", ["same", "next"])
async def test_scrub_finds_a_flipped_bit(tmp_path: Path, seed: int, life: str) -> None:
    bench = Bench(SystemFiles, tmp_path / "journal")
    await bench.journal.open_segment(caller(), 7, 1)
    for sequence in range(1, 30):
        await bench.append(sequence)
    await scrub_once(bench)
    if life == "next":
        await bench.journal.close()
        bench.reopen()
        assert (await bench.state()) is not None
    chance = Random(seed)
    path = chance.choice(sorted((tmp_path / "journal").glob("*.log")))
    with path.open("r+b") as file:
        place = 2 * PAGE * chance.randrange(2) + chance.randrange(HEADER_BYTES + 5000)
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 1 << chance.randrange(8)]))
    await scrub_once(bench)
    state = await bench.state()
    assert state is not None and state.damaged
    await bench.journal.close()


async def test_a_failed_sync_ends_all_promises_of_durability() -> None:
    medium = Medium("node", Random(1), Counter())
    bench = Bench(lambda: SimulatedFiles(medium, Process("node")), Path("/node/journal"))
    await bench.journal.open_segment(caller(), 7, 1)
    await bench.append(1)
    medium.fails_writes = True
    with pytest.raises(faults.Unavailable):
        await bench.append(2)
    medium.fails_writes = False
    with pytest.raises(faults.Unavailable):
        await bench.append(2)
    with pytest.raises(faults.Unavailable):
        await bench.journal.fence(caller(2))
    bench.reopen()
    assert await bench.read(1, 2) == [payload_of(1)]


async def test_a_journal_is_opened_anew_when_its_disk_is_well() -> None:
    medium = Medium("node", Random(1), Counter())
    bench = Bench(lambda: SimulatedFiles(medium, Process("node")), Path("/node/journal"))
    clock = ManualClock()
    reopener = JournalReopener(bench.journal, clock)

    async def pass_time() -> None:
        await reopener.step()
        clock.advance(PAUSE_S_MAX)
        await reopener.step()

    await bench.journal.open_segment(caller(), 7, 1)
    await bench.append(1)
    medium.fails_syncs = True
    with pytest.raises(faults.Unavailable):
        await bench.append(2)
    await pass_time()
    with pytest.raises(faults.Unavailable):
        await bench.read(1, 2)
    medium.fails_syncs = False
    await pass_time()
    assert (await bench.read(1, 2))[:1] == [payload_of(1)]
    with pytest.raises(faults.Invalid):  # the segment is not open: it is never appended to again
        await bench.append(2)
    with pytest.raises(faults.Fenced):
        await bench.journal.open_segment(caller(0), 8, 2)
    await bench.journal.open_segment(caller(2), 8, 2)
    await bench.append(2, segment=8, epoch=2)
    bench.reopen()
    assert (await bench.read(1, 2))[:1] == [payload_of(1)]


async def test_a_full_disk_refuses_a_segment() -> None:
    medium = Medium("node", Random(1), Counter())
    bench = Bench(lambda: SimulatedFiles(medium, Process("node")), Path("/node/journal"))
    medium.is_full = True
    with pytest.raises(faults.Full):
        await bench.journal.open_segment(caller(), 7, 1)
    medium.is_full = False
    await bench.journal.open_segment(caller(), 7, 1)
    await bench.append(1)


class Acknowledged:
    """What the journal has said is done."""

    def __init__(self) -> None:
        self.promised = 0
        self.header = 0
        self.trimmed = 0
        self.segments: dict[int, set[int]] = {}


async def workload(bench: Bench, said: Acknowledged) -> None:
    """Two epochs, three segments, chunks, a trim; notes every answer."""
    for epoch, segment, begin in ((1, 10, 1), (1, 11, 6), (2, 20, 9)):
        await bench.journal.fence(caller(epoch))
        said.promised = epoch
        await bench.journal.open_segment(caller(epoch), segment, begin)
        header = journal_pb2.Header(cluster_id="cluster", epoch=epoch, version=segment)
        await bench.journal.write_header(caller(epoch), header)
        said.header = segment
        said.segments[segment] = set()
        for sequence in range(begin, begin + 5):
            await bench.append(sequence, payload_of(sequence, 17_000), epoch=epoch, segment=segment)
            said.segments[segment].add(sequence)
    said.trimmed = 9
    request = journal_pb2.Trim(caller=caller(2), before_sequence=9, segment_ids=[11, 20])
    await bench.journal.trim(request)


async def check(bench: Bench, said: Acknowledged) -> None:
    picture = await bench.journal.fence(journal_pb2.Caller(cluster_id="cluster"))
    assert picture.promised >= said.promised
    assert picture.header.version >= said.header
    states = {each.segment_id: each for each in picture.segments}
    for segment, sequences in said.segments.items():
        kept = {sequence for sequence in sequences if sequence >= said.trimmed}
        if not kept or (segment == 10 and said.trimmed):
            continue
        assert not states[segment].damaged
        assert states[segment].end_sequence > max(kept)
        begin, end = min(kept), states[segment].end_sequence
        expected = [payload_of(n, 17_000) for n in range(begin, end)]
        assert await bench.read(begin, end, segment) == expected


def live(medium: Medium, crash_at: int | None, work: Callable[[Bench], Any]) -> bool:
    """One life of a process; it ends at its n-th disk operation, or in peace: then True."""
    loop = SimulatedLoop(0)
    process = Process("node")
    medium.crash, medium.operations_until_crash = lambda: loop.kill(process), crash_at

    async def main() -> None:
        await work(Bench(lambda: SimulatedFiles(medium, process), Path("/node/journal")))

    async def watch() -> bool:
        task = loop.start_process(process, main)
        while not process.is_dead and not task.done():  # noqa: ASYNC110 - time costs nothing
            await asyncio.sleep(0.1)
        if process.is_dead:
            return False
        task.result()
        return True

    try:
        return loop.run_until_complete(watch())
    finally:
        loop.bury()
        loop.close()
        medium.operations_until_crash = None


@pytest.mark.parametrize("seed", range(4))
def test_power_may_fail_at_every_disk_operation(seed: int) -> None:
    crash_at, is_over = 0, False
    while not is_over:
        crash_at += 1
        medium = Medium("node", Random(f"{seed} {crash_at}"), Counter())
        said = Acknowledged()
        is_over = live(medium, crash_at, lambda bench, said=said: workload(bench, said))
        for again in (3, None):  # recovery is cut short, then done
            medium.lose_power()
            live(medium, again, lambda bench, said=said: check(bench, said))
    assert crash_at > 60, "the workload has more operations than that"
