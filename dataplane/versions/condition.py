"""A condition on the metadata of a sample: one SQL expression, as DuckDB writes them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dataplane.errors import InvalidArgument
from dataplane.versions.query import one_line

if TYPE_CHECKING:
    import duckdb

__all__ = ["Condition"]

_TABLE: Final = "samples"
_REFUSED: Final = {
    "SUBQUERY": "a query of its own",
    "WINDOW": "a window over other samples",
    "PARAMETER": "a parameter to fill in",
    "STAR": "a star",
}


class Condition:
    """An expression that is true or false for a sample, checked against the columns there are. `columns` are those it looks at.

    It is one expression and no statement; it looks at its own sample only, and at nothing outside its columns. Raises `InvalidArgument`.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, text: str, columns: pa.Schema, *, of: str) -> None:
        self._connection = connection
        self._text = text
        tree = _parse(connection, text)
        named = {name.casefold() for node in _nodes(tree) for name in node.get("column_names", ())}
        self.columns = tuple(name for name in columns.names if name.casefold() in named)
        self._bind(columns, of)

    def holds(self, table: pa.Table) -> npt.NDArray[np.bool_]:
        """Whether it is true for each row (not false, and not null). Raises `InvalidArgument` where a value does not fit an operation."""
        import duckdb

        try:
            self._connection.register(_TABLE, table)
            found = self._connection.execute(f"SELECT coalesce(({self._text}\n), false) AS it FROM {_TABLE}").fetchnumpy()["it"]
        except duckdb.Error as error:
            raise InvalidArgument(f"the condition {self._text!r} cannot be computed for every sample: {one_line(error)}") from None
        return np.asarray(found, bool)

    def _bind(self, columns: pa.Schema, of: str) -> None:
        import duckdb

        seen = pa.schema([columns.field(name) for name in self.columns] or [("key", pa.string())])
        try:
            self._connection.register(_TABLE, seen.empty_table())
            described = self._connection.execute(f"SELECT ({self._text}\n) FROM {_TABLE}").description
            self._connection.execute(f"SELECT 1 FROM {_TABLE} WHERE ({self._text}\n)")
        except duckdb.Error as error:
            raise InvalidArgument(
                f"the condition {self._text!r} does not work: {one_line(error)}; {of} has the columns {', '.join(columns.names)}"
            ) from None
        if len(described) != 1 or str(described[0][1]) != "BOOLEAN":
            raise InvalidArgument(f"the condition {self._text!r} gives {described[0][1]}, not true or false; compare it with something")


def _parse(connection: duckdb.DuckDBPyConnection, text: str) -> Any:
    """The expression as a tree. It must be whole by itself and in parentheses, and what stands round it must come back as it went in: so it
    cannot leave its place."""
    query = f"SELECT 1 FROM {_TABLE} WHERE "
    alone, found, template = (_tree(connection, query + each) for each in (text, f"(\n{text}\n)", "true"))
    for tree in (found, alone):
        if tree["error"]:
            raise InvalidArgument(f"the condition {text!r} is not one SQL expression: {tree['error_message']}")
    where = found["statements"][0]["node"].pop("where_clause")
    template["statements"][0]["node"].pop("where_clause")
    for node in _nodes(where):
        what = _REFUSED.get(node.get("class", ""))
        if what is not None:
            raise InvalidArgument(f"the condition {text!r} has {what}; it may look at the columns of one sample only")
    if found["statements"] != template["statements"]:
        raise InvalidArgument(f"the condition {text!r} is more than one SQL expression; write just what is true of the samples you want")
    return where


def _tree(connection: duckdb.DuckDBPyConnection, query: str) -> Any:
    return json.loads(connection.execute("SELECT json_serialize_sql(?::VARCHAR)", [query]).fetchall()[0][0])


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Every node of an expression."""
    todo = [tree]
    while todo:
        value = todo.pop()
        if isinstance(value, dict):
            yield value
            todo += value.values()
        elif isinstance(value, list):
            todo += value
