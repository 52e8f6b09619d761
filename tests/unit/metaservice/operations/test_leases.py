"""Leases: one holder at a time, tokens that grow with every holder."""

from metaservice.table import Method
from proto import meta_pb2
from tests.support.meta import MetaBench


async def acquire(
    bench: MetaBench, holder: str, seconds: int = 10, name: str = "collector"
) -> meta_pb2.LeaseReply:
    request = meta_pb2.AcquireLease(name=name, holder=holder, seconds=seconds)
    reply: meta_pb2.LeaseReply = await bench.call(Method.ACQUIRE_LEASE, request)
    return reply


async def test_held_lease_is_not_given_to_another(bench: MetaBench) -> None:
    assert (await acquire(bench, "first")).is_held
    refused = await acquire(bench, "second")
    assert not refused.is_held
    assert refused.lease.holder == "first"
    assert (await acquire(bench, "second", name="other")).is_held


async def test_holder_extends_its_lease_with_the_same_token(bench: MetaBench) -> None:
    first = await acquire(bench, "first")
    bench.clock.advance(8)
    again = await acquire(bench, "first")
    assert again.lease.token == first.lease.token
    bench.clock.advance(8)
    assert not (await acquire(bench, "second")).is_held


async def test_ended_lease_goes_to_the_next_with_a_greater_token(bench: MetaBench) -> None:
    first = await acquire(bench, "first")
    bench.clock.advance(10.1)
    second = await acquire(bench, "second")
    assert second.is_held
    assert second.lease.token > first.lease.token
    assert not (await acquire(bench, "first")).is_held


async def test_lease_of_no_time_gives_it_back(bench: MetaBench) -> None:
    await acquire(bench, "first")
    await acquire(bench, "first", seconds=0)
    assert (await acquire(bench, "second")).is_held


async def test_lease_outlives_a_restart(bench: MetaBench) -> None:
    await acquire(bench, "first")
    assert not (await acquire(bench.restart(), "second")).is_held
