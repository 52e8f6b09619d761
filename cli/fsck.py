"""`ostraka fsck`: everything that is committed must be on the disks, everything on them known.

Exit code 0: all is well; 4: something was found, or is left after `--repair`; 1: it could not be
checked. The JSON form is a contract: `clean`, `complete` (whole cluster, data read), `seen`,
`counts` (findings by kind), `findings` and `repaired`.
"""

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import click
from rich.console import Console
from rich.markup import escape

from cli.checking import ControlDisks, ControlMeta
from cli.control import call, with_control
from cli.target import Target, for_cluster
from common import faults
from metaservice.client import Method
from proto import admin_pb2, scrub_pb2
from workers.compare import REPAIRABLE, Comparison, Finding
from workers.walk import ClusterWalk

EXIT_FOUND = 4
FINDINGS_KEPT_MAX = 100_000
SHOWN_MAX = 20  # of each kind, on a terminal
REPORTED_AT_ONCE_MAX = 50
REPAIR_POLL_S = 1.0
REPAIR_STALL_S = 120.0  # without any progress: repair does not run, or cannot
WORDS = {
    "lost": "too few fragments are left: data is lost",
    "unreadable": "cannot be read until nodes return",
    "damaged": "fragments are missing or bad; the data is readable",
    "away": "fragments are on nodes that do not answer",
    "misplaced": "fragments share a zone",
    "orphan": "fragments that no row names",
    "metadata": "rows of the metadata contradict one another",
}
PENDING_WORDS = {
    "in_flight": "of uploads under way",
    "ended": "of ended uploads, for the collector",
    "deleted": "of deleted data, for the collector",
    "checkpoint": "of checkpoints of the metadata",
    "moved": "of blobs that lie elsewhere now",
}


@click.command("fsck")
@for_cluster
@click.option("--bucket", default="", metavar="B", help="Only what this bucket's objects need.")
@click.option("--data", "with_data", is_flag=True,
              help="Let nodes read every fragment, not believe their indexes.")  # fmt: skip
@click.option("--repair", is_flag=True, help="Ask for the repair of what was found, and wait.")
@click.option("--json", "as_json", is_flag=True, help="The documented JSON form.")
def command(target: Target, bucket: str, with_data: bool, repair: bool, as_json: bool) -> None:
    """Compare metadata, the disks' indexes and (--data) every stored byte.

    Runs beside everything else and changes nothing but what --repair asks for. Exit code 0 if all
    is well, 4 if something was found (or is left after --repair), 1 if it could not be checked.
    """

    async def work(stub: Any) -> "Check":
        check = Check(stub, bucket, with_data=with_data)
        await check.run(repair=repair)
        return check

    check: Check = with_control(target.address, work)
    if as_json:
        click.echo(json.dumps(check.document(), indent=1))
    else:
        check.show()
    sys.exit(0 if not check.findings else EXIT_FOUND)


