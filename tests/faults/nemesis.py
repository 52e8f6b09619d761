"""What hurts the cluster: episodes of one to three faults at once, drawn from a seed.

All faults of an episode that can take fragments away share the same two zones at most, and every
episode ends with the cluster whole again, so that nothing acknowledged may ever be lost or wrong.
"""

import errno
import threading
import time
from dataclasses import dataclass
from random import Random

from common.fault_points import POINTS
from tests.faults.inspection import Inspection
from tests.faults.lasting import LASTING
from tests.faults.network import Weather
from tests.faults.stage import Begin, Stage
from tests.faults.victim import Victim

TICK_S = 0.5
PAUSE_S_MAX = 3.0
NETWORK_CUT = Weather(is_cut=True)
CLOCK_OFFSETS_S = (-3600.0, -600.0, 600.0, 3600.0)
DISK_DELAYS_S = (0.05, 0.3, 1.0)
FLIPS = 24


# --- processes ----------------------------------------------------------------------------------


def kill_nodes(stage: Stage) -> str:
    stage.victim.kill(*stage.zones)
    return f"kill -9 {' '.join(stage.zones)}"


def lose_nodes(stage: Stage) -> str:
    stage.victim.freeze_supervisor()
    stage.victim.kill(*stage.zones)
    return f"kill -9 {' '.join(stage.zones)}, not started again"


def freeze_nodes(stage: Stage) -> str:
    stage.victim.freeze(*stage.zones)
    return f"freeze {' '.join(stage.zones)}"


def kill_gateway(stage: Stage) -> str:
    name = stage.gateway()
    stage.victim.kill(name)
    return f"kill -9 {name}"


def freeze_gateway(stage: Stage) -> str:
    name = stage.gateway()
    stage.victim.freeze(name)
    return f"freeze {name}"


def kill_metaservice(stage: Stage) -> str:
    stage.victim.kill("metaservice")
    return "kill -9 metaservice"


def freeze_metaservice(stage: Stage) -> str:
    stage.victim.freeze("metaservice")
    return "freeze metaservice"


def kill_workers(stage: Stage) -> str:
    stage.victim.kill("workers")
    return "kill -9 workers"


def freeze_workers(stage: Stage) -> str:
    stage.victim.freeze("workers")
    return "freeze workers"


def kill_supervisor(stage: Stage) -> str:
    stage.victim.kill_supervisor()
    return "kill -9 supervisor, all others stop"


def kill_all(stage: Stage) -> str:
    stage.victim.kill(*stage.victim.names)
    return "kill -9 everything at once"


def lose_three_nodes(stage: Stage) -> str:
    names = [*stage.zones, *[name for name in stage.victim.nodes if name not in stage.zones]][:3]
    stage.victim.freeze_supervisor()
    stage.victim.kill(*names)
    return f"kill -9 {' '.join(names)}, not started again: nothing can be read"


def rolling_restart(stage: Stage) -> str:
    """One process after another, as fast as the ticks come."""
    left = list(stage.victim.names)
    stage.random.shuffle(left)

    def next_one() -> None:
        if left and not stage.victim.troubles():
            stage.victim.kill(left.pop(), number=15)

    stage.ticks.append(next_one)
    return "every process is restarted in order"


def fault_point(stage: Stage) -> str:
    """Somebody dies in the middle of what it does, if it comes there."""
    point = stage.random.choice(sorted(POINTS))
    name = {
        "gateway": stage.gateway(), "metadata service": "metaservice", "workers": "workers",
        "storage node": stage.zones[0],
    }[POINTS[point].partition(":")[0]]  # fmt: skip
    stage.victim.arm(name, f"{point}=kill@{stage.random.randint(1, 20)}")
    return f"{name} dies at {point}"


def lost_replies(stage: Stage) -> str:
    """Commits happen, and whoever asked is told that the outcome is unknown."""
    stage.victim.arm("metaservice", f"reply.before_send=raise@{stage.random.randint(1, 9)}+")
    return "replies to commits are lost"


def restart(stage: Stage) -> str:
    name = stage.random.choice(stage.victim.names)
    stage.victim.kill(name, number=15)
    return f"restart {name} in order"


# --- network ------------------------------------------------------------------------------------


def _weather(stage: Stage, weather: Weather) -> str:
    network = stage.victim.network
    assert network is not None
    names = stage.end_of_link()
    network.set(network.of(*names), weather)
    return " ".join(names)


def slow_network(stage: Stage) -> str:
    delay_s = stage.random.choice([0.02, 0.1, 0.4])
    return f"{delay_s} s on the links of {_weather(stage, Weather(delay_s=delay_s))}"


def narrow_network(stage: Stage) -> str:
    rate = stage.random.choice([64_000.0, 500_000.0])
    return f"{rate:.0f} B/s on the links of {_weather(stage, Weather(bytes_per_s=rate))}"


def cut_network(stage: Stage) -> str:
    return f"connections reset of {_weather(stage, NETWORK_CUT)}"


