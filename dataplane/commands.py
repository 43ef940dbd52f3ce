"""The first commands of the storage layer: init, ls, log. The others lie beside what they do."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.table import Table

from dataplane.catalog import Catalog, Version
from dataplane.errors import CorruptObject, FormatTooNew
from dataplane.lake import Lake
from dataplane.output import FAILED, AsJson, LakeUrl, emit, human_bytes, lake_url, next_step, open_lake, out

__all__ = ["init", "log", "ls"]


def init(context: typer.Context, lake: LakeUrl = None, as_json: AsJson = False) -> None:
    """Make a lake, or check the one that is there. (`ingest` makes one by itself.)"""
    made = Lake.init(lake_url(context, lake))

    def human() -> None:
        out.print(f"{made.url} is a lake with id {made.id}.", markup=False)
        next_step(context, "ingest FOLDER NAME")

    emit({"lake": made.url, "id": made.id}, as_json=as_json, human=human)


def ls(context: typer.Context, lake: LakeUrl = None, as_json: AsJson = False) -> None:
    """List the datasets: newest version, samples, bytes. Exit code 1 when that of one cannot be read; the others are listed."""
    opened = open_lake(context, lake)
    newest = {name: _newest(opened.catalog, name) for name in opened.datasets()}
    versions = [version for version in newest.values() if isinstance(version, Version)]
    unreadable = {name: str(error) for name, error in newest.items() if not isinstance(error, Version)}

    def human() -> None:
        table = Table("dataset", "version", "samples", "bytes", "created")
        for v in versions:
            table.add_row(v.name, str(v.number), f"{v.samples:,}", human_bytes(v.bytes), f"{v.created:%Y-%m-%d %H:%M}")
        if versions or not unreadable:
            out.print(table if versions else f"{opened.url} has no datasets yet.", markup=False)
        for name, error in unreadable.items():
            out.print("[red]unreadable[/]", end=" ")
            out.print(f"{name}: {error}", markup=False)
        next_step(context, "verify" if unreadable else "show NAME" if versions else "ingest FOLDER NAME")

    rows = [_summary(v) if isinstance(v, Version) else {"name": name, "error": unreadable[name]} for name, v in newest.items()]
    emit(rows, as_json=as_json, human=human)
    if unreadable:
        raise typer.Exit(FAILED)


def log(
    context: typer.Context, name: Annotated[str, typer.Argument(help="A dataset.")], lake: LakeUrl = None, as_json: AsJson = False
) -> None:
    """List the versions of a dataset, newest first: when, what was done, how many samples. Expired ones are marked."""
    history = list(open_lake(context, lake).catalog.history(name))

    def human() -> None:
        table = Table("version", "created", "operation", "samples", "bytes", "bad")
        for v, there in history:
            what = str(v.lineage["operation"])
            numbers = [f"{v.samples:,}", human_bytes(v.bytes), str(v.bad.get("count", 0))] if there else ["expired", "", ""]
            table.add_row(str(v.number), f"{v.created:%Y-%m-%d %H:%M:%S}", what, *numbers, style=None if there else "dim")
        out.print(table)
        next_step(context, f"show {name}@{history[0][0].number}")

    rows = [
        {**_summary(v), "created": v.created.isoformat(), "operation": v.lineage["operation"], "expired": not there} for v, there in history
    ]
    emit(rows, as_json=as_json, human=human)


def _newest(catalog: Catalog, name: str) -> Version | CorruptObject | FormatTooNew:
    """The newest version of a dataset, or why it cannot be read."""
    try:
        return catalog.version(name)
    except (CorruptObject, FormatTooNew) as error:
        return error


def _summary(version: Version) -> dict[str, Any]:
    return {"name": version.name, "version": version.number, "samples": version.samples, "bytes": version.bytes}
