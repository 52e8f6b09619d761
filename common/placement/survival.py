"""What may be lost with all data still readable: worst cases of the placement, told in words."""

from collections.abc import Callable, Collection, Iterator, Sequence

from common.placement.choose import rooms_of
from common.placement.topology import Profile, Topology, Zone

UNREADABLE = "nothing: some data cannot be read now"

# Of a zone and the fragments of a blob in it: each number of further losses, and what is then lost.
Losses = Callable[[Zone, int], Iterator[tuple[int, int]]]


def survives(topology: Topology, profile: Profile, down: Collection[str] = ()) -> str:
    """Say what more may be lost, beyond what is lost now, for blobs placed on the whole cluster.

    down     names of nodes that do not answer
    """
    if profile.m == 0:
        return "nothing: there is one copy"
    if rooms_of([len(zone) for zone in topology.zones], profile) is None:
        return "nothing: there are too few disks"
    readable = {
        disk.disk_id
        for zone in topology.readable_zones
        for disk in zone
        if disk.node_name not in down
    }

    def gone(zone: Zone) -> int:
        return sum(disk.disk_id not in readable for disk in zone)

    def of_zones(zone: Zone, load: int) -> Iterator[tuple[int, int]]:
        yield 0, _heaviest(load, len(zone), gone(zone))
        if gone(zone) < len(zone):
            yield 1, load

    def of_disks(zone: Zone, load: int) -> Iterator[tuple[int, int]]:
        for more in range(min(len(zone) - gone(zone), profile.m) + 1):
            yield more, _heaviest(load, len(zone), gone(zone) + more)

    return _sentence(
        _losses_borne(topology.zones, profile, of_zones),
        _losses_borne(topology.zones, profile, of_disks),
    )


def _sentence(zones: int, disks: int) -> str:
    if zones < 0:
        return UNREADABLE
    if zones and disks > zones:
        return f"any {_count(zones, 'zone')} or any {_count(disks, 'disk')}"
    if zones:
        return f"any {_count(zones, 'zone')}"
    if disks:
        return f"any {_count(disks, 'disk')}"
    return "nothing more: too many disks are away"


def _losses_borne(zones: Sequence[Zone], profile: Profile, losses: Losses) -> int:
    """The most further losses, whichever they are, that every blob survives; -1: not even none."""
    worst = _worst(zones, profile, losses)
    borne = -1
    while worst.get(borne + 1, profile.m + 1) <= profile.m:
        borne += 1
    return borne


def _worst(zones: Sequence[Zone], profile: Profile, losses: Losses) -> dict[int, int]:
    """Per number of further losses the most fragments of any blob that are lost with them.

    Fragments are dealt to zones in turn, and the last turn reaches only some of them, others for
    each blob: the worst case is searched over those too, zone by zone.
    """
    wanted = profile.k + profile.m
    rooms = rooms_of([len(zone) for zone in zones], profile)
    assert rooms is not None, "the profile fits"
    turns = next(
        turns for turns in range(1, wanted + 1) if sum(min(room, turns) for room in rooms) >= wanted
    )
    rest = wanted - sum(min(room, turns - 1) for room in rooms)
    found = {(0, 0): 0}  # by fragments of the last turn dealt, and further losses
    for zone, room in zip(zones, rooms, strict=True):
        before, found = found, {}
        for (dealt, count), total in before.items():
            for load in range(min(room, turns - 1), min(room, turns) + 1):
                dealt_now = dealt + (load == turns)
                for more, lost in losses(zone, load):
                    place = dealt_now, count + more
                    if dealt_now <= rest and place[1] <= profile.m:
                        found[place] = max(found.get(place, 0), total + lost)
    return {count: total for (dealt, count), total in found.items() if dealt == rest}


def _heaviest(load: int, disks: int, count: int) -> int:
    """Fragments on the `count` fullest of a zone's disks."""
    each, more = divmod(load, disks)
    return count * each + min(count, more)


def _count(count: int, what: str) -> str:
    return f"{count} {what}s" if count > 1 else f"1 {what}"
