"""Labels, from where a file lies, from a table beside the files, or from the file's name. They never come from a file's bytes."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from dataplane.errors import BadSample, InvalidArgument, redact
from dataplane.store import open_store
from dataplane.store.local import translated

__all__ = ["COLUMN", "Labels", "Table", "label_file", "labels_from", "one_group"]

COLUMN: Final = "column:"
_FILE_COLUMNS: Final = ("path", "file", "filename", "key")
_LABEL_COLUMNS: Final = ("label", "class", "category")
_SHOWN: Final = 3


class Labels(Protocol):
    """The label of a file, by its path below the source's root and its key."""

    def __call__(self, path: str, key: str) -> str:
        """Raises `BadSample` where there is none."""
        ...


def labels_from(spec: str | None) -> Labels | None:
    """What `--label-from` asks for: `folder`, `csv:FILE`, `name:REGEX`, or None; `column:NAME` is the business of tables. Reads the CSV
    file. Raises `InvalidArgument`."""
    if spec is None:
        return None
    if spec == "folder":
        return _folder
    if spec.startswith(COLUMN) and spec != COLUMN:
        return None  # of a table: each row has its own
    kind, colon, rest = spec.partition(":")
    if colon and rest and kind == "csv":
        return Table(rest)
    if colon and rest and kind == "name":
        return _Name(one_group(rest, name="label", option="--label-from name:"))
    raise InvalidArgument(f"--label-from is {spec!r}; allowed are folder, csv:FILE, name:REGEX and, for tables, column:NAME")


def label_file(spec: str | None) -> str | None:
    """The file or URL that `csv:FILE` names: it may lie inside the source, and is no sample there."""
    return spec.removeprefix("csv:") if spec and spec.startswith("csv:") else None


def one_group(pattern: str, *, name: str, option: str) -> Callable[[str], str | None]:
    """A search for `pattern` that gives its group `name`, else its first one; None where nothing is found. Raises `InvalidArgument`."""
    try:
        regex = re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise InvalidArgument(f"{option}{pattern} is no regular expression: {error}") from error
    if not regex.groups:
        raise InvalidArgument(f"{option}{pattern} has no group; put parentheses round the part that is the {name}")
    group = name if name in regex.groupindex else 1

    def search(text: str) -> str | None:
        match = regex.search(text)
        return match[group] or None if match else None

    return search


def _folder(path: str, key: str) -> str:
    """As torchvision's ImageFolder: the first folder below the root, however deep the file lies in it."""
    first, slash, _ = path.partition("/")
    if not slash:
        raise BadSample("no folder to take the label from")
    return first


@dataclass(frozen=True, slots=True)
class _Name:
    search: Callable[[str], str | None]

    def __call__(self, path: str, key: str) -> str:
        label = self.search(path)
        if label is None:
            raise BadSample("no label: its path does not match the pattern of --label-from")
        return label


class Table:
    """Labels from a CSV file with the columns `path` (or `file`, `filename`, `key`) and `label` (or `class`, `category`), or with just
    these two and no header. The separator is a comma, a semicolon or a tab. Not thread-safe: it remembers which rows were asked for."""

    def __init__(self, file: str) -> None:
        self.file = redact(file)
        self._labels: dict[str, set[str]] = {}
        self._used: set[str] = set()
        for name, label in _rows(_text(file), where=self.file):
            self._labels.setdefault(name, set()).add(label)

    def __call__(self, path: str, key: str) -> str:
        name = path if path in self._labels else key
        if name not in self._labels:
            raise BadSample(f"no label: {self.file} has no row for it")
        self._used.add(name)
        labels = sorted(self._labels[name])
        if len(labels) > 1:
            raise BadSample(f"no label: {self.file} gives it {len(labels)}, {' and '.join(map(repr, labels[:_SHOWN]))}")
        if not labels[0]:
            raise BadSample(f"no label: its row in {self.file} has an empty one")
        return labels[0]

    def unused(self) -> Sequence[str]:
        """The files that have a row and were never asked for, sorted."""
        return sorted(self._labels.keys() - self._used)

    def note(self) -> str | None:
        """A sentence about the rows that name no file of the source, or None."""
        unused = self.unused()
        if not unused:
            return None
        more = f" and {len(unused) - _SHOWN} more" if len(unused) > _SHOWN else ""
        return f"rows of {self.file} that name no file of the source: {', '.join(map(repr, unused[:_SHOWN]))}{more}"


def _text(file: str) -> str:
    if "://" in file:
        parent, _, name = file.rpartition("/")
        raw = bytes(memoryview(open_store(parent).get(name).buffer()))
    else:
        with translated(file):
            raw = Path(file).read_bytes()
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"--label-from csv:{redact(file)}: the file is not UTF-8 ({error.reason} at byte {error.start})") from error


def _rows(text: str, *, where: str) -> list[tuple[str, str]]:
    """(file, label) of every row."""
    first = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=first.count)
    try:
        table = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if row]
    except csv.Error as error:
        raise InvalidArgument(f"--label-from csv:{where}: not a CSV file: {error}") from error
    columns, table = _columns(table, where=where)
    try:
        return [(row[columns[0]].strip().removeprefix("./"), row[columns[1]].strip()) for row in table]
    except IndexError:
        short = next(i for i, row in enumerate(table, 1) if len(row) <= max(columns))
        raise InvalidArgument(
            f"--label-from csv:{where}: row {short} has {len(table[short - 1])} columns; {max(columns) + 1} are needed"
        ) from None


def _columns(table: list[list[str]], *, where: str) -> tuple[tuple[int, int], list[list[str]]]:
    """Which columns hold the file and the label, and the rows without the header."""
    if not table:
        raise InvalidArgument(f"--label-from csv:{where}: the file is empty")
    header = [name.strip().lower() for name in table[0]]
    file = next((header.index(name) for name in _FILE_COLUMNS if name in header), None)
    label = next((header.index(name) for name in _LABEL_COLUMNS if name in header), None)
    if file is not None and label is not None:
        return (file, label), table[1:]
    if file is None and label is None and len(header) == 2:
        return (0, 1), table
    raise InvalidArgument(
        f"--label-from csv:{where}: its columns are {', '.join(table[0])}; one of {', '.join(_FILE_COLUMNS)} and one of "
        f"{', '.join(_LABEL_COLUMNS)} are needed, or two columns without a header"
    )
