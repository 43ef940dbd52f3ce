import gc
import os
import signal
import subprocess
import sys
import threading
import time
import weakref

import pytest

from dataplane.errors import InvalidArgument
from dataplane.stages import Clock, Stage, enter
from loaders.pipeline import Pipeline, Work


def works(count, jobs=3, *, log=None, fail_at=None):
    for n in range(count):
        result = []

        def job(n=n, result=result):
            if n == fail_at:
                raise ValueError(f"work {n}")
            if log is not None:
                log.append(threading.current_thread().name)
            result.append(n)

        yield Work([job] * jobs, result)


def loader_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("dataplane-loader")]


@pytest.mark.parametrize("threads", [0, 1, 4])
def test_results_come_in_order_and_complete(threads):
    pipeline = Pipeline(works(50), threads=threads, depth=3)
    assert list(pipeline) == [[n] * 3 for n in range(50)]
    assert loader_threads() == []


def test_no_threads_means_the_callers():
    log = []
    assert len(list(Pipeline(works(3, log=log), threads=0, depth=2))) == 3
    assert set(log) == {threading.current_thread().name}


def test_at_most_depth_works_are_under_way():
    started = []

    def counted():
        for work in works(10):
            started.append(work)
            yield work

    pipeline = Pipeline(counted(), threads=2, depth=3)
    assert started == []
    next(pipeline)
    assert len(started) == 3
    pipeline.close()


@pytest.mark.parametrize("threads", [0, 2])
def test_an_error_comes_in_its_turn_and_ends_everything(threads):
    pipeline = Pipeline(works(10, fail_at=4), threads=threads, depth=3)
    assert [next(pipeline)[0] for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="work 4"):
        next(pipeline)
    assert loader_threads() == []


def test_works_without_jobs_are_delivered():
    assert list(Pipeline(iter([Work([], "empty"), Work([], "too")]), threads=2, depth=1)) == ["empty", "too"]


def test_a_forgotten_pipeline_leaves_no_thread():
    pipeline = Pipeline(works(1000), threads=3, depth=4)
    next(pipeline)
    assert len(loader_threads()) == 3
    del pipeline
    gc.collect()
    assert loader_threads() == []


def test_close_waits_for_running_jobs_and_is_idempotent():
    running, ended = threading.Event(), []

    def job():
        running.set()
        time.sleep(0.05)
        ended.append(True)

    pipeline = Pipeline(iter([Work([], None), Work([job], None)]), threads=1, depth=2)
    next(pipeline)
    assert running.wait(5)
    pipeline.close()
    assert ended == [True]
    pipeline.close()


@pytest.mark.parametrize("threads", [0, 2])
def test_after_its_end_a_pipeline_gives_nothing(threads):
    closed, failed = (Pipeline(works(10, fail_at=3), threads=threads, depth=2) for _ in range(2))
    next(closed)
    closed.close()
    assert list(closed) == []
    with pytest.raises(ValueError, match="work 3"):
        list(failed)
    assert list(failed) == []


def test_a_waiting_consumer_ends_when_somebody_else_closes():
    def job():
        pipeline.close()

    pipeline = Pipeline(iter([Work([job], None)]), threads=1, depth=1)
    assert list(pipeline) == []


def test_one_that_somebody_closes_while_it_plans_ends_quietly():
    def closing():
        for work in works(3):
            yield work
            closer = threading.Thread(target=pipeline.close)
            closer.start()
            closer.join()

    pipeline = Pipeline(closing(), threads=1, depth=2)
    assert list(pipeline) == []
    assert not pipeline.ready()


def test_a_result_that_is_there_costs_no_look_at_what_threads_do():
    looks = []

    class Watched(Clock):
        def totals(self):
            looks.append(self.name)
            return super().totals()

    pipeline = Pipeline(works(3), threads=1, depth=3, clock=Watched)
    next(pipeline)
    while not all(work._left == 0 for work in pipeline._ahead):
        time.sleep(0.001)
    time.sleep(0.01)  # it is told behind that
    looks.clear()
    assert list(pipeline) == [[1] * 3, [2] * 3]
    assert looks == []


