"""Statistics and samples as HTML pages: one file each, that needs nothing else. Pure functions of values that are at hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import resources
from typing import Final

from dataplane.output import human_bytes
from dataplane.page.charts import Line, legend, line_chart
from dataplane.page.document import card, code, details, document, section, table, tiles
from dataplane.page.histograms import Column as Bar
from dataplane.page.histograms import column_chart, grid_chart, share_bar
from dataplane.page.markup import Markup, element, join
from dataplane.stats.drawing import draw
from dataplane.stats.pixels import CHANNELS, Pixels
from dataplane.stats.samples import Glimpse
from dataplane.stats.tally import SIZES, Histogram
from dataplane.stats.version import Statistics
from dataplane.stats.words import null_rate, pixels, some, spread

__all__ = ["head_page", "statistics_page"]

_LABELS: Final = 30
_BAD: Final = 50
_TEXT: Final = 400  # characters of a name
_DRAWN: Final = frozenset({"picture", "sound", "array"})
_STYLES: Final = ("s1", "s2", "s3", "s4")


def statistics_page(found: Statistics, glimpses: Sequence[Glimpse]) -> str:
    """What a version holds, with some of its samples."""
    parts = [
        _summary(found),
        _splits(found),
        _labels(found),
        _sizes(found),
        _colours(found),
        _samples(glimpses),
        _columns(found),
        _origin(found),
    ]
    return document(f"{found.version}: statistics", *parts, style=_style())


def head_page(spec: str, glimpses: Sequence[Glimpse]) -> str:
    """Samples one by one, with all their fields."""
    lead = f"{len(glimpses):,} samples, with what each of their fields holds."
    top = element("header", element("h1", spec), element("p", lead, class_="lead"))
    return document(f"{spec}: samples", top, element("div", *map(_sample, glimpses), class_="samples"), style=_style())


def _style() -> str:
    return resources.files("dataplane.stats").joinpath("page.css").read_text(encoding="utf-8")


def _summary(found: Statistics) -> Markup:
    version = found.version
    labels = sum(label is not None for label in found.labels)
    numbers = [
        (f"{version.samples:,}", "samples", ""),
        (human_bytes(version.bytes), "in their fields", ""),
        (f"{len(version.splits):,}", "splits: " + ", ".join(version.splits), ""),
        (f"{labels:,}", "labels", ""),
    ]
    lead = f"Version {version.number} of {version.name}, made {version.created:%Y-%m-%d %H:%M} UTC. A version never changes."
    return element("header", element("h1", str(version)), element("p", lead, class_="lead"), tiles(numbers))


def _splits(found: Statistics) -> Markup:
    rows = [[name, f"{n.samples:,}", f"{n.shards:,}", human_bytes(n.bytes)] for name, n in found.version.splits.items()]
    splits = card("Splits", table(["split", "samples", "shards", "bytes"], rows, numbers=3, name="splits"))
    kinds = [
        [f"{each.format}, adopted" if each.adopted else each.format, f"{each.count:,}", human_bytes(each.bytes)] for each in found.objects
    ]
    objects = card("Objects", table(["format", "objects", "bytes"], kinds, numbers=2, name="objects"))
    return section("Where it lies", "", element("div", splits, objects, class_="charts"))


def _labels(found: Statistics) -> Markup:
    labels, splits = found.labels, list(found.version.splits)
    if not labels or set(labels) == {None}:
        return section("Labels", "No sample has a label.")
    styles = {name: _STYLES[place % len(_STYLES)] for place, name in enumerate(splits)}
    most = max(sum(counts.values()) for counts in labels.values())
    rows: list[list[str]] = []
    for label, counts in list(labels.items())[:_LABELS]:
        total, name = sum(counts.values()), "no label" if label is None else label[:_TEXT]
        said = ", ".join(f"{split} {counts.get(split, 0):,}" for split in splits)
        bar = share_bar([(split, styles[split], counts.get(split, 0)) for split in splits], most=most, title=f"{name}: {said}")
        rows.append([name, bar, *(f"{counts.get(split, 0):,}" for split in splits), f"{total:,}"])
    notes = []
    if len(labels) > _LABELS:
        notes.append(f"{len(labels) - _LABELS:,} more labels, each with no more samples than these, are not shown.")
    if found.absent:
        notes.append(f"{len(found.absent):,} classes have no sample in this version: {some(found.absent, 20)}.")
    body = table(["label", "", *splits, "all"], rows, numbers=len(splits) + 1, name="samples by label and split")
    return section("Labels", " ".join(notes), element("div", legend(list(styles.items())), body, class_="card labels"))


def _sizes(found: Statistics) -> Markup:
    tally = found.tally
    cards = [_histogram("Bytes of a sample", tally.bytes, "bytes of a sample", human_bytes, "s1")]
    if tally.shapes.cells:
        cards += [
            _histogram("Width / height", tally.aspects, "width / height", lambda value: f"{value:.2f}", "s3"),
            _histogram("Width", tally.shapes.side(0), "width, pixels", pixels, "s2"),
            _histogram("Height", tally.shapes.side(1), "height, pixels", pixels, "s2"),
            _shapes(found),
        ]
    note = "Each step of a scale is √2 times the one before, of width / height the fourth root of 2. Pictures count upright."
    return section("Sizes", note, element("div", *cards, class_="charts"))


def _histogram(heading: str, histogram: Histogram, label: str, said: Callable[[float], str], style: str) -> Markup:
    edges, counts = histogram.edges, histogram.counts
    bars = [Bar(said(edges[place]), said(edges[place + 1]), counts[place]) for place in histogram.used]
    chart = column_chart(bars, title=f"histogram of {label}", x_label=label, style=style)
    rows = [[bar.start, bar.stop, f"{bar.count:,}"] for bar in bars]
    return card(heading, chart, details("As a table", table(["from", "up to", "samples"], rows, numbers=3, name=label)))


def _shapes(found: Statistics) -> Markup:
    cells = found.tally.shapes.cells
    left, low = (min(cell[axis] for cell in cells) for axis in (0, 1))
    right, high = (max(cell[axis] for cell in cells) for axis in (0, 1))
    x_edges, y_edges = [pixels(edge) for edge in SIZES[left : right + 2]], [pixels(edge) for edge in SIZES[low : high + 2]]
    moved = {(x - left, y - low): count for (x, y), count in cells.items()}
    chart = grid_chart(moved, x_edges, y_edges, title="widths and heights of the pictures, in pixels", x_label="width", y_label="height")
    rows = [
        [f"{pixels(SIZES[x])} to {pixels(SIZES[x + 1])}", f"{pixels(SIZES[y])} to {pixels(SIZES[y + 1])}", f"{count:,}"]
        for (x, y), count in sorted(cells.items(), key=lambda item: -item[1])[:_LABELS]
    ]
    shown = details("The most frequent as a table", table(["width", "height", "samples"], rows, numbers=1, name="widths and heights"))
    return card("Width × height", chart, shown)


def _colours(found: Statistics) -> Markup:
    if found.pixels is None:
        return Markup()
    cards = [_channels(found.pixels)] if found.pixels.images else []
    if found.pixels.bad:
        rows = [[bad.key[:_TEXT], bad.reason] for bad in found.pixels.bad[:_BAD]]
        more = f"{len(found.pixels.bad):,} cannot be decoded" + (f"; the first {_BAD} of them" if len(found.pixels.bad) > _BAD else "")
        cards.append(card(more, table(["key", "reason"], rows, numbers=0, name="pictures that cannot be decoded")))
    looked_at = found.pixels.images + len(found.pixels.bad)
    note = f"Over all pixels of {found.pixels.images:,} pictures"
    note += "." if looked_at >= found.version.samples else ", chosen at random; the same ones each time."
    return section("Colours", note, element("div", *cards, class_="charts"))


def _channels(found: Pixels) -> Markup:
    styles = dict(zip(CHANNELS, ("s2", "s4", "s1"), strict=True))
    lines = []
    for name, counts in zip(CHANNELS, found.levels, strict=True):
        total = sum(counts) or 1
        lines.append(Line(name, styles[name], tuple(_eighths(counts, total))))
    chart = line_chart(
        lines, title="levels of the channels", x_label="level", x_end=255, y_format="{:.1%}".format, y_least=0.001, band=None
    )
    rows = [[name, f"{m:.4f}", f"{d:.4f}"] for name, m, d in zip(CHANNELS, found.mean, found.deviation, strict=True)]
    text = ", ".join(f"{value:.4f}" for value in found.mean), ", ".join(f"{value:.4f}" for value in found.deviation)
    use = code(f"Normalize(mean=({text[0]}), std=({text[1]}))")
    numbers = table(["channel", "mean", "deviation"], rows, numbers=2, name="mean and deviation of the channels")
    return card("Mean and deviation, where levels go from 0 to 1", legend(list(styles.items())), chart, numbers, use)


def _eighths(counts: Sequence[int], total: int) -> list[tuple[float, float]]:
    """The share of levels, eight of them together, over their middle."""
    return [(start + 3.5, sum(counts[start : start + 8]) / total) for start in range(0, len(counts), 8)]


def _samples(glimpses: Sequence[Glimpse]) -> Markup:
    if not glimpses:
        return Markup()
    drawn = any(found.kind in _DRAWN for glimpse in glimpses for found in glimpse.fields)
    figures = [_figure(glimpse) for glimpse in glimpses if glimpse.fields]
    shown = element("div", *figures, class_="pictures shown") if drawn else _rows(glimpses)
    return section("Samples", "Chosen at random; the same ones each time.", shown)


def _rows(glimpses: Sequence[Glimpse]) -> Markup:
    """Samples of values and text: a row each."""
    names = sorted({found.name for glimpse in glimpses for found in glimpse.fields})
    rows = [[glimpse.key[:_TEXT], *(_previews(glimpse).get(name, "") for name in names)] for glimpse in glimpses]
    return element("div", table(["key", *names], rows, numbers=0, name="samples"), class_="card rows")


def _previews(glimpse: Glimpse) -> dict[str, str]:
    return {found.name: found.preview for found in glimpse.fields}


def _figure(glimpse: Glimpse) -> Markup:
    """The field that says most about a sample."""
    order = ("picture", "sound", "array", "text", "value", "bytes")
    best = min(glimpse.fields, key=lambda found: order.index(found.kind))
    caption = element("figcaption", (glimpse.label or glimpse.key)[:_TEXT], title=glimpse.key)
    return element("figure", draw(best), caption, class_=best.kind)


def _sample(glimpse: Glimpse) -> Markup:
    facts = [
        glimpse.split,
        *([] if glimpse.label is None else [glimpse.label]),
        *(f"{name} {value}" for name, value in glimpse.metadata.items()),
    ]
    fields = []
    for found in glimpse.fields:
        said = " · ".join(part for part in (found.kind, found.size, found.preview if found.kind == "sound" else "") if part)
        fields.append(element("div", element("h4", element("b", found.name), " ", said), draw(found), class_=f"field {found.kind}"))
    head = join((element("h3", glimpse.key[:_TEXT]), element("p", " · ".join(facts), class_="note")))
    if glimpse.problem:
        fields.append(element("p", glimpse.problem, class_="bad-ink"))
    return element("article", head, *fields, class_="card")


def _columns(found: Statistics) -> Markup:
    rows = [
        [name, " | ".join(sorted(column.types)), null_rate(column, found.tally.samples), *spread(column)]
        for name, column in found.tally.columns.items()
    ]
    heads = ["column", "type", "null", "lowest", "mean", "deviation", "highest"]
    body = element("div", table(heads, rows, numbers=5, name="columns of metadata"), class_="card")
    return section("Metadata", "Every column, how many samples have no value, and what the numbers are.", body)


def _origin(found: Statistics) -> Markup:
    version = found.version
    rows = [(name, str(value)) for name, value in version.lineage.items()]
    rows += [("bad samples left out", f"{version.bad['count']:,}")] if version.bad.get("count") else []
    body = element("table", *(element("tr", element("th", name), element("td", value)) for name, value in rows), class_="facts")
    return section("Where it came from", "", element("div", body, class_="card"))
