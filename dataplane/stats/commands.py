"""The commands `dataplane show` and `dataplane head`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.table import Table

from dataplane.catalog import Version
from dataplane.errors import InvalidArgument, redact
from dataplane.output import BAD_INPUT, AsJson, LakeUrl, command_line, emit, err, human_bytes, lake_url, open_lake, out

if TYPE_CHECKING:
    from dataplane.lake import Lake
    from dataplane.stats.pixels import Limit
    from dataplane.stats.version import ObjectCount, Statistics

__all__ = ["head", "show"]

_SHOWN: Final = 24  # samples on the page of statistics
_SEED: Final = 0

Html = Annotated[
    Path | None, typer.Option("--html", metavar="FILE", help="Write it as a page for a browser, with pictures.", show_default=False)
]


def show(
    context: typer.Context,
    spec: Annotated[
        str, typer.Argument(metavar="NAME[@VERSION]", help="A dataset: NAME is its newest version, NAME@7 and NAME@TAG others.")
    ],
    *,
    stats: Annotated[bool, typer.Option("--stats", help="Count labels, sizes, shapes and missing values, and look at pictures.")] = False,
    images: Annotated[str, typer.Option("--images", metavar="all|N", help="How many pictures to decode for --stats.")] = "512",
    html: Html = None,
    lake: LakeUrl = None,
    as_json: AsJson = False,
) -> None:
    """Show a version: its splits, fields, classes, bad samples and where it came from; with --stats, what its samples are like.

        dataplane show photos@7 --stats --html photos.html

    Exit code 3 when pictures that were decoded for the statistics are bad; they are listed.
    """
    from dataplane.stats.version import count_objects

    limit = _limit(images)
    opened = open_lake(context, lake)
    dataset = opened.dataset(spec)
    version, objects = dataset.version, count_objects(dataset)
    document = {
        "name": version.name,
        "version": version.number,
        "created": version.created.isoformat(),
        "splits": {name: count.to_json() for name, count in version.splits.items()},
        "objects": [each.to_json() for each in objects],
        "fields": version.schema.to_json()["fields"],
        "classes": list(version.schema.classes),
        "lineage": dict(version.lineage),
        "bad": dict(version.bad),
    }
    found = _measure(opened, version, limit) if stats or html else None
    if found is not None:
        document["stats"] = found.to_json()
    if found is not None and html is not None:
        _write_statistics(opened, found, html)
    emit(document, as_json=as_json, human=lambda: _print_version(context, version, objects, found, html))
    if found is not None and found.pixels is not None and found.pixels.bad:
        raise typer.Exit(BAD_INPUT)


def head(
    context: typer.Context,
    spec: Annotated[
        str, typer.Argument(metavar="NAME[@VERSION][/SPLIT]", help="A dataset, one of its versions, and a split. Default: all splits.")
    ],
    *,
    count: Annotated[int, typer.Option("-n", "--count", metavar="N", help="How many samples.")] = 8,
    seed: Annotated[
        int | None, typer.Option("--seed", metavar="N", help="Random samples; the same ones for the same number.", show_default=False)
    ] = None,
    html: Html = None,
    lake: LakeUrl = None,
    as_json: AsJson = False,
) -> None:
    """Show the first samples, or random ones: keys, fields, sizes, a few words; on a page, pictures, sounds, text and arrays.

        dataplane head photos/train -n 16 --seed 1 --html samples.html

    Exit code 3 when one of them is damaged.
    """
    from dataplane.stats.samples import head as read
    from dataplane.stats.terminal import of_samples

    glimpses = read(open_lake(context, lake), spec, count=count, seed=seed)
    if html is not None:
        from dataplane.stats.page import head_page

        _write(html, head_page(spec, glimpses))

    def human() -> None:
        out.print(of_samples(glimpses))
        _print_next(html, command_line(context, f"head {spec} --html samples.html"))

    emit([glimpse.to_json() for glimpse in glimpses], as_json=as_json, human=human)
    if any(glimpse.problem for glimpse in glimpses):
        raise typer.Exit(BAD_INPUT)


def _limit(text: str) -> Limit:
    if text == "all":
        return "all"
    if not text.isdecimal() or not int(text):
        raise InvalidArgument(f"--images {text!r} is no number of pictures; write a number above 0, or all")
    return int(text)


def _measure(lake: Lake, version: Version, limit: Limit) -> Statistics:
    from dataplane.stats.version import statistics

    with err.status("counting") as status:
        return statistics(lake, str(version), images=limit, watch=lambda what, done, of: status.update(f"{what}: {done:,} of {of:,}"))


def _write_statistics(lake: Lake, found: Statistics, path: Path) -> None:
    from dataplane.stats.page import statistics_page
    from dataplane.stats.samples import head as read

    _write(path, statistics_page(found, read(lake, str(found.version), count=_SHOWN, seed=_SEED)))


def _write(path: Path, text: str) -> None:
    from dataplane.store.local import translated

    with translated(path):
        path.write_text(text, encoding="utf-8")


def _print_next(html: Path | None, otherwise: str) -> None:
    out.print(f"Next: {otherwise if html is None else f'open {html} in a browser'}", markup=False)


def _print_version(
    context: typer.Context, version: Version, objects: tuple[ObjectCount, ...], found: Statistics | None, html: Path | None
) -> None:
    from rich.text import Text

    from dataplane.stats.terminal import of_objects, of_statistics
    from dataplane.stats.values import one_line
    from dataplane.stats.words import some

    out.print(f"[bold]{version}[/], {version.created:%Y-%m-%d %H:%M:%S} UTC: {version.samples:,} samples, {human_bytes(version.bytes)}")
    table = Table("split", "samples", "shards", "bytes")
    for name, count in version.splits.items():
        table.add_row(Text(one_line(name)), f"{count.samples:,}", f"{count.shards:,}", human_bytes(count.bytes))
    out.print(table)
    out.print(of_objects(objects))
    fields = ", ".join(f"{field.name} ({field})" for field in version.schema.fields)
    out.print(f"fields: {one_line(fields) or 'none'}", markup=False)
    classes = version.schema.classes
    if classes:
        out.print(f"{len(classes)} classes: {one_line(some(classes, 12))}", markup=False)
    if version.bad.get("count"):
        out.print(f"[yellow]{version.bad['count']} bad samples were left out[/]; --json lists them")
    out.print(one_line(f"from: {version.lineage['operation']} {version.lineage['parameters']}"), markup=False)
    for part in of_statistics(found) if found is not None else ():
        out.print(part)
    if found is None:
        first = next(iter(version.splits), "train")
        url = redact(lake_url(context, context.params.get("lake")))
        out.print(f'Next: in Python, Lake("{url}").dataset("{version}")["{first}"][0]', markup=False)
    else:
        _print_next(html, command_line(context, f"show {version} --stats --html statistics.html"))