def test_an_error_holds_its_batch_no_longer_than_it_lives():
    class Result:
        pass

    def work():
        result = Result()
        kept.append(weakref.ref(result))
        return Work([lambda result=result: 1 // 0], result)

    kept = []
    gc.disable()
    try:
        pipeline = Pipeline(iter([work()]), threads=1, depth=1)
        with pytest.raises(ZeroDivisionError) as caught:
            next(pipeline)
        del caught
        assert kept[0]() is None
    finally:
        gc.enable()


def test_threads_that_started_end_when_one_cannot(monkeypatch):
    start = threading.Thread.start

    def scarce(thread):
        if thread.name == "dataplane-loader-2":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", scarce)
    with pytest.raises(RuntimeError, match="can't start") as caught:
        Pipeline(works(10), threads=4, depth=1)
    del caught
    gc.collect()
    assert loader_threads() == []


def test_a_pipeline_may_be_collected_anywhere_on_its_own_threads():
    """The collector runs wherever something is allocated: also where a thread waits for its next job."""

    class Holder:
        pass

    def endless():
        while True:
            yield Work([lambda: None] * 100, None)

    thresholds = gc.get_threshold()
    gc.collect()
    gc.freeze()
    try:
        for _ in range(20):
            gc.disable()
            holder = Holder()
            holder.itself, holder.pipeline = holder, Pipeline(endless(), threads=2, depth=2)
            next(holder.pipeline)
            threads = loader_threads()
            gc.set_threshold(1, 1, 1)
            del holder
            gc.enable()  # the second work is under way, and its threads collect
            for _ in range(100):
                [[] for _ in range(10)]
            gc.set_threshold(*thresholds)
            gc.collect()
            for thread in threads:
                thread.join(5)
                assert not thread.is_alive()
    finally:
        gc.set_threshold(*thresholds)
        gc.enable()
        gc.unfreeze()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # it is what this is about
def test_a_forked_child_is_told_that_it_has_no_threads():
    pipeline = Pipeline(works(10), threads=2, depth=2)
    next(pipeline)
    child = os.fork()
    if not child:
        signal.alarm(10)  # should it hang
        try:
            next(pipeline)
        except InvalidArgument as error:
            os._exit(7 if "spawn" in str(error) else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert len(list(pipeline)) == 9


@pytest.mark.parametrize("ending", ["", "raise SystemExit(0)", "import os, signal; os.kill(os.getpid(), signal.SIGINT)"])
def test_the_interpreter_exits_with_a_pipeline_in_use(ending):
    program = f"""
import time
from loaders.pipeline import Pipeline, Work
def works():
    while True:
        yield Work([lambda: time.sleep(0.01)] * 4, 1)
pipeline = Pipeline(works(), threads=2, depth=2)
next(pipeline)
{ending}
"""
    done = subprocess.run([sys.executable, "-c", program], timeout=20, capture_output=True, text=True, check=False)
    assert done.returncode == (-2 if "SIGINT" in ending else 0), done.stderr
    assert "Fatal" not in done.stderr


def test_a_pipeline_can_grow_and_shrink():
    gate, running = threading.Event(), []

    def job():
        running.append(threading.current_thread())
        gate.wait(10)

    pipeline = Pipeline(iter([Work([], 0), Work([job] * 5, 1), *works(40)]), threads=1, depth=2)
    assert next(pipeline) == 0
    pipeline.resize(threads=5, depth=6)
    assert pipeline.threads == 5
    while len(running) < 5:
        time.sleep(0.001)
    assert len(set(running)) == len(loader_threads()) == 5
    gate.set()
    assert next(pipeline) == 1
    assert len(pipeline._ahead) == 5
    pipeline.resize(threads=2, depth=1)
    assert list(pipeline) == [[n] * 3 for n in range(40)]
    assert len(set(running)) == 5
    assert loader_threads() == []


def test_threads_that_are_too_many_end_behind_what_is_queued():
    pipeline = Pipeline(works(1000), threads=4, depth=3)
    next(pipeline)
    threads = loader_threads()
    pipeline.resize(threads=1, depth=3)
    next(pipeline)
    until = time.monotonic() + 5
    while sum(thread.is_alive() for thread in threads) > 1 and time.monotonic() < until:
        time.sleep(0.001)
    assert len(loader_threads()) == 1
    pipeline.resize(threads=3, depth=3)
    assert len(loader_threads()) == 3
    assert len(list(pipeline)) == 998
    assert loader_threads() == []


def test_a_pipeline_that_shrank_and_is_forgotten_leaves_no_thread():
    pipeline = Pipeline(works(1000), threads=4, depth=4)
    next(pipeline)
    pipeline.resize(threads=2, depth=2)
    pipeline.resize(threads=6, depth=2)
    del pipeline
    gc.collect()
    assert loader_threads() == []


@pytest.mark.parametrize(("has", "wants"), [(0, 2), (2, 0)])
def test_whose_threads_they_are_does_not_change(has, wants):
    pipeline = Pipeline(works(10), threads=has, depth=2)
    with pytest.raises(InvalidArgument, match="cannot go on with"):
        pipeline.resize(threads=wants, depth=2)
    pipeline.close()


def test_where_no_more_threads_can_be_started_it_goes_on_with_fewer(monkeypatch):
    pipeline = Pipeline(works(20), threads=2, depth=2)

    def scarce(thread):
        raise RuntimeError("can't start new thread")

    clocks = []
    pipeline._clock = lambda name: clocks.append(Clock(name)) or clocks[-1]
    monkeypatch.setattr(threading.Thread, "start", scarce)
    pipeline.resize(threads=8, depth=4)
    monkeypatch.undo()
    assert pipeline.threads == 2
    assert [clock.ended for clock in clocks] == [True]  # nobody takes a thread that never was for an idle one
    assert len(list(pipeline)) == 20


@pytest.mark.parametrize("threads", [0, 2])
def test_how_a_result_came_is_told(threads):
    clocks = []

    def clock(name):
        clocks.append(Clock(name))
        return clocks[-1]

    def job():
        enter(Stage.DECODE)
        time.sleep(0.02)

    pipeline = Pipeline(iter([Work([job], 1)]), threads=threads, depth=1, clock=clock)
    next(pipeline)
    asked, planned, got, spent = pipeline.handed
    assert asked <= planned <= got
    assert got - asked >= 0.02
    assert 0.015 <= spent[Stage.DECODE] <= sum(spent) <= got - planned
    assert len(clocks) == max(1, threads)
    pipeline.close()
    assert all(clock.ended for clock in clocks)
    assert enter(Stage.IDLE) == Stage.IDLE  # this thread has no clock any more
