"""The commands that remove, clean and check: rm, expire, gc, usage, verify."""

from __future__ import annotations

import re
import sys
from datetime import timedelta
from typing import Annotated, Final

import typer
from rich.table import Table

from dataplane.errors import InvalidArgument
from dataplane.output import FAILED, AsJson, LakeUrl, counted, emit, err, human_bytes, next_step, open_lake, out
from dataplane.upkeep.collector import GRACE_SECONDS, JOURNAL_DAYS, GcReport
from dataplane.upkeep.collector import gc as collect
from dataplane.upkeep.expire import ExpireResult
from dataplane.upkeep.expire import expire as expire_versions
from dataplane.upkeep.expire import rm as remove
from dataplane.upkeep.usage import UsageReport
from dataplane.upkeep.usage import usage as count_usage
from dataplane.upkeep.verify import Report, verify_lake

__all__ = ["expire", "gc", "parse_duration", "rm", "usage", "verify"]

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhdw])\Z")
_KINDS: Final = {"datasets": "dataset", "runs": "run", "models": "model", "writers": "writer"}
_SAFE_SECONDS: Final = 15 * 60.0

DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done; change nothing.")]
KeepUsed = Annotated[
    bool, typer.Option("--keep-used/--no-keep-used", help="Whether versions stay that runs and models name, with their objects.")
]


def parse_duration(text: str) -> timedelta:
    """ "30d" → 30 days. Units: s, m, h, d, w. Raises `InvalidArgument`."""
    match = _DURATION.match(text.strip())
    if not match:
        raise InvalidArgument(f"{text!r} is no length of time; write a number and a unit: 90s, 15m, 12h, 30d, 4w")
    return timedelta(seconds=float(match[1]) * _UNITS[match[2]])


def rm(
    context: typer.Context,
    spec: Annotated[str, typer.Argument(metavar="NAME[@NUMBER]", help="A dataset with all its versions, or one version.")],
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    keep_used: KeepUsed = True,
    dry_run: DryRun = False,
    lake: LakeUrl = None,
    as_json: AsJson = False,
) -> None:
    """Remove a dataset, or one version of it. The bytes go with `dataplane gc`, as far as nothing else names them.

        dataplane rm photos

        dataplane rm photos@3 --yes

    It is a commit, so it appears in `dataplane log`, and others see it at once. A new dataset can be made under the name.
    """
    opened = open_lake(context, lake)
    planned = remove(opened, spec, keep_used=keep_used, dry_run=True)
    if dry_run:
        result = planned
    else:
        if not yes:
            _ask(planned)
        result = remove(opened, spec, keep_used=keep_used)
    emit(result.to_json(), as_json=as_json, human=lambda: _print_expired(context, result))


def expire(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="A dataset.")],
    *,
    keep_last: Annotated[int | None, typer.Option("--keep-last", metavar="N", help="The N newest versions stay.")] = None,
    older_than: Annotated[
        str | None, typer.Option("--older-than", metavar="TIME", help="Only versions made that long ago go: 12h, 30d, 4w.")
    ] = None,
    keep_tagged: Annotated[bool, typer.Option("--keep-tagged/--no-keep-tagged", help="Whether versions stay that a tag names.")] = True,
    keep_used: KeepUsed = True,
    dry_run: DryRun = False,
    lake: LakeUrl = None,
    as_json: AsJson = False,
) -> None:
    """Expire old versions of a dataset. The newest always stays; the bytes go with `dataplane gc`.

        dataplane expire photos --keep-last 5

        dataplane expire photos --older-than 30d --dry-run

    With both, a version goes only if both allow it.
    """
    age = None if older_than is None else parse_duration(older_than)
    result = expire_versions(
        open_lake(context, lake),
        name,
        keep_last=keep_last,
        older_than=age,
        keep_tagged=keep_tagged,
        keep_used=keep_used,
        dry_run=dry_run,
    )
    emit(result.to_json(), as_json=as_json, human=lambda: _print_expired(context, result))


def gc(
    context: typer.Context,
    *,
    dry_run: DryRun = False,
    grace: Annotated[
        str, typer.Option("--grace", metavar="TIME", help="Younger objects stay: a writer may be about to name them.")
    ] = f"{GRACE_SECONDS / 3600:.0f}h",
    journals: Annotated[
        str, typer.Option("--journals", metavar="TIME", help="How long a killed ingest can be resumed without doing its work again.")
    ] = f"{JOURNAL_DAYS:.0f}d",
    lake: LakeUrl = None,
    as_json: AsJson = False,
) -> None:
    """Delete the objects that no version, run, model or tag names, and end uploads that nobody finished. Safe at any time.

        dataplane gc --dry-run

        dataplane gc

    Killed at any moment, the next run finishes the work. With `--grace 0s` nobody else may be writing to the lake.
    """
    seconds = parse_duration(grace).total_seconds()
    days = parse_duration(journals) / timedelta(days=1)
    if seconds < _SAFE_SECONDS and not dry_run:
        err.print(f"[yellow]a grace of {grace}: safe only while nobody writes to the lake[/]")
    with err.status("collecting garbage") as status:
        report = collect(
            open_lake(context, lake),
            dry_run=dry_run,
            grace_seconds=seconds,
            journal_days=days,
            progress=lambda stage, count: status.update(f"{stage}: {count:,} objects" if count else stage),
        )
    emit(report.to_json(), as_json=as_json, human=lambda: _print_collected(context, report))


