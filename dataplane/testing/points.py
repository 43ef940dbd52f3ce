"""A command run again and again, disturbed at each of its calls of a store in turn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from dataplane.errors import DataplaneError
from dataplane.store.protocol import Store
from dataplane.testing.crash import WRITES, Crashed, CrashStore, When
from dataplane.testing.faults import KINDS, Fault, FaultStore
from dataplane.testing.recording import Call, RecordingStore

__all__ = ["Point", "Tried", "crash_points", "fault_points"]

_MANY: Final = 100_000  # calls of a command, before it is believed to have no end


@dataclass(frozen=True, slots=True)
class Point:
    """A moment of a command: its call number `number` (from 1), and what happened there: "killed before", "killed after", a fault's kind.

    `error` is what the command raised; None where it returned.
    """

    number: int
    call: Call
    event: str
    error: DataplaneError | None = None

    def __str__(self) -> str:
        outcome = "" if self.error is None else f", which raised {type(self.error).__name__}: {self.error}"
        return f"at call {self.number} ({self.call.verb} {self.call.path}): {self.event}{outcome}"


@dataclass(frozen=True, slots=True)
class Tried:
    """The points at which a command was disturbed: never none. `calls` is how many calls it makes undisturbed."""

    calls: int
    points: tuple[Point, ...]

    def __len__(self) -> int:
        return len(self.points)

    @property
    def events(self) -> dict[str, int]:
        """How many points there were of each kind."""
        return dict(sorted(Counter(point.event for point in self.points).items()))

    @property
    def failed(self) -> int:
        """How many times the command raised an error."""
        return sum(point.error is not None for point in self.points)


def crash_points(
    setup: Callable[[], Store],
    command: Callable[[Store], object],
    check: Callable[[Store, Point], object],
    *,
    every: int = 1,
) -> Tried:
    """Kill `command` at each call it makes of its store: before every call, and after every one that writes.

    `setup()` gives the store as it is before the command; it is called for each point. `command(store)` runs there, with a store that
    dies; then `check(store, point)` looks at what is left, through the store itself, and raises `AssertionError` where that is wrong. With
    `every=n` only each n-th call is tried, and each n-th of the writes: else reads between them could hide them all. Nothing after the
    death reaches the store, so a command cannot tidy up.

    Raises `AssertionError`, with the point as a note, where the command survived its death, and where it made no call at all.
    """
    calls = _record(setup, command)
    writes = frozenset([number for number, call in enumerate(calls, 1) if call.verb in WRITES][::every])
    points: list[Point] = []
    for number in range(1, _MANY):
        written = number in writes
        if not (number - 1) % every:
            point = _crash(setup, command, check, number, "before")
            if point is None:
                break
            points.append(point)
            written = written or (every == 1 and point.call.verb in WRITES)  # calls of threads come in another order each time
        if written:
            after = _crash(setup, command, check, number, "after")
            points.extend([after] if after else [])
    else:
        raise AssertionError(f"the command made {_MANY} calls and was not done")
    return _tried(calls, points)


def fault_points(
    setup: Callable[[], Store],
    command: Callable[[Store], object],
    check: Callable[[Store, Point], object],
    *,
    kinds: Iterable[str] | None = None,
    every: int = 1,
) -> Tried:
    """Disturb `command` at each call it makes of its store with each kind of fault that the verb can have, once; then the store is well.

    `setup`, `command`, `check` and `every` are as for `crash_points`; `check` finds in `point.error` what the command raised. `kinds`: only
    these. A fault that struck nothing, because the command took another way, is not counted.

    Raises `AssertionError`, with the point as a note, where the command raised what is no `DataplaneError`, and where it made no call.
    """
    calls = _record(setup, command)
    wanted = None if kinds is None else set(kinds)
    points: list[Point] = []
    for i in range(0, len(calls), every):
        verb = calls[i].verb
        skip = sum(call.verb == verb for call in calls[:i])
        for known, possible in KINDS.items():
            for kind in possible if known == verb else ():
                if wanted is None or kind in wanted:
                    point = _disturb(setup, command, check, Point(i + 1, calls[i], kind), Fault(known, kind, skip=skip))
                    points.extend([point] if point else [])
    return _tried(calls, points)


def _crash(
    setup: Callable[[], Store], command: Callable[[Store], object], check: Callable[[Store, Point], object], number: int, when: When
) -> Point | None:
    """The point, or None where the command was done before it."""
    store = setup()
    dying = CrashStore(store, number, when)
    try:
        command(dying)
    except Crashed:
        survived = False
    else:
        survived = dying.crashed
    if not dying.crashed or dying.last is None:
        return None
    point = Point(number, dying.last, f"killed {when}")
    if survived:
        raise AssertionError(f"the command went on after its death {point}; it swallows a BaseException")
    _check(check, store, point)
    return point


def _disturb(
    setup: Callable[[], Store], command: Callable[[Store], object], check: Callable[[Store, Point], object], point: Point, fault: Fault
) -> Point | None:
    store = setup()
    faulty = FaultStore(store, [fault])
    try:
        command(faulty)
    except DataplaneError as error:
        point = Point(point.number, point.call, point.event, error)
    except Exception as error:
        raise AssertionError(f"no DataplaneError, but {type(error).__name__}: {error}, {point}") from error
    if faulty.left:
        return None
    _check(check, store, point)
    return point


def _check(check: Callable[[Store, Point], object], store: Store, point: Point) -> None:
    try:
        check(store, point)
    except BaseException as error:
        error.add_note(f"the command was disturbed {point}")
        raise


def _record(setup: Callable[[], Store], command: Callable[[Store], object]) -> list[Call]:
    recorded = RecordingStore(setup())
    command(recorded)
    return recorded.calls


def _tried(calls: Sequence[Call], points: Sequence[Point]) -> Tried:
    if not points:
        raise AssertionError(f"the command was disturbed at no point: it made {len(calls)} calls of the store")
    return Tried(len(calls), tuple(points))
