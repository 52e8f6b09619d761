"""One run: a cluster, clients, troubles, quiet, and what was found."""

import asyncio
import gc
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from common import faults
from common.erasure.code import load_codes
from common.keyring import KeyRing
from gateway.handlers.context import Context
from gateway.objects.buckets import BucketScope
from gateway.s3 import errors
from gateway.s3.model.bucket import (
    CreateBucketRequest,
    PutBucketVersioningRequest,
    VersioningConfiguration,
)
from gateway.s3.model.object import GetObjectRequest
from proto import records_pb2
from tests.simulation.asking import AMBIGUOUS, Account, ask, serve
from tests.simulation.client import Client
from tests.simulation.cluster import (
    ROWS,
    GatewayMember,
    Member,
    MetaMember,
    NodeMember,
    WorkersMember,
)
from tests.simulation.entropy import deterministic
from tests.simulation.history import History, Violation
from tests.simulation.invariants import (
    check_disk,
    check_kept,
    check_named,
    check_quiet,
    rows,
)
from tests.simulation.loop import PROCESS, PowerFailure, Process, SimulatedLoop
from tests.simulation.nemesis import Nemesis
from tests.simulation.network import Network
from tests.simulation.plan import (
    GATEWAYS,
    KEYS,
    META,
    PLAIN,
    VERSIONED,
    WORKERS,
    ZONES,
    Action,
    Plan,
    Request,
)
from tests.simulation.recovery import check_recovery

