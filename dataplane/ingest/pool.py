"""Doing tasks: one after the other, in threads of this process, or in several spawned ones.

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
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from queue import SimpleQueue
from threading import Event
from typing import Any, Final, Protocol, TypeAlias, TypeVar, cast

from dataplane.errors import DataplaneError, InvalidArgument
from dataplane.ingest.worker import Tick

__all__ = ["Context", "Work", "do_tasks"]

D_co = TypeVar("D_co", covariant=True)
W_contra = TypeVar("W_contra", bound="Work", contravariant=True)

_SMALL_SAMPLES: Final = 64  # below these, starting processes takes longer than the work
_SMALL_BYTES: Final = 8 << 20
_LIGHT_BYTES: Final = 1 << 30  # of light work, in the same way
_THREADS: Final = 4  # more would wait for the interpreter, and for the disk
_JOIN_SECONDS: Final = 10.0

_Pipe: TypeAlias = "Connection[Any, Any]"


class Work(Protocol):
    """A task: how much it is decides whether processes are worth their start. It is sent to one, so it can be pickled."""

    @property
    def samples(self) -> int:
        """How many things there are to do."""
        ...

    @property
    def bytes(self) -> int:
        """How many bytes there are to read."""
        ...


class Context(Protocol[W_contra, D_co]):
    """What every task needs, and how one is done. It is sent once to each worker process."""

    def do(self, task: W_contra, tick: Tick) -> D_co:
        """The result of a task; `tick` hears of progress."""
        ...


@dataclass(frozen=True, slots=True)
class _Ticked:
    samples: int
    bytes: int


@dataclass(frozen=True, slots=True)
class _Crashed:
    trace: str


@dataclass(frozen=True, slots=True)
class _Failed:
    error: BaseException


class _Left(Exception):
    """Nobody waits for what a thread does any more."""


@contextmanager
def do_tasks(
    context: Context[W_contra, D_co], tasks: Sequence[W_contra], tick: Tick, *, workers: int | None, light: bool = False
) -> Iterator[Iterator[D_co]]:
    """The results of tasks, as they are ready. Leaving the block ends the processes.

    `workers` is how many processes may be used; None for one a core, and none where little is to be done or a store lives in this process.
    `light` tasks are thread-safe, and hold the interpreter for little of the time: threads of this process do them side by side, and
    processes are started for a lot of them only. Raises what a task raised; a process that died, of hunger for memory for instance, is a
    `DataplaneError` that says so.
    """
    count = min(len(tasks), _enough(tasks) if workers is None else workers)
    threads = light and sum(task.bytes for task in tasks) < _LIGHT_BYTES
    if count <= 1 or not (threads or _can_travel(context)):
        yield (context.do(task, tick) for task in tasks)
    elif threads:
        with _side_by_side(context, tasks, tick, min(count, _THREADS)) as results:
            yield results
    else:
        with _crew(context, count) as crew:
            yield _do_in(crew, tasks, tick)


def _enough(tasks: Sequence[Work]) -> int:
    samples = sum(task.samples for task in tasks)
    size = sum(task.bytes for task in tasks)
    return 1 if samples < _SMALL_SAMPLES or size < _SMALL_BYTES else len(os.sched_getaffinity(0))


def _can_travel(context: Any) -> bool:
    try:
        pickle.dumps(context)
    except (InvalidArgument, TypeError, AttributeError, pickle.PicklingError):  # a store in memory, or one that a caller has wrapped
        return False
    return True


@contextmanager
def _side_by_side(context: Any, tasks: Sequence[Work], tick: Tick, count: int) -> Iterator[Iterator[Any]]:
    """The results of tasks that `count` threads do. Leaving the block ends them at their next tick."""
    said: SimpleQueue[Any] = SimpleQueue()
    leaving = Event()

    def pass_on(samples: int, size: int) -> None:
        if leaving.is_set():
            raise _Left
        said.put(_Ticked(samples, size))

    def do(task: Work) -> None:
        try:
            said.put(context.do(task, pass_on))
        except BaseException as error:  # whatever it is, it is raised where the results are awaited
            said.put(_Failed(error))

    def results() -> Iterator[Any]:
        left = len(tasks)
        while left:
            message = said.get()
            if isinstance(message, _Ticked):
                tick(message.samples, message.bytes)
                continue
            if isinstance(message, _Failed):
                raise message.error
            left -= 1
            yield message

    with ThreadPoolExecutor(count, thread_name_prefix="dataplane-task") as pool:
        try:
            for task in tasks:
                pool.submit(do, task)
            yield results()
        finally:
            leaving.set()
            pool.shutdown(wait=False, cancel_futures=True)


def _do_in(crew: dict[_Pipe, SpawnProcess], tasks: Sequence[Work], tick: Tick) -> Iterator[Any]:
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
def _crew(context: Any, count: int) -> Iterator[dict[_Pipe, SpawnProcess]]:
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


def _tell(connection: _Pipe, process: SpawnProcess, task: Any) -> None:
    try:
        connection.send(task)
    except OSError as error:
        raise _died(process) from error


def _hear(connection: _Pipe, process: SpawnProcess) -> Any:
    try:
        message = connection.recv()
    except (EOFError, OSError) as error:
        raise _died(process) from error
    if isinstance(message, _Crashed):
        raise RuntimeError(f"a worker process failed:\n{message.trace}")  # noqa: TRY004
    if isinstance(message, DataplaneError):
        raise message
    return message


def _died(process: SpawnProcess) -> DataplaneError:
    process.join(_JOIN_SECONDS)
    code = process.exitcode
    if code is not None and code < 0:
        why = f"was killed by {signal.Signals(-code).name}; if memory ran out, use fewer --workers or smaller --shard-bytes"
    else:
        why = f'ended with exit code {code}; a script that ingests needs `if __name__ == "__main__":`, or workers=1'
    return DataplaneError(f"a worker process {why}. What was finished is kept: run the same command again")


def _serve(connection: _Pipe, context: Any) -> None:
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


def _answer(connection: _Pipe, context: Any, task: Any, tick: Callable[[int, int], None]) -> None:
    answer: Any
    try:
        answer = context.do(task, tick)
    except DataplaneError as error:
        answer = error
    except BrokenPipeError:
        raise
    except Exception:  # passed on as text: it may not survive pickling
        answer = _Crashed(traceback.format_exc())
    connection.send(answer)
