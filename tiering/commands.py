"""`dataplane tier …`: look at the tiers of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dataplane.errors import InvalidArgument, NotFound, StoreError
from dataplane.output import AsJson, emit, human_bytes, out
from tiering.directory import Directory
from tiering.layout import Layout, Unusable
from tiering.stats import Counters, HotStats

__all__ = ["app"]

app = typer.Typer(name="tier", no_args_is_help=True, help="Look at the hot tier of this machine.")


@app.callback()
def _group() -> None:
    """Look at the hot tier of this machine."""


@app.command()
def status(
    hot: Annotated[
        str | None, typer.Option("--hot", envvar="DATAPLANE_HOT", metavar="DIR", help="The hot tier's folder.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what a hot tier holds, its limit, and how often reads found what they wanted there."""
    if not hot:
        raise InvalidArgument("which hot tier? Give --hot DIR, or set DATAPLANE_HOT")
    stats = _stats(Path(hot))

    def human() -> None:
        reads = stats.hits + stats.misses
        out.print(f"hot tier {hot}")
        out.print(f"  holds     {stats.objects:,} objects, {human_bytes(stats.bytes)} of {human_bytes(stats.limit_bytes)}")
        out.print(
            f"  reads     {reads:,}, of which {stats.hits:,} hits ({stats.hits / max(reads, 1):.1%}), {stats.fallthroughs:,} fell through"
        )
        out.print(f"  bytes     {human_bytes(stats.hot_bytes)} from hot, {human_bytes(stats.cold_bytes)} from cold")
        out.print(f"  objects   {stats.fills:,} came in, {stats.evictions:,} evicted, {stats.corrupt:,} found damaged")
        out.print("Running jobs report every few seconds.")

    emit({"tiers": [{"name": "hot", "directory": str(hot), **stats.to_json()}]}, as_json=as_json, human=human)


def _stats(root: Path) -> HotStats:
    try:
        if not Layout(root).exists():
            raise NotFound(f"{root} is not a hot tier; one is made by the first job that reads through Hot({str(root)!r}, limit=…)")
        directory = Directory(root, limit_bytes=None, counters=Counters(), last_read=dict)
        try:
            return directory.stats()
        finally:
            directory.close()
    except Unusable as error:
        raise StoreError(f"the hot tier in {root} cannot be read ({error}); check the owner and the mode of the folder") from error
