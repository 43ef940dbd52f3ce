"""The conformance kit of formats: subclass `FormatTests`, say what a sample looks like, and every verb is held to its contract."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from blake3 import blake3

from dataplane.errors import CorruptObject, DataplaneError, InvalidArgument, NotFound
from dataplane.formats.index import read_index
from dataplane.formats.protocol import ShardReader, ShardWriter
from dataplane.objects import Objects
from dataplane.refs import Digest
from dataplane.store import Store, open_store
from dataplane.testing.recording import RecordingStore

__all__ = ["FormatTests", "Shard"]

Sample = tuple[str, Mapping[str, Any]]

_KEYS = (
    "plain",
    "folder/with.dots/name.x",
    ".hidden",
    "with space ",
    "ünïcode/字",
    "new\nline\ttab",
    "__leading",
    "per%2Ecent%",
    "../up/./x/..",
    "quote'\"back\\slash",
    "x" * 3000,
)
_MANY = 1000
_THREADS = 8


@dataclass(frozen=True, slots=True)
class Shard:
    """A shard in a store: what a reader needs to open it, and what it holds."""

    ref: Digest
    index: bytes
    samples: Sequence[Sample]


class FormatTests:
    """A subclass sets `format`, the module (or an object) with `SUFFIX`, `Writer` and `open`, and overrides `fields`.

    `optional`: a sample may lack a field. `checks_every_byte`: `verify` finds whatever byte of the shard is changed, even one that no read
    would look at. `share`: how much of a shard of 1000 samples reading one of them may read, at most. `damaged_places`: how many bytes are
    flipped, one at a time. The fixture `store`, where shards are put, is local, in memory and wrapped in turn; override it to try others.
    """

    format: Any
    optional = True
    checks_every_byte = False
    share = 0.1
    damaged_places = 150

    def fields(self, number: int) -> Mapping[str, Any]:
        """Sample `number`: at least two fields, the same whenever asked for; different for different numbers."""
        raise NotImplementedError("override `fields`")

    def empty(self) -> Mapping[str, Any] | None:
        """A sample whose values have no length; None where the format has no such values."""
        return None

    def writer(self, path: Path) -> ShardWriter:
        """A writer at `path`, with options that suit small samples."""
        made: ShardWriter = self.format.Writer(path)
        return made

    def same(self, found: Any, expected: Any) -> bool:
        """Whether a value that was read is the one that was written."""
        if isinstance(expected, np.ndarray):
            return isinstance(found, np.ndarray) and found.dtype == expected.dtype and np.array_equal(found, expected)
        return type(found) is type(expected) and bool(found == expected)

    @pytest.fixture(params=["local", "memory", "wrapped"])
    def store(self, request: pytest.FixtureRequest, tmp_path: Path) -> Store:
        """Where the shards under test are put."""
        if request.param == "memory":
            return open_store(f"memory://{tmp_path.name}")
        local = open_store(str(tmp_path / "store"))
        return local if request.param == "local" else RecordingStore(local)

    @pytest.fixture
    def shard(self, store: Store, tmp_path: Path) -> Shard:
        """Twelve samples."""
        return self.make(store, tmp_path, self.samples(12))

    # ------------------------------------------------------------------ what tests are made of

    def samples(self, count: int) -> list[Sample]:
        """Samples under plain keys."""
        return [(f"sample {number:04d}", self.fields(number)) for number in range(count)]

    def make(self, store: Store, folder: Path, samples: Sequence[Sample]) -> Shard:
        """Write a shard and put it into the store."""
        path = folder / f"shard{self.format.SUFFIX}"
        with self.writer(path) as writer:
            for key, fields in samples:
                writer.add(key, fields)
            ref, index = writer.finish()
        Objects(store).put_file(path, suffix=self.format.SUFFIX, ref=ref)
        return Shard(ref, index, samples)

    def open(self, store: Store, shard: Shard) -> ShardReader:
        """A reader that knows nothing but bytes."""
        reader: ShardReader = self.format.open(Objects(store), shard.ref, read_index(shard.index, where="the index"))
        return reader

    def check(self, found: Sequence[Mapping[str, Any]], expected: Sequence[Mapping[str, Any]]) -> None:
        """Assert that samples are the ones expected: the same fields, with the same values."""
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert sorted(one) == sorted(other)
            for name, value in other.items():
                assert self.same(one[name], value), f"field {name!r}: {one[name]!r} was read, {value!r} was written"

    # ------------------------------------------------------------------ round trips

    def test_samples_come_back(self, store: Store, shard: Shard) -> None:
        reader = self.open(store, shard)
        expected = [fields for _, fields in shard.samples]
        assert len(reader) == len(expected)
        assert reader.keys() == [key for key, _ in shard.samples]
        assert list(reader.fields) == sorted({name for fields in expected for name in fields})
        self.check([reader.read(row) for row in range(len(expected))], expected)
        self.check(reader.read_many(range(len(expected))), expected)
        reader.verify()

    def test_one_sample(self, store: Store, tmp_path: Path) -> None:
        shard = self.make(store, tmp_path, self.samples(1))
        self.check(self.open(store, shard).read_many([0]), [self.fields(0)])

    def test_no_sample(self, store: Store, tmp_path: Path) -> None:
        reader = self.open(store, self.make(store, tmp_path, []))
        assert len(reader) == 0
        assert reader.keys() == []
        assert reader.read_many([]) == []
        reader.verify()

    def test_many_samples_in_any_order(self, store: Store, tmp_path: Path) -> None:
        reader = self.open(store, self.make(store, tmp_path, self.samples(_MANY)))
        rows = [int(row) for row in np.random.default_rng(1).permutation(_MANY)]
        self.check(reader.read_many(rows), [self.fields(row) for row in rows])

    def test_read_many_in_the_order_asked_for(self, store: Store, shard: Shard) -> None:
        reader = self.open(store, shard)
        rows = [5, 0, 11, 5, 3, 4, 0]
        self.check(reader.read_many(rows), [self.fields(row) for row in rows])
        self.check(reader.read_many(np.array(rows)), [self.fields(row) for row in rows])  # type: ignore[arg-type]
        assert reader.read_many([]) == []

    def test_only_the_fields_asked_for(self, store: Store, shard: Shard) -> None:
        reader = self.open(store, shard)
        for name in reader.fields:
            expected = [{name: fields[name]} if name in fields else {} for _, fields in shard.samples]
            self.check(reader.read_many(range(12), [name]), expected)
        self.check([reader.read(3, list(reversed(reader.fields)))], [self.fields(3)])
        assert reader.read_many([1, 2], []) == [{}, {}]

    def test_an_unknown_field_is_not_found(self, store: Store, shard: Shard) -> None:
        reader = self.open(store, shard)
        with pytest.raises(NotFound) as caught:
            reader.read(0, ["nonsense"])
        for name in ("nonsense", *reader.fields):
            assert name in str(caught.value)

    def test_a_field_that_a_sample_lacks(self, store: Store, tmp_path: Path) -> None:
        if not self.optional:
            pytest.skip("every sample has every field")
        samples = [(key, dict(fields)) for key, fields in self.samples(9)]
        names = sorted(samples[0][1])
        for row, (_, fields) in enumerate(samples):
            if row % 3 < len(names) - 1:
                del fields[names[row % 3]]
        reader = self.open(store, self.make(store, tmp_path, samples))
        self.check(reader.read_many(range(9)), [fields for _, fields in samples])
        self.check([reader.read(0)], [samples[0][1]])

    def test_keys_of_every_kind(self, store: Store, tmp_path: Path) -> None:
        samples = [(key, self.fields(number)) for number, key in enumerate(_KEYS)]
        reader = self.open(store, self.make(store, tmp_path, samples))
        assert reader.keys() == list(_KEYS)
        self.check(reader.read_many(range(len(_KEYS))), [fields for _, fields in samples])

    def test_values_without_length(self, store: Store, tmp_path: Path) -> None:
        empty = self.empty()
        if empty is None:
            pytest.skip("the format has no such values")
        samples = [("a", self.fields(0)), ("b", empty), ("c", self.fields(1)), ("d", empty)]
        reader = self.open(store, self.make(store, tmp_path, samples))
        self.check(reader.read_many([3, 2, 1, 0]), [fields for _, fields in reversed(samples)])

    # ------------------------------------------------------------------ writing

    def test_equal_samples_give_equal_bytes(self, tmp_path: Path) -> None:
        made = []
        for name in ("a", "b"):
            with self.writer(tmp_path / name) as writer:
                for key, fields in self.samples(40):
                    writer.add(key, fields if name == "a" else dict(reversed(list(fields.items()))))
                made.append(writer.finish())
        assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
        assert made[0] == made[1]

    def test_the_digest_is_that_of_the_file(self, tmp_path: Path) -> None:
        path = tmp_path / "shard"
        with self.writer(path) as writer:
            for key, fields in self.samples(12):
                before = writer.size
                writer.add(key, fields)
                assert writer.size > before
            ref, _ = writer.finish()
        data = path.read_bytes()
        assert ref == Digest(blake3(data).hexdigest(), self.format.SUFFIX, len(data))

    @pytest.mark.parametrize("key", ["", "a\udcff"])
    def test_what_cannot_be_a_key(self, tmp_path: Path, key: str) -> None:
        with self.writer(tmp_path / "shard") as writer, pytest.raises(InvalidArgument):
            writer.add(key, self.fields(0))

    def test_a_key_names_one_sample(self, tmp_path: Path) -> None:
        with self.writer(tmp_path / "shard") as writer:
            writer.add("a", self.fields(0))
            with pytest.raises(InvalidArgument, match="'a'"):
                writer.add("a", self.fields(1))

    def test_a_writer_may_be_left_early(self, tmp_path: Path) -> None:
        def leave() -> None:
            with self.writer(tmp_path / "shard") as writer:
                writer.add("a", self.fields(0))
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            leave()

    # ------------------------------------------------------------------ how it reads

    def test_one_sample_of_many_is_a_small_part(self, store: Store, tmp_path: Path) -> None:
        shard = self.make(store, tmp_path, self.samples(_MANY))
        counted = RecordingStore(store)
        for row in (0, _MANY // 2, _MANY - 1):
            counted.clear()
            reader = self.open(counted, shard)
            self.check([reader.read(row)], [self.fields(row)])
            assert 0 < counted.bytes_read <= self.share * shard.ref.size, f"{counted.bytes_read} of {shard.ref.size} bytes were read"

    def test_neighbours_share_requests(self, store: Store, tmp_path: Path) -> None:
        shard = self.make(store, tmp_path, self.samples(_MANY))
        counted = RecordingStore(store)
        reader = self.open(counted, shard)
        counted.clear()
        reader.read_many(range(100, 200))
        assert 1 <= len(counted.calls) <= 10

    def test_a_reader_needs_only_the_index(self, store: Store, shard: Shard) -> None:
        ref, index = pickle.loads(pickle.dumps((shard.ref, shard.index)))
        reader = self.open(store, Shard(ref, index, shard.samples))
        self.check(reader.read_many([11, 2]), [self.fields(11), self.fields(2)])

    def test_eight_threads(self, store: Store, tmp_path: Path) -> None:
        count = 200
        reader = self.open(store, self.make(store, tmp_path, self.samples(count)))

        def read(seed: int) -> None:
            rows = [int(row) for row in np.random.default_rng(seed).integers(0, count, 100)]
            self.check(reader.read_many(rows[:50]), [self.fields(row) for row in rows[:50]])
            self.check([reader.read(row) for row in rows[50:]], [self.fields(row) for row in rows[50:]])

        with ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(read, range(_THREADS)))

    # ------------------------------------------------------------------ damage

    def test_a_missing_shard_is_not_found(self, store: Store, shard: Shard) -> None:
        store.delete(shard.ref.path)
        reader = self.open(store, shard)
        for read in (lambda: reader.read(0), reader.verify):
            with pytest.raises(NotFound):
                read()

    def test_a_flipped_byte_is_found(self, store: Store, shard: Shard) -> None:
        data = bytes(memoryview(store.get(shard.ref.path).buffer()))
        found = 0
        for place in _places(len(data), self.damaged_places):
            wrong = bytearray(data)
            wrong[place] ^= 1 << place % 8
            found += self._is_found(store, shard, bytes(wrong), f"byte {place} of {len(data)} flipped")
        assert found, "no flipped byte was found"

    def test_a_cut_is_found(self, store: Store, shard: Shard) -> None:
        data = bytes(memoryview(store.get(shard.ref.path).buffer()))
        found = [self._is_found(store, shard, data[:length], f"cut to {length} of {len(data)} bytes") for length in _places(len(data), 20)]
        assert found[0], "an empty object was not found"
        assert sum(found) >= len(found) // 2

    def _is_found(self, store: Store, shard: Shard, data: bytes, damage: str) -> bool:
        """Whether `verify` finds that the shard holds other bytes. Every read has to give what was written or raise `CorruptObject`."""
        store.put(shard.ref.path, data)
        reader = self.open(store, shard)
        read = 0
        for row, (_, fields) in enumerate(shard.samples):
            try:
                found = reader.read(row)
            except CorruptObject as error:
                assert shard.ref.path in str(error), f"{damage}: the message does not name the shard: {error}"  # noqa: PT017
            except DataplaneError:
                raise
            except Exception as error:  # whatever a library raises
                raise AssertionError(f"{damage}: {type(error).__name__} instead of CorruptObject: {error}") from error
            else:
                self.check([found], [fields])
                read += 1
        try:
            reader.verify()
        except CorruptObject:
            return True
        assert read == len(shard.samples), f"{damage}: reads fail, and verify does not say so"
        assert not self.checks_every_byte, f"{damage}: verify does not find it"
        return False


def _places(size: int, count: int) -> list[int]:
    """Places all over an object: its first and last bytes, and some between."""
    if size <= count:
        return list(range(size))
    ends = count // 4
    between = np.linspace(ends, size - ends, count - 2 * ends, endpoint=False).astype(int).tolist()
    return [*range(ends), *between, *range(size - ends, size)]
