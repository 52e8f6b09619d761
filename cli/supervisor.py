"""The supervisor of a local cluster: starts its processes, looks after them, stops them."""

import asyncio
import contextlib
import http.client
import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from cli.bootstrap import DEFAULT_REGION, AccountPlan, Bootstrap, root_account
from cli.control import call, make_account, with_control
from cli.folder import ClusterFolder, ClusterIdentity
from cli.lifeline import end_all, processes_of
from cli.plan import Plan, profile_of
from cli.ports import LOOPBACK, port_trouble
from cli.processes import STOP_S, Child, how_it_ended, stop, watch
from cli.status import collect
from cli.welcome import welcome
from common import faults
from proto import admin_pb2

START_S = 60.0
NODES_S = 10.0  # an existing cluster waits so long for its last storage nodes
JOURNAL_S = 4.0
POLL_S = 0.05
WATCH_S = 0.5
DEFAULT_PORT, DEFAULT_ZONES = 9000, 6
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

Say = Callable[[str], None]


class Interrupted(Exception):
    """The user does not want to wait for the start any longer."""


class LocalCluster:
    """One cluster's supervisor. `progress` is told what is being done, `say` what has happened."""

    def __init__(self, folder: ClusterFolder, progress: Say, say: Say) -> None:
        self._folder = folder
        self._progress = progress
        self._say_to = say
        self._lock: BinaryIO | None = None
        self._plan: Plan | None = None
        self._identity: ClusterIdentity | None = None
        self._is_new = False
        self._signals = 0
        self._state: dict[str, Any] = {}

    def start(
        self,
        port: int | None,
        zones: int | None,
        gateways: int | None,
        bootstrap: Bootstrap | None,
    ) -> str:
        """Start everything; returns the text for the user. None: as before, or the default.

        raises   Invalid, Full, Unavailable, AlreadyExists, Interrupted
        """
        for name in SIGNALS:
            signal.signal(name, self._on_signal)
        self._folder.prepare()
        self._lock = self._folder.lock()
        self._progress("looking for processes of an earlier run")
        end_all(self._leftovers, STOP_S)
        port = self._port(port)
        identity = self._identity = self._load_or_create(zones, bootstrap)
        identity.port = port
        identity.gateways = gateways or os.cpu_count() or 1
        plan = self._plan = Plan(self._folder, identity)
        self._write_state()
        accounts = self._accounts(identity, bootstrap)
        self._start_children([plan.metaservice, *plan.nodes, plan.workers])
        with_control(
            f"{LOOPBACK}:{plan.control_port}", lambda stub: self._prepare(stub, plan, accounts)
        )
        self._start_children(plan.gateways)
        self._wait_for_endpoint(identity.port, plan)
        plan.note_up()
        self._write_state()
        with_control(f"{LOOPBACK}:{plan.control_port}", self._wait_for_journal)
        key = next((key for account in accounts for key in account.keys), None)
        picture = collect(self._folder)
        return welcome(picture, profile_of(identity.zones), identity.region, key)

    def run(self) -> None:
        """Restart what dies until told to stop, then stop everything in order."""
        assert self._plan is not None
        while not self._signals:
            if not self._is_ours():
                self._say("the folder was removed, moved or made anew: its processes are stopped")
                break
            # A full disk or too many open files must not end the cluster.
            try:
                for line in watch(self._plan.children):
                    self._say(line)
                self._write_state()
            except OSError as error:
                self._say(f"cannot look after the processes: {error}")
            time.sleep(WATCH_S)
        self._say("stopping")
        self.stop()

    def stop(self) -> None:
        """End all processes, whatever state the start was in."""
        if self._plan is None:
            return
        for name in stop(self._plan.children):
            self._say(f"{name} did not stop in time and was killed")
        if self._is_ours():
            with contextlib.suppress(OSError):
                self._write_state()

    def _is_ours(self) -> bool:
        """Whether the folder is the one that is held: another cluster may be in its place."""
        assert self._lock is not None
        try:
            return os.path.samestat(self._folder.lock_file.stat(), os.fstat(self._lock.fileno()))
        except FileNotFoundError:
            return False
        except OSError:
            return True  # it cannot be told now

    def _port(self, wanted: int | None) -> int:
        """The endpoint's port; before anything is made, so that trouble leaves nothing behind."""
        port = wanted or (self._folder.load().port if self._folder.exists() else 0) or DEFAULT_PORT
        if trouble := port_trouble(port):
            raise faults.Invalid("port", str(port), trouble)
        return port

    def _accounts(
        self, identity: ClusterIdentity, bootstrap: Bootstrap | None
    ) -> Sequence[AccountPlan]:
        if bootstrap is not None and bootstrap.accounts:
            return bootstrap.accounts
        credentials = self._folder.credentials_file
        if identity.is_bootstrapped and not credentials.exists():
            return ()
        return (root_account(credentials),)

    def _load_or_create(self, zones: int | None, bootstrap: Bootstrap | None) -> ClusterIdentity:
        self._is_new = not self._folder.exists()
        if self._is_new:
            region = (bootstrap.region if bootstrap is not None else None) or DEFAULT_REGION
            identity = self._folder.create(zones or DEFAULT_ZONES, region, [])
        else:
            identity = self._folder.load()
            self._folder.check_whole(identity)
        if zones is not None and zones != identity.zones:
            raise faults.Invalid("zones", str(zones), f"this cluster has {identity.zones}")
        if bootstrap is not None:
            if bootstrap.region not in (None, identity.region):
                raise faults.Invalid(
                    "region", str(bootstrap.region), f"this cluster is in {identity.region}"
                )
            if bootstrap.domains is not None:
                identity.domains = list(bootstrap.domains)
            identity.is_bootstrapped = identity.is_bootstrapped or bool(bootstrap.accounts)
        return identity

    def _leftovers(self) -> list[int]:
        """Processes of a supervisor that was killed: they end with it, but not at once."""
        return processes_of(Path(self._folder.path / "config"))

    def _start_children(self, children: Sequence[Child]) -> None:
        for child in children:
            child.start()
        self._write_state()

    async def _prepare(self, stub: Any, plan: Plan, accounts: Sequence[AccountPlan]) -> None:
        """Wait for the metadata service, make accounts and keys, wait for the storage nodes."""
        self._progress("starting the metadata service")
        deadline_s = time.monotonic() + START_S
        while not await _has_accounts(stub, accounts):
            self._check(plan)
            if time.monotonic() > deadline_s:
                raise faults.Unavailable(
                    f"the metadata service does not answer, see {plan.metaservice.log_file}"
                )
            await asyncio.sleep(POLL_S)
        self._progress("starting the storage nodes")
        await self._wait_for_nodes(stub, plan)

    async def _wait_for_nodes(self, stub: Any, plan: Plan) -> None:
        """Wait for all; an existing cluster goes on with as many as acknowledge writes."""
        k, m = profile_of(len(plan.nodes))
        began_s = time.monotonic()
        while True:
            alive = await _alive_nodes(stub)
            waited_s = time.monotonic() - began_s
            if len(alive) == len(plan.nodes):
                return
            if not self._is_new and waited_s > NODES_S and len(alive) >= min(k + 1, k + m):
                return
            if waited_s > START_S:
                missing = ", ".join(node.name for node in plan.nodes if node.name not in alive)
                raise faults.Unavailable(f"{missing} did not start, see {self._folder.path}/logs")
            self._check(plan)
            await asyncio.sleep(POLL_S)

    async def _wait_for_journal(self, stub: Any) -> None:
        """Wait a moment for the metadata's journal to begin; nothing depends on it."""
        self._progress("starting the metadata's journal")
        deadline_s = time.monotonic() + JOURNAL_S
        while time.monotonic() < deadline_s and not self._signals:
            with contextlib.suppress(faults.Unavailable):  # it may be starting again
                status = await call(stub.ClusterStatus, admin_pb2.ClusterStatusRequest())
                if status.journal.state != "beginning":
                    return
            await asyncio.sleep(POLL_S)

    def _wait_for_endpoint(self, port: int, plan: Plan) -> None:
        self._progress("starting the gateways")
        deadline_s = time.monotonic() + START_S
        while not _answers(port):
            self._check(plan)
            if time.monotonic() > deadline_s:
                raise faults.Unavailable(f"the endpoint does not answer, see {self._folder.path}")
            time.sleep(POLL_S)

    def _check(self, plan: Plan) -> None:
        """Give up if the user does, or a process has ended without which there is no cluster.

        A storage node of an existing cluster is started again: two may be away. So is whatever has
        ended for that: the metadata service, when its journal had more than its engine.
        """
        if self._signals:
            raise Interrupted
        spared = [] if self._is_new else list(plan.nodes)
        spared += [child for child in plan.children if child.wants_again and child not in spared]
        for child in plan.children:
            if child.is_ended and child not in spared:
                raise faults.Unavailable(f"{child.name} {how_it_ended(child)}")
        for line in watch(child for child in spared if child.process is not None):
            self._say(line)

    def _write_state(self) -> None:
        assert self._plan is not None and self._identity is not None
        state = {
            "endpoint": f"http://{LOOPBACK}:{self._identity.port}",
            "supervisor": os.getpid(),
            "processes": [child.describe() for child in self._plan.children],
        }
        if state != self._state:
            self._folder.write_state(state)
            self._state = state

    def _say(self, line: str) -> None:
        with contextlib.suppress(OSError):  # the terminal is gone, or the log's disk full
            self._say_to(line)

    def _on_signal(self, number: int, frame: object) -> None:
        self._signals += 1
        if self._signals > 1 and self._plan is not None:
            for child in self._plan.children:
                if child.process is not None and child.is_running:
                    child.process.kill()


async def _has_accounts(stub: Any, accounts: Sequence[AccountPlan]) -> bool:
    """Make the accounts; False while the metadata service does not answer."""
    try:
        await call(stub.ClusterStatus, admin_pb2.ClusterStatusRequest())
        for account in accounts:
            await make_account(stub, account)
    except faults.Unavailable:
        return False
    return True


async def _alive_nodes(stub: Any) -> set[str]:
    try:
        status = await call(stub.ClusterStatus, admin_pb2.ClusterStatusRequest())
    except faults.Unavailable:
        return set()
    return {node.name for node in status.nodes if node.is_alive}


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=1)
    try:
        connection.request("GET", "/")
        connection.getresponse().read()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return True
