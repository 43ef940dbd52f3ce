"""An ingest from beginning to end: list, plan, take over what a killed run left, read, commit."""

from __future__ import annotations

import os
import time

from dataplane.catalog import check_name
from dataplane.errors import BadSample, NotALake, NotFound
from dataplane.ingest.files import make_files
from dataplane.ingest.job import Job, Tally, Watch
from dataplane.ingest.kinds import detect
from dataplane.ingest.labels import Table, label_file, labels_from
from dataplane.ingest.options import IngestOptions, IngestResult, Kind, Progress
from dataplane.ingest.source import Entry, Listing, Source, open_source
from dataplane.ingest.splits import Splits
from dataplane.ingest.table_run import make_tables
from dataplane.lake import Lake
from dataplane.prep.image import SNIFF_BYTES
from dataplane.store import open_store

__all__ = ["ingest"]


def ingest(
    lake: Lake | str,
    source: str | os.PathLike[str],
    name: str,
    *,
    options: IngestOptions = IngestOptions(),  # noqa: B008  (frozen)
    watch: Watch = lambda _: None,
) -> IngestResult:
    """Make what `source` holds, a folder or the URL of a store, samples of the dataset `name`. The lake is made if it is missing.

    The kind of data decides the format of the shards (`dataplane.ingest.kinds`): pictures and other files go into tars, one file a sample;
    tables and text into Parquet, one row or line a sample; NumPy arrays into Zarr.

    Files that the newest version has already, unchanged, are not read. Where something changes, one new version is committed; bad files
    are listed in it and in the result. Killed at any moment, it leaves a valid lake, and the same call finishes the work. Several processes
    may ingest into one dataset at once. `watch` hears of progress, in the calling thread.

    Raises `BadSources` when there is nothing to make a first version of, or with `strict` when any file is bad; `InvalidArgument`,
    `NotFound`, `StorageFull` and the other errors of the stores.
    """
    began = time.monotonic()
    check_name(name)
    labels, splits = labels_from(options.label_from), Splits.parse(options.split, options.group_by)
    store = lake.store if isinstance(lake, Lake) else open_store(lake)
    beside = label_file(options.label_from)
    opened = open_source(os.fspath(source), apart=[store.url, *([beside] if beside else [])])
    listing = opened.list(lambda count: watch(Progress("listing", count)))
    if not listing.entries and not listing.bad:
        raise NotFound(f"{opened.url} holds no files; give the folder that holds the data")
    kind = _kind(options, opened, listing)
    options.check_format(kind)
    made, lake = (False, lake) if isinstance(lake, Lake) else _open_or_make(lake)
    tally = Tally()
    job = Job(lake, opened, name, options, splits, listing, kind, labels, watch)
    outcome = make_tables(job, tally) if kind in {"tables", "text"} else make_files(job, tally)
    note = labels.note() if isinstance(labels, Table) else None
    return IngestResult(
        lake.url,
        name,
        outcome.version.number,
        outcome.committed,
        outcome.version.splits,
        tally.listed,
        kept=tally.kept,
        added=outcome.change.added,
        replaced=outcome.change.replaced,
        dropped=outcome.change.dropped,
        ignored=listing.ignored,
        renamed=tally.renamed,
        resumed=tally.resumed,
        notes=(note,) if note else (),
        seconds=time.monotonic() - began,
        lake_made=made,
        kind=kind,
        pictures=tally.pictures,
    )


def _open_or_make(url: str) -> tuple[bool, Lake]:
    try:
        return False, Lake(url)
    except NotALake:
        return True, Lake.init(url)


def _kind(options: IngestOptions, source: Source, listing: Listing) -> Kind:
    if options.kind != "auto":
        return options.kind

    def start_of(entry: Entry) -> bytes:
        try:
            return source.read(entry, SNIFF_BYTES)[0]
        except BadSample:
            return b""

    return detect(listing.entries, start_of)
