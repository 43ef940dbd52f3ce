"""Doing tasks: in this process, or in several spawned ones.

Not `concurrent.futures`: its workers keep each other's queue open, so that they outlive a parent that was killed. Here each worker has a
pipe of its own, sees its end, and goes.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, Final, TypeAlias, cast

from dataplane.errors import DataplaneError, InvalidArgument
from dataplane.ingest.plan import Task
from dataplane.ingest.worker import Context, Done, Tick, do_task

__all__ = ["do_tasks"]

_SMALL_SAMPLES: Final = 64  # below these, starting processes takes longer than the work
_SMALL_BYTES: Final = 8 << 20
_JOIN_SECONDS: Final = 10.0

_Pipe: TypeAlias = "Connection[Any, Any]"


@dataclass(frozen=True, slots=True)
class _Ticked:
    samples: int
    bytes: int


@dataclass(frozen=True, slots=True)
class _Crashed:
    trace: str


@contextmanager
def do_tasks(context: Context, tasks: Sequence[Task], tick: Tick, *, workers: int | None) -> Iterator[Iterator[Done]]:
    """The results of tasks, as they are ready. Leaving the block ends the processes.

    `workers` is how many processes may be used; None for one a core, and none where little is to be done or a store lives in this process.
    Raises what a task raised; a process that died, of hunger for memory for instance, is a `DataplaneError` that says so.
    """
    count = min(len(tasks), _enough(tasks) if workers is None else workers)
    if count <= 1 or not _can_travel(context):
        yield (do_task(context, task, tick) for task in tasks)
        return
    with _crew(context, count) as crew:
        yield _do_in(crew, tasks, tick)


def _enough(tasks: Sequence[Task]) -> int:
    samples = sum(len(task.todo) for task in tasks)
    size = sum(item.wanted.entry.size for task in tasks for item in task.todo)
    return 1 if samples < _SMALL_SAMPLES or size < _SMALL_BYTES else len(os.sched_getaffinity(0))


def _can_travel(context: Context) -> bool:
    try:
        pickle.dumps(context)
    except (InvalidArgument, TypeError, AttributeError, pickle.PicklingError):  # a store in memory, or one that a caller has wrapped
        return False
    return True


def _do_in(crew: dict[_Pipe, SpawnProcess], tasks: Sequence[Task], tick: Tick) -> Iterator[Done]:
    waiting, idle, busy = deque(tasks), list(crew), set[_Pipe]()
    while waiting or busy:
        while waiting and idle:
            connection = idle.pop()
            busy.add(connection)
            _tell(connection, crew[connection], waiting.popleft())
        for connection in cast("list[_Pipe]", wait(list(busy))):
            message = _hear(connection, crew[connection])
            if isinstance(message, _Ticked):
                tick(message.samples, message.bytes)
                continue
            busy.remove(connection)
            idle.append(connection)
            yield message


@contextmanager
def _crew(context: Context, count: int) -> Iterator[dict[_Pipe, SpawnProcess]]:
    """`count` worker processes by the pipe to each. At the end they are asked to go; after an error they are made to."""
    crew: dict[_Pipe, SpawnProcess] = {}
    clean = False
    try:
        with _interrupts_held():
            for _ in range(count):
                mine, theirs = multiprocessing.Pipe()
                process = multiprocessing.get_context("spawn").Process(target=_serve, args=(theirs, context), daemon=True)
                process.start()
                theirs.close()
                crew[mine] = process
        yield crew
        clean = True
    finally:
        for connection in crew:
            connection.close()
        for process in crew.values():
            if not clean:
                process.terminate()
            process.join(_JOIN_SECONDS)
            if process.is_alive():
                process.kill()
                process.join()
            process.close()


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Processes started here never see Ctrl-C, which a terminal sends to everybody: the parent is the one to act on it."""
    resource_tracker.ensure_running()  # starting it lets the signal through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _tell(connection: _Pipe, process: SpawnProcess, task: Task) -> None:
    try:
        connection.send(task)
    except OSError as error:
        raise _died(process) from error


def _hear(connection: _Pipe, process: SpawnProcess) -> _Ticked | Done:
    try:
        message = connection.recv()
    except (EOFError, OSError) as error:
        raise _died(process) from error
    if isinstance(message, _Crashed):
        raise RuntimeError(f"a worker process failed:\n{message.trace}")  # noqa: TRY004
    if isinstance(message, DataplaneError):
        raise message
    return message  # type: ignore[no-any-return]


def _died(process: SpawnProcess) -> DataplaneError:
    process.join(_JOIN_SECONDS)
    code = process.exitcode
    if code is not None and code < 0:
        why = f"was killed by {signal.Signals(-code).name}; if memory ran out, use fewer --workers or smaller --shard-bytes"
    else:
        why = f'ended with exit code {code}; a script that ingests needs `if __name__ == "__main__":`, or workers=1'
    return DataplaneError(f"a worker process {why}. What was finished is kept: run the same command again")


def _serve(connection: _Pipe, context: Context) -> None:
    """A worker process: do tasks until the pipe ends."""

    def tick(samples: int, size: int) -> None:
        connection.send(_Ticked(samples, size))

    while True:
        try:
            task = connection.recv()
        except (EOFError, OSError):
            return
        try:
            _answer(connection, context, task, tick)
        except OSError:  # nobody is there to hear the answer
            return


def _answer(connection: _Pipe, context: Context, task: Task, tick: Callable[[int, int], None]) -> None:
    answer: Done | DataplaneError | _Crashed
    try:
        answer = do_task(context, task, tick)
    except DataplaneError as error:
        answer = error
    except BrokenPipeError:
        raise
    except Exception:  # passed on as text: it may not survive pickling
        answer = _Crashed(traceback.format_exc())
    connection.send(answer)