SETTLE_S = 20.0
ROUND_S_MAX = 3600.0
QUIET_S = 900.0  # beside days: for the passes of scrub and comparison
QUIET_DAYS = 2  # longer than the quarantine of what nothing knows of
QUIET_ROUNDS_MAX = 6
BEAT_S = 2.0
NAMED_BEATS = 15
DAY_IDLE_S = 300.0
DAYS_AT_ONCE = 5
START_AGAIN_S = 2.0
# Of background loops while the world is idle, at least. Gateways' leases must not run out.
IDLE_PAUSES_S = {
    META: 120.0, **dict.fromkeys(WORKERS, 100.0), **dict.fromkeys(GATEWAYS, 25.0),
    **dict.fromkeys(ZONES, 120.0),
}  # fmt: skip
AFTER_IDLE_S = 6.0
CODES = load_codes()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run showed."""

    plan: Plan
    violations: tuple[Violation, ...]
    digest: str
    events: int
    simulated_s: float
    history: History
    trace: tuple[str, ...]
    seen: Counter[str]  # what has really gone wrong, and which requests were answered


MakeWorld = Callable[[SimulatedLoop, Plan, type[NodeMember]], "World"]


def run(
    plan: Plan,
    *,
    keeps_trace: bool = False,
    node: type[NodeMember] = NodeMember,
    make_world: MakeWorld | None = None,
) -> Outcome:
    """Run a plan; the same plan gives the same outcome, event for event."""
    loop = SimulatedLoop(f"{plan.seed} {plan.variant}", keeps_trace=keeps_trace)
    outcome = _run(loop, (make_world or World)(loop, plan, node))
    del loop
    gc.collect()  # or large buffers pile up behind a few small objects
    return outcome


def _run(loop: SimulatedLoop, world: "World") -> Outcome:
    plan, seed = world.plan, f"{world.plan.seed} {world.plan.variant}"
    watch = _Watch(world.history)
    logging.getLogger().addHandler(watch)
    loop.set_exception_handler(watch.loop_failed)
    try:
        media = {member.name: member.medium for member in world.members.values()}
        with deterministic(seed, media):
            try:
                loop.run_until_complete(world.run())
            finally:
                logging.getLogger().removeHandler(watch)
                digest, events = loop.digest, loop.event_count
                for member in world.members.values():
                    loop.kill(member.process)
                loop.bury()
    finally:
        loop.close()
    world.history.check_linearizable()
    return Outcome(
        plan,
        tuple(world.history.violations),
        digest,
        events,
        loop.now_s,
        world.history,
        tuple(loop.trace_lines or ()),
        loop.seen,
    )


class World:
    """A cluster, its clients, and what is wrong with them."""

    def __init__(self, loop: SimulatedLoop, plan: Plan, node: type[NodeMember]) -> None:
        self.loop, self.plan = loop, plan
        self.network = Network(loop)
        loop.create_server = self.network.create_server  # type: ignore[method-assign, assignment]
        loop.create_connection = (  # type: ignore[method-assign]
            self.network.create_connection  # type: ignore[assignment]
        )
        self.history = History()
        ring = KeyRing({b"key1": bytes(32)}, b"key1")
        self._kit = ring, CODES
        self.meta = MetaMember(loop, META, ring, CODES)
        self.nodes = {name: node(loop, name) for name in ZONES}
        self.gateways = {name: GatewayMember(loop, name, ring, CODES) for name in GATEWAYS}
        workers = {name: WorkersMember(loop, name, CODES) for name in WORKERS[: plan.workers]}
        self.members: dict[str, Member] = {
            META: self.meta, **self.nodes, **self.gateways, **workers
        }  # fmt: skip
        self.nemesis = Nemesis(loop, self.network, self.members, self.start)
        self.meta.end = self._restart_meta
        self._is_idle = False
        self._values: set[tuple[str, int]] = set()
        self._unknown: set[bytes] = set()
        self._kept: set[int] = set()

    def start(self, member: Member) -> None:
        """Give a member a new life."""
        process = member.begin()
        process.idle_pause_s = IDLE_PAUSES_S[member.name] if self._is_idle else 0.0
        self.loop.log("start", member.name)
        task = self.loop.start_process(process, member.run)

        def started(task: "asyncio.Task[None]") -> None:
            error = None if task.cancelled() else task.exception()
            if error is None and isinstance(member, NodeMember) and member.is_up:
                self._check_kept(member)
            if error is None or isinstance(error, PowerFailure) or process.is_dead:
                return
            medium = member.medium
            if not (medium.fails_syncs or medium.fails_reads or medium.is_full):
                raise error
            # Whatever runs the processes starts one that could not begin again.
            self.loop.seen["could not start"] += 1
            self.nemesis.crash(member, mends_disk=False)
            self.loop.call_later(START_AGAIN_S, self.nemesis.revive, member)

        task.add_done_callback(started)

    def _restart_meta(self, process: Process) -> None:
        if process is self.meta.process and self.meta.is_up:
            self.nemesis.crash(self.meta, mends_disk=False)
            self.loop.call_later(START_AGAIN_S, self.nemesis.revive, self.meta)

    def _check_kept(self, node: NodeMember) -> None:
        """A disk that nothing damaged has, whenever it starts, what it acknowledged."""
        medium, disk = node.medium, node.store.disks[0]
        table = self.meta.medium.tables.get(ROWS)
        if table is None or node.name in self.nemesis.damaged or disk.failure:
            return
        operations, medium.operations_until_crash = medium.operations_until_crash, None
        check_kept(table, disk, node.name, self.history)
        medium.operations_until_crash = operations

    # --- the run --------------------------------------------------------------------------------

    async def run(self) -> None:
        """Everything, from the first start to the last check."""
        for member in self.members.values():
            self.start(member)
        await self._make_buckets()
        for number in range(self.plan.rounds):
            async with asyncio.TaskGroup() as group:
                for trouble in self.plan.troubles:
                    if trouble.round == number:
                        group.create_task(self.nemesis.work(trouble))
                await self._round(number)
                await self._idle(self.plan.idle_s, self.plan.days)
            self.nemesis.return_the_away()
        self.nemesis.heal()
        await asyncio.sleep(SETTLE_S)
        await self._read_everything()
        await self._become_quiet()
        await self._read_everything()
        self.loop.kill(self.meta.process)
        disks = {name: node.store.disks[0].identity.disk_id for name, node in self.nodes.items()}
        kit = self._kit
        await check_recovery(self.meta.store, disks, self.meta.clock, kit, self.history)

    async def _round(self, number: int) -> None:
        """Each client makes its requests, one after another."""
        client = Client(self.loop, self.gateways, self.history)

        async def work(requests: list[Request]) -> None:
            for request in requests:
                await asyncio.sleep(request.pause_s)
                await client.perform(request)

        by_client: dict[int, list[Request]] = {}
        for request in self.plan.requests:
            if request.round == number:
                by_client.setdefault(request.client, []).append(request)

        try:
            async with asyncio.timeout(ROUND_S_MAX), asyncio.TaskGroup() as group:
                for requests in by_client.values():
                    group.create_task(work(requests))
        except TimeoutError:
            self.history.violate("stuck", f"round {number} does not end")

    async def _make_buckets(self) -> None:
        """Wait until the cluster takes requests; one bucket is versioned."""
        gateway = self.gateways[GATEWAYS[0]]

        async def make() -> None:
            context = Context(Account(), "request", "us-east-1", "", _no_source)
            for name in (PLAIN, VERSIONED):
                await gateway.handlers["CreateBucket"](context, CreateBucketRequest(bucket=name))
            record = await gateway.buckets.get(VERSIONED)
            context.scope = BucketScope(gateway.buckets, record, lambda _: None)
            await gateway.handlers["PutBucketVersioning"](
                context,
                PutBucketVersioningRequest(
                    bucket=VERSIONED,
                    versioning_configuration=VersioningConfiguration(status="Enabled"),
                ),
            )

        while not all(hasattr(each, "handlers") for each in self.gateways.values()):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        await asyncio.sleep(3.0)  # all nodes register
        await ask(self.loop, gateway, make)

    # --- quiet ----------------------------------------------------------------------------------

    async def _idle(self, seconds: float, days: int = 0) -> None:
        """Let time pass with nothing but background work, at a slower pace.

        Heartbeats are then told to the registry without the network, or an idle hour would be made
        of nothing else.

        days   go by too: wall clocks go on, everything else does a few minutes of work meanwhile
        """
        self.loop.log("idle", seconds, days)
        self._set_idle(is_idle=True)
        end_s, beats = self.loop.now_s + seconds, 0
        while self.loop.now_s < end_s or days > 0:
            if self.loop.now_s >= end_s:
                self.loop.seen["days passed"] += min(days, DAYS_AT_ONCE)
                self.loop.days_skipped += min(days, DAYS_AT_ONCE)
                days -= DAYS_AT_ONCE
                end_s += DAY_IDLE_S
            await asyncio.sleep(BEAT_S)
            self._beat()
            beats += 1
            if beats % NAMED_BEATS == 0:
                self._check_named()
        for member in self.members.values():
            member.medium.write_back()
        self._set_idle(is_idle=False)
        self._beat()
        await asyncio.sleep(AFTER_IDLE_S)

    def _set_idle(self, *, is_idle: bool) -> None:
        self._is_idle = is_idle
        for member in self.members.values():
            self.loop.set_pace(member.process, IDLE_PAUSES_S[member.name] if is_idle else 0.0)

    def _beat(self) -> None:
        if self.meta.is_up and self.meta.registry is not None:
            for _, value in rows(self.meta.store, b"G"):
                self._kept.add(records_pb2.Garbage.FromString(value).session_id)
            if unknown := rows(self.meta.store, b"F"):
                self._check_unknown([key for key, _ in unknown])
            for node in self.nodes.values():
                if node.is_up:
                    self.meta.registry.heard(node.name, [])

    def _check_named(self) -> None:
        if self.meta.is_up and self.meta.registry is not None:
            disks = {
                name: node.store.disks[0]
                for name, node in self.nodes.items()
                if node.is_up and name not in self.nemesis.damaged and hasattr(node, "store")
            }
            whole = {name: disk for name, disk in disks.items() if not disk.failure}
            check_named(self.meta.store, whole, self.history)

    def _check_unknown(self, unknown: list[bytes]) -> None:
        """A disk that nothing damaged never has what no row names and no session explains.

        Sessions explain it also that have ended while a disk was away, whose walk is kept for it.
        """
        names = {node.store.disks[0].identity.disk_id: name for name, node in self.nodes.items()}
        for key in unknown:
            name = names.get(int.from_bytes(key[1:9], "big"), "")
            if int.from_bytes(key[9:17], "big") in self._kept or key in self._unknown:
                continue
            if name and name not in self.nemesis.damaged:
                self._unknown.add(key)
                self.history.violate("unknown fragment", f"{key[9:].hex()} of {name}")

    async def _remove_lost_disks(self, found: History) -> None:
        """Tell the cluster, as an operator, that disks which were replaced never come back."""
        present = {node.store.disks[0].identity.disk_id for node in self.nodes.values()}
        known = [records_pb2.Disk.FromString(row) for _, row in rows(self.meta.store, b"D")]
        lost = [disk.disk_id for disk in known if disk.disk_id not in present]
        try:
            await self.loop.start_process(self.meta.process, lambda: self.meta.remove_disks(lost))
        except faults.Invalid as refused:
            found.violate("disk in use", faults.in_words(refused))

    async def _become_quiet(self) -> None:
        """End all sessions; wait until nothing is left to collect, to repair or to judge."""
        for gateway in self.gateways.values():
            await ask(self.loop, gateway, gateway.end_session)
        for _ in range(QUIET_ROUNDS_MAX):
            await self._idle(QUIET_S, QUIET_DAYS)
            found = History()
            await self._remove_lost_disks(found)
            stores = {name: node.store for name, node in self.nodes.items()}
            check_quiet(self.meta.store, stores, found)
            for name, node in self.nodes.items():
                if node.journal.is_failed:
                    found.violate("failed disk", f"the journal of {name}")
            for name, node in self.nodes.items():
                check = partial(check_disk, node.store.disks[0], name, found)
                await self.loop.start_process(node.process, check)
            if not found.violations:
                return
        self.history.violations += found.violations

    async def _read_everything(self) -> None:
        """Read the current version of each key, and each version that metadata names."""
        client = Client(self.loop, self.gateways, self.history)
        number = 1_000_000
        for bucket in (PLAIN, VERSIONED):
            for key in KEYS:
                number += 1
                request = Request(number, 0, 0, Action.GET, bucket, key, 0, GATEWAYS[0], 0.0, 0.0)
                count = len(self.history.operations.get((bucket, key), ()))
                await client.perform(request)
                if len(self.history.operations.get((bucket, key), ())) == count:
                    self.history.violate("unreadable", "a quiet cluster", (bucket, key))
        gateway = self.gateways[GATEWAYS[1]]
        self._values.clear()
        for row, value in rows(self.meta.store, b"v"):
            version = records_pb2.Version.FromString(value)
            if not version.is_delete_marker and version.version_id:
                key = row[9:-18].replace(b"\x00\xff", b"\x00").decode()
                await self._read_version(gateway, key, version)

    async def _read_version(
        self, gateway: GatewayMember, key: str, version: records_pb2.Version
    ) -> None:
        shape = GetObjectRequest(bucket=VERSIONED, key=key, version_id=version.version_id.hex())
        call: Callable[[], Any] = lambda: serve(gateway, "GetObject", VERSIONED, shape)  # noqa: E731
        place = (VERSIONED, key)
        try:
            result, data = await ask(self.loop, gateway, call)
        except (*AMBIGUOUS, faults.Fault, errors.S3Error) as error:
            self.history.violate("unreadable", f"version {shape.version_id}: {error!r}", place)
            return
        value = int(result.metadata["value"])
        self.history.check_content(place, value, 0, data)
        if (key, value) in self._values:
            self.history.violate("written twice", f"value {value} is two versions", place)
        self._values.add((key, value))
        if len(data) != version.size_bytes:
            self.history.violate("short read", f"version {shape.version_id}", place)


async def _no_source(*_: Any) -> Any:
    raise NotImplementedError


class _Watch(logging.Handler):
    """Unhandled exceptions of living processes, from logs and from the loop, are violations."""

    def __init__(self, history: History) -> None:
        super().__init__(logging.WARNING)
        self._history = history

    def emit(self, record: logging.LogRecord) -> None:
        process: Process = PROCESS.get()
        if record.exc_info and not process.is_dead:
            text = logging.Formatter().formatException(record.exc_info)
            self._history.violate("exception", f"{process.name}: {record.getMessage()}\n{text}")

    def loop_failed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        # A task that nobody asked for its end may be found long after its process.
        process = getattr(context.get("future"), "process", PROCESS.get())
        if not process.is_dead and not isinstance(context.get("exception"), PowerFailure):
            self._history.violate(
                "exception", f"{process.name}: {context['message']} {context.get('exception')!r}"
            )
