import gc
import subprocess
import sys
import threading
import time

import pytest

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