def silent_network(stage: Stage) -> str:
    weather = Weather(loses_requests=True, loses_answers=True)
    return f"nothing arrives on the links of {_weather(stage, weather)}"


def one_way_network(stage: Stage) -> str:
    weather = stage.random.choice([Weather(loses_requests=True), Weather(loses_answers=True)])
    lost = "requests" if weather.loses_requests else "answers"
    return f"{lost} lost on the links of {_weather(stage, weather)}"


def flapping_network(stage: Stage) -> str:
    network = stage.victim.network
    assert network is not None
    links = network.of(*stage.end_of_link())
    own = Random(stage.random.random())  # how often it is asked depends on the machine

    def flap() -> None:
        network.set(links, own.choice([Weather(), NETWORK_CUT]))

    stage.ticks.append(flap)
    return f"flapping links: {links[0].source} to {links[0].target} and {len(links) - 1} more"


# --- disks --------------------------------------------------------------------------------------


def slow_disk(stage: Stage) -> str:
    delay_s = stage.random.choice(DISK_DELAYS_S)
    node = stage.zones[0]
    stage.victim.spoil_files(node, delay_s=delay_s, path=f"/{stage.victim.disk_of(node).name}/")
    return f"{delay_s} s for every file call of {node}"


def hung_disk(stage: Stage) -> str:
    node = stage.zones[0]
    stage.victim.spoil_files(node, delay_s=3600, path=f"/{stage.victim.disk_of(node).name}/")
    return f"no file call of {node} returns"


def torn_write(stage: Stage) -> str:
    name, path = stage.random.choice(
        [(stage.zones[0], "/extents/"), (stage.zones[0], "/index/"), ("metaservice", "/meta/")]
    )
    stage.excused.add(name)  # it dies again at each start until the fault is over
    stage.victim.spoil_files(name, tear=True, path=path)
    return f"half of a write to {path} is there, then {name} is dead"


def _errors(stage: Stage, node: str, part: str, **errors: int) -> str:
    """Errors on a node's files; it starts anew afterwards, as its disk may be given up."""
    disk = stage.victim.disk_of(node).name
    stage.victim.spoil_files(node, path=f"/{disk}/{part}", **errors)
    stage.excused.add(node)
    stage.afterwards.append(lambda: stage.victim.kill(node))
    words = ", ".join(f"{name} {errno.errorcode[value]}" for name, value in errors.items())
    return f"{words} on {disk}/{part} of {node}"


def read_errors(stage: Stage) -> str:
    return _errors(stage, stage.zones[0], "extents", read_error=errno.EIO)


def sync_errors(stage: Stage) -> str:
    part = stage.random.choice(["extents", "index", ""])
    return _errors(stage, stage.zones[0], part, sync_error=errno.EIO)


def write_errors(stage: Stage) -> str:
    part = stage.random.choice(["extents", "index", ""])
    return _errors(stage, stage.zones[0], part, write_error=errno.EIO)


def full_disk(stage: Stage) -> str:
    part = stage.random.choice(["index", ""])
    return _errors(stage, stage.zones[0], part, write_error=errno.ENOSPC, space_error=errno.ENOSPC)


def metadata_errors(stage: Stage) -> str:
    errors = stage.random.choice(
        [{"sync_error": errno.EIO}, {"write_error": errno.EIO}, {"write_error": errno.ENOSPC}]
    )
    stage.victim.spoil_files("metaservice", path="/meta/", **errors)
    stage.excused.add("metaservice")
    stage.afterwards.append(lambda: stage.victim.kill("metaservice"))
    return f"{errors} on the metadata's files"


def flip_extents(stage: Stage) -> str:
    return _flip(stage, "*.extent", FLIPS)


def flip_index(stage: Stage) -> str:
    node = stage.sick[0]
    stage.victim.freeze_supervisor()
    stage.victim.kill(node)
    pattern = stage.random.choice(["index/*.sst", "index/*.log", "index/MANIFEST*", "index/*"])
    flips = stage.victim.flip(node, pattern, 3, stage.random)
    stage.excused.add(node)
    return f"{len(flips)} bits flipped in {pattern} of {node}"


def _flip(stage: Stage, pattern: str, count: int) -> str:
    """Flips are undone as long as nothing repairs them; else losses would add up."""
    words = []
    for node in stage.sick:
        flips = stage.victim.flip(node, pattern, count, stage.random)
        stage.undo += [flip.undo for flip in flips]
        words.append(f"{len(flips)} bits flipped in {pattern} of {node}")
    return ", ".join(words)


# --- clocks -------------------------------------------------------------------------------------


def wrong_clock(stage: Stage) -> str:
    name = stage.random.choice(stage.victim.names)
    offset_s = stage.random.choice(CLOCK_OFFSETS_S)
    stage.victim.spoil_files(name, clock_offset_s=offset_s)
    return f"the clock of {name} is {offset_s:+.0f} s off"


