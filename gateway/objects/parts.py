"""Arithmetic over the parts of a completed multipart object: pure, no I/O."""

from collections.abc import Iterator
from dataclasses import dataclass

from common import faults
from proto import records_pb2


@dataclass(frozen=True, slots=True)
class PartSpan:
    """A part that holds some of the wanted bytes: which of its own bytes those are."""

    number: int
    begin: int
    end: int


def part_span(version: records_pb2.Version, number: int) -> tuple[int, int]:
    """Where part `number` of an object, counted from 1 in object order, begins and ends.

    An object stored in one piece is its own and only part.
    raises   Invalid("part_number") if there is no such part
    """
    if not version.HasField("parts"):
        if number == 1:
            return 0, version.size_bytes
        raise faults.Invalid("part_number", str(number), "InvalidPartNumber")
    offset, index = 0, number - 1
    for run in version.parts.runs:
        if 0 <= index < run.count:
            begin = offset + index * run.part_bytes
            return begin, begin + run.part_bytes
        offset += run.count * run.part_bytes
        index -= run.count
    raise faults.Invalid("part_number", str(number), "InvalidPartNumber")


def uploaded_number(parts: records_pb2.PartsRef, number: int) -> int:
    """The number under which part `number` of an object, in object order, was uploaded.

    raises   Invalid("part_number") if there is no such part
    """
    index = number - 1
    for run in parts.runs:
        if 0 <= index < run.count:
            return run.first_number + index
        index -= run.count
    raise faults.Invalid("part_number", str(number), "InvalidPartNumber")


def spans(parts: records_pb2.PartsRef, begin: int, end: int) -> Iterator[PartSpan]:
    """List the parts that hold object bytes [begin, end), in object order."""
    offset = 0
    for run in parts.runs:
        run_end = offset + run.count * run.part_bytes
        if run.part_bytes and run_end > begin:
            first = max(0, (begin - offset) // run.part_bytes)
            for index in range(first, run.count):
                part_begin = offset + index * run.part_bytes
                if part_begin >= end:
                    return
                yield PartSpan(
                    run.first_number + index,
                    max(begin - part_begin, 0),
                    min(end - part_begin, run.part_bytes),
                )
        offset = run_end
