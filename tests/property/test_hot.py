"""The hot tier against a model: reads give the right bytes whatever happened, and the directory keeps to its limit."""

import os
import shutil
import tempfile
from pathlib import Path

from blake3 import blake3
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dataplane.refs import Digest
from dataplane.store.local import LocalStore
from tests.hot import flip, hot_file, read, taken
from tiering import HotStore
from tiering.arrival import parts
from tiering.keys import is_key
from tiering.layout import charge
from tiering.policy import Entry, eviction_order

KIB = 1024
LIMITS = st.sampled_from([512 * KIB, 700 * KIB, 1024 * KIB])
ENTRIES = st.lists(st.builds(Entry, st.text(max_size=3), st.integers(0, 9), st.integers(0, 5)), unique_by=lambda entry: entry.key)


@given(ENTRIES, st.randoms())
def test_the_eviction_order_depends_on_the_entries_only(entries, source):
    shuffled = list(entries)
    source.shuffle(shuffled)
    order = eviction_order(shuffled)
    assert order == eviction_order(entries)
    assert sorted(order, key=lambda entry: entry.key) == sorted(entries, key=lambda entry: entry.key)
    assert [entry.used for entry in order] == sorted(entry.used for entry in entries)


@given(st.integers(0, 10_000), st.integers(1, 999))
def test_parts_are_the_object(size, part_bytes):
    spans = parts(size, part_bytes)
    assert [i for span in spans for i in range(span.start, span.end)] == list(range(size))
    assert all(0 < len(span) <= part_bytes for span in spans)
    assert all(len(span) == part_bytes for span in spans[:-1])


@given(st.integers(0, 1 << 50))
def test_a_charge_covers_the_blocks_of_a_file(size):
    assert charge(size) % 4096 == 0
    assert size + 4096 <= charge(size) < size + 2 * 4096


class Machine(RuleBasedStateMachine):
    """`objects` is the model: what cold holds. Two stores share a directory, as two processes would."""

    @initialize(limit=LIMITS)
    def begin(self, limit):
        self.root = Path(tempfile.mkdtemp())
        self.folder = self.root / "hot"
        self.cold = LocalStore(self.root / "cold")
        self.limit = limit
        self.stores = [HotStore(self.cold, self.folder, limit) for _ in range(2)]
        self.objects = []

    def teardown(self):
        if hasattr(self, "root"):
            for store in self.stores:
                store.close()
            shutil.rmtree(self.root)

    @rule(size=st.sampled_from([1, 4095, 4096, 50_000, 100_000, 250_000, 600_000]), salt=st.integers(0, 10**9))
    def add(self, size, salt):
        data = (b"%d" % salt * size)[:size]
        ref = Digest(blake3(data).hexdigest(), ".tar", size)
        self.cold.put(ref.path, data)
        if (ref, data) not in self.objects:
            self.objects.append((ref, data))

    @precondition(lambda self: self.objects)
    @rule(which=st.data(), n=st.integers(0, 1))
    def read_a_range(self, which, n):
        ref, data = which.draw(st.sampled_from(self.objects))
        start = which.draw(st.integers(0, ref.size))
        end = which.draw(st.integers(start, ref.size))
        assert read(self.stores[n], ref, start, end) == data[start:end]

    @precondition(lambda self: self.objects)
    @rule(which=st.data(), n=st.integers(0, 1))
    def get(self, which, n):
        ref, data = which.draw(st.sampled_from(self.objects))
        assert bytes(self.stores[n].get(ref.path).buffer()) == data

    @precondition(lambda self: self.objects)
    @rule(which=st.data(), n=st.integers(0, 1), right=st.booleans())
    def offer(self, which, n, right):
        ref, data = which.draw(st.sampled_from(self.objects))
        file = self.root / "staged"
        file.write_bytes(data if right else bytes(len(data)) + b"x")
        before = set(os.listdir(self.folder / "objects"))
        self.stores[n].offer(ref, file)
        assert before <= set(os.listdir(self.folder / "objects"))

    @precondition(lambda self: self.objects)
    @rule(which=st.data(), n=st.integers(0, 1))
    def hold(self, which, n):
        ref, data = which.draw(st.sampled_from(self.objects))
        path = self.stores[n].local_path(ref)
        if path is not None:
            assert path.read_bytes() == data

    @precondition(lambda self: self.objects)
    @rule(which=st.data(), n=st.integers(0, 1))
    def damage_and_reject(self, which, n):
        ref, data = which.draw(st.sampled_from(self.objects))
        file = hot_file(self.folder, ref)
        if file.exists():
            flip(file, which.draw(st.integers(0, ref.size - 1)))
            for store in self.stores:
                store.reject(ref)
            assert all(read(store, ref) == data for store in self.stores)
            if file.exists() and file.read_bytes() != data:  # held; it goes when nobody holds it
                self.reopen(0, self.limit)
                self.reopen(1, self.limit)
                self.stores[0].reject(ref)

    @precondition(lambda self: self.objects)
    @rule(which=st.data(), n=st.integers(0, 1))
    def delete(self, which, n):
        ref, data = which.draw(st.sampled_from(self.objects))
        self.stores[n].delete(ref.path)
        self.objects.remove((ref, data))

    @precondition(lambda self: self.objects)
    @rule(which=st.data())
    def die_while_fetching(self, which):
        ref, data = which.draw(st.sampled_from(self.objects))
        directory = self.stores[0]._live()._directory
        key = ref.hex + ref.suffix
        if not directory.has(key, ref.size):
            fd = directory.claim(key, wait=False)
            if directory.reserve(key, fd, ref.size, evict=True):
                os.pwrite(fd, data[: ref.size // 2], 0)
            os.close(fd)

    @rule(n=st.integers(0, 1), limit=LIMITS)
    def reopen(self, n, limit):
        self.stores[n].close()
        self.limit = limit
        self.stores[n] = HotStore(self.cold, self.folder, limit)
        other = self.stores[1 - n]
        if other.stats().bytes > limit - 400 * KIB:  # what the other one holds could not go
            other.close()
            self.stores[1 - n] = HotStore(self.cold, self.folder, limit)

    @invariant()
    def within_the_limit(self):
        if hasattr(self, "root"):
            assert taken(self.folder) <= self.limit

    @invariant()
    def the_index_says_what_is_there(self):
        if hasattr(self, "root"):
            sizes = [os.stat(self.folder / "objects" / name).st_size for name in os.listdir(self.folder / "objects") if is_key(name)]
            stats = self.stores[0].stats()
            assert stats.objects == len(sizes)
            assert stats.bytes >= sum(sizes)


Machine.TestCase.settings = settings(
    max_examples=12, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)
TestMachine = Machine.TestCase
