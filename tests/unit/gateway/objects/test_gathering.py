"""Whose cells wait for others: those of many small objects at once, and of nobody else."""

from gateway.objects.gathering import AT_ONCE_MIN, SMALL_CELL_BYTES_MAX, Gathering


def test_only_many_small_ones_wait() -> None:
    gathering = Gathering()
    for _ in range(AT_ONCE_MIN - 1):
        gathering.begin()
        assert not gathering.may_wait(1)
    gathering.begin()
    assert gathering.may_wait(SMALL_CELL_BYTES_MAX)
    assert not gathering.may_wait(SMALL_CELL_BYTES_MAX + 1)
    gathering.end()
    assert not gathering.may_wait(1)
