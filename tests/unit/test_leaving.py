"""Threads hear that nobody waits for them: at once where they pause, else between two steps."""

import gc
import threading
import time
import weakref

import pytest

from dataplane.errors import StoreUnavailable
from loaders.leaving import Leaving, Left, heed, listen, listens, pause
from loaders.patience import patiently
from loaders.pipeline import Pipeline, Work


def on_a_thread(leaving, work):
    """What `work` raised on a thread that listens, once it is started; and the thread."""
    raised = []

    def run():
        listen(leaving)
        try:
            work()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, raised


def test_everybody_who_pauses_hears_it_at_once():
    leaving = Leaving()
    pausing = [on_a_thread(leaving, lambda: pause(30)) for _ in range(5)]
    time.sleep(0.05)
    began = time.monotonic()
    leaving.tell()
    leaving.tell()
    for thread, raised in pausing:
        thread.join(5)
        assert [type(error) for error in raised] == [Left]
    assert time.monotonic() - began < 2


def test_a_pause_that_nobody_ends_takes_its_time():
    began = time.monotonic()
    thread, raised = on_a_thread(Leaving(), lambda: pause(0.1))
    thread.join(5)
    assert raised == []
    assert time.monotonic() - began >= 0.1


def test_the_callers_own_thread_hears_nothing():
    assert not listens()
    heed()
    pause(0.001)


def test_work_ends_between_two_steps():
    leaving = Leaving()
    leaving.tell()
    thread, raised = on_a_thread(leaving, heed)
    thread.join(5)
    assert isinstance(raised[0], Left)


def test_no_store_is_asked_once_nobody_waits():
    asked, leaving = [], Leaving()
    leaving.tell()
    thread, raised = on_a_thread(leaving, lambda: patiently(lambda: asked.append(1)))
    thread.join(5)
    assert asked == []
    assert isinstance(raised[0], Left)


def test_closing_ends_threads_that_wait_for_a_store_at_once():
    asked = threading.Event()

    def job():
        def call():
            asked.set()
            raise StoreUnavailable("503", retry_after=60)

        patiently(call)

    pipeline = Pipeline(iter([Work([], None), Work([job] * 3, None)]), threads=3, depth=2)
    next(pipeline)
    assert asked.wait(5)
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("dataplane-loader")]
    began = time.monotonic()
    pipeline.close()
    assert time.monotonic() - began < 0.4
    assert not any(thread.is_alive() for thread in threads)


def test_what_threads_had_in_hand_when_they_ended_is_let_go_of_at_once():
    """Memory of batches and open files, without waiting for the garbage collector."""

    class Hand:
        pass

    entered, held = threading.Event(), []

    def job():
        hand = Hand()
        held.append(weakref.ref(hand))
        entered.set()
        pause(30)

    gc.collect()
    gc.disable()
    try:
        pipeline = Pipeline(iter([Work([], None), Work([job], None)]), threads=1, depth=2)
        next(pipeline)
        assert entered.wait(5)
        (thread,) = pipeline._shared.threads
        pipeline.close()
        thread.join(5)
        del pipeline, thread
        assert held[0]() is None
    finally:
        gc.enable()


def test_closing_does_not_wait_for_a_call_that_hears_nothing():
    release, entered = threading.Event(), threading.Event()

    def job():
        entered.set()
        release.wait(30)
        heed()
        pytest.fail("nobody waits for this")

    pipeline = Pipeline(iter([Work([], None), Work([job], None)]), threads=1, depth=2)
    next(pipeline)
    assert entered.wait(5)
    (thread,) = pipeline._shared.threads
    began = time.monotonic()
    pipeline.close()
    assert 0.4 < time.monotonic() - began < 2
    release.set()
    thread.join(5)
    assert not thread.is_alive()
