"""Conditions: one expression over a sample's columns, and no way out of it."""

import duckdb
import pyarrow as pa
import pytest

from dataplane.errors import CorruptObject, InvalidArgument
from dataplane.versions.condition import Condition
from dataplane.versions.query import Stream, database

COLUMNS = pa.schema(
    [
        ("key", pa.string()),
        ("label", pa.string()),
        ("width", pa.int32()),
        ("Two Words", pa.float64()),
        ("tags", pa.list_(pa.string())),
        ("box", pa.struct([("x", pa.int32())])),
        ("split", pa.string()),
    ]
)
TABLE = pa.table(
    {
        "key": ["a", "b", "c", "d"],
        "label": pa.array(["cat", "dog", None, "cat"]).dictionary_encode(),
        "width": pa.array([100, 300, 500, None], pa.int32()),
        "Two Words": [0.5, 1.5, 2.5, 3.5],
        "tags": [["x"], [], None, ["y", "x"]],
        "box": [{"x": 1}, {"x": 2}, {"x": 3}, None],
        "split": ["train", "train", "test", "test"],
    }
)


def held(text):
    with database() as connection:
        condition = Condition(connection, text, COLUMNS, of="photos@1")
        return [key for key, holds in zip("abcd", condition.holds(TABLE), strict=True) if holds], condition.columns


@pytest.mark.parametrize(
    ("text", "keys", "columns"),
    [
        ("width >= 256", "bc", ("width",)),
        ("label in ('cat', 'dog') and width >= 256", "b", ("label", "width")),
        ("LABEL = 'cat'", "ad", ("label",)),
        ("label <> 'cat'", "b", ("label",)),  # null is neither
        ("label is null", "c", ("label",)),
        ('"two words" > 2', "cd", ("Two Words",)),
        ("samples.width = 100", "a", ("width",)),
        ("list_contains(tags, 'x')", "ad", ("tags",)),
        ("len(list_filter(tags, lambda t: t = 'x')) = 1", "ad", ("tags",)),
        ("box.x > 1", "bc", ("box",)),
        ("key like 'a%' or split = 'test'", "acd", ("key", "split")),
        ("not (width < 200)", "bc", ("width",)),
        ("case when width > 400 then true else false end", "c", ("width",)),
        ("true -- all of them", "abcd", ()),
        ("width between 1 and 300 /* these */", "ab", ("width",)),
    ],
)
def test_what_holds(text, keys, columns):
    assert held(text) == (list(keys), columns)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' is not one SQL expression"),
        ("width >", "'width >' is not one SQL expression: syntax error"),
        ("width > 1; drop table samples", "is not one SQL expression: syntax error"),
        ("true) or (true", "is not one SQL expression"),
        ("true) union (select true", "is not one SQL expression"),
        ("true order by key", "is not one SQL expression"),
        ("true limit 1", "is not one SQL expression"),
        ("true group by all", "is not one SQL expression"),
        ("wide > 3", 'Referenced column "wide" not found.*photos@1 has the columns key, label, width, Two Words, tags, box, split$'),
        ("shard = 1", 'Referenced column "shard" not found'),
        ("no_such_function(key)", "no_such_function does not exist"),
        ("width", "gives INTEGER, not true or false"),
        ("label", "gives VARCHAR, not true or false"),
        ("*", "has a star"),
        ("columns('w.*') > 1", "has a star"),
        ("width > ?", "has a parameter to fill in"),
        ("width > $1", "has a parameter to fill in"),
        ("count(*) > 1", "aggregates"),
        ("row_number() over () > 1", "has a window"),
        ("width = (select max(width) from samples)", "has a query of its own"),
        ("exists (from '/etc/passwd')", "has a query of its own"),
        ("key in (select content from read_text('/etc/passwd'))", "has a query of its own"),
        ("read_text('/etc/passwd') is not null", "table function"),
        ("getenv('HOME') is not null", "getenv does not exist"),
    ],
)
def test_what_is_refused(text, message):
    with pytest.raises(InvalidArgument, match=f"^the condition .*{message}") as caught:
        held(text)
    assert "\n" not in str(caught.value)


def test_a_value_that_does_not_fit_is_an_error_in_one_line():
    with pytest.raises(InvalidArgument, match=r"cannot be computed for every sample: Could not convert string 'cat' to INT32") as caught:
        held("label::int > 3")
    assert "\n" not in str(caught.value)


def test_the_database_is_locked_in(tmp_path):
    file = tmp_path / "x.csv"
    file.write_text("a\n1\n")
    for statement in (
        f"SELECT * FROM '{file}'",
        f"COPY (SELECT 1) TO '{tmp_path}/out.csv'",
        "SET enable_external_access = true",
        "INSTALL httpfs",
    ):
        with pytest.raises(InvalidArgument, match=r"disabled|locked|Cannot change"), database() as connection:
            connection.execute(statement)
    beside = TABLE  # a variable of the caller is no table
    with pytest.raises(InvalidArgument, match="beside does not exist"), database() as connection:
        connection.execute("SELECT * FROM beside")
    assert len(beside) == 4
    assert [path.name for path in tmp_path.iterdir()] == ["x.csv"]


def test_an_error_of_a_stream_is_the_one_that_is_raised():
    def tables():
        yield TABLE.select(["key"])
        raise CorruptObject("the second is damaged")

    stream = Stream(pa.schema([("key", pa.string())]), tables())
    with pytest.raises(CorruptObject, match="the second is damaged"), database(stream) as connection:
        connection.from_arrow(stream.reader).aggregate("count(*)").fetchall()
    assert duckdb.sql("SELECT 1").fetchall() == [(1,)]
