"""The checker is checked: against brute force on small histories, and on planted anomalies.

Histories are made from a true order: each operation has a moment between its begin and its end at
which it takes effect. Half of them are then spoiled in one place.
"""

import random
from dataclasses import replace
from typing import Generic

import pytest

from tests.support.linearizability import (
    UNKNOWN_END_S,
    Kind,
    Marker,
    Model,
    Operation,
    Register,
    StateT,
    VersionStack,
    check,
    settle_observed,
)

REGISTER_KINDS = (Kind.PUT, Kind.READ, Kind.DELETE, Kind.CREATE, Kind.REPLACE)
VERSION_KINDS = (*REGISTER_KINDS, Kind.READ_VERSION, Kind.ERASE)


def brute_force(operations: list[Operation], model: Model[StateT]) -> bool:
    """Try every order."""

    def explain(rest: frozenset[int], state: StateT) -> bool:
        if not any(operations[number].is_known for number in rest):
            return True
        first_end_s = min(operations[number].end_s for number in rest)
        for number in rest:
            if operations[number].begin_s > first_end_s:
                continue
            is_possible, after = model.step(state, operations[number])
            if is_possible and explain(rest - {number}, after):
                return True
        return False

    return explain(frozenset(range(len(operations))), model.initial)


class History(Generic[StateT]):
    """Makes a history that is linearizable, because it was made from an order."""

    def __init__(self, seed: int, model: Model[StateT], unknown_share: float) -> None:
        self._random = random.Random(seed)
        self._model = model
        self._kinds = VERSION_KINDS if isinstance(model, VersionStack) else REGISTER_KINDS
        self._unknown_share = unknown_share

    def make(self, operation_count: int, client_count: int) -> list[Operation]:
        chance = self._random
        free_s = [0.0] * client_count
        moments: list[tuple[float, float, float, int]] = []
        for number in range(operation_count):
            client = min(range(client_count), key=free_s.__getitem__)
            begin_s = free_s[client] + chance.random() * 0.2
            moment_s = begin_s + chance.random()
            free_s[client] = moment_s + chance.random()
            moments.append((moment_s, begin_s, free_s[client], number))
        operations, state, written = [], self._model.initial, [-1]
        for _, begin_s, end_s, number in sorted(moments):
            operation = self._draw(begin_s, end_s, number, written)
            operation = self._answer(operation, state)
            is_unknown = not operation.only_observes and chance.random() < self._unknown_share
            if is_unknown and chance.random() < 0.5:  # it never happened
                operations.append(replace(operation, end_s=UNKNOWN_END_S))
                continue
            _, state = self._model.step(state, operation)
            operations.append(replace(operation, end_s=UNKNOWN_END_S) if is_unknown else operation)
        return operations

    def _draw(self, begin_s: float, end_s: float, number: int, written: list[int]) -> Operation:
        kind = self._random.choice(self._kinds)
        value: object = None
        if kind in (Kind.PUT, Kind.CREATE, Kind.REPLACE):
            value = number
        elif kind is Kind.DELETE and isinstance(self._model, VersionStack):
            value = Marker(number)
        expected = self._random.choice(written[-3:])
        if value == number:
            written.append(number)
        return Operation(kind, begin_s, end_s, value, expected)

    def _answer(self, operation: Operation, state: StateT) -> Operation:
        """The result that this state gives."""
        candidates = [operation, replace(operation, is_refused=True)]
        if operation.kind in (Kind.READ, Kind.READ_VERSION):
            values = [None, operation.expected, *(state if isinstance(state, tuple) else (state,))]
            candidates = [replace(operation, value=value) for value in values]
        return next(each for each in candidates if self._model.step(state, each)[0])


def spoil(operations: list[Operation], chance: random.Random) -> list[Operation]:
    """Change one result."""
    known = [number for number, operation in enumerate(operations) if operation.is_known]
    number = chance.choice(known)
    operation = operations[number]
    if operation.kind in (Kind.CREATE, Kind.REPLACE):
        changed = replace(operation, is_refused=not operation.is_refused)
    elif operation.kind in (Kind.READ, Kind.READ_VERSION):
        changed = replace(operation, value=chance.choice([None, *range(len(operations))]))
    else:
        changed = replace(operation, kind=Kind.READ, value=chance.choice([None, 0, 1, 2]))
    return [*operations[:number], changed, *operations[number + 1 :]]


