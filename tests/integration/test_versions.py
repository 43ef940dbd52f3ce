"""Versions from beginning to end in a folder, in memory and on an S3 server; and that each is a dataset like any other."""

import time
import uuid

import numpy as np
import pyarrow as pa
import pytest

from dataplane import Lake
from dataplane.catalog import Change, Part, SplitCount
from dataplane.manifest import METADATA, write_metadata
from dataplane.refs import Digest
from dataplane.schema import Schema
from dataplane.upkeep import verify_lake
from dataplane.versions import append, clone, columns, diff, lineage, split, tag, where
from loaders import CenterCrop, Int64, Loader, Normalize
from tests import make


@pytest.fixture(params=["folder", "memory", "s3"])
def lake(request, tmp_path):
    urls = {"folder": lambda: str(tmp_path / "lake"), "memory": lambda: f"memory://{uuid.uuid4().hex}"}
    return Lake.init(request.getfixturevalue("s3").url() if request.param == "s3" else urls[request.param]())


def read(dataset):
    return {(name, s.key): s.fields["jpg"] for name in dataset.splits for s in dataset[name]}


def test_a_life_of_versions(lake):
    make.dataset(lake, "numbers", train=(20, 13), test=(7,))
    everything = read(lake.dataset("numbers"))
    assert clone(lake, "numbers", "mine").samples == 40
    assert read(lake.dataset("mine")) == everything
    ones = where(lake, "mine@1", "label = 'one' and width >= 13", to="ones")
    wanted = {(name, key) for name, key in everything if key.startswith("one/") and make.sample(int(key[-4:]))[2]["jpg"].width >= 13}
    assert read(lake.dataset("ones")) == {place: everything[place] for place in wanted}
    assert ones.samples == len(wanted) > 5
    assert where(lake, "ones", keys=[min(key for _, key in wanted), "nope"], to="first").missing == ("nope",)
    assert append(lake, "first", "ones").added == len(wanted) - 1
    assert append(lake, "first", "numbers").samples == 40
    assert read(lake.dataset("first")) == everything
    assert split(lake, "first", "a=0.5,b=0.5", by="stratified").splits.keys() == {"a", "b"}
    assert {key: jpg for (_, key), jpg in read(lake.dataset("first")).items()} == {key: jpg for (_, key), jpg in everything.items()}
    changes = diff(lake, "numbers", "first")
    assert (changes.added, changes.removed, changes.changed, changes.changes["split"]) == (0, 0, 40, 40)
    assert tag(lake, "first@2", "whole").version == 2
    assert diff(lake, "first@whole", "first").added == 40 - len(wanted)
    found = [each.version for each in lineage(lake, "first")]
    assert found[0] == "first@4"
    assert set(found) == {"first@4", "first@3", "first@2", "first@1", "ones@1", "mine@1", "numbers@1"}
    assert verify_lake(lake).problems == []
    again = Lake(lake.url) if not lake.url.startswith("memory") else lake
    assert read(again.dataset("first")) == read(lake.dataset("first"))


def test_a_split_view_loads_like_any_other(lake):
    make.dataset(lake, "numbers", train=(20, 13, 7))
    split(lake, "numbers", "a=0.5,b=0.5")
    a = lake.dataset("numbers")["a"]
    transform = {"jpg": [CenterCrop(8), Normalize.imagenet()], "cls": Int64()}
    with Loader(a, transform=transform, batch_size=4, seed=1, tail="short", threads=2) as loader:
        loaded = [key for batch in loader for key in batch.sample_keys]
    assert sorted(loaded) == sorted(s.key for s in a)
    assert len(loaded) == len(a) > 10


def test_large_metadata_is_read_by_columns(lake, monkeypatch):
    monkeypatch.setattr(columns, "_WHOLE_BYTES", 1000)
    make.dataset(lake, "numbers", train=(200, 130))
    asked, ranges = [], lake.objects.ranges

    def counted(ref, *, starts, lengths):
        asked.append(sum(lengths))
        return ranges(ref, starts=starts, lengths=lengths)

    lake.objects.ranges = counted
    assert where(lake, "numbers", "label = 'one' and width >= 13", to="some").samples == sum(
        n % 3 == 0 and make.sample(n)[2]["jpg"].width >= 13 for n in range(330)
    )
    (part,) = lake.catalog.version("numbers").parts
    if lake.url.startswith(("memory", "s3")):
        assert 0 < sum(asked) < part.metadata.size * 3
    else:
        assert asked == []


def test_a_terabyte_is_cloned_in_a_moment(lake):
    """A version of a thousand parts, each of a thousand shards of a gigabyte, none of which is there to be opened."""
    table = pa.table({f.name: pa.array([], f.type) for f in METADATA}, schema=METADATA)
    metadata = lake.objects.put(write_metadata(table), suffix=".parquet")
    parts = tuple(Part(Digest(f"{n:064x}", ".parquet", 50_000), metadata, 10**6) for n in range(1000))
    count = {"train": SplitCount(10**9, 10**6, 10**15)}
    lake.objects.rely_on = lambda refs: None  # of the first version only: its tables are made up
    lake.catalog.commit("huge", lambda _: Change("make", {}, Schema(), parts, count))
    del lake.objects.rely_on
    began = time.monotonic()
    assert clone(lake, "huge", "mine").samples == 10**9
    assert time.monotonic() - began < 1
    assert np.array_equal([part.samples for part in lake.catalog.version("mine").parts], [10**6] * 1000)
