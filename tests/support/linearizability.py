"""Linearizability of one key's history: is there an order of its operations that explains them all?

The order must respect real time: an operation that ended before another began comes first. An
operation whose outcome is unknown (`end_s` infinite) may take effect at any time after its begin,
or never. Keys are independent, so each is checked alone; a listing counts as one read of every key
of its range.

Search after Wing and Gong with Lowe's cache of visited configurations, and two reductions that
keep it short: an operation that only observes is taken as soon as it is legal, and an unknown
write whose value somebody saw is known to have happened before that. It stays exponential in the
number of concurrent writes: at most some 1,000 operations and 8 clients per key. A search that
gives up is a failed test set-up, not a pass.
"""

import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Generic, Protocol, TypeVar

Value = Hashable | None  # None: the key is absent
STEPS_MAX = 2_000_000
UNKNOWN_END_S = math.inf


class Kind(Enum):
    """What a client asked for."""

    READ = auto()  # saw `value`
    READ_VERSION = auto()  # asked for the version `expected`, saw `value`
    PUT = auto()
    DELETE = auto()  # unversioned, or a new delete marker named `value`
    ERASE = auto()  # the version `expected`, for good
    CREATE = auto()  # If-None-Match: *
    REPLACE = auto()  # If-Match: the value `expected`


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation as its client saw it.

    Values stand for contents: every write of a history writes a value of its own.
    """

    kind: Kind
    begin_s: float
    end_s: float = UNKNOWN_END_S
    value: Value = None
    expected: Value = None
    is_refused: bool = False  # a condition did not hold
    label: str = ""  # who and what, for reports

    @property
    def is_known(self) -> bool:
        """Whether the client got an answer."""
        return self.end_s < UNKNOWN_END_S

    @property
    def only_observes(self) -> bool:
        """Whether it cannot have changed anything."""
        return self.is_refused or self.kind in (Kind.READ, Kind.READ_VERSION)


StateT = TypeVar("StateT", bound=Hashable)


class Model(Protocol[StateT]):
    """What a key is, one operation at a time."""

    @property
    def initial(self) -> StateT: ...

    def step(self, state: StateT, operation: Operation) -> tuple[bool, StateT]:
        """Whether the operation's result is possible in this state, and the state after it.

        One whose outcome is unknown is always possible.
        """
        ...


class Register:
    """An unversioned key: its current value, or None."""

    initial: Value = None

    def step(self, state: Value, operation: Operation) -> tuple[bool, Value]:
        kind = operation.kind
        if kind is Kind.READ:
            return operation.value == state, state
        if kind is Kind.PUT:
            return True, operation.value
        if kind is Kind.DELETE:
            return True, None
        holds = state is None if kind is Kind.CREATE else _matches(state, operation.expected)
        assert kind in (Kind.CREATE, Kind.REPLACE), f"a register knows no {kind.name}"
        return _conditional(holds, operation, state, operation.value)


@dataclass(frozen=True, slots=True)
class Marker:
    """The value of a delete marker."""

    name: Hashable


Versions = tuple[Hashable, ...]


class VersionStack:
    """A versioned key: its versions and delete markers, newest first."""

    initial: Versions = ()

    def step(self, state: Versions, operation: Operation) -> tuple[bool, Versions]:
        kind, value = operation.kind, operation.value
        if kind is Kind.READ:
            return value == _current(state), state
        if kind is Kind.READ_VERSION:
            return value == (operation.expected if operation.expected in state else None), state
        if kind is Kind.ERASE:
            return True, tuple(entry for entry in state if entry != operation.expected)
        pushed = (value, *state)
        if kind in (Kind.PUT, Kind.DELETE):
            return True, pushed
        current = _current(state)
        holds = current is None if kind is Kind.CREATE else _matches(current, operation.expected)
        return _conditional(holds, operation, state, pushed)


def _current(state: Versions) -> Value:
    return None if not state or isinstance(state[0], Marker) else state[0]


def _matches(current: Value, expected: Value) -> bool:
    return current is not None and current == expected


def _conditional(
    holds: bool, operation: Operation, before: StateT, after: StateT
) -> tuple[bool, StateT]:
    is_possible = not operation.is_known or holds is not operation.is_refused
    return is_possible, after if holds else before


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the search found."""

    is_linearizable: bool | None  # None: gave up
    steps: int
    stuck_at: Operation | None = None  # ended first of those that fit nowhere

    def __bool__(self) -> bool:
        return self.is_linearizable is True


def check(
    operations: Iterable[Operation], model: Model[StateT], steps_max: int = STEPS_MAX
) -> Verdict:
    """Search for an order that explains a history of one key."""
    history = [
        operation
        for operation in settle_observed(operations)
        if operation.is_known or not operation.only_observes
    ]
    # An unknown write may never have happened: an order without the unseen ones explains all.
    likely = [
        operation for operation in history if operation.is_known or _is_seen(operation, history)
    ]
    if len(likely) < len(history):
        verdict = _Search(likely, model, steps_max).run()
        if verdict:
            return verdict
    return _Search(history, model, steps_max).run()


def _is_seen(unknown: Operation, history: Sequence[Operation]) -> bool:
    """Whether somebody saw what an unknown write may have done: a key or version that is gone."""
    if unknown.kind not in (Kind.DELETE, Kind.ERASE):
        return False  # its value was never read, or it would be known: see settle_observed
    wanted = unknown.expected if unknown.kind is Kind.ERASE else None
    kind = Kind.READ_VERSION if unknown.kind is Kind.ERASE else Kind.READ
    return any(
        operation.kind is kind
        and operation.value is None
        and operation.expected == wanted
        and operation.end_s >= unknown.begin_s
        for operation in history
    )


