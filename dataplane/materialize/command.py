"""The command `dataplane materialize`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Annotated, Final, cast

import typer
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table

from dataplane.errors import BadSources
from dataplane.ingest.options import Progress, parse_bytes
from dataplane.ingest.telling import print_bad
from dataplane.lake import Lake
from dataplane.materialize.options import Fit, MaterializeOptions, MaterializeResult
from dataplane.output import (
    BAD_INPUT,
    INTERRUPTED,
    AsJson,
    LakeUrl,
    command_line,
    counted,
    emit,
    err,
    human_bytes,
    next_step,
    open_lake,
    out,
    report_error,
    report_interrupt,
)

__all__ = ["materialize"]

_DEFAULTS: Final = MaterializeOptions(size=1)
_PIXELS: Final = "What becomes of a picture"
_WHICH: Final = "Which samples"
_HOW: Final = "How it is done"

Watch = Callable[[Progress], None]


def materialize(
    context: typer.Context,
    spec: Annotated[str, typer.Argument(metavar="NAME[@VERSION]", help="The version whose pictures are decoded.")],
    *,
    size: Annotated[
        int | None,
        typer.Option(metavar="N", help="Every picture becomes N × N pixels, as --fit says.", show_default=False, rich_help_panel=_PIXELS),
    ] = None,
    max_side: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Reduce what has more pixels on its longer side; keep proportions.",
            show_default=False,
            rich_help_panel=_PIXELS,
        ),
    ] = None,
    fit: Annotated[
        str,
        typer.Option(
            metavar="crop|stretch|pad",
            help="With --size: the centre of the picture, all of it in other proportions, or all of it with black beside.",
            autocompletion=lambda: ["crop", "stretch", "pad"],
            rich_help_panel=_PIXELS,
        ),
    ] = _DEFAULTS.fit,
    to: Annotated[
        str | None,
        typer.Option(
            "--as", metavar="NEW", help="The dataset to make. Default: the name and the size, as in photos-256.", show_default=False
        ),
    ] = None,
    split: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only this split. May be given several times.", show_default=False, rich_help_panel=_WHICH),
    ] = None,
    field: Annotated[
        str | None,
        typer.Option(
            metavar="NAME[;NAME…]",
            help="The fields that the pictures are in. Default: all fields of pictures.",
            show_default=False,
            rich_help_panel=_WHICH,
        ),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail before committing when a sample is bad.", rich_help_panel=_WHICH)
    ] = _DEFAULTS.strict,
    max_pixels: Annotated[int, typer.Option(metavar="N", help="Refuse larger pictures.", rich_help_panel=_WHICH)] = _DEFAULTS.max_pixels,
    shard_bytes: Annotated[str, typer.Option(metavar="BYTES", help="The size of a shard.", rich_help_panel=_HOW)] = human_bytes(
        _DEFAULTS.shard_bytes
    ),
    workers: Annotated[
        int | None,
        typer.Option(metavar="N", help="Processes. Default: one a core, none for little work.", show_default=False, rich_help_panel=_HOW),
    ] = _DEFAULTS.workers,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
    lake: LakeUrl = None,
    as_json: AsJson = False,
) -> None:
    """Make a dataset of uint8 pixels, decoded once, for runs that are bound by decoding. Labels, splits and other fields stay.

    Interrupted or killed, it is finished by running the same command again. Once the dataset has grown, so does what was made of it:
    only new samples are decoded. For example:

        dataplane materialize photos --size 256

        dataplane materialize photos@7 --max-side 500 --as photos-small
    """
    splits = tuple(split) if split else None
    options = MaterializeOptions(size, max_side, cast(Fit, fit), field, splits, strict, parse_bytes(shard_bytes), max_pixels, workers)
    shown = err.is_terminal and not quiet and not as_json
    try:
        with _progress_bar() if shown else nullcontext(lambda _: None) as watch:
            result = _run(open_lake(context, lake), spec, to, options, watch)
    except BadSources as error:
        if not as_json:
            print_bad(error.bad, what=_samples(len(error.bad)), rest="all of them: add --json")
        document = [{"source": bad.source, "reason": bad.reason} for bad in error.bad]
        raise typer.Exit(report_error(error, as_json=as_json, more={"bad": document})) from error
    except KeyboardInterrupt:
        report_interrupt("interrupted: what was finished is kept; run the same command again to do the rest", as_json=as_json)
        raise typer.Exit(INTERRUPTED) from None
    emit(result.to_json(), as_json=as_json, human=lambda: _print_result(context, result))
    if result.bad:
        raise typer.Exit(BAD_INPUT)


def _run(lake: Lake, spec: str, to: str | None, options: MaterializeOptions, watch: Watch) -> MaterializeResult:
    from dataplane.materialize.run import materialize as run  # loads the decoders

    return run(lake, spec, options=options, to=to, watch=watch)


@contextmanager
def _progress_bar() -> Iterator[Watch]:
    """A bar on standard error: how many, how fast, how long still."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn())
    with Bars(*columns, console=err, transient=True) as bars:
        bar = bars.add_task("planning", total=None, rate="")

        def watch(progress: Progress) -> None:
            if progress.stage == "committing":
                bars.update(bar, description="committing")
            elif not progress.read:
                bars.reset(bar, description="decoding", total=progress.total, rate="")
            else:
                speed = progress.read / max(1e-3, bars.tasks[0].elapsed or 0)
                rate = f"{progress.samples:,} of {progress.total:,}, {speed:,.0f}/s"
                bars.update(bar, completed=progress.samples, rate=rate)

        yield watch


def _print_result(context: typer.Context, result: MaterializeResult) -> None:
    made = f"[bold]{result.name}@{result.version}[/]"
    if result.committed:
        counts = ", ".join(f"{count:,} {word}" for word in ("added", "replaced", "dropped", "kept") if (count := getattr(result, word)))
        resumed = f", {result.resumed:,} of them made by a run that did not finish" if result.resumed else ""
        out.print(f"{made}, pixels of {result.source}: {result.samples:,} samples, {counts}{resumed}, in {result.seconds:.1f} s.")
    else:
        out.print(f"Nothing to do: {made} has every good picture of {result.source} already.")
    table = Table("split", "samples", "shards", "bytes")
    for split, count in result.splits.items():
        table.add_row(split, f"{count.samples:,}", f"{count.shards:,}", human_bytes(count.bytes))
    out.print(table)
    listed = command_line(context, f"show {result.name}@{result.version} --json")
    rest = f"all of them: {listed}" if result.committed else "all of them: add --json"
    print_bad(result.bad, what=_samples(len(result.bad)), rest=rest)
    next_step(context, f"lineage {result.name}")


def _samples(count: int) -> str:
    return f" {counted(count, 'sample').partition(' ')[2]}"
