"""The load of a scenario: a process of its own, so that nothing else disturbs its clock.

Each client sends one request at a time. A failed attempt is repeated as the common S3 SDKs do by
default: up to five attempts, random waits that double. The result is what their user would see.
"""

import asyncio
import time
from dataclasses import dataclass, field
from multiprocessing.connection import Connection as Pipe
from random import Random

import uvloop

from benchmarks.faults.contents import Filler, Slot
from benchmarks.faults.record import KINDS, READ, WRITE, FailedTry, LoadShape, ReadBack, Requests
from benchmarks.s3.connection import Connection
from benchmarks.s3.signing import Target, signed_head

ATTEMPTS_MAX = 5
BACKOFF_S = 1.0
RETRIED = frozenset({0, 408, 429, 500, 502, 503, 504})
OK = 200
WRONG = -1
READ_BACK_CLIENTS = 8
PREPARE_CLIENTS = 8
READ_INDEX, WRITE_INDEX = KINDS.index(READ), KINDS.index(WRITE)


@dataclass(frozen=True, slots=True)
class LoaderPlan:
    """What the process is told. Everything else it learns through the pipe."""

    target: Target
    bucket: str
    shape: LoadShape


@dataclass(slots=True)
class LoaderResult:
    """What the process tells at the end. Times count from `began_s`."""

    began_s: float = 0.0
    requests: Requests = field(default_factory=Requests)
    failed_tries: list[FailedTry] = field(default_factory=list)
    read_back: ReadBack = field(default_factory=ReadBack)


@dataclass(slots=True)
class _Outcome:
    status: int
    tries: int


