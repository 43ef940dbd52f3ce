"""Lakes that earlier releases wrote stay readable. The scripts that made them, in `tests/data`, say what is in them."""

import json
import shutil
from pathlib import Path

import pytest
from blake3 import blake3

from dataplane import Lake, journal
from dataplane.errors import NotFound
from dataplane.upkeep import verify_lake
from dataplane.versions import lineage
from tests.data import make_lake_v1_formats

DATA = Path(__file__).parents[1] / "data"
CONTENTS = json.loads((DATA / "lake-v1.json").read_text())


@pytest.fixture
def lake(tmp_path):
    return Lake(str(shutil.copytree(DATA / "lake-v1", tmp_path / "lake-v1")))


def test_it_verifies(lake):
    report = verify_lake(lake)
    assert report.problems == []
    assert report.objects == 12


@pytest.mark.parametrize("spec", ["numbers@1", "numbers@2"])
def test_every_sample_is_what_it_was(lake, spec):
    dataset = lake.dataset(spec)
    found = {
        split: [[s.key, {name: blake3(data).hexdigest() for name, data in s.fields.items()}, dict(s.metadata)] for s in dataset[split]]
        for split in dataset.splits
    }
    assert found == CONTENTS[spec]


def test_names_tags_and_metadata(lake):
    assert (lake.datasets(), lake.names("runs"), lake.names("models")) == (["numbers"], ["first"], ["digits"])
    assert lake.dataset("numbers@prod").number == 1
    assert lake.dataset("numbers").number == 2
    table = lake.dataset("numbers").metadata(["key", "split", "label", "width"])
    assert sorted(table.column("key").to_pylist()) == sorted(row[0] for rows in CONTENTS["numbers@2"].values() for row in rows)
    assert lake.dataset("numbers").schema.classes == ("one", "three", "two")
    assert lake.log("runs", "first").last().body["step"] == 1


@pytest.fixture
def formats(tmp_path):
    return Lake(str(shutil.copytree(DATA / "lake-v1-formats", tmp_path / "lake-v1-formats")))


def test_every_value_of_every_format_is_what_it_was(formats):
    found = json.loads(json.dumps(make_lake_v1_formats.contents(formats), sort_keys=True, default=repr))
    assert found == json.loads((DATA / "lake-v1-formats.json").read_text())
    assert verify_lake(formats, deep=True).problems == []


def test_what_versions_were_made_of_and_what_is_gone(formats):
    assert formats.datasets() == ["copy", "few", "mixed", "other"]
    assert formats.catalog.numbers("mixed") == [2, 3, 4]
    assert formats.dataset("mixed@good").number == 2
    with pytest.raises(NotFound, match="mixed@1 was expired"):
        formats.dataset("mixed@1")
    assert [str(one.version) for one in lineage(formats, "other@2")][:2] == ["other@2", "other@1"]
    assert [piece.format for piece in formats.dataset("mixed@good")["train"].shards[0].row.pieces] == ["tar", "parquet", "zarr"]


def test_a_dead_writers_journal(lake, monkeypatch):
    monkeypatch.setattr(journal, "DEAD_AFTER", journal.timedelta(0))
    (left,) = journal.leftovers(lake.store, "numbers")
    assert [finished.shard.samples for finished in left.finished] == [1]


def test_it_can_be_written_on(lake):
    from tests import make

    version = make.dataset(lake, "numbers")
    assert version.number == 3
    assert verify_lake(lake).ok
