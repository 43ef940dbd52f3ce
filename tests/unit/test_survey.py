"""What names objects: tables of shards in columns, and looking again at what is new only."""

import io
from dataclasses import replace

import pyarrow.parquet as pq
import pytest

from dataplane import Lake
from dataplane.errors import CorruptObject
from dataplane.journal import Journal
from dataplane.manifest import write_shards
from dataplane.refs import Digest, Foreign
from dataplane.shards import Piece, ShardRow, Shards
from dataplane.testing import RecordingStore
from dataplane.upkeep.survey import Marks, Owner, Survey, objects_of
from tests import make


def digest(number, suffix):
    return Digest(f"{number:064x}", suffix, 10)


def row(number, *, adopted=False, selected=None, beside=()):
    ref = Foreign(f"s3://bucket/{number}.tar", 10, "etag") if adopted else digest(number, ".tar")
    return ShardRow("train", "tar", ref, digest(number, ".idx"), 8, 80, selected, beside=beside)


def piece(number, *, adopted=False):
    ref = Foreign(f"s3://bucket/{number}", 10) if adopted else digest(number, ".parquet")
    return Piece("parquet", ref, digest(number, ".idx"))


ROWS = [
    row(1),
    row(2, adopted=True),
    row(3, selected=b"\0", beside=(piece(30),)),  # nothing is wanted of it
    row(4, selected=b"\1", beside=(piece(40), piece(41, adopted=True))),
    replace(row(5), ref=digest(5, ".zip")),
    row(6, adopted=True, beside=(piece(60),)),
]


def names(data):
    return {(suffix, name) for suffix, found in objects_of(data, where="here") for name in found}


@pytest.mark.parametrize("rows", [ROWS, ROWS[:1], ROWS[2:3], []], ids=["all kinds", "one", "dead", "none"])
def test_a_table_names_what_its_rows_name(rows):
    expected = {(ref.suffix, bytes.fromhex(ref.hex)) for ref in Shards.of(rows).refs() if isinstance(ref, Digest)}
    assert names(write_shards(rows)) == expected


def test_the_first_tables_have_nothing_beside():
    table = pq.read_table(io.BytesIO(write_shards(ROWS[:2])))
    sink = io.BytesIO()
    pq.write_table(table.drop_columns(["beside"]), sink)
    assert names(sink.getvalue()) == names(write_shards(ROWS[:2]))


def test_a_table_that_cannot_be_read_names_itself():
    data = write_shards(ROWS)
    for damaged in (b"nothing", data[: len(data) // 2], data[:4] + b"\xff" * (len(data) // 2) + data[4 + len(data) // 2 :]):
        with pytest.raises(CorruptObject, match="here"):
            names(damaged)


def test_a_second_look_reads_what_is_new(tmp_path):
    lake = Lake.init(str(tmp_path / "lake"))
    make.dataset(lake)
    with Journal(lake.store, "numbers") as mine:
        for number in range(5):
            mine.add(make.finished(lake, "train", [number]))
        recorded = RecordingStore(lake.store)
        marks = Marks()
        survey = Survey(Lake(recorded), now=lake.store.head("lake.json")["last_modified"], grace_seconds=0, visit=marks.add)
        survey.look()
        added = make.finished(lake, "train", [8])
        mine.add(added)
        assert added.shard.ref not in marks
        recorded.clear()
        survey.look()
        assert added.shard.ref in marks
        assert [call.path.split("/")[0] for call in recorded.calls if call.verb == "get"] == ["writers"]
        mine.finish()


def test_marks_are_a_set():
    marks = Marks()
    marks.add(Owner("runs", "r"), [(".tar", [bytes(32), bytes(32)]), (".idx", [bytes(32)])])
    assert len(marks) == 2
    assert Digest("0" * 64, ".tar", 5) in marks
    assert Digest("0" * 64, ".parquet", 5) not in marks
