"""Every format is held to the kit, and the kit is held to formats that are wrong on purpose."""

import random
import types

import numpy as np
import pytest

from dataplane.errors import CorruptObject
from dataplane.formats import parquet, tar, zarr
from dataplane.store import open_store
from dataplane.store.local import LocalStore
from dataplane.testing import FormatTests
from tiering import Hot


def text(number):
    return f"This is the text of sample {number}. " * (1 + number % 3)


class TarTests(FormatTests):
    format = tar

    def fields(self, number):
        return {"cls": b"%d" % number, "jpg": random.Random(number).randbytes(300 + number % 7), "txt": text(number).encode()}

    def empty(self):
        return {"cls": b"", "jpg": b"", "txt": b""}


class ParquetTests(FormatTests):
    format = parquet
    checks_every_byte = True

    def writer(self, path):
        return parquet.Writer(path, row_group_bytes=20_000)

    def fields(self, number):
        rng = np.random.default_rng(number)
        return {
            "caption": text(number),
            "label": number % 10,
            "raw": rng.bytes(50),
            "score": number / 7,
            "tokens": rng.integers(0, 5000, 3 + number % 5).astype(np.int32),
            "vector": rng.standard_normal(32).astype(np.float32),
            "words": {"count": number, "list": [{"text": "a", "at": number}, {"text": None, "at": 1}]},
        }

    def empty(self):
        return {**self.fields(0), "caption": "", "raw": b"", "tokens": np.array([], np.int32), "words": {"count": 0, "list": []}}


class ZarrTests(FormatTests):
    format = zarr
    checks_every_byte = True

    def writer(self, path):
        return zarr.Writer(path, codecs={"volume": "blosc"}, chunks={"tile": (16, 3, 12, 8), "volume": (1, 4, 16, 16)})

    def fields(self, number):
        rng = np.random.default_rng(number)
        return {
            "label": np.array(number % 10),
            "tile": rng.integers(0, 60000, (3, 12, 8)).astype(np.uint16),
            "volume": np.full((6, 16, 16), number, np.float32),
        }


class TestTar(TarTests):
    pass


class TestTarOnS3(TarTests):
    damaged_places = 12

    @pytest.fixture
    def store(self, s3):
        return open_store(s3.url())


class TestParquet(ParquetTests):
    pass


class TestParquetOnS3(ParquetTests):
    damaged_places = 12

    @pytest.fixture
    def store(self, s3):
        return open_store(s3.url())


class TestParquetThroughAHotTier(ParquetTests):
    @pytest.fixture
    def store(self, tmp_path):
        return Hot(tmp_path / "hot", limit=1 << 24).wrap(LocalStore(tmp_path / "cold"))

    # a hot copy hides what happens to the cold one
    test_a_flipped_byte_is_found = test_a_cut_is_found = test_a_missing_shard_is_not_found = None


class TestZarr(ZarrTests):
    pass


class TestZarrOnS3(ZarrTests):
    damaged_places = 12

    @pytest.fixture
    def store(self, s3):
        return open_store(s3.url())


# ------------------------------------------------------------------ formats that are wrong on purpose


class Wrong:
    """A reader that does what the right one does; subclasses differ in one thing."""

    def __init__(self, objects, ref, index):
        self.objects, self.ref, self.index = objects, ref, index
        self.right = tar.open(objects, ref, index)
        self.fields = self.right.fields

    def __len__(self):
        return len(self.right)

    def keys(self):
        return self.right.keys()

    def read(self, row, fields=None):
        return self.read_many([row], fields)[0]

    def read_many(self, rows, fields=None):
        return self.right.read_many(rows, fields)

    def verify(self):
        self.right.verify()


class Sorts(Wrong):
    def read_many(self, rows, fields=None):
        return self.right.read_many(sorted(rows), fields)


class GivesAllFields(Wrong):
    def read_many(self, rows, fields=None):
        return self.right.read_many(rows)


class GivesNone(Wrong):
    def read_many(self, rows, fields=None):
        return [{name: sample.get(name) for name in fields or self.fields} for sample in self.right.read_many(rows, fields)]


class LeaksKeyError(Wrong):
    def read_many(self, rows, fields=None):
        return [{name: sample[name] for name in fields or sample} for sample in self.right.read_many(rows)]


class ReadsEverything(Wrong):
    def read_many(self, rows, fields=None):
        everything = self.right.read_many(range(len(self)), fields)
        return [everything[row] for row in rows]


class ReadsOneByOne(Wrong):
    def read_many(self, rows, fields=None):
        return [self.right.read(row, fields) for row in rows]


