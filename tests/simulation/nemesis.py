"""What goes wrong: each trouble of a plan, done to the world and undone in time."""

import asyncio
from collections.abc import Awaitable, Callable

from tests.simulation.cluster import Member
from tests.simulation.loop import SimulatedLoop
from tests.simulation.network import Network, Weather
from tests.simulation.plan import Kind, Trouble

RESTART_S_MIN = 0.3


class Nemesis:
    """Does a plan's troubles to the members of a cluster."""

    def __init__(
        self,
        loop: SimulatedLoop,
        network: Network,
        members: dict[str, Member],
        start: Callable[[Member], None],
    ) -> None:
        self._loop, self._network, self._members = loop, network, members
        self._start = start
        self.damaged: set[str] = set()  # members whose disk lost or changed what was synced
        for member in members.values():
            member.medium.crash = lambda member=member: self.crash(member)  # type: ignore[misc]

    async def work(self, trouble: Trouble) -> None:
        """Wait for a trouble's time, do it, undo it."""
        await asyncio.sleep(trouble.at_s)
        self._loop.log("trouble", trouble.kind.name, trouble.target, trouble.duration_s)
        member = self._members[trouble.target]
        if trouble.kind is Kind.BLACKOUT:
            await self._black_out(trouble.duration_s)
        else:
            await self._deeds[trouble.kind](self, member, trouble)
        self._loop.log("over", trouble.kind.name, trouble.target)

    def crash(self, member: Member) -> None:
        """Power off: the process stops between two steps, the disk keeps what it may."""
        if not member.is_up:
            return
        self._loop.log("crash", member.name)
        if member.medium.is_lying:
            self.damaged.add(member.name)
        member.medium.fails_writes = False
        self._loop.kill(member.process)
        self._network.forget(member.process)
        member.medium.lose_power()

    def heal(self) -> None:
        """End everything that is wrong and does not end by itself; dead members start again."""
        self._network.cuts.clear()
        self._network.weather.clear()
        for member in self._members.values():
            medium, process = member.medium, member.process
            medium.is_full = medium.fails_reads = False
            medium.operations_until_crash = None
            process.slowness, process.clock_skew_ns = 1.0, process.clock_skew_ns
            if medium.fails_writes or medium.is_lying:
                self.crash(member)
            if not member.is_up:
                self._start(member)

    async def _black_out(self, duration_s: float) -> None:
        for member in self._members.values():
            self.crash(member)
        await asyncio.sleep(min(duration_s, 5.0))
        for member in self._members.values():
            if not member.is_up:
                self._start(member)

    async def _restart_after(self, member: Member, pause_s: float) -> None:
        await asyncio.sleep(max(pause_s, RESTART_S_MIN))
        if not member.is_up:
            self._start(member)

    async def _crash(self, member: Member, trouble: Trouble) -> None:
        self.crash(member)
        await self._restart_after(member, trouble.duration_s)

    async def _crash_at_write(self, member: Member, trouble: Trouble) -> None:
        member.medium.operations_until_crash = int(trouble.amount)
        await self._restart_after(member, trouble.duration_s)
        member.medium.operations_until_crash = None

    async def _freeze(self, member: Member, trouble: Trouble) -> None:
        process = member.process
        process.frozen_until_s = self._loop.now_s + trouble.duration_s
        await asyncio.sleep(trouble.duration_s)

    async def _cut(self, member: Member, trouble: Trouble) -> None:
        cuts = {(member.name, "*"), ("*", member.name)}
        self._network.cuts |= cuts
        await asyncio.sleep(trouble.duration_s)
        self._network.cuts -= cuts

    async def _cut_one_way(self, member: Member, trouble: Trouble) -> None:
        cut = (member.name, "*") if trouble.amount < 30 else ("*", member.name)
        self._network.cuts.add(cut)
        await asyncio.sleep(trouble.duration_s)
        self._network.cuts.discard(cut)

    async def _reset(self, member: Member, trouble: Trouble) -> None:
        self._network.reset(member.name)

    async def _bad_network(self, member: Member, trouble: Trouble) -> None:
        self._network.weather[member.name] = Weather(0.002 * trouble.amount, trouble.amount / 200)
        await asyncio.sleep(trouble.duration_s)
        self._network.weather.pop(member.name, None)

    async def _slow_disk(self, member: Member, trouble: Trouble) -> None:
        process = member.process
        process.slowness = 20 * trouble.amount
        await asyncio.sleep(trouble.duration_s)
        process.slowness = 1.0

    async def _clock_jump(self, member: Member, trouble: Trouble) -> None:
        member.process.clock_skew_ns += int(trouble.amount * 1e9)

    async def _disk_full(self, member: Member, trouble: Trouble) -> None:
        member.medium.is_full = True
        await asyncio.sleep(trouble.duration_s)
        member.medium.is_full = False

    async def _read_errors(self, member: Member, trouble: Trouble) -> None:
        member.medium.fails_reads = True
        await asyncio.sleep(trouble.duration_s)
        member.medium.fails_reads = False

    async def _write_errors(self, member: Member, trouble: Trouble) -> None:
        member.medium.fails_writes = True
        await asyncio.sleep(trouble.duration_s)
        self.crash(member)
        await self._restart_after(member, 0.0)

    async def _flip(self, member: Member, trouble: Trouble) -> None:
        for _ in range(1 + int(trouble.amount / 10)):
            what = member.medium.flip_bit()
            if what is not None:
                self.damaged.add(member.name)
                self._loop.log("flipped", member.name, what)

    async def _lie(self, member: Member, trouble: Trouble) -> None:
        member.medium.is_lying = True
        await asyncio.sleep(trouble.duration_s)
        self.crash(member)
        await self._restart_after(member, 0.0)

    async def _wipe(self, member: Member, trouble: Trouble) -> None:
        self.crash(member)
        member.medium.wipe()
        self.damaged.add(member.name)
        await self._restart_after(member, trouble.duration_s)

    _deeds: dict[Kind, Callable[["Nemesis", Member, Trouble], Awaitable[None]]] = {
        Kind.CRASH: _crash,
        Kind.CRASH_AT_WRITE: _crash_at_write,
        Kind.FREEZE: _freeze,
        Kind.CUT: _cut,
        Kind.CUT_ONE_WAY: _cut_one_way,
        Kind.RESET: _reset,
        Kind.BAD_NETWORK: _bad_network,
        Kind.SLOW_DISK: _slow_disk,
        Kind.CLOCK_JUMP: _clock_jump,
        Kind.DISK_FULL: _disk_full,
        Kind.READ_ERRORS: _read_errors,
        Kind.WRITE_ERRORS: _write_errors,
        Kind.FLIP: _flip,
        Kind.LIE: _lie,
        Kind.WIPE: _wipe,
    }