def usage(context: typer.Context, lake: LakeUrl = None, as_json: AsJson = False) -> None:
    """Show where the bytes are: by dataset, its own and shared with others; runs, models and garbage.

        dataplane usage

    "Its own" is what removing it would free.
    """
    with err.status("counting") as status:
        report = count_usage(open_lake(context, lake), progress=lambda count: status.update(f"counting: {count:,} objects"))
    emit(report.to_json(), as_json=as_json, human=lambda: _print_usage(context, report))


def verify(
    context: typer.Context,
    spec: Annotated[
        str | None, typer.Argument(metavar="[NAME[@VERSION]]", help="Only this dataset or version. Default: the whole lake.")
    ] = None,
    *,
    deep: Annotated[bool, typer.Option("--deep", help="Also read every sample through its format, adopted ones included.")] = False,
    repair: Annotated[
        str | None,
        typer.Option("--repair", metavar="FROM", help="Put back what is damaged from here: a copy of the lake, or objects."),
    ] = None,
    lake: LakeUrl = None,
    as_json: AsJson = False,
) -> None:
    """Read every object and check its digest, every index, every commit. Exit code 1 when something is damaged or missing.

    dataplane verify photos

    dataplane verify --deep --repair s3://backup/lake
    """
    opened = open_lake(context, lake)
    with err.status("verifying") as status:
        report = verify_lake(opened, spec, deep=deep, repair=repair, progress=lambda done: status.update(f"verifying: {done} objects"))
    emit(report.to_json(), as_json=as_json, human=lambda: _print_verified(context, report))
    if not report.ok:
        raise typer.Exit(FAILED)


def _ask(planned: ExpireResult) -> None:
    versions = counted(len(planned.expired), "version")
    what = f"the dataset {planned.name} with {versions}" if planned.removed else f"{planned.name}@{planned.expired[0]}"
    if not sys.stdin.isatty():
        raise InvalidArgument(f"this would remove {what}; say --yes where nobody can be asked")
    if not typer.confirm(f"Remove {what}?", err=True):
        raise InvalidArgument("nothing was removed")


def _print_expired(context: typer.Context, result: ExpireResult) -> None:
    numbers = ", ".join(map(str, result.expired))
    if result.removed:
        out.print(f"The dataset {result.name} {'would be' if result.dry_run else 'is'} removed (versions {numbers}).", markup=False)
    elif result.expired:
        verb = "would be" if result.dry_run else "is" if len(result.expired) == 1 else "are"
        out.print(f"{result.name}: version{'s' * (len(result.expired) > 1)} {numbers} {verb} expired.", markup=False)
    else:
        out.print(f"{result.name}: nothing to expire.", markup=False)
    for kept in result.kept:
        stays = "its objects stay" if result.removed else "it stays"
        out.print(f"{result.name}@{kept.version} is named by {kept.reason}: {stays}.", markup=False)
    if result.version:
        next_step(context, "gc --dry-run")


def _print_collected(context: typer.Context, report: GcReport) -> None:
    verb = "would be deleted" if report.dry_run else "deleted"
    out.print(f"{counted(report.objects, 'object')}, {human_bytes(report.bytes)}: {verb}; {report.kept_objects:,} are in use.")
    if report.young_objects:
        out.print(f"{report.young_objects:,} more, {human_bytes(report.young_bytes)}: nothing names them, but they are too young to go.")
    if report.journals or report.litter:
        out.print(f"{counted(report.journals, 'journal')} of dead writers and {counted(report.litter, 'left-over file')}: {verb}.")
    if report.uploads:
        verb = "would be aborted" if report.dry_run else "aborted"
        out.print(f"{counted(report.uploads, 'unfinished upload')}, {human_bytes(report.upload_bytes)}: {verb}.")
    if report.uploads_unknown:
        out.print(f"There may be more unfinished uploads: {report.uploads_unknown}", markup=False)
    for version, who in sorted(report.held.items()):
        out.print(f"The objects of {version}, which is expired, stay for {who}.", markup=False)
    if report.dry_run and (report.objects or report.uploads):
        next_step(context, "gc")


def _print_usage(context: typer.Context, report: UsageReport) -> None:
    table = Table("", "name", "bytes", "its own", "shared", "objects")
    for user in report.users:
        sizes = [human_bytes(size) for size in (user.bytes, user.unique_bytes, user.shared_bytes)]
        table.add_row(_KINDS[user.kind], user.name, *sizes, f"{user.objects:,}")
    table.add_row("garbage", "", human_bytes(report.garbage_bytes), "", "", f"{report.garbage_objects:,}")
    table.add_row("[bold]all[/]", "", human_bytes(report.bytes), "", "", f"{report.objects:,}")
    out.print(table)
    if report.garbage_objects:
        next_step(context, "gc --dry-run")


def _print_verified(context: typer.Context, report: Report) -> None:
    for path in report.repaired or ():
        out.print("[green]repaired[/]", end=" ")
        out.print(path, markup=False)
    for problem in report.problems:
        out.print("[red]damaged[/]", end=" ")
        out.print(f"{problem.object}: {problem.reason}", markup=False)
    verdict = "[green]all good[/]" if report.ok else f"[red]{counted(len(report.problems), 'problem')}[/]"
    adopted = f", and {report.adopted:,} adopted ones looked at" if report.adopted else ""
    out.print(f"{counted(report.objects, 'object')}, {human_bytes(report.bytes)} read{adopted}: {verdict}.")
    if not report.ok and report.repaired is None:
        next_step(context, "verify --repair COPY")
