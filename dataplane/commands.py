"""The commands of the storage layer: init, ls, show, log, verify. `ingest` has a module of its own."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.table import Table

from dataplane.catalog import Version
from dataplane.ingest.command import ingest
from dataplane.lake import Lake
from dataplane.output import FAILED, AsJson, LakeUrl, emit, err, human_bytes, lake_url, open_lake, out
from dataplane.verify import verify_lake

__all__ = ["ingest", "init", "log", "ls", "show", "verify"]

Spec = Annotated[str, typer.Argument(metavar="NAME[@VERSION]", help="A dataset: NAME is its newest version, NAME@7 and NAME@TAG others.")]


def init(context: typer.Context, lake: LakeUrl = None, as_json: AsJson = False) -> None:
    """Make a lake, or check the one that is there. (`ingest` makes one by itself.)"""
    made = Lake.init(lake_url(context, lake))

    def human() -> None:
        out.print(f"{made.url} is a lake with id {made.id}.", markup=False)
        out.print(f"Next: dataplane --lake {made.url} ingest FOLDER NAME", markup=False)

    emit({"lake": made.url, "id": made.id}, as_json=as_json, human=human)


def ls(context: typer.Context, lake: LakeUrl = None, as_json: AsJson = False) -> None:
    """List the datasets: newest version, samples, bytes."""
    opened = open_lake(context, lake)
    versions = [opened.catalog.version(name) for name in opened.datasets()]

    def human() -> None:
        table = Table("dataset", "version", "samples", "bytes", "created")
        for v in versions:
            table.add_row(v.name, str(v.number), f"{v.samples:,}", human_bytes(v.bytes), f"{v.created:%Y-%m-%d %H:%M}")
        out.print(table if versions else f"{opened.url} has no datasets yet.", markup=False)
        out.print("Next: dataplane show NAME" if versions else "Next: dataplane ingest FOLDER NAME")

    emit([_summary(v) for v in versions], as_json=as_json, human=human)


def show(context: typer.Context, spec: Spec, lake: LakeUrl = None, as_json: AsJson = False) -> None:
    """Show a version: its splits, fields, classes, bad samples and where it came from."""
    version = open_lake(context, lake).catalog.version(spec)
    document = {
        "name": version.name,
        "version": version.number,
        "created": version.created.isoformat(),
        "splits": {name: count.to_json() for name, count in version.splits.items()},
        "fields": version.schema.to_json()["fields"],
        "classes": list(version.schema.classes),
        "lineage": dict(version.lineage),
        "bad": dict(version.bad),
    }
    emit(document, as_json=as_json, human=lambda: _print_version(version))


def log(
    context: typer.Context, name: Annotated[str, typer.Argument(help="A dataset.")], lake: LakeUrl = None, as_json: AsJson = False
) -> None:
    """List the versions of a dataset, newest first: when, what was done, how many samples."""
    catalog = open_lake(context, lake).catalog
    newest = catalog.version(name).number
    versions = [catalog.version(f"{name}@{number}") for number in range(newest, 0, -1)]

    def human() -> None:
        table = Table("version", "created", "operation", "samples", "bytes", "bad")
        for v in versions:
            what = str(v.lineage["operation"])
            table.add_row(
                str(v.number), f"{v.created:%Y-%m-%d %H:%M:%S}", what, f"{v.samples:,}", human_bytes(v.bytes), str(v.bad.get("count", 0))
            )
        out.print(table)
        out.print(f"Next: dataplane show {name}@{newest}")

    rows = [{**_summary(v), "created": v.created.isoformat(), "operation": v.lineage["operation"]} for v in versions]
    emit(rows, as_json=as_json, human=human)


def verify(
    context: typer.Context,
    spec: Annotated[
        str | None, typer.Argument(metavar="[NAME[@VERSION]]", help="Only this dataset or version. Default: the whole lake.")
    ] = None,
    lake: LakeUrl = None,
    as_json: AsJson = False,
) -> None:
    """Read every object and check its digest, every index, every commit. Exit code 1 when something is damaged or missing."""
    opened = open_lake(context, lake)
    with err.status("verifying") as status:
        report = verify_lake(opened, spec, progress=lambda done: status.update(f"verifying: {done} objects"))

    def human() -> None:
        for problem in report.problems:
            out.print("[red]damaged[/]", end=" ")
            out.print(f"{problem.object}: {problem.reason}", markup=False)
        verdict = "[green]all good[/]" if report.ok else f"[red]{len(report.problems)} problems[/]"
        out.print(f"{report.objects:,} objects, {human_bytes(report.bytes)} read: {verdict}.")

    emit(report.to_json(), as_json=as_json, human=human)
    if not report.ok:
        raise typer.Exit(FAILED)


def _summary(version: Version) -> dict[str, Any]:
    return {"name": version.name, "version": version.number, "samples": version.samples, "bytes": version.bytes}


def _print_version(version: Version) -> None:
    out.print(f"[bold]{version}[/], {version.created:%Y-%m-%d %H:%M:%S} UTC: {version.samples:,} samples, {human_bytes(version.bytes)}")
    table = Table("split", "samples", "shards", "bytes")
    for name, count in version.splits.items():
        table.add_row(name, f"{count.samples:,}", f"{count.shards:,}", human_bytes(count.bytes))
    out.print(table)
    out.print("fields: " + ", ".join(f"{field.name} ({field.kind})" for field in version.schema.fields), markup=False)
    classes = version.schema.classes
    if classes:
        out.print(f"{len(classes)} classes: {', '.join(classes[:12])}{' …' if len(classes) > 12 else ''}", markup=False)
    if version.bad.get("count"):
        out.print(f"[yellow]{version.bad['count']} bad samples were left out[/]; --json lists them")
    out.print(f"from: {version.lineage['operation']} {version.lineage['parameters']}", markup=False)
    first = next(iter(version.splits), "train")
    out.print(f'Next: in Python, Lake("…").dataset("{version}")["{first}"][0]', markup=False)
