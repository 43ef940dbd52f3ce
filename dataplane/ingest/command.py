"""The command `dataplane ingest`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Annotated, Final, cast

import typer
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table

from dataplane.errors import BadSources
from dataplane.formats.options import DEFAULT_CODEC
from dataplane.ingest.options import (
    FORMAT_OF_KIND,
    Bad,
    Check,
    IngestOptions,
    IngestResult,
    Order,
    Progress,
    WantedKind,
    parse_bytes,
    parse_chunks,
)
from dataplane.ingest.telling import of_pictures, print_bad
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
from dataplane.prep.options import DEFAULT_QUALITY, Jpeg, Metadata, Progressive

__all__ = ["ingest"]

_DEFAULTS: Final = IngestOptions()
_CAME_IN: Final = {"pictures": "Pictures", "files": "Files", "tables": "Rows of tables", "text": "Lines of text", "arrays": "Arrays"}
_SHARDS: Final = {"tar": "tar shards", "parquet": "Parquet shards", "zarr": "Zarr shards (vectors and numbers: Parquet)"}

_SAMPLES: Final = "What becomes a sample"
_CHECKS: Final = "What is checked"
_SHARDING: Final = "How samples are stored"
_PICTURES: Final = "What is done to JPEGs"

Watch = Callable[[Progress], None]


def ingest(
    context: typer.Context,
    source: Annotated[str, typer.Argument(metavar="SRC", help="A folder, a file, or the URL of a store: s3://bucket/prefix, …")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="The dataset that the samples go into.")],
    *,
    kind: Annotated[
        str,
        typer.Option(
            metavar="auto|pictures|files|tables|text|arrays",
            help="What the files are: it decides the format of the shards. Default: by their names.",
            autocompletion=lambda: ["auto", "pictures", "files", "tables", "text", "arrays"],
            rich_help_panel=_SAMPLES,
        ),
    ] = _DEFAULTS.kind,
    key: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="Of a table: the column of the keys. Default: the file and the row.",
            show_default=False,
            rich_help_panel=_SAMPLES,
        ),
    ] = _DEFAULTS.key,
    label_from: Annotated[
        str | None,
        typer.Option(
            metavar="folder|csv:FILE|name:REGEX|column:NAME",
            help="Where labels come from. Default: no labels.",
            show_default=False,
            rich_help_panel=_SAMPLES,
        ),
    ] = _DEFAULTS.label_from,
    split: Annotated[
        str,
        typer.Option(
            metavar="NAME=FRACTION,…",
            help="Splits, by a stable hash of the key; the fractions add up to 1.",
            rich_help_panel=_SAMPLES,
        ),
    ] = _DEFAULTS.split,
    group_by: Annotated[
        str | None,
        typer.Option(
            metavar="REGEX", help="What the group of this pattern matches in the path stays in one split.", rich_help_panel=_SAMPLES
        ),
    ] = _DEFAULTS.group_by,
    sync: Annotated[bool, typer.Option("--sync", help="Drop samples whose source went away.", rich_help_panel=_SAMPLES)] = _DEFAULTS.sync,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail before committing when a source is bad.", rich_help_panel=_CHECKS)
    ] = _DEFAULTS.strict,
    check: Annotated[
        str,
        typer.Option(
            metavar="decode|structure",
            help="Decode every picture, or (faster, for trusted data) look only at the header and the end marker.",
            autocompletion=lambda: ["decode", "structure"],
            rich_help_panel=_CHECKS,
        ),
    ] = _DEFAULTS.check,
    max_pixels: Annotated[int, typer.Option(metavar="N", help="Refuse larger pictures.", rich_help_panel=_CHECKS)] = _DEFAULTS.max_pixels,
    shard_bytes: Annotated[str, typer.Option(metavar="BYTES", help="The size of a shard.", rich_help_panel=_SHARDING)] = human_bytes(
        _DEFAULTS.shard_bytes
    ),
    order: Annotated[
        str,
        typer.Option(
            metavar="hash|source",
            help="The order of samples in the shards.",
            autocompletion=lambda: ["hash", "source"],
            rich_help_panel=_SHARDING,
        ),
    ] = _DEFAULTS.order,
    codec: Annotated[
        str,
        typer.Option(
            metavar="NAME[:LEVEL]",
            help="Compression. Of tables and text: zstd, snappy, gzip, none. Of arrays: zstd, blosc, gzip, none.",
            rich_help_panel=_SHARDING,
        ),
    ] = DEFAULT_CODEC,
    row_group: Annotated[
        str,
        typer.Option(
            metavar="BYTES",
            help="Of tables and text: a row group before compression, which is what reading one sample costs.",
            rich_help_panel=_SHARDING,
        ),
    ] = human_bytes(_DEFAULTS.row_group_bytes),
    chunk: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[FIELD=]N,N,…",
            help="Of arrays: the inner chunk, samples first. Without a field: that of .npy files. May be given several times.",
            show_default=False,
            rich_help_panel=_SHARDING,
        ),
    ] = None,
    jpeg: Annotated[
        str,
        typer.Option(
            metavar="index|keep",
            help="Give files restart markers and an index, so that loaders decode just a crop: the pixels stay, the bytes change. "
            "Or store them as they are.",
            autocompletion=lambda: ["index", "keep"],
            rich_help_panel=_PICTURES,
        ),
    ] = _DEFAULTS.jpeg,
    metadata: Annotated[
        str,
        typer.Option(
            metavar="keep|drop",
            help="Of indexed files: EXIF (but for the orientation), profiles, comments, previews.",
            autocompletion=lambda: ["keep", "drop"],
            rich_help_panel=_PICTURES,
        ),
    ] = _DEFAULTS.metadata,
    progressive: Annotated[
        str,
        typer.Option(
            metavar="baseline|keep",
            help="Make progressive files sequential ones, without changing a pixel, which can be indexed. Or store them as they are.",
            autocompletion=lambda: ["baseline", "keep"],
            rich_help_panel=_PICTURES,
        ),
    ] = _DEFAULTS.progressive,
    max_side: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Reduce what has more pixels on its longer side, and encode it anew. Default: nothing is reduced.",
            show_default=False,
            rich_help_panel=_PICTURES,
        ),
    ] = _DEFAULTS.max_side,
    jpeg_quality: Annotated[
        int | None,
        typer.Option(
            metavar="1…100",
            help=f"Encode all anew that get smaller by it. Default: only what --max-side reduces, at {DEFAULT_QUALITY}.",
            show_default=False,
            rich_help_panel=_PICTURES,
        ),
    ] = _DEFAULTS.jpeg_quality,
    workers: Annotated[
        int | None, typer.Option(metavar="N", help="Processes. Default: one a core, none for little work.", show_default=False)
    ] = _DEFAULTS.workers,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
    lake: LakeUrl = None,
    as_json: AsJson = False,
) -> None:
    """Make the files of a folder or a store a new version of a dataset: pictures, other files, tables, text, arrays.

    Interrupted or killed, it is finished by running the same command again. Once more, it changes nothing. For example:

        dataplane ingest ./photos photos --label-from folder --split train=0.9,test=0.1

        dataplane ingest s3://bucket/events events --key id --label-from column:kind

    To use tars, Parquet files or Zarr arrays where they are, without a copy, see: dataplane adopt --help
    """
    options = IngestOptions(
        label_from,
        split,
        group_by,
        parse_bytes(shard_bytes),
        cast(Order, order),
        sync,
        strict,
        cast(Check, check),
        max_pixels,
        workers,
        cast(WantedKind, kind),
        key,
        codec,
        parse_chunks(chunk or ()),
        parse_bytes(row_group),
        cast(Jpeg, jpeg),
        cast(Metadata, metadata),
        cast(Progressive, progressive),
        jpeg_quality,
        max_side,
    )
    shown = err.is_terminal and not quiet and not as_json
    try:
        with _progress_bar() if shown else nullcontext(lambda _: None) as watch:
            result = _run(lake_url(context, lake), source, name, options, watch)
    except BadSources as error:
        if not as_json:
            print_bad(error.bad, what=_files(error.bad), rest="all of them: add --json")
        document = [{"source": bad.source, "reason": bad.reason} for bad in error.bad]
        raise typer.Exit(report_error(error, as_json=as_json, more={"bad": document})) from error
    except KeyboardInterrupt:
        report_interrupt("interrupted: what was finished is kept; run the same command again to do the rest", as_json=as_json)
        raise typer.Exit(INTERRUPTED) from None
    emit(result.to_json(), as_json=as_json, human=lambda: _print_result(context, result))
    if result.bad:
        raise typer.Exit(BAD_INPUT)


def _run(lake: str, source: str, name: str, options: IngestOptions, watch: Watch) -> IngestResult:
    from dataplane.ingest.run import ingest as run  # loads the decoders

    return run(lake, source, name, options=options, watch=watch)


@contextmanager
def _progress_bar() -> Iterator[Watch]:
    """A bar on standard error: how many, how fast, how long still."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn())
    with Bars(*columns, console=err, transient=True) as bars:
        bar = bars.add_task("listing", total=None, rate="")

        def watch(progress: Progress) -> None:
            if progress.stage == "listing":
                bars.update(bar, rate=f"{progress.samples:,} files")
            elif progress.stage == "committing":
                bars.update(bar, description="committing")
            elif not progress.read:  # the clock starts here; what an earlier run did counts for no speed
                bars.reset(bar, description="reading", completed=progress.samples, total=progress.total, rate="")
            else:
                seconds = max(1e-3, bars.tasks[0].elapsed or 0)
                speed = f"{progress.read / seconds:,.0f}/s, {human_bytes(progress.bytes / seconds)}/s"
                bars.update(bar, completed=progress.samples, rate=f"{progress.samples:,} of {progress.total:,}, {speed}")

        yield watch


