"""What happens in a run, drawn from its seed: requests of clients, troubles of the world.

A plan is data, so that a failing one can be made shorter: leave something out, run again.
What the troubles may do depends on the plan's mode, so that nothing is ever asked of the product
that its geometry cannot bear:

ZONES  two of the six zones suffer anything: crashes, cuts, flipped bits, lying syncs, empty disks
ONE    one zone suffers anything, all others what leaves their disks alone: the promise is k + 1
       fragments on disk, so one of those may be lost at once
POWER  every process may crash, or all at once; disks keep what was synced
"""

import random
from dataclasses import dataclass, replace
from enum import Enum, auto

from common.fault_points import POINTS

ZONES = tuple(f"zone-{number}" for number in range(1, 7))
GATEWAYS = ("gateway-1", "gateway-2")
META = "meta"
WORKERS = ("workers-1", "workers-2")
PLAIN, VERSIONED = "plain", "versioned"
KEYS = ("a", "b/1", "b/2", "c\x00d", "é")

KIB = 1024
CLIENTS = 4
PAUSE_S = 1.25  # on average, before each of a client's requests
ROUND_S = 30.0
IDLE_S_MIN, IDLE_S_MAX = 1000.0, 2400.0
IDLE_SHARE = 0.15  # of troubles: they come while only background work goes on
DAMAGED = {"ZONES": 2, "ONE": 1, "POWER": 0}  # zones


class Action(Enum):
    """What a client asks for."""

    PUT = auto()
    CREATE = auto()  # If-None-Match: *
    REPLACE = auto()  # If-Match
    UPLOAD = auto()  # several parts, completed
    CREATE_BY_UPLOAD = auto()
    ABANDON_UPLOAD = auto()
    ABORT_UPLOAD = auto()
    COPY = auto()  # from another key
    GET = auto()
    GET_RANGE = auto()
    GET_VERSION = auto()
    DELETE = auto()
    DELETE_MANY = auto()  # two keys in one request
    ERASE = auto()  # a version for good
    LIST = auto()  # all pages
    LIST_ROLLED = auto()  # with a delimiter
    LIST_VERSIONS = auto()


WEIGHTS = {
    Action.PUT: 25, Action.CREATE: 6, Action.REPLACE: 8, Action.UPLOAD: 5,
    Action.CREATE_BY_UPLOAD: 2, Action.ABANDON_UPLOAD: 1, Action.ABORT_UPLOAD: 1, Action.COPY: 5,
    Action.GET: 24, Action.GET_RANGE: 10, Action.GET_VERSION: 5, Action.DELETE: 6,
    Action.DELETE_MANY: 3, Action.ERASE: 5, Action.LIST: 5, Action.LIST_ROLLED: 1,
    Action.LIST_VERSIONS: 2,
}  # fmt: skip


class Kind(Enum):
    """What goes wrong."""

    CRASH = auto()
    CRASH_AT_WRITE = auto()  # at the n-th disk operation from now
    CRASH_AT_POINT = auto()  # at a fault point, see common/fault_points.py
    FREEZE_AT_POINT = auto()  # the same, until its lease and every grace are over
    BLACKOUT = auto()  # all processes at once
    FREEZE = auto()
    ZOMBIE = auto()  # frozen until its lease and every grace are over
    CUT = auto()  # both ways, from everybody
    CUT_ONE_WAY = auto()
    RESET = auto()  # of all connections
    BAD_NETWORK = auto()  # slow and lossy
    SLOW_DISK = auto()
    CLOCK_JUMP = auto()
    DISK_FULL = auto()
    READ_ERRORS = auto()
    WRITE_ERRORS = auto()  # at its end the process starts again, or does not
    FLIP = auto()
    LIE = auto()  # syncs do nothing, then the power fails
    MISDIRECT = auto()  # a page is found in another's place
    LOSE_FILE = auto()
    BREAK_INDEX = auto()
    DEAD_DISK = auto()  # fails everything, then an empty one takes its place
    WIPE = auto()  # an empty disk in its place
    AWAY = auto()  # until the round, the idle time and the days after it are over


