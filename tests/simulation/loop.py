"""The event loop of a simulated world: virtual time, processes that can be killed or frozen.

When nothing is ready the clock jumps to the next timer, so idle time costs nothing. Threads do not
exist: what is handed to an executor runs inline, in one piece, at a later moment. Every callback
belongs to the process in whose context it was made; a dead process's callbacks never run, so it
stops between two steps as a killed one does, without any clean-up of its own.
"""

import asyncio
import contextlib
import contextvars
import hashlib
import heapq
import itertools
import logging
import random
import warnings
from asyncio import events
from collections import Counter, deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, TypeVar, cast
from unittest.mock import patch

from common.worker_thread import WorkerThread

Result = TypeVar("Result")

TIME_RESOLUTION_S = 1e-9
TRACE_LINES_MAX = 2_000_000
SLEEP_OVER = asyncio.futures._set_result_unless_cancelled  # type: ignore[attr-defined] # asyncio.sleep
LASTING_S = 0.5  # shorter pauses belong to some operation


class PowerFailure(BaseException):
    """The machine stopped in the middle of this call; nobody on it sees this."""


class Process:
    """One life of a process: from its start to its crash."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_dead = False
        self.frozen_until_s = 0.0
        self.slowness = 1.0  # of its disks and threads
        self.clock_skew_ns = 0
        self.idle_pause_s = 0.0  # while the world is idle, its pauses are at least so long
        self.sleepers: list[tuple[float, Any]] = []  # when they would wake, and their timers
        self.tasks: list[asyncio.Task[Any]] = []
        self.points: dict[str, Callable[[], None]] = {}  # what happens at which fault point
        self.on_crash: list[Callable[[], None]] = []
        self.frozen_steps: list[Any] = []

    def thaw(self) -> None:
        """Run what was put off while frozen, in order."""
        steps, self.frozen_steps = self.frozen_steps, []
        for step in steps:
            step._run()


WORLD = Process("world")
PROCESS: contextvars.ContextVar[Process] = contextvars.ContextVar("process", default=WORLD)

_serials = itertools.count()


class _Future(asyncio.Future[Any]):
    """Hashes by its number, so that sets of futures are walked in the same order in every run."""

    def __init__(self, *, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self._serial = next(_serials)

    def __hash__(self) -> int:
        return self._serial


class _Task(asyncio.Task[Any]):
    def __init__(self, *arguments: Any, **named: Any) -> None:
        self._serial = next(_serials)
        self.process = WORLD
        super().__init__(*arguments, **named)

    def __hash__(self) -> int:
        return self._serial


class _Step(events.TimerHandle):
    """A callback of a process, now or at a time."""

    __slots__ = ("process",)

    def __init__(
        self,
        loop: "SimulatedLoop",
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: contextvars.Context | None,
    ) -> None:
        # The base class's fields, without what only its debug mode needs.
        self._loop: asyncio.AbstractEventLoop = loop
        self._callback, self._args, self._cancelled = callback, args, False
        if context is None:
            self._context, self.process = contextvars.copy_context(), PROCESS.get()
        else:
            self._context, self.process = context, context.get(PROCESS, WORLD)

    def cancel(self) -> None:
        self._cancelled = True
        self._callback = self._args = None

    def _run(self) -> None:
        process = self.process
        if self._cancelled or process.is_dead:
            return
        if process.frozen_until_s > cast(SimulatedLoop, self._loop).now_s:
            _thaw_later(self)
            return
        try:
            self._context.run(self._callback, *self._args)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            text = f"Exception in callback {self._callback}"
            self._loop.call_exception_handler({"message": text, "exception": error})


def _thaw_later(step: _Step) -> None:
    """Keep the order of a frozen process's callbacks: all wake at one time, one after another."""
    loop, process = cast(SimulatedLoop, step._loop), step.process
    process.frozen_steps.append(step)
    if len(process.frozen_steps) == 1:
        loop.call_at(process.frozen_until_s, process.thaw, context=contextvars.Context())


