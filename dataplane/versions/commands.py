"""The commands of versions: clone, append, where, diff, lineage, split, tag."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final, cast

import typer
from rich.markup import escape
from rich.table import Table
from rich.tree import Tree

from dataplane.catalog import SplitCount
from dataplane.errors import InvalidArgument
from dataplane.output import BAD_INPUT, AsJson, LakeUrl, emit, err, human_bytes, next_step, open_lake, out
from dataplane.versions import append as append_
from dataplane.versions import clone as clone_
from dataplane.versions import diff as diff_
from dataplane.versions import lineage as lineage_
from dataplane.versions import split as split_
from dataplane.versions import tag as tag_
from dataplane.versions import tags
from dataplane.versions import where as where_
from dataplane.versions.append import OnConflict
from dataplane.versions.diff import DiffResult
from dataplane.versions.lineage import Ancestor
from dataplane.versions.split import By

__all__ = ["append", "clone", "diff", "lineage", "split", "tag", "where"]

_SHOWN: Final = 20  # keys on a terminal

Spec = Annotated[str, typer.Argument(metavar="NAME[@VERSION]", help="A version: NAME is the newest, NAME@7 and NAME@TAG others.")]


def clone(
    context: typer.Context,
    spec: Spec,
    name: Annotated[str, typer.Argument(metavar="NEW", help="The dataset to make.")],
    lake: LakeUrl = None,
    as_json: AsJson = False,
) -> None:
    """Make a new dataset that begins as a version of another. Nothing is copied: a terabyte takes a moment.

    Example: dataplane clone photos@7 mine
    """
    result = clone_(open_lake(context, lake), spec, name)

    def human() -> None:
        made = "shares everything with" if result.committed else "is there already, and shares everything with"
        out.print(f"[bold]{result.name}@{result.version}[/] {made} {result.parent}: {result.samples:,} samples.")
        next_step(context, f"where {result.name} \"label = '…'\"")

    emit(result.to_json(), as_json=as_json, human=human)


def append(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The dataset that gets a next version; made if it is missing.")],
    spec: Annotated[str, typer.Argument(metavar="OTHER[@VERSION]", help="The version whose samples are added.")],
    *,
    on_conflict: Annotated[
        str,
        typer.Option(
            metavar="error|skip|replace",
            help="What to do with keys that are there with other content: fail, keep the old sample, or take the new one.",
            autocompletion=lambda: ["error", "skip", "replace"],
        ),
    ] = "error",
    new_keys: Annotated[
        bool, typer.Option("--new-keys", help="No key is in both, you say: then none are compared, and it costs one commit.")
    ] = False,
    lake: LakeUrl = None,
    as_json: AsJson = False,
) -> None:
    """Add the samples of a version of another dataset. Shards are shared, nothing is copied.

    Example: dataplane append all photos@7 --on-conflict skip
    """
    with _working("comparing keys"):
        result = append_(open_lake(context, lake), name, spec, on_conflict=cast(OnConflict, on_conflict), new_keys=new_keys)

    def human() -> None:
        label = f"[bold]{result.name}@{result.version}[/]"
        counts = f"{result.samples:,} samples: {result.added:,} added, {result.replaced:,} replaced, {result.skipped:,} were there already"
        out.print(f"{label}: {counts}." if result.committed else f"Nothing to do: {label} has all of {spec} already.")
        next_step(context, f"lineage {result.name}")

    emit(result.to_json(), as_json=as_json, human=human)


def where(
    context: typer.Context,
    spec: Spec,
    condition: Annotated[
        str | None, typer.Argument(metavar="[CONDITION]", help="What is true of the samples wanted, in SQL.", show_default=False)
    ] = None,
    *,
    to: Annotated[
        str | None, typer.Option(metavar="NEW", help="Commit them as this dataset. Default: only count.", show_default=False)
    ] = None,
    keys: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Only samples whose key is in this file, one on each line.", show_default=False)
    ] = None,
    lake: LakeUrl = None,
    as_json: AsJson = False,
) -> None:
    """Select samples by their metadata: count them, or make them a dataset that shares the shards.

    The condition is one expression of DuckDB's SQL over key, label, width, height, bytes, source, split and what other columns there are.
    Exit code 3 when a key of --keys is not there.

    Example: dataplane where photos "label in ('cat', 'dog') and width >= 256" --to pets
    """
    with _working("looking through metadata"):
        result = where_(open_lake(context, lake), spec, condition, to=to, keys=keys)

    def human() -> None:
        if result.name is None:
            out.print(f"{result.samples:,} samples of {result.of} match.", markup=False)
        else:
            same = "" if result.committed else ", as it was"
            out.print(f"[bold]{result.name}@{result.version}[/]: {result.samples:,} samples of {result.of}{same}.")
        _print_splits(result.splits)
        if result.missing:
            out.print(f"[yellow]{len(result.missing):,} keys are not there[/]:")
            _print_keys(result.missing, len(result.missing))
        after = f"show {result.name}" if result.name else f"where {spec} … --to NEW"
        next_step(context, after)

    emit(result.to_json(), as_json=as_json, human=human)
    if result.missing:
        raise typer.Exit(BAD_INPUT)


def diff(
    context: typer.Context,
    a: Annotated[str, typer.Argument(metavar="NAME[@VERSION]", help="The version to start from.")],
    b: Annotated[str, typer.Argument(metavar="OTHER[@VERSION]", help="The version to compare with it.")],
    *,
    limit: Annotated[int, typer.Option(metavar="N", help="Name at most so many keys of each kind.")] = 100,
    lake: LakeUrl = None,
    as_json: AsJson = False,
) -> None:
    """Say which samples were added, removed and changed from one version to another, and what changed about the schema.

    Example: dataplane diff photos@7 photos
    """
    with _working("comparing keys"):
        result = diff_(open_lake(context, lake), a, b, limit=limit)
    emit(result.to_json(), as_json=as_json, human=lambda: _print_diff(context, result))


def lineage(
    context: typer.Context,
    spec: Spec,
    limit: Annotated[int, typer.Option(metavar="N", help="Go back over at most so many versions.")] = 1000,
    lake: LakeUrl = None,
    as_json: AsJson = False,
) -> None:
    """Show where a version comes from: every version it was made of, by which operation, of what source.

    Example: dataplane lineage pets@2
    """
    ancestors = lineage_(open_lake(context, lake), spec, limit=limit)

    def human() -> None:
        out.print(_tree(ancestors), soft_wrap=False)
        out.print("Each version was made of the one below it, and of those indented under it.")
        next_step(context, f"show {ancestors[0].version}")

    emit([each.to_json() for each in ancestors], as_json=as_json, human=human)


def split(
    context: typer.Context,
    spec: Spec,
    splits: Annotated[str, typer.Argument(metavar="NAME=FRACTION,…", help="The splits; the fractions add up to 1.")],
    *,
    by: Annotated[
        str,
        typer.Option(
            metavar="hash|stratified|group|time",
            help="What decides: the key's hash, exact proportions per label, groups that stay together, or ascending time.",
            autocompletion=lambda: ["hash", "stratified", "group", "time"],
        ),
    ] = "hash",
    group_by: Annotated[
        str | None,
        typer.Option(metavar="REGEX", help="With group: what its group matches in the source's path stays together.", show_default=False),
    ] = None,
    column: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="The metadata column for stratified, group or time.", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Another number, other hashes.")] = 0,
    to: Annotated[
        str | None, typer.Option(metavar="NEW", help="Commit as this dataset. Default: the next version of NAME.", show_default=False)
    ] = None,
    lake: LakeUrl = None,
    as_json: AsJson = False,
) -> None:
    """Put the samples of a version into other splits. Shards are shared, nothing is copied.

    Example: dataplane split photos train=0.8,val=0.1,test=0.1 --by stratified
    """
    with _working("splitting"):
        result = split_(open_lake(context, lake), spec, splits, by=cast(By, by), group_by=group_by, column=column, seed=seed, to=to)

    def human() -> None:
        label = f"[bold]{result.name}@{result.version}[/]"
        out.print(f"{label}:" if result.committed else f"Nothing to do: {label} has these splits already.")
        _print_splits(result.splits)
        next_step(context, f"show {result.name}")

    emit(result.to_json(), as_json=as_json, human=human)


def tag(
    context: typer.Context,
    spec: Spec,
    tag: Annotated[
        str | None, typer.Argument(metavar="[TAG]", help="The tag to set. Without it, tags are listed.", show_default=False)
    ] = None,
    lake: LakeUrl = None,
    as_json: AsJson = False,
) -> None:
    """Give a version a name that can be moved to another later; or list the tags of a dataset.

    Example: dataplane tag photos@7 prod
    """
    opened = open_lake(context, lake)
    if tag is None:
        _list_tags(context, tags(opened, _plain_name(spec)), spec, as_json=as_json)
        return
    result = tag_(opened, spec, tag)

    def human() -> None:
        out.print(f"[bold]{result.name}@{result.tag}[/] is {result.name}@{result.version}.")
        next_step(context, f"show {result.name}@{result.tag}")

    emit(result.to_json(), as_json=as_json, human=human)


def _plain_name(spec: str) -> str:
    if "@" in spec:
        raise InvalidArgument(f"give a tag for {spec}, or just the name of a dataset to list its tags")
    return spec


def _list_tags(context: typer.Context, found: Mapping[str, int], name: str, *, as_json: bool) -> None:
    def human() -> None:
        table = Table("tag", "version")
        for each, number in found.items():
            table.add_row(each, str(number))
        out.print(table if found else f"{name} has no tags yet.")
        next_step(context, f"tag {name}@1 TAG")

    emit({"name": name, "tags": dict(found)}, as_json=as_json, human=human)


@contextmanager
def _working(what: str) -> Iterator[None]:
    with err.status(what):
        yield


def _print_splits(splits: Mapping[str, SplitCount]) -> None:
    table = Table("split", "samples", "shards", "bytes")
    for name, count in splits.items():
        table.add_row(name, f"{count.samples:,}", f"{count.shards:,}", human_bytes(count.bytes))
    out.print(table)


def _print_keys(keys: Sequence[str], count: int) -> None:
    for key in keys[:_SHOWN]:
        out.print(f"  {_one_line(key)}", markup=False)
    if count > _SHOWN:
        out.print(f"  … and {count - min(_SHOWN, len(keys)):,} more; --json lists more")


def _print_diff(context: typer.Context, result: DiffResult) -> None:
    out.print(f"[bold]{result.a}[/] → [bold]{result.b}[/]: {result.samples[0]:,} → {result.samples[1]:,} samples")
    if result.same:
        out.print("They hold the same.")
    for kind, count in (("added", result.added), ("removed", result.removed), ("changed", result.changed)):
        if count:
            why = ", ".join(f"{name} of {n:,}" for name, n in result.changes.items() if n) if kind == "changed" else ""
            out.print(f"{count:,} {kind}{f' ({why})' if why else ''}:")
            _print_keys(result.keys[kind], count)
    for name, names in result.schema.to_json().items():
        if names:
            out.print(f"{name.replace('_', ' ')}: {', '.join(names)}", markup=False)
    next_step(context, f"lineage {result.b}")


def _one_line(text: str) -> str:
    """`text` without what would move a terminal's cursor."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _tree(ancestors: Sequence[Ancestor]) -> Tree:
    """First parents one below the other, others indented under the version they went into; each version once."""
    known = {each.version: each for each in ancestors}
    root = Tree("", hide_root=True, guide_style="dim")
    todo, shown = [(root, ancestors[0].version)], set[str]()
    while todo:
        under, version = todo.pop(0)
        ancestor = known.get(version)
        if ancestor is None or version in shown:
            under.add(f"{version} [dim](not gone back over)[/]" if ancestor is None else f"{version} [dim](told of above)[/]")
            continue
        shown.add(version)
        node = under.add(_line(ancestor))
        if ancestor.parents:
            first, *others = ancestor.parents
            todo[:0] = [*((node, other) for other in others), (under, first)]
    return root


def _line(ancestor: Ancestor) -> str:
    if ancestor.operation is None:
        return f"{ancestor.version} [red]gone[/]"
    when = f"{ancestor.created:%Y-%m-%d %H:%M}" if ancestor.created else ""
    told: dict[str, Any] = {
        name: value for name, value in ancestor.parameters.items() if value is not None and name not in {"source", "source_id"}
    }
    what = ", ".join(f"{name}={value}" for name, value in told.items())
    source = f" of {_one_line(str(ancestor.source))}" if ancestor.source else ""
    gone = " [red]gone[/]" if ancestor.gone else ""
    head = f"[bold]{ancestor.version}[/]{gone} {escape(ancestor.operation + source)}: {ancestor.samples or 0:,} samples"
    return f"{head} [dim]{when}, {escape(ancestor.tool or '')}{escape(', ' + _one_line(what)) if what else ''}[/]"