EVERYWHERE = (
    Kind.CRASH, Kind.CRASH_AT_WRITE, Kind.CRASH_AT_WRITE, Kind.CRASH_AT_POINT, Kind.CRASH_AT_POINT,
    Kind.FREEZE, Kind.CUT, Kind.CUT_ONE_WAY, Kind.RESET, Kind.RESET, Kind.BAD_NETWORK,
    Kind.SLOW_DISK, Kind.CLOCK_JUMP,
)  # fmt: skip
STATELESS = (
    Kind.CRASH, Kind.CRASH_AT_POINT, Kind.FREEZE, Kind.FREEZE_AT_POINT, Kind.ZOMBIE, Kind.CUT,
    Kind.CUT_ONE_WAY, Kind.RESET, Kind.BAD_NETWORK, Kind.CLOCK_JUMP,
)  # fmt: skip
ON_DISKS = (
    Kind.DISK_FULL, Kind.READ_ERRORS, Kind.WRITE_ERRORS, Kind.FLIP, Kind.FLIP, Kind.LIE,
    Kind.MISDIRECT, Kind.LOSE_FILE, Kind.BREAK_INDEX, Kind.DEAD_DISK, Kind.WIPE, Kind.AWAY,
    Kind.AWAY,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Request:
    """One request of a client. What it names of earlier results is settled when it is made."""

    number: int
    client: int
    round: int
    action: Action
    bucket: str
    key: str
    size_bytes: int
    gateway: str
    pause_s: float  # before it
    chance: float  # decides what is left open, in [0, 1)


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that goes wrong, and how it ends."""

    round: int
    at_s: float  # after the round's begin
    kind: Kind
    target: str
    duration_s: float
    amount: float  # of what the kind says: seconds of a clock, operations before a crash
    point: str = ""  # of common/fault_points.py


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole run."""

    seed: int
    mode: str
    damaged_zones: tuple[str, ...]
    requests: tuple[Request, ...]
    troubles: tuple[Trouble, ...]
    idle_s: float
    rounds: int
    days: int = 0  # in which nothing happens, after each round's idle time
    workers: int = 1  # processes
    variant: int = 0  # another run of the same plan

    def without(self, requests: set[int], troubles: set[int]) -> "Plan":
        """The same run with some requests (numbers) and troubles (places) left out."""
        return replace(
            self,
            requests=tuple(each for each in self.requests if each.number not in requests),
            troubles=tuple(
                each for place, each in enumerate(self.troubles) if place not in troubles
            ),
        )


@dataclass(frozen=True, slots=True)
class Scale:
    """How large plans are, and what may be in them.

    mode, kinds, points, targets, actions   only this one, these troubles, these fault points of
                 the targets (all, if empty), these members, these requests
    keys         of each bucket, at most; fewer meet more often
    bytes_range  of what is written in one piece
    """

    requests: int = 36  # of all clients, per round
    troubles: int = 5  # per round
    rounds: int = 2
    idle_factor: float = 1.0
    mode: str | None = None
    kinds: tuple[Kind, ...] | None = None
    points: tuple[str, ...] = ()
    targets: tuple[str, ...] | None = None
    days: int | None = None
    workers: int | None = None
    pause_factor: float = 1.0  # of clients
    actions: tuple[Action, ...] = tuple(WEIGHTS)
    keys: int = len(KEYS)
    bytes_range: tuple[int, int] = (0, 5 << 20)


def draw(seed: int, scale: Scale = Scale()) -> Plan:  # noqa: B008 - immutable
    """Make the plan of a seed."""
    chance = random.Random(f"plan {seed}")
    mode = scale.mode or chance.choice(("ZONES", "ZONES", "ONE", "POWER", "POWER"))
    damaged = tuple(chance.sample(ZONES, DAMAGED[mode]))
    scale = replace(scale, workers=scale.workers or chance.choice((1, 1, 1, 2)))
    requests = [
        _request(chance, round_number * scale.requests + index + 1, round_number, scale)
        for round_number in range(scale.rounds)
        for index in range(scale.requests)
    ]
    troubles = [
        _trouble(chance, mode, damaged, round_number, scale)
        for round_number in range(scale.rounds)
        for _ in range(chance.randint(0, scale.troubles))
    ]
    idle_s = chance.uniform(IDLE_S_MIN, IDLE_S_MAX) * scale.idle_factor
    troubles = [
        replace(each, at_s=chance.uniform(ROUND_S, idle_s))
        if chance.random() < IDLE_SHARE
        else each
        for each in troubles
    ]
    troubles.sort(key=lambda trouble: (trouble.round, trouble.at_s))
    days = chance.choice((0, 0, 0, 9, 35)) if scale.days is None else scale.days
    return Plan(
        seed, mode, damaged, tuple(requests), tuple(troubles), idle_s, scale.rounds, days,
        scale.workers or 1,
    )  # fmt: skip


def _request(chance: random.Random, number: int, round_number: int, scale: Scale) -> Request:
    weights = [WEIGHTS[action] for action in scale.actions]
    action = chance.choices(scale.actions, weights)[0]
    size_bytes = chance.choices(
        (
            chance.randint(0, 16 * KIB),
            chance.randint(16 * KIB + 1, 90 * KIB),
            chance.randint(90 * KIB, 700 * KIB),
            chance.randint(4 << 20, 5 << 20),
        ),
        (50, 36, 12, 1),
    )[0]
    size_bytes = min(max(size_bytes, scale.bytes_range[0]), scale.bytes_range[1])
    if action in (Action.UPLOAD, Action.CREATE_BY_UPLOAD, Action.ABORT_UPLOAD):
        size_bytes = chance.randint(21 * KIB, 200 * KIB)
    return Request(
        number=number,
        client=chance.randrange(CLIENTS),
        round=round_number,
        action=action,
        bucket=chance.choice((PLAIN, VERSIONED)),
        key=chance.choices(KEYS[: scale.keys], (5, 4, 2, 1, 1)[: scale.keys])[0],
        size_bytes=size_bytes,
        gateway=chance.choice(GATEWAYS),
        pause_s=chance.expovariate(1 / PAUSE_S) * scale.pause_factor,
        chance=chance.random(),
    )


def _trouble(
    chance: random.Random, mode: str, damaged: tuple[str, ...], round_number: int, scale: Scale
) -> Trouble:
    nodes = damaged if mode == "ZONES" else (*ZONES, *damaged * 5)
    workers = WORKERS[: 2 if scale.workers == 2 else 1]
    targets = scale.targets or (META, *workers, *GATEWAYS, *chance.choices(nodes, k=5))
    kinds_of = {target: _kinds(target, mode, damaged, scale) for target in targets}
    target = chance.choice([target for target in targets if kinds_of[target]])
    kind = chance.choice(kinds_of[target])
    amount = chance.uniform(1, 60)
    if kind is Kind.CLOCK_JUMP:
        amount = chance.choice((-3600.0, -5.0, 5.0, 3600.0, 86400.0))
    duration_s = chance.choice((0.2, 1.0, 4.0, 15.0)) * chance.uniform(0.5, 1.5)
    if kind in (Kind.DISK_FULL, Kind.READ_ERRORS, Kind.WRITE_ERRORS, Kind.LIE, Kind.DEAD_DISK):
        duration_s = chance.uniform(4, 25)  # or hardly anything would happen meanwhile
    point = ""
    if kind in (Kind.CRASH_AT_POINT, Kind.FREEZE_AT_POINT):
        point = chance.choice(
            [each for each in _points(target) if each in (scale.points or POINTS)]
        )
    return Trouble(
        point=point,
        round=round_number,
        at_s=chance.uniform(0, ROUND_S * 0.8),
        kind=kind,
        target=target,
        duration_s=duration_s,
        amount=amount,
    )


def _points(target: str) -> list[str]:
    """The fault points of a member's code."""
    roles = {META: "metadata service", **dict.fromkeys(GATEWAYS, "gateway")}
    role = roles.get(target, "workers" if target in WORKERS else "storage node")
    return [name for name, text in POINTS.items() if text.startswith(role)]


def _kinds(target: str, mode: str, damaged: tuple[str, ...], scale: Scale) -> list[Kind]:
    """What may happen to a member."""
    if target in (*WORKERS, *GATEWAYS):
        kinds = STATELESS
    elif target in damaged:
        kinds = (*EVERYWHERE, *ON_DISKS, *ON_DISKS)
    else:
        kinds = (*EVERYWHERE, Kind.BLACKOUT) if mode == "POWER" else EVERYWHERE
    return [kind for kind in kinds if scale.kinds is None or kind in scale.kinds]
