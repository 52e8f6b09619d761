"""What the metadata survives, told in words: copies that are there now, not copies configured.

Pure: no I/O.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from metaservice.journal.register import is_joined
from proto import journal_pb2, records_pb2

ONE_DISK = "nothing: metadata lives on one disk"


@dataclass(slots=True)
class JournalPicture:
    """What `status` shows of the journal."""

    survives: str
    state: str  # off, beginning, running, short
    copies: int = 0  # beside the service's own disk
    copies_wanted: int = 0
    epoch: int = 0
    nodes: list[str] = field(default_factory=list)
    checkpoint_sequence: int = 0
    checkpoint_ns: int = 0
    problems: list[str] = field(default_factory=list)


def picture_of(
    header: journal_pb2.Header | None,
    wanted: int,
    is_there: Callable[[str, int], bool],
    fragments_by_zone: Callable[[records_pb2.BlobRef], Sequence[int]],
    zones: int,
) -> JournalPicture:
    """Judge a header by what is there.

    is_there            of a node and a segment
    fragments_by_zone   of a blob of the checkpoint: those that can be read
    """
    if not wanted:
        return JournalPicture(f"{ONE_DISK}: the cluster's geometry has no parity", "off")
    if header is None or not header.segments:
        why = "it waits for storage nodes" if zones < wanted else "its journal begins"
        return JournalPicture(f"{ONE_DISK}: {why}", "beginning", copies_wanted=wanted)
    picture = JournalPicture(
        "", "running", _copies(header, is_there, fragments_by_zone), wanted, header.epoch,
        list(header.segments[-1].nodes),
    )  # fmt: skip
    if not header.checkpoints or not is_joined(header, header.checkpoints[-1]):
        picture.copies = 0
        picture.survives = f"{ONE_DISK}: its first checkpoint is being stored"
        picture.state = "beginning"
        return picture
    picture.checkpoint_sequence = header.checkpoints[-1].sequence
    picture.checkpoint_ns = header.checkpoints[-1].time_ns
    picture.survives = _sentence(min(picture.copies, wanted), wanted)
    if picture.copies < wanted:
        picture.state = "short"
        picture.problems.append(
            f"metadata: {_copies_in_words(picture.copies)} of {wanted} beside its own disk"
        )
    return picture


def _copies(
    header: journal_pb2.Header,
    is_there: Callable[[str, int], bool],
    fragments_by_zone: Callable[[records_pb2.BlobRef], Sequence[int]],
) -> int:
    """The fewest copies of anything that a recovery needs: one more than zones may be lost."""
    sequence = header.checkpoints[-1].sequence if header.checkpoints else 0
    counts = [
        sum(is_there(name, segment.segment_id) for name in segment.nodes)
        for segment in header.segments
        if not segment.sealed or (segment.end_sequence > max(segment.first_sequence, sequence + 1))
    ]
    blobs = header.checkpoints[-1].blobs if header.checkpoints else ()
    counts += [_losses_before(blob.k, fragments_by_zone(blob)) for blob in blobs]
    return min(counts, default=0)


def _losses_before(k: int, fragments: Sequence[int]) -> int:
    """How many zones, those with most fragments first, must be lost until fewer than k are left."""
    left, losses = sum(fragments), 0
    for count in sorted(fragments, reverse=True):
        if left < k:
            break
        left -= count
        losses += 1
    return losses


def _sentence(copies: int, wanted: int) -> str:
    """A copy more than zones may be lost together with the service's own disk."""
    if not copies:
        return f"{ONE_DISK}: all copies beside it are away"
    zones = f"any {wanted} zones" if wanted > 1 else "any 1 zone"
    if copies == 1:
        return f"{zones}, or of its own disk"
    more = f"{copies - 1} zones" if copies > 2 else "1 zone"
    return f"{zones}, or of its own disk and any {more}"


def _copies_in_words(count: int) -> str:
    return f"{count} copies" if count != 1 else "1 copy"
