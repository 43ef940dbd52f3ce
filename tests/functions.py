"""Functions for tests of `Map`: they are of a module, so that they travel to worker processes."""

import multiprocessing
import os
import signal
import sys
import time
import types
from pathlib import Path

import numpy as np


def number(data):
    """The decimal number in a field's bytes, and the process that read it."""
    return np.array([int(bytes(data)), os.getpid()], np.int64)


def sizes(data):
    return np.array(data.size, np.int32)


def inverted(image):
    return 255 - image


def halved(image):
    return image[::2, ::2]


def noisy(image, rng):
    return rng.integers(0, 256, image.shape, np.uint8) ^ image


def drawn(data, rng):
    return rng.random(3)


def odd_fails(data):
    if int(bytes(data)) % 2:
        raise ValueError(f"{int(bytes(data))} is odd")
    return np.array(int(bytes(data)))


class Stubborn(Exception):
    """It can be taken apart and not put together."""

    def __init__(self, one, two):
        super().__init__(one)
        self.two = two


def stubborn(data):
    raise Stubborn("first", "second")


def wrong_shape(data):
    return np.zeros(3)


def writes(data):
    data[0] = 0


def dies(data):
    os.kill(os.getpid(), signal.SIGKILL)


def dies_once(marker, data):
    """Dies if nobody has died before."""
    if not Path(marker).exists():
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return np.array(int(bytes(data)))


class Late:
    """A function that takes long to load in a worker process."""

    def __init__(self, seconds):
        self.seconds = seconds

    def __setstate__(self, state):
        if multiprocessing.parent_process() is not None:
            time.sleep(state["seconds"])
        self.__dict__.update(state)

    def __call__(self, data):
        return np.array(data.size)


def fails_strangely(data):
    """Raises an error of a module that no other process has."""
    module = sys.modules["only_there"] = types.ModuleType("only_there")
    exec("class Strange(Exception): pass", module.__dict__)
    raise module.Strange("who knows")


def loaded(names, data):
    """How many of these modules this process has."""
    return np.array(len(set(names) & set(sys.modules)))


def kills_its_parent(mark, data):
    """And does not end by itself."""
    Path(mark).write_text(str(os.getpid()))
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(600)


def slow(seconds, data):
    time.sleep(seconds)
    return np.array(int(bytes(data)))


def holds(seconds, data):
    """Holds the interpreter for so much of its time."""
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass
    return np.array(int(bytes(data)))


def ignored_interrupt(data):
    return np.array(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)
