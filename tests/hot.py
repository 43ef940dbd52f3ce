"""What the tests of the hot tier share: objects, cold stores that tell what was asked of them, and the measure of a directory."""

import contextlib
import os
import random
import sys
import threading
from pathlib import Path

from blake3 import blake3

from dataplane.refs import Digest
from dataplane.store import WrapperStore
from tiering import HotStore
from tiering.directory import Directory
from tiering.stats import Counters

MiB = 1 << 20


def put_objects(cold, sizes, *, seed=0, suffix=".tar"):
    """Random objects in `cold`: [(ref, bytes)]."""
    source = random.Random(seed)
    made = []
    for size in sizes:
        data = source.randbytes(size)
        ref = Digest(blake3(data).hexdigest(), suffix, size)
        cold.put(ref.path, data)
        made.append((ref, data))
    return made


def read(store, ref, start=0, end=None):
    """Bytes [start, end) through `read_into`."""
    buffer = bytearray((ref.size if end is None else end) - start)
    store.read_into(ref, start=start, buffer=buffer)
    return bytes(buffer)


def hot_file(directory, ref):
    return Path(directory, "objects", ref.hex + ref.suffix)


def time_passes(store):
    """What was refused for a while may be tried again."""
    refusals = store._live()._refusals
    refusals._paused_until = 0.0
    refusals._no_room.clear()
    refusals._corrupt.clear()


def totals(directory):
    """What all processes recorded there."""
    found = Directory(Path(directory), limit_bytes=None, counters=Counters(), last_read=dict)
    try:
        return found.stats()
    finally:
        found.close()


def flip(path, at=0):
    """Change one byte of a file in place."""
    with open(path, "r+b") as stream:
        stream.seek(at)
        byte = stream.read(1)
        stream.seek(at)
        stream.write(bytes([byte[0] ^ 1]))


def taken(directory):
    """The bytes that a directory's files take: what they say they hold, or what they occupy, whichever is more."""
    total = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                stat = os.stat(os.path.join(folder, name))
                total += max(stat.st_size, stat.st_blocks * 512)
    return total


class Counting(WrapperStore):
    """Writes one line to a file, shared by processes, for every range it is asked for."""

    def __init__(self, inner, log):
        super().__init__(inner)
        self.log = str(log)

    def get_range(self, path, *, start, end=None, length=None):
        with open(self.log, "a") as stream:
            stream.write(f"{path} {start}\n")
        return self.inner.get_range(path, start=start, end=end, length=length)

    def asked(self):
        """[(path, start)] so far."""
        if not os.path.exists(self.log):
            return []
        with open(self.log) as stream:
            return [(path, int(start)) for path, start in (line.split() for line in stream)]


class Stuck(WrapperStore):
    """Serves the first range of an object, says so on standard output, and never comes back from the next one."""

    def get_range(self, path, *, start, end=None, length=None):
        if start:
            os.write(1, b"stuck\n")
            sys.stdin.read()
        return self.inner.get_range(path, start=start, end=end, length=length)


class Wrong(WrapperStore):
    """Returns wrong bytes for so many ranges, then the right ones."""

    def __init__(self, inner, times):
        super().__init__(inner)
        self.times = times
        self.asked = 0

    def get_range(self, path, *, start, end=None, length=None):
        self.asked += 1
        data = bytearray(self.inner.get_range(path, start=start, end=end, length=length))
        if self.asked <= self.times:
            data[0] ^= 1
        return bytes(data)


def read_everything(cold, folder, limit_bytes, refs, *, threads, rounds, seed):
    """What a loading process does: threads read all of `refs` whole, each in an order of its own, and check what they get."""
    bad = []

    def job(n):
        source = random.Random(seed * 1000 + n)
        for _ in range(rounds):
            for ref in source.sample(refs, len(refs)):
                bad.extend([ref] if blake3(read(store, ref)).hexdigest() != ref.hex else [])

    with HotStore(cold, folder, limit_bytes) as store:
        workers = [threading.Thread(target=job, args=(n,)) for n in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    if bad:
        raise AssertionError(f"wrong bytes of {bad}")


def read_for_ever(cold, folder, limit_bytes, refs):
    """Reads until it is killed. Says when it begins."""
    with HotStore(cold, folder, limit_bytes) as store:
        print("reading", flush=True)
        while True:
            for ref in refs:
                read(store, ref, 0, 10)