def _print_result(context: typer.Context, result: IngestResult) -> None:
    spec = f"{result.name}@{result.version}"
    if result.lake_made:
        out.print(f"Made the lake {result.lake}.", markup=False)
    if result.committed:
        out.print(f"[bold]{spec}[/]: {_counts(result)}, in {result.seconds:.1f} s.")
        out.print(f"{_CAME_IN[result.kind]} went into {_SHARDS[FORMAT_OF_KIND[result.kind]]}; another --kind would change that.")
    else:
        out.print(f"Nothing to do: [bold]{spec}[/] has every good file already.")
    _print_splits(result)
    notes = [*result.notes, *of_pictures(result.pictures)]
    if result.ignored:
        notes.append(f"{result.ignored:,} ignored: hidden files and the like")
    if result.renamed:
        notes.append(f"{result.renamed:,} of another format than the name says: they went in as what they are")
    for note in notes:
        out.print(f"Note: {note}.", markup=False)
    listed = command_line(context, f"show {spec} --json")
    print_bad(result.bad, what=_files(result.bad), rest=f"all of them: {listed}" if result.committed else "all of them: add --json")
    next_step(context, f"show {result.name}")


def _counts(result: IngestResult) -> str:
    words = ("added", "replaced", "dropped", "kept")
    said = [f"{count:,} {word}" for word in words if (count := getattr(result, word))]
    if result.resumed:
        said.append(f"{result.resumed:,} of them made by a run that did not finish")
    return f"{result.samples:,} samples, " + ", ".join(said)


def _print_splits(result: IngestResult) -> None:
    table = Table("split", "samples", "shards", "bytes")
    for split, count in result.splits.items():
        table.add_row(split, f"{count.samples:,}", f"{count.shards:,}", human_bytes(count.bytes))
    out.print(table)


def _files(bad: Sequence[Bad]) -> str:
    return " file" if len(bad) == 1 else " files"
