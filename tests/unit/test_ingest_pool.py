"""Light tasks are done side by side by threads of this process: who hears of them, and how they end."""

import threading
import time
from dataclasses import dataclass

import pytest

from dataplane.ingest.pool import do_tasks


@dataclass(frozen=True)
class Work:
    number: int
    samples: int = 100
    bytes: int = 1 << 20


class Steps:
    """Tasks of 100 steps of a millisecond; `fails` is the number of the one that raises at its tenth."""

    def __init__(self, fails=None):
        self.fails = fails
        self.began = []
        self.at_work = self.most = 0
        self.lock = threading.Lock()

    def do(self, task, tick):
        with self.lock:
            self.began.append(task.number)
            self.at_work += 1
            self.most = max(self.most, self.at_work)
        try:
            for step in range(task.samples):
                time.sleep(0.001)
                if task.number == self.fails and step == 10:
                    raise ValueError(f"task {task.number}")
                tick(1, 10)
        finally:
            with self.lock:
                self.at_work -= 1
        return task.number, threading.current_thread()


def threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("dataplane-task")]


@pytest.mark.parametrize(("workers", "most"), [(1, 1), (2, 2), (30, 4)])
def test_all_are_done_by_as_many_threads(workers, most):
    context, heard = Steps(), []
    with do_tasks(
        context,
        [Work(i) for i in range(8)],
        lambda n, size: heard.append((n, size, threading.current_thread())),
        workers=workers,
        light=True,
    ) as results:
        done = list(results)
    assert sorted(number for number, _ in done) == list(range(8))
    assert context.most == len({thread for _, thread in done}) == most
    assert [sum(counts) for counts in zip(*((n, size) for n, size, _ in heard), strict=True)] == [800, 8000]
    assert {thread for _, _, thread in heard} == {threading.current_thread()}
    assert threads() == []


def test_what_one_raises_ends_the_others():
    context = Steps(fails=1)
    done = []
    with (
        pytest.raises(ValueError, match="task 1"),
        do_tasks(
            context, [Work(i, samples=60_000 if i == 0 else 100) for i in range(8)], lambda *_: None, workers=2, light=True
        ) as results,
    ):
        done.extend(results)
    assert (done, context.at_work, threads()) == ([], 0, [])
    assert len(context.began) <= 3  # a thread may have taken one more before it was told


def test_leaving_early_ends_them():
    context = Steps()
    with do_tasks(context, [Work(0), *(Work(i, samples=60_000) for i in range(1, 8))], lambda *_: None, workers=2, light=True) as results:
        assert next(results)[0] == 0
    assert len(context.began) <= 3
    assert (context.at_work, threads()) == (0, [])