class Check:
    """One run."""

    def __init__(self, stub: Any, bucket: str, *, with_data: bool) -> None:
        self._stub = stub
        self._meta = ControlMeta(stub)
        self._bucket = bucket
        self._with_data = with_data
        self._out = Console(stderr=True, highlight=False, soft_wrap=True)
        self.findings: list[Finding] = []
        self.repaired = 0
        self._comparison: Comparison | None = None

    async def run(self, *, repair: bool) -> None:
        """Walk, collect, ask for repair. raises NotFound("bucket"), Unavailable, Corrupt"""
        status = await call(self._stub.ClusterStatus, admin_pb2.ClusterStatusRequest())
        disks = ControlDisks(status)
        try:
            self._comparison = Comparison(
                self._meta, disks, time.time_ns(), with_data=self._with_data
            )
            walk = ClusterWalk(self._meta, disks, self._comparison)
            steps = walk.bucket(self._bucket) if self._bucket else walk.everything()
            with self._out.status("checking") as line:
                done: Counter[str] = Counter()
                async for step in steps:
                    self.findings += step.findings
                    if len(self.findings) > FINDINGS_KEPT_MAX:
                        raise faults.Invalid("findings", str(FINDINGS_KEPT_MAX), "too many to hold")
                    done[step.phase] += step.count
                    line.update(f"{step.phase}: {done[step.phase]:,}, found {len(self.findings):,}")
                if repair:
                    await self._repair(line.update)
        finally:
            await disks.close()

    async def _repair(self, say: Any) -> None:
        """Report what can be repaired and look until it is, or nothing happens any more."""
        wanted = [finding for finding in self.findings if finding.kind in REPAIRABLE]
        others = [finding for finding in self.findings if finding.kind not in REPAIRABLE]
        if not wanted:
            return
        count = len(wanted)
        for begin in range(0, count, REPORTED_AT_ONCE_MAX):
            some = wanted[begin : begin + REPORTED_AT_ONCE_MAX]
            request = scrub_pb2.ReportFragments(
                fragments=[bad for finding in some for bad in finding.bad]
            )
            await self._meta.call(Method.REPORT_FRAGMENTS, request)
        changed_s = time.monotonic()
        left = wanted
        while left and time.monotonic() - changed_s < REPAIR_STALL_S:
            say(f"repair: {count - len(left):,} of {count:,} blobs")
            await asyncio.sleep(REPAIR_POLL_S)
            before, left = len(left), await self._look_again(left)
            if len(left) < before:
                changed_s = time.monotonic()
        self.repaired = count - len(left)
        self.findings = others + left

    async def _look_again(self, findings: Sequence[Finding]) -> list[Finding]:
        assert self._comparison is not None, "after run"
        left: list[Finding] = []
        for begin in range(0, len(findings), REPORTED_AT_ONCE_MAX):
            left += await self._comparison.look_again(
                findings[begin : begin + REPORTED_AT_ONCE_MAX]
            )
        return left

    def document(self) -> dict[str, Any]:
        """The JSON form."""
        assert self._comparison is not None, "after run"
        return {
            "clean": not self.findings,
            "complete": self._with_data and not self._bucket,
            "seen": asdict(self._comparison.seen),
            "counts": dict(Counter(finding.kind for finding in self.findings)),
            "findings": [_described(finding) for finding in self.findings],
            "repaired": self.repaired,
        }

    def show(self) -> None:
        """For people."""
        assert self._comparison is not None, "after run"
        out, seen = Console(highlight=False, soft_wrap=True), self._comparison.seen
        by_kind: dict[str, list[Finding]] = {}
        for finding in self.findings:
            by_kind.setdefault(finding.kind, []).append(finding)
        for kind, words in WORDS.items():
            found = by_kind.get(kind, [])
            if found:
                out.print(f"[yellow]![/yellow] {len(found):,} {kind}: {words}")
            for finding in found[:SHOWN_MAX]:
                out.print("    ", escape(_line(finding)))
            if len(found) > SHOWN_MAX:
                out.print(f"     ... and {len(found) - SHOWN_MAX:,} more")
        out.print(
            f"{seen.rows:,} rows, {seen.blobs:,} blobs, {seen.fragments_named:,} fragments named, "
            f"{seen.fragments_on_disks:,} on disks"
            + (f", {seen.bytes_verified:,} bytes read" if self._with_data else "")
        )
        for state, count in sorted(seen.pending.items()):
            out.print(f"{count:,} fragments {PENDING_WORDS[state]}")
        if self.repaired:
            out.print(f"{self.repaired:,} blobs repaired")
        out.print("[green]clean[/green]" if not self.findings else "[red]not clean[/red]")


def _described(finding: Finding) -> dict[str, Any]:
    named = finding.named
    return {
        "kind": finding.kind,
        "bucket": named.bucket,
        "key": named.key.decode(errors="backslashreplace"),
        "version_id": named.version_id.hex(),
        "upload_id": named.upload_id.hex(),
        "part_number": named.part_number,
        "blob": named.blob.blob_id.hex(),
        "fragments": [
            {"index": index, "disk": named.blob.disk_ids[index], "reason": reason}
            for index, reason in sorted(finding.reasons.items())
        ],
        "words": finding.words,
    }


def _line(finding: Finding) -> str:
    named = finding.named
    place = f"{named.bucket}/{named.key.decode(errors='backslashreplace')}" if named.key else ""
    part = f" part {named.part_number}" if named.part_number else ""
    blob = f" blob {named.blob.blob_id.hex()}" if named.blob.blob_id else ""
    reasons = ", ".join(
        f"{index} {reason} (disk {named.blob.disk_ids[index]})"
        for index, reason in sorted(finding.reasons.items())
    )
    return " ".join(
        part for part in (f"{place}{part}{blob}".strip(), reasons, finding.words) if part
    )