ORDINARY: dict[str, Begin] = {
    "kill-nodes": kill_nodes,
    "lose-nodes": lose_nodes,
    "freeze-nodes": freeze_nodes,
    "kill-gateway": kill_gateway,
    "freeze-gateway": freeze_gateway,
    "kill-metaservice": kill_metaservice,
    "freeze-metaservice": freeze_metaservice,
    "kill-workers": kill_workers,
    "freeze-workers": freeze_workers,
    "kill-supervisor": kill_supervisor,
    "kill-all": kill_all,
    "lose-three-nodes": lose_three_nodes,
    "rolling-restart": rolling_restart,
    "fault-point": fault_point,
    "lost-replies": lost_replies,
    "restart": restart,
    "flip-extents": flip_extents,
    "flip-index": flip_index,
}
WITH_SHIM: dict[str, Begin] = {
    "slow-network": slow_network,
    "narrow-network": narrow_network,
    "cut-network": cut_network,
    "silent-network": silent_network,
    "one-way-network": one_way_network,
    "flapping-network": flapping_network,
    "slow-disk": slow_disk,
    "hung-disk": hung_disk,
    "torn-write": torn_write,
    "read-errors": read_errors,
    "sync-errors": sync_errors,
    "write-errors": write_errors,
    "full-disk": full_disk,
    "metadata-errors": metadata_errors,
    "wrong-clock": wrong_clock,
}
ALL = ORDINARY | WITH_SHIM | LASTING


@dataclass(frozen=True, slots=True)
class Pace:
    """How long things last."""

    hold_s_min: float = 3.0
    hold_s_max: float = 15.0
    long_hold_s: float = 40.0  # beyond every lease
    long_hold_share: float = 0.08
    faults_max: int = 3


class Nemesis(threading.Thread):
    """Runs episodes until it is stopped; then the cluster is whole."""

    def __init__(
        self, victim: Victim, inspection: Inspection, names: list[str], seed: int, pace: Pace
    ) -> None:
        super().__init__(name="nemesis")
        self._victim = victim
        self._inspection = inspection
        self._names = names
        self._random = Random(seed)
        self._pace = pace
        self._ending = threading.Event()
        self._began_s = time.monotonic()
        self._sick = self._random.sample(victim.nodes, 1)
        self.events: list[str] = []
        self.episodes = 0
        self.recoveries_s: list[float] = []
        self.violations: list[str] = []

    def stop(self) -> None:
        """End the episode that runs now, heal, wait."""
        self._ending.set()
        self.join()

    def run(self) -> None:
        """Episodes, one after another."""
        try:
            while not self._ending.is_set():
                self._episode()
                self._ending.wait(self._random.uniform(0, PAUSE_S_MAX))
        except Exception as error:
            self.violations.append(f"the nemesis itself failed: {error!r}")
            raise

    def _episode(self) -> None:
        self.episodes += 1
        random, pace = self._random, self._pace
        zones = random.sample(self._victim.nodes, random.choice([1, 2]))
        stage = Stage(self._victim, random, zones, self._sick)
        began_ns = time.time_ns()
        chosen = random.sample(
            self._names, min(random.randint(1, pace.faults_max), len(self._names))
        )
        hold_s = random.uniform(pace.hold_s_min, pace.hold_s_max)
        if random.random() < pace.long_hold_share:
            hold_s = pace.long_hold_s
        chosen.sort(key=lambda name: name not in LASTING)  # while nothing else is missing
        if chosen[0] in LASTING and not self._mended(0):
            return
        for name in chosen:
            self._note(f"{name}: {ALL[name](stage)}")
        self._hold(stage, hold_s)
        for undo in stage.undo:
            undo()
        self._victim.heal()
        for action in stage.afterwards:
            action()
        healed_s = time.monotonic()
        if troubles := self._victim.wait_healthy():
            self.violations.append(f"episode {self.episodes} did not heal: {troubles}")
            self._note(self.violations[-1])
        self.recoveries_s.append(time.monotonic() - healed_s)
        self._note(f"healthy again {self.recoveries_s[-1]:.1f} s after {hold_s:.1f} s of it")
        if stage.hurt:
            self._mended(began_ns, *stage.hurt)
        self._inspection.read_logs(stage.excused)

    def _mended(self, since_ns: int, *nodes: str) -> bool:
        """Whether all damage is found and mended, in time; else it is noted."""
        begin_s = time.monotonic()
        if troubles := self._victim.wait_mended(since_ns, nodes):
            self.violations.append(f"before or in episode {self.episodes}: not mended: {troubles}")
            self._note(self.violations[-1])
        elif nodes:
            self._note(f"mended after {time.monotonic() - begin_s:.1f} s")
        return not troubles

    def _hold(self, stage: Stage, hold_s: float) -> None:
        end_s = time.monotonic() + hold_s
        while time.monotonic() < end_s and not self._ending.wait(TICK_S):
            for tick in stage.ticks:
                tick()

    def _note(self, words: str) -> None:
        line = f"{time.monotonic() - self._began_s:7.1f} s  {words}"
        self.events.append(line)
        print(line, flush=True)
