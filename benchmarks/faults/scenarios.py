"""What can happen to a local cluster. Each scenario is told as it happens, top to bottom."""

import time
from collections.abc import Callable
from functools import partial
from random import Random

from benchmarks.faults.cluster import LocalCluster
from benchmarks.faults.proxy import Weather
from benchmarks.faults.store import Scenario, Stage, nothing
from common.limits import MIB, TIB

VICTIM, SECOND = "node-3", "node-5"
FLAP_S = 1.5
FLAPS = 5
SLOW_S = 0.3
FLIPS = 400
SETTLE_S = 5.0  # until every gateway has found a restarted node again; no metric tells
SMALL_EXTENT_BYTES = 4 * MIB
SEED = 1


def node_killed(cluster: LocalCluster, stage: Stage) -> None:
    stage.begin(f"kill -9 {VICTIM}")
    cluster.kill(VICTIM)
    cluster.wait_ready(VICTIM)
    stage.end("it is back")


def zone_lost(cluster: LocalCluster, stage: Stage) -> None:
    stage.begin("zone 3 lost")
    cluster.kill(VICTIM, stay_dead=True)
    stage.hold()
    cluster.resume_supervisor()
    stage.end("zone 3 returns")


def two_zones_lost(cluster: LocalCluster, stage: Stage) -> None:
    stage.begin("zones 3 and 5 lost")
    cluster.kill(VICTIM, SECOND, stay_dead=True)
    stage.hold()
    cluster.resume_supervisor()
    stage.end("both return")


def disk_replaced(cluster: LocalCluster, stage: Stage) -> None:
    stage.begin("disk destroyed")
    cluster.kill(VICTIM, stay_dead=True)
    cluster.wipe(VICTIM)
    cluster.resume_supervisor()
    cluster.wait_ready(VICTIM)
    stage.end("empty disk in place")


def behind_proxy(cluster: LocalCluster) -> None:
    cluster.put_behind_proxy(VICTIM)
    cluster.restart(VICTIM)
    time.sleep(SETTLE_S)


def slow_disk(cluster: LocalCluster, stage: Stage) -> None:
    stage.begin(f"disk slow: +{SLOW_S * 1e3:.0f} ms")
    cluster.set_weather(Weather(delay_s=SLOW_S))
    stage.hold()
    cluster.set_weather(Weather())
    stage.end("fast again")


def frozen_node(cluster: LocalCluster, stage: Stage) -> None:
    stage.begin(f"{VICTIM} frozen")
    cluster.freeze(VICTIM)
    stage.hold()
    cluster.thaw()
    stage.end("it goes on")


def flapping_network(cluster: LocalCluster, stage: Stage) -> None:
    stage.begin("network flaps")
    for number in range(FLAPS):
        if number:
            stage.mark("")
        cluster.set_weather(Weather(is_cut=True))
        time.sleep(FLAP_S)
        cluster.set_weather(Weather())
        time.sleep(FLAP_S)
    stage.end("steady")


def rolling_restart(cluster: LocalCluster, stage: Stage) -> None:
    names = cluster.process_names()
    stage.begin("rolling restart")
    for number, name in enumerate(names):
        if number:
            stage.mark("")
        cluster.restart(name)
    stage.end("done")


def metadata_killed(cluster: LocalCluster, stage: Stage) -> None:
    stage.begin("kill -9 metadata service")
    cluster.kill("metaservice")
    cluster.wait_ready("metaservice")
    stage.end("it is back")


def small_extents(cluster: LocalCluster) -> None:
    cluster.configure(VICTIM, {"extent_bytes": SMALL_EXTENT_BYTES})
    cluster.restart(VICTIM)
    time.sleep(SETTLE_S)


def disk_full(cluster: LocalCluster, stage: Stage) -> None:
    before = cluster.settings(VICTIM)["reserve_bytes"]
    stage.begin("disk full")
    cluster.configure(VICTIM, {"reserve_bytes": 1024 * TIB})
    cluster.restart(VICTIM)
    stage.hold()
    cluster.configure(VICTIM, {"reserve_bytes": before})
    cluster.restart(VICTIM)
    stage.end("space again")


def bit_rot(cluster: LocalCluster, stage: Stage) -> None:
    stage.begin("bits flip")
    cluster.flip_bits(VICTIM, FLIPS, Random(SEED))
    stage.hold()
    stage.end("")


Act = Callable[[LocalCluster, Stage], None]
Prepare = Callable[[LocalCluster], None]
TABLE: tuple[tuple[str, str, str, Act, Prepare | None], ...] = (
    ("node-killed", "One node killed",
     "kill -9 of a storage node; its supervisor starts it again.", node_killed, None),
    ("zone-lost", "A zone lost",
     "Every process of one zone of six killed; the zone stays away, then returns with its data.",
     zone_lost, None),
    ("two-zones-lost", "Two zones lost",
     "Two zones of six killed at once; they stay away, then return with their data.",
     two_zones_lost, None),
    ("disk-replaced", "A disk replaced",
     "A node killed and all bytes of its disk deleted; it starts on an empty disk.",
     disk_replaced, None),
    ("slow-disk", "A slow disk",
     f"Every answer of one node comes {SLOW_S * 1e3:.0f} ms late; its health checks do not.",
     slow_disk, behind_proxy),
    ("frozen-node", "A frozen node",
     "SIGSTOP of a storage node: its connections stay open and nobody answers.",
     frozen_node, None),
    ("flapping-network", "A flapping network",
     f"A node's connections cut for {FLAP_S} s, {FLAPS} times, {FLAP_S} s apart.",
     flapping_network, behind_proxy),
    ("rolling-restart", "A rolling restart",
     "Every process stopped in order and started again, one after another.",
     rolling_restart, None),
    ("metadata-killed", "The metadata service killed",
     "kill -9 of the metadata service; its supervisor starts it again.", metadata_killed, None),
    ("disk-full", "A full disk",
     "One node finds no space left to take (and is restarted for that, twice).",
     disk_full, small_extents),
    ("bit-rot", "Bit rot",
     f"One bit flipped in each of {FLIPS} pages of a node's disk, while it runs.",
     bit_rot, None),
)  # fmt: skip
NAMES = tuple(row[0] for row in TABLE)


class LocalStore(LocalCluster):
    """A local cluster and all that can happen to it."""

    def scenarios(self) -> list[Scenario]:
        """The table, bound to this cluster."""
        return [
            Scenario(
                name, title, what, partial(act, self),
                partial(prepare, self) if prepare is not None else nothing,
            )
            for name, title, what, act, prepare in TABLE
        ]  # fmt: skip
