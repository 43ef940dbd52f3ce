"""Statistics and samples in a terminal: tables, and histograms of one line. What comes from the data is shown as text, never as markup."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from dataplane.output import human_bytes
from dataplane.stats.pixels import CHANNELS
from dataplane.stats.samples import Glimpse
from dataplane.stats.tally import Histogram
from dataplane.stats.values import one_line
from dataplane.stats.version import ObjectCount, Statistics
from dataplane.stats.words import null_rate, pixels, some, spread

__all__ = ["of_objects", "of_samples", "of_statistics", "sparkline"]

_BARS: Final = "▁▂▃▄▅▆▇█"
_LABELS: Final = 20
_BAD: Final = 10
_BAR: Final = 20  # characters


def of_objects(objects: Sequence[ObjectCount]) -> Table:
    """What the shards of a version consist of."""
    table = Table("format", "where", "objects", "bytes")
    for each in objects:
        table.add_row(each.format, "adopted, where it was" if each.adopted else "in the lake", f"{each.count:,}", human_bytes(each.bytes))
    return table


def of_statistics(found: Statistics) -> Iterator[RenderableType]:
    """The tables of `show --stats`, one after another."""
    if found.labels:
        yield from _labels(found)
    yield from _histogram("bytes of a sample", found.tally.bytes, human_bytes)
    if found.tally.shapes.cells:
        yield from _histogram("width, pixels", found.tally.shapes.side(0), pixels)
        yield from _histogram("height, pixels", found.tally.shapes.side(1), pixels)
        yield from _histogram("width / height", found.tally.aspects, lambda value: f"{value:.2f}")
    yield _columns(found)
    if found.pixels is not None:
        yield from _images(found)


def of_samples(glimpses: Sequence[Glimpse]) -> Table:
    """The table of `head`: a row a field."""
    table = Table("key", "split", "field", "kind", "size", "preview")
    for glimpse in glimpses:
        label = "" if glimpse.label is None else f" ({glimpse.label})"
        names = [Text(one_line(glimpse.key + label)), Text(one_line(glimpse.split))]
        for found in glimpse.fields:
            table.add_row(*names, Text(one_line(found.name)), found.kind, found.size, Text(found.preview))
            names = [Text(), Text()]
        if not glimpse.fields:
            table.add_row(*names, "", "", "", Text(one_line(glimpse.problem or "no fields"), style="yellow"))
    return table


def sparkline(counts: Sequence[int]) -> str:
    """A histogram of one line. A place with any count shows."""
    most = max(counts, default=0)
    return "".join(_BARS[-(-count * (len(_BARS) - 1) // most)] if count else " " for count in counts) if most else ""


def _labels(found: Statistics) -> Iterator[RenderableType]:
    splits, labels = list(found.version.splits), found.labels
    if set(labels) == {None}:
        yield Text("no sample has a label")
        return
    table = Table("label", *splits, "all", "")
    most = max(sum(counts.values()) for counts in labels.values())
    for label, counts in list(labels.items())[:_LABELS]:
        total = sum(counts.values())
        name = Text("no label", style="dim") if label is None else Text(one_line(label))
        bar = "█" * max(1, round(_BAR * total / most))
        table.add_row(name, *(f"{counts.get(split, 0):,}" for split in splits), f"{total:,}", Text(bar, style="blue"))
    yield table
    if len(labels) > _LABELS:
        yield Text(f"… and {len(labels) - _LABELS:,} more labels; --json lists them")
    if found.absent:
        yield Text(f"{len(found.absent):,} classes have no sample here: {one_line(some(found.absent, 8))}")


def _histogram(name: str, histogram: Histogram, said: Callable[[float], str]) -> Iterator[RenderableType]:
    used = histogram.used
    if used:
        line = sparkline([histogram.counts[place] for place in used])
        yield Text.assemble(f"{name}: {said(histogram.edges[used.start])} ", (line, "blue"), f" {said(histogram.edges[used.stop])}")


def _columns(found: Statistics) -> Table:
    table = Table("column", "type", "null", "lowest", "mean", "deviation", "highest")
    for name, column in found.tally.columns.items():
        kind = " | ".join(sorted(column.types))
        table.add_row(Text(one_line(name)), Text(kind), null_rate(column, found.tally.samples), *spread(column))
    return table


def _images(found: Statistics) -> Iterator[RenderableType]:
    colours = found.pixels
    assert colours is not None
    if colours.images:
        table = Table("channel", "mean", "deviation", "dark to bright")
        for name, mean, deviation, counts in zip(CHANNELS, colours.mean, colours.deviation, colours.levels, strict=True):
            table.add_row(name, f"{mean:.4f}", f"{deviation:.4f}", Text(sparkline(_coarse(counts)), style=name))
        yield table
        yield Text(f"over all pixels of {colours.images:,} pictures, levels from 0 to 1")
    if colours.bad:
        yield Text(f"{len(colours.bad):,} pictures cannot be decoded:", style="yellow")
        yield from (Text(f"  {one_line(bad.key)}: {one_line(bad.reason)}") for bad in colours.bad[:_BAD])
        if len(colours.bad) > _BAD:
            yield Text(f"  … and {len(colours.bad) - _BAD:,} more; --json lists them")


def _coarse(counts: Sequence[int]) -> list[int]:
    step = len(counts) // 16
    return [sum(counts[start : start + step]) for start in range(0, len(counts), step)]