def settle_observed(operations: Iterable[Operation]) -> list[Operation]:
    """Narrow unknown writes whose value was read: they happened before that read ended."""
    history = sorted(operations, key=lambda operation: (operation.begin_s, operation.end_s))
    seen_by: dict[Hashable, float] = {}
    writers: dict[Hashable, int] = {}
    for operation in history:
        if operation.value is None:
            continue
        if operation.only_observes:
            if operation.is_known and not operation.is_refused:
                known_s = seen_by.get(operation.value, UNKNOWN_END_S)
                seen_by[operation.value] = min(known_s, operation.end_s)
        else:
            writers[operation.value] = writers.get(operation.value, 0) + 1
    return [
        replace(operation, end_s=seen_by[operation.value])
        if not operation.is_known
        and not operation.only_observes
        and operation.value in seen_by
        and writers[operation.value] == 1
        and seen_by[operation.value] >= operation.begin_s
        else operation
        for operation in history
    ]


class _Events:
    """Begins and ends in the order of time, as a list from which operations are lifted.

    Event `len(events)` is the list's head. All begins before the first end are the operations that
    may come next.
    """

    def __init__(self, operations: Sequence[Operation]) -> None:
        events: list[tuple[float, bool, int]] = []
        for number, operation in enumerate(operations):
            events.append((operation.begin_s, False, number))
            if operation.is_known:
                events.append((operation.end_s, True, number))
        events.sort()
        self.head = len(events)
        self.operation_of: list[int] = [number for _, _, number in events]
        self.is_end = [is_end for _, is_end, _ in events]
        self.next: list[int] = [*range(1, len(events) + 1), 0]
        self._previous = [self.head, *range(len(events))]
        self._places: list[list[int]] = [[] for _ in operations]
        for place, (_, _, number) in enumerate(events):
            self._places[number].append(place)

    def lift(self, number: int) -> None:
        """Take an operation out."""
        for place in self._places[number]:
            before, after = self._previous[place], self.next[place]
            self.next[before], self._previous[after] = after, before

    def put_back(self, number: int) -> None:
        """Undo the last `lift` that was not undone."""
        for place in reversed(self._places[number]):
            before, after = self._previous[place], self.next[place]
            self.next[before] = self._previous[after] = place

    def place_of(self, number: int) -> int:
        """Where an operation begins."""
        return self._places[number][0]

    def first_end(self) -> int | None:
        """The operation that ended first of those still in the list."""
        place = self.next[self.head]
        while place != self.head:
            if self.is_end[place]:
                return self.operation_of[place]
            place = self.next[place]
        return None


class _Search(Generic[StateT]):
    """Depth first, without recursion: histories are longer than the stack is deep."""

    def __init__(
        self, operations: Sequence[Operation], model: Model[StateT], steps_max: int
    ) -> None:
        self._operations = operations
        self._model = model
        self._steps_max = steps_max
        self._events = _Events(operations)
        self._state = model.initial
        self._done = 0  # bit set of the operations in order so far
        self._owed = sum(operation.is_known for operation in operations)
        self._taken: list[tuple[int, StateT, bool]] = []  # number, state before, was it a choice
        self._visited: set[tuple[int, StateT]] = set()
        self._cursor = self._events.next[self._events.head]
        self._steps = 0
        self._deepest = -1
        self._stuck_at: Operation | None = None

    def run(self) -> Verdict:
        """Find an order, or that there is none."""
        while True:
            self._take_observers()
            if self._owed == 0:
                return Verdict(True, self._steps)
            while not self._take_choice():
                if self._steps > self._steps_max:
                    return Verdict(None, self._steps, self._stuck_at)
                self._note_dead_end()
                if not self._go_back():
                    return Verdict(False, self._steps, self._stuck_at)

    def _take_observers(self) -> None:
        """Put all operations in order that are legal now and change nothing, ever."""
        events = self._events
        place = events.next[events.head]
        while place != events.head and not events.is_end[place]:
            number = events.operation_of[place]
            operation = self._operations[number]
            if operation.only_observes and self._model.step(self._state, operation)[0]:
                self._take(number, self._state, is_choice=False)
                place = events.next[events.head]
            else:
                place = events.next[place]
        self._cursor = events.next[events.head]

    def _take_choice(self) -> bool:
        """Put the next possible operation at or after the cursor in order."""
        events = self._events
        while self._cursor != events.head and not events.is_end[self._cursor]:
            self._steps += 1
            number = events.operation_of[self._cursor]
            is_possible, after = self._model.step(self._state, self._operations[number])
            reached = (self._done | 1 << number, after)
            if is_possible and reached not in self._visited:
                self._visited.add(reached)
                self._take(number, after, is_choice=True)
                return True
            self._cursor = events.next[self._cursor]
        return False

    def _take(self, number: int, after: StateT, *, is_choice: bool) -> None:
        self._taken.append((number, self._state, is_choice))
        self._state = after
        self._done |= 1 << number
        self._owed -= self._operations[number].is_known
        self._events.lift(number)
        self._steps += 1

    def _go_back(self) -> bool:
        """Undo the last choice and what followed from it; False if there is none left."""
        while self._taken:
            number, self._state, is_choice = self._taken.pop()
            self._done &= ~(1 << number)
            self._owed += self._operations[number].is_known
            self._events.put_back(number)
            if is_choice:
                self._cursor = self._events.next[self._events.place_of(number)]
                return True
        return False

    def _note_dead_end(self) -> None:
        if len(self._taken) > self._deepest:
            self._deepest = len(self._taken)
            number = self._events.first_end()
            self._stuck_at = None if number is None else self._operations[number]
