"""DuckDB, locked in: it sees the tables it is handed and nothing else, and its errors stay here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from dataplane.errors import DataplaneError, InvalidArgument

if TYPE_CHECKING:
    import duckdb

__all__ = ["Stream", "database", "one_line"]

_LOCKED: Final = {
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "python_enable_replacements": "false",
}
_PREFIX: Final = re.compile(r"^[A-Za-z ]*Error: ")


@contextmanager
def database(stream: Stream | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
    """An empty database in memory that can read no file, load nothing and not be told otherwise.

    What goes wrong in it is raised as `InvalidArgument` in one line; what goes wrong in `stream` as the error that it was.
    """
    import duckdb

    with duckdb.connect(":memory:", config=dict(_LOCKED)) as connection:
        # The right side of a join is the one that is kept in memory; nothing is known of the sizes of streams.
        connection.execute("SET disabled_optimizers = 'join_order,build_side_probe_side'")
        connection.execute("SET lock_configuration = true")
        try:
            yield connection
        except duckdb.Error as error:
            if stream is not None and stream.error is not None:
                raise stream.error from None
            raise InvalidArgument(one_line(error)) from None


def one_line(error: Exception) -> str:
    """What DuckDB says was wrong, without its drawing of the statement."""
    return _PREFIX.sub("", re.split(r"\n\s*\n|\nLINE ", str(error), maxsplit=1)[0]).replace("\n", " ").strip()


class Stream:
    """Tables of one schema that DuckDB pulls one after the other, once. An error of where they come from is kept in `error`."""

    def __init__(self, schema: pa.Schema, tables: Iterable[pa.Table]) -> None:
        self.error: BaseException | None = None
        self._tables = tables
        self.reader = pa.RecordBatchReader.from_batches(schema, self._batches(schema))

    def _batches(self, schema: pa.Schema) -> Iterator[Any]:
        try:
            for table in self._tables:
                yield from table.cast(schema).to_batches()
        except BaseException as error:
            if isinstance(error, DataplaneError) or not isinstance(error, Exception | GeneratorExit):
                self.error = error  # an interrupt too, which Arrow would turn into its own error
            raise
