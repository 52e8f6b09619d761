"""Plans of repair: everything missing at once, one move at a time, and an end."""

import random

import pytest

from common.placement.repair import Blob, DiskView, plan
from common.placement.topology import PlacedDisk

ID = b"0123456789abcdef"


def view(zones: list[int], lost: set[int] = set(), **fields: set[int]) -> DiskView:  # noqa: B006
    """Disks numbered from 1, zones[i] of them in zone i."""
    disks, number = {}, 0
    for zone, count in enumerate(zones):
        for _ in range(count):
            number += 1
            disks[number] = PlacedDisk(number, f"n{number}", f"z{zone}", 1.0, number * 7919)
    leaving = fields.get("leaving", set())
    usable = fields.get("usable", set(disks) - lost - leaving)
    return DiskView(disks, frozenset(lost), frozenset(leaving), frozenset(usable))


def blob(*disk_ids: int, missing: tuple[int, ...] = (), m: int = 2) -> Blob:
    return Blob(ID, len(disk_ids) - m, m, disk_ids, missing)


def targets(step: object) -> dict[int, int]:
    return {index: disk.disk_id for index, disk in step.moves.items()}  # type: ignore[attr-defined]


def test_whole_blob_needs_nothing() -> None:
    assert not plan(blob(1, 2, 3, 4, 5, 6), view([1] * 6)).is_needed()


def test_lost_fragment_goes_to_another_zone_and_home_later() -> None:
    away = plan(blob(1, 2, 3, 4, 5, 6), view([1] * 6, {6}))
    assert away.missing == (5,)
    assert away.is_whole, "as wide as it can be without what is lost"
    there = targets(away)[5]
    home = plan(blob(1, 2, 3, 4, 5, there), view([1] * 6))
    assert set(targets(home).values()) == {6} and home.is_whole


def test_zone_that_is_only_away_is_waited_for() -> None:
    step = plan(blob(1, 2, 3, 4, 5, 5), view([1] * 6, usable={1, 2, 3, 4, 5}))
    assert not step.moves and not step.is_whole


def test_bad_fragment_is_written_anew_where_it_was() -> None:
    assert targets(plan(blob(1, 2, 3, 4, 5, 6, missing=(2,)), view([1] * 6))) == {2: 3}


def test_other_disk_of_the_zone_takes_what_one_lost() -> None:
    assert targets(plan(blob(1, 3, 5, 7, 9, 11), view([2] * 6, {11}))) == {5: 12}


def test_drained_disk_is_emptied_one_fragment_at_a_time() -> None:
    step = plan(blob(1, 2, 3, 4, 5, 5), view([1] * 7, leaving={5}))
    assert len(step.moves) == 1 and not step.missing


def test_two_lost_zones_never_put_more_than_m_into_one() -> None:
    step = plan(blob(1, 2, 3, 4, 5, 6), view([1] * 6, {5, 6}))
    after = [1, 2, 3, 4, *targets(step).values()]
    assert max(after.count(disk_id) for disk_id in after) == 2


def test_nothing_is_put_where_a_loss_would_be_the_end() -> None:
    step = plan(blob(1, 1, 2, 2, 0, 0), view([1, 1]))
    assert not step.moves and not step.is_whole


@pytest.mark.parametrize("seed", range(200))
def test_plans_end_and_lose_nothing(seed: int) -> None:
    """Applied again and again a plan ends with a blob that needs nothing, on usable disks."""
    chance = random.Random(seed)
    zones = [chance.randint(1, 3) for _ in range(chance.randint(3, 8))]
    count = sum(zones)
    lost = set(chance.sample(range(1, count + 1), chance.randint(0, max(0, count - 4))))
    leaving = {i for i in range(1, count + 1) if i not in lost and chance.random() < 0.1}
    seen = view(zones, lost, leaving=leaving)
    disk_ids = [chance.randint(0, count) for _ in range(6)]
    for _ in range(40):
        step = plan(blob(*disk_ids), seen)
        if not step.moves:
            break
        assert len(step.moves) == 1 or set(step.moves) <= set(step.missing), f"seed {seed}"
        for index, disk in step.moves.items():
            assert disk.disk_id in seen.usable, f"seed {seed}"
            disk_ids[index] = disk.disk_id
    else:
        pytest.fail(f"seed {seed}: no end, {disk_ids}")
