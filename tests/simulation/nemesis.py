"""What goes wrong: each trouble of a plan, done to the world and undone in time."""

import asyncio
from collections.abc import Awaitable, Callable

from common import limits
from tests.simulation.cluster import Member
from tests.simulation.loop import PowerFailure, SimulatedLoop
from tests.simulation.network import Network, Weather
from tests.simulation.plan import ZONES, Kind, Trouble

RESTART_S_MIN = 0.3
ZOMBIE_S = limits.SESSION_LEASE_S + limits.GARBAGE_GRACE_S + 400.0
POINT_S_MAX = 25.0  # within which a process is waited for at a fault point
RESTARTED_AMOUNT = 20  # of a trouble: below it the process is ended too
OPERATIONS_S_MAX = 15.0  # within which a disk operation is waited for


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
        self.forgetful: set[str] = set()  # of them, those that forgot what they had deleted
        self.away: set[str] = set()  # members that stay away for long
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

    def crash(self, member: Member, *, mends_disk: bool = True) -> None:
        """Power off: the process stops between two steps, the disk keeps what it may."""
        if not member.is_up:
            return
        self._loop.log("crash", member.name)
        self._loop.seen[f"crash of {'a zone' if member.name in ZONES else member.name}"] += 1
        if member.medium.is_lying:
            self.damaged.add(member.name)
            self.forgetful.add(member.name)
        if mends_disk:
            member.medium.fails_writes = member.medium.fails_syncs = False
        self._loop.kill(member.process)
        self._network.forget(member.process)
        member.medium.lose_power()

    def return_the_away(self) -> None:
        """Let members that were away for long come back with what they had."""
        for name in sorted(self.away):
            self.away.discard(name)
            self._loop.seen["came back after long"] += 1
            self.revive(self._members[name])

    def heal(self) -> None:
        """End everything that is wrong and does not end by itself; dead members start again."""
        self._network.cuts.clear()
        self._network.weather.clear()
        self.away.clear()
        for member in self._members.values():
            medium, process = member.medium, member.process
            medium.is_full = medium.fails_reads = False
            medium.fails_writes = medium.fails_syncs = False
            medium.operations_until_crash = None
            process.slowness = 1.0
            if process.frozen_until_s > self._loop.now_s:
                self.crash(member)
            if medium.is_lying:
                self.crash(member)
            self.revive(member)

    def revive(self, member: Member) -> None:
        """Start a member that is down, unless it shall stay away."""
        if not member.is_up and member.name not in self.away:
            self._start(member)

    async def _black_out(self, duration_s: float) -> None:
        self._loop.seen["blackout"] += 1
        for member in self._members.values():
            self.crash(member)
        await asyncio.sleep(min(duration_s, 5.0))
        for member in self._members.values():
            self.revive(member)

    async def _restart_after(self, member: Member, pause_s: float) -> None:
        await asyncio.sleep(max(pause_s, RESTART_S_MIN))
        self.revive(member)

    async def _crash(self, member: Member, trouble: Trouble) -> None:
        self.crash(member)
        await self._restart_after(member, trouble.duration_s)

    async def _crash_at_write(self, member: Member, trouble: Trouble) -> None:
        member.medium.operations_until_crash = int(trouble.amount)
        until_s = self._loop.now_s + OPERATIONS_S_MAX
        while member.is_up and self._loop.now_s < until_s:  # noqa: ASYNC110
            await asyncio.sleep(0.2)
        member.medium.operations_until_crash = None
        await self._restart_after(member, trouble.duration_s)

    async def _crash_at_point(self, member: Member, trouble: Trouble) -> None:
        process, point = member.process, trouble.point

        def die() -> None:
            self._loop.log("at", point)
            self._loop.seen["crash at a fault point"] += 1
            self.crash(member)
            raise PowerFailure(member.name)

        process.points[point] = die
        until_s = self._loop.now_s + POINT_S_MAX
        while process is member.process and member.is_up and self._loop.now_s < until_s:  # noqa: ASYNC110
            await asyncio.sleep(0.2)
        process.points.pop(point, None)
        await self._restart_after(member, trouble.duration_s)

    async def _freeze_at_point(self, member: Member, trouble: Trouble) -> None:
        process, point = member.process, trouble.point

        def freeze() -> None:
            self._loop.log("at", point)
            self._loop.seen["zombie at a fault point"] += 1
            process.frozen_until_s = self._loop.now_s + ZOMBIE_S

        process.points[point] = freeze
        await asyncio.sleep(POINT_S_MAX)
        process.points.pop(point, None)

    async def _freeze(self, member: Member, trouble: Trouble) -> None:
        process = member.process
        self._loop.seen["freeze"] += member.is_up
        process.frozen_until_s = self._loop.now_s + trouble.duration_s
        await asyncio.sleep(trouble.duration_s)

    async def _become_zombie(self, member: Member, trouble: Trouble) -> None:
        """Freeze for so long that everybody else has given the process up; then it goes on."""
        self._loop.seen["zombie"] += member.is_up
        member.process.frozen_until_s = self._loop.now_s + ZOMBIE_S

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
        self._loop.seen["connection reset"] += self._network.reset(member.name)

    async def _bad_network(self, member: Member, trouble: Trouble) -> None:
        self._network.weather[member.name] = Weather(0.002 * trouble.amount, trouble.amount / 200)
        await asyncio.sleep(trouble.duration_s)
        self._network.weather.pop(member.name, None)

    async def _slow_disk(self, member: Member, trouble: Trouble) -> None:
        process = member.process
        self._loop.seen["slow disk"] += member.is_up
        process.slowness = 20 * trouble.amount
        await asyncio.sleep(trouble.duration_s)
        process.slowness = 1.0

    async def _clock_jump(self, member: Member, trouble: Trouble) -> None:
        self._loop.seen["clock back" if trouble.amount < 0 else "clock ahead"] += 1
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
        medium = member.medium
        medium.fails_syncs, medium.fails_writes = True, int(trouble.amount) % 2 > 0
        await asyncio.sleep(trouble.duration_s)
        if trouble.amount < RESTARTED_AMOUNT:
            self.crash(member)
            await self._restart_after(member, 0.0)
        else:
            self._loop.seen["writes work again"] += member.is_up
        medium.fails_writes = medium.fails_syncs = False

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

    async def _misdirect(self, member: Member, trouble: Trouble) -> None:
        what = member.medium.misdirect()
        if what is not None:
            self.damaged.add(member.name)
            self._loop.log("misdirected", member.name, what)

    async def _lose_file(self, member: Member, trouble: Trouble) -> None:
        self.crash(member)
        what = member.medium.lose_file()
        if what is not None:
            self.damaged.add(member.name)
            self._loop.log("lost", member.name, what)
        await self._restart_after(member, trouble.duration_s)

    async def _break_index(self, member: Member, trouble: Trouble) -> None:
        self.crash(member)
        member.medium.break_tables()
        self.damaged.add(member.name)
        self.forgetful.add(member.name)
        await self._restart_after(member, trouble.duration_s)

    async def _dead_disk(self, member: Member, trouble: Trouble) -> None:
        medium = member.medium
        medium.fails_reads = medium.fails_writes = medium.fails_syncs = True
        await asyncio.sleep(trouble.duration_s)
        await self._wipe(member, trouble)

    async def _wipe(self, member: Member, trouble: Trouble) -> None:
        self.crash(member)
        member.medium.wipe()
        self._loop.seen["disk replaced"] += 1
        self.damaged.add(member.name)
        await self._restart_after(member, trouble.duration_s)

    async def _go_away(self, member: Member, trouble: Trouble) -> None:
        self.crash(member)
        self.away.add(member.name)

    _deeds: dict[Kind, Callable[["Nemesis", Member, Trouble], Awaitable[None]]] = {
        Kind.CRASH: _crash,
        Kind.CRASH_AT_WRITE: _crash_at_write,
        Kind.CRASH_AT_POINT: _crash_at_point,
        Kind.FREEZE_AT_POINT: _freeze_at_point,
        Kind.FREEZE: _freeze,
        Kind.ZOMBIE: _become_zombie,
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
        Kind.MISDIRECT: _misdirect,
        Kind.LOSE_FILE: _lose_file,
        Kind.BREAK_INDEX: _break_index,
        Kind.DEAD_DISK: _dead_disk,
        Kind.WIPE: _wipe,
        Kind.AWAY: _go_away,
    }
