"""Which nodes take the journal: connected ones of different zones, not such as have just failed."""

import logging
from collections.abc import Collection, Iterable, Sequence
from typing import Protocol

from common import faults
from common.clock import Clock
from metaservice.journal import register
from metaservice.journal.nodes import Place
from metaservice.journal.register import Peers
from proto import journal_pb2
from storagenode.client import Method

log = logging.getLogger(__name__)

DOUBT_S = 10.0  # a node that failed is not chosen for so long, while there are others
OPEN_S = 3.0


class Directory(Peers, Protocol):
    """Nodes, and where they are."""

    places: dict[str, Place]

    @property
    def live_zones(self) -> dict[str, list[Place]]: ...

    async def refresh(self) -> None: ...


class Ensembles:
    """Chooses nodes for segments and opens segments on them."""

    def __init__(self, nodes: Directory, clock: Clock) -> None:
        self._nodes, self._clock = nodes, clock
        self._doubted_until_s: dict[str, float] = {}
        self._turn = 0

    def doubt(self, names: Iterable[str]) -> None:
        """Note that nodes have failed."""
        until_s = self._clock.monotonic_s() + DOUBT_S
        self._doubted_until_s.update(dict.fromkeys(names, until_s))

    def forgive(self) -> None:
        """Doubt nobody any more."""
        self._doubted_until_s.clear()

    def can_have(self, count: int) -> bool:
        """Whether so many zones have a connected node without doubt."""
        now_s = self._clock.monotonic_s()
        fit = {
            zone
            for zone, places in self._nodes.live_zones.items()
            if any(self._doubted_until_s.get(place.name, 0.0) <= now_s for place in places)
        }
        return len(fit) >= count

    async def open(
        self, request: journal_pb2.Open, kept: Sequence[str], wanted: int, wanted_min: int
    ) -> list[str]:
        """The nodes, of different zones, that have opened the segment: those kept, and others."""
        opened, tried = list[str](), set[str]()
        self._turn += 1
        for may_be_doubtful in (False, True):
            while len(opened) < wanted:
                zones = {self._zone(name) for name in opened}
                some = self._choose(wanted - len(opened), kept, zones, tried, may_be_doubtful)
                if not some:
                    break
                tried |= set(some)
                answers = await register.ask(
                    self._nodes, some, Method.JOURNAL_OPEN, request, OPEN_S
                )
                for name, answer in answers.items():
                    if isinstance(answer, faults.Fenced):
                        raise answer
                    if isinstance(answer, bytes):
                        opened.append(name)
                    else:
                        log.warning("journal node %s: %s", name, answer)
            if len(opened) >= max(wanted_min, 1):
                break  # rather fewer copies than a node that has just failed
        return opened

    def _choose(
        self,
        count: int,
        kept: Sequence[str],
        zones: Collection[str],
        tried: Collection[str],
        may_be_doubtful: bool,
    ) -> list[str]:
        """Connected nodes of zones that have none yet; kept ones first."""
        now_s = self._clock.monotonic_s()
        doubted = {name for name, until in self._doubted_until_s.items() if until > now_s}
        chosen, taken = list[str](), set(zones)
        live = [place for places in self._nodes.live_zones.values() for place in places]
        if live:  # each epoch begins elsewhere, so that no two nodes do all the work for ever
            turn = self._turn % len(live)
            live = live[turn:] + live[:turn]
        live.sort(key=lambda place: place.name not in kept)
        for place in live:
            is_fit = place.name not in tried and (may_be_doubtful or place.name not in doubted)
            if is_fit and place.zone not in taken and len(chosen) < count:
                chosen.append(place.name)
                taken.add(place.zone)
        return chosen

    def _zone(self, name: str) -> str:
        place = self._nodes.places.get(name)
        return place.zone if place is not None else name