class SimulatedLoop(asyncio.BaseEventLoop):
    """Virtual time; one seed decides everything."""

    def __init__(self, seed: str, *, keeps_trace: bool = False) -> None:
        super().__init__()
        self.random = random.Random(seed)
        self.now_s = 0.0
        self.trace_lines: list[str] | None = [] if keeps_trace else None
        self.event_count = 0
        self.seen: Counter[str] = Counter()  # what has really gone wrong in this world
        self.days_skipped = 0
        self._digest = hashlib.sha256()
        self._steps: deque[_Step] = deque()
        self._timers: list[tuple[float, int, _Step]] = []
        self._serials = itertools.count()
        self._busy_until_s: dict[int, list[float]] = {}
        self._graveyard: list[asyncio.Task[Any]] = []

    # --- what the base class asks for -----------------------------------------------------------

    def time(self) -> float:
        return self.now_s

    def _write_to_self(self) -> None:
        return

    def create_future(self) -> asyncio.Future[Any]:
        return _Future(loop=self)

    def create_task(
        self, coro: Any, *, name: str | None = None, context: contextvars.Context | None = None
    ) -> asyncio.Task[Any]:
        task = _Task(coro, loop=self, name=name or "task", context=context)
        process = PROCESS.get() if context is None else context.get(PROCESS, WORLD)
        task.process = process
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        if process.is_dead:  # it ended in the middle of this very step
            self._graveyard.append(task)
            return task
        process.tasks.append(task)
        if len(process.tasks) > 512:
            process.tasks = [each for each in process.tasks if not each.done()]
        return task

    def call_soon(
        self, callback: Any, *args: Any, context: contextvars.Context | None = None
    ) -> events.Handle:
        step = _Step(self, callback, args, context)
        self._steps.append(step)
        return step

    call_soon_threadsafe = call_soon

    def call_at(
        self, when: float, callback: Any, *args: Any, context: contextvars.Context | None = None
    ) -> events.TimerHandle:
        timer = _Step(self, callback, args, context)
        heapq.heappush(self._timers, (when, next(self._serials), timer))
        return timer

    def call_later(
        self, delay: float, callback: Any, *args: Any, context: contextvars.Context | None = None
    ) -> events.TimerHandle:
        timer = _Step(self, callback, args, context)
        due_s = when_s = self.now_s + delay
        process = timer.process
        if callback is SLEEP_OVER and LASTING_S <= delay < process.idle_pause_s:
            when_s = self.now_s + process.idle_pause_s
            process.sleepers.append((due_s, timer))
        heapq.heappush(self._timers, (when_s, next(self._serials), timer))
        return timer

    def _run_once(self) -> None:
        """Let time pass to the next timer if nothing is ready; then do what is ready."""
        steps, timers = self._steps, self._timers
        if not steps:
            while timers and timers[0][2]._cancelled:
                heapq.heappop(timers)
            assert timers, "deadlock: nothing is ready and no timer is set"
            self.now_s = max(self.now_s, timers[0][0])
        end_s = self.now_s + TIME_RESOLUTION_S
        while timers and timers[0][0] < end_s:
            steps.append(heapq.heappop(timers)[2])
        for _ in range(len(steps)):
            steps.popleft()._run()

    def set_pace(self, process: Process, idle_pause_s: float) -> None:
        """Let the pauses of a process be at least so long; 0: as they are, at once."""
        process.idle_pause_s = idle_pause_s
        sleepers, process.sleepers = process.sleepers, []
        if not idle_pause_s:
            for due_s, timer in sleepers:
                if not timer._cancelled:
                    arguments = timer._args
                    self.call_at(due_s, timer._callback, *arguments, context=timer._context)
                    timer.cancel()

    # --- threads --------------------------------------------------------------------------------

    def run_forever(self) -> None:
        def call(worker: WorkerThread, work: Callable[..., Any], *arguments: Any) -> Any:
            return self.run_in_executor(worker, work, *arguments)

        with patch.object(WorkerThread, "call", call):
            super().run_forever()

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | WorkerThread | None, func: Callable[..., Result], *args: Any
    ) -> "asyncio.Future[Result]":
        """The call happens in one piece when one of the executor's threads is free."""
        done: asyncio.Future[Result] = self.create_future()
        process = PROCESS.get()
        workers = 1 if isinstance(executor, WorkerThread) else getattr(executor, "_max_workers", 4)
        busy = self._busy_until_s.setdefault(id(executor), [0.0] * workers)
        thread = busy.index(min(busy))
        begin_s = max(self.now_s, busy[thread])
        duration_s = self.random.expovariate(2000.0) * process.slowness
        busy[thread] = begin_s + duration_s

        def run() -> None:
            try:
                result = func(*args)
            except PowerFailure:
                return
            except Exception as error:
                if not done.done():
                    done.set_exception(error)
            else:
                if not done.done():
                    done.set_result(result)

        self.call_at(busy[thread], run)
        return done

    # --- processes ------------------------------------------------------------------------------

    def start_process(
        self, process: Process, main: Callable[[], Coroutine[Any, Any, Result]]
    ) -> "asyncio.Task[Result]":
        """Run a coroutine function as a process."""
        return self.run_as(process, lambda: self.create_task(main()))

    def run_as(self, process: Process, call: Callable[[], Result]) -> Result:
        """Call something in a process's context, now."""
        context = contextvars.copy_context()
        context.run(PROCESS.set, process)
        return context.run(call)

    def kill(self, process: Process) -> None:
        """End a process between two steps; it does nothing more, not even clean up."""
        if process.is_dead:
            return
        process.is_dead = True
        # Its coroutines are kept: collected now, their `finally` blocks would still do things.
        self._graveyard += process.tasks
        process.tasks = []
        for tell in process.on_crash:
            tell()

    def bury(self) -> None:
        """Close all that never ended, after the run: nothing it does counts any more."""
        # Loops that log what their steps raise do so of a step that is closed, too.
        logging.disable()
        try:
            self._bury()
        finally:
            logging.disable(logging.NOTSET)

    def _bury(self) -> None:
        with warnings.catch_warnings():
            # What was begun in the last step of a process is never awaited, and need not be.
            warnings.simplefilter("ignore", RuntimeWarning)
            for task in (*self._graveyard, *WORLD.tasks):
                if task.done():
                    continue
                with contextlib.suppress(Exception):  # a dead coroutine's complaints
                    task.get_coro().close()  # type: ignore[union-attr]
            self._graveyard.clear()
            WORLD.tasks.clear()

    # --- the trace ------------------------------------------------------------------------------

    def log(self, *what: object) -> None:
        """Add an event to the trace."""
        line = f"{self.now_s:.9f} {what}"
        self.event_count += 1
        self._digest.update(line.encode())
        if self.trace_lines is not None and len(self.trace_lines) < TRACE_LINES_MAX:
            self.trace_lines.append(line)

    @property
    def digest(self) -> str:
        """A hash of all events so far."""
        return self._digest.hexdigest()