class Client:
    """Requests with ordinary retries over one connection."""

    def __init__(self, load: "Load", number: int) -> None:
        self._load = load
        self._random = Random(load.plan.shape.seed * 1000 + number)
        self._connection: Connection | None = None
        self.number = number
        self.memory = bytearray(load.filler.size_bytes)

    async def put(self, slot: Slot) -> _Outcome:
        """Write the next content of a slot, and keep account of what it may hold now."""
        write = slot.begin_write()
        body = self._load.filler.make(slot.number, write)
        outcome = await self._request("PUT", slot, body, WRITE_INDEX)
        if outcome.status == OK:
            slot.acknowledge(write)
        else:
            slot.doubt(write)
        if outcome.tries > 1 or outcome.status != OK:
            self._load.retired.append(slot.retire())
        return outcome

    async def get(self, slot: Slot) -> _Outcome:
        """Read a slot's object and check every byte."""
        outcome = await self._request("GET", slot, b"", READ_INDEX)
        if outcome.status == OK:
            write = self._load.filler.read(self.memory, slot.number)
            if write not in slot.acceptable:
                outcome.status = WRONG
        return outcome

    def close(self) -> None:
        """Disconnect."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    async def _request(self, method: str, slot: Slot, body: bytes, kind: int) -> _Outcome:
        plan = self._load.plan
        path = f"/{plan.bucket}/{slot.key('load')}"
        tries = 0
        while True:
            tries += 1
            status, reason = await self._attempt(method, path, body)
            if status in RETRIED:
                self._load.note_failed_try(kind, reason or str(status))
            if status not in RETRIED or tries == ATTEMPTS_MAX:
                return _Outcome(status, tries)
            await asyncio.sleep(self._random.random() * BACKOFF_S * 2 ** (tries - 1))

    async def _attempt(self, method: str, path: str, body: bytes) -> tuple[int, str]:
        """One attempt: a status, or 0 and what happened."""
        plan = self._load.plan
        try:
            async with asyncio.timeout(plan.shape.try_timeout_s):
                if self._connection is None or not self._connection.is_open:
                    self._connection = await Connection.open(plan.target)
                head = signed_head(plan.target, method, path, body, unsigned=True)
                answer = await self._connection.exchange(head, body, self.memory)
        except TimeoutError:
            self.close()
            return 0, "no answer in time"
        except OSError as error:
            self.close()
            is_refused = isinstance(error, ConnectionRefusedError)
            return 0, "connection refused" if is_refused else "connection broken"
        if method == "GET" and answer.status == OK and answer.size_bytes != len(self.memory):
            return WRONG, ""
        return answer.status, ""


class Load:
    """All clients of one scenario."""

    def __init__(self, plan: LoaderPlan) -> None:
        self.plan = plan
        self.result = LoaderResult()
        self.filler = Filler(plan.shape.size_bytes, Random(plan.shape.seed))
        count = max(plan.shape.objects, plan.shape.clients)
        self._slots = [Slot(number) for number in range(count)]
        self.retired: list[Slot] = []
        self._is_stopping = False

    async def prepare(self) -> None:
        """Make the bucket and all objects. raises RuntimeError if the store does not take them"""
        connection = await Connection.open(self.plan.target)
        head = signed_head(self.plan.target, "PUT", f"/{self.plan.bucket}")
        answer = await connection.exchange(head)
        connection.close()
        if answer.status not in (OK, 409):
            raise RuntimeError(f"the store answers {answer.status} to CreateBucket")
        slots = iter(self._slots)

        async def fill(number: int) -> None:
            client = Client(self, number)
            for slot in slots:
                if (await client.put(slot)).status != OK:
                    raise RuntimeError("the store does not take objects")
            client.close()

        await asyncio.gather(*[fill(number) for number in range(PREPARE_CLIENTS)])
        self.result.failed_tries.clear()

    async def run(self) -> None:
        """Load until `stop`."""
        self.result.began_s = time.monotonic()
        await asyncio.gather(*[self._work(n) for n in range(self.plan.shape.clients)])

    def stop(self) -> None:
        """Let requests under way end, begin no others."""
        self._is_stopping = True

    def note_failed_try(self, kind: int, reason: str) -> None:
        """Keep account of an attempt that failed."""
        at_s = time.monotonic() - self.result.began_s
        self.result.failed_tries.append(FailedTry(round(at_s, 3), kind, reason))

    async def _work(self, number: int) -> None:
        shape, client = self.plan.shape, Client(self, number)
        random = Random(shape.seed * 7919 + number)
        own = self._slots[number :: shape.clients]
        interval_s = shape.clients / shape.rate if shape.rate else 0.0
        due_s = time.monotonic() + random.random() * interval_s
        while not self._is_stopping:
            if interval_s:
                await asyncio.sleep(max(0.0, due_s - time.monotonic()))
                if self._is_stopping:
                    break
            begin_s = due_s if interval_s else time.monotonic()
            slot = random.choice(own)
            # A key that took a retired one's place has nothing to read yet.
            if random.random() < shape.read_share and slot.acceptable:
                kind, outcome = READ_INDEX, await client.get(slot)
            else:
                kind, outcome = WRITE_INDEX, await client.put(slot)
            ended_s = time.monotonic()
            self.result.requests.add(
                begin_s - self.result.began_s, ended_s - begin_s, kind, outcome.tries,
                outcome.status,
            )  # fmt: skip
            due_s += interval_s
        client.close()

    async def read_back(self) -> None:
        """Read every object that was acknowledged, and check it."""
        wanted = [slot for slot in self._slots + self.retired if not slot.may_be_absent]
        slots, missing, wrong = iter(wanted), 0, 0

        async def read(number: int) -> None:
            nonlocal missing, wrong
            client = Client(self, number)
            for slot in slots:
                status = (await client.get(slot)).status
                wrong += status == WRONG
                missing += status not in (OK, WRONG)
            client.close()

        await asyncio.gather(*[read(number) for number in range(READ_BACK_CLIENTS)])
        lost = missing + wrong
        self.result.read_back = ReadBack(len(wanted), lost, lost * self.filler.size_bytes, wrong)


def serve(plan: LoaderPlan, pipe: Pipe) -> None:
    """The process: prepare, tell "ready"; "go", tell when; "stop"; read back, tell the result."""
    uvloop.run(_serve(plan, pipe))


async def _serve(plan: LoaderPlan, pipe: Pipe) -> None:
    loop, load = asyncio.get_running_loop(), Load(plan)
    try:
        await load.prepare()
    except (OSError, RuntimeError) as error:
        pipe.send(str(error))
        return
    pipe.send("ready")
    await loop.run_in_executor(None, pipe.recv)
    running = loop.create_task(load.run())
    await asyncio.sleep(0)
    pipe.send(load.result.began_s)
    await loop.run_in_executor(None, pipe.recv)
    load.stop()
    await running
    pipe.send("stopped")
    await loop.run_in_executor(None, pipe.recv)
    failed_tries = list(load.result.failed_tries)
    await load.read_back()
    load.result.failed_tries = failed_tries
    pipe.send(load.result)