class ChecksNothing(Wrong):
    def read_many(self, rows, fields=None):
        samples = []
        for row in rows:
            placed = {name: at for name, at in self.index.placed(row).items() if fields is None or name in fields}
            pieces = self.objects.ranges(self.ref, starts=[p.offset for p in placed.values()], lengths=[p.size for p in placed.values()])
            samples.append({name: bytes(piece) for name, piece in zip(placed, pieces, strict=True)})
        return samples


class LeaksOnDamage(Wrong):
    def read_many(self, rows, fields=None):
        try:
            return self.right.read_many(rows, fields)
        except CorruptObject as error:
            raise EOFError from error


class VerifiesNothing(Wrong):
    def verify(self):
        pass


class StampsTheTime(tar.Writer):
    stamps = iter(range(1000))

    def finish(self):
        self.add("stamp", {"txt": b"%d" % next(self.stamps)})
        return super().finish()


class TakesAnyKey(tar.Writer):
    def add(self, key, fields, images=None):
        super().add(key.encode("utf-8", "replace").decode() or "none", fields)


class NamesItWrong(tar.Writer):
    def finish(self):
        ref, index = super().finish()
        return type(ref)("0" * 64, ref.suffix, ref.size), index


def kit(reader=tar.open, writer=tar.Writer):
    made = TarTests()
    made.format = types.SimpleNamespace(SUFFIX=".tar", Writer=writer, open=reader)
    return made


@pytest.mark.parametrize(
    ("reader", "test"),
    [
        (Sorts, "test_read_many_in_the_order_asked_for"),
        (Sorts, "test_many_samples_in_any_order"),
        (GivesAllFields, "test_only_the_fields_asked_for"),
        (GivesAllFields, "test_an_unknown_field_is_not_found"),
        (GivesNone, "test_a_field_that_a_sample_lacks"),
        (LeaksKeyError, "test_an_unknown_field_is_not_found"),
        (ReadsEverything, "test_one_sample_of_many_is_a_small_part"),
        (ReadsOneByOne, "test_neighbours_share_requests"),
        (ChecksNothing, "test_a_flipped_byte_is_found"),
        (ChecksNothing, "test_a_cut_is_found"),
        (LeaksOnDamage, "test_a_flipped_byte_is_found"),
        (VerifiesNothing, "test_a_flipped_byte_is_found"),
        (VerifiesNothing, "test_a_cut_is_found"),
        (VerifiesNothing, "test_a_missing_shard_is_not_found"),
    ],
)
def test_the_kit_finds_a_wrong_reader(tmp_path, reader, test):
    arguments = {"store": open_store(str(tmp_path / "store")), "shard": None, "tmp_path": tmp_path}
    made = kit(reader)
    arguments["shard"] = made.make(arguments["store"], tmp_path, made.samples(12))
    method = getattr(made, test)
    wanted = method.__code__.co_varnames[1 : method.__code__.co_argcount]
    with pytest.raises((AssertionError, pytest.fail.Exception, KeyError)):
        method(**{name: arguments[name] for name in wanted})
    getattr(kit(), test)(**{name: arguments[name] for name in wanted if name != "shard"} | _sound(wanted, made, arguments, tmp_path))


def _sound(wanted, made, arguments, folder):
    """A shard again, since tests of damage leave theirs damaged."""
    if "shard" not in wanted:
        return {}
    arguments["store"].delete(arguments["shard"].ref.path)
    return {"shard": made.make(arguments["store"], folder, made.samples(12))}


@pytest.mark.parametrize(
    ("writer", "test"),
    [(StampsTheTime, "test_equal_samples_give_equal_bytes"), (NamesItWrong, "test_the_digest_is_that_of_the_file")],
)
def test_the_kit_finds_a_wrong_writer(tmp_path, writer, test):
    getattr(kit(), test)(tmp_path)
    with pytest.raises(AssertionError):
        getattr(kit(writer=writer), test)(tmp_path)


@pytest.mark.parametrize("key", ["", "a\udcff"])
def test_the_kit_finds_a_writer_that_takes_any_key(tmp_path, key):
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        kit(writer=TakesAnyKey).test_what_cannot_be_a_key(tmp_path, key)


def test_verify_has_to_find_every_byte_where_that_is_promised(tmp_path):
    made, store = kit(), open_store(str(tmp_path / "store"))
    made.checks_every_byte = True  # a tar has headers and padding, which no field is in
    with pytest.raises(AssertionError, match="verify does not find it"):
        made.test_a_flipped_byte_is_found(store, made.make(store, tmp_path, made.samples(12)))


def test_the_kit_wants_samples():
    with pytest.raises(NotImplementedError, match="fields"):
        FormatTests().fields(0)
