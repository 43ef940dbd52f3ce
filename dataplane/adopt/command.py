"""The command `dataplane adopt`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Annotated, Final, cast

import typer
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table

from dataplane.adopt.options import AdoptOptions, AdoptResult, Format, Progress
from dataplane.errors import BadSources
from dataplane.ingest.telling import print_bad
from dataplane.output import (
    BAD_INPUT,
    INTERRUPTED,
    AsJson,
    LakeUrl,
    command_line,
    emit,
    err,
    human_bytes,
    lake_url,
    next_step,
    out,
    report_error,
    report_interrupt,
)

__all__ = ["adopt"]

_DEFAULTS: Final = AdoptOptions()

Watch = Callable[[Progress], None]


def adopt(
    context: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            metavar="SRC", help="A file, a folder, a URL, or a pattern in quotes: 's3://bucket/x-{000..127}.tar', 'data/**/*.parquet'."
        ),
    ],
    name: Annotated[str, typer.Argument(metavar="NAME", help="The dataset that the objects become shards of.")],
    *,
    split: Annotated[str, typer.Option(metavar="NAME", help="The split of everything.")] = _DEFAULTS.split,
    split_from: Annotated[
        str | None,
        typer.Option(metavar="REGEX", help="The split is what the group of this pattern matches in each URL.", show_default=False),
    ] = _DEFAULTS.split_from,
    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="tar|parquet|zarr",
            help="Take only objects of this format. Default: all, which must be of one.",
            autocompletion=lambda: ["tar", "parquet", "zarr"],
            show_default=False,
        ),
    ] = _DEFAULTS.format,
    key: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="The column of Parquet files that holds the keys. Default: FILE#ROW.", show_default=False),
    ] = _DEFAULTS.key,
    prefix: Annotated[bool, typer.Option("--prefix", help="Put the object's URL before each key: where keys repeat.")] = _DEFAULTS.prefix,
    columns: Annotated[
        str, typer.Option(metavar="A,B,…", help="Columns of Parquet files that become metadata, to filter by; they are read now.")
    ] = "",
    label_from_field: Annotated[
        str | None, typer.Option(metavar="FIELD", help="Read this small field of text (such as cls) as the label.", show_default=False)
    ] = _DEFAULTS.label_from_field,
    verify: Annotated[bool, typer.Option("--verify", help="Read everything once, and record checksums.")] = _DEFAULTS.verify,
    strict: Annotated[bool, typer.Option("--strict", help="Fail before committing when anything is bad.")] = _DEFAULTS.strict,
    workers: Annotated[
        int | None,
        typer.Option(metavar="N", help="Objects that are scanned side by side. Default: 32, 8 at most on local disks.", show_default=False),
    ] = _DEFAULTS.workers,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
    lake: LakeUrl = None,
    as_json: AsJson = False,
) -> None:
    """Make tars (WebDataset), Parquet files or Zarr arrays a dataset where they lie: nothing is copied.

    Only indexes are written, into the lake; the source may be read-only. For example:

        dataplane adopt 's3://bucket/photos-{000..127}.tar' photos --split train

    Once more, it takes only what is new or has changed.
    """
    wanted = tuple(column.strip() for column in columns.split(",") if column.strip())
    options = AdoptOptions(split, split_from, cast("Format | None", form), key, prefix, wanted, label_from_field, verify, strict, workers)
    shown = err.is_terminal and not quiet and not as_json
    try:
        with _progress_bar() if shown else nullcontext(lambda _: None) as watch:
            result = _run(lake_url(context, lake), source, name, options, watch)
    except BadSources as error:
        if not as_json:
            print_bad(error.bad, what="", rest="all of them: add --json")
        document = [{"source": bad.source, "reason": bad.reason} for bad in error.bad]
        raise typer.Exit(report_error(error, as_json=as_json, more={"bad": document})) from error
    except KeyboardInterrupt:
        report_interrupt("interrupted: nothing was committed; run the same command again", as_json=as_json)
        raise typer.Exit(INTERRUPTED) from None
    emit(result.to_json(), as_json=as_json, human=lambda: _print_result(context, result))
    if result.bad:
        raise typer.Exit(BAD_INPUT)


def _run(lake: str, source: str, name: str, options: AdoptOptions, watch: Watch) -> AdoptResult:
    from dataplane.adopt.run import adopt as run  # loads the compiled scan

    return run(lake, source, name, options=options, watch=watch)


@contextmanager
def _progress_bar() -> Iterator[Watch]:
    """A bar on standard error: how many objects, what was read of them, how long still."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn())
    with Bars(*columns, console=err, transient=True) as bars:
        bar = bars.add_task("listing", total=None, rate="")

        def watch(progress: Progress) -> None:
            if progress.stage == "listing":
                bars.update(bar, rate=f"{progress.objects:,} objects")
            elif progress.stage == "committing":
                bars.update(bar, description="committing")
            elif not progress.objects:
                bars.reset(bar, description="scanning", total=progress.total, rate="")
            else:
                told = f"{progress.objects:,} of {progress.total:,}, {progress.samples:,} samples, {human_bytes(progress.bytes_read)} read"
                bars.update(bar, completed=progress.objects, rate=told)

        yield watch


def _print_result(context: typer.Context, result: AdoptResult) -> None:
    spec = f"{result.name}@{result.version}"
    if result.lake_made:
        out.print(f"Made the lake {result.lake}.", markup=False)
    if result.committed:
        said = ", ".join(f"{count:,} {word}" for word in ("added", "replaced", "kept") if (count := getattr(result, word)))
        read = f"{human_bytes(result.bytes_read)} read"
        out.print(
            f"[bold]{spec}[/]: {result.samples:,} samples in place, objects: {said or 'some dropped'}; {read}, in {result.seconds:.1f} s."
        )
    else:
        out.print(f"Nothing to do: [bold]{spec}[/] has every good object already.")
    table = Table("split", "samples", "shards", "bytes")
    for split, count in result.splits.items():
        table.add_row(split, f"{count.samples:,}", f"{count.shards:,}", human_bytes(count.bytes))
    out.print(table)
    notes = list(result.notes)
    if result.ignored:
        notes.append(f"{result.ignored:,} passed over: hidden files and the like")
    for note in notes:
        out.print(f"Note: {note}.", markup=False)
    listed = command_line(context, f"show {spec} --json")
    print_bad(result.bad, what="", rest=f"all of them: {listed}" if result.committed else "all of them: add --json")
    next_step(context, f"show {result.name}")