@pytest.mark.parametrize("model", [Register(), VersionStack()], ids=["register", "versions"])
def test_agrees_with_brute_force(model: Model[StateT]) -> None:
    verdicts = {True: 0, False: 0}
    for seed in range(600):
        operations = History(seed, model, unknown_share=0.15).make(8, 4)
        if seed % 2:
            operations = spoil(operations, random.Random(seed))
        expected = brute_force(operations, model)
        assert check(operations, model).is_linearizable is expected, f"seed {seed}: {operations}"
        verdicts[expected] += 1
    assert min(verdicts.values()) > 60, f"both kinds of history must be tried: {verdicts}"


@pytest.mark.parametrize("model", [Register(), VersionStack()], ids=["register", "versions"])
def test_true_histories_of_many_operations_pass(model: Model[StateT]) -> None:
    for seed in range(5):
        operations = History(seed, model, unknown_share=0.02).make(300, 6)
        assert check(operations, model), f"seed {seed}"


def test_stale_read_is_found_among_a_thousand_operations() -> None:
    operations = History(1, Register(), unknown_share=0.0).make(1000, 8)
    assert check(operations, Register())
    first_written = next(each.value for each in operations if each.kind is Kind.PUT)
    late = max(operation.end_s for operation in operations) + 1
    stale = Operation(Kind.READ, late, late + 1, first_written, label="stale")
    verdict = check([*operations, stale], Register())
    assert verdict.is_linearizable is False
    assert verdict.stuck_at == stale


def put(begin_s: float, end_s: float, value: object) -> Operation:
    return Operation(Kind.PUT, begin_s, end_s, value)


def read(begin_s: float, end_s: float, value: object) -> Operation:
    return Operation(Kind.READ, begin_s, end_s, value)


ANOMALIES: dict[str, list[Operation]] = {
    "lost write": [put(0, 1, "a"), read(2, 3, None)],
    "value out of nowhere": [put(0, 1, "a"), read(2, 3, "b")],
    "back in time": [put(0, 1, "a"), put(0, 9, "b"), read(2, 3, "b"), read(4, 5, "a")],
    "unknown write comes and goes": [
        put(0, 1, "a"), put(2, UNKNOWN_END_S, "b"), read(3, 4, "b"), read(5, 6, "a"),
    ],
    "seen before it was written": [read(0, 1, "a"), put(2, UNKNOWN_END_S, "a")],
    "two creators": [
        Operation(Kind.CREATE, 0, 2, "a"), Operation(Kind.CREATE, 1, 3, "b"),
    ],
    "refused for nothing": [Operation(Kind.CREATE, 0, 1, "a", is_refused=True)],
    "lost update": [
        put(0, 1, "a"),
        Operation(Kind.REPLACE, 2, 4, "b", expected="a"),
        Operation(Kind.REPLACE, 3, 5, "c", expected="a"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", ANOMALIES)
def test_anomaly_is_found(name: str) -> None:
    verdict = check(ANOMALIES[name], Register())
    assert verdict.is_linearizable is False
    assert verdict.stuck_at is not None


def test_erased_version_uncovers_the_one_before() -> None:
    history = [
        put(0, 1, "a"),
        put(2, 3, "b"),
        Operation(Kind.ERASE, 4, 5, expected="b"),
        read(6, 7, "a"),
        Operation(Kind.DELETE, 8, 9, Marker(1)),
        read(10, 11, None),
        Operation(Kind.ERASE, 12, 13, expected=Marker(1)),
        read(14, 15, "a"),
    ]
    assert check(history, VersionStack())
    assert not check([*history, read(16, 17, "b")], VersionStack())


def test_unknown_write_that_was_read_must_have_happened() -> None:
    history = [put(0, UNKNOWN_END_S, "a"), read(3, 4, "a"), put(5, UNKNOWN_END_S, "b")]
    assert [operation.end_s for operation in settle_observed(history)] == [4, 4, UNKNOWN_END_S]


def test_a_search_that_gives_up_is_no_pass() -> None:
    operations = History(2, Register(), unknown_share=0.0).make(200, 8)
    verdict = check(operations, Register(), steps_max=10)
    assert verdict.is_linearizable is None
    assert not verdict
